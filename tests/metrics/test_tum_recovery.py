"""Trajectories that another program recovered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.trajectory import Trajectory, write_tum
from egotwin_sim.metrics.tum_recovery import TumRecovery

CAMERA = Camera.from_fovy(1.5, 16, 16, np.eye(4))
VIDEO = np.zeros((9, 16, 16, 3), np.uint8)


def test_a_clip_is_its_file(walk: Callable[..., np.ndarray], tmp_path: Path) -> None:
    tracked = np.arange(9) != 4
    write_tum(Trajectory(np.arange(9) / 8, walk(9), tracked), tmp_path / "clip-1.txt")
    recovery = TumRecovery(tmp_path)
    assert not recovery.metric and TumRecovery(tmp_path, metric=True).metric
    found = recovery.recover(VIDEO, CAMERA, 8.0, "clip-1")
    np.testing.assert_array_equal(found.recovered, tracked)
    np.testing.assert_allclose(found.T_world_camera[tracked], walk(9)[tracked], atol=1e-8)


def test_a_clip_without_a_file_was_not_recovered(walk: Callable[..., np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no TUM file"):
        TumRecovery(tmp_path)
    write_tum(Trajectory.of(walk(9), 8.0), tmp_path / "other.txt")
    recovery = TumRecovery(tmp_path)
    assert not recovery.recover(VIDEO, CAMERA, 8.0, "clip-1").recovered.any()
    with pytest.raises(UserError, match="give each clip a name"):
        recovery.recover(VIDEO, CAMERA, 8.0)
    (tmp_path / "clip-1.txt").write_text("1 2 3\n")
    with pytest.raises(UserError, match="eight numbers"):
        recovery.recover(VIDEO, CAMERA, 8.0, "clip-1")
