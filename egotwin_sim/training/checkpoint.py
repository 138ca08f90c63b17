"""Training state on disk: safetensors and JSON, written beside and then renamed, so a kill leaves the last whole.

The tensors go through `torch.distributed.checkpoint`: each process writes the pieces that it holds, and any other
number of processes reads them again as the pieces that it needs. Its safetensors form is used, in which nothing is
pickled.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.fsdp import FSDPModule

from egotwin_sim.errors import UserError
from egotwin_sim.training.ema import EMA
from egotwin_sim.training.lora import adapted_layers, base_weights, merged_weight
from egotwin_sim.training.processes import processes
from egotwin_sim.training.sharding import (
    PIECES_ERRORS,
    first_line,
    piece,
    read_pieces,
    save_whole,
    write_pieces,
)

_PREFIX = "step-"
FILE_BYTES = 2 * 10**9
"""Of a process's files at most; what a file holds is in memory twice while it is written."""
FROZEN_TOLERANCE = 1e-6
"""Relative; the sum of the frozen weights is rounded differently when they are spread differently."""


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """A module's state without its frozen parameters: those come from where the run took them."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value.detach() for name, value in module.state_dict().items() if name not in frozen}


def _frozen_sum(module: nn.Module) -> float:
    """The sum of the sizes of all frozen weights."""
    sums = [
        float(piece(parameter.detach()).abs().sum(dtype=torch.float64)) / _copies(parameter)
        for parameter in module.parameters()
        if not parameter.requires_grad
    ]
    return processes().total([sum(sums)])[0]


def _copies(tensor: Tensor) -> int:
    """How many processes hold the same values."""
    return 1 if piece(tensor) is not tensor else processes().count


def _state(module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    state = {f"weights/{name}": value for name, value in _weights(module).items()}
    state |= {f"average/{name}": value for name, value in ema.state.items()}
    for parameter, entries in optimizer.state.items():
        state |= {f"optimizer/{names[id(parameter)]}/{key}": value for key, value in entries.items()}
    return state


def _files(state: dict[str, Tensor]) -> dict[str, int]:
    """The number of the file, from 1, that each tensor goes to."""
    files: dict[str, int] = {}
    room, number = FILE_BYTES * processes().count, 1
    for name, value in state.items():
        size = math.prod(value.shape) * value.dtype.itemsize
        if size > room and files:
            room, number = FILE_BYTES * processes().count, number + 1
        files[name] = number
        room -= size
    return files


def save_checkpoint(
    directory: Path, step: int, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, extra: dict
) -> Path:
    """Write `directory/step-XXXXXXXX` and remove older ones; all processes have to call this.

    Args:
        directory: folder of the checkpoints, made if missing.
        step: steps finished.
        module: module whose state is saved, but for frozen parameters.
        ema: its moving average.
        optimizer: its optimiser.
        extra: JSON-serialisable values, kept in `state.json`.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: the disk is full or not writable; the previous checkpoint is untouched.
    """
    here = processes()
    target = directory / f"{_PREFIX}{step:08d}"
    partial = directory / f".partial-{step:08d}"
    state, frozen = _state(module, ema, optimizer), _frozen_sum(module)
    try:
        if here.main:
            directory.mkdir(parents=True, exist_ok=True)
            for left in directory.glob(".partial-*"):
                shutil.rmtree(left)
            partial.mkdir()
        here.wait()
        writer = HuggingFaceStorageWriter(str(partial), _files(state), save_distributed=True)
        write_pieces(state, writer)
        if here.main:
            (partial / "state.json").write_text(json.dumps({"step": step, "frozen": frozen, **extra}))
            _fsync(partial / "state.json")
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            for older in list_checkpoints(directory)[:-1]:
                shutil.rmtree(older)
        here.wait()
    except PIECES_ERRORS as error:
        if here.main:
            shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"cannot write a checkpoint in {directory} ({first_line(error)}); free space and --resume"
        ) from error
    return target


def list_checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints in `directory`, oldest first."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if path.is_dir())


def load_checkpoint(path: Path, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> dict:
    """Restore what `save_checkpoint` wrote, in place, whatever number of processes wrote it.

    Returns:
        The content of `state.json`.

    Raises:
        UserError: unreadable files, weights of another configuration, or other frozen weights.
    """
    reader = HuggingFaceStorageReader(str(path))
    try:
        told = json.loads((path / "state.json").read_text())
        stored: dict[str, Any] = reader.read_metadata().state_dict_metadata  # of tensors alone
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}; delete it or take a new folder") from error
    state = {f"weights/{name}": value for name, value in _weights(module).items()}
    state |= {f"average/{name}": value for name, value in ema.state.items()}
    known = set(state)
    for name, parameter in module.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if parameter.requires_grad and f"optimizer/{name}/{key}" in stored:
                fresh = torch.zeros((), device=parameter.device) if key == "step" else torch.zeros_like(parameter)
                state[f"optimizer/{name}/{key}"] = optimizer.state[parameter][key] = fresh.detach()
    other = sorted(set(stored) ^ set(state)) or sorted(
        name for name in state if tuple(stored[name].size) != tuple(state[name].shape)
    )
    if other:
        lost = "unknown" if other[0] in stored and other[0] not in known else "missing or of another shape"
        raise UserError(
            f"the checkpoint {path} belongs to another configuration ({other[0]} is {lost}); use its config or a new "
            "folder"
        )
    if not math.isclose(told["frozen"], _frozen_sum(module), rel_tol=FROZEN_TOLERANCE):
        raise UserError(
            f"the weights that do not train are not those that the run in {path.parent.parent} began with; give the "
            "same --init and configuration, or a new --out"
        )
    try:
        read_pieces(state, reader)
    except PIECES_ERRORS as error:
        raise UserError(
            f"cannot read the checkpoint {path}: {first_line(error)}; delete it or take a new folder"
        ) from error
    return told


def save_folder(directory: Path, write: Callable[[Path], None]) -> None:
    """Let a function write a folder, beside and then renamed over what was there.

    All processes have to call this; the main one makes the folder, and the function has only that one write.

    Raises:
        UserError: the disk is full or not writable.
    """
    main = processes().main
    partial = directory.with_name(f".partial-{directory.name}")
    try:
        if main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        write(partial)
        if main:
            shutil.rmtree(directory, ignore_errors=True)
            partial.rename(directory)
    except (OSError, SafetensorError) as error:
        if main:
            shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"cannot write {directory} ({error}); free space and --resume") from error


def save_component(module: Any, directory: Path) -> None:
    """`module.save_pretrained(directory)`, whole or not at all, with adapters added to the weights.

    All processes have to call this; the main one writes.

    Raises:
        UserError: the disk is full or not writable.
    """

    def write(folder: Path) -> None:
        if isinstance(module, FSDPModule) or adapted_layers(module):
            save_whole(module, folder, base_weights(module), merged_weight(module))
        elif processes().main:
            module.save_pretrained(folder)

    save_folder(directory, write)
