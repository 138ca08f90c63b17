"""Poses of many frames from the motions between pairs of them, some of which may be wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from egotwin_sim.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle

ROUNDS = 20
# An error smaller than this counts by its square, a larger one by its length: a wrong pair is outvoted by the others.
ROTATION_TOLERANCE = np.deg2rad(0.3)
TRANSLATION_TOLERANCE = 0.005  # metres


class PoseGraph(NamedTuple):
    """Poses of N frames.

    Attributes:
        T_world_camera: float64 (N, 4, 4), the world being the frame of the first connected camera.
        connected: bool (N,), the frames of the largest group that the pairs connect; the poses of others are NaN.
    """

    T_world_camera: np.ndarray
    connected: np.ndarray


def average_poses(count: int, pairs: np.ndarray, T_b_a: np.ndarray) -> PoseGraph:
    """The poses that agree best with the motions of all pairs.

    First the rotations, then the positions: for the world rotation R_i and position c_i of frame i, a pair (a, b) says
    R_b M R_a' = 1 and c_a - c_b = R_b t, with (M, t) its motion. Either is linear in small changes, with the graph's
    Laplacian as matrix (Govindu, "Lie-algebraic averaging for globally consistent motion estimation", 2004), and is
    solved with weights that fall with the error (Huber).

    Args:
        count: N frames, at least 1.
        pairs: int (E, 2), frames a and b of each pair.
        T_b_a: (E, 4, 4), maps a's optical frame to b's.
    """
    connected = _largest_group(count, pairs)
    inside = connected[pairs].all(axis=1) if len(pairs) else np.zeros(0, dtype=bool)
    pairs, T_b_a = np.asarray(pairs).reshape(-1, 2)[inside], np.asarray(T_b_a, np.float64).reshape(-1, 4, 4)[inside]
    rotation = _chain(count, pairs, T_b_a[:, :3, :3], int(np.argmax(connected)))
    a, b = pairs.T
    for _ in range(ROUNDS):
        apart = matrix_to_axis_angle(rotation[b] @ T_b_a[:, :3, :3] @ rotation[a].swapaxes(-1, -2))
        change = _solve(count, connected, pairs, -apart, _huber(apart, ROTATION_TOLERANCE))
        rotation = axis_angle_to_matrix(change) @ rotation
    step = -(rotation[b] @ T_b_a[:, :3, 3:])[..., 0]
    weights = np.ones(len(pairs))
    position = np.zeros((count, 3))
    for _ in range(ROUNDS):
        position = _solve(count, connected, pairs, step, weights)
        weights = _huber(position[b] - position[a] - step, TRANSLATION_TOLERANCE)
    poses = np.full((count, 4, 4), np.nan)
    poses[connected] = np.eye(4)
    poses[connected, :3, :3] = rotation[connected]
    poses[connected, :3, 3] = position[connected]
    return PoseGraph(poses, connected)


def _solve(count: int, connected: np.ndarray, pairs: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The x (N, 3) with x_b - x_a nearest to `wanted` (E, 3), the first connected frame and all others at 0."""
    incidence = np.zeros((len(pairs), count))
    incidence[np.arange(len(pairs)), pairs[:, 1]] += 1
    incidence[np.arange(len(pairs)), pairs[:, 0]] -= 1
    free = connected.copy()
    free[np.argmax(connected)] = False
    some = incidence[:, free]
    x = np.zeros((count, 3))
    x[free] = np.linalg.solve(some.T @ (weights[:, None] * some), some.T @ (weights[:, None] * wanted))
    return x


def _huber(error: np.ndarray, tolerance: float) -> np.ndarray:
    """Weights (E,) of errors (E, 3): 1 up to the tolerance, then falling with the inverse of the length."""
    return tolerance / np.maximum(np.linalg.norm(error, axis=-1), tolerance)


def _largest_group(count: int, pairs: np.ndarray) -> np.ndarray:
    """The frames (N,) of the largest connected group; of equal ones, the first."""
    group = np.arange(count)
    for _ in range(count):
        before = group.copy()
        for a, b in np.asarray(pairs).reshape(-1, 2):
            group[a] = group[b] = min(group[a], group[b])
        if (group == before).all():
            break
    sizes = np.bincount(group, minlength=count)
    return group == int(np.argmax(sizes))


def _chain(count: int, pairs: np.ndarray, R_b_a: np.ndarray, first: int) -> np.ndarray:
    """Rotations (N, 3, 3) that follow the pairs outwards from the first frame; the start of the averaging."""
    rotation = np.tile(np.eye(3), (count, 1, 1))
    known = np.zeros(count, dtype=bool)
    known[first] = True
    grown = True
    while grown:
        grown = False
        for (a, b), M in zip(pairs, R_b_a, strict=True):
            if known[a] and not known[b]:
                rotation[b], known[b], grown = rotation[a] @ M.T, True, True
            elif known[b] and not known[a]:
                rotation[a], known[a], grown = rotation[b] @ M, True, True
    return rotation
