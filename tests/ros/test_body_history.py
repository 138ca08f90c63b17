import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_matrix
from egotwin_sim.ros.body_history import BodyHistory
from egotwin_sim.ros.messages import joint_state_message, pose_message

MS = 1_000_000
NAMES = ("knee", "elbow")


def reading(history: BodyHistory, stamp: int, x: float, names: tuple[str, ...] = NAMES) -> int | None:
    T = np.eye(4)
    T[:3, :3] = axis_angle_to_matrix(np.array([0.0, 0.0, x]))
    T[0, 3] = x
    joints = np.array([x, -x]) if names == NAMES else np.array([-x, x])
    assert history.add_joints(joint_state_message(names, joints, np.zeros(2), stamp)) is None
    return history.add_root(pose_message(T, stamp, "odom"))


def test_a_moment_between_two_readings_is_interpolated() -> None:
    history = BodyHistory(NAMES)
    assert [reading(history, n * 10 * MS, n / 10) for n in range(3)] == [0, 10 * MS, 20 * MS]
    qpos = history.at(15 * MS)
    np.testing.assert_allclose(qpos, [0.15, 0, 0, np.cos(0.075), 0, 0, np.sin(0.075), 0.15, -0.15], atol=1e-12)
    np.testing.assert_allclose(history.at(10 * MS)[7:], [0.1, -0.1])


def test_what_lies_outside_or_in_a_gap_is_not_made_up() -> None:
    history = BodyHistory(NAMES)
    reading(history, 100 * MS, 0.0)
    assert history.at(99 * MS) is None and history.at(101 * MS) is None
    reading(history, 900 * MS, 1.0)
    assert history.at(500 * MS) is None


def test_only_messages_of_one_stamp_are_paired() -> None:
    history = BodyHistory(NAMES)
    history.add_joints(joint_state_message(NAMES, np.zeros(2), np.zeros(2), 5 * MS))
    assert history.add_root(pose_message(np.eye(4), 6 * MS, "odom")) is None
    assert history.newest is None


def test_joints_are_matched_by_name_and_other_bodies_are_refused() -> None:
    history = BodyHistory(NAMES)
    reading(history, 0, 0.5, names=("elbow", "knee"))
    np.testing.assert_allclose(history.at(0)[7:], [0.5, -0.5])
    with pytest.raises(UserError, match="another body"):
        history.add_joints(joint_state_message(("tail",), np.zeros(1), np.zeros(1), 5))


def test_a_clock_that_goes_back_begins_anew() -> None:
    history = BodyHistory(NAMES)
    reading(history, 1000 * MS, 0.0)
    reading(history, 1010 * MS, 0.0)
    reading(history, 20 * MS, 0.3)
    assert history.newest == 20 * MS and history.at(1005 * MS) is None
