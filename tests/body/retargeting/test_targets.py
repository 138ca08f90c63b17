from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from egotwin_sim.body.retargeting.targets import Targets
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat
from tests.body.motions import synthesised
from tests.body.retargeting.imp import ARM, LEG, imp, table

SKELETON = Skeleton.default()
OUR_LEG = SKELETON.rest_root_height + SKELETON.offsets[SKELETON.index["left_hip"], 2]


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory):
    return imp(tmp_path_factory.mktemp("imp"))


@pytest.fixture(scope="module")
def targets(robot) -> Targets:
    return Targets(robot.make_spec().compile(), robot.table)


def resting(frames: int = 1) -> Motion:
    root = np.tile([0.0, 0.0, SKELETON.rest_root_height], (frames, 1))
    return Motion(root, axis_angle_to_quat(np.zeros((frames, SKELETON.num_joints, 3))))


def test_scales_are_those_of_legs_and_arms(targets: Targets) -> None:
    assert targets.leg_length == pytest.approx(LEG)
    assert targets.arm_length == pytest.approx(ARM)
    assert targets.leg_scale(SKELETON) == pytest.approx(LEG / OUR_LEG)
    assert targets.arm_scale(SKELETON) == pytest.approx(ARM / 0.55)
    assert targets.leg_scale(Skeleton.default(1.0)) == pytest.approx(LEG / OUR_LEG * 1.75)


def test_our_rest_pose_is_the_pose_of_the_table(targets: Targets, robot) -> None:
    model = robot.make_spec().compile()
    data = mujoco.MjData(model)
    data.qpos[:] = targets.standing
    mujoco.mj_kinematics(model, data)
    place, turn = targets.poses(resting())
    np.testing.assert_allclose(place[0], data.xpos[targets.bodies], atol=1e-6)
    np.testing.assert_allclose(turn[0].reshape(-1, 9), data.xmat[targets.bodies], atol=1e-6)
    assert targets.sole_heights(resting())[0] == pytest.approx(0.0, abs=1e-6)


def test_a_planted_foot_of_ours_is_a_planted_foot_of_the_robot(targets: Targets) -> None:
    walk = synthesised(lambda plan: plan.ground.follow(np.array([[0.0, 0.0], [3.0, 0.0]]), 0.9), 2.0)
    place, _ = targets.poses(walk)
    ours = walk.joint_transforms()[0]
    for side in ("left", "right"):
        mine = next(i for i, match in enumerate(targets.match) if match.joint == f"{side}_ankle")
        moved = np.linalg.norm(np.diff(ours[:, SKELETON.index[f"{side}_ankle"]], axis=0), axis=1)
        rests = moved < 1e-4
        assert rests.sum() > 5
        assert np.linalg.norm(np.diff(place[:, mine], axis=0), axis=1)[rests].max() < 2e-4


def test_turning_and_shifting_the_motion_turns_and_shifts_the_targets(targets: Targets) -> None:
    motion = synthesised(lambda plan: plan.crouch(), 2.0)
    yaw, shift = 0.8, np.array([1.0, -2.0, 0.0])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    place, rotation = targets.poses(motion)
    moved, rotated = targets.poses(motion.transformed(yaw, shift))
    np.testing.assert_allclose(moved, place @ turn.T + targets.leg_scale(SKELETON) * shift, atol=1e-5)
    np.testing.assert_allclose(rotated, turn @ rotation, atol=1e-5)


def test_the_table_may_give_the_scales(tmp_path: Path) -> None:
    robot = imp(tmp_path, {**table(), "scale": {"legs": 0.5, "arms": 0.4}})
    targets = Targets(robot.make_spec().compile(), robot.table)
    assert targets.leg_scale(SKELETON) == 0.5 and targets.arm_scale(SKELETON) == 0.4
    np.testing.assert_allclose(targets.poses(resting())[0][0, 0], targets.standing[:3], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pose": {}}, "left arm, left_upper_arm to left_hand, points along .* check `root`, `pose`"),
        ({"pose": {"left_shoulder_lean": -90, "right_shoulder_lean": 90}}, "left arm"),
        ({"legs": {s: [f"{s}_foot", f"{s}_thigh"] for s in ("left", "right")}}, "left leg, left_foot to left_thigh"),
        ({"legs": {s: [f"{s}_foot", f"{s}_foot"] for s in ("left", "right")}}, "left leg, left_foot to left_foot"),
        ({"root": {"forward": [0, -1, 0], "up": [1, 0, 0]}}, "left arm"),
    ],
)
def test_a_pose_that_is_no_t_pose_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    robot = imp(tmp_path, {**table(), **change})
    with pytest.raises(UserError, match=message):
        Targets(robot.make_spec().compile(), robot.table)


def test_the_root_must_follow_our_pelvis(tmp_path: Path) -> None:
    first, second, *others = table()["match"]
    values = {**table(), "match": [{**first, "joint": "spine1"}, {**second, "joint": "pelvis"}, *others]}
    robot = imp(tmp_path, values)
    with pytest.raises(UserError, match="the body with the free joint, 'hips', must follow our pelvis"):
        Targets(robot.make_spec().compile(), robot.table)
