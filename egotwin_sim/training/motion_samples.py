"""What the motion VAE learns from: stretches of motions as features, in memory or mapped from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.errors import UserError
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.motion import Motion, chunk_features
from egotwin_sim.training.rows import Shards, computed_rows

MOTIONS_AT_ONCE = 16
STATISTICS_FRAMES = 400_000
"""Frames that means and spreads are taken of at most, spread evenly over all."""
FORMAT = 1


def clip_samples(motion: Motion, vae: MotionVAE, length: int, offsets: int = 1) -> np.ndarray:
    """Training samples of one clip: float32 (N, R, 1 + 4n, D).

    Args:
        motion: the clip.
        vae: its config says which form: the chunk form gives runs of consecutive chunks, the clip form N = R = 1.
        length: R, at most the clip's number of chunks.
        offsets: runs start at the chunks' starts, and at this many evenly spaced frames within a chunk in all.
    """
    if vae.config.canonical == "clip":
        return vae.representation.encode(motion)[None, None]
    chunk = vae.config.frames_per_chunk
    if len(motion) < 1 + length * chunk:
        raise UserError(
            f"a clip has {len(motion)} motion frames; expected at least {1 + length * chunk}: use longer clips"
        )
    samples = []
    for offset in range(0, chunk, max(1, chunk // offsets)):
        frames = (len(motion) - 1 - offset) // chunk * chunk + 1
        if frames > length * chunk:
            previous = motion[:offset] if offset else None
            chunks = chunk_features(motion[offset : offset + frames], chunk, previous)
            starts = range(0, len(chunks) - length + 1, length)
            samples += [chunks[start : start + length] for start in starts]
    return np.stack(samples)


class MotionSamples:
    """Samples of many clips as one list, the clips of the parts one after the other.

    Args:
        parts: arrays (clips, N, R, 1 + 4n, D) of ``clip_samples``.
    """

    def __init__(self, parts: Sequence[np.ndarray | Shards]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(part.shape[0] * part.shape[1] for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """Samples (B, R, 1 + 4n, D) by number."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        found = []
        for row, owner in zip(rows, owners, strict=True):
            part = self._parts[owner]
            clip, which = divmod(int(row - self._starts[owner]), part.shape[1])
            found.append(part[clip][which])
        return torch.from_numpy(np.stack(found))

    def spread(self) -> Tensor:
        """Samples from all over the list, as many as ``STATISTICS_FRAMES`` allows."""
        first = self[np.array([0])]
        count = min(len(self), max(1, STATISTICS_FRAMES // (first.shape[1] * first.shape[2])))
        return self[np.linspace(0, len(self) - 1, count).round().astype(int)]


def motion_samples(
    readers: Sequence[LeRobotReader], folder: Path, vae: MotionVAE, length: int, offsets: int
) -> MotionSamples:
    """The training samples of data sets, computed once and kept in a folder; processes share the work.

    Raises:
        UserError: clips of different lengths in one data set, or a folder that holds the samples of another one.
    """
    parts = []
    for number, reader in enumerate(readers):
        clips = reader.split("train")

        def compute(rows: range, reader: LeRobotReader = reader, clips: range = clips) -> dict[str, np.ndarray]:
            motions = [reader.motion(clips[row]) for row in rows]
            if len({len(motion) for motion in motions}) > 1:
                raise UserError(f"{reader.root} has clips of different lengths; expected one length: convert it again")
            return {"samples": np.stack([clip_samples(motion, vae, length, offsets) for motion in motions])}

        form = [vae.config.canonical, vae.config.representation, vae.config.frames_per_chunk, length, offsets]
        identity = {"format": FORMAT, "data": str(reader.root.resolve()), "form": form}
        title = f"samples of {reader.root.name}"
        rows = computed_rows(folder / str(number), identity, len(clips), compute, at_once=MOTIONS_AT_ONCE, title=title)
        parts.append(rows["samples"])
    return MotionSamples(parts)
