"""The simulation goes on, in its own time, whatever it is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from egotwin_sim.body import mujoco
from egotwin_sim.body.robot import RobotModel, flat_scene, our_robot
from egotwin_sim.body.tracker import BodyReading, Tracker, TrackerConfig
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.live.simulation import QUEUE, Simulation
from tests.live.bodies import swaying

WAIT = 60.0  # seconds, far more than any of this takes
DT = 1 / 300


@pytest.fixture(scope="module")
def robot_model() -> RobotModel:
    return RobotModel(our_robot())


@pytest.fixture
def simulation(robot_model: RobotModel) -> Iterator[Simulation]:
    made = Simulation(Tracker(robot_model, TrackerConfig(mode="kinematic")))
    yield made
    made.stop()


def ticks(simulation: Simulation, count: int) -> None:
    for _ in range(count):
        simulation.tick()


def test_it_holds_a_pose_until_there_is_something_to_do(simulation: Simulation, robot_model: RobotModel) -> None:
    ticks(simulation, 30)
    told = simulation.status()
    assert told["state"] == "holding" and told["underruns"] == 0 and told["refused"] == 0
    assert simulation.time_s == pytest.approx(30 * DT)
    np.testing.assert_allclose(simulation.reading.qpos, robot_model.standing, atol=1e-12)


def test_it_follows_what_is_appended_and_says_when_that_ends(simulation: Simulation, robot_model: RobotModel) -> None:
    assert simulation.append(swaying(robot_model)) is None
    ticks(simulation, 60)
    assert simulation.state == "running"
    assert np.abs(simulation.reading.qpos - robot_model.standing).max() > 0.05
    ticks(simulation, 150)
    told = simulation.status()
    assert told["state"] == "holding" and told["underruns"] == 1 and 0 < told["held_s"] < 0.3
    last = simulation.reading.qpos
    ticks(simulation, 30)
    np.testing.assert_allclose(simulation.reading.qpos, last, atol=1e-12)
    simulation.append(swaying(robot_model))
    ticks(simulation, 30)
    assert simulation.state == "running"


def test_readings_and_views_come_at_their_rates_and_are_values(robot_model: RobotModel) -> None:
    readings: list[BodyReading] = []
    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="kinematic")), on_state=readings.append)
    simulation.append(swaying(robot_model))
    views = []
    for _ in range(300):
        simulation.tick()
        view = simulation.views.take(0.0)
        if view is not None:
            views.append(view)
    assert len(readings) == 100 and len(views) == 30
    assert np.diff([view.time_s for view in views]) == pytest.approx(1 / 30)
    assert np.diff([reading.time_s for reading in readings]) == pytest.approx(1 / 100)
    hinge = robot_model.qpos_index[7 + robot_model.joint_names.index("head_z")]
    assert len({view.qpos[hinge] for view in views[:14]}) == 14, "a view stays what it was"
    assert simulation.views.dropped == 0


def test_views_that_nobody_draws_are_counted(simulation: Simulation) -> None:
    ticks(simulation, 60)
    assert simulation.status()["dropped_views"] == 5


@pytest.mark.parametrize("rate", [0.0, -1.0, 301.0, float("nan")])
@pytest.mark.parametrize("name", ["publish_hz", "camera_hz"])
def test_rates_out_of_range_are_refused(robot_model: RobotModel, name: str, rate: float) -> None:
    with pytest.raises(UserError, match=name):
        Simulation(Tracker(robot_model), **{name: rate})


def test_what_does_not_fit_is_refused_and_named_and_time_goes_on(
    simulation: Simulation, robot_model: RobotModel
) -> None:
    good = swaying(robot_model)
    ticks(simulation, 30)
    other = replace(good, joint_names=("wing", *good.joint_names[1:]))
    assert "another body" in str(simulation.append(other))
    assert "finite" in str(simulation.append(good, at=float("nan")))
    assert simulation.append(good, at=0.01) is None, "whether its time has passed is seen when its turn comes"
    ticks(simulation, 1)
    told = simulation.status()
    assert told["refused"] == 3 and "0.010 s" in told["refused_reason"] and "already" in told["refused_reason"]
    for _ in range(QUEUE):
        assert simulation.append(good) is None
    assert "wait already" in str(simulation.append(good))
    assert simulation.status()["refused"] == 4
    ticks(simulation, 10)
    assert simulation.state == "running" and simulation.time_s == pytest.approx(41 * DT)


def test_a_listener_that_raises_is_counted(robot_model: RobotModel) -> None:
    def listener(reading: BodyReading) -> None:
        raise RuntimeError("no room left")

    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="kinematic")), on_state=listener)
    ticks(simulation, 30)
    told = simulation.status()
    assert told["listener_errors"] == 10 and told["listener_reason"] == "RuntimeError: no room left"
    assert told["state"] == "holding" and simulation.time_s == pytest.approx(0.1)


def test_a_failed_simulation_says_so_and_is_mended_by_a_reset(robot_model: RobotModel) -> None:
    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="pd")))
    ticks(simulation, 30)
    simulation.tracker.data.qvel[3] = np.nan
    simulation.tick()
    told = simulation.status()
    assert told["state"] == "broken" and told["reason"] and told["failures"] == 1
    assert "reset it" in str(simulation.append(swaying(robot_model)))
    before = simulation.time_s
    simulation.reset()
    assert simulation.state == "holding" and simulation.time_s == before
    assert simulation.append(swaying(robot_model), at=before + 0.1) is None
    ticks(simulation, 60)
    assert simulation.state == "running" and simulation.time_s == pytest.approx(before + 0.2)
    assert simulation.status()["refused"] == 1
    np.testing.assert_allclose(simulation.reading.qpos[:3], robot_model.standing[:3], atol=0.05)


def test_it_begins_anew_by_itself_only_if_asked(robot_model: RobotModel) -> None:
    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="pd")), auto_reset=True)
    ticks(simulation, 30)
    simulation.tracker.data.qvel[3] = np.nan
    ticks(simulation, 31)
    told = simulation.status()
    assert told["state"] == "holding" and told["failures"] == 1 == told["resets"]
    assert simulation.time_s == pytest.approx(60 * DT)


def test_it_starts_and_resets_where_it_is_told(robot_model: RobotModel) -> None:
    pose = robot_model.standing.copy()
    pose[:2] = 1.0, -2.0
    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="kinematic")), pose)
    simulation.append(swaying(robot_model))
    ticks(simulation, 290)
    assert np.linalg.norm(simulation.reading.qpos[:2]) < 0.5
    simulation.append(swaying(robot_model))
    simulation.reset()
    np.testing.assert_array_equal(simulation.reading.qpos, pose)
    ticks(simulation, 10)
    assert simulation.state == "holding", "what waited is forgotten"
    with pytest.raises(UserError, match="pose"):
        Simulation(Tracker(robot_model), np.zeros(3))


def sliding(robot_model: RobotModel, metres: float) -> RobotTrajectory:
    """A body that stands, a little above the floor, and is moved along x, a metre a second."""
    frames = round(metres * 16)
    qpos = np.tile(robot_model.standing, (frames, 1))
    qpos[:, 0] = np.arange(1, frames + 1) / 16
    qpos[:, 2] += 0.05
    return RobotTrajectory(qpos, velocities(robot_model.bare, qpos, 16.0), 16.0, robot_model.joint_names)


@pytest.mark.parametrize("wall", [False, True])
def test_a_body_that_a_wall_stops_is_held_there_and_not_led_through(wall: bool) -> None:
    scene = flat_scene()
    if wall:
        box = {"type": mujoco.mjtGeom.mjGEOM_BOX, "pos": [0.8, 0.0, 1.0], "size": [0.05, 2.0, 1.0]}
        scene.worldbody.add_geom(name="wall", **box)
    simulation = Simulation(Tracker(RobotModel(our_robot(), scene), TrackerConfig(mode="assisted")))
    simulation.append(sliding(simulation.tracker.robot_model, 1.5))
    upright, deepest = 1.0, 0.0
    for _ in range(540):
        simulation.tick()
        upright = min(upright, float(simulation.reading.T_world_head[2, 2]))
        deepest = max(deepest, simulation.reading.penetration_mm)
    told = simulation.status()
    assert told["state"] == "holding" and upright > 0.7
    if wall:
        assert told["blocked"] >= 1 and 0.3 < simulation.reading.qpos[0] < 0.75 and deepest < 80.0
    else:
        assert told["blocked"] == 0 and simulation.reading.qpos[0] == pytest.approx(1.5, abs=0.05)


class Watcher:
    """Waits for readings of a simulation that runs in its thread."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._changed = threading.Condition()

    def __call__(self, reading: BodyReading) -> None:
        with self._changed:
            self.times.append(reading.time_s)
            self._changed.notify_all()

    def wait_past(self, time_s: float) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.times) and self.times[-1] > time_s, WAIT)


@pytest.fixture
def running(robot_model: RobotModel) -> Iterator[tuple[Simulation, Watcher]]:
    watcher = Watcher()
    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="kinematic")), on_state=watcher)
    simulation.start()
    yield simulation, watcher
    simulation.stop()


def test_pause_single_steps_and_resume(running: tuple[Simulation, Watcher], robot_model: RobotModel) -> None:
    simulation, watcher = running
    watcher.wait_past(0.05)
    with pytest.raises(UserError, match="pause it first"):
        simulation.advance()
    simulation.pause()
    simulation.advance(1)  # done after what the thread was at when the pause came
    still = simulation.time_s
    assert simulation.state == "paused"
    simulation.advance(6)
    assert simulation.time_s == pytest.approx(still + 6 * DT)
    for bad in (0, -1, 1.5, True):
        with pytest.raises(UserError, match="whole number"):
            simulation.advance(bad)  # type: ignore[arg-type]
    assert simulation.append(swaying(robot_model)) is None
    simulation.pause(False)
    watcher.wait_past(still + 0.1)
    assert simulation.state == "running"
    assert (np.diff(watcher.times) >= 0).all()


def test_reset_while_running_and_while_paused_keeps_time_rising(running: tuple[Simulation, Watcher]) -> None:
    simulation, watcher = running
    watcher.wait_past(0.05)
    simulation.reset()
    now = simulation.time_s
    assert now >= 0.05
    simulation.pause()
    simulation.reset()
    assert simulation.state == "paused" and simulation.time_s >= now
    simulation.pause(False)
    watcher.wait_past(now + 0.05)
    assert (np.diff(watcher.times) >= 0).all() and simulation.status()["resets"] == 2


def test_failing_in_its_thread_leaves_the_thread_waiting_for_a_reset(robot_model: RobotModel) -> None:
    watcher = Watcher()
    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="pd")), on_state=watcher)
    simulation.pause()
    simulation.start()
    try:
        simulation.advance(10)
        simulation.tracker.data.qvel[3] = np.nan
        simulation.advance(10)
        assert simulation.state == "broken" and simulation.running
        assert simulation.time_s == pytest.approx(10 * DT), "time stands still with it"
        simulation.pause(False)
        assert simulation.state == "broken"
        simulation.reset()
        watcher.wait_past(0.1)
        assert simulation.state == "holding"
    finally:
        simulation.stop()


def test_stopping_leaves_no_thread_and_wakes_the_camera(robot_model: RobotModel) -> None:
    watcher = Watcher()
    simulation = Simulation(Tracker(robot_model, TrackerConfig(mode="kinematic")), on_state=watcher)
    simulation.start()
    with pytest.raises(UserError, match="started before"):
        simulation.start()
    watcher.wait_past(0.02)
    simulation.pause()
    simulation.stop()
    simulation.stop()
    assert not simulation.running and simulation.views.closed
    assert "simulation" not in {thread.name for thread in threading.enumerate()}
    simulation.reset()  # in the caller's thread then
