"""How glasses sit on a head: the fixed pose between two things that move as one but are tracked in two worlds.

A pair of glasses A, tracked by SLAM, and a head B, tracked by motion capture, are rigidly joined: T_a_b is fixed.
From each, take how it moved over a short time. The two relative motions satisfy T_a_rel T_a_b = T_a_b T_b_rel
(hand-eye calibration): the rotation follows from the relative rotation vectors by SVD, the translation from linear
least squares. Neither asks how the two worlds lie to each other, so slow drift of either does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import matrix_to_axis_angle
from egotwin_sim.motion.timed import invert_poses

# Relative turns used, radians: smaller ones are noise, and the direction of larger ones is not well known.
_MIN_TURN, _MAX_TURN = np.radians(2.0), np.radians(150.0)
_MIN_PAIRS = 30
# Of the residuals, those that are this many times the median are of another cause: slipped glasses, a wrong pose.
_OUTLIER = 4.0
_ROUNDS = 4
# Limits of what is believed. A wrong clock or another person's body leaves tens of degrees.
_MAX_ROTATION = np.radians(5.0)
_MAX_TRANSLATION = 0.05
_MAX_UNCERTAINTY = 0.03
# From the origin of the glasses to the point between the eyes, metres.
_MAX_DISTANCE = 0.4


@dataclass(frozen=True, eq=False)
class Mount:
    """How B sits in A.

    Attributes:
        T_a_b: float64 (4, 4).
        rotation_error: root mean square, radians, of what the solution leaves unexplained.
        translation_error: the same, metres.
        uncertainty: standard deviation of the least certain coordinate of the translation, metres.
        used: share of the observations that agree and were used.
    """

    T_a_b: np.ndarray
    rotation_error: float
    translation_error: float
    uncertainty: float
    used: float

    def __str__(self) -> str:
        """The figures, for a report."""
        x, y, z = self.T_a_b[:3, 3]
        return (
            f"residuals {np.degrees(self.rotation_error):.2f} degrees, {1000 * self.translation_error:.1f} mm; "
            f"position ({x:.3f}, {y:.3f}, {z:.3f}) m known to {1000 * self.uncertainty:.1f} mm; "
            f"{100 * self.used:.0f} % used"
        )


def solve_hand_eye(tracks: Sequence[tuple[np.ndarray, np.ndarray]], step: int) -> Mount:
    """The pose T_a_b from trajectories in two worlds.

    Args:
        tracks: for each unbroken stretch T_world_a (T, 4, 4), A in its world, and T_other_b (T, 4, 4), B in another
            world, at the same evenly spaced times.
        step: number of frames over which relative motions are taken: about half a second.

    Raises:
        UserError: too little turning to tell, or the solution explains the motion badly.
    """
    long_enough = [each for each in tracks if len(each[0]) > step] or [(np.empty((0, 4, 4)), np.empty((0, 4, 4)))]
    a, b = (np.concatenate([_relative(each[side], step) for each in long_enough]) for side in (0, 1))
    turn_a, turn_b = matrix_to_axis_angle(a[:, :3, :3]), matrix_to_axis_angle(b[:, :3, :3])
    angle = np.linalg.norm(turn_a, axis=-1)
    turning = (angle > _MIN_TURN) & (angle < _MAX_TURN)
    if turning.sum() < _MIN_PAIRS:
        raise UserError(
            f"the head turns in {int(turning.sum())} of {len(angle)} places; expected at least {_MIN_PAIRS} to find "
            "how the glasses sit on it: the recording is too short or too still"
        )
    a, b, turn_a, turn_b = a[turning], b[turning], turn_a[turning], turn_b[turning]

    keep = np.ones(len(a), dtype=bool)
    for _ in range(_ROUNDS):
        rotation = _rotation(turn_a[keep], turn_b[keep])
        rotation_residual = np.linalg.norm(turn_a - turn_b @ rotation.T, axis=-1)
        keep = _agreeing(rotation_residual)
    agreeing_rotation = keep
    # (R_a - 1) t = R b - a for every pair.
    left = a[:, :3, :3] - np.eye(3)
    right = b[:, :3, 3] @ rotation.T - a[:, :3, 3]
    for _ in range(_ROUNDS):
        translation = np.linalg.lstsq(left[keep].reshape(-1, 3), right[keep].reshape(-1), rcond=None)[0]
        residual = np.linalg.norm(left @ translation - right, axis=-1)
        keep = agreeing_rotation & _agreeing(residual, agreeing_rotation)
    spread = np.linalg.svd(left[keep].reshape(-1, 3), compute_uv=False)
    translation_error = _rms(residual[keep])
    # Neighbouring pairs share most of their time, so only every `step`-th tells something new.
    uncertainty = translation_error / np.sqrt(3.0) / max(spread[-1], 1e-9) * np.sqrt(step)

    T_a_b = np.eye(4)
    T_a_b[:3, :3], T_a_b[:3, 3] = rotation, translation
    mount = Mount(
        T_a_b, _rms(rotation_residual[agreeing_rotation]), translation_error, float(uncertainty), float(keep.mean())
    )
    _believe(mount)
    return mount


def mean_mount(T_world_a: np.ndarray, T_world_b: np.ndarray) -> Mount:
    """The pose T_a_b from trajectories in one world: the mean of the relative poses, without outliers.

    Args:
        T_world_a: (T, 4, 4).
        T_world_b: (T, 4, 4), in the same world, at the same times.

    Raises:
        UserError: the relative pose is not nearly fixed.
    """
    relative = invert_poses(T_world_a) @ T_world_b
    keep = np.ones(len(relative), dtype=bool)
    for _ in range(_ROUNDS):
        u, _, v = np.linalg.svd(relative[keep][:, :3, :3].mean(axis=0))
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
        translation = np.median(relative[keep][:, :3, 3], axis=0)
        turn = np.linalg.norm(matrix_to_axis_angle(rotation.T @ relative[:, :3, :3]), axis=-1)
        way = np.linalg.norm(relative[:, :3, 3] - translation, axis=-1)
        keep = _agreeing(turn) & _agreeing(way)
    T_a_b = np.eye(4)
    T_a_b[:3, :3], T_a_b[:3, 3] = rotation, relative[keep][:, :3, 3].mean(axis=0)
    error = _rms(way[keep])
    mount = Mount(T_a_b, _rms(turn[keep]), error, error / np.sqrt(keep.sum()), float(keep.mean()))
    _believe(mount, slack=3.0)
    return mount


def _relative(T: np.ndarray, step: int) -> np.ndarray:
    """Each pose (T - step, 4, 4) as seen from the one `step` frames before, of poses (T, 4, 4)."""
    return invert_poses(T[:-step]) @ T[step:]


def _believe(mount: Mount, slack: float = 1.0) -> None:
    distance = float(np.linalg.norm(mount.T_a_b[:3, 3]))
    bad = []
    if not mount.rotation_error <= slack * _MAX_ROTATION:
        bad.append(f"the turns disagree by {np.degrees(mount.rotation_error):.1f} degrees")
    if not mount.translation_error <= slack * _MAX_TRANSLATION:
        bad.append(f"the ways disagree by {100 * mount.translation_error:.1f} cm")
    if not mount.uncertainty <= _MAX_UNCERTAINTY:
        bad.append(
            f"the position is only known to {100 * mount.uncertainty:.1f} cm: the head turns about one axis only"
        )
    if not distance <= _MAX_DISTANCE:
        bad.append(f"the head would be {distance:.2f} m from the glasses")
    if bad:
        raise UserError(
            f"glasses and head do not move as one ({'; '.join(bad)}); is the body that of the wearer, and are the "
            "clocks right?"
        )


def _rotation(turn_a: np.ndarray, turn_b: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) with turn_a = R turn_b, (N, 3) each, in least squares: by SVD."""
    u, _, v = np.linalg.svd(turn_a.T @ turn_b)
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v


def _agreeing(residual: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Which (N,) of the residuals (N,) are not far above the median of `among`."""
    typical = np.median(residual if among is None else residual[among])
    return residual <= _OUTLIER * max(float(typical), 1e-9)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values * values)))
