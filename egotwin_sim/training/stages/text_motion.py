"""Stage two: the motion branch alone learns to move from text; the text branch is frozen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.diffusion.timesteps import TimestepConfig, motion_timesteps, sample_clip_timesteps
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import load_text_encoder
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.motion import chunk_features
from egotwin_sim.training.components import load_component
from egotwin_sim.training.config import build, section
from egotwin_sim.training.denoising import drop_text, masked_mean
from egotwin_sim.training.stages.joint import starting_transformer
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices

CLIPS_AT_ONCE = 64


@dataclass(frozen=True)
class TextMotionStageConfig:
    """Stage two.

    Attributes:
        trainer: the optimisation.
        motion: noise levels.
        text_dropout: probability of the null text.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    motion: TimestepConfig = field(default_factory=TimestepConfig)
    text_dropout: float = 0.1


def text_motion_loss(
    transformer: EgoTwinTransformer3DModel,
    schedule: NoiseSchedule,
    batch: dict[str, Tensor],
    null: tuple[Tensor, Tensor],
    config: TextMotionStageConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """v-prediction loss of the motion tokens; the video is left out and token 0 (the initial pose) is given."""
    tokens = batch["tokens"]
    chunks = (tokens.shape[1] + 1) // 2
    text, text_mask = drop_text(batch, null, config.text_dropout, generator)
    level = sample_clip_timesteps(len(tokens), config.motion, generator, schedule.num_timesteps)
    timestep = motion_timesteps(level[:, None] * (torch.arange(chunks, device=tokens.device) > 0))
    noise = torch.randn(tokens.shape, generator=generator, device=tokens.device)
    output = transformer(None, text, None, schedule.add_noise(tokens, noise, timestep), timestep, text_mask=text_mask)
    error = output.motion.float() - schedule.velocity(tokens, noise, timestep)
    loss = masked_mean(error, timestep > 0)
    return loss, {"motion": loss}


@torch.no_grad()
def clip_tokens(reader: LeRobotReader, clips: list[int], motion_vae: MotionVAE) -> Tensor:
    """Motion tokens (N, M, Cm) of clips, as ``pipelines.tokens.motion_tokens`` makes them, many at a time."""
    tokens = []
    for first in range(0, len(clips), CLIPS_AT_ONCE):
        chunks = [chunk_features(reader.motion(clip)) for clip in clips[first : first + CLIPS_AT_ONCE]]
        batch = torch.from_numpy(np.stack(chunks)).to(motion_vae.device)
        tokens.append(motion_vae.track(batch, skeleton=reader.skeleton, fps=reader.motion_fps).tokens.cpu())
    return torch.cat(tokens)


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the motion branch into ``out/transformer``."""
    stage = build(TextMotionStageConfig, section(config, "stages", "text_motion"), "stages.text_motion")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    reader = LeRobotReader(data)
    motion_vae = load_component(MotionVAE, init, "motion_vae")
    encoder = load_text_encoder(config["models"]["text_encoder"])
    sets = {}
    for split in ("train", "val"):
        clips = [int(clip) for clip in reader.split(split)]
        texts = [reader.text(clip) for clip in clips]
        unique = sorted(set(texts))
        embedded = [encoder.encode(unique[i : i + 64]) for i in range(0, len(unique), 64)]
        rows = torch.tensor([unique.index(text) for text in texts])
        sets[split] = {
            "tokens": clip_tokens(reader, clips, motion_vae),
            "text": torch.cat([e.tokens for e in embedded])[rows],
            "text_mask": torch.cat([e.mask for e in embedded])[rows],
        }
    nothing = encoder.encode_null()
    null = nothing.tokens[0], nothing.mask[0]
    torch.manual_seed(stage.trainer.seed)
    transformer = starting_transformer(config, None, "text-motion")
    for parameter in transformer.parameters():
        parameter.requires_grad_(False)
    for parameter in transformer.motion_parameters():
        parameter.requires_grad_(True)
    schedule = NoiseSchedule()

    def batches(step: int, split: str = "train") -> dict[str, Tensor]:
        size = len(sets[split]["tokens"])
        rows = torch.from_numpy(batch_indices(size, stage.trainer.batch_size, stage.trainer.seed, step))
        return {name: value[rows] for name, value in sets[split].items()}

    def validate() -> dict[str, float]:
        generator = torch.Generator(transformer.device).manual_seed(1)
        losses = []
        for step in range(8):
            batch = {k: v.to(transformer.device) for k, v in batches(step, "val").items()}
            losses.append(float(text_motion_loss(transformer, schedule, batch, null, stage, generator)[0]))
        return {"motion": float(np.mean(losses))}

    Trainer(
        {"transformer": transformer},
        lambda batch, generator: text_motion_loss(transformer, schedule, batch, null, stage, generator),
        batches,
        stage.trainer,
        out,
        validate=validate,
        resume=resume,
        title="text-motion",
    ).fit()
