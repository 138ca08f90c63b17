"""One trainer for every stage: the stage gives modules, a loss and a batch for each step; this gives the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from egotwin_sim.errors import UserError
from egotwin_sim.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    save_component,
    save_folder,
)
from egotwin_sim.training.ema import EMA
from egotwin_sim.training.interruption import Interruption
from egotwin_sim.training.logging import ScalarLog
from egotwin_sim.training.lora import adapted_layers, base_weights, save_adapters, start_adapters
from egotwin_sim.training.parts import WHOLE, Part, PartGenerator
from egotwin_sim.training.processes import processes, telling_of_lost_ones
from egotwin_sim.training.sharding import fill, shard, whole

LossFn = Callable[[Any, torch.Generator], tuple[Tensor, Mapping[str, Tensor | float]]]
BatchFn = Callable[[int, Part], Any]

_SKIPS_ALLOWED = 20  # successive non-finite gradients before the run is given up


@dataclass(frozen=True)
class TrainerConfig:
    """How to optimise, whatever is being trained.

    Attributes:
        steps: length of the run; the learning rate's schedule depends on it.
        batch_size: samples per step, over all processes and all passes of ``accumulate`` together.
        learning_rate: peak of the schedule.
        final_learning_rate: fraction of the peak at the last step (cosine).
        warmup_steps: steps of linear warm-up.
        weight_decay: AdamW's decay, on weights of two or more dimensions only.
        grad_clip: largest norm of the gradient.
        ema_decay: decay of the moving average of the weights.
        precision: "bf16" (autocast) or "fp32".
        seed: of batches, noise and initial weights.
        accumulate: passes that a step's samples are dealt out to, one after the other; more of them take less memory.
        activation_checkpointing: compute the layers again in the backward pass instead of keeping what they made.
        shard: with several processes, each holds its part of the transformer's weights, gradients, averages and
            optimiser state (FSDP2); otherwise each holds all of them. The other networks are never sharded.
        log_every: steps between records.
        validate_every: steps between validations.
        checkpoint_steps: steps between checkpoints.
        checkpoint_minutes: most minutes between checkpoints.
    """

    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 3e-4
    final_learning_rate: float = 0.05
    warmup_steps: int = 100
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    precision: str = "bf16"
    seed: int = 0
    accumulate: int = 1
    activation_checkpointing: bool = False
    shard: bool = True
    log_every: int = 20
    validate_every: int = 500
    checkpoint_steps: int = 1000
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        if self.precision not in ("bf16", "fp32"):
            raise UserError(f"precision is {self.precision!r}; expected bf16 or fp32")
        for name in ("steps", "batch_size", "accumulate", "log_every", "validate_every", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least 1")


def learning_rate_at(step: int, config: TrainerConfig) -> float:
    """Learning rate of step `step` (from 0): linear warm-up, then cosine down to its final fraction."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    progress = min(1.0, max(0, step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    cosine = config.final_learning_rate + (1 - config.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * warmup * cosine


@lru_cache(maxsize=4)
def _permutation(num_items: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_items)


def batch_indices(num_items: int, batch_size: int, seed: int, step: int, part: Part = WHOLE) -> np.ndarray:
    """Indices of batch `step`: epochs of shuffled items, without end, a function of the arguments alone.

    Args:
        num_items: of the data.
        batch_size: of the whole batch.
        seed: of the shuffling.
        step: which batch.
        part: whose samples.

    Returns:
        int64 (batch_size / part.count,) in [0, num_items).
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)[part.rows(batch_size)]
    return np.array([_permutation(num_items, seed, int(p // num_items))[p % num_items] for p in positions])


def step_generator(seed: int, step: int, device: torch.device | str = "cpu", part: Part = WHOLE) -> PartGenerator:
    """The generator for all random numbers of one step: a function of (seed, step), so nothing of it is saved."""
    return PartGenerator.of(seed, step, device, part)


def mean_of(name: str, entries: list[dict[str, float]]) -> float:
    """Mean of a scalar over the entries that have it: a run may be resumed with a loss that tells more."""
    values = [entry[name] for entry in entries if name in entry]
    return sum(values) / len(values)


def to_device(batch: Any, device: torch.device) -> Any:
    """A copy of a batch (tensor, or mapping, list or tuple of them) with its tensors on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


class Trainer:
    """Runs the optimisation of one stage, resumable to the same step, on one process or on several.

    A step's batch is dealt out to the processes, and by each to its `accumulate` passes. The weights after a step are
    those of one process and one pass but for the order of sums, where the loss draws its random numbers by `parts`
    (`draw_rows`) and is a mean over samples; with a mean over a part of them, its denominators have to be those of the
    whole batch.

    A run's folder holds `checkpoint/` (kept at the end, so that a finished run can be lengthened), `log.jsonl`,
    `tensorboard/`, and at the end one folder per module that has `save_pretrained`, with the averaged weights; adapters
    are added to the weights there, and lie by themselves in `<name>-adapters/`.

    Args:
        modules: named modules; their parameters with `requires_grad` are trained. Moved to `device`.
        loss_fn: `(batch, generator) -> (loss, scalars)`. Called under autocast; the generator lives on the device and
            is the only source of randomness it may use.
        batch_fn: `(step, part) -> batch`, a function of the arguments alone. Called one part ahead, in a thread.
        config: the optimisation.
        out: the run's folder.
        validate: `() -> scalars`, called without gradients, in eval mode, with the averaged weights in the modules. All
            processes call it, and it gives all of them the same.
        finish: called like `validate` at the end, before the modules are written.
        resume: go on from the last checkpoint in `out`, from the start if there is none.
        device: a GPU if there is one, when None.
        title: of the progress bar.
        sharded: spread the modules, which are transformers, over the processes where `config.shard` says so; where
            False, or on one process, each has all of them.
        weights: folders that modules on the "meta" device are filled from.

    Raises:
        UserError: `out` holds a run already and `resume` is False, its checkpoint does not fit, or the batch cannot be
            dealt out evenly.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        loss_fn: LossFn,
        batch_fn: BatchFn,
        config: TrainerConfig,
        out: Path,
        *,
        validate: Callable[[], dict[str, float]] | None = None,
        finish: Callable[[], None] | None = None,
        resume: bool = False,
        device: torch.device | str | None = None,
        title: str = "train",
        sharded: bool = False,
        weights: Mapping[str, Path] | None = None,
    ):
        here = self.processes = processes()
        self.device = torch.device(device or here.device)
        self.loss_fn, self.batch_fn, self.validate, self.finish = loss_fn, batch_fn, validate, finish
        self.config, self.out, self.title = config, Path(out), title
        existing = list_checkpoints(self.out / "checkpoint")
        if existing and not resume:
            raise UserError(f"{self.out} already holds a run; give --resume to go on with it, or another --out")
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out} is a file; give a folder as --out")
        parts = here.count * config.accumulate
        if config.batch_size % parts:
            raise UserError(
                f"batch_size is {config.batch_size}; with {here.count} processes and accumulate {config.accumulate} "
                f"expected a multiple of {parts}"
            )
        self.step = 0
        # Scalars since the last record; part of the checkpoint, so that a resumed record is the same.
        self._window: list[dict[str, float]] = []
        self._sharded = sharded and config.shard and here.count > 1
        self.modules = self._placed(modules, weights or {})
        trained = [parameter for parameter in self.modules.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
                {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        self._trained = trained
        self.ema = EMA(self.modules, config.ema_decay)
        if existing:
            state = load_checkpoint(existing[-1], self.modules, self.ema, self.optimizer)
            self.step, self._window = state["step"], state["window"]
        self.out.mkdir(parents=True, exist_ok=True)

    def _placed(self, modules: dict[str, nn.Module], weights: Mapping[str, Path]) -> nn.ModuleDict:
        """The modules on the device, sharded if that is wanted, filled, and with the layers to be computed again."""
        if self.config.activation_checkpointing:
            layered: list[Any] = [
                module for module in modules.values() if getattr(module, "_supports_gradient_checkpointing", False)
            ]
            if not layered:
                raise UserError(
                    "activation_checkpointing is for transformers, and this stage trains none; leave it out"
                )
            for transformer in layered:
                transformer.enable_gradient_checkpointing()
        mesh = self.processes.mesh() if self._sharded else None
        module: Any
        for name, module in modules.items():
            if mesh is not None:
                shard(module, mesh, self.config.precision)
            if name in weights:
                module.to_empty(device=self.device)
                fill(base_weights(module), weights[name])
            elif mesh is None:
                module.to(self.device)
            start_adapters(module, self.config.seed)
        placed = nn.ModuleDict(modules)
        if mesh is None:
            self.processes.copy_([tensor.detach() for tensor in placed.state_dict().values()])
        return placed

    def fit(self) -> None:
        """Train to `config.steps`, then write the averaged weights of each module to `out/<name>`.

        Raises:
            UserError: another process has ended.
            KeyboardInterrupt: Ctrl-C; a checkpoint of the last whole step was written.
            SystemExit: likewise for SIGTERM, with its status of 143.
        """
        from rich import progress as bars

        log = ScalarLog(self.out, self.step) if self.processes.main else None
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[figures]}"),
        )
        with telling_of_lost_ones():
            try:
                quiet = not self.processes.main
                with bars.Progress(*columns, disable=quiet) as progress, ThreadPoolExecutor(1) as pool:
                    task = progress.add_task(self.title, total=self.config.steps, completed=self.step, figures="")
                    with Interruption() as interruption:
                        self._loop(
                            log,
                            pool,
                            interruption,
                            lambda figures: progress.update(task, completed=self.step, figures=figures),
                        )
            finally:
                if log is not None:
                    log.close()
            self.save_final()

    def _loop(
        self,
        log: ScalarLog | None,
        pool: ThreadPoolExecutor,
        interruption: Interruption,
        show: Callable[[str], None],
    ) -> None:
        config = self.config
        last_save = window_start = time.monotonic()
        skipped = timed = 0
        batches = _Ahead(self.batch_fn, self.processes.part, config, self.step, pool)
        self.modules.train()
        while self.step < config.steps:
            scalars = self._update(batches)
            late = float(time.monotonic() - last_save > config.checkpoint_minutes * 60)
            # What one process alone knows, all have to know, so that all of them save.
            late, *signals = self.processes.total([late if self.processes.main else 0.0, *interruption.told()])
            skipped = 0 if math.isfinite(scalars["grad_norm"]) else skipped + 1
            if skipped > _SKIPS_ALLOWED:
                raise FloatingPointError(f"the gradient was not finite {skipped} times in a row up to step {self.step}")
            self._window.append(scalars)
            timed += 1
            if self.step % config.log_every == 0 or self.step == config.steps:
                means = {name: mean_of(name, self._window) for name in scalars}
                means["learning_rate"] = learning_rate_at(self.step - 1, config)
                means["seconds_per_step"] = (time.monotonic() - window_start) / timed
                if log is not None:
                    log.write(self.step, "train", means)
                show(f"loss {means['loss']:.4g}")
                self._window, window_start, timed = [], time.monotonic(), 0
            if any(signals):
                self.save()  # before anything that takes time: whoever asks may not wait long
            if self.validate and (self.step % config.validate_every == 0 or self.step == config.steps):
                figures = self.evaluate()
                if log is not None:
                    log.write(self.step, "val", figures)
                window_start = time.monotonic()
            if any(signals):
                interruption.leave(signals, self.step, self.processes.main)
            if late or self.step % config.checkpoint_steps == 0 or self.step == config.steps:
                self.save()
                last_save = time.monotonic()

    def _update(self, batches: _Ahead) -> dict[str, float]:
        config, here = self.config, self.processes
        rate = learning_rate_at(self.step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        turns: list[dict[str, float]] = []
        for turn in range(config.accumulate):
            part = here.part(turn, config.accumulate)
            batch = to_device(batches.take(), self.device)
            generator = step_generator(config.seed, self.step, self.device, part)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss, scalars = self.loss_fn(batch, generator)
            (loss / config.accumulate).backward()
            turns.append({name: _number(value) for name, value in {"loss": loss, **scalars}.items()})
        if not self._sharded:
            here.average_([parameter.grad for parameter in self._trained if parameter.grad is not None])
        grad_norm = whole(nn.utils.clip_grad_norm_(self._trained, config.grad_clip))
        if torch.isfinite(grad_norm):
            self.optimizer.step()
            self.ema.update(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        means = here.mean({name: sum(turn[name] for turn in turns) / len(turns) for name in turns[0]})
        return {"loss": means.pop("loss"), "grad_norm": float(grad_norm), **means}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The validation figures of the averaged weights."""
        assert self.validate is not None
        self.modules.eval()
        with self.ema.applied():
            figures = self.validate()
        self.modules.train()
        return {name: float(value) for name, value in figures.items()}

    def save(self) -> None:
        """Write a checkpoint of this step."""
        extra = {"window": self._window}
        save_checkpoint(self.out / "checkpoint", self.step, self.modules, self.ema, self.optimizer, extra)

    @torch.no_grad()
    def save_final(self) -> None:
        """Write the averaged weights of each module that has `save_pretrained` to `out/<name>`, whole or not at all."""
        self.modules.eval()
        with self.ema.applied():
            if self.finish:
                self.finish()
            for name, module in self.modules.items():
                if hasattr(module, "save_pretrained"):
                    save_component(module, self.out / name)
                if adapted_layers(module):
                    save_folder(self.out / f"{name}-adapters", partial(save_adapters, module))
        self.processes.wait()


def _number(value: Tensor | float) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)


class _Ahead:
    """The parts of the batches in order, each read in a thread while the one before is used."""

    def __init__(
        self,
        batch_fn: BatchFn,
        part: Callable[[int, int], Part],
        config: TrainerConfig,
        step: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._read, self._part, self._turns, self._pool = batch_fn, part, config.accumulate, pool
        self._next, self._end = step * config.accumulate, config.steps * config.accumulate
        self._coming: Future | None = None
        self._submit()

    def _submit(self) -> None:
        step, turn = divmod(self._next, self._turns)
        if self._next < self._end:
            self._coming = self._pool.submit(self._read, step, self._part(turn, self._turns))
        self._next += 1

    def take(self) -> Any:
        """The next part."""
        assert self._coming is not None
        batch = self._coming.result()
        self._submit()
        return batch
