"""The loss of the transformer's stages: denoising of video, of motion, or of both, each at its own noise level."""

from __future__ import annotations

from collections.abc import Callable
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
from egotwin_sim.models.video_input import published_input
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT
from egotwin_sim.models.view_condition import MEMORY_VIEWS, RESIDUAL_SCALE
from egotwin_sim.training.parts import draw_normal, draw_rows, own_rows, whole_draw


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
    chance = draw_rows(len(text), generator, lambda count, source: _uniform(source, count))
    dropped = chance.to(text.device) < probability
    text = torch.where(dropped[:, None, None], null[0].to(text), text)
    return text, torch.where(dropped[:, None], null[1].to(mask), mask)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def masked_mean(error: Tensor, keep: Tensor, whole: Tensor | None = None) -> Tensor:
    """Mean of squared errors (B, N, ...) over the entries (B, N) to keep; zero if there are none.

    Args:
        error: of the samples that are here.
        keep: which of their entries count.
        whole: likewise (W, N) of the whole batch, of which they are a part. The mean of all parts' results is then that
            of the whole batch, however unevenly its entries are spread over the parts.
    """
    per_entry = error.float().square().flatten(2).mean(-1)
    whole = keep if whole is None else whole
    return (per_entry * keep).sum() / whole.sum().clamp_min(1) * (len(whole) / len(keep))


def model_input(noisy: Tensor, prior: Tensor, channels: Tensor) -> Tensor:
    """The transformer's video input (B, F, C + C + E, h, w): noisy difference to the prior, prior, condition."""
    return torch.cat([noisy, prior, channels], dim=2)


@dataclass(frozen=True)
class VideoForm:
    """How the video of a batch is denoised.

    Attributes:
        clean: (B, F, C, h, w), what the noise is added to.
        beside: from noisy to the transformer's input.
        scale: deviation of ``clean``, see ``linear_velocity``; at 1 the network says all of the velocity.
    """

    clean: Tensor
    beside: Callable[[Tensor], Tensor]
    scale: float


def published_form(transformer: EgoTwinTransformer3DModel, batch: dict[str, Any]) -> VideoForm:
    """The latents themselves, with the first frame as CogVideoX has it.

    Its image-to-video training adds noise to the image, because its first latent is denoised like the others. Here the
    first latent is given and clean, and so is its copy beside it *(our choice)*.
    """
    latents, channels = batch["latents"], int(transformer.config.in_channels)
    return VideoForm(latents, lambda noisy: published_input(noisy, latents[:, :1], channels), 1.0)


def view_form(batch: dict[str, Any], given: Tensor, config: DenoisingConfig, generator: torch.Generator) -> VideoForm:
    """The difference to what the view memory says; without the motion there is no pose to draw it from, nor a body.

    Args:
        batch: with ``priors`` and ``channels``.
        given: bool (B,), whose motion is.
        config: how much of the memory is hidden and how noisy it is.
        generator: the source of randomness.
    """
    priors, channels = batch["priors"].clone(), batch["channels"].clone()
    count, frames = priors.shape[:2]
    chance = draw_rows(count, generator, lambda n, source: _uniform(source, n, frames))
    hidden = ~given[:, None] | (chance < config.memory_dropout)
    hidden[:, 0] = False
    known = FRAMES_PER_LATENT * MEMORY_VIEWS
    seen = (~hidden)[:, :, None, None, None].to(priors)
    level = draw_rows(count, generator, lambda n, source: _uniform(source, n, frames, 1, 1, 1)) * config.memory_noise
    level[:, 0] = 0
    priors = (priors + level * draw_normal(priors.shape, generator)) * seen
    channels[:, :, :known] *= seen
    body = (given[:, None] | (torch.arange(frames, device=given.device) == 0))[:, :, None, None, None]
    channels[:, :, known:] *= body.to(channels)
    return VideoForm(batch["latents"] - priors, lambda noisy: model_input(noisy, priors, channels), RESIDUAL_SCALE)


def noise_levels(
    count: int,
    frames: int,
    config: DenoisingConfig,
    generator: torch.Generator,
    num_timesteps: int,
    *,
    shared: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Whose motion is given (B,), and timesteps of video (B, F) and motion (B, F), for ``count`` samples.

    With ``shared`` timesteps both have the video's, and no motion is given.
    """
    given = _uniform(generator, count) < config.motion_given
    if config.per_chunk:
        t_video, t_motion = (
            sample_chunk_timesteps(count, frames, part, generator, num_timesteps)
            for part in (config.video, config.motion)
        )
    else:
        follows = torch.arange(frames, device=given.device) > 0
        t_video, t_motion = (
            sample_clip_timesteps(count, part, generator, num_timesteps)[:, None] * follows
            for part in (config.video, config.motion)
        )
    if shared:
        return torch.zeros_like(given), t_video, t_video
    return given, t_video, torch.where(given[:, None], torch.zeros_like(t_motion), t_motion)


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
        batch: as ``LatentClips.batch`` makes it, with a view memory's conditions or without.
        null: tokens and mask of the null text.
        config: the sample's distribution.
        generator: the only source of randomness.
    """
    latents, tokens = batch["latents"], batch["tokens"]
    count, frames = latents.shape[:2]
    text, text_mask = drop_text(batch, null, config.text_dropout, generator)
    shared, top = bool(transformer.config.shared_timestep), schedule.num_timesteps
    whole_given, whole_video, whole_chunks = whole_draw(
        count, generator, lambda n, source: noise_levels(n, frames, config, source, top, shared=shared)
    )
    whole_motion = motion_timesteps(whole_chunks)
    given, t_video, t_motion = (own_rows(values, generator) for values in (whole_given, whole_video, whole_motion))

    remembers = "priors" in batch
    form = view_form(batch, given, config, generator) if remembers else published_form(transformer, batch)
    noise = draw_normal(latents.shape, generator)
    motion_noise = draw_normal(tokens.shape, generator)
    noisy = schedule.add_noise(form.clean, noise, t_video)
    output = transformer(
        form.beside(noisy),
        text,
        t_video,
        schedule.add_noise(tokens, motion_noise, t_motion),
        t_motion,
        text_mask=text_mask,
        latent_positions=batch["positions"].tolist(),
        temporal=config.temporal,
    )
    predicted = output.video.float() + linear_velocity(schedule, noisy, t_video, form.scale)
    video_error = predicted - schedule.velocity(form.clean, noise, t_video)
    motion_error = output.motion.float() - schedule.velocity(tokens, motion_noise, t_motion)
    video = masked_mean(video_error, t_video > 0, whole_video > 0)
    motion = masked_mean(motion_error, t_motion > 0, whole_motion > 0)
    figures = {"video": video, "motion": motion}
    if remembers:
        whole_view = (whole_video > 0) & whole_given[:, None]
        figures["view"] = masked_mean(video_error, (t_video > 0) & given[:, None], whole_view)
    return video + config.motion_weight * motion, figures
