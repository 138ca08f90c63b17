"""Head-centric motion features: the body as seen from the head (EgoTwin, arXiv 2508.13013, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import Motion, default_skeleton, forward_kinematics, head_transform, same_skeleton
from egotwin_sim.motion.rotations import (
    is_degenerate_6d,
    matrix_to_quat,
    matrix_to_rotation_6d,
    quat_to_matrix,
    rotation_6d_to_matrix,
    yaw_matrix,
    yaw_of,
)
from egotwin_sim.motion.skeleton import Skeleton


def part_slices(widths: Mapping[str, int]) -> dict[str, slice]:
    """Where parts of the given widths lie, one behind the other."""
    slices, start = {}, 0
    for name, width in widths.items():
        slices[name] = slice(start, start + width)
        start += width
    return slices


@dataclass(frozen=True)
class Layout:
    """Where each part lies in a feature vector of D = 18 + 12 J numbers.

    Attributes:
        num_joints: J.
    """

    num_joints: int

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The parts by name, in order."""
        j = self.num_joints
        widths = {
            "head_rotation": 6,
            "head_rotation_change": 6,
            "head_position": 3,
            "head_position_change": 3,
            "joint_positions": 3 * j,
            "joint_velocities": 3 * j,
            "joint_rotations": 6 * j,
        }
        return part_slices(widths)

    @property
    def dim(self) -> int:
        """D."""
        return 18 + 12 * self.num_joints

    @property
    def head_rotation(self) -> slice:
        """6D rotation of the head in the canonical frame."""
        return self.slices["head_rotation"]

    @property
    def head_rotation_change(self) -> slice:
        """6D rotation from the previous head to this one, in the previous head's yaw frame."""
        return self.slices["head_rotation_change"]

    @property
    def head_position(self) -> slice:
        """Position of the head in the canonical frame, metres."""
        return self.slices["head_position"]

    @property
    def head_position_change(self) -> slice:
        """Step from the previous head to this one, in the previous head's yaw frame, metres per frame."""
        return self.slices["head_position_change"]

    @property
    def joint_positions(self) -> slice:
        """Joint positions in the head frame, metres."""
        return self.slices["joint_positions"]

    @property
    def joint_velocities(self) -> slice:
        """Rates of the joint positions in the head frame, metres per second."""
        return self.slices["joint_velocities"]

    @property
    def joint_rotations(self) -> slice:
        """6D joint rotations relative to the parent; the root's relative to the head."""
        return self.slices["joint_rotations"]

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """Feature indices of the four groups that a motion VAE's loss averages over."""
        s = {name: np.arange(part.start, part.stop) for name, part in self.slices.items()}
        return {
            "head_3d": np.concatenate((s["head_position"], s["head_position_change"])),
            "head_6d": np.concatenate((s["head_rotation"], s["head_rotation_change"])),
            "joint_3d": np.concatenate((s["joint_positions"], s["joint_velocities"])),
            "joint_6d": s["joint_rotations"],
        }

    @classmethod
    def of_width(cls, dim: int) -> Layout:
        """The layout of feature vectors of D numbers.

        Raises:
            UserError: no skeleton has features of that width.
        """
        joints, rest = divmod(dim - 18, 12)
        if joints < 1 or rest:
            raise UserError(f"features are {dim} wide; expected 18 + 12 J for J joints, 282 for the default skeleton")
        return _layout(joints)


@cache
def _layout(num_joints: int) -> Layout:
    return Layout(num_joints)


def canonical_frame(T_world_head: np.ndarray) -> np.ndarray:
    """The frame on the ground under the head, turned with its heading: T_world_canonical (..., 4, 4).

    Args:
        T_world_head: head poses (..., 4, 4).
    """
    frame = np.zeros(T_world_head.shape)
    frame[..., :3, :3] = yaw_matrix(yaw_of(np.asarray(T_world_head, dtype=np.float64)[..., :3, :3]))
    frame[..., :2, 3] = T_world_head[..., :2, 3]
    frame[..., 3, 3] = 1.0
    return frame


def set_down(motion: Motion, of: Motion, at: Motion) -> Motion:
    """A motion moved over the ground and turned, such that the head `of` comes to lie over the head `at`.

    Args:
        motion: what is moved.
        of: one frame in the world of `motion`.
        at: one frame where its head's ground point and heading shall be.
    """
    there, here = (canonical_frame(body.T_world_head())[0] for body in (at, of))
    move = there @ np.linalg.inv(here)
    return motion.transformed(float(yaw_of(move[:3, :3])), move[:3, 3])


def encode(motion: Motion, previous: Motion | None = None) -> np.ndarray:
    """Head-centric features in the canonical frame of the first frame (the `clip` form).

    Args:
        motion: T frames.
        previous: what happened before; its last frame gives the changes and velocities of the first one. Without
            it those are the identity and zero.

    Returns:
        float32 (T, D), laid out as `Layout` says.
    """
    skeleton = motion.skeleton
    layout = _layout(skeleton.num_joints)
    local = quat_to_matrix(motion.joint_quat_wxyz.astype(np.float64))
    position, rotation = forward_kinematics(motion.root_position.astype(np.float64), local, skeleton)
    pose = head_transform(position, rotation, skeleton)
    seen = _joints_in_head(position, pose)

    if previous is None:
        pose_before, seen_before = pose[:1], seen[:1]
    else:
        if not same_skeleton(previous.skeleton, skeleton):
            raise UserError("the previous motion belongs to another skeleton; retarget it first")
        position_before, rotation_before = previous[-1].joint_transforms()
        pose_before = head_transform(position_before, rotation_before, skeleton)
        seen_before = _joints_in_head(position_before, pose_before)
    pose_before = np.concatenate((pose_before, pose[:-1]))
    seen_before = np.concatenate((seen_before, seen[:-1]))

    head, head_before = pose[:, :3, :3], pose_before[:, :3, :3]
    yaw_before = yaw_matrix(yaw_of(head_before))
    turn = _transpose(yaw_before) @ head @ _transpose(head_before) @ yaw_before
    step = _apply(_transpose(yaw_before), pose[:, :3, 3] - pose_before[:, :3, 3])
    local[:, 0] = _transpose(head) @ local[:, 0]

    frame = canonical_frame(pose[0])
    ground = frame[:3, 3]
    count = len(motion)
    features = np.empty((count, layout.dim), dtype=np.float32)
    features[:, layout.head_rotation] = matrix_to_rotation_6d(frame[:3, :3].T @ head)
    features[:, layout.head_rotation_change] = matrix_to_rotation_6d(turn)
    features[:, layout.head_position] = (pose[:, :3, 3] - ground) @ frame[:3, :3]
    features[:, layout.head_position_change] = step
    features[:, layout.joint_positions] = seen.reshape(count, -1)
    features[:, layout.joint_velocities] = ((seen - seen_before) * motion.fps).reshape(count, -1)
    features[:, layout.joint_rotations] = matrix_to_rotation_6d(local).reshape(count, -1)
    return features


def decode(
    features: np.ndarray,
    skeleton: Skeleton | None = None,
    fps: float = 16.0,
    T_world_canonical: np.ndarray | None = None,
) -> Motion:
    """The motion that features describe; the inverse of `encode`.

    Anchored at the head: the decoded head pose is exactly the one in the features, and the root is found by walking
    from the head down the kinematic tree. Joint positions, velocities and changes are redundant and not read.

    Args:
        features: (T, D).
        skeleton: the body; the default one without it.
        fps: frames per second of the features.
        T_world_canonical: (4, 4), the canonical frame's pose in the world; the identity without it.

    Raises:
        UserError: the width does not fit the skeleton, a number is not finite, or a 6D rotation is degenerate.
    """
    skeleton = skeleton or default_skeleton()
    features = np.asarray(features)
    if features.ndim != 2:
        raise UserError(f"features have shape {features.shape}; expected (T, D): decode one clip at a time")
    root, quat = decode_pose(features, skeleton, T_world_canonical)
    return Motion(root, quat, skeleton, fps)


def decode_pose(
    features: np.ndarray, skeleton: Skeleton | None = None, T_world_canonical: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Like `decode`, for any leading dimensions.

    Args:
        features: (..., D).
        skeleton: the body; the default one without it.
        T_world_canonical: (..., 4, 4), broadcast against the leading dimensions.

    Returns:
        Root positions (..., 3) in metres and parent-relative quaternions (..., J, 4), both float64.
    """
    skeleton = skeleton or default_skeleton()
    layout = _layout(skeleton.num_joints)
    features = np.asarray(features, dtype=np.float64)
    if features.shape[-1:] != (layout.dim,):
        width = features.shape[-1] if features.ndim else 0
        raise UserError(f"features are {width} wide; expected {layout.dim} for {skeleton.num_joints} joints")
    if not np.isfinite(features).all():
        raise _not_finite(features, layout)
    pose = head_pose(features)
    if T_world_canonical is not None:
        pose = T_world_canonical @ pose
    shape = (*features.shape[:-1], skeleton.num_joints, 6)
    joint_rotations = features[..., layout.joint_rotations].reshape(shape)
    try:
        local = rotation_6d_to_matrix(joint_rotations)
    except ValueError as error:
        *frame, joint = np.argwhere(is_degenerate_6d(joint_rotations))[0]
        raise UserError(
            f"joint_rotations of {skeleton.names[joint]} at frame {_frame(frame)}: {error}; expected two "
            "independent columns"
        ) from error

    root_rotation = pose[..., :3, :3]
    root_position = pose[..., :3, 3] - _apply(root_rotation, skeleton.head_offset)
    for joint in reversed(skeleton.head_chain[1:]):
        root_rotation = root_rotation @ _transpose(local[..., joint, :, :])
        root_position = root_position - _apply(root_rotation, skeleton.offsets[joint])
    local[..., 0, :, :] = root_rotation
    return root_position, matrix_to_quat(local)


def head_pose(features: np.ndarray) -> np.ndarray:
    """The head's pose in the canonical frame, T_canonical_head (..., 4, 4), from features (..., D)."""
    features = np.asarray(features, dtype=np.float64)
    layout = Layout.of_width(features.shape[-1])
    pose = np.zeros((*features.shape[:-1], 4, 4))
    pose[..., :3, :3] = _head_rotation(features[..., layout.head_rotation])
    pose[..., :3, 3] = features[..., layout.head_position]
    pose[..., 3, 3] = 1.0
    return pose


def recanonicalise(features: np.ndarray, index: int = 0) -> np.ndarray:
    """Features (..., T, D) expressed in the canonical frame of their own frame `index`.

    Only head_rotation and head_position change; the other parts do not depend on the canonical frame.
    """
    features = np.asarray(features)
    layout = Layout.of_width(features.shape[-1])
    pose = head_pose(features)
    frame = canonical_frame(pose[..., index, :, :])[..., None, :, :]
    turned = features.copy()
    back = _transpose(frame[..., :3, :3])
    turned[..., layout.head_rotation] = matrix_to_rotation_6d(back @ pose[..., :3, :3])
    turned[..., layout.head_position] = _apply(back, pose[..., :3, 3] - frame[..., :3, 3])
    return turned


def _joints_in_head(position: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """R_head^T (p_joint - p_head): (T, J, 3)."""
    return (position - pose[:, None, :3, 3]) @ pose[:, :3, :3]


def _transpose(matrix: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrix, -1, -2)


def _apply(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return (matrix @ vector[..., None])[..., 0]


def _head_rotation(rotation_6d: np.ndarray) -> np.ndarray:
    try:
        return rotation_6d_to_matrix(rotation_6d)
    except ValueError as error:
        frame = np.argwhere(is_degenerate_6d(rotation_6d))[0]
        raise UserError(f"head_rotation at frame {_frame(frame)}: {error}; expected two independent columns") from error


def _not_finite(features: np.ndarray, layout: Layout) -> UserError:
    *frame, column = np.argwhere(~np.isfinite(features))[0]
    part = next(name for name, part in layout.slices.items() if part.start <= column < part.stop)
    return UserError(f"features are not finite at frame {_frame(frame)}, in {part}; expected finite numbers")


def _frame(index: Sequence[int]) -> str:
    return ", ".join(str(int(i)) for i in index) or "0"
