"""The Motion value: kinematics, cutting, resampling, files."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply, rotation_angle


def still(frames: int = 1, height: float = 0.0) -> Motion:
    """The rest pose."""
    quat = np.zeros((frames, 22, 4))
    quat[..., 0] = 1.0
    return Motion(np.tile([0.0, 0.0, height], (frames, 1)), quat)


def test_rest_pose_stands_on_the_floor_with_the_eyes_forward():
    skeleton = Skeleton.default()
    motion = still(height=skeleton.rest_root_height)
    position, rotation = motion.joint_transforms()
    assert position[0, skeleton.index["left_ankle"], 2] == pytest.approx(skeleton.foot_height)
    assert position[0, skeleton.index["left_wrist"], 1] > 0.5 > -0.5 > position[0, skeleton.index["right_wrist"], 1]
    np.testing.assert_allclose(rotation, np.broadcast_to(np.eye(3), (1, 22, 3, 3)))
    head = motion.T_world_head()
    assert head.dtype == np.float64
    np.testing.assert_allclose(head[0, :3, :3], np.eye(3))
    np.testing.assert_allclose(head[0, :3, 3], position[0, skeleton.index["head"]] + skeleton.head_offset)


def test_a_bent_elbow_carries_the_wrist_forward():
    quat = still().joint_quat_wxyz.copy()
    index = Skeleton.default().index
    quat[0, index["left_elbow"]] = axis_angle_to_quat(np.array([0.0, 0.0, -np.pi / 2]))
    position, _ = Motion(np.zeros((1, 3)), quat).joint_transforms()
    np.testing.assert_allclose(
        position[0, index["left_wrist"]] - position[0, index["left_elbow"]], [0.26, 0.0, 0.0], atol=1e-6
    )


def test_kinematics_agree_with_a_walk_up_the_tree(wild_motion):
    motion = wild_motion(0, 3)
    skeleton = motion.skeleton
    position, _ = motion.joint_transforms()
    quat = motion.joint_quat_wxyz.astype(np.float64)

    def place(frame: int, joint: int, point: np.ndarray) -> np.ndarray:
        rotated = quat_multiply(
            quat_multiply(quat[frame, joint], np.array([0.0, *point])), quat[frame, joint] * [1, -1, -1, -1]
        )
        if joint == 0:
            return rotated[1:] + motion.root_position[frame]
        return place(frame, skeleton.parents[joint], rotated[1:] + skeleton.offsets[joint])

    for frame in range(3):
        for joint in range(22):
            np.testing.assert_allclose(place(frame, joint, np.zeros(3)), position[frame, joint], atol=1e-5)


def test_transformed_turns_about_the_vertical_then_shifts(wild_motion):
    motion = wild_motion(1, 5)
    turned = motion.transformed(np.pi / 2, (1.0, 2.0, 3.0))
    before, after = motion.joint_transforms()[0], turned.joint_transforms()[0]
    expected = np.stack((-before[..., 1], before[..., 0], before[..., 2]), axis=-1) + [1.0, 2.0, 3.0]
    np.testing.assert_allclose(after, expected, atol=1e-4)


def test_slices_and_single_frames(wild_motion):
    motion = wild_motion(2, 10)
    assert [len(motion[2:6]), len(motion[::2]), len(motion[3]), len(motion[-1])] == [4, 5, 1, 1]
    np.testing.assert_array_equal(motion[-1].root_position[0], motion.root_position[9])
    assert len(list(motion)) == 10
    with pytest.raises(IndexError):
        motion[10]
    with pytest.raises(UserError, match="empty"):
        motion[4:4]


def test_concatenate_undoes_slicing_and_refuses_what_does_not_fit(wild_motion):
    motion = wild_motion(3, 9)
    joined = Motion.concatenate([motion[:4], motion[4:]])
    np.testing.assert_array_equal(joined.joint_quat_wxyz, motion.joint_quat_wxyz)
    with pytest.raises(UserError, match="frames/s"):
        Motion.concatenate([motion, motion.resampled(8.0)])
    other = Motion(motion.root_position, motion.joint_quat_wxyz, Skeleton.default(1.6))
    with pytest.raises(UserError, match="skeleton"):
        Motion.concatenate([motion, other])
    with pytest.raises(UserError, match="no motion"):
        Motion.concatenate([])


def test_resampling_meets_the_given_frames_and_halves_the_way_between(walking_motion):
    motion = walking_motion(0, 21)
    double = motion.resampled(32.0)
    assert len(double) == 41 and double.duration == pytest.approx(motion.duration)
    np.testing.assert_allclose(double.root_position[::2], motion.root_position, atol=1e-6)
    middle = 0.5 * (motion.root_position[0] + motion.root_position[1])
    np.testing.assert_allclose(double.root_position[1], middle, atol=1e-6)
    _, ours = double[::2].joint_transforms()
    assert rotation_angle(ours, motion.joint_transforms()[1]).max() < 1e-5
    assert len(motion.resampled(7.0)) == 1 + int(20 * 7 / 16)
    assert len(motion[0].resampled(60.0)) == 1


def test_a_saved_motion_loads_the_same(wild_motion, tmp_path):
    motion = wild_motion(4, 7)
    motion = Motion(motion.root_position, motion.joint_quat_wxyz, Skeleton.default(1.9), 30.0)
    motion.save(tmp_path / "walk.npz")
    loaded = Motion.load(tmp_path / "walk.npz")
    np.testing.assert_array_equal(loaded.joint_quat_wxyz, motion.joint_quat_wxyz)
    np.testing.assert_array_equal(loaded.T_world_head(), motion.T_world_head())
    assert loaded.skeleton.names == motion.skeleton.names and loaded.fps == 30.0
    assert loaded.skeleton.foot_height == motion.skeleton.foot_height
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npz"]


def test_loading_what_is_no_motion_names_the_file(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", root_position=np.array([{"a": 1}], dtype=object), names=np.array(["a"]))
    for name in ("text.npz", "other.npz", "pickled.npz", "absent.npz"):
        with pytest.raises(UserError, match=name):
            Motion.load(tmp_path / name)
    with pytest.raises(UserError, match="folder"):
        still().save(tmp_path / "no" / "motion.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root, quat: (root[:1], quat), "joint_quat_wxyz has shape"),
        (lambda root, quat: (root[:0], quat[:0]), "root_position has shape"),
        (lambda root, quat: (root * np.array([1, np.nan, 1]), quat), "root_position is not finite at frame 0"),
        (lambda root, quat: (root, quat * np.nan), "pelvis at frame 0"),
        (lambda root, quat: (root, np.where(np.arange(22)[:, None] == 4, 2 * quat, quat)), "left_knee at frame 0"),
    ],
)
def test_bad_arrays_are_refused_by_name(wild_motion, change, message):
    motion = wild_motion(5, 2)
    with pytest.raises(UserError, match=message):
        Motion(*change(motion.root_position, motion.joint_quat_wxyz))


def test_a_rate_must_be_positive():
    with pytest.raises(UserError, match="fps"):
        Motion(np.zeros((1, 3)), still().joint_quat_wxyz, fps=0.0)
    with pytest.raises(UserError, match="fps"):
        still().resampled(float("nan"))
