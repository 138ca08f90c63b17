"""A seeded generator for the tests of the metrics, and the benchmark scripts as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from egotwin_sim.data import Camera
from egotwin_sim.motion.rotations import axis_angle_to_matrix

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that every test starts afresh."""
    return np.random.Generator(np.random.PCG64(7))


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Imports a benchmark script by name; scripts import one another as they lie in their folder."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(BENCHMARKS))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(BENCHMARKS))

    return load


@pytest.fixture
def walk() -> Callable[..., np.ndarray]:
    """Makes camera poses (T, 4, 4) of a head that walks a bend, bobs and looks around; metres."""

    def make(count: int = 41, length: float = 2.0, seed: int = 1) -> np.ndarray:
        rng = np.random.Generator(np.random.PCG64(seed))
        at = np.linspace(0.0, 1.0, count)
        poses = np.tile(np.eye(4), (count, 1, 1))
        angles = np.stack([0.3 * np.sin(9 * at + rng.uniform(0, 6)) for _ in range(3)], axis=-1) + [0.0, 0.0, 1.0]
        poses[:, :3, :3] = axis_angle_to_matrix(angles * at[:, None])
        poses[:, :3, 3] = length * np.stack([np.sin(at), 1 - np.cos(at), 0.02 * np.sin(25 * at)], axis=-1)
        return poses

    return make


class Filmed(NamedTuple):
    """A walk through a room of the synthesiser, filmed by the head camera."""

    video: np.ndarray
    camera: Camera
    T_world_camera: np.ndarray


@pytest.fixture(scope="session")
def filmed_walk() -> Filmed:
    """41 frames of 320 x 320 pixels at 8 frames/s; the head goes about two metres."""
    from egotwin_sim.room.layout import sample_layout
    from egotwin_sim.room.synthesis import synthesise
    from egotwin_sim.room.world import RoomWorld

    world = RoomWorld(sample_layout(0), size=320)
    try:
        motion = synthesise(world.layout, 2, seconds=5.0).motion[::2]
        video, _ = world.record(motion, np.zeros(len(motion)), every=1)
        camera = Camera(world.intrinsics, world.T_head_camera)
        return Filmed(video, camera, motion.T_world_head() @ camera.T_head_camera)
    finally:
        world.close()
