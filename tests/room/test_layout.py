from __future__ import annotations

import colorsys

import numpy as np
import pytest

from egotwin_sim.room.layout import (
    BODY_RADIUS,
    COLOURS,
    DOOR_APPROACH,
    DOOR_HUE,
    DOOR_MAX_ANGLE,
    VESTIBULE_HUE,
    Footprint,
    sample_layout,
)

LAYOUTS = [sample_layout(seed) for seed in range(60)]


def test_the_same_seed_gives_the_same_room_and_another_seed_another() -> None:
    assert sample_layout(7) == sample_layout(7)
    assert sample_layout(7) != sample_layout(8)


@pytest.mark.parametrize("layout", LAYOUTS[:20], ids=lambda layout: str(layout.seed))
def test_objects_have_their_own_colour_and_lie_in_the_room(layout) -> None:
    assert 4 <= len(layout.objects) <= 6
    assert len({thing.colour for thing in layout.objects}) == len(layout.objects)
    assert 1 <= sum(thing.on_table for thing in layout.objects) <= 2
    for thing in layout.objects:
        assert thing.name == f"{thing.colour} {thing.shape}"
        assert layout.inside(np.array(thing.position[:2]))
        bottom = thing.position[2] - thing.size[2] / 2
        assert bottom == pytest.approx(layout.table.size[2] if thing.on_table else 0.0)
        assert max(thing.size[:2]) >= 0.28


def test_hues_are_far_apart_and_pale_things_are_pale() -> None:
    hues = sorted([*COLOURS.values(), DOOR_HUE, VESTIBULE_HUE])
    gaps = np.diff([*hues, hues[0] + 360.0])
    assert gaps.min() >= 22.0
    for layout in LAYOUTS:
        for surface in (*layout.walls, layout.floor, layout.ceiling):
            for colour in (surface.colour, surface.second):
                assert colorsys.rgb_to_hsv(*colour)[1] < 0.2


def test_a_body_can_walk_to_everything() -> None:
    """Flood the floor from the door's approach: every object must have free floor beside it."""
    for layout in LAYOUTS[:25]:
        step = 0.1
        half = np.array(layout.size) / 2
        xs, ys = (np.arange(-extent + step / 2, extent, step) for extent in half)
        grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1)
        free = layout.clearance(grid) > 0.25
        start = layout.door.centre - layout.door.outward * 0.8
        i, j = int(np.abs(xs - start[0]).argmin()), int(np.abs(ys - start[1]).argmin())
        assert free[i, j]
        reached, front = {(i, j)}, [(i, j)]
        while front:
            i, j = front.pop()
            for n in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if 0 <= n[0] < len(xs) and 0 <= n[1] < len(ys) and free[n] and n not in reached:
                    reached.add(n)
                    front.append(n)
        assert len(reached) == free.sum(), f"room {layout.seed} has floor that cannot be reached"
        floor = grid[tuple(np.array(sorted(reached)).T)]
        for name in layout.names:
            assert layout.target_footprint(name).distance(floor).min() < 0.6, (layout.seed, name)


def test_the_door_and_its_approach_are_free() -> None:
    for layout in LAYOUTS:
        door = layout.door
        for depth in (0.45, 0.8, DOOR_APPROACH - 0.2):
            assert layout.clearance(door.centre - door.outward * depth) > BODY_RADIUS + 0.05
        assert not layout.inside(door.centre)


@pytest.mark.parametrize("layout", LAYOUTS[:8], ids=lambda layout: str(layout.seed))
def test_the_leaf_swings_outwards_within_the_vestibule(layout) -> None:
    door = layout.door
    hinge = np.array(door.hinge[:2])
    for angle in np.linspace(0.0, DOOR_MAX_ANGLE, 12):
        leaf, normal = door.leaf_axes(angle)
        assert leaf @ normal == pytest.approx(0.0, abs=1e-12)
        edge = hinge + leaf * door.width
        clearance = min(thing.distance(edge) for thing in layout.wall_footprints)
        assert angle == 0.0 or clearance > 0.0
        # The handle is on the room's side of the leaf.
        assert (door.handle_position(angle)[:2] - hinge) @ normal < 0.0
    outward = [float((door.handle_position(a)[:2] - hinge) @ door.outward) for a in (0.0, 0.4, 0.8, 1.2)]
    assert np.all(np.diff(outward) > 0.0)


def test_spawn_places_are_free_and_repeatable() -> None:
    for layout in LAYOUTS[:20]:
        rng = np.random.default_rng(1)
        places = [layout.sample_spawn(rng) for _ in range(20)]
        assert layout.clearance(np.array(places)[:, :2]).min() > 0.32
        assert layout.inside(np.array(places)[:, :2]).all()
        assert places[0] == layout.sample_spawn(np.random.default_rng(1))


def test_footprint_distance_and_normal() -> None:
    box = Footprint("box", (1.0, 2.0), (0.5, 0.25), np.pi / 2)  # turned: 0.25 along x, 0.5 along y
    points = np.array([[1.35, 2.0], [1.0, 2.7], [1.0, 2.0], [1.55, 2.9]])
    np.testing.assert_allclose(box.distance(points), [0.10, 0.20, -0.25, 0.50], atol=1e-12)
    np.testing.assert_allclose(box.normal(points[0]), [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(box.normal(np.array([1.2, 2.0])), [1.0, 0.0], atol=1e-12)
    ball = Footprint("ball", (0.0, 0.0), radius=0.3)
    assert ball.distance(np.array([0.0, 0.5])) == pytest.approx(0.2)
    np.testing.assert_allclose(ball.normal(np.array([0.0, 0.1])), [0.0, 1.0], atol=1e-12)
