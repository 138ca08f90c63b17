"""How an episode begins: a procedural room, a goal that makes sense in it, and a body that stands there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, canonical_frame, encode
from egotwin_sim.room.goals import Goal, goals_of, parse_goal, success
from egotwin_sim.room.layout import RoomLayout, sample_layout
from egotwin_sim.room.synthesis import synthesise

ROOMS_TRIED = 64  # a goal that names a colour and a shape fits about every fourth room
KINDS = ("walk", "turn", "open")
OPTIONS = ("goal", "first_frame", "initial_pose")


@dataclass(frozen=True)
class ResetOptions:
    """What a caller asks of an episode; None where the environment chooses.

    Attributes:
        goal: text.
        first_frame: uint8 (H, W, 3) RGB.
        initial_pose: (D,), a head-centric state as in `obs["motion"]`.
    """

    goal: str | None = None
    first_frame: np.ndarray | None = None
    initial_pose: np.ndarray | None = None

    @classmethod
    def read(cls, options: Mapping[str, Any] | None) -> ResetOptions:
        """The options of `reset`.

        Raises:
            UserError: an unknown name, or a goal that is no text or an empty one.
        """
        options = dict(options or {})
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise UserError(f"reset option {unknown[0]!r} is unknown; expected {', '.join(OPTIONS)}")
        goal = options.get("goal")
        if goal is not None and not isinstance(goal, str):
            raise UserError(f"reset option goal is a {type(goal).__name__}; expected a text")
        if goal is not None and not goal.strip():
            raise UserError("reset option goal is empty; expected a text such as 'walk to the red box'")
        return cls(**options)


@dataclass(frozen=True)
class Start:
    """A sampled beginning.

    Attributes:
        layout: the room.
        text: the goal in words.
        goal: the goal as read against the room; None for a text that only a dream can take.
        frame: the standing body, a motion of one frame in the room's coordinates.
    """

    layout: RoomLayout
    text: str
    goal: Goal | None
    frame: Motion

    @property
    def pose(self) -> np.ndarray:
        """float32 (D,): the body as a head-centric state in its own canonical frame, at rest."""
        return encode(self.frame)[0]

    @property
    def T_room_start(self) -> np.ndarray:
        """float64 (4, 4): where in the room the body's canonical frame lies."""
        return canonical_frame(self.frame.T_world_head())[0]


def sample_start(rng: np.random.Generator, text: str | None = None, *, free_text: bool = False) -> Start:
    """A room, a goal and a body that has not reached the goal yet.

    Args:
        rng: source of all choices.
        text: the goal; None for a random one of `KINDS`. Rooms are drawn until one has what the goal names.
        free_text: whether a text that fits no room is taken as it is.

    Raises:
        UserError: the text fits no room, and `free_text` is not set.
    """
    first_error: UserError | None = None
    for _ in range(ROOMS_TRIED):
        # Far more numbers than rooms in any dataset: a sampled room has not been trained on.
        layout = sample_layout(int(rng.integers(2**53)))
        body_seed = int(rng.integers(2**53))
        if text is None:
            goal = _random_goal(rng, layout)
        else:
            try:
                goal = parse_goal(text, layout)
            except UserError as error:
                first_error = first_error or error
                continue
        frame = synthesise(layout, body_seed, seconds=0.5, goal=goal.text).motion[0]
        if not success(goal, layout, frame, door_angle=0.0):
            return Start(layout, goal.text if text is None else text, goal, frame)
    if first_error is None:
        raise UserError(f"goal {text!r} was reached at the start in {ROOMS_TRIED} rooms; give another")
    if not free_text:
        raise first_error
    start = sample_start(rng)
    return Start(start.layout, str(text), None, start.frame)


def _random_goal(rng: np.random.Generator, layout: RoomLayout) -> Goal:
    kind = KINDS[int(rng.integers(len(KINDS)))]
    fitting = [goal for goal in goals_of(layout) if goal.kind == kind]
    return fitting[int(rng.integers(len(fitting)))]
