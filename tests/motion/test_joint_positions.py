"""Bodies fitted to joint positions: joints where they were given, trunk and limbs turned as they were."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.joint_positions import fit_positions
from egotwin_sim.motion.mirror import mirrored
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply, rotation_angle

INDEX = Skeleton.default().index


def hinged(seed: int, frames: int, skeleton: Skeleton | None = None) -> Motion:
    """A body whose knees and elbows bend as hinges and whose neck does not turn: all that positions can tell."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / 20.0
    swing = 0.35 * np.sin(rng.uniform(1, 4, (1, 22, 3)) * time + rng.uniform(0, 6, (1, 22, 3)))
    bend = 0.7 + 0.4 * np.sin(3.0 * time[:, 0, 0])
    for name in ("spine1", "spine2", "left_wrist", "right_wrist", "left_foot", "right_foot", "head"):
        swing[:, INDEX[name]] = 0.0
    swing[:, INDEX["neck"], [0, 2]] = 0.0
    for name in ("left_collar", "right_collar", "left_ankle", "right_ankle"):
        swing[:, INDEX[name]] = 0.0
    for side, sign in (("left", -1.0), ("right", 1.0)):
        swing[:, INDEX[f"{side}_knee"]] = np.stack((0 * bend, bend, 0 * bend), axis=-1)
        swing[:, INDEX[f"{side}_elbow"]] = np.stack((0 * bend, 0 * bend, sign * bend), axis=-1)
    quat = axis_angle_to_quat(swing)
    yaw = time[:, 0, 0] * 0.8
    quat[:, 0] = quat_multiply(axis_angle_to_quat(np.stack((0 * yaw, 0 * yaw, yaw), axis=-1)), quat[:, 0])
    root = np.stack((time[:, 0, 0], 0.3 * time[:, 0, 0], 0.9 + 0 * yaw), axis=-1)
    return Motion(root, quat, skeleton or Skeleton.default(), 20.0)


@pytest.mark.parametrize("stature", [1.75, 1.5])
def test_a_body_comes_back_from_its_joints(stature):
    motion = hinged(0, 60, Skeleton.default(stature))
    position, rotation = motion.joint_transforms()
    fit = fit_positions(position, 20.0)
    assert fit.error_m.shape == (60, 22) and fit.error_m.max() < 1e-4
    assert len(fit.motion) == 60 and fit.motion.fps == 20.0
    np.testing.assert_allclose(fit.motion.skeleton.offsets, motion.skeleton.offsets, atol=1e-4)
    np.testing.assert_allclose(fit.motion.skeleton.head_offset, motion.skeleton.head_offset, atol=1e-4)
    degrees = np.degrees(rotation_angle(fit.motion.joint_transforms()[1], rotation)).max(axis=0)
    # A limb's turn about itself is drawn a little to that of who carries it, the less the more it is bent.
    for name, most in (("pelvis", 0.1), ("spine3", 0.1), ("left_hip", 15), ("right_shoulder", 15), ("head", 0.2)):
        assert degrees[INDEX[name]] < most, (name, degrees)


@pytest.mark.parametrize("seed", range(3))
def test_joints_stay_where_they_were_whatever_the_pose(seed, wild_motion):
    position, _ = wild_motion(seed, 30).joint_transforms()
    assert fit_positions(position, 16.0).error_m.max() < 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_legs_that_swing_through_straight_knees_do_not_spin(seed, walking_motion):
    motion = walking_motion(seed, 40)
    position, rotation = motion.joint_transforms()
    turned = fit_positions(position, 16.0).motion.joint_transforms()[1]
    legs = [INDEX[f"{side}_{name}"] for side in ("left", "right") for name in ("hip", "knee")]
    assert np.degrees(rotation_angle(turned[:, legs], rotation[:, legs])).max() < 1.0


def test_positions_of_no_fixed_body_say_how_far_off_the_fit_is():
    position, _ = hinged(1, 20).joint_transforms()
    rng = np.random.default_rng(0)
    fit = fit_positions(position + rng.normal(size=position.shape) * 0.02, 20.0)
    assert 0.005 < fit.error_m.mean() < 0.08


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:, :21], r"shape \(5, 21, 3\); expected \(T, 22, 3\)"),
        (lambda p: p[:0], "T >= 1"),
        (lambda p: np.where(np.arange(5)[:, None, None] == 3, np.nan, p), "not finite at frame 3"),
        (lambda p: p * 0, "has no length"),
    ],
)
def test_bad_positions_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        fit_positions(change(hinged(2, 5).joint_transforms()[0]), 20.0)


def test_a_mirror_shows_each_joint_on_the_other_side(wild_motion):
    motion = wild_motion(3, 6)
    offsets = motion.skeleton.offsets + np.random.default_rng(0).normal(size=(22, 3)) * 0.02
    motion = Motion(motion.root_position, motion.joint_quat_wxyz, Skeleton(*_tree(), offsets), 16.0)
    seen = mirrored(motion)
    position = motion.joint_transforms()[0] * [1.0, -1.0, 1.0]
    other = [INDEX[_swapped(name)] for name in motion.skeleton.names]
    np.testing.assert_allclose(seen.joint_transforms()[0], position[:, other], atol=1e-5)
    head = motion.T_world_head()
    np.testing.assert_allclose(seen.T_world_head()[:, :3, 3], head[:, :3, 3] * [1, -1, 1], atol=1e-5)
    np.testing.assert_allclose(seen.T_world_head()[:, :3, 0], head[:, :3, 0] * [1, -1, 1], atol=1e-5)
    again = mirrored(seen)
    np.testing.assert_allclose(again.joint_transforms()[0], motion.joint_transforms()[0], atol=1e-6)


def _tree():
    skeleton = Skeleton.default()
    return skeleton.names, skeleton.parents


def _swapped(name: str) -> str:
    return name.replace("left", "x").replace("right", "left").replace("x", "right") if "_" in name else name
