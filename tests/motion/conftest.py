"""Motions for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply, quat_normalize


@pytest.fixture(scope="session")
def wild_motion():
    """Any pose after any other, anywhere: a function of seed, frames, speed (m/s) and yaw."""

    def make(seed: int, frames: int, speed: float = 3.0, yaw: float = 0.0) -> Motion:
        rng = np.random.default_rng(seed)
        quat = quat_normalize(rng.normal(size=(frames, 22, 4)))
        steps = rng.normal(size=(frames, 3)) * speed / 16.0
        return Motion(rng.normal(size=3) * 20.0 + np.cumsum(steps, axis=0), quat).transformed(yaw)

    return make


@pytest.fixture(scope="session")
def walking_motion():
    """A body that wanders upright with swinging joints and level feet: a function of seed and frames."""

    def make(seed: int, frames: int) -> Motion:
        rng = np.random.default_rng(seed)
        time = np.arange(frames)[:, None, None] / 16.0
        swing = rng.uniform(0.1, 0.4, (1, 22, 3)) * np.sin(
            rng.uniform(1, 5, (1, 22, 3)) * time + rng.uniform(0, 6, (1, 22, 3))
        )
        for joint in (1, 2, 4, 5, 7, 8, 10, 11):
            swing[:, joint, [0, 2]] = 0.0  # the legs swing in one plane, so the feet do not roll
        swing[:, 0] = 0.0
        quat = axis_angle_to_quat(swing)
        yaw = 0.6 * np.sin(0.4 * time[:, 0, 0]) + 0.5 * time[:, 0, 0]
        zero = np.zeros_like(yaw)
        quat[:, 0] = quat_multiply(axis_angle_to_quat(np.stack((zero, zero, yaw), axis=-1)), quat[:, 0])
        step = np.stack((np.cos(yaw), np.sin(yaw), 0.3 * np.sin(7.0 * time[:, 0, 0])), axis=-1) * 1.2 / 16.0
        return Motion(np.cumsum(step, axis=0) + np.array([3.0, -2.0, 0.95]), quat)

    return make
