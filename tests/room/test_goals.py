from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat
from egotwin_sim.room.goals import Goal, facing_error, goals_of, parse_goal, success
from egotwin_sim.room.layout import RoomLayout, RoomObject, sample_layout


@pytest.fixture(scope="module")
def layout() -> RoomLayout:
    """A sampled room whose objects are known."""
    objects = (
        RoomObject("red box", "red", "box", (1.5, 1.0, 0.2), (0.4, 0.4, 0.4)),
        RoomObject("blue ball", "blue", "ball", (-1.0, 1.0, 0.25), (0.5, 0.5, 0.5)),
        RoomObject("green ball", "green", "ball", (-1.0, -1.0, 0.25), (0.5, 0.5, 0.5)),
        RoomObject("yellow cylinder", "yellow", "cylinder", (1.0, -1.0, 0.4), (0.4, 0.4, 0.8)),
    )
    return replace(sample_layout(0), objects=objects)


def standing(x: float, y: float, yaw: float) -> Motion:
    skeleton = Skeleton.default()
    quat = np.zeros((1, skeleton.num_joints, 4))
    quat[..., 0] = 1.0
    quat[0, 0] = axis_angle_to_quat(np.array([0.0, 0.0, yaw]))
    return Motion(np.array([[x, y, skeleton.rest_root_height]]), quat)


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("walk to the red box", "walk", "red box"),
        ("Go over to the red box.", "walk", "red box"),
        ("please approach the yellow one", "walk", "yellow cylinder"),
        ("walk towards the cylinder", "walk", "yellow cylinder"),
        ("You walk up to the table", "walk", "table"),
        ("walking to the door", "walk", "door"),
        ("head over to the green sphere", "walk", "green ball"),
        ("turn to the blue ball", "turn", "blue ball"),
        ("turn around and face the blue ball", "turn", "blue ball"),
        ("face the blue ball", "turn", "blue ball"),
        ("look at the red cube", "turn", "red box"),
        ("the person turns to the table", "turn", "table"),
        ("open the door", "open", "door"),
        ("please open the door", "open", "door"),
        ("Walk up to the door and push it open!", "open", "door"),
    ],
)
def test_goals_are_read(layout: RoomLayout, text: str, kind: str, target: str) -> None:
    assert parse_goal(text, layout) == Goal(kind, target)


@pytest.mark.parametrize("seed", range(5))
def test_every_goal_of_a_room_reads_its_own_text(seed: int) -> None:
    layout = sample_layout(seed)
    for goal in goals_of(layout):
        assert parse_goal(goal.text, layout) == goal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("walk to the purple box", "no purple box"),
        ("walk to the red ball", "no red ball"),
        ("walk to the elephant", "unknown word 'elephant'"),
        ("juggle the red box", "unknown word 'juggle'"),
        ("the red box", "no verb"),
        ("walk to the", "names nothing"),
        ("", "empty"),
        ("open the red box", "only the door"),
        ("walk to the red box and the blue ball", "more than one"),
        ("open the red door", "no red door"),
    ],
)
def test_mistakes_list_what_the_room_has(layout: RoomLayout, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_goal(text, layout)
    for name in layout.names:
        assert name in str(caught.value)


def test_an_ambiguous_shape_names_the_candidates(layout: RoomLayout) -> None:
    with pytest.raises(UserError, match="blue ball and the green ball"):
        parse_goal("walk to the ball", layout)


def test_walk_needs_nearness_and_facing(layout: RoomLayout) -> None:
    goal = Goal("walk", "red box")  # its near face is at x = 1.3
    assert success(goal, layout, standing(0.5, 1.0, 0.0), 0.0)
    assert not success(goal, layout, standing(0.3, 1.0, 0.0), 0.0)
    assert success(goal, layout, standing(0.5, 1.0, np.deg2rad(25.0)), 0.0)
    assert not success(goal, layout, standing(0.5, 1.0, np.deg2rad(50.0)), 0.0)


def test_turn_needs_facing_only(layout: RoomLayout) -> None:
    goal = Goal("turn", "blue ball")
    frame = standing(1.0, 1.0, np.pi - np.deg2rad(10.0))
    assert np.rad2deg(facing_error(layout, "blue ball", frame)) == pytest.approx(10.0, abs=1.0)
    assert success(goal, layout, frame, 0.0)
    assert not success(goal, layout, standing(1.0, 1.0, np.pi - np.deg2rad(20.0)), 0.0)
    assert not success(goal, layout, standing(1.0, 1.0, 0.0), 0.0)


def test_open_needs_sixty_degrees(layout: RoomLayout) -> None:
    frame = standing(0.0, 0.0, 0.0)
    assert not success(Goal("open", "door"), layout, frame, np.deg2rad(59.0))
    assert success(Goal("open", "door"), layout, frame, np.deg2rad(61.0))
