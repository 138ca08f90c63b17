"""Whether a stage's training fits on some GPUs, and with which settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import nn

from egotwin_sim.errors import UserError
from egotwin_sim.models.footprint import (
    MASTER,
    ClipSize,
    Memory,
    free_memory,
    gigabytes,
    require_memory,
    step_cost,
    training_memory,
)
from egotwin_sim.models.measure import Cost
from egotwin_sim.training.config import Section, build, section
from egotwin_sim.training.lora import LoraConfig, is_new
from egotwin_sim.training.networks import networks_of_config
from egotwin_sim.training.stages.joint import JointStageConfig
from egotwin_sim.training.stages.text_motion import TextMotionStageConfig
from egotwin_sim.training.trainer import TrainerConfig

STAGES: dict[str, Any] = {"text-motion": TextMotionStageConfig, "joint": JointStageConfig}
"""Stages that can be planned: those of the published form that train the transformer."""

MOST_GPUS = 1024
"""GPUs that are tried when a plan asks how many would do."""


@dataclass(frozen=True)
class Settings:
    """How a stage is trained.

    Attributes:
        gpus: how many, one process each.
        batch: samples per step, over all GPUs and passes.
        accumulate: passes that a GPU deals its samples out to.
        checkpointing: layers are computed again in the backward pass.
        shard: weights and their state are spread over the GPUs.
        lora: the adapters that text and video are trained by; None trains their weights.
    """

    gpus: int
    batch: int
    accumulate: int
    checkpointing: bool
    shard: bool
    lora: LoraConfig | None

    def __post_init__(self) -> None:
        """Refuse a batch that cannot be dealt out evenly."""
        for name in ("gpus", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least 1")
        parts = self.gpus * self.accumulate
        if self.batch % parts:
            raise UserError(
                f"a batch of {self.batch} cannot be dealt out to {self.gpus} GPUs in {self.accumulate} passes; take a "
                f"multiple of {parts}"
            )

    @property
    def per_pass(self) -> int:
        """Samples of a GPU in one pass."""
        return self.batch // (self.gpus * self.accumulate)


@dataclass(frozen=True)
class Plan:
    """Settings, and what they cost.

    Attributes:
        settings: how to train.
        memory: what each GPU needs.
        flops: operations of one step, over all GPUs.
    """

    settings: Settings
    memory: Memory
    flops: int


class Planner:
    """What a stage's training needs, with any settings.

    Args:
        config: a configuration in the published form.
        stage: a key of ``STAGES``.
        frames: video frames of a clip.

    Attributes:
        trainer: the stage's own settings.

    Raises:
        UserError: an unknown stage, or a configuration that does not describe it.
    """

    def __init__(self, config: Section, stage: str = "joint", frames: int = 41) -> None:
        if stage not in STAGES:
            raise UserError(f"the stage {stage!r} cannot be planned; expected {' or '.join(STAGES)}")
        if "depth" in config["models"]:
            raise UserError(
                "the configuration has models.depth, so it is not of the published form; take small or base"
            )
        name = stage.replace("-", "_")
        own = build(STAGES[stage], section(config, "stages", name), f"stages.{name}")
        self.trainer: TrainerConfig = own.trainer
        self.lora: LoraConfig | None = getattr(own, "lora", None)
        self._joint = stage == "joint"
        self._clip = ClipSize(frames=frames, video=self._joint)
        self._transformer = networks_of_config(config).transformer
        self._costs: dict[bool, Cost] = {}

    def own(self, gpus: int) -> Settings:
        """The settings of the configuration."""
        trainer = self.trainer
        return Settings(
            gpus, trainer.batch_size, trainer.accumulate, trainer.activation_checkpointing, trainer.shard, self.lora
        )

    def plan(self, settings: Settings) -> Plan:
        """What the settings cost."""
        cost, bf16 = self._cost(settings.checkpointing), self.trainer.precision == "bf16"
        transformer = self._trained(settings.lora)
        memory = training_memory(
            transformer,
            settings.per_pass * cost.peak_bytes,
            gpus=settings.gpus,
            sharded=settings.shard and settings.gpus > 1,
            bf16=bf16,
            adapters=0 if settings.lora is None else adapter_parameters(transformer, settings.lora),
            frozen=2 if settings.lora is not None and bf16 else MASTER,  # see ``lora.add_adapters``
        )
        return Plan(settings, memory, settings.batch * cost.flops)

    def fitting(self, gpus: int, available: int, batch: int | None = None) -> Plan | None:
        """The fastest settings that fit, or None.

        The video branch is trained whole rather than by adapters, layers are kept rather than computed again, and
        passes are as few as possible, in this order.

        Args:
            gpus: how many.
            available: bytes of each.
            batch: samples per step; the configuration's if None.

        Raises:
            UserError: a batch that cannot be dealt out evenly.
        """
        for settings in self._candidates(gpus, self.trainer.batch_size if batch is None else batch):
            plan = self.plan(settings)
            if plan.memory.total <= available:
                return plan
        return None

    def smallest(self, gpus: int, batch: int | None = None) -> Plan:
        """The settings that need the least memory."""
        plans = map(self.plan, self._candidates(gpus, self.trainer.batch_size if batch is None else batch))
        return min(plans, key=lambda plan: plan.memory.total)

    def remedies(self, gpus: int, available: int, batch: int | None = None) -> list[str]:
        """What would do where no settings fit: more GPUs, or larger ones."""
        remedies, size = [], self.trainer.batch_size if batch is None else batch
        more = 2 * gpus
        while more <= MOST_GPUS:
            if self.fitting(more, available, max(more, size // more * more)) is not None:
                remedies.append(f"take {more} GPUs of this size")
                break
            more *= 2
        least = self.smallest(gpus, size).memory.total
        return [
            *remedies,
            f"take {'a GPU' if gpus == 1 else f'{gpus} GPUs'} of {math.ceil(least / 1024**3)} GB or more",
        ]

    def _candidates(self, gpus: int, batch: int) -> Iterator[Settings]:
        if gpus < 1 or batch < 1 or batch % gpus:
            raise UserError(f"a batch of {batch} cannot be dealt out to {gpus} GPUs; take a multiple of {max(1, gpus)}")
        each = batch // gpus
        adapters = [self.lora] if self.lora is not None or not self._joint else [None, LoraConfig()]
        for lora in adapters:
            for checkpointing in (False, True):
                for accumulate in range(1, each + 1):
                    if each % accumulate == 0:
                        yield Settings(gpus, batch, accumulate, checkpointing, True, lora)

    def _cost(self, checkpointing: bool) -> Cost:
        """Of one sample, with all weights trained: what adapters save of activations is little."""
        if checkpointing not in self._costs:
            bf16 = self.trainer.precision == "bf16"
            self._costs[checkpointing] = step_cost(
                self._trained(None), self._clip, bf16=bf16, checkpointing=checkpointing
            )
        return self._costs[checkpointing]

    def _trained(self, lora: LoraConfig | None) -> Any:
        """The transformer with ``requires_grad`` where the stage trains it."""
        self._transformer.requires_grad_(self._joint and lora is None)
        for name, weight in self._transformer.named_parameters():
            if name.startswith("motion_") or (lora is not None and is_new(name)):
                weight.requires_grad_(True)
        return self._transformer


def adapter_parameters(transformer: Any, lora: LoraConfig) -> int:
    """Weights of the adapters: two matrices for each adapted layer."""
    return sum(
        lora.rank * (module.in_features + module.out_features)
        for name, module in transformer.transformer_blocks.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(lora.targets)
    )


def told(plan: Plan, stage: str) -> str:
    """A plan for a reader: how it trains, what each GPU holds, and the settings as a configuration has them."""
    settings, memory = plan.settings, plan.memory
    trained = "the motion branch" if stage == "text-motion" else "all weights"
    precision = "products in bf16, weights and optimiser in float32"
    if settings.lora is not None:
        trained = f"adapters of rank {settings.lora.rank} for text and video, and the motion branch"
        precision += ", frozen weights in bf16"
    whole = "one GPU" if settings.gpus == 1 else f"all weights on each of {settings.gpus} GPUs"
    lines = {
        "trained": trained,
        "weights": f"sharded over {settings.gpus} GPUs" if settings.shard and settings.gpus > 1 else whole,
        "layers": "computed again in the backward pass" if settings.checkpointing else "kept for the backward pass",
        "samples": f"{settings.per_pass} per pass and GPU, {settings.accumulate} x {settings.gpus} such passes a step",
        "precision": precision,
        "each GPU": f"{gigabytes(memory.total)}: "
        + ", ".join(f"{name} {gigabytes(size)}" for name, size in vars(memory).items() if size),
        "a step": f"{plan.flops / settings.gpus / 1e15:,.2f} PFLOP of each GPU",
    }
    shown = [f"  {name:<12}{line}" for name, line in lines.items()]
    return "\n".join([*shown, "", yaml.safe_dump(fragment(settings, stage), sort_keys=False)])


def fragment(settings: Settings, stage: str) -> dict[str, Any]:
    """The settings as a configuration has them, from ``stages`` down."""
    trainer = {
        "batch_size": settings.batch,
        "accumulate": settings.accumulate,
        "activation_checkpointing": settings.checkpointing,
        "shard": settings.shard,
    }
    own: dict[str, Any] = {"trainer": trainer}
    if settings.lora is not None:
        own["lora"] = {"rank": settings.lora.rank, "alpha": settings.lora.alpha}
    return {"stages": {stage.replace("-", "_"): own}}


def require_fit(config: Section, stage: str, gpus: int, device: torch.device, frames: int = 41) -> None:
    """Refuse a training that would not fit on its GPUs, before anything is loaded; processors and nano always fit.

    Args:
        config: the configuration that would be trained.
        stage: a key of ``STAGES``.
        gpus: how many processes train together, one on each.
        device: of this process.
        frames: video frames of a clip.

    Raises:
        UserError: it does not fit; settings that would are named.
    """
    available = free_memory(device)
    if available is None or "depth" in config["models"]:
        return
    planner = Planner(config, stage, frames)
    needed = planner.plan(planner.own(gpus)).memory.total
    if needed <= available:
        return
    fitting = planner.fitting(gpus, available)
    if fitting is None:
        suggestions = planner.remedies(gpus, available)
    else:
        settings = yaml.safe_dump(fragment(fitting.settings, stage), default_flow_style=True, width=1000)
        suggestions = [f"set {settings.strip()}"]
    require_memory(needed, available, suggestions)
