"""Clips of several data sets in batches of one frame size each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.training.latents import LatentClips
from egotwin_sim.training.parts import WHOLE, Part
from egotwin_sim.training.trainer import batch_indices


class Bucket:
    """The clips of one or more data sets whose frames have the same size, one data set after the other.

    Args:
        sets: at least one.
    """

    def __init__(self, sets: Sequence[LatentClips]) -> None:
        self.sets = list(sets)
        self._starts = np.cumsum([0, *map(len, sets)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def num_latents(self) -> int:
        """Latents of every clip, latent 0 included."""
        return self.sets[0].num_latents

    def batch(self, clips: np.ndarray, first: int = 0, last: int | None = None) -> dict[str, Tensor]:
        """As ``LatentClips.batch``, in the order of ``clips``."""
        if len(self.sets) == 1:
            return self.sets[0].batch(clips, first, last)
        owner = np.searchsorted(self._starts, clips, side="right") - 1
        order = np.argsort(owner, kind="stable")
        parts = [self.sets[own].batch(clips[owner == own] - self._starts[own], first, last) for own in np.unique(owner)]
        place = torch.from_numpy(np.argsort(order))
        shared = {"positions": parts[0]["positions"]}
        return {
            name: torch.cat([part[name] for part in parts])[place] for name in parts[0] if name not in shared
        } | shared


class Buckets:
    """Batches of clips, a function of the step.

    Every batch is of one bucket. In a round of steps each bucket comes as often as its clips fill batches, at least
    once, in an order that is drawn anew for every round.

    Args:
        sets: at least one; those of the same shape share a bucket.
    """

    def __init__(self, sets: Sequence[LatentClips]) -> None:
        shapes = list(dict.fromkeys(one.shape for one in sets))
        self.buckets = [Bucket([one for one in sets if one.shape == shape]) for shape in shapes]

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def choose(self, batch_size: int, seed: int, step: int, part: Part = WHOLE) -> tuple[Bucket, np.ndarray]:
        """A part of the batch of a step: its bucket, and clips (batch_size / part.count,) of it."""
        counts = tuple(max(1, round(len(bucket) / batch_size)) for bucket in self.buckets)
        turn, place = divmod(step, sum(counts))
        order = _order(counts, seed, turn)
        chosen = int(order[place])
        before = turn * counts[chosen] + int((order[:place] == chosen).sum())
        bucket = self.buckets[chosen]
        return bucket, batch_indices(len(bucket), batch_size, seed, before, part)

    def null(self) -> tuple[Tensor, Tensor]:
        """The null text's tokens (Lt, Dt) and mask (Lt,)."""
        return self.buckets[0].sets[0].null()


@lru_cache(maxsize=4)
def _order(counts: tuple[int, ...], seed: int, turn: int) -> np.ndarray:
    return np.random.default_rng((seed, turn, 5)).permutation(np.repeat(np.arange(len(counts)), counts))
