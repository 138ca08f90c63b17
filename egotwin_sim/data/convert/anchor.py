"""Hanging a body under a head whose path is known better than the body's own.

The head of a clip must be where the picture was taken from, to the millimetre; a body from motion capture knows its
posture well and its place badly. So the body keeps its posture and its uprightness, is turned about the vertical as a
whole, and moves with the head; the head itself takes the known pose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.retarget import floor_height
from egotwin_sim.motion.rotations import (
    axis_angle_to_quat,
    matrix_to_axis_angle,
    matrix_to_quat,
    quat_multiply,
    yaw_matrix,
)

# A head that looks elsewhere than its body's neck carries it belongs to another clock or another person, radians.
_MAX_DISAGREEMENT = np.radians(25.0)


@dataclass(frozen=True, eq=False)
class Anchored:
    """A body under its head.

    Attributes:
        motion: with its feet on the floor, the floor at height 0.
        T_clip_world: float64 (4, 4), from the world of the head's poses to the motion's: a shift along the vertical.
        disagreement: median angle, radians, between the head as the body had it and as it is.
    """

    motion: Motion
    T_clip_world: np.ndarray
    disagreement: float


def anchored(motion: Motion, T_world_head: np.ndarray) -> Anchored:
    """Hang a body under its head.

    Args:
        motion: T frames, in any world with z up.
        T_world_head: (T, 4, 4), where the head is, in a world with z up.

    Raises:
        UserError: the head is turned too far from how the body carries it.
    """
    skeleton = motion.skeleton
    position, rotation = motion.joint_transforms()
    head = skeleton.index["head"]
    neck = skeleton.parents[head]
    target = T_world_head[:, :3, :3]

    # The turn about the vertical that brings the body's head nearest to the known one, over the whole clip.
    between = target @ np.swapaxes(rotation[:, head], -1, -2)
    sine, cosine = (between[:, 1, 0] - between[:, 0, 1]).mean(), (between[:, 0, 0] + between[:, 1, 1]).mean()
    yaw = float(np.arctan2(sine, cosine))
    turn = yaw_matrix(yaw)
    left = np.linalg.norm(matrix_to_axis_angle(between @ turn.T), axis=-1)
    disagreement = float(np.median(left))
    if disagreement > _MAX_DISAGREEMENT:
        raise UserError(
            f"the glasses look {np.degrees(disagreement):.0f} degrees away from where the body's head looks; expected "
            "a few: the clocks disagree, or the body is not the wearer's"
        )

    quat = motion.joint_quat_wxyz.astype(np.float64)
    quat[:, 0] = quat_multiply(axis_angle_to_quat(np.array([0.0, 0.0, yaw])), quat[:, 0])
    quat[:, head] = matrix_to_quat(np.swapaxes(turn @ rotation[:, neck], -1, -2) @ target)
    head_joint = T_world_head[:, :3, 3] - target @ skeleton.head_offset
    root = head_joint - (position[:, head] - position[:, 0]) @ turn.T
    hung = Motion(root, quat, skeleton, motion.fps)
    lift = np.eye(4)
    lift[2, 3] = -floor_height(hung)
    return Anchored(replace(hung, root_position=root + lift[:3, 3]), lift, disagreement)
