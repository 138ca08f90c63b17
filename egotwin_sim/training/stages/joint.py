"""Stage three: text, video and motion together; and the causal streaming stage that follows it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.training.components import find_component, load_component, load_frozen
from egotwin_sim.training.config import build, section
from egotwin_sim.training.denoising import DenoisingConfig, denoising_loss
from egotwin_sim.training.latents import LatentClips, latent_clips
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices, step_generator

HELD_OUT = 64  # clips of the validation split


@dataclass(frozen=True)
class JointStageConfig:
    """A transformer stage.

    Attributes:
        trainer: the optimisation.
        denoising: the samples' noise and masks.
        window: latents after latent 0 that a sample holds, from anywhere in the clip; the whole clip when None.
        clips: clips of the training split that are used; all when None.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    window: int | None = None
    clips: int | None = None


class LatentBatches:
    """Batches of cached clips, a function of the step; all samples of a batch share their window."""

    def __init__(self, clips: LatentClips, config: JointStageConfig) -> None:
        self.clips, self.config = clips, config

    def __call__(self, step: int) -> dict[str, Tensor]:
        """As ``LatentClips.batch``."""
        trainer, latents = self.config.trainer, self.clips.latents.shape[1]
        chosen = batch_indices(len(self.clips), trainer.batch_size, trainer.seed, step)
        if self.config.window is None:
            return self.clips.batch(chosen)
        rng = np.random.default_rng((trainer.seed, step, 2))
        first = int(rng.integers(1, latents - self.config.window + 1))
        return self.clips.batch(chosen, first, first + self.config.window)


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train stage three on the whole clip, every token seeing every other that the interaction mask allows."""
    train("joint", config, data, out, resume=resume, steps=steps, init=init)


def train(
    name: str, config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None
) -> None:
    """Train a transformer stage, starting from the stage before it, into ``out/transformer``."""
    stage = build(JointStageConfig, section(config, "stages", name), f"stages.{name}")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    reader = LeRobotReader(data)
    networks = load_frozen(config, init, before=name)
    folder = (init or out) / "latents"
    clips = latent_clips(reader, "train", folder, *networks, limit=stage.clips)
    held_out = latent_clips(reader, "val", folder, *networks, limit=HELD_OUT)
    torch.manual_seed(stage.trainer.seed)
    transformer = starting_transformer(config, init, name)
    schedule = NoiseSchedule()
    null = clips.null()
    validation = LatentBatches(held_out, stage)

    def validate() -> dict[str, float]:
        figures: list[dict[str, float]] = []
        for step in range(8):
            batch = {k: v.to(transformer.device) for k, v in validation(step).items()}
            generator = step_generator(1, step, transformer.device)
            with torch.autocast(transformer.device.type, torch.bfloat16, enabled=stage.trainer.precision == "bf16"):
                _, scalars = denoising_loss(transformer, schedule, batch, null, stage.denoising, generator)
            figures.append({key: float(value) for key, value in scalars.items()})
        return {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}

    Trainer(
        {"transformer": transformer},
        lambda batch, generator: denoising_loss(transformer, schedule, batch, null, stage.denoising, generator),
        LatentBatches(clips, stage),
        stage.trainer,
        out,
        validate=validate,
        resume=resume,
        title=name,
    ).fit()


def starting_transformer(config: dict[str, Any], init: Path | None, stage: str) -> EgoTwinTransformer3DModel:
    """The transformer of the stage before, or a new one with random weights."""
    if init is not None and find_component(init, "transformer", before=stage) is not None:
        return load_component(EgoTwinTransformer3DModel, init, "transformer", before=stage).train()
    return build(EgoTwinTransformer3DModel, section(config, "models", "transformer"), "models.transformer")
