"""Clips whose every picture says which one it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data import Camera, Clip, LeRobotWriter
from egotwin_sim.motion import Motion, Skeleton

SIZE = 32
_BITS = 12


def _picture(number: int) -> np.ndarray:
    """A picture that shows its number: a colour, and under it twelve squares, white for each bit that is set."""
    picture = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    picture[:16] = (40 * number % 256, 80 * number % 256, 120 * number % 256)
    for bit in range(_BITS):
        row, column = divmod(bit, 6)
        picture[16 + 8 * row : 24 + 8 * row, 5 * column : 5 * column + 5] = 255 * (number >> bit & 1)
    return picture


@pytest.fixture(scope="session")
def number_of() -> Callable[[np.ndarray], int]:
    """Reads a picture's number back, from colour or grey."""

    def read(picture: np.ndarray) -> int:
        grey = picture if picture.ndim == 2 else picture.mean(axis=-1)
        bits = [grey[18 + 8 * (b // 6) : 22 + 8 * (b // 6), 5 * (b % 6) + 1 : 5 * (b % 6) + 4] for b in range(_BITS)]
        return sum(int(square.mean() > 127) << bit for bit, square in enumerate(bits))

    return read


@pytest.fixture(scope="session")
def camera() -> Camera:
    """A camera that looks ahead."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    return Camera.from_fovy(np.pi / 2, SIZE, SIZE, pose)


@pytest.fixture(scope="session")
def make_clip(camera: Camera) -> Callable[..., Clip]:
    """Makes a clip of numbered pictures and a wandering body."""

    def make(first: int, frames: int, text: str = "walks to the red box", depth: bool = True) -> Clip:
        rng = np.random.Generator(np.random.PCG64(first))
        steps = 2 * (frames - 1) + 1
        quat = np.cumsum(rng.normal(size=(steps, 22, 4)) * 0.02, axis=0) + (1.0, 0.0, 0.0, 0.0)
        motion = Motion(
            np.cumsum(rng.normal(size=(steps, 3)) * 0.02, axis=0) + (0.0, 0.0, 0.95),
            quat / np.linalg.norm(quat, axis=-1, keepdims=True),
            Skeleton.default(1.6),
        )
        video = np.stack([_picture(first + i) for i in range(frames)])
        metres = np.where(video.mean(axis=-1) > 127, 9.0, 0.2).astype(np.float32)
        return Clip(video, motion, text, camera, metres if depth else None)

    return make


@pytest.fixture
def write_dataset(tmp_path: Path, camera: Camera, make_clip: Callable[..., Clip]) -> Callable[..., Path]:
    """Writes a dataset of clips of the given lengths; picture numbers count on through the whole dataset."""

    def write(lengths: tuple[int, ...], name: str = "set", **options: object) -> Path:
        root = tmp_path / name
        writer = LeRobotWriter(
            root,
            size=(SIZE, SIZE),
            camera=camera,
            skeleton=Skeleton.default(1.6),
            depth=True,
            **options,  # type: ignore[arg-type]
        )
        first = 0
        for i, length in enumerate(lengths):
            writer.add_clip(make_clip(first, length, f"text {i % 3}"))
            first += length
        splits = {"train": range(len(lengths) - 1), "val": range(len(lengths) - 1, len(lengths))}
        writer.close(splits)
        return root

    return write
