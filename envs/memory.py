"""How many dreams fit into memory, asked before they are begun."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from egotwin_sim.errors import UserError

if TYPE_CHECKING:
    import torch

    from egotwin_sim.pipelines.state import DreamState

# A step holds the state before it, the state after it, and where only some dreams go on, both joined and a part.
STATES_AT_ONCE = 4
# Bytes a pixel of a frame: what the networks and the environment hold at once beside the states. Measured as the peak
# of 3 steps over that of one environment, on a processor: 2,260 with 32 at 64 pixels, 1,510 with 16 of nano at 128.
WORK_PER_PIXEL = 2560
MEMINFO = Path("/proc/meminfo")


def bytes_per_dream(one: DreamState) -> int:
    """What one more environment needs at most, given the state of one dream."""
    state = sum(value.numel() * value.element_size() for value in one.tensors().values())
    height, width = one.memory.depth.shape[-2:]
    return STATES_AT_ONCE * state + WORK_PER_PIXEL * height * width


def available_memory(device: torch.device) -> int | None:
    """Free bytes where a network runs; None where that cannot be told."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu" or not MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024


def require_memory(num_envs: int, bytes_each: int, available: int | None) -> None:
    """Refuse more environments than there is memory for.

    Args:
        num_envs: how many are wanted.
        bytes_each: what each needs.
        available: free bytes, or None for unknown, which refuses nothing.

    Raises:
        UserError: they need more than there is.
    """
    needed = num_envs * bytes_each
    if available is not None and needed > available:
        raise UserError(
            f"{num_envs} environments need about {needed / 1e9:.3g} GB ({bytes_each / 1e6:.3g} MB each), "
            f"{available / 1e9:.3g} GB are free; make at most {available // bytes_each}"
        )
