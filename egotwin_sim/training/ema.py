"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from egotwin_sim.training.sharding import piece


class EMA:
    """A float32 moving average of a module's trained parameters; of a sharded one each process keeps its pieces.

    The decay warms up as `min(decay, (1 + n) / (10 + n))` after n updates, so that a short run is not dominated by its
    initial weights (the schedule of TensorFlow's `ExponentialMovingAverage`).

    Args:
        module: the module to follow; its trained parameters are float32.
        decay: the decay that the warm-up tends to.

    Attributes:
        state: the averages by name, sharded like the parameters.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.state = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the module's current parameters; `updates` counts the updates made before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages = [piece(value) for value in self.state.values()]
        currents = [piece(value.detach()) for value in self._parameters.values()]
        torch._foreach_lerp_(averages, currents, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module's parameters hold the average, and `state` holds the parameters."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._parameters.items():
            parameter, average = piece(value.detach()), piece(self.state[name])
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
