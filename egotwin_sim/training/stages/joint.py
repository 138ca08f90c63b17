"""Stage three: text, video and motion together; and the causal streaming stage that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.models.denoiser import denoiser_class
from egotwin_sim.training.buckets import Buckets
from egotwin_sim.training.components import Data, data_folders, empty_denoiser, find_component, frozen_networks
from egotwin_sim.training.config import build, section
from egotwin_sim.training.denoising import DenoisingConfig, denoising_loss
from egotwin_sim.training.latents import latent_clips
from egotwin_sim.training.lora import LoraConfig, add_adapters
from egotwin_sim.training.parts import WHOLE, Part
from egotwin_sim.training.processes import processes
from egotwin_sim.training.trainer import BatchFn, LossFn, Trainer, TrainerConfig, step_generator, to_device

HELD_OUT = 64  # clips of the validation split
VALIDATION_BATCHES = 8


@dataclass(frozen=True)
class JointStageConfig:
    """A transformer stage.

    Attributes:
        trainer: the optimisation.
        denoising: the samples' noise and masks.
        window: latents after latent 0 that a sample holds, from anywhere in the clip; the whole clip when None.
        clips: clips of the training split that are used; all when None.
        lora: train adapters of the text and video weights instead of those weights; the motion branch is trained
            whole either way.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    window: int | None = None
    clips: int | None = None
    lora: LoraConfig | None = None


class LatentBatches:
    """Batches of cached clips, a function of the step; all samples of a batch share frame size and window."""

    def __init__(self, clips: Buckets, config: JointStageConfig) -> None:
        self.clips, self.config = clips, config

    def __call__(self, step: int, part: Part = WHOLE) -> dict[str, Tensor]:
        """As ``LatentClips.batch``."""
        trainer, window = self.config.trainer, self.config.window
        bucket, chosen = self.clips.choose(trainer.batch_size, trainer.seed, step, part)
        if window is None:
            return bucket.batch(chosen)
        first = int(np.random.default_rng((trainer.seed, step, 2)).integers(1, bucket.num_latents - window + 1))
        return bucket.batch(chosen, first, first + window)


def run(config: dict[str, Any], data: Data, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train stage three on the whole clip, every token seeing every other that the interaction mask allows."""
    train("joint", config, data, out, resume=resume, steps=steps, init=init)


def train(
    name: str, config: dict[str, Any], data: Data, out: Path, *, resume: bool, steps: int | None, init: Path | None
) -> None:
    """Train a transformer stage, starting from the stage before it, into ``out/transformer``."""
    stage = build(JointStageConfig, section(config, "stages", name), f"stages.{name}")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    readers = [LeRobotReader(folder, needs_video=True) for folder in data_folders(data)]
    require_memory(config, name, readers)
    networks = frozen_networks(config, init, before=name)
    folder = (init or out) / "latents"
    clips = Buckets([latent_clips(reader, "train", folder, networks, limit=stage.clips) for reader in readers])
    held_out = Buckets([latent_clips(reader, "val", folder, networks, limit=HELD_OUT) for reader in readers])
    start = starting_transformer(config, init, name, stage.trainer)
    transformer, schedule, null = start.transformer, NoiseSchedule(), clips.null()
    if stage.lora is not None:
        add_adapters(transformer, stage.lora, stage.trainer.precision)
    batches = LatentBatches(held_out, stage)

    def loss(batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return denoising_loss(transformer, schedule, batch, null, stage.denoising, generator)

    Trainer(
        {"transformer": transformer},
        loss,
        LatentBatches(clips, stage),
        stage.trainer,
        out,
        validate=lambda: mean_scalars(batches, loss, stage.trainer),
        resume=resume,
        title=name,
        sharded=True,
        weights=start.weights,
    ).fit()


def require_memory(config: dict[str, Any], stage: str, readers: Sequence[LeRobotReader]) -> None:
    """Refuse what would not fit on the GPU, before anything is loaded; only the published form is known that well.

    Raises:
        UserError: it does not fit; settings that would are named.
    """
    from egotwin_sim.training.plan import STAGES, require_fit

    models, here = config["models"], processes()
    if stage in STAGES and "depth" not in models and models["transformer"].get("kind", "egotwin") == "egotwin":
        frames = max(reader.length(reader.split("train")[0]) for reader in readers)
        require_fit(config, stage, here.count, here.device, frames)


def mean_scalars(batches: BatchFn, loss: LossFn, config: TrainerConfig) -> dict[str, float]:
    """The scalars of a loss over the first batches, which the processes share out as in training."""
    here = processes()
    figures: list[dict[str, float]] = []
    for step in range(VALIDATION_BATCHES):
        for turn in range(config.accumulate):
            part = here.part(turn, config.accumulate)
            batch, generator = to_device(batches(step, part), here.device), step_generator(1, step, here.device, part)
            with torch.autocast(here.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                _, scalars = loss(batch, generator)
            figures.append({key: float(value) for key, value in scalars.items()})
    return here.mean({key: float(np.mean([f[key] for f in figures])) for key in figures[0]})


class Start(NamedTuple):
    """A transformer to train.

    Attributes:
        transformer: with its weights; or on the meta device, see ``Trainer``.
        weights: the folder that it is to be filled from, by its name; empty if it has its weights.
    """

    transformer: Any
    weights: dict[str, Path]


def starting_transformer(config: dict[str, Any], init: Path | None, stage: str, trainer: TrainerConfig) -> Start:
    """The transformer of the stage before, or a new one with random weights.

    Raises:
        UserError: a folder of another model.
    """
    folder = find_component(init, "transformer", before=stage) if init is not None else None
    if folder is not None:
        return Start(empty_denoiser(folder), {"transformer": folder})
    told = dict(section(config, "models", "transformer"))
    kind = denoiser_class(told.pop("kind", "egotwin"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trainer.seed)
        return Start(build(kind, told, "models.transformer").train(), {})
