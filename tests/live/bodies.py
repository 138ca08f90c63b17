"""Bodies, trajectories and a model for the tests of the live loop."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.models import MotionVAE, load_text_encoder
from egotwin_sim.models.checkpoint import load_whole
from egotwin_sim.pipelines import StreamConfig, StreamPipeline
from egotwin_sim.pipelines.weights import shipped_folder
from tests.tiny import SIZE, tiny_depth_net, tiny_transformer, tiny_video_vae


@cache
def live_pipeline() -> StreamPipeline:
    """Small networks with random weights, but motion tokens that mean what they should: those that ship."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        motion_vae = load_whole(MotionVAE, shipped_folder("nano") / "motion_vae", torch_dtype=torch.float32)
        networks = tiny_video_vae(), tiny_depth_net(), motion_vae, tiny_transformer(motion_vae.config.latent_channels)
    text = {"kind": "minilm", "max_length": 32}
    config = StreamConfig(image_size=SIZE, text_encoder=text, window=2, view_steps=1, body_steps=2)
    return StreamPipeline(*networks, load_text_encoder(text), config)


def swaying(robot_model: RobotModel, seconds: float = 0.5, fps: float = 16.0) -> RobotTrajectory:
    """A body that stands and turns its head."""
    frames = round(seconds * fps)
    qpos = np.tile(robot_model.standing, (frames, 1))
    qpos[:, 7 + robot_model.joint_names.index("head_z")] = 0.3 * np.sin(np.arange(1, frames + 1) / fps * 3.0)
    return RobotTrajectory(qpos, velocities(robot_model.bare, qpos, fps), fps, robot_model.joint_names)
