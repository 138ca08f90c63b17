"""Stage two: the motion branch alone learns to move from text; the text branch is frozen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.diffusion.timesteps import TimestepConfig, motion_timesteps, sample_clip_timesteps
from egotwin_sim.errors import UserError
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.vidmld import VidMLD
from egotwin_sim.training.buckets import Buckets
from egotwin_sim.training.components import Data, data_folders, frozen_networks
from egotwin_sim.training.config import build, section
from egotwin_sim.training.denoising import drop_text, masked_mean
from egotwin_sim.training.latents import motion_clips
from egotwin_sim.training.parts import Part, draw_normal, own_rows, whole_draw
from egotwin_sim.training.stages.joint import mean_scalars, require_memory, starting_transformer
from egotwin_sim.training.trainer import Trainer, TrainerConfig


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
    top = schedule.num_timesteps
    whole_level = whole_draw(
        len(tokens), generator, lambda n, source: sample_clip_timesteps(n, config.motion, source, top)
    )
    whole = motion_timesteps(whole_level[:, None] * (torch.arange(chunks, device=tokens.device) > 0))
    timestep = own_rows(whole, generator)
    noise = draw_normal(tokens.shape, generator)
    output = transformer(None, text, None, schedule.add_noise(tokens, noise, timestep), timestep, text_mask=text_mask)
    error = output.motion.float() - schedule.velocity(tokens, noise, timestep)
    loss = masked_mean(error, timestep > 0, whole > 0)
    return loss, {"motion": loss}


def run(config: dict[str, Any], data: Data, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the motion branch into ``out/transformer``.

    Text keeps the weights that the transformer begins with: CogVideoX's, if ``init/transformer`` was made of one.
    """
    stage = build(TextMotionStageConfig, section(config, "stages", "text_motion"), "stages.text_motion")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    readers = [LeRobotReader(folder) for folder in data_folders(data)]
    require_memory(config, "text-motion", readers)
    networks = frozen_networks(config, init, before="text-motion")
    folder = (init or out) / "latents"
    sets = {
        split: Buckets([motion_clips(reader, split, folder, networks) for reader in readers])
        for split in ("train", "val")
    }
    start = starting_transformer(config, init, "text-motion", stage.trainer)
    transformer, schedule, null = start.transformer, NoiseSchedule(), sets["train"].null()
    if isinstance(transformer, VidMLD):
        raise UserError("VidMLD has no motion branch to train alone; train it with `egotwin train joint`")
    transformer.requires_grad_(False)
    for parameter in transformer.motion_parameters():
        parameter.requires_grad_(True)

    def batches(split: str, step: int, part: Part) -> dict[str, Tensor]:
        bucket, chosen = sets[split].choose(stage.trainer.batch_size, stage.trainer.seed, step, part)
        return bucket.batch(chosen)

    def loss(batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return text_motion_loss(transformer, schedule, batch, null, stage, generator)

    Trainer(
        {"transformer": transformer},
        loss,
        partial(batches, "train"),
        stage.trainer,
        out,
        validate=lambda: mean_scalars(partial(batches, "val"), loss, stage.trainer),
        resume=resume,
        title="text-motion",
        sharded=True,
        weights=start.weights,
    ).fit()
