from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from egotwin_sim.body.kinematics import BodyKinematics
from egotwin_sim.body.retargeting import ExactRetargeter
from egotwin_sim.body.robot import our_robot
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_to_matrix
from tests.body.motions import synthesised
from tests.body.retargeting.imp import imp

FPS = 16.0


@pytest.fixture(scope="module")
def retargeter() -> ExactRetargeter:
    return ExactRetargeter(our_robot())


@pytest.fixture(scope="module")
def walk() -> Motion:
    return synthesised(lambda plan: plan.ground.follow(np.array([[0.0, 0.0], [3.0, 0.0]]), 0.9), 2.0)


def test_the_motion_comes_back(retargeter: ExactRetargeter, walk: Motion) -> None:
    trajectory = retargeter.retarget(walk)
    back = BodyKinematics(retargeter.model).motion_from_qpos(trajectory.qpos, trajectory.fps)
    np.testing.assert_allclose(back.root_position, walk.root_position, atol=1e-6)
    np.testing.assert_allclose(quat_to_matrix(back.joint_quat_wxyz), quat_to_matrix(walk.joint_quat_wxyz), atol=2e-6)
    assert trajectory.report is not None and trajectory.report.ik_error_mm == 0.0


def test_columns_are_named_in_the_order_of_the_model(retargeter: ExactRetargeter, walk: Motion) -> None:
    trajectory = retargeter.retarget(walk)
    model = retargeter.model
    data = mujoco.MjData(model)
    data.qpos[:] = trajectory.qpos[7]
    for i, name in enumerate(trajectory.joint_names):
        assert data.joint(name).qpos[0] == trajectory.qpos[7, 7 + i]


def test_chunks_are_the_whole_clip(retargeter: ExactRetargeter, walk: Motion) -> None:
    whole, previous = retargeter.retarget(walk), None
    for start in range(0, len(walk), 8):
        chunk = retargeter.retarget(walk[start : start + 8], previous)
        np.testing.assert_allclose(chunk.qpos, whole.qpos[start : start + 8], atol=1e-12)
        # All but a chunk's last frame, whose next frame is not known yet.
        np.testing.assert_allclose(chunk.qvel[:-1], whole.qvel[start : start + 8][:-1], atol=1e-9)
        previous = chunk.qpos[-1]


def test_what_is_off_is_reported_and_kept(retargeter: ExactRetargeter) -> None:
    """A body that is carried along, 2 cm in the floor, with a knee bent the wrong way."""
    skeleton = retargeter.skeleton
    turns = np.zeros((12, skeleton.num_joints, 3))
    turns[3, skeleton.index["left_knee"], 1] = np.deg2rad(-40.0)
    root = np.zeros((12, 3))
    root[:, 0] = 0.3 * np.arange(12) / FPS
    root[:, 2] = skeleton.rest_root_height - 0.02
    report = retargeter.retarget(Motion(root, axis_angle_to_quat(turns))).report
    assert report is not None and report.contacts is not None
    assert report.penetration_mm == pytest.approx(20.0, abs=0.1)
    assert report.foot_slide_m_s == pytest.approx(0.3, rel=0.05)  # the left foot is lifted once
    assert report.limit_hits == {"left_knee_y": pytest.approx(np.deg2rad(30.0), abs=1e-4)}
    assert report.contacts[:, 1].all() and not report.contacts[3, 0]


def test_a_motion_of_another_body_is_refused(retargeter: ExactRetargeter, walk: Motion) -> None:
    with pytest.raises(UserError, match="another skeleton"):
        retargeter.retarget(replace(walk, skeleton=Skeleton.default(1.5)))


@pytest.mark.parametrize("previous", [np.zeros(7), np.full(70, np.nan)])
def test_previous_coordinates_that_are_none_are_refused(
    retargeter: ExactRetargeter, walk: Motion, previous: np.ndarray
) -> None:
    with pytest.raises(UserError, match=r"previous coordinates.*expected \(70,\), finite"):
        retargeter.retarget(walk, previous)


def test_a_robot_without_our_skeleton_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="imp has no skeleton of ours"):
        ExactRetargeter(imp(tmp_path))
