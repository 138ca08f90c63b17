from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from egotwin_sim.body.retargeting import ExactRetargeter, MinkRetargeter, retargeter_for
from egotwin_sim.body.robot import our_robot
from egotwin_sim.body.robots import find_robot
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat
from tests.body.motions import synthesised
from tests.body.retargeting.imp import imp, installed

SKELETON = Skeleton.default()
FPS = 16.0


@pytest.fixture(scope="module")
def retargeter(tmp_path_factory: pytest.TempPathFactory) -> MinkRetargeter:
    for package in ("mink", "qpsolvers"):
        installed(package)
    made = retargeter_for(imp(tmp_path_factory.mktemp("imp")))
    assert isinstance(made, MinkRetargeter)
    return made


@pytest.fixture(scope="module")
def walk() -> Motion:
    return synthesised(lambda plan: plan.ground.follow(np.array([[0.0, 0.0], [2.0, 0.0], [2.5, 1.5]]), 0.9), 2.5)


@pytest.fixture(scope="module")
def walked(retargeter: MinkRetargeter, walk: Motion) -> RobotTrajectory:
    return retargeter.retarget(walk)


def resting(frames: int) -> Motion:
    root = np.tile([0.0, 0.0, SKELETON.rest_root_height], (frames, 1))
    return Motion(root, axis_angle_to_quat(np.zeros((frames, SKELETON.num_joints, 3))))


def missed_mm(retargeter: MinkRetargeter, motion: Motion, trajectory: RobotTrajectory) -> dict[str, np.ndarray]:
    """Distance (T,) of each matched body from where it should be, by our joint."""
    place, _ = retargeter.wanted(motion)
    data = mujoco.MjData(retargeter.model)
    reached = np.empty_like(place)
    for t, qpos in enumerate(trajectory.qpos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(retargeter.model, data)
        reached[t] = data.xpos[retargeter.targets.bodies]
    distance = 1000.0 * np.linalg.norm(reached - place, axis=-1)
    return {match.joint: distance[:, i] for i, match in enumerate(retargeter.targets.match)}


@pytest.mark.parametrize("skill", ["walk", "crouch", "reach"])
def test_pelvis_feet_and_hands_get_where_they_should_be(retargeter: MinkRetargeter, walk: Motion, skill: str) -> None:
    motion = (
        walk
        if skill == "walk"
        else synthesised(
            (lambda plan: plan.crouch()) if skill == "crouch" else (lambda plan: plan.reach(None)), 2.5, seed=2
        )
    )
    trajectory = retargeter.retarget(motion)
    missed = missed_mm(retargeter, motion, trajectory)
    for joint in ("pelvis", "left_ankle", "right_ankle"):
        assert missed[joint].max() < 6.0, joint
    for joint in ("left_wrist", "right_wrist"):
        assert missed[joint].mean() < 25.0, joint
    assert trajectory.report is not None and trajectory.report.ik_error_mm < 15.0


def test_our_rest_pose_is_reached(retargeter: MinkRetargeter) -> None:
    trajectory = retargeter.retarget(resting(3))
    np.testing.assert_allclose(trajectory.qpos[:, :3], np.tile(retargeter.targets.standing[:3], (3, 1)), atol=2e-3)
    assert trajectory.report is not None and trajectory.report.penetration_mm < 1.0


def test_the_robot_walks_as_far_as_its_legs_are_long(
    retargeter: MinkRetargeter, walk: Motion, walked: RobotTrajectory
) -> None:
    way = walk.root_position[-1, :2] - walk.root_position[0, :2]
    theirs = walked.qpos[-1, :2] - walked.qpos[0, :2]
    np.testing.assert_allclose(theirs, retargeter.targets.leg_scale(SKELETON) * way, atol=0.01)


def test_planted_feet_stay_planted(walked: RobotTrajectory) -> None:
    report = walked.report
    assert report is not None and report.contacts is not None
    assert report.contacts.shape == (len(walked), 2)
    assert report.contacts.any(axis=1).all() and 0.5 < report.contacts.mean() < 0.95
    assert report.foot_slide_m_s < 0.05 and report.penetration_mm < 15.0


def test_limits_are_kept_and_told(retargeter: MinkRetargeter, walked: RobotTrajectory) -> None:
    """The elbows of the motion bend backwards, those of the robot stop when they are straight."""
    model = retargeter.model
    turns = np.zeros((6, SKELETON.num_joints, 3))
    for side in ("left", "right"):
        turns[:, SKELETON.index[f"{side}_elbow"], 2] = 0.6 if side == "left" else -0.6  # beyond straight
    trajectory = retargeter.retarget(Motion(resting(6).root_position, axis_angle_to_quat(turns)))
    low, high = model.jnt_range[1:].T
    for one in (walked, trajectory):
        assert (one.qpos[:, 7:] >= low - 1e-6).all() and (one.qpos[:, 7:] <= high + 1e-6).all()
    assert trajectory.report is not None and trajectory.report.limit_hits is not None
    assert {"left_elbow_flex", "right_elbow_flex"} <= trajectory.report.limit_hits.keys()
    assert max(trajectory.report.limit_hits.values()) < 1e-6


def test_velocities_belong_to_the_positions(retargeter: MinkRetargeter, walked: RobotTrajectory) -> None:
    np.testing.assert_allclose(walked.qvel, velocities(retargeter.model, walked.qpos, walked.fps), atol=1e-9)
    assert np.abs(walked.qvel[:, 6:]).max() < 12.0  # no hinge flips


def test_chunks_are_nearly_the_whole_clip_and_do_not_jump(
    retargeter: MinkRetargeter, walk: Motion, walked: RobotTrajectory
) -> None:
    chunks, previous = [], None
    for start in range(0, len(walk), 8):
        chunks.append(retargeter.retarget(walk[start : start + 8], previous))
        previous = chunks[-1].qpos[-1]
    qpos = np.concatenate([chunk.qpos for chunk in chunks])
    np.testing.assert_allclose(qpos[:, :3], walked.qpos[:, :3], atol=4e-3)
    np.testing.assert_allclose(qpos[:, 7:], walked.qpos[:, 7:], atol=np.deg2rad(2.0))
    steps, whole = (np.abs(np.diff(one[:, 7:], axis=0)) for one in (qpos, walked.qpos))
    seams = np.arange(8, len(qpos), 8) - 1
    assert (steps[seams] - whole[seams]).max() < np.deg2rad(2.0)
    # The first frame of a chunk knows the step that led to it.
    np.testing.assert_allclose(chunks[1].qvel[0], walked.qvel[8], atol=0.5)


def test_a_clip_under_the_floor_is_lifted_and_one_frame_in_it_is_told(retargeter: MinkRetargeter) -> None:
    sunk = replace(resting(20), root_position=resting(20).root_position - np.array([0.0, 0.0, 0.1], np.float32))
    lifted = retargeter.retarget(sunk)
    assert lifted.report is not None and lifted.report.penetration_mm < 1.0
    root = sunk.root_position.copy()
    root[8:12, 2] -= 0.05  # a few frames deeper than the others
    report = retargeter.retarget(replace(sunk, root_position=root)).report
    assert report is not None
    expected = 50.0 * retargeter.targets.leg_scale(SKELETON)
    assert report.penetration_mm == pytest.approx(expected, rel=0.15)


def test_a_clip_that_slides_is_told(retargeter: MinkRetargeter) -> None:
    motion = resting(20)
    root = motion.root_position.copy()
    root[:, 1] = 0.5 * np.arange(20) / FPS
    report = retargeter.retarget(replace(motion, root_position=root)).report
    assert report is not None
    assert report.foot_slide_m_s == pytest.approx(0.5 * retargeter.targets.leg_scale(SKELETON), rel=0.05)


def test_later_chunks_are_lifted_as_the_first_was(retargeter: MinkRetargeter) -> None:
    """A stream that sinks by 5 cm after its first chunk must be seen to sink."""
    first = retargeter.retarget(resting(8))
    sunk = replace(resting(8), root_position=resting(8).root_position - np.array([0.0, 0.0, 0.05], np.float32))
    second = retargeter.retarget(sunk, first.qpos[-1]).report
    assert second is not None and second.penetration_mm > 20.0
    again = retargeter.retarget(sunk).report
    assert again is not None and again.penetration_mm < 1.0


def test_the_roots_height_is_smoothed_without_being_late(retargeter: MinkRetargeter) -> None:
    still, shaken = resting(21), resting(21)
    root = shaken.root_position.copy()
    root[::2, 2] -= 0.02
    shaken = replace(shaken, root_position=root)
    heights = [retargeter.wanted(motion)[0][:, 0, 2] for motion in (still, shaken)]
    assert np.ptp(heights[1][2:-2]) < 1e-6
    root = still.root_position.copy()
    root[:, 2] -= 0.01 * np.arange(21)
    falling = retargeter.wanted(replace(still, root_position=root))[0][:, 0, 2]
    np.testing.assert_allclose(np.diff(falling), -0.01 * retargeter.targets.leg_scale(SKELETON), atol=1e-6)


@pytest.mark.parametrize("previous", [np.zeros(34), np.full(34, np.nan), np.zeros(5), np.zeros((2, 34))])
def test_previous_coordinates_that_are_none_are_refused(
    retargeter: MinkRetargeter, walk: Motion, previous: np.ndarray
) -> None:
    with pytest.raises(UserError, match=r"expected \(34,\), finite, with a unit quaternion"):
        retargeter.retarget(walk, previous)


def test_a_skeleton_without_a_joint_of_the_table_is_refused(retargeter: MinkRetargeter) -> None:
    names = tuple(name.replace("spine3", "chest") for name in SKELETON.names)
    with pytest.raises(UserError, match="imp follows spine3, which the motion's skeleton lacks"):
        retargeter.retarget(replace(resting(2), skeleton=replace(SKELETON, names=names)))


@pytest.mark.parametrize("missing", ["mink", "daqp"])
def test_without_mink_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    robot = imp(tmp_path)
    with pytest.raises(UserError, match=r"pip install 'egotwin_sim\[ik\]'"):
        MinkRetargeter(robot, robot.table)


def test_every_robot_gets_its_retargeter(tmp_path: Path) -> None:
    assert isinstance(retargeter_for(our_robot()), ExactRetargeter)
    with pytest.raises(UserError, match="neither a skeleton nor a retarget table"):
        retargeter_for(replace(our_robot(), skeleton=None))


@pytest.mark.parametrize(("name", "package"), [("g1", "mjlab"), ("cmu", "dm_control")])
def test_shipped_robots_follow_a_walk(name: str, package: str, walk: Motion) -> None:
    for needed in (package, "mink"):
        installed(needed)
    retargeter = retargeter_for(find_robot(name))
    assert isinstance(retargeter, MinkRetargeter)
    trajectory = retargeter.retarget(walk)
    missed = missed_mm(retargeter, walk, trajectory)
    for joint in ("pelvis", "left_ankle", "right_ankle"):
        assert missed[joint].max() < 10.0, joint
    for joint in ("left_wrist", "right_wrist"):
        assert missed[joint].max() < 20.0, joint
    report = trajectory.report
    assert report is not None and report.contacts is not None
    assert report.ik_error_mm < 6.0 and report.foot_slide_m_s < 0.05 and report.penetration_mm < 15.0
    assert report.contacts.any(axis=1).mean() > 0.9
    assert np.abs(trajectory.qvel[:, 6:]).max() < 12.0
