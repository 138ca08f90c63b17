"""Errors between motions, and the two numbers that tell at once whether a body moves like the data's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion


@dataclass(frozen=True)
class MotionError:
    """Mean errors over all frames.

    Attributes:
        joint_mm: distance between corresponding joints in the world, millimetres.
        head_mm: distance between the heads, millimetres.
        head_deg: angle between the heads' orientations, degrees.
    """

    joint_mm: float
    head_mm: float
    head_deg: float


def rotation_angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in radians [0, pi] of the rotation between two rotation matrices (..., 3, 3).

    From the chordal distance, |A - B|_F = 2 sqrt(2) sin(angle / 2), which stays exact for small angles where the
    arc cosine of the trace does not.
    """
    chord = np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64), axis=(-2, -1))
    return 2.0 * np.arcsin(np.clip(chord / (2.0 * np.sqrt(2.0)), 0.0, 1.0))


def motion_error(truth: Motion, other: Motion) -> MotionError:
    """Mean joint, head position and head rotation errors of two motions in the same world frame.

    Raises:
        UserError: the motions differ in length or skeleton.
    """
    if len(truth) != len(other) or truth.skeleton.names != other.skeleton.names:
        raise UserError(
            f"motions of {len(truth)} and {len(other)} frames cannot be compared: give two of the same length and "
            "joints"
        )
    joints, joints_other = truth.joint_transforms()[0], other.joint_transforms()[0]
    head, head_other = truth.T_world_head(), other.T_world_head()
    angle = rotation_angle(head[:, :3, :3], head_other[:, :3, :3])
    return MotionError(
        joint_mm=1000.0 * float(np.linalg.norm(joints - joints_other, axis=-1).mean()),
        head_mm=1000.0 * float(np.linalg.norm(head[:, :3, 3] - head_other[:, :3, 3], axis=-1).mean()),
        head_deg=float(np.rad2deg(angle.mean())),
    )


def mean_joint_speed(motion: Motion) -> float:
    """Mean speed of all joints in the world over all frames, m/s; 0 for a single frame."""
    joints = motion.joint_transforms()[0]
    if len(joints) < 2:
        return 0.0
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean() * motion.fps)


def mean_head_height(motion: Motion) -> float:
    """Mean height of the point between the eyes above the floor, metres."""
    return float(motion.T_world_head()[:, 2, 3].mean())


def heading(T_world_head: np.ndarray) -> np.ndarray:
    """Unwrapped heading of the head (T,) in radians, from poses (T, 4, 4); positive to the left."""
    forward = T_world_head[:, :3, 0]
    return np.unwrap(np.arctan2(forward[:, 1], forward[:, 0]))


def share_in_range(values: np.ndarray, reference: np.ndarray, low: float = 5.0, high: float = 95.0) -> float:
    """Share of `values` (N,) between the `low`-th and `high`-th percentile of `reference` (M,)."""
    bottom, top = np.percentile(reference, [low, high])
    return float(((values >= bottom) & (values <= top)).mean())
