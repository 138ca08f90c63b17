"""Alignment against known answers, and what it refuses to make up."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.alignment import align, align_turned, mean_rotation, spread
from egotwin_sim.motion.rotations import axis_angle_to_matrix, rotation_angle

TURN = axis_angle_to_matrix(np.array([0.4, -1.1, 2.0]))
SHIFT = np.array([3.0, -2.0, 0.5])


@pytest.mark.parametrize("scale", [0.05, 1.0, 7.0])
def test_a_known_similarity_is_found(rng: np.random.Generator, scale: float) -> None:
    points = rng.normal(size=(30, 3))
    found = align(points, scale * points @ TURN.T + SHIFT, with_scale=True)
    assert found.scale == pytest.approx(scale, rel=1e-12)
    np.testing.assert_allclose(found.rotation, TURN, atol=1e-12)
    np.testing.assert_allclose(found.translation, SHIFT, atol=1e-12)
    assert not found.collinear
    np.testing.assert_allclose(found.move(points), scale * points @ TURN.T + SHIFT, atol=1e-12)


def test_without_scale_only_a_rigid_pose_is_taken(rng: np.random.Generator) -> None:
    points = rng.normal(size=(30, 3))
    found = align(points, 2.0 * points @ TURN.T + SHIFT, with_scale=False)
    assert found.scale == 1.0
    np.testing.assert_allclose(found.rotation, TURN, atol=1e-12)
    np.testing.assert_allclose(found.move(points.mean(axis=0)), (2.0 * points @ TURN.T + SHIFT).mean(axis=0))


def test_no_reflection_even_where_it_would_fit_better(rng: np.random.Generator) -> None:
    points = rng.normal(size=(30, 3))
    found = align(points, points * [1.0, 1.0, -1.0], with_scale=True)
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


def test_the_squared_distance_is_least(rng: np.random.Generator) -> None:
    points = rng.normal(size=(40, 3))
    reference = 1.5 * points @ TURN.T + SHIFT + 0.1 * rng.normal(size=points.shape)
    found = align(points, reference, with_scale=True)
    least = np.square(found.move(points) - reference).sum()
    for _ in range(50):
        turn = axis_angle_to_matrix(rng.normal(size=3) * 0.02) @ found.rotation
        scale, shift = found.scale * (1 + 0.02 * rng.normal()), found.translation + 0.02 * rng.normal(size=3)
        assert np.square(scale * points @ turn.T + shift - reference).sum() >= least


def test_a_straight_line_is_called_so_and_still_brought_together() -> None:
    points = np.linspace(0, 1, 20)[:, None] * [1.0, 2.0, 0.5]
    found = align(points, 3.0 * points @ TURN.T + SHIFT, with_scale=True)
    assert found.collinear
    np.testing.assert_allclose(found.move(points), 3.0 * points @ TURN.T + SHIFT, atol=1e-9)


@pytest.mark.parametrize("still", ["points", "reference"])
def test_what_does_not_move_is_refused(rng: np.random.Generator, still: str) -> None:
    moving, resting = rng.normal(size=(20, 3)), np.ones((20, 3))
    pair = (resting, moving) if still == "points" else (moving, resting)
    with pytest.raises(UserError, match=f"the {still} stay within .*compare rotations alone"):
        align(*pair, with_scale=True)


def test_other_refusals(rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, 3))
    with pytest.raises(UserError, match="same moments"):
        align(points, points[:-1], with_scale=True)
    with pytest.raises(UserError, match="at least 3"):
        align(points[:2], points[:2], with_scale=True)
    with pytest.raises(UserError, match="not recovered"):
        align(points, np.where(points > 1, np.nan, points), with_scale=True)


def test_mean_rotation_of_opposite_errors_is_between_them() -> None:
    errors = axis_angle_to_matrix(np.array([[0.1, 0, 0], [-0.1, 0, 0], [0, 0.2, 0], [0, -0.2, 0]]))
    np.testing.assert_allclose(mean_rotation(errors @ TURN), TURN, atol=1e-12)


def test_turned_alignment_needs_no_movement() -> None:
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, :3, :3] = axis_angle_to_matrix(np.linspace(0, 1, 6)[:, None] * [0, 0, 1.0])
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = TURN, SHIFT
    found = align_turned(poses, world @ poses)
    assert rotation_angle(found.rotation, TURN) < 1e-9
    np.testing.assert_allclose(found.move(poses[:, :3, 3]), (world @ poses)[:, :3, 3], atol=1e-9)


def test_spread_by_hand() -> None:
    assert spread(np.array([[1.0, 0, 0], [-1.0, 0, 0]])) == pytest.approx(1.0)
