"""A model that is small enough for tests, and moves a body as it is told."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

from egotwin_sim.models import MotionVAE, load_text_encoder
from egotwin_sim.motion import chunk_features
from egotwin_sim.pipelines import StreamConfig, StreamPipeline
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise
from tests.tiny import SIZE, tiny_depth_net, tiny_transformer, tiny_video_vae

TOKEN_DIM = 32
STEPS = 400


def fitted_motion_vae() -> MotionVAE:
    """A motion VAE that has seen a few walks and turns: tokens move the body as they should, to a centimetre or two."""
    verbs, things = ("walk to", "turn to"), ("table", "door")
    motions = [
        synthesise(sample_layout(seed), seed, 4.0, goal=f"{verbs[seed % 2]} the {things[seed // 2 % 2]}").motion
        for seed in range(32)
    ]
    chunks = torch.from_numpy(np.concatenate([chunk_features(motion) for motion in motions]))
    vae = MotionVAE(latent_channels=TOKEN_DIM, width=64, blocks=0)
    vae.set_feature_statistics(chunks)
    # Only poses are read in a roll-out, and the head carries the rest of the body.
    weight = torch.full((vae.layout.dim,), 0.1)
    weight[vae.layout.joint_rotations] = 1.0
    weight[vae.layout.head_position] = weight[vae.layout.head_rotation] = 5.0
    optimiser = torch.optim.Adam(vae.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=STEPS, pct_start=0.1)
    normalised = vae.normalise(chunks)
    for _ in range(STEPS):
        target = normalised[torch.randint(len(chunks), (64,))]
        state = target[:, 0] + 0.03 * torch.randn_like(target[:, 0])
        error = F.smooth_l1_loss(vae.decode(vae.encode(target)[0], state), target, beta=0.1, reduction="none")
        optimiser.zero_grad()
        (error * weight).mean().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        vae.set_token_statistics(vae.encode(normalised)[0])
    return vae


@cache
def moving_pipeline() -> StreamPipeline:
    """The tiny pipeline of all tests, but its motion tokens mean something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        motion_vae = fitted_motion_vae()
        networks = tiny_video_vae(), tiny_depth_net(), motion_vae, tiny_transformer(TOKEN_DIM)
    text = {"kind": "minilm", "max_length": 32}
    config = StreamConfig(image_size=SIZE, text_encoder=text, window=2, view_steps=1, body_steps=2)
    return StreamPipeline(*networks, load_text_encoder(text), config)
