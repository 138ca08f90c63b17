"""A transformer whose weights are spread over the processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

Each process keeps a piece of every weight, of its gradient, its average and its optimiser state. A layer's weights are
gathered before the layer is computed, forward and backward, and freed after it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed import checkpoint as pieces
from torch.distributed.checkpoint import StorageReader, StorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from egotwin_sim.errors import UserError
from egotwin_sim.models.denoiser import Denoiser
from egotwin_sim.models.shards import stored_tensors, write_shards
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.training.processes import processes


def shard(denoiser: Denoiser, mesh: DeviceMesh, precision: str) -> None:
    """Spread the weights over a mesh, in place; a layer's weights of all branches are gathered together.

    Args:
        denoiser: on any device, "meta" included; it goes to the mesh's.
        mesh: of one dimension.
        precision: "bf16" gathers in bf16 and sums gradients in float32; "fp32" does all in float32.
    """
    # The layers return views of what they computed. FSDP warns of changing such in place, which nothing here does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bf16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # timesteps up to 1000 do not survive bf16; autocast casts what products take
    )
    spread = partial(fully_shard, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    if isinstance(denoiser, EgoTwinTransformer3DModel):
        branches = (denoiser.transformer_blocks, denoiser.motion_blocks, denoiser.text_blocks)
        for i, block in enumerate(denoiser.transformer_blocks):
            group: list[nn.Module] = [blocks[i] for blocks in branches if i < len(blocks)]
            spread(group if len(group) > 1 else block)
            register_fsdp_forward_method(block, "layer")
    else:
        for layer in denoiser.layers:
            spread(layer)
    # Also after the whole forward pass: else a validation would leave the averages' weights gathered for the next step.
    spread(denoiser)


def piece(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; it shares the tensor's memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor gathered from all processes, which all have to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def set_whole(tensor: Tensor, values: Tensor) -> None:
    """Set a tensor, of which this process may hold a piece, to values that are the same on all processes."""
    if isinstance(tensor, DTensor):
        spread = distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements)
        tensor.to_local().copy_(spread.to_local())
    else:
        tensor.copy_(values)


PIECES_ERRORS = (OSError, SafetensorError, CheckpointException)
"""What reading and writing pieces may raise; the last one is no `Exception`."""


def first_line(error: BaseException) -> str:
    """What a process could not read or write, in one line."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether there is one process, which is then no reason for the warning that it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield processes().count == 1


def read_pieces(state: dict[str, Tensor], reader: StorageReader) -> None:
    """Read what is stored into tensors, of which each process may hold pieces; all processes have to call this."""
    with _alone() as alone:
        pieces.load(state, storage_reader=reader, no_dist=alone)


def write_pieces(state: dict[str, Tensor], writer: StorageWriter) -> None:
    """Store tensors, each process its own pieces; all processes have to call this."""
    packed = {name: value if piece(value).is_contiguous() else value.contiguous() for name, value in state.items()}
    with _alone() as alone:
        pieces.save(packed, storage_writer=writer, no_dist=alone)


def fill(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Read weights from a folder of safetensors, each process its own pieces; all processes have to call this.

    Args:
        weights: of a module, by the names that the folder has for them; what they held is overwritten.
        folder: as diffusers' ``save_pretrained`` writes it, in one file or several.

    Raises:
        UserError: weights that are missing, left over, truncated or of another shape.
    """
    state = {name: value.detach() for name, value in weights.items()}
    stored = stored_tensors(folder)
    for problem, lost in (("lacks", set(state) - set(stored)), ("has unknown", set(stored) - set(state))):
        if lost:
            raise UserError(
                f"{folder} {problem} weights ({len(lost)}, first {sorted(lost)[0]}); use weights that were saved with "
                "this config"
            )
    for name, value in state.items():
        if stored[name].shape != tuple(value.shape):
            raise UserError(
                f"{folder}: {name} has shape {stored[name].shape}, expected {tuple(value.shape)}; use weights that "
                "were saved with this config"
            )
    try:
        read_pieces(state, HuggingFaceStorageReader(str(folder)))
    except PIECES_ERRORS as error:
        raise UserError(f"{folder}: the weights do not load ({first_line(error)}); copy them again") from error


def save_whole(module: Any, folder: Path, weights: Mapping[str, Tensor], value: Callable[[str], Tensor]) -> None:
    """Write a module as its ``save_pretrained`` would, with one gathered weight in memory at a time.

    All processes have to call this; the main one writes.

    Args:
        module: with ``save_config``; sharded or not.
        folder: to write to; it exists.
        weights: its weights by the names to write them under.
        value: from a name to the gathered weight; all processes ask in the same order.
    """
    gathered = ((name, value(name).cpu()) for name in weights)
    if not processes().main:
        for _ in gathered:
            pass
        return
    module.save_config(folder)
    path = folder / "config.json"
    # FSDP puts a class of its own before the module's.
    name = next(kind.__name__ for kind in type(module).__mro__ if not issubclass(kind, FSDPModule))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": name}, indent=2, sort_keys=True) + "\n")
    write_shards(folder, {name: tuple(tensor.shape) for name, tensor in weights.items()}, gathered, torch.float32)
