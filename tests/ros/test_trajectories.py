import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from builtin_interfaces.msg import Duration
from trajectory_msgs.msg import JointTrajectory

from egotwin_sim.body.robot import RobotModel, our_robot
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.ros.trajectories import ROOT_JOINTS, trajectory_message, trajectory_of


@pytest.fixture(scope="module")
def robot() -> RobotModel:
    return RobotModel(our_robot())


@pytest.fixture
def walk(robot: RobotModel) -> RobotTrajectory:
    qpos = np.tile(robot.standing, (9, 1))
    qpos[:, 0] = np.linspace(0.0, 0.5, 9)
    qpos[:, 7:] += 0.01 * np.sin(np.arange(9)[:, None] / 3 + np.arange(qpos.shape[1] - 7))
    return RobotTrajectory(qpos, velocities(robot.bare, qpos, 16.0), 16.0, robot.joint_names)


def message(walk: RobotTrajectory) -> JointTrajectory:
    return trajectory_message(walk, 0, "odom")


def test_a_trajectory_comes_back(robot: RobotModel, walk: RobotTrajectory) -> None:
    back, delay = trajectory_of(message(walk), robot, robot.standing[:7])
    assert delay == 0.0 and back.fps == pytest.approx(16.0)
    np.testing.assert_allclose(back.qpos, walk.qpos, atol=1e-12)
    np.testing.assert_allclose(back.qvel, walk.qvel, atol=1e-6)


def test_joints_are_matched_by_name(robot: RobotModel, walk: RobotTrajectory) -> None:
    shuffled = message(walk)
    order = np.random.default_rng(0).permutation(len(shuffled.joint_names))
    shuffled.joint_names = [shuffled.joint_names[i] for i in order]
    for point in shuffled.points:
        point.positions = np.array(point.positions)[order]
    np.testing.assert_allclose(trajectory_of(shuffled, robot, robot.standing[:7])[0].qpos, walk.qpos, atol=1e-12)


def test_without_the_root_it_stays_where_it_is(robot: RobotModel, walk: RobotTrajectory) -> None:
    hinges = message(walk)
    hinges.joint_names = hinges.joint_names[7:]
    for point in hinges.points:
        point.positions = point.positions[7:]
    here = np.array([3.0, 2.0, 0.9, 0.0, 0.0, 0.0, 1.0])
    back, _ = trajectory_of(hinges, robot, here)
    np.testing.assert_allclose(back.qpos[:, :7], np.tile(here, (9, 1)))
    np.testing.assert_allclose(back.qpos[:, 7:], walk.qpos[:, 7:])


def test_uneven_points_are_resampled_and_the_first_delay_is_told(robot: RobotModel, walk: RobotTrajectory) -> None:
    uneven = message(walk)
    times = np.array([0.25, 0.25, 0.5, 0.55, 0.6, 1.0, 1.1, 1.2, 1.25])
    for point, time in zip(uneven.points, times, strict=True):
        point.time_from_start = Duration(sec=int(time), nanosec=round((time % 1) * 1e9))
    back, delay = trajectory_of(uneven, robot, robot.standing[:7])
    assert delay == 0.25 and back.fps == 60.0
    expected = np.interp(0.25 + np.arange(len(back)) / 60, times[1:], walk.qpos[1:, 0])  # of two at once, the last
    np.testing.assert_allclose(back.qpos[:, 0], expected, atol=1e-9)
    assert back.duration == pytest.approx(1.0)


def refused(robot: RobotModel, bad: JointTrajectory, match: str) -> None:
    with pytest.raises(UserError, match=match):
        trajectory_of(bad, robot, robot.standing[:7])


def test_what_does_not_fit_is_refused_with_the_reason(robot: RobotModel, walk: RobotTrajectory) -> None:
    bad = message(walk)
    bad.joint_names[9] = "tail_x"
    refused(robot, bad, "another body.*has tail_x")

    bad = message(walk)
    bad.points[3].positions[4] = float("nan")
    refused(robot, bad, "point 3 .*NaN")

    bad = message(walk)
    bad.points[5].time_from_start = Duration(sec=0, nanosec=1)
    refused(robot, bad, "point 5 .*before the one before it")

    bad = message(walk)
    bad.points[2].positions = bad.points[2].positions[:-1]
    refused(robot, bad, "point 2 has 72 positions; expected 73|point 2 has")

    bad = message(walk)
    for point in bad.points:
        point.positions[3] = 2.0
    refused(robot, bad, "quaternion")

    bad = message(walk)
    bad.joint_names[0] = ROOT_JOINTS[1]
    refused(robot, bad, "of the root; give all")

    refused(robot, JointTrajectory(joint_names=[*ROOT_JOINTS, *robot.joint_names]), "no points")


def test_a_trajectory_for_another_body_is_refused(robot: RobotModel) -> None:
    bad = JointTrajectory(joint_names=["left_hip_pitch_joint", "left_knee_joint"])
    from trajectory_msgs.msg import JointTrajectoryPoint

    bad.points = [JointTrajectoryPoint(positions=[0.0, 0.1])]
    refused(robot, bad, "another body")
