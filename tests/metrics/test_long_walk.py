"""The minute of motion that drift is measured with."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from egotwin_sim.data.plan import Plan
from egotwin_sim.motion.rotations import yaw_of
from egotwin_sim.room.layout import sample_layout

SECONDS = 30.0


@pytest.fixture(scope="module")
def long_walk(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("long_walk")


def test_it_walks_and_turns_without_a_seam_and_stays_in_the_room(long_walk: ModuleType) -> None:
    for room in long_walk.held_out_seeds(3):
        walk = long_walk.long_walk(sample_layout(room), 0, SECONDS)
        assert len(walk.motion) == len(walk.door_angle) == 1 + 16 * SECONDS
        steps = np.linalg.norm(np.diff(walk.motion.root_position, axis=0), axis=1)
        heading = np.unwrap(yaw_of(walk.motion.T_world_head()[:, :3, :3]))
        assert steps.sum() > 3.0 and np.abs(np.diff(heading)).sum() > np.pi
        assert steps.max() < 0.15 and np.abs(np.diff(heading)).max() < np.deg2rad(20)  # 2.4 m/s, 320 degrees/s
        assert walk.layout.inside(walk.motion.root_position[:, :2]).all()


def test_the_same_seed_gives_the_same_walk_and_another_one_another(long_walk: ModuleType) -> None:
    layout = sample_layout(long_walk.held_out_seeds(1)[0])
    first, again, other = (long_walk.long_walk(layout, seed, 4.0).motion.root_position for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_rooms_are_no_training_rooms(long_walk: ModuleType) -> None:
    trained = Plan(8000, seed=0)
    rooms = long_walk.held_out_seeds(32)
    assert len(set(rooms)) == 32
    assert not set(rooms) & {trained.room_seed(room) for room in range(trained.rooms)}


def test_a_part_of_the_film_is_that_part(long_walk: ModuleType) -> None:
    walk = long_walk.long_walk(sample_layout(5), 0, 1.0)
    whole = walk.film(64)
    assert whole.shape == (9, 64, 64, 3)
    np.testing.assert_array_equal(walk.film(64, 3, 6), whole[3:6])
