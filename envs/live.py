"""The live body as an environment, for policies that ask one about body, goal and room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, canonical_frame
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.room.goals import Goal, parse_goal, success
from egotwin_sim.room.layout import RoomLayout

from .base import BodyEnv, Observation
from .model import Model
from .start import Start

if TYPE_CHECKING:
    from egotwin_sim.pipelines.stream import StreamPipeline


class LiveBody(BodyEnv):
    """A body that lives elsewhere, in a simulation or as a robot: `observe` says how it is, nobody steps it here.

    Args:
        model: name of shipped weights, a folder of weights, or a loaded `StreamPipeline`.
        layout: the room that it is in; None where that is not known.
        device: where the networks run.

    Raises:
        UserError: no such weights.
    """

    def __init__(
        self, model: str | Path | StreamPipeline | Model = "nano", layout: RoomLayout | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(model, device=device)
        self.layout = layout
        self._body: BodyState | None = None

    @property
    def body(self) -> BodyState:
        """The newest state that was observed, in the world's coordinates."""
        assert self._body is not None
        return self._body

    def recent_in_room(self) -> Motion:
        """The body's last frames, in the room's coordinates.

        Raises:
            UserError: the room is not known.
        """
        if self.layout is None:
            raise UserError("the room of the live body is not known; give its layout")
        return self.recent

    def observe(
        self, rgb: np.ndarray, recent: Motion, goal: str, door_angle: float | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Says how the body is.

        Args:
            rgb: the newest frame, uint8 (H, W, 3), of the model's size.
            recent: its last frames, in the world's coordinates, the newest one last; two or more give the velocity.
            goal: the text. Another one than before begins another episode.
            door_angle: of the room's door, radians; None where that is not known.

        Returns:
            Observation and info as the environments' `step` gives them; `door_angle` is in the info if it is known.

        Raises:
            UserError: a frame of another size, or an empty or too long text.
        """
        self._check_open()
        if rgb.shape != self.observation_space["rgb"].shape or rgb.dtype != np.uint8:  # type: ignore[index]
            size = self.model.config.image_size
            raise UserError(f"the frame is {rgb.dtype} {rgb.shape}; expected uint8 ({size}, {size}, 3): resize it")
        at = canonical_frame(recent[-1:].T_world_head())[0]
        self._body = BodyState(BodyState.of(recent).features, recent[-1:], at)
        if goal != self.goal_text or self._steps < 0:
            start = None if self.layout is None else Start(self.layout, goal, self._goal(goal), recent[-1:])
            self.episode += 1
            self._began(start, goal, rgb)
        self._stepped(np.repeat(rgb[None], len(self._frames), axis=0), recent)
        start = self.start
        reached = False
        if start is not None and start.goal is not None:
            reached = bool(success(start.goal, start.layout, recent[-1:], door_angle or 0.0))
        heads = np.repeat(recent[-1:].T_world_head(), self.model.motion_frames, axis=0)
        info = self._info(heads, reached)
        return self._observation(), info if door_angle is None else {**info, "door_angle": door_angle}

    def _goal(self, text: str) -> Goal | None:
        assert self.layout is not None
        try:
            return parse_goal(text, self.layout)
        except UserError:
            return None

    def reset(self, **_: Any) -> tuple[Observation, dict[str, Any]]:
        """Refused: see the class.

        Raises:
            UserError: always.
        """
        raise UserError("a live body is not reset by its policy; reset the simulation")

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Refused: see the class.

        Raises:
            UserError: always.
        """
        raise UserError("a live body is not stepped by its policy; give the tokens to the dreamer")
