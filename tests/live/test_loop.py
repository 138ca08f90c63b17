"""The whole live loop on small random weights: in lockstep, with threads, and its drift."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from egotwin_sim.body.robot import our_robot
from egotwin_sim.envs.start import Start, sample_start
from egotwin_sim.errors import UserError
from egotwin_sim.live.closed_loop import ClosedLoop, closed_loop
from egotwin_sim.live.loop import LiveConfig, LiveLoop
from egotwin_sim.policies.live import named_policy
from egotwin_sim.room.physics import room_scene
from tests.live.bodies import live_pipeline
from tests.tiny import SIZE

SECONDS = 3.0
GOAL = "turn to the table"


@pytest.fixture(scope="module")
def start() -> Start:
    return sample_start(np.random.default_rng(0), GOAL)


def driven(start: Start, **config: object) -> ClosedLoop:
    pipeline = live_pipeline()
    return closed_loop(
        pipeline,
        start.layout,
        start.frame,
        start.text,
        SECONDS,
        config=LiveConfig(mode="kinematic", size=SIZE, **config),  # type: ignore[arg-type]
        policy=named_policy("scripted", start.layout, pipeline),
    )


def test_the_body_does_what_the_policy_plans_and_the_dream_stays_with_it(start: Start) -> None:
    run = driven(start, anchor_every=1.0)
    drift, told = run.drift, run.report
    assert len(drift.time_s) >= 22 and (np.diff(drift.time_s) > 0).all()
    assert drift.head_m.max() < 0.05 and drift.head_deg.max() < 5.0, "it is where it is dreamt, but in seams"
    assert told["dreamer"]["anchors"] == 2 and told["dreamer"]["failures"] == 0 == told["dreamer"]["late"]
    assert told["simulation"]["underruns"] == 0 == told["simulation"]["refused"]
    assert told["simulation"]["listener_errors"] == 0 == told["dreamer"]["listener_errors"]
    assert told["dream_against_simulation"]["frames"] == len(drift.time_s)
    assert json.loads(json.dumps(told)) == told


def test_without_a_clock_it_repeats(start: Start) -> None:
    one, other = (driven(start, anchor_every=0.0) for _ in range(2))
    for name in ("time_s", "head_m", "head_deg", "psnr_db", "ssim"):
        np.testing.assert_array_equal(getattr(one.drift, name), getattr(other.drift, name))
    # A kinematic body is where it is dreamt, but where the seam of two chunks is smoothed.
    assert np.median(one.drift.head_m) < 0.001 and one.drift.head_m.max() < 0.02 and one.drift.head_deg.max() < 1.0
    assert one.report["dreamer"]["anchors"] == 0


def live(start: Start, **config: object) -> LiveLoop:
    return LiveLoop(
        live_pipeline(),
        our_robot(),
        room_scene(start.layout, SIZE),
        start.frame,
        start.text,
        LiveConfig(size=SIZE, **config),  # type: ignore[arg-type]
    )


def test_threads_begin_and_end_and_leave_nothing(start: Start) -> None:
    before = set(threading.enumerate())
    loop = live(start, mode="kinematic", anchor_every=0.5)
    loop.start()
    try:
        assert {"simulation", "head_camera", "dreamer"} <= {thread.name for thread in threading.enumerate()}
        chunks = loop.recording.chunks
        assert not loop.wait(3600.0, lambda: len(chunks) < 2), "ended by the one who waits"
    finally:
        loop.stop()
    loop.stop()
    assert set(threading.enumerate()) == before
    told = loop.report()
    assert told["dreamer"]["chunks"] >= 2 and told["camera"]["frames"] > 0
    assert told["camera"]["listener_errors"] == 0 and told["camera"]["reason"] == ""
    assert loop.recording.frames[0].time_s == 0.0
    trajectory = loop.trajectory()
    assert len(loop.motion()) == len(trajectory) and trajectory.fps == 16.0


def test_a_simulation_that_fails_ends_the_waiting(start: Start) -> None:
    loop = live(start, mode="pd")
    loop.simulation.pause()
    loop.start()
    try:
        loop.simulation.advance(10)
        loop.simulation.tracker.data.qvel[3] = np.nan
        loop.simulation.pause(False)
        assert not loop.wait(3600.0)
        assert loop.report()["simulation"]["state"] == "broken" and loop.report()["simulation"]["reason"]
    finally:
        loop.stop()
    again = live(start, mode="pd")
    again.step_through(0.1)
    again.simulation.tracker.data.qvel[3] = np.nan
    assert not again.step_through(1.0)
    again.stop()


def test_a_body_that_something_stops_ties_the_dream_to_it_at_once(start: Start) -> None:
    loop = live(start, mode="kinematic", camera_hz=10.0, anchor_every=100.0)
    try:
        loop.step_through(0.6)
        assert loop.dreamer.status()["anchors"] == 0
        loop.simulation.tracker.hold()  # as it does when a wall is in the way
        loop.simulation.blocked += 1
        held, coming = loop.simulation.reading.T_world_head, loop.dreamer.dream.step_id
        loop.step_through(0.8)
        assert loop.dreamer.status()["anchors"] == 1
        first = next(chunk for chunk in loop.recording.chunks if chunk.step_id == coming)
        assert first.deadline_s < 0.9, "it goes on from that moment, not where it was"
        assert np.linalg.norm(first.before.T_world_head()[0, :3, 3] - held[:3, 3]) < 0.1
    finally:
        loop.stop()


@pytest.mark.parametrize(
    ("goal", "config", "message"),
    [
        (" ", {}, "goal is empty"),
        ("walk", {"mode": "fly"}, "tracking mode"),
        ("walk", {"mode": "policy"}, "needs a policy"),
        ("walk", {"assist": 2.0}, "assist"),
        ("walk", {"size": 5}, "image size"),
        ("walk", {"camera_hz": 0.0}, "camera_hz"),
        ("walk", {"anchor_every": -1.0}, "anchor_every"),
        ("walk", {"anchor_every": float("nan")}, "anchor_every"),
        ("walk", {"seed": -1}, "seed"),
    ],
)
def test_what_does_not_fit_is_refused(start: Start, goal: str, config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LiveLoop(live_pipeline(), our_robot(), None, start.frame, goal, LiveConfig(**{"size": SIZE, **config}))
