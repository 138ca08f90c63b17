"""Whether a denoiser hears the other modality: how much worse it does beside another clip's.

TransErr, RotErr and HandScore judge samples, and say nothing while the pictures are too coarse to recover a camera
from. This is asked of the network itself, on held-out clips and at any stage of training *(ours)*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.diffusion.timesteps import motion_timesteps
from egotwin_sim.models.video_input import published_input

LEVELS = (300.0, 500.0, 700.0, 900.0)


@dataclass(frozen=True)
class Pairing:
    """Errors of the velocity on held-out clips, means over noise levels that both modalities share.

    Attributes:
        video_error: of the video, beside its own motion; 1 is about what a network scores that says nothing.
        motion_error: of the motion, beside its own video.
        video_gain: share by which the video's error grows beside another clip's motion; 0 if it does not hear it.
        motion_gain: share by which the motion's error grows beside another clip's video.
    """

    video_error: float
    motion_error: float
    video_gain: float
    motion_gain: float


@torch.no_grad()
def pairing(
    transformer: Any,
    latents: Tensor,
    tokens: Tensor,
    text: Tensor,
    text_mask: Tensor,
    *,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> Pairing:
    """Errors beside the own and beside another clip's modality; of a denoiser in the published form.

    Both modalities have the same timestep, so that it can be asked of weights with one timestep too. What is given, the
    first frame and the initial pose, is always the clip's own. The other clip is the one half of the list away.

    Args:
        transformer: the denoiser.
        latents: (B, F, C, h, w), normalised, of clips of which the two halves have nothing to do with each other.
        tokens: (B, 2F - 1, Cm).
        text: (B, Lt, Dt).
        text_mask: bool (B, Lt).
        levels: timesteps.
        seed: of the noise.

    Raises:
        ValueError: fewer than two clips.
    """
    count, frames = latents.shape[:2]
    if count < 2:
        raise ValueError("pairing needs two clips or more: it gives each the modality of another")
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(seed)
    device = latents.device
    chunks = torch.arange(frames, device=device) > 0
    far = count // 2
    other_latents = torch.cat([latents[:, :1], latents.roll(far, 0)[:, 1:]], dim=1)
    other_tokens = torch.cat([tokens[:, :1], tokens.roll(far, 0)[:, 1:]], dim=1)
    sums = torch.zeros(4, dtype=torch.float64)
    for level in levels:
        t_video = torch.full((count, 1), level, device=device) * chunks
        t_motion = motion_timesteps(t_video)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        motion_noise = torch.randn(tokens.shape, generator=generator).to(device)

        def errors(video: Tensor, motion: Tensor, times: tuple[Tensor, Tensor], draws: tuple[Tensor, Tensor]) -> Tensor:
            noisy = schedule.add_noise(video, draws[0], times[0])
            output = transformer(
                published_input(noisy, video[:, :1], transformer.config.in_channels),
                text, times[0], schedule.add_noise(motion, draws[1], times[1]), times[1], text_mask=text_mask,
            )  # fmt: skip
            apart = (
                output.video.float() - schedule.velocity(video, draws[0], times[0]),
                output.motion.float() - schedule.velocity(motion, draws[1], times[1]),
            )
            return torch.stack([error[:, 1:].double().square().mean().cpu() for error in apart])

        times, draws = (t_video, t_motion), (noise, motion_noise)
        own = errors(latents, tokens, times, draws)
        sums[:2] += own
        sums[2] += errors(latents, other_tokens, times, draws)[0]
        sums[3] += errors(other_latents, tokens, times, draws)[1]
    video, motion, video_other, motion_other = (sums / len(levels)).tolist()
    return Pairing(video, motion, video_other / video - 1, motion_other / motion - 1)
