"""How far dream and simulation drift apart in a closed loop, with and without re-anchoring, without a clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from egotwin_sim.body.robot import Robot, our_robot
from egotwin_sim.live.loop import LiveConfig, LiveLoop, TokenPolicy
from egotwin_sim.live.recording import KEPT_HZ, DriftCurve
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.stream import StreamPipeline
from egotwin_sim.room.layout import RoomLayout
from egotwin_sim.room.physics import room_scene


@dataclass(frozen=True, eq=False)
class ClosedLoop:
    """One run: the drift over time, and the loop's report."""

    drift: DriftCurve
    report: dict[str, Any]


def closed_loop(
    pipeline: StreamPipeline,
    layout: RoomLayout,
    start: Motion,
    goal: str,
    seconds: float = 60.0,
    *,
    config: LiveConfig | None = None,
    robot: Robot | None = None,
    policy: TokenPolicy | None = None,
) -> ClosedLoop:
    """Runs prompt, dream, body, head camera and re-anchoring for some simulated time.

    The objects are those of a live run, stepped one after the other in this thread: nothing is late, so the figures are
    those of dream and body alone, and the same every time.

    Args:
        pipeline: the model.
        layout: the room.
        start: where the body begins, one frame in the room's coordinates.
        goal: the prompt.
        seconds: simulated.
        config: how; its head camera takes a picture for every frame of the dream.
        robot: the body; default ours.
        policy: gives the body's motion; None to dream it.
    """
    config = replace(LiveConfig() if config is None else config, camera_hz=KEPT_HZ)
    robot = our_robot(pipeline.skeleton) if robot is None else robot
    loop = LiveLoop(pipeline, robot, room_scene(layout, config.size), start, goal, config, policy=policy)
    try:
        loop.step_through(seconds)
    finally:
        loop.stop()
    return ClosedLoop(loop.recording.drift(), loop.report())
