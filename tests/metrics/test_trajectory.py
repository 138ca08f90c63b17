"""Trajectories and their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.trajectory import Trajectory, read_tum, write_tum


def test_a_file_brings_back_what_was_recovered(walk: Callable[..., np.ndarray], tmp_path: Path) -> None:
    recovered = np.arange(41) % 5 > 0
    written = Trajectory(np.arange(41) / 8, walk(), recovered)
    write_tum(written, tmp_path / "clip.txt")
    text = (tmp_path / "clip.txt").read_text()
    assert text.startswith("# timestamp tx ty tz qx qy qz qw\n") and len(text.splitlines()) == 1 + recovered.sum()
    read = read_tum(tmp_path / "clip.txt")
    assert read.recovered.all()
    np.testing.assert_allclose(read.times_s, written.times_s[recovered], atol=1e-9)
    np.testing.assert_allclose(read.T_world_camera, walk()[recovered], atol=1e-8)
    again = read.at(written.times_s)
    np.testing.assert_array_equal(again.recovered, recovered)


def test_a_line_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "slam.txt"
    half = np.sqrt(0.5)
    path.write_text(f"# a comment\n\n0.5 1 2 3 0 0 {half} {half}\n0.625, 1, 2, 3, 0, 0, 0, 1\n")
    read = read_tum(path)
    np.testing.assert_allclose(read.times_s, [0.5, 0.625])
    # A quarter turn about z: the camera's x axis points along the world's y axis.
    np.testing.assert_allclose(read.T_world_camera[0, :3, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(read.T_world_camera[0, :3, 3], [1, 2, 3])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1 2 3 0 0 1", "line 2.*eight numbers"),
        ("1 0 0 0 0 1 0 0 0 0 1 0", "line 2.*eight numbers"),  # KITTI: a 3 x 4 matrix
        ("0 1 2 x 0 0 0 1", "line 2.*eight numbers"),
        ("0 1 2 nan 0 0 0 1", "line 2.*eight numbers"),
        ("1 0.5 0.5 0.5 0.5 1 2 3", "quaternion.*order of the columns"),  # COLMAP: the quaternion first
        ("0 0 0 0 0 0 0 1\n0 0 0 0 0 0 0 1", "line 3: time 0 does not come after 0"),
    ],
)
def test_other_formats_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "slam.txt"
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(UserError, match=message):
        read_tum(path)


def test_a_missing_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_tum(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("# nothing was tracked\n")
    assert not read_tum(tmp_path / "empty.txt").at(np.arange(5) / 8).recovered.any()
    with pytest.raises(UserError, match="not a folder"):
        write_tum(Trajectory.lost(3, 8.0), tmp_path / "no" / "clip.txt")


def test_frames_of_other_times_are_not_made_up(walk: Callable[..., np.ndarray]) -> None:
    found = Trajectory(np.array([0.0, 0.13, 0.5]), walk(3), np.array([True, True, True]))
    at = found.at(np.arange(5) / 8)
    np.testing.assert_array_equal(at.recovered, [True, True, False, False, True])
    np.testing.assert_array_equal(at.T_world_camera[1], found.T_world_camera[1])
    assert np.isnan(at.T_world_camera[2]).all()


def test_what_was_not_recovered_is_no_number(walk: Callable[..., np.ndarray]) -> None:
    found = Trajectory(np.arange(4.0), walk(4), np.array([True, False, True, True]))
    assert np.isnan(found.T_world_camera[1]).all() and np.isfinite(found.T_world_camera[0]).all()
    assert not Trajectory.lost(4, 8.0).recovered.any() and len(Trajectory.lost(4, 8.0)) == 4
    assert Trajectory.of(walk(4), 8.0).recovered.all()


def test_no_rigid_pose_is_refused(walk: Callable[..., np.ndarray]) -> None:
    poses = walk(4)
    poses[2, :3, :3] *= 1.1
    with pytest.raises(UserError, match="pose of frame 2"):
        Trajectory.of(poses, 8.0)
    assert Trajectory(np.arange(4.0), poses, np.array([True, True, False, True])).recovered.sum() == 3
    with pytest.raises(UserError, match="increase"):
        Trajectory(np.array([0.0, 1.0, 1.0, 2.0]), walk(4), np.ones(4, bool))
    with pytest.raises(UserError, match="expected"):
        Trajectory(np.arange(3.0), walk(4), np.ones(4, bool))
    mirror = walk(4) @ np.diag([-1.0, 1.0, 1.0, 1.0])
    with pytest.raises(UserError, match="no rigid pose"):
        Trajectory.of(mirror, 8.0)
