"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """A float32 moving average of a module's parameters.

    The decay warms up as `min(decay, (1 + n) / (10 + n))` after n updates, so that a short run is not dominated by its
    initial weights (the schedule of TensorFlow's `ExponentialMovingAverage`).

    Args:
        module: the module to follow.
        decay: the decay that the warm-up tends to.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self._parameters = dict(module.named_parameters())
        self.state = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the module's current parameters; `updates` counts the updates made before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages = list(self.state.values())
        currents = [value.detach().float() for value in self._parameters.values()]
        torch._foreach_lerp_(averages, currents, 1 - decay)

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Copy a saved average in."""
        for name, value in self.state.items():
            value.copy_(state[name])

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Within the block the module's parameters hold the average."""
        backup = {name: value.detach().clone() for name, value in self._parameters.items()}
        try:
            for name, value in self._parameters.items():
                value.copy_(self.state[name])
            yield
        finally:
            for name, value in self._parameters.items():
                value.copy_(backup[name])
