"""Noise that belongs to an environment: a function of (seed, episode, chunk, draw), not of a global generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def keyed_normal(key: Sequence[int], shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal float32 numbers that depend on the key alone.

    Args:
        key: non-negative integers.
        shape: of the result.
        device: where the result goes; the numbers are drawn on the CPU, so that they are the same everywhere.
    """
    return torch.from_numpy(np.random.default_rng(list(key)).standard_normal(shape, dtype=np.float32)).to(device)
