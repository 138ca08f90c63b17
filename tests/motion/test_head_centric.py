"""Head-centric features: what they mean, and that decoding undoes encoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotwin_sim.errors import UserError
from egotwin_sim.motion import (
    Layout,
    Motion,
    Skeleton,
    canonical_frame,
    decode,
    decode_pose,
    encode,
    head_pose,
    recanonicalise,
)
from egotwin_sim.motion.rotations import axis_angle_to_quat, rotation_angle, yaw_of

IDENTITY_6D = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def assert_same_motion(a: Motion, b: Motion, metres: float = 1e-4, radians: float = 1e-4) -> None:
    """Every joint is in the same place and turned the same way."""
    positions, rotations = zip(a.joint_transforms(), b.joint_transforms(), strict=True)
    assert np.abs(positions[0] - positions[1]).max() < metres
    assert rotation_angle(*rotations).max() < radians


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 200),
    speed=st.floats(0.0, 20.0),
    yaw=st.floats(-np.pi, np.pi),
)
def test_decode_undoes_encode(wild_motion, seed, frames, speed, yaw):
    motion = wild_motion(seed, frames, speed, yaw)
    features = encode(motion)
    assert features.dtype == np.float32 and features.shape == (frames, 282)
    frame = canonical_frame(motion.T_world_head()[0])
    decoded = decode(features, T_world_canonical=frame)
    assert_same_motion(decoded, motion)
    np.testing.assert_allclose(frame @ head_pose(features), motion.T_world_head(), atol=1e-4)
    # and the other way round: what is decoded encodes to the same features
    again = encode(decode(features))
    layout = Layout(22)
    still = [i for i in range(282) if i not in range(layout.joint_velocities.start, layout.joint_velocities.stop)]
    np.testing.assert_allclose(again[:, still], features[:, still], atol=2e-4)


def test_layout_covers_every_feature_once():
    layout = Layout(22)
    assert layout.dim == 282 and Layout.of_width(282) == layout
    ends = [(part.start, part.stop) for part in layout.slices.values()]
    assert [start for start, _ in ends] == [0, *(stop for _, stop in ends[:-1])] and ends[-1][1] == 282
    assert sorted(np.concatenate(list(layout.groups.values()))) == list(range(282))
    with pytest.raises(UserError, match="281"):
        Layout.of_width(281)


def test_features_of_a_straight_walk_to_the_left():
    skeleton = Skeleton.default()
    quat = np.zeros((4, 22, 4))
    quat[..., 0] = 1.0
    quat[:, 0] = axis_angle_to_quat(np.array([0.0, 0.0, np.pi / 2]))
    root = np.array([5.0, -3.0, skeleton.rest_root_height]) + np.arange(4)[:, None] * np.array([0.0, 0.1, 0.0])
    features, layout = encode(Motion(root, quat)), Layout(22)
    head = sum(skeleton.offsets[j] for j in skeleton.head_chain) + skeleton.head_offset
    height = skeleton.rest_root_height + head[2]
    np.testing.assert_allclose(features[:, layout.head_rotation], np.tile(IDENTITY_6D, (4, 1)), atol=1e-6)
    np.testing.assert_allclose(features[:, layout.head_rotation_change], np.tile(IDENTITY_6D, (4, 1)), atol=1e-6)
    np.testing.assert_allclose(features[:, layout.head_position], [[0.1 * t, 0.0, height] for t in range(4)], atol=1e-5)
    np.testing.assert_allclose(
        features[:, layout.head_position_change], [[0.1 if t else 0.0, 0.0, 0.0] for t in range(4)], atol=1e-5
    )
    joints = features[:, layout.joint_positions].reshape(4, 22, 3)
    np.testing.assert_allclose(joints[:, 0], np.tile(-head, (4, 1)), atol=1e-5)
    np.testing.assert_allclose(features[:, layout.joint_velocities], 0.0, atol=1e-4)
    np.testing.assert_allclose(
        features[:, layout.joint_rotations].reshape(4, 22, 6), np.tile(IDENTITY_6D, (4, 22, 1)), atol=1e-6
    )


def test_turning_head_changes_in_its_own_yaw_frame():
    quat = np.zeros((2, 22, 4))
    quat[..., 0] = 1.0
    quat[0, 0] = axis_angle_to_quat(np.array([0.0, 0.0, 1.2]))
    quat[1, 0] = axis_angle_to_quat(np.array([0.0, 0.0, 1.2 + 0.3]))
    features = encode(Motion(np.zeros((2, 3)), quat))
    expected = [np.cos(0.3), np.sin(0.3), 0, -np.sin(0.3), np.cos(0.3), 0]
    np.testing.assert_allclose(features[1, Layout(22).head_rotation_change], expected, atol=1e-6)


def test_velocities_are_rates_in_the_head_frame(wild_motion):
    motion, layout = wild_motion(0, 6), Layout(22)
    features = encode(motion)
    positions = features[:, layout.joint_positions].astype(np.float64)
    rates = np.diff(positions, axis=0) * motion.fps
    np.testing.assert_allclose(features[1:, layout.joint_velocities], rates, atol=1e-3)
    assert not features[0, layout.joint_velocities].any()


def test_the_root_slot_holds_the_pelvis_as_the_head_sees_it(wild_motion):
    motion = wild_motion(1, 3)
    _, rotation = motion.joint_transforms()
    head = rotation[:, motion.skeleton.index["head"]]
    pelvis = np.swapaxes(head, -1, -2) @ rotation[:, 0]
    slot = encode(motion)[:, Layout(22).joint_rotations][:, :6]
    np.testing.assert_allclose(slot, np.concatenate((pelvis[..., 0], pelvis[..., 1]), axis=-1), atol=1e-6)


def test_a_previous_frame_gives_the_first_changes(wild_motion):
    motion = wild_motion(2, 12)
    whole = encode(motion)
    rest = encode(motion[5:], previous=motion[:5])
    layout = Layout(22)
    for part in (layout.head_rotation_change, layout.head_position_change, layout.joint_velocities):
        np.testing.assert_allclose(rest[:, part], whole[5:, part], atol=1e-6)
    np.testing.assert_allclose(rest, recanonicalise(whole[5:]), atol=1e-4)
    other = Motion(motion.root_position, motion.joint_quat_wxyz, Skeleton.default(1.5))
    with pytest.raises(UserError, match="skeleton"):
        encode(motion, previous=other)


def test_first_frame_lies_over_the_origin_and_looks_ahead(wild_motion):
    for seed in range(20):
        pose = head_pose(encode(wild_motion(seed, 2)))[0]
        np.testing.assert_allclose(pose[:2, 3], 0.0, atol=1e-5)
        assert yaw_of(pose[:3, :3]) == pytest.approx(0.0, abs=1e-5)


def test_decoded_head_is_exactly_the_given_one_whatever_else_the_features_say(wild_motion):
    noisy = encode(wild_motion(3, 9)) + np.random.default_rng(0).normal(0, 0.2, (9, 282))
    np.testing.assert_allclose(decode(noisy).T_world_head(), head_pose(noisy), atol=1e-5)


def test_batches_decode_like_their_parts(wild_motion):
    batch = np.stack([[encode(wild_motion(10 * i + j, 4)) for j in range(3)] for i in range(2)])
    root, quat = decode_pose(batch)
    assert root.shape == (2, 3, 4, 3) and quat.shape == (2, 3, 4, 22, 4)
    part = decode(batch[1, 2])
    np.testing.assert_allclose(root[1, 2], part.root_position, atol=1e-5)
    np.testing.assert_allclose(quat[1, 2], part.joint_quat_wxyz, atol=1e-6)
    np.testing.assert_allclose(recanonicalise(batch, 2)[1, 2], recanonicalise(batch[1, 2], 2), atol=1e-6)


def test_another_stature_decodes_with_its_own_skeleton(wild_motion):
    motion = wild_motion(4, 5)
    small = Motion(motion.root_position, motion.joint_quat_wxyz, Skeleton.default(1.5), 20.0)
    decoded = decode(encode(small), small.skeleton, 20.0, canonical_frame(small.T_world_head()[0]))
    assert_same_motion(decoded, small)
    assert decoded.fps == 20.0


def test_bad_features_are_refused_by_name(wild_motion):
    features, layout = encode(wild_motion(5, 4)), Layout(22)
    with pytest.raises(UserError, match="280 wide; expected 282"):
        decode(features[:, :280])
    with pytest.raises(UserError, match="shape"):
        decode(features[0])
    bad = features.copy()
    bad[2, layout.head_position.start] = np.nan
    with pytest.raises(UserError, match="frame 2, in head_position"):
        decode(bad)
    bad = features.copy()
    bad[1, layout.joint_rotations.start + 6 * 4 : layout.joint_rotations.start + 6 * 4 + 3] = 0.0
    with pytest.raises(UserError, match="left_knee at frame 1"):
        decode(bad)
    bad = features.copy()
    bad[3, layout.head_rotation] = [1, 2, 3, 2, 4, 6]
    with pytest.raises(UserError, match="head_rotation at frame 3"):
        decode(bad)
