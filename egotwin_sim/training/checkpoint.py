"""Training state on disk: safetensors and JSON, written beside and then renamed, so a kill leaves the last whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from egotwin_sim.errors import UserError
from egotwin_sim.training.ema import EMA

_PREFIX = "step-"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        f"{names[id(parameter)]}:{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def save_checkpoint(
    directory: Path, step: int, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, extra: dict
) -> Path:
    """Write `directory/step-XXXXXXXX` and remove older ones.

    Args:
        directory: folder of the checkpoints, made if missing.
        step: steps finished.
        module: module whose state is saved.
        ema: its moving average.
        optimizer: its optimiser.
        extra: JSON-serialisable values, kept in `state.json`.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: the disk is full or not writable; the previous checkpoint is untouched.
    """
    target = directory / f"{_PREFIX}{step:08d}"
    partial = directory / f".partial-{step:08d}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, tensors in (
            ("model", module.state_dict()),
            ("ema", ema.state),
            ("optimizer", _optimizer_tensors(optimizer, module)),
        ):
            path = partial / f"{name}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
            _fsync(path)
        (partial / "state.json").write_text(json.dumps({"step": step, **extra}))
        _fsync(partial / "state.json")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"cannot write a checkpoint in {directory} ({error}); free space and --resume") from error
    for older in list_checkpoints(directory)[:-1]:
        shutil.rmtree(older)
    return target


def list_checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints in `directory`, oldest first."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if path.is_dir())


def load_checkpoint(path: Path, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> dict:
    """Restore what `save_checkpoint` wrote, in place.

    Returns:
        The content of `state.json`.

    Raises:
        UserError: unreadable files, or weights of another configuration.
    """
    try:
        state = json.loads((path / "state.json").read_text())
        weights = load_file(path / "model.safetensors")
        module.load_state_dict(weights)
        ema.load(load_file(path / "ema.safetensors"))
        saved = load_file(path / "optimizer.safetensors")
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}; delete it or take a new folder") from error
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the checkpoint {path} belongs to another configuration ({reason}); use its config or a new folder"
        ) from error
    parameters = dict(module.named_parameters())
    for key, value in saved.items():
        name, field = key.rsplit(":", 1)
        if name not in parameters:
            raise UserError(f"the checkpoint {path} has optimiser state of an unknown weight {name}; use its config")
        # `step` stays a CPU tensor, as AdamW expects unless it is fused on a GPU.
        device = parameters[name].device
        optimizer.state[parameters[name]][field] = value.to(device)
    return state


def save_component(module: Any, directory: Path) -> None:
    """`module.save_pretrained(directory)`, written beside and then renamed over what was there.

    Raises:
        UserError: the disk is full or not writable.
    """
    partial = directory.with_name(f".partial-{directory.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        module.save_pretrained(partial)
        shutil.rmtree(directory, ignore_errors=True)
        partial.rename(directory)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"cannot write {directory} ({error}); free space and --resume") from error
