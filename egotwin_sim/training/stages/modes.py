"""The streaming model learns to read a body's motion from what it saw (TV2M), and keeps what it does already."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.data import LeRobotReader
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.diffusion.timesteps import TimestepConfig, motion_timesteps, sample_chunk_timesteps
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT
from egotwin_sim.models.view_condition import MEMORY_VIEWS
from egotwin_sim.motion import Layout, chunk_features
from egotwin_sim.training.components import frozen_networks, load_component
from egotwin_sim.training.config import build, section
from egotwin_sim.training.denoising import drop_text, masked_mean, model_input
from egotwin_sim.training.latents import LatentClips, latent_clips
from egotwin_sim.training.parts import WHOLE, Part
from egotwin_sim.training.stages.joint import HELD_OUT, mean_scalars
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices

HEAD_UNIT = 0.1  # metres, and numbers of a 6D rotation


@dataclass(frozen=True)
class ModesConfig:
    """The stage.

    Attributes:
        trainer: the optimisation; ``batch_size`` samples with their video given, and half as many to keep.
        window: latents after latent 0 that a sample holds.
        motion: noise levels of the motion tokens to be read; the chunks before are known.
        text_dropout: probability of the null text.
        kept_video: noise levels of the views whose prediction is kept, their motion being given.
        kept_motion: noise levels of the bodies whose prediction is kept, their video being absent.
        head_weight: of the distance between the heads that the read and the true tokens lead to. Of what tokens say,
            the head's way is what a video shows best, and it is a small part of them.
        keep_weight: of the squared distance to what the starting weights predict.
        clips: clips of the training split that are used; all when None.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    window: int = 4
    motion: TimestepConfig = field(default_factory=lambda: TimestepConfig(clean_prefix=1.0))
    text_dropout: float = 0.1
    kept_video: TimestepConfig = field(default_factory=lambda: TimestepConfig(absent=0.5, clean_prefix=0.5))
    kept_motion: TimestepConfig = field(default_factory=lambda: TimestepConfig(clean_prefix=0.5))
    head_weight: float = 10.0
    keep_weight: float = 3.0
    clips: int | None = None


def hide_unknown(batch: dict[str, Any], known: Tensor) -> tuple[Tensor, Tensor]:
    """The view's prior and channels where a chunk's motion is known (B, F); latent 0's body always is."""
    remembered = FRAMES_PER_LATENT * MEMORY_VIEWS
    channels, known = batch["channels"].clone(), known[:, :, None, None, None]
    body = known.clone()
    body[:, 0] = True
    channels[:, :, :remembered] *= known
    channels[:, :, remembered:] *= body
    return batch["priors"] * known, channels


def predict(
    transformer: EgoTwinTransformer3DModel,
    schedule: NoiseSchedule,
    batch: dict[str, Any],
    text: tuple[Tensor, Tensor],
    t_video: Tensor,
    t_motion: Tensor,
    known: Tensor,
    noise: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """What the causal transformer says of noisy clips.

    Args:
        transformer: the network.
        schedule: of the noise.
        batch: as ``LatentClips.batch`` makes it.
        text: tokens and mask.
        t_video: (B, F).
        t_motion: (B, F), a chunk's tokens share it.
        known: bool (B, F), where the view's condition is shown.
        noise: for the video and for the motion.

    Returns:
        Velocities of video and motion, float32.
    """
    priors, channels = hide_unknown(batch, known)
    t_tokens = motion_timesteps(t_motion)
    output = transformer(
        model_input(schedule.add_noise(batch["latents"] - priors, noise[0], t_video), priors, channels),
        text[0],
        t_video,
        schedule.add_noise(batch["tokens"], noise[1], t_tokens),
        t_tokens,
        text_mask=text[1],
        latent_positions=batch["positions"].tolist(),
        temporal="causal",
    )
    return output.video.float(), output.motion.float()


def head_distance(motion_vae: MotionVAE, states: Tensor, read: Tensor, true: Tensor, keep: Tensor) -> Tensor:
    """Mean distance of the heads that two motions' tokens lead to, chunk by chunk from the same states.

    Args:
        motion_vae: decodes them.
        states: (B, K, D), where each chunk starts.
        read: (B, 1 + 2K, Cm), tokens.
        true: likewise.
        keep: bool (B, K), the chunks that count.

    Returns:
        A smooth distance, 1 for 0.1 m in every coordinate and 0.1 in every number of the 6D rotation.
    """
    layout = motion_vae.layout
    assert isinstance(layout, Layout)  # only the head-centric representation has a chunk form

    def heads(tokens: Tensor) -> Tensor:
        frames = motion_vae.decode_chunk(states.flatten(0, 1), tokens[:, 1:].unflatten(1, (-1, 2)).flatten(0, 1))
        parts = [frames[..., layout.head_position], frames[..., layout.head_rotation]]
        return torch.cat(parts, dim=-1).unflatten(0, states.shape[:2])

    with torch.autocast(read.device.type, enabled=False):
        gap = (heads(read) - heads(true).detach()) / HEAD_UNIT
        error = F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.5, reduction="none").flatten(2).mean(-1)
    return (error * keep).sum() / keep.sum().clamp_min(1)


def modes_loss(
    transformer: EgoTwinTransformer3DModel,
    teacher: EgoTwinTransformer3DModel,
    motion_vae: MotionVAE,
    schedule: NoiseSchedule,
    batch: dict[str, dict[str, Any]],
    null: tuple[Tensor, Tensor],
    config: ModesConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of motion read from given video, and the distance to what the starting weights predict otherwise.

    Args:
        transformer: the network.
        teacher: the weights that the stage started from.
        motion_vae: frozen; tells where tokens lead the head.
        schedule: of the noise.
        batch: ``read`` and ``keep``, each as ``LatentClips.batch`` makes it; ``read`` has ``states`` too, as
            ``head_distance`` takes them.
        null: tokens and mask of the null text.
        config: the stage.
        generator: the only source of randomness.
    """
    top = schedule.num_timesteps

    def draw(part: dict[str, Any]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        text = drop_text(part, null, config.text_dropout, generator)
        device = part["latents"].device
        noise = [torch.randn(part[name].shape, generator=generator, device=device) for name in ("latents", "tokens")]
        return text, (noise[0], noise[1])

    read = batch["read"]
    count, frames = read["latents"].shape[:2]
    text, noise = draw(read)
    t_motion = sample_chunk_timesteps(count, frames, config.motion, generator, top)
    seen = torch.zeros_like(t_motion)
    _, velocity = predict(transformer, schedule, read, text, seen, t_motion, seen.bool(), noise)
    t_tokens = motion_timesteps(t_motion)
    motion = masked_mean(velocity - schedule.velocity(read["tokens"], noise[1], t_tokens), t_tokens > 0)
    clean = schedule.to_clean(schedule.add_noise(read["tokens"], noise[1], t_tokens), velocity, t_tokens)
    head = head_distance(motion_vae, read["states"], clean, read["tokens"], t_motion[:, 1:] > 0)

    keep = batch["keep"]
    count, frames = keep["latents"].shape[:2]
    text, noise = draw(keep)
    views = (torch.arange(count, device=seen.device) % 2 == 0)[:, None]
    t_video = sample_chunk_timesteps(count, frames, config.kept_video, generator, top)
    t_motion = sample_chunk_timesteps(count, frames, config.kept_motion, generator, top)
    t_motion = torch.where(views, 0.0, t_motion)
    # Where a body is dreamt, the chunks before have their views, and its own has none yet.
    t_video = torch.where(views, t_video, torch.where(t_motion > 0, float(top), 0.0))
    said = predict(transformer, schedule, keep, text, t_video, t_motion, t_motion == 0, noise)
    with torch.no_grad():
        meant = predict(teacher, schedule, keep, text, t_video, t_motion, t_motion == 0, noise)
    view = masked_mean(said[0] - meant[0], (t_video > 0) & views)
    body = masked_mean(said[1] - meant[1], motion_timesteps(t_motion) > 0)
    loss = motion + config.head_weight * head + config.keep_weight * (view + body)
    return loss, {"motion": motion, "head": head, "kept_view": view, "kept_body": body}


class ModesBatches:
    """Clips to read motion from and clips to keep, a function of the step; samples of a batch share their window."""

    def __init__(self, clips: LatentClips, states: Tensor, config: ModesConfig) -> None:
        self.clips, self.states, self.config = clips, states, config

    def __call__(self, step: int, part: Part = WHOLE) -> dict[str, dict[str, Tensor]]:
        """As ``modes_loss`` takes it."""
        config, latents = self.config, self.clips.num_latents
        rng = np.random.default_rng((config.trainer.seed, step, 4))
        batches = {}
        sizes = {"read": config.trainer.batch_size, "keep": max(2, config.trainer.batch_size // 2)}
        for offset, (name, size) in enumerate(sizes.items()):
            chosen = batch_indices(len(self.clips), size, config.trainer.seed + offset, step, part)
            first = int(rng.integers(1, latents - config.window + 1))
            batches[name] = self.clips.batch(chosen, first, first + config.window)
            if name == "read":
                batches[name]["states"] = self.states[chosen, first - 1 : first + config.window - 1]
        return batches


@torch.no_grad()
def chunk_states(reader: LeRobotReader, clips: Sequence[int], motion_vae: MotionVAE) -> Tensor:
    """The states (N, K, D) that the chunks of clips start from, as their tokens lead to them."""
    states = []
    for index in clips:
        motion = reader.motion(index)
        chunks = torch.from_numpy(chunk_features(motion))[None]
        states.append(motion_vae.track(chunks, skeleton=motion.skeleton, fps=motion.fps).chunks[:, :, 0])
    return torch.cat(states)


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the transformer of the last stage further, into ``out/transformer``."""
    stage = build(ModesConfig, section(config, "stages", "modes"), "stages.modes")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    reader = LeRobotReader(data, needs_video=True)
    networks = frozen_networks(config, init, before="refine")  # whose latents are there already
    folder = (init or out) / "latents"
    clips = latent_clips(reader, "train", folder, networks, limit=stage.clips)
    held_out = latent_clips(reader, "val", folder, networks, limit=HELD_OUT)
    states = chunk_states(reader, reader.split("train")[: len(clips)], networks.motion_vae)
    held_out_states = chunk_states(reader, reader.split("val")[: len(held_out)], networks.motion_vae)
    transformer = load_component(EgoTwinTransformer3DModel, init, "transformer", before="modes").train()
    teacher = deepcopy(transformer).eval().requires_grad_(False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for frozen in (teacher, networks.motion_vae.requires_grad_(False)):
        frozen.to(device)
    schedule, null = NoiseSchedule(), clips.null()
    validation = ModesBatches(held_out, held_out_states, stage)

    def loss(batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return modes_loss(transformer, teacher, networks.motion_vae, schedule, batch, null, stage, generator)

    batches = ModesBatches(clips, states, stage)
    run_of = Trainer(
        {"transformer": transformer}, loss, batches, stage.trainer, out,
        validate=lambda: mean_scalars(validation, loss, stage.trainer), resume=resume, title="modes",
    )  # fmt: skip
    run_of.fit()
