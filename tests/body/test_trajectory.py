from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from egotwin_sim.body.trajectory import RetargetReport, RobotTrajectory, timed_trajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_quat, slerp
from tests.body.motions import robot_model, walking


def spinning(times: np.ndarray) -> np.ndarray:
    """(T, 7 + n): moves along x at 0.5 m/s, turns about z at 1 rad/s, every hinge at 0.2 rad/s."""
    qpos = np.tile(robot_model().standing, (len(times), 1))
    qpos[:, 0] = 0.5 * times
    qpos[:, 3:7] = axis_angle_to_quat(times[:, None] * [0.0, 0.0, 1.0])
    qpos[:, 7:] += 0.2 * times[:, None]
    return qpos


def test_velocities_of_steady_motion_are_exact():
    times = np.arange(6) / 16.0
    qvel = velocities(robot_model().bare, spinning(times), 16.0)
    expected = np.full(qvel.shape, 0.2)
    expected[:, :6] = [0.5, 0.0, 0.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(qvel, expected, atol=1e-9)
    assert not velocities(robot_model().bare, spinning(times)[:1], 16.0).any()


def test_saved_trajectory_comes_back(tmp_path):
    report = RetargetReport(1.5, {"left_knee_y": 0.1}, 0.2, 3.0, np.ones((4, 2), dtype=bool))
    given = replace(walking()[:4], report=report)
    given.save(tmp_path / "trajectory.npz")
    back = RobotTrajectory.load(tmp_path / "trajectory.npz")
    np.testing.assert_array_equal(back.qpos, given.qpos)
    np.testing.assert_array_equal(back.qvel, given.qvel)
    assert back.joint_names == given.joint_names and back.fps == given.fps
    assert back.report.limit_hits == report.limit_hits and back.report.ik_error_mm == 1.5
    np.testing.assert_array_equal(back.report.contacts, report.contacts)
    assert [path.name for path in tmp_path.iterdir()] == ["trajectory.npz"]


def test_files_that_hold_no_trajectory_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", qpos=np.zeros(3))
    for name in ("missing.npz", "text.npz", "other.npz"):
        with pytest.raises(UserError, match=name):
            RobotTrajectory.load(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda q, v: (np.where(np.arange(len(q))[:, None] == 2, np.nan, q), v), "qpos .* not finite at frame 2"),
        (lambda q, v: (q, v * np.inf), "qvel .* not finite"),
        (lambda q, v: (q * 2.0, v), "quaternion at frame .* has length 2"),
        (lambda q, v: (q[:, :-1], v), "qpos has shape"),
        (lambda q, v: (q, v[:-1]), "qvel has shape"),
        (lambda q, v: (q[:0], v[:0]), "T >= 1"),
    ],
)
def test_damaged_trajectories_are_refused(change, complaint):
    given = walking()
    with np.errstate(invalid="ignore"):
        qpos, qvel = change(given.qpos, given.qvel)
    with pytest.raises(UserError, match=complaint):
        RobotTrajectory(qpos, qvel, given.fps, given.joint_names)


def test_rate_and_repeated_names_are_checked():
    given = walking()
    with pytest.raises(UserError, match="fps is 0"):
        replace(given, fps=0.0)
    with pytest.raises(UserError, match="twice"):
        replace(given, joint_names=(given.joint_names[0], *given.joint_names[:-1]))


def test_joints_are_matched_by_name():
    given = walking()
    backwards = given.for_joints(given.joint_names[::-1])
    np.testing.assert_array_equal(backwards.qpos[:, 7:], given.qpos[:, 7:][:, ::-1])
    np.testing.assert_array_equal(backwards.for_joints(given.joint_names).qvel, given.qvel)
    with pytest.raises(UserError, match="belongs to another body: it has no tail and has left_hip_y"):
        given.for_joints(("tail", *given.joint_names[1:]))


def test_points_at_uneven_times_become_even_frames():
    times = np.array([1.0, 1.1, 1.35, 1.5])
    made = timed_trajectory(times, spinning(times), robot_model().joint_names, 20.0, robot_model().bare)
    even = 1.0 + np.arange(11) / 20.0
    np.testing.assert_allclose(made.qpos, spinning(even), atol=1e-9)
    np.testing.assert_allclose(made.qvel[:, 5], 1.0, atol=1e-9)
    half = slerp(spinning(times)[0, 3:7], spinning(times)[1, 3:7], 0.5)
    np.testing.assert_allclose(made.qpos[1, 3:7], half, atol=1e-9)


@pytest.mark.parametrize("times", [[0.0, 0.2, 0.1], [0.0, 0.1, 0.1], [0.0, 0.1, np.nan], [0.0, 0.1]])
def test_unordered_times_are_refused(times):
    points = spinning(np.arange(3.0))
    with pytest.raises(UserError, match="time"):
        timed_trajectory(np.array(times), points, robot_model().joint_names, 20.0, robot_model().bare)
