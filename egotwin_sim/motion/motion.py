"""A body motion: root positions and joint rotations of a skeleton at a fixed rate."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.files import replacing
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply, quat_to_matrix, slerp, yaw_matrix
from egotwin_sim.motion.skeleton import Skeleton

default_skeleton = cache(Skeleton.default)
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class Motion:
    """Frames of a body motion.

    Attributes:
        root_position: float32 (T, 3), metres, world position of the root joint (the pelvis).
        joint_quat_wxyz: float32 (T, J, 4), unit quaternions relative to the parent joint; the root's to the world.
        skeleton: the body that moves.
        fps: frames per second.

    Raises:
        UserError: a shape does not fit, a value is not finite, or a quaternion is not of unit length.
    """

    root_position: np.ndarray
    joint_quat_wxyz: np.ndarray
    skeleton: Skeleton = field(default_factory=default_skeleton)
    fps: float = 16.0

    def __post_init__(self) -> None:
        """Convert to float32 and check."""
        root = np.asarray(self.root_position, dtype=np.float32)
        quat = np.asarray(self.joint_quat_wxyz, dtype=np.float32)
        object.__setattr__(self, "root_position", root)
        object.__setattr__(self, "joint_quat_wxyz", quat)
        object.__setattr__(self, "fps", float(self.fps))
        joints = self.skeleton.num_joints
        if root.ndim != 2 or root.shape[1] != 3 or len(root) == 0:
            raise UserError(f"root_position has shape {root.shape}; expected (T, 3) with T >= 1")
        if quat.shape != (len(root), joints, 4):
            raise UserError(f"joint_quat_wxyz has shape {quat.shape}; expected ({len(root)}, {joints}, 4)")
        if not np.isfinite(root).all():
            frame = int(np.argmin(np.isfinite(root).all(axis=1)))
            raise UserError(f"root_position is not finite at frame {frame}; repair or cut the motion there")
        length_error = np.abs(np.linalg.norm(quat, axis=-1) - 1.0)
        if not (length_error < _UNIT_TOLERANCE).all():  # NaN compares false, so it is caught here as well
            frame, joint = np.argwhere(~(length_error < _UNIT_TOLERANCE))[0]
            raise UserError(
                f"joint_quat_wxyz of {self.skeleton.names[joint]} at frame {frame} is {quat[frame, joint].tolist()}; "
                "expected a finite quaternion of length 1"
            )
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise UserError(f"fps is {self.fps}; expected a positive number of frames per second")

    def __repr__(self) -> str:
        """The size, not the numbers."""
        return f"Motion({len(self)} frames, {self.skeleton.num_joints} joints, {self.fps:g} frames/s)"

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.root_position)

    def __getitem__(self, item: int | slice) -> Motion:
        """A part of the motion; an integer gives a motion of one frame."""
        if not isinstance(item, slice):
            index = range(len(self))[item]
            item = slice(index, index + 1)
        root = self.root_position[item]
        if len(root) == 0:
            raise UserError(f"the slice {item.start}:{item.stop}:{item.step} of {len(self)} frames is empty")
        return Motion(root, self.joint_quat_wxyz[item], self.skeleton, self.fps)

    @property
    def duration(self) -> float:
        """Seconds between the first and the last frame."""
        return (len(self) - 1) / self.fps

    def joint_transforms(self) -> tuple[np.ndarray, np.ndarray]:
        """Forward kinematics.

        Returns:
            World positions (T, J, 3) in metres and world rotation matrices (T, J, 3, 3), both float64.
        """
        local = quat_to_matrix(self.joint_quat_wxyz.astype(np.float64))
        return forward_kinematics(self.root_position.astype(np.float64), local, self.skeleton)

    def T_world_head(self) -> np.ndarray:
        """Head poses (T, 4, 4), float64: between the eyes, x forward, y left, z up."""
        return head_transform(*self.joint_transforms(), self.skeleton)

    def transformed(self, yaw: float, translation: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0)) -> Motion:
        """The motion turned about the world's vertical axis by `yaw` radians, then shifted by metres (3,)."""
        turn = axis_angle_to_quat(np.array([0.0, 0.0, yaw]))
        root = self.root_position.astype(np.float64) @ yaw_matrix(float(yaw)).T + np.asarray(translation)
        quat = self.joint_quat_wxyz.astype(np.float64)
        quat[:, 0] = quat_multiply(turn, quat[:, 0])
        return Motion(root, quat, self.skeleton, self.fps)

    def resampled(self, fps: float) -> Motion:
        """The motion at another rate, from the first frame on: positions linearly, rotations by slerp.

        No frame lies beyond the last one of the source, so the result may be shorter by a part of a frame.
        """
        if not (np.isfinite(fps) and fps > 0):
            raise UserError(f"fps is {fps}; expected a positive number of frames per second")
        count = int(np.floor((len(self) - 1) * fps / self.fps + 1e-6)) + 1
        return self.sampled(np.minimum(np.arange(count) * (self.fps / fps), len(self) - 1), fps)

    def sampled(self, at: np.ndarray, fps: float) -> Motion:
        """The motion at frame numbers that need not be whole: positions linearly, rotations by slerp.

        Args:
            at: (N,), from 0 to T - 1.
            fps: frames per second of the result.

        Raises:
            UserError: a number lies outside.
        """
        at = np.asarray(at, dtype=np.float64)
        if not ((at >= 0) & (at <= len(self) - 1)).all():
            raise UserError(f"a motion of {len(self)} frames has no frames {at.min():g} to {at.max():g}")
        before = np.minimum(at.astype(int), max(len(self) - 2, 0))
        after = np.minimum(before + 1, len(self) - 1)
        fraction = at - before
        root = self.root_position.astype(np.float64)
        quat = self.joint_quat_wxyz.astype(np.float64)
        return Motion(
            root[before] + fraction[:, None] * (root[after] - root[before]),
            slerp(quat[before], quat[after], fraction[:, None]),
            self.skeleton,
            fps,
        )

    @staticmethod
    def concatenate(motions: Sequence[Motion]) -> Motion:
        """Join motions of one skeleton and one rate, end to end."""
        if not motions:
            raise UserError("there is no motion to concatenate; give at least one")
        first = motions[0]
        for i, motion in enumerate(motions[1:], start=1):
            if motion.fps != first.fps:
                raise UserError(f"motion {i} has {motion.fps} frames/s, the first {first.fps}; resample it first")
            if not same_skeleton(motion.skeleton, first.skeleton):
                raise UserError(f"motion {i} belongs to another skeleton than the first; retarget it first")
        return Motion(
            np.concatenate([motion.root_position for motion in motions]),
            np.concatenate([motion.joint_quat_wxyz for motion in motions]),
            first.skeleton,
            first.fps,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` file: beside the target first, then renamed, so a reader never sees half a file."""
        path = Path(path)
        if not path.parent.is_dir():
            raise UserError(f"{path.parent} is not a folder; create it before saving {path.name} there")
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                root_position=self.root_position,
                joint_quat_wxyz=self.joint_quat_wxyz,
                fps=self.fps,
                names=np.array(self.skeleton.names),
                parents=np.array(self.skeleton.parents),
                offsets=self.skeleton.offsets,
                head_offset=self.skeleton.head_offset,
                foot_height=self.skeleton.foot_height,
            )

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Motion:
        """Read what `save` wrote. Nothing is unpickled.

        Raises:
            UserError: the file is missing, is no `.npz` file, or holds no motion.
        """
        if not Path(path).is_file():
            raise UserError(f"{path} is not a file; expected a motion saved as .npz")
        try:
            with np.load(path, allow_pickle=False) as data:
                skeleton = Skeleton(
                    names=tuple(str(name) for name in data["names"]),
                    parents=tuple(int(parent) for parent in data["parents"]),
                    offsets=data["offsets"],
                    head_offset=data["head_offset"],
                    foot_height=float(data["foot_height"]),
                )
                return Motion(data["root_position"], data["joint_quat_wxyz"], skeleton, float(data["fps"]))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (KeyError, ValueError, TypeError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} holds no motion ({error}); expected a file that Motion.save wrote") from error


def same_skeleton(a: Skeleton, b: Skeleton) -> bool:
    """Whether two skeletons have the same joints in the same places."""
    return a is b or (
        a.names == b.names
        and a.parents == b.parents
        and np.allclose(a.offsets, b.offsets, atol=1e-6)
        and np.allclose(a.head_offset, b.head_offset, atol=1e-6)
    )


def forward_kinematics(
    root_position: np.ndarray, local_rotation: np.ndarray, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """World joint positions (..., J, 3) and rotations (..., J, 3, 3).

    Args:
        root_position: (..., 3), metres.
        local_rotation: (..., J, 3, 3), relative to the parent; the root's to the world.
        skeleton: the rest offsets and the tree.
    """
    rotation = np.empty_like(local_rotation)
    position = np.empty(local_rotation.shape[:-1], dtype=local_rotation.dtype)
    rotation[..., 0, :, :] = local_rotation[..., 0, :, :]
    position[..., 0, :] = root_position
    for joint in range(1, skeleton.num_joints):
        parent = skeleton.parents[joint]
        above = rotation[..., parent, :, :]
        rotation[..., joint, :, :] = above @ local_rotation[..., joint, :, :]
        position[..., joint, :] = position[..., parent, :] + above @ skeleton.offsets[joint]
    return position, rotation


def head_transform(position: np.ndarray, rotation: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Head poses (..., 4, 4) from joint positions (..., J, 3) and rotations (..., J, 3, 3)."""
    head = skeleton.index["head"]
    transform = np.zeros((*position.shape[:-2], 4, 4))
    transform[..., :3, :3] = rotation[..., head, :, :]
    transform[..., :3, 3] = position[..., head, :] + rotation[..., head, :, :] @ skeleton.head_offset
    transform[..., 3, 3] = 1.0
    return transform
