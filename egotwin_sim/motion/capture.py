"""A motion capture recording on its own skeleton, as a file gives it, before it is retargeted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_matrix


@dataclass(frozen=True)
class Capture:
    """Frames of a source skeleton, in the file's own axes and unit of length.

    Attributes:
        source: the file, for messages.
        names: N joint names, parents before children.
        parents: (N,) index of the parent, -1 for the root.
        offsets: (N, 3), from the parent in the parent's frame.
        tips: ends of joints without children: joint index and offset (3,).
        rotations: (T, N, 3, 3), relative to the parent.
        translations: by joint index, (T, 3) that replace the joint's offset.
        fps: frames per second.
    """

    source: str
    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    tips: tuple[tuple[int, np.ndarray], ...]
    rotations: np.ndarray
    translations: dict[int, np.ndarray] = field(default_factory=dict)
    fps: float = 120.0

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.rotations)

    def transforms(self) -> tuple[np.ndarray, np.ndarray]:
        """World positions (T, N, 3) and rotations (T, N, 3, 3)."""
        rotation = np.empty_like(self.rotations)
        position = np.empty(self.rotations.shape[:-1])
        for joint, parent in enumerate(self.parents):
            shift = self.translations.get(joint, self.offsets[joint])
            if parent < 0:
                rotation[:, joint] = self.rotations[:, joint]
                position[:, joint] = shift
                continue
            above = rotation[:, parent]
            rotation[:, joint] = above @ self.rotations[:, joint]
            shift = np.broadcast_to(shift, (len(self), 3))
            position[:, joint] = position[:, parent] + (above @ shift[:, :, None])[:, :, 0]
        return position, rotation

    def rest_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """World positions (N, 3) and rotations (N, 3, 3) with every rotation zero."""
        position = np.zeros((len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            position[joint] = self.offsets[joint] + (position[parent] if parent >= 0 else 0.0)
        return position, np.broadcast_to(np.eye(3), (len(self.names), 3, 3))


def euler_matrix(degrees: np.ndarray, axes: str) -> np.ndarray:
    """Rotations (..., 3, 3) of Euler angles (..., n): the product in the order of the axes, first one outermost."""
    matrix = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for i, axis in enumerate(axes):
        matrix = matrix @ axis_matrix(axis, np.radians(degrees[..., i]))
    return matrix


class Lines:
    """The non-empty lines of a text file, and errors that name the file and the line."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file; a UserError if that fails."""
        self.path = Path(path)
        self.number = 0
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}; give the path of an existing file") from error
        self._lines = text.splitlines()

    def __iter__(self) -> Iterator[str]:
        """The rest of the lines, stripped, without empty ones."""
        while (line := self.next()) is not None:
            yield line

    def next(self) -> str | None:
        """The next line that is not empty, stripped; None at the end of the file."""
        while self.number < len(self._lines):
            self.number += 1
            if line := self._lines[self.number - 1].strip():
                return line
        return None

    def expect(self, what: str) -> str:
        """The next line that is not empty; an error that names `what` at the end of the file."""
        line = self.next()
        if line is None:
            raise self.error(f"the file ends where {what} was expected; it is cut short")
        return line

    def error(self, message: str) -> UserError:
        """An error at the current line."""
        return UserError(f"{self.path}:{self.number}: {message}")

    def numbers(self, words: list[str], what: str) -> np.ndarray:
        """Finite numbers (n,) from words."""
        try:
            values = np.array(words, dtype=np.float64)
        except ValueError:
            raise self.error(f"{what} has something that is not a number: {' '.join(words)[:80]}") from None
        if not np.isfinite(values).all():
            bad = words[int(np.argmin(np.isfinite(values)))]
            raise self.error(f"{what} has the value {bad}; expected finite numbers: repair or cut the file there")
        return values
