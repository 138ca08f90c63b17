"""Bringing one trajectory into the frame of another: a similarity, a rigid pose, or a rotation alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError

LEAST_POINTS = 3
STILL = 1e-6  # metres, root mean square distance from the mean; below it there is nothing to align
# Of the largest standard deviation; points that leave a line by less fix no rotation about it.
COLLINEAR = 0.01


@dataclass(frozen=True, eq=False)
class Alignment:
    """x -> scale * rotation x + translation.

    Attributes:
        scale: positive.
        rotation: float64 (3, 3).
        translation: float64 (3,), metres.
        collinear: the points lie on a line, about which the rotation is undetermined. The distances that are left are
            the least possible all the same, but orientations must not be compared after this rotation.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    collinear: bool = False

    def move(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in the frame of the reference."""
        return self.scale * points @ self.rotation.T + self.translation


def spread(points: np.ndarray) -> float:
    """Root mean square distance of points (N, 3) from their mean."""
    return float(np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=-1).mean()))


def align(points: np.ndarray, reference: np.ndarray, *, with_scale: bool) -> Alignment:
    """The Sim(3), or without scale the SE(3), that brings points nearest to their reference, in squared distance.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991), equations 40 to
    43. Reflections are excluded.

    Args:
        points: (N, 3).
        reference: (N, 3), of the same moments.
        with_scale: whether the scale is free, as it is in what a single camera recovers; otherwise it is 1.

    Raises:
        UserError: fewer than three points, shapes that differ, numbers that are not finite, or one of both does not
            move: the rotation, and the scale, are then anything.
    """
    x, y = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 3 or len(x) < LEAST_POINTS:
        raise UserError(
            f"points {x.shape} cannot be aligned to {y.shape}; expected two arrays (N, 3) of the same moments, N at "
            f"least {LEAST_POINTS}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("the points to align hold NaN or infinity; leave out the frames that were not recovered")
    for name, each in (("points", x), ("reference", y)):
        if spread(each) < STILL:
            raise UserError(
                f"the {name} stay within {STILL:g} m of one place: no rotation or scale can be told; compare rotations "
                "alone"
            )
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    u, singular, vt = np.linalg.svd((y - mean_y).T @ (x - mean_x) / len(x))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / np.square(x - mean_x).sum(axis=-1).mean()) if with_scale else 1.0
    collinear = any(_on_a_line(each) for each in (x, y))
    return Alignment(scale, rotation, mean_y - scale * rotation @ mean_x, collinear)


def _on_a_line(points: np.ndarray) -> bool:
    along = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(along[1] < COLLINEAR * along[0])


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) nearest to rotations (N, 3, 3) in squared chordal distance (their projected mean).

    Hartley et al., "Rotation averaging" (2013), section 5.3.
    """
    u, _, vt = np.linalg.svd(np.asarray(rotations, dtype=np.float64).mean(axis=0))
    return (u * np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])) @ vt


def align_turned(T: np.ndarray, reference: np.ndarray) -> Alignment:
    """The rigid pose whose rotation agrees best with the orientations, and whose shift with the positions.

    Unlike `align` it is determined for any trajectory, a still or a straight one too.

    Args:
        T: poses (N, 4, 4), N at least 1.
        reference: (N, 4, 4), of the same moments.
    """
    rotation = mean_rotation(reference[:, :3, :3] @ T[:, :3, :3].swapaxes(-1, -2))
    return Alignment(1.0, rotation, reference[:, :3, 3].mean(axis=0) - rotation @ T[:, :3, 3].mean(axis=0))
