"""Averaging of pairwise motions: exact, robust against wrong ones, and honest about what is not connected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from egotwin_sim.metrics.pose_graph import average_poses
from egotwin_sim.motion.rotations import axis_angle_to_matrix, rotation_angle

GAPS = (1, 2, 3)


def all_pairs(count: int) -> np.ndarray:
    return np.array([(t, t + gap) for gap in GAPS for t in range(count - gap)])


def motions(poses: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.linalg.inv(poses[pairs[:, 1]]) @ poses[pairs[:, 0]]


def relative(poses: np.ndarray) -> np.ndarray:
    return np.linalg.inv(poses[0]) @ poses


def test_true_motions_give_the_true_poses(walk: Callable[..., np.ndarray]) -> None:
    poses, pairs = walk(), all_pairs(41)
    graph = average_poses(41, pairs, motions(poses, pairs))
    assert graph.connected.all()
    np.testing.assert_allclose(graph.T_world_camera, relative(poses), atol=1e-9)


def test_a_few_wrong_motions_are_outvoted(walk: Callable[..., np.ndarray], rng: np.random.Generator) -> None:
    poses, pairs = walk(), all_pairs(41)
    told = motions(poses, pairs)
    for row in (3, 17, 50, 60, 90):
        told[row, :3, :3] = axis_angle_to_matrix(np.array([0.0, 0.5, 0.0])) @ told[row, :3, :3]
        told[row, :3, 3] += 0.3
    found, truth = average_poses(41, pairs, told).T_world_camera, relative(poses)
    # Five of 117 pairs are wrong by 29 degrees and half a metre.
    assert np.rad2deg(rotation_angle(found[:, :3, :3], truth[:, :3, :3])).max() < 1.0
    assert np.linalg.norm(found[:, :3, 3] - truth[:, :3, 3], axis=-1).max() < 0.05


def test_noise_is_averaged(walk: Callable[..., np.ndarray], rng: np.random.Generator) -> None:
    poses, pairs = walk(), all_pairs(41)
    told = motions(poses, pairs)
    told[:, :3, :3] = axis_angle_to_matrix(0.01 * rng.normal(size=(len(pairs), 3))) @ told[:, :3, :3]

    def drift(kept: np.ndarray) -> float:
        found = average_poses(41, pairs[kept], told[kept]).T_world_camera
        return float(rotation_angle(found[:, :3, :3], relative(poses)[:, :3, :3]).mean())

    assert drift(np.ones(len(pairs), bool)) < drift(pairs[:, 1] - pairs[:, 0] == 1)


def test_only_the_largest_group_is_connected(walk: Callable[..., np.ndarray]) -> None:
    poses = walk(10)
    pairs = np.array([(0, 1), (1, 2), (4, 5), (5, 6), (6, 7), (4, 7)])
    graph = average_poses(10, pairs, motions(poses, pairs))
    np.testing.assert_array_equal(np.flatnonzero(graph.connected), [4, 5, 6, 7])
    np.testing.assert_allclose(graph.T_world_camera[4:8], np.linalg.inv(poses[4]) @ poses[4:8], atol=1e-9)
    assert np.isnan(graph.T_world_camera[[0, 1, 2, 3, 8, 9]]).all()


@pytest.mark.parametrize("count", [1, 3])
def test_without_pairs_one_frame_stands_alone(count: int) -> None:
    graph = average_poses(count, np.zeros((0, 2), int), np.zeros((0, 4, 4)))
    assert graph.connected.tolist() == [True] + [False] * (count - 1)
