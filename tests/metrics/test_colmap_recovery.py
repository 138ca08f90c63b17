"""Structure from motion on rendered frames, where pycolmap is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.colmap_recovery import ColmapRecovery
from egotwin_sim.metrics.consistency import judge_trajectory


def test_without_pycolmap_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(UserError, match=r"needs pycolmap.*\[eval\]"):
        ColmapRecovery()


@pytest.mark.slow
def test_a_walk_through_a_room(filmed_walk) -> None:
    pytest.importorskip("pycolmap")
    recovery = ColmapRecovery(threads=1)
    found = recovery.recover(filmed_walk.video, filmed_walk.camera, 8.0)
    judged = judge_trajectory(found, filmed_walk.T_world_camera, metric=recovery.metric)
    assert judged.recovered and judged.inliers is not None and judged.inliers > 0.5
    assert judged.trans_err_m is not None and judged.trans_err_m < 0.05 * judged.extent_m
    assert judged.rot_err is not None and np.rad2deg(judged.rot_err) < 2.0


def test_a_blank_wall_is_not_recoverable(filmed_walk) -> None:
    pytest.importorskip("pycolmap")
    blank = np.full_like(filmed_walk.video[:4], 128)
    found = ColmapRecovery(threads=1).recover(blank, filmed_walk.camera, 8.0)
    assert len(found) == 4 and not found.recovered.any()
