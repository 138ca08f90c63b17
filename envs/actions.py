"""Any motion as actions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion

from .model import Model

if TYPE_CHECKING:
    from egotwin_sim.pipelines.stream import StreamPipeline


def motion_to_actions(motion: Motion, model: str | Path | StreamPipeline | Model = "nano") -> np.ndarray:
    """Actions that make a body move as in a motion, from the motion's first pose on.

    The motion is resampled to the model's rate (16 frames/s) if it has another, and what does not fill a last step of
    8 frames is left out. Give its first pose (`encode(motion)[0]`) as `initial_pose` for an episode to begin in it.

    Args:
        motion: at least 9 frames at 16 frames/s, half a second.
        model: name of shipped weights, a folder of weights, a loaded pipeline, or an environment's `model`.

    Returns:
        float32 (K, 2, C), one action for each half second.

    Raises:
        UserError: the motion is too short or of another skeleton, or there are no such weights.
    """
    from egotwin_sim.pipelines.tokens import motion_tokens

    model = model if isinstance(model, Model) else Model(model)
    if motion.skeleton.num_joints != model.skeleton.num_joints:
        raise UserError(
            f"the motion has {motion.skeleton.num_joints} joints, the model {model.skeleton.num_joints}; retarget it"
        )
    if motion.fps != model.config.motion_fps:
        motion = motion.resampled(model.config.motion_fps)
    steps = (len(motion) - 1) // model.motion_frames
    if steps < 1:
        raise UserError(
            f"the motion lasts {motion.duration:g} s; expected at least {model.step_seconds:g} s, one environment step"
        )
    tokens = motion_tokens(motion[: 1 + steps * model.motion_frames], model.motion_vae)
    return tokens[1:].reshape(steps, -1, tokens.shape[-1]).astype(np.float32)
