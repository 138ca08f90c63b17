"""Root-centric motion features, which the paper's ablation puts in the place of the head-centric ones.

The seven-tuple of HumanML3D (Guo et al., "Generating Diverse and Natural 3D Human Motions from Text", 2022). The head
is nowhere in the numbers: the root's heading and place are the sums of all turns and steps so far, and the head follows
from them by forward kinematics. That is what the ablation is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.head_centric import part_slices
from egotwin_sim.motion.motion import Motion, default_skeleton, same_skeleton
from egotwin_sim.motion.rotations import (
    is_degenerate_6d,
    matrix_to_quat,
    matrix_to_rotation_6d,
    rotation_6d_to_matrix,
    yaw_matrix,
    yaw_of,
)
from egotwin_sim.motion.skeleton import Skeleton

FEET = ("left_ankle", "left_foot", "right_ankle", "right_foot")
"""Joints of the foot contacts, in order."""

CONTACT_SPEED = 0.002**0.5 * 20.0
"""Metres per second below which a foot is in contact: HumanML3D's 0.002 m^2 a frame, squared, at its 20 frames/s."""


@dataclass(frozen=True)
class RootLayout:
    """Where each part lies in a feature vector of D = 12 J - 1 numbers, 263 for 22 joints.

    Attributes:
        num_joints: J.
    """

    num_joints: int

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The parts by name, in order."""
        j = self.num_joints
        widths = {
            "root_turn": 1,
            "root_step": 2,
            "root_height": 1,
            "joint_positions": 3 * (j - 1),
            "joint_velocities": 3 * j,
            "joint_rotations": 6 * (j - 1),
            "foot_contacts": len(FEET),
        }
        return part_slices(widths)

    @property
    def dim(self) -> int:
        """D."""
        return 12 * self.num_joints - 1

    @property
    def root_turn(self) -> slice:
        """Change of the root's heading since the frame before, radians per frame."""
        return self.slices["root_turn"]

    @property
    def root_step(self) -> slice:
        """The root's step on the ground since the frame before, in the heading before, metres per frame."""
        return self.slices["root_step"]

    @property
    def root_height(self) -> slice:
        """The root's height, metres."""
        return self.slices["root_height"]

    @property
    def joint_positions(self) -> slice:
        """Positions of all joints but the root, from the ground under the root, in its heading, metres."""
        return self.slices["joint_positions"]

    @property
    def joint_velocities(self) -> slice:
        """Velocities of all joints in the world, in the root's heading of the frame before, metres per second."""
        return self.slices["joint_velocities"]

    @property
    def joint_rotations(self) -> slice:
        """6D rotations of all joints but the root relative to the parent; the root's children's to its heading."""
        return self.slices["joint_rotations"]

    @property
    def foot_contacts(self) -> slice:
        """1 where a foot's joint stands still, else 0, in the order of `FEET`."""
        return self.slices["foot_contacts"]

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """Feature indices of the four groups that a motion VAE's loss averages over."""
        s = {name: np.arange(part.start, part.stop) for name, part in self.slices.items()}
        return {
            "root": np.concatenate((s["root_turn"], s["root_step"], s["root_height"])),
            "contacts": s["foot_contacts"],
            "joint_3d": np.concatenate((s["joint_positions"], s["joint_velocities"])),
            "joint_6d": s["joint_rotations"],
        }

    @classmethod
    def of_width(cls, dim: int) -> RootLayout:
        """The layout of feature vectors of D numbers.

        Raises:
            UserError: no skeleton has features of that width.
        """
        joints, rest = divmod(dim + 1, 12)
        if joints < 2 or rest:
            raise UserError(f"features are {dim} wide; expected 12 J - 1 for J joints, 263 for the default skeleton")
        return _layout(joints)


@cache
def _layout(num_joints: int) -> RootLayout:
    return RootLayout(num_joints)


def root_frame(motion: Motion) -> np.ndarray:
    """The frame on the ground under the root of a motion's first frame, turned with its heading: (4, 4)."""
    _, rotation = motion[:1].joint_transforms()
    frame = np.eye(4)
    frame[:3, :3] = yaw_matrix(yaw_of(rotation[0, 0]))
    frame[:2, 3] = motion.root_position[0, :2]
    return frame


def encode(motion: Motion, previous: Motion | None = None) -> np.ndarray:
    """Root-centric features; they do not depend on where in the world the motion begins.

    HumanML3D's rates look one frame ahead; these look one frame back, because the tokens must be causal.

    Args:
        motion: T frames.
        previous: what happened before; its last frame gives the rates of the first one. Without it those are zero.

    Returns:
        float32 (T, D), laid out as `RootLayout` says.
    """
    skeleton = motion.skeleton
    layout, count = _layout(skeleton.num_joints), len(motion)
    position, rotation = motion.joint_transforms()
    if previous is None:
        position_before, rotation_before = position[:1], rotation[:1]
    else:
        if not same_skeleton(previous.skeleton, skeleton):
            raise UserError("the previous motion belongs to another skeleton; retarget it first")
        position_before, rotation_before = previous[-1].joint_transforms()
    position_before = np.concatenate((position_before, position[:-1]))
    yaw = yaw_of(rotation[:, 0])
    yaw_before = np.concatenate((yaw_of(rotation_before[:, 0]), yaw[:-1]))
    back, back_before = yaw_matrix(-yaw), yaw_matrix(-yaw_before)

    moved = (position - position_before) @ np.swapaxes(back_before, -1, -2)
    ground = position[:, :1] * [1.0, 1.0, 0.0]
    local = np.swapaxes(rotation[:, _parents(skeleton)], -1, -2) @ rotation
    first = children_of_root(skeleton)
    local[:, first] = back[:, None] @ rotation[:, first]
    speed = np.linalg.norm(moved, axis=-1) * motion.fps

    features = np.empty((count, layout.dim), dtype=np.float32)
    features[:, layout.root_turn] = _wrapped(yaw - yaw_before)[:, None]
    features[:, layout.root_step] = moved[:, 0, :2]
    features[:, layout.root_height] = position[:, 0, 2:]
    features[:, layout.joint_positions] = ((position - ground) @ np.swapaxes(back, -1, -2))[:, 1:].reshape(count, -1)
    features[:, layout.joint_velocities] = (moved * motion.fps).reshape(count, -1)
    features[:, layout.joint_rotations] = matrix_to_rotation_6d(local[:, 1:]).reshape(count, -1)
    features[:, layout.foot_contacts] = speed[:, [skeleton.index[name] for name in FEET]] < CONTACT_SPEED
    return features


def decode(
    features: np.ndarray,
    skeleton: Skeleton | None = None,
    fps: float = 16.0,
    T_world_canonical: np.ndarray | None = None,
) -> Motion:
    """The motion that features describe; the inverse of `encode`.

    The root's turns and steps are summed up from the first frame on (whose own are not read), its tilt is that of hips
    and spine, and all else follows by forward kinematics. Velocities, contacts and the positions of other joints are
    redundant and not read.

    Args:
        features: (T, D).
        skeleton: the body; the default one without it.
        fps: frames per second of the features.
        T_world_canonical: (4, 4), the pose in the world of the first frame's `root_frame`; the identity without it.

    Raises:
        UserError: the width does not fit the skeleton, a number is not finite, or a 6D rotation is degenerate.
    """
    skeleton = skeleton or default_skeleton()
    layout = _layout(skeleton.num_joints)
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != layout.dim:
        raise UserError(f"features have shape {x.shape}; expected (T, {layout.dim}) for {skeleton.num_joints} joints")
    if not np.isfinite(x).all():
        row = np.argwhere(~np.isfinite(x))[0, 0]
        raise UserError(f"features are not finite at frame {row}; expected finite numbers")
    count, joints = len(x), skeleton.num_joints
    rotations_6d = x[:, layout.joint_rotations].reshape(count, joints - 1, 6)
    if is_degenerate_6d(rotations_6d).any():
        row, joint = np.argwhere(is_degenerate_6d(rotations_6d))[0]
        raise UserError(
            f"joint_rotations of {skeleton.names[joint + 1]} at frame {row} are no rotation; expected two "
            "independent columns"
        )

    yaw = np.concatenate(([0.0], np.cumsum(x[1:, layout.root_turn][:, 0])))
    steps = np.concatenate((x[1:, layout.root_step], np.zeros((count - 1, 1))), axis=-1)
    steps = (yaw_matrix(yaw[:-1]) @ steps[..., None])[..., 0]
    root = np.concatenate((np.zeros((1, 3)), np.cumsum(steps, axis=0)))
    root[:, 2:] = x[:, layout.root_height]
    heading = yaw_matrix(yaw)
    seen = x[:, layout.joint_positions].reshape(count, joints - 1, 3)
    body = np.concatenate((root[:, None] * [0.0, 0.0, 1.0], seen), axis=1)
    axes, rest_axes = (np.concatenate(hip_axes(at, skeleton), axis=-1) for at in (body, skeleton.offsets))
    if is_degenerate_6d(axes).any():
        row = np.argwhere(is_degenerate_6d(axes))[0, 0]
        raise UserError(f"joint_positions at frame {row} have hips and spine in one line; expected a body's")
    tilt = rotation_6d_to_matrix(axes) @ rotation_6d_to_matrix(rest_axes).T

    local = np.empty((count, joints, 3, 3))
    local[:, 1:] = rotation_6d_to_matrix(rotations_6d)
    first = children_of_root(skeleton)
    local[:, first] = np.swapaxes(tilt, -1, -2)[:, None] @ local[:, first]
    local[:, 0] = heading @ tilt
    if T_world_canonical is not None:
        frame = np.asarray(T_world_canonical, dtype=np.float64)
        root = root @ frame[:3, :3].T + frame[:3, 3]
        local[:, 0] = frame[:3, :3] @ local[:, 0]
    return Motion(root, matrix_to_quat(local), skeleton, fps)


def children_of_root(skeleton: Skeleton) -> list[int]:
    """The joints that hang on the root."""
    return [joint for joint in range(1, skeleton.num_joints) if skeleton.parents[joint] == 0]


def hip_axes(position: Any, skeleton: Skeleton) -> tuple[Any, Any]:
    """Two directions (..., 3) that turn with the root: across the hips, and up the spine; the 6D form of its tilt.

    Args:
        position: joint positions (..., J, 3), an array or a tensor.
        skeleton: the body.
    """
    left, right, spine = (position[..., skeleton.index[name], :] for name in ("left_hip", "right_hip", "spine1"))
    return left - right, spine - (left + right) / 2


def _parents(skeleton: Skeleton) -> list[int]:
    """Each joint's parent; the root stands for its own."""
    return [max(parent, 0) for parent in skeleton.parents]


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles in (-pi, pi]."""
    return np.pi - np.mod(np.pi - angle, 2.0 * np.pi)
