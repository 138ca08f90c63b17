"""Goals in words: reading them against a room, and telling whether they have been reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.room.layout import COLOURS, SHAPES, RoomLayout

GoalKind = Literal["walk", "turn", "open"]

WALK_DISTANCE = 0.9  # metres from the pelvis to the target's surface, on the floor plan
WALK_FACING = np.deg2rad(35.0)  # between the head's direction and the target, on the floor plan
TURN_FACING = np.deg2rad(15.0)  # the same, for "turn"
OPEN_ANGLE = np.deg2rad(60.0)

# The more specific first: "go and open the door" is an "open".
_VERBS: tuple[tuple[GoalKind, tuple[str, ...]], ...] = (
    ("open", ("open", "push", "pull")),
    ("turn", ("turn", "face", "look", "rotate", "gaze", "orient")),
    ("walk", ("walk", "go", "move", "step", "head", "approach", "come", "stroll", "get", "reach", "proceed")),
)
_SYNONYMS = {"sphere": "ball", "cube": "box", "crate": "box", "block": "box", "tube": "cylinder", "desk": "table"}
_FILLER = frozenset(
    "a an the to toward towards over up at around round your yourself please now then and slowly quickly straight "
    "directly can could would you i me my want so that is in front of near by next side out into on across there "
    "it carefully calmly forward ahead one this person someone until for body self just gently".split()
)
_ENDINGS = ("ing", "es", "s", "ed")


@dataclass(frozen=True)
class Goal:
    """What is to be reached.

    Attributes:
        kind: "walk" to the target, "turn" to it, or "open" it.
        target: a name of the room: an object's, "table" or "door".
    """

    kind: GoalKind
    target: str

    @property
    def text(self) -> str:
        """The plainest wording, which `parse_goal` reads back."""
        return {"walk": "walk to the ", "turn": "turn to the ", "open": "open the "}[self.kind] + self.target


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            return word[: -len(ending)]
    return word


def _verb(word: str) -> GoalKind | None:
    for kind, verbs in _VERBS:
        if any(word == verb or _stem(word) in (verb, verb.rstrip("e")) or _stem(word) == _stem(verb) for verb in verbs):
            return kind
    return None


def _has(layout: RoomLayout) -> str:
    *objects, table, door = layout.names
    return f"this room has: the {', the '.join(objects)}, the {table}, the {door}"


def _target(words: list[str], layout: RoomLayout, text: str) -> str:
    colours = [word for word in words if word in COLOURS]
    things = [word for word in words if word in (*SHAPES, "table", "door")]
    if len(set(colours)) > 1 or len(set(things)) > 1:
        raise UserError(f"goal {text!r} names more than one thing; give one, {_has(layout)}")
    if things and things[0] in ("table", "door"):
        if colours:
            raise UserError(f"goal {text!r}: there is no {colours[0]} {things[0]}; {_has(layout)}")
        return things[0]
    if not colours and not things:
        raise UserError(f"goal {text!r} names nothing in the room; {_has(layout)}")
    found = [
        thing.name
        for thing in layout.objects
        if (not colours or thing.colour == colours[0]) and (not things or thing.shape == things[0])
    ]
    if not found:
        raise UserError(f"goal {text!r}: there is no {' '.join(colours + things)}; {_has(layout)}")
    if len(found) > 1:
        raise UserError(f"goal {text!r} fits the {' and the '.join(found)}; name the colour")
    return found[0]


def parse_goal(text: str, layout: RoomLayout) -> Goal:
    """Reads a goal such as "walk to the red box", "please turn to the blue ball" or "open the door".

    A target may go by its colour or its shape alone where only one object of the room fits.

    Args:
        text: English, one verb and one target.
        layout: the room.

    Raises:
        UserError: a word is unknown, the verb or the target is missing or ambiguous, or the room has no such thing;
            the message lists what the room has.
    """
    words = [_SYNONYMS.get(word, word) for word in re.findall(r"[a-z']+", text.lower())]
    if not words:
        raise UserError(f"the goal is empty; expected one such as 'walk to the {layout.names[0]}', {_has(layout)}")
    nouns = {*COLOURS, *SHAPES, "table", "door", "object", "thing"}
    kinds: list[GoalKind] = []
    for word in words:
        verb = _verb(word)
        if verb is not None:
            kinds.append(verb)
        elif word not in nouns and word not in _FILLER:
            raise UserError(
                f"goal {text!r}: unknown word {word!r}; expected walk, turn or open with a target, {_has(layout)}"
            )
    if not kinds:
        raise UserError(f"goal {text!r} has no verb; expected walk to, turn to or open, {_has(layout)}")
    order = [kind for kind, _ in _VERBS]
    kind = min(kinds, key=lambda kind: order.index(kind))
    target = _target([word for word in words if word in nouns], layout, text)
    if kind == "open" and target != "door":
        raise UserError(f"goal {text!r}: only the door can be opened; {_has(layout)}")
    return Goal(kind, target)


def goals_of(layout: RoomLayout) -> tuple[Goal, ...]:
    """Every goal that makes sense in a room."""
    walks = tuple(Goal("walk", name) for name in layout.names)
    turns = tuple(Goal("turn", name) for name in layout.names)
    return (*walks, *turns, Goal("open", "door"))


def facing_error(layout: RoomLayout, target: str, frame: Motion, door_angle: float = 0.0) -> float:
    """Angle in radians, 0 to pi, on the floor plan between the head's direction and the target.

    Args:
        layout: the room.
        target: one of its names.
        frame: a motion of one frame, world coordinates.
        door_angle: radians; the door's target is its handle.
    """
    head = frame.T_world_head()[-1]
    to_target = layout.target_position(target, door_angle)[:2] - head[:2, 3]
    ahead = head[:2, 0]
    cross = ahead[0] * to_target[1] - ahead[1] * to_target[0]
    return float(np.abs(np.arctan2(cross, ahead @ to_target)))


def surface_distance(layout: RoomLayout, target: str, frame: Motion, door_angle: float = 0.0) -> float:
    """Metres on the floor plan from the pelvis to the target's surface; negative inside it."""
    footprint = layout.target_footprint(target, door_angle)
    return float(footprint.distance(frame.root_position[-1, :2].astype(np.float64)))


def success(goal: Goal, layout: RoomLayout, frame: Motion, door_angle: float) -> bool:
    """Whether a goal is reached.

    "walk": the pelvis is within `WALK_DISTANCE` of the target's surface and the head faces it within `WALK_FACING`.
    "turn": the head faces the target within `TURN_FACING`. "open": the door stands open by more than `OPEN_ANGLE`.

    Args:
        goal: what was asked.
        layout: the room.
        frame: the body, a motion of one frame, world coordinates.
        door_angle: radians.
    """
    if goal.kind == "open":
        return door_angle > OPEN_ANGLE
    error = facing_error(layout, goal.target, frame, door_angle)
    if goal.kind == "turn":
        return error < TURN_FACING
    near = surface_distance(layout, goal.target, frame, door_angle) < WALK_DISTANCE
    return near and error < WALK_FACING
