"""A batch in several parts, over processes and one after the other, with the random numbers of the whole batch.

A loss is a mean over the samples of a batch. Dealt out to parts of equal size, it is the mean of the parts' losses, and
the gradient is the mean of their gradients, if every sample meets the noise that it would have met in the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.errors import UserError


@dataclass(frozen=True)
class Part:
    """One of several equal parts of a batch; its samples lie in a row.

    Attributes:
        index: which one.
        count: of how many.
    """

    index: int = 0
    count: int = 1

    def rows(self, size: int) -> slice:
        """The rows of this part in a batch of ``size``.

        Raises:
            UserError: a batch that cannot be dealt out evenly.
        """
        each, rest = divmod(size, self.count)
        if rest or not each:
            raise UserError(
                f"a batch of {size} cannot be dealt out to {self.count} equal parts (processes times accumulate): "
                "expected a multiple; change the batch, or the number of processes"
            )
        return slice(self.index * each, (self.index + 1) * each)


WHOLE = Part()

Drawn = TypeVar("Drawn")


class PartGenerator(torch.Generator):
    """The random numbers of one part of a step's batch.

    Drawn from it directly, each part has numbers of its own. ``whole_draw`` and ``draw_rows`` take them from ``whole``
    instead, which is in the same state in every part.

    Attributes:
        part: which part.
        whole: the generator of the whole batch; this one itself where there is one part.
    """

    part: Part
    whole: torch.Generator

    @classmethod
    def of(cls, seed: int, step: int, device: torch.device | str = "cpu", part: Part = WHOLE) -> PartGenerator:
        """The generator of a step, a function of the arguments alone."""
        generator = cls(device)
        generator.part = part
        generator.whole = torch.Generator(device) if part.count > 1 else generator
        generator.whole.manual_seed(_state(seed, step))
        if part.count > 1:
            generator.manual_seed(_state(seed, step, 1 + part.index))
        return generator


def _state(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def whole_draw(count: int, generator: torch.Generator, draw: Callable[[int, torch.Generator], Drawn]) -> Drawn:
    """Random numbers of the whole batch, of which ``count`` samples are here.

    Args:
        count: samples of this part.
        generator: a ``PartGenerator``; with any other the batch is whole.
        draw: from the number of samples and a generator to their random numbers.
    """
    if isinstance(generator, PartGenerator):
        return draw(count * generator.part.count, generator.whole)
    return draw(count, generator)


def own_rows(values: Tensor, generator: torch.Generator, dim: int = 0) -> Tensor:
    """The part's own rows of values for the whole batch, whose samples lie along ``dim``."""
    if not isinstance(generator, PartGenerator):
        return values
    rows = generator.part.rows(values.shape[dim])
    return values.narrow(dim, rows.start, rows.stop - rows.start)


def draw_rows(
    count: int, generator: torch.Generator, draw: Callable[[int, torch.Generator], Tensor], dim: int = 0
) -> Tensor:
    """The part's own rows of a draw for the whole batch, see ``whole_draw``."""
    return own_rows(whole_draw(count, generator, draw), generator, dim)


def draw_normal(shape: tuple[int, ...] | torch.Size, generator: torch.Generator, dim: int = 0) -> Tensor:
    """Standard normal numbers of the part's own samples, which lie along ``dim`` of the shape."""

    def draw(count: int, source: torch.Generator) -> Tensor:
        whole = (*shape[:dim], count, *shape[dim + 1 :])
        return torch.randn(whole, generator=source, device=source.device)

    return draw_rows(shape[dim], generator, draw, dim)
