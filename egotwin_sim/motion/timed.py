"""Poses that have times of their own: between them, as matrices, and how fast they turn."""

from __future__ import annotations

import numpy as np

from egotwin_sim.motion.rotations import quat_conjugate, quat_multiply, quat_to_axis_angle, quat_to_matrix, slerp


def interpolated(
    times_s: np.ndarray, position: np.ndarray, quat_wxyz: np.ndarray, at_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Poses between poses: positions linearly, rotations by slerp.

    Args:
        times_s: (T,), rising, T >= 2.
        position: (T, ..., 3).
        quat_wxyz: (T, ..., 4), unit length.
        at_s: (N,), none before the first or after the last of the times.

    Returns:
        Positions (N, ..., 3) and unit quaternions (N, ..., 4).
    """
    after = np.clip(np.searchsorted(times_s, at_s), 1, len(times_s) - 1)
    before = after - 1
    fraction = (at_s - times_s[before]) / (times_s[after] - times_s[before])
    weight = fraction.reshape(-1, *(1,) * (position.ndim - 2))
    between = position[before] + weight[..., None] * (position[after] - position[before])
    return between, slerp(quat_wxyz[before], quat_wxyz[after], weight)


def pose_matrices(position: np.ndarray, quat_wxyz: np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) of positions (..., 3) and unit quaternions (..., 4)."""
    matrix = np.zeros((*position.shape[:-1], 4, 4))
    matrix[..., :3, :3] = quat_to_matrix(quat_wxyz)
    matrix[..., :3, 3] = position
    matrix[..., 3, 3] = 1.0
    return matrix


def invert_poses(T: np.ndarray) -> np.ndarray:
    """The inverses (..., 4, 4) of rigid poses (..., 4, 4)."""
    inverse = np.zeros_like(T)
    inverse[..., :3, :3] = np.swapaxes(T[..., :3, :3], -1, -2)
    inverse[..., :3, 3] = -(inverse[..., :3, :3] @ T[..., :3, 3, None])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def angular_speed(quat_wxyz: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Radians a second (N - 1,) between neighbours of rotations (N, 4) at rising times (N,), whatever their frame."""
    turn = quat_multiply(quat_conjugate(quat_wxyz[:-1]), quat_wxyz[1:])
    return np.linalg.norm(quat_to_axis_angle(turn), axis=-1) / np.diff(times_s)
