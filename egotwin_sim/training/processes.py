"""The processes that train one model: who this one is, and what they tell each other.

`torchrun` starts them and says in the environment how many they are; a run without it is one process, and nothing here
costs anything then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from egotwin_sim.errors import UserError
from egotwin_sim.training.parts import Part

ANSWER_WITHIN = timedelta(minutes=10)
"""How long a process waits in the midst of a step for another one before it gives up."""
WORK_WITHIN = timedelta(days=3)
"""How long it waits for another one's share of work that is done apart, such as latents."""

# What gloo and NCCL say when the other side is gone; gloo has no exception class of its own.
_LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "recvvalue failed")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: number of this process, from 0.
        count: how many they are.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the one that writes logs and weights."""
        return self.rank == 0

    def part(self, turn: int = 0, turns: int = 1) -> Part:
        """This process's part of a batch that is dealt out to all of them, in turns."""
        return Part(self.rank * turns + turn, self.count * turns)

    def mesh(self) -> DeviceMesh:
        """All processes in a row, to shard over."""
        return init_device_mesh(self.device.type, (self.count,), mesh_dim_names=("data",))

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums of values over the processes."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Means of named values over the processes, which give the same names."""
        return {
            name: total / self.count for name, total in zip(scalars, self.total(list(scalars.values())), strict=True)
        }

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of equal shapes on all processes by their means."""
        if self.count == 1:
            return
        for dtype in {tensor.dtype for tensor in tensors}:
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.flatten() for tensor in alike])
            dist.all_reduce(flat)
            for tensor, mean in zip(alike, flat.div_(self.count).split([t.numel() for t in alike]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def copy_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the main process."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Go on when all processes are here; they may be days apart."""
        if self.count > 1:
            dist.barrier(_patient_group())


_patient: list[dist.ProcessGroup] = []


def _patient_group() -> dist.ProcessGroup:
    if not _patient:
        _patient.append(dist.new_group(backend="gloo", timeout=WORK_WITHIN))
    return _patient[0]


def _own_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if dist.is_initialized() else 0)
    return torch.device("cpu")


def processes() -> Processes:
    """This process among those of ``training_together``; the only one outside of it."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size(), _own_device())
    return Processes(0, 1, _own_device())


@contextmanager
def training_together() -> Iterator[Processes]:
    """Within the block, the processes that ``torchrun`` started know each other: NCCL on GPUs, gloo on processors.

    Raises:
        UserError: another process has ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield processes()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        count, local = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
        if local >= count:
            raise UserError(f"process {local} of this machine has no GPU, it has {count}: --nproc-per-node {count}")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    with telling_of_lost_ones():
        dist.init_process_group(backend, timeout=ANSWER_WITHIN)
        _patient_group()
        try:
            yield processes()
            dist.destroy_process_group()
        finally:
            _patient.clear()


@contextmanager
def telling_of_lost_ones() -> Iterator[None]:
    """Turn what the libraries raise when another process is gone into one line.

    Raises:
        UserError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if isinstance(error, dist.DistError) or any(word in text for word in _LOST):
            told = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(
                f"process {os.environ.get('RANK', 0)} of {os.environ.get('WORLD_SIZE', 1)} lost another one, which has "
                "ended or hangs (its own message says why; a kill leaves none): start all of them again with --resume. "
                f"What was noticed: {told}"
            ) from error
        raise
