"""Root-centric features: exact both ways, of no place in the world, integrated from the first frame on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.models import MotionVAE
from egotwin_sim.models.root_geometry import root_body
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.representation import find_representation
from egotwin_sim.motion.root_centric import CONTACT_SPEED, FEET, RootLayout, decode, encode, root_frame
from egotwin_sim.motion.rotations import axis_angle_to_quat


def apart(a: Motion, b: Motion) -> float:
    """Largest distance between corresponding joints and head poses, metres."""
    joints = np.abs(a.joint_transforms()[0] - b.joint_transforms()[0]).max()
    return max(float(joints), float(np.abs(a.T_world_head() - b.T_world_head()).max()))


@pytest.mark.parametrize("seed", range(3))
def test_there_and_back(walking_motion, seed: int) -> None:
    motion = walking_motion(seed, 81)
    features = encode(motion)
    assert features.shape == (81, 263) and features.dtype == np.float32
    assert apart(decode(features, motion.skeleton, motion.fps, root_frame(motion)), motion) < 1e-5


def test_there_and_back_of_any_pose_after_any_other(wild_motion) -> None:
    motion = wild_motion(0, 30)
    assert apart(decode(encode(motion), motion.skeleton, motion.fps, root_frame(motion)), motion) < 1e-4


def test_another_skeleton(walking_motion) -> None:
    walked = walking_motion(0, 9)
    motion = Motion(walked.root_position, walked.joint_quat_wxyz, Skeleton.default(1.6))
    assert apart(decode(encode(motion), motion.skeleton, 16.0, root_frame(motion)), motion) < 1e-5


def test_features_do_not_know_the_world(walking_motion) -> None:
    motion = walking_motion(1, 40)
    np.testing.assert_allclose(encode(motion.transformed(2.0, (9.0, -7.0, 0.0))), encode(motion), atol=2e-4)


def test_each_part_says_what_it_should() -> None:
    # A body that glides ahead at 2 m/s and turns left by 0.1 rad a frame.
    skeleton, frames = Skeleton.default(), 5
    layout = RootLayout(22)
    yaw = 0.1 * np.arange(frames)
    quat = np.zeros((frames, 22, 4))
    quat[..., 0] = 1.0
    quat[:, 0] = axis_angle_to_quat(np.stack((0 * yaw, 0 * yaw, yaw), axis=-1))
    step = np.stack((np.cos(yaw), np.sin(yaw), 0 * yaw), axis=-1) / 8.0
    root = np.concatenate((np.zeros((1, 3)), np.cumsum(step[:-1], axis=0))) + [0.0, 0.0, 0.9]
    features = encode(Motion(root, quat))
    np.testing.assert_allclose(features[1:, layout.root_turn], 0.1, atol=1e-5)
    np.testing.assert_allclose(features[1:, layout.root_step], [[1 / 8, 0.0]] * 4, atol=1e-5)
    np.testing.assert_allclose(features[:, layout.root_height], 0.9, atol=1e-6)
    spine = features[:, layout.joint_positions].reshape(frames, 21, 3)[:, skeleton.index["spine1"] - 1]
    np.testing.assert_allclose(spine, [[0.0, 0.0, 0.9 + 0.11]] * frames, atol=1e-5)
    velocity = features[:, layout.joint_velocities].reshape(frames, 22, 3)[1:, 0]
    np.testing.assert_allclose(velocity, [[2.0, 0.0, 0.0]] * 4, atol=1e-4)
    np.testing.assert_allclose(features[:, layout.joint_rotations].reshape(frames, 21, 6)[..., [0, 4]], 1.0, atol=1e-6)
    np.testing.assert_array_equal(features[0, layout.root_turn], 0.0)
    feet = features[:, layout.foot_contacts]
    assert feet[0].all() and not feet[1:].any()  # gliding feet are no contact; the first frame has no rates
    assert CONTACT_SPEED == pytest.approx(0.894, abs=1e-3) and len(FEET) == 4


def test_what_came_before_gives_the_first_rates(walking_motion) -> None:
    motion = walking_motion(2, 20)
    np.testing.assert_allclose(encode(motion[5:], previous=motion[:5]), encode(motion)[5:], atol=1e-5)


def test_an_error_in_a_turn_stays_for_the_rest_of_the_clip(walking_motion) -> None:
    # What the ablation is about: in the head-centric features the same error would end with its frame.
    motion, layout = walking_motion(0, 81), RootLayout(22)
    features = encode(motion)
    features[20, layout.root_turn] += 0.3
    wrong = decode(features, motion.skeleton, 16.0, root_frame(motion))
    apart_at = np.linalg.norm(wrong.root_position - motion.root_position, axis=-1)
    assert apart_at[:20].max() < 1e-5 and apart_at[40] > 0.1 and apart_at[80] > 0.2


def test_groups_hold_every_feature_once() -> None:
    layout = RootLayout(22)
    assert sorted(np.concatenate(list(layout.groups.values()))) == list(range(263))
    assert list(layout.slices)[0] == "root_turn" and layout.dim == 263
    assert RootLayout.of_width(263).num_joints == 22


def test_the_torch_twin_agrees_and_has_gradients(walking_motion) -> None:
    motion = walking_motion(3, 33)
    features = torch.from_numpy(encode(motion))[None].double().requires_grad_()
    joints, poses = root_body(features, motion.skeleton)
    expected = decode(encode(motion), motion.skeleton)
    np.testing.assert_allclose(joints[0].detach().numpy(), expected.joint_transforms()[0], atol=1e-5)
    np.testing.assert_allclose(poses[0].detach().numpy(), expected.T_world_head(), atol=1e-5)
    poses[:, -1, :2, 3].square().sum().backward()
    layout = RootLayout(22)
    assert features.grad[0, 1:, layout.root_step].abs().sum() > 0 and features.grad.isfinite().all()
    assert not features.grad[0, 0, layout.root_step].any()


def test_refusals(walking_motion) -> None:
    features = encode(walking_motion(0, 3))
    with pytest.raises(UserError, match=r"expected \(T, 263\)"):
        decode(features[:, :-1])
    broken = features.copy()
    broken[1, 7] = np.nan
    with pytest.raises(UserError, match="frame 1"):
        decode(broken)
    flat = features.copy()
    flat[2, RootLayout(22).joint_rotations] = 0.0
    with pytest.raises(UserError, match="left_hip at frame 2"):
        decode(flat)
    line = features.copy()
    line[:, RootLayout(22).joint_positions] = 0.0
    with pytest.raises(UserError, match="in one line"):
        decode(line)
    with pytest.raises(UserError, match="12 J - 1"):
        RootLayout.of_width(282)
    with pytest.raises(UserError, match="head or root"):
        find_representation("hip")
    with pytest.raises(UserError, match='needs canonical "clip"'):
        MotionVAE(representation="root", feature_dim=263)
    with pytest.raises(UserError, match="282 wide"):
        MotionVAE(representation="root", canonical="clip")
