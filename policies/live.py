"""Any policy of the environments as one that drives a live body."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egotwin_sim.envs.base import BodyEnv, Observation
from egotwin_sim.envs.live import LiveBody
from egotwin_sim.envs.model import Model
from egotwin_sim.errors import UserError
from egotwin_sim.live.camera import CameraFrame
from egotwin_sim.live.dreamer import StepRequest
from egotwin_sim.live.pictures import resized
from egotwin_sim.room.layout import RoomLayout

from .scripted import ScriptedPolicy

if TYPE_CHECKING:
    from egotwin_sim.pipelines.stream import StreamPipeline

EnvPolicy = Callable[[Observation, dict[str, Any]], np.ndarray]
"""(observation, info) -> the action, motion tokens (2, C)."""

POLICIES: dict[str, Callable[[BodyEnv, int], EnvPolicy]] = {"scripted": ScriptedPolicy}
"""By name: (environment, seed) -> policy."""


class LivePolicy:
    """Asks a policy of the environments what a live body shall do; a `TokenPolicy`.

    The policy sees the body as it will be when the step begins, in the room's coordinates, the newest frame of the head
    camera, and the door as it is, where the frame tells.

    Args:
        body: the environment that it looks at.
        policy: asked with observation and info.
    """

    def __init__(self, body: LiveBody, policy: EnvPolicy) -> None:
        self.body, self.policy = body, policy

    def __call__(self, request: StepRequest, frame: CameraFrame) -> np.ndarray:
        """Motion tokens float32 (2, C) of the step that is asked for."""
        rgb = resized(frame.rgb, self.body.model.config.image_size)
        door = frame.joints.get("door_hinge")
        return self.policy(*self.body.observe(rgb, request.recent, request.goal, door))


def named_policy(
    name: str, layout: RoomLayout | None, model: str | Path | StreamPipeline | Model = "nano", seed: int = 0
) -> LivePolicy:
    """A policy of `POLICIES` for a live body.

    Args:
        name: such as "scripted".
        layout: the room; None where that is not known.
        model: weights by name or folder, or what has them loaded.
        seed: of its choices.

    Raises:
        UserError: there is no such policy, or no such weights.
    """
    if name not in POLICIES:
        raise UserError(f"there is no policy {name!r}; expected {', '.join(sorted(POLICIES))}")
    body = LiveBody(model, layout)
    return LivePolicy(body, POLICIES[name](body, seed))
