"""Tracked corners and the essential matrix on rendered frames, where OpenCV is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.consistency import judge_trajectory
from egotwin_sim.metrics.opencv_recovery import OpenCVRecovery, _triangulate


def test_without_opencv_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"needs opencv-python-headless.*\[eval\]"):
        OpenCVRecovery()


def test_points_between_two_rays(rng: np.random.Generator) -> None:
    points = rng.uniform([-1, -1, 2], [1, 1, 5], (20, 3))
    rotation, shift = np.eye(3), np.array([0.3, 0.0, 0.1])
    there = points @ rotation.T + shift
    a, b = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (points, there))
    np.testing.assert_allclose(_triangulate(a, b, rotation, shift), points, atol=1e-9)


def test_a_walk_through_a_room(filmed_walk) -> None:
    pytest.importorskip("cv2")
    recovery = OpenCVRecovery()
    found = recovery.recover(filmed_walk.video, filmed_walk.camera, 8.0)
    judged = judge_trajectory(found, filmed_walk.T_world_camera, metric=recovery.metric)
    assert judged.recovered and judged.registered > 0.9
    assert judged.inliers is not None and judged.inliers > 0.5
    assert judged.trans_err_m is not None and judged.trans_err_m < 0.1 * judged.extent_m
    assert judged.rot_err is not None and np.rad2deg(judged.rot_err) < 5.0
    again = recovery.recover(filmed_walk.video, filmed_walk.camera, 8.0)
    np.testing.assert_array_equal(found.T_world_camera, again.T_world_camera)


def test_a_blank_wall_is_not_recoverable(filmed_walk) -> None:
    pytest.importorskip("cv2")
    blank = np.full_like(filmed_walk.video[:6], 128)
    found = OpenCVRecovery().recover(blank, filmed_walk.camera, 8.0)
    assert not found.recovered.any() and found.inliers == 0.0
    cut = np.concatenate([filmed_walk.video[:5], blank[:1], filmed_walk.video[6:20]])
    assert OpenCVRecovery().recover(cut, filmed_walk.camera, 8.0).recovered.tolist() == [False] * 6 + [True] * 14
