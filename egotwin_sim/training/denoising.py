"""The loss of the transformer's stages: denoising of video, of motion, or of both, each at its own noise level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.diffusion.timesteps import (
    TimestepConfig,
    motion_timesteps,
    sample_chunk_timesteps,
    sample_clip_timesteps,
)
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT
from egotwin_sim.models.view_condition import MEMORY_VIEWS, RESIDUAL_SCALE


@dataclass(frozen=True)
class DenoisingConfig:
    """What a training sample looks like.

    Attributes:
        temporal: "bidirectional" (the paper) or "causal" (streaming).
        per_chunk: one noise level per chunk instead of one per clip.
        video: noise levels of the video.
        motion: noise levels of the motion where it is not given.
        motion_given: probability that a clip's motion is given; the view's condition is known only then.
        text_dropout: probability of the null text.
        memory_dropout: probability that a latent's memory is hidden although the motion is given.
        memory_noise: largest deviation of the noise on the remembered latent, in latent units; what a roll-out
            remembers is its own imperfect picture.
        motion_weight: of the motion's loss beside the video's.
    """

    temporal: str = "bidirectional"
    per_chunk: bool = False
    video: TimestepConfig = field(default_factory=TimestepConfig)
    motion: TimestepConfig = field(default_factory=TimestepConfig)
    motion_given: float = 0.5
    text_dropout: float = 0.1
    memory_dropout: float = 0.1
    memory_noise: float = 0.2
    motion_weight: float = 0.5


def drop_text(
    batch: dict[str, Tensor], null: tuple[Tensor, Tensor], probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Text tokens and mask with the null text in a share of the rows."""
    text, mask = batch["text"], batch["text_mask"]
    dropped = torch.rand(len(text), generator=generator, device=text.device) < probability
    text = torch.where(dropped[:, None, None], null[0].to(text), text)
    return text, torch.where(dropped[:, None], null[1].to(mask), mask)


def masked_mean(error: Tensor, keep: Tensor) -> Tensor:
    """Mean of squared errors (B, N, ...) over the entries (B, N) to keep; zero if there are none."""
    per_entry = error.float().square().flatten(2).mean(-1)
    return (per_entry * keep).sum() / keep.sum().clamp_min(1)


def model_input(noisy: Tensor, prior: Tensor, channels: Tensor) -> Tensor:
    """The transformer's video input (B, F, C + C + E, h, w): noisy difference to the prior, prior, condition."""
    return torch.cat([noisy, prior, channels], dim=2)


def denoising_loss(
    transformer: EgoTwinTransformer3DModel,
    schedule: NoiseSchedule,
    batch: dict[str, Any],
    null: tuple[Tensor, Tensor],
    config: DenoisingConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """v-prediction loss of both modalities at independent noise levels (paper equation 2).

    Latent 0 and motion token 0 stay clean and carry no loss; neither does what is given (t = 0).

    Args:
        transformer: the network.
        schedule: of the noise.
        batch: as ``LatentClips.batch`` makes it.
        null: tokens and mask of the null text.
        config: the sample's distribution.
        generator: the only source of randomness.
    """
    latents, tokens = batch["latents"], batch["tokens"]
    priors, channels = batch["priors"].clone(), batch["channels"].clone()
    count, frames = latents.shape[:2]
    device = latents.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    text, text_mask = drop_text(batch, null, config.text_dropout, generator)
    given = uniform(count) < config.motion_given
    if config.per_chunk:
        t_video = sample_chunk_timesteps(count, frames, config.video, generator, schedule.num_timesteps)
        t_motion = sample_chunk_timesteps(count, frames, config.motion, generator, schedule.num_timesteps)
    else:
        follows = torch.arange(frames, device=device) > 0
        t_video = sample_clip_timesteps(count, config.video, generator, schedule.num_timesteps)[:, None] * follows
        t_motion = sample_clip_timesteps(count, config.motion, generator, schedule.num_timesteps)[:, None] * follows
    t_motion = motion_timesteps(torch.where(given[:, None], torch.zeros_like(t_motion), t_motion))

    # Without the motion there is no pose to draw the memory from, nor a body to place.
    hidden = ~given[:, None] | (uniform(count, frames) < config.memory_dropout)
    hidden[:, 0] = False
    known = FRAMES_PER_LATENT * MEMORY_VIEWS
    seen = (~hidden)[:, :, None, None, None].to(priors)
    level = uniform(count, frames, 1, 1, 1) * config.memory_noise
    level[:, 0] = 0
    priors = (priors + level * torch.randn(priors.shape, generator=generator, device=device)) * seen
    channels[:, :, :known] *= seen
    body = (given[:, None] | (torch.arange(frames, device=device) == 0))[:, :, None, None, None]
    channels[:, :, known:] *= body.to(channels)

    difference = latents - priors
    noise = torch.randn(latents.shape, generator=generator, device=device)
    motion_noise = torch.randn(tokens.shape, generator=generator, device=device)
    noisy = schedule.add_noise(difference, noise, t_video)
    output = transformer(
        model_input(noisy, priors, channels),
        text,
        t_video,
        schedule.add_noise(tokens, motion_noise, t_motion),
        t_motion,
        text_mask=text_mask,
        latent_positions=batch["positions"].tolist(),
        temporal=config.temporal,
    )
    predicted = output.video.float() + linear_velocity(schedule, noisy, t_video, RESIDUAL_SCALE)
    video_error = predicted - schedule.velocity(difference, noise, t_video)
    motion_error = output.motion.float() - schedule.velocity(tokens, motion_noise, t_motion)
    video = masked_mean(video_error, t_video > 0)
    view = masked_mean(video_error, (t_video > 0) & given[:, None])
    motion = masked_mean(motion_error, t_motion > 0)
    return video + config.motion_weight * motion, {"video": video, "view": view, "motion": motion}
