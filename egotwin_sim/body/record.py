"""Running a tracker for a time and keeping what happened."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.tracker import Tracker, TrackingError, TrackingMode
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.errors import UserError

RECORD_FPS = 30.0  # frames per second; errors per frame are told at this rate in the tracking literature (PHC)


@dataclass(frozen=True, eq=False)
class TrackingRecord:
    """What a tracker did. T frames at a fixed rate, the first one at the start; N steps of the simulation.

    Attributes:
        mode: of the tracker.
        strength: of the assist that acted, 0 to 1.
        fps: frames per second.
        qpos: (T, 7 + n), the body.
        reference: (T, 7 + n), where it should have been.
        assist_bw: (N,), force of the assist in body weights.
        assist_torque_nm: (N,), its torque.
        saturated: (N,), share of the servos of which their torque limit or more was asked.
        wall_s: seconds that the steps took.
        simulated_s: seconds of simulation.
        failure: why the simulation stopped early, or None.
    """

    mode: TrackingMode
    strength: float
    fps: float
    qpos: np.ndarray
    reference: np.ndarray
    assist_bw: np.ndarray
    assist_torque_nm: np.ndarray
    saturated: np.ndarray
    wall_s: float
    simulated_s: float
    failure: str | None

    @property
    def real_time_factor(self) -> float:
        """Seconds of simulation for each second on the clock."""
        return self.simulated_s / self.wall_s if self.wall_s > 0 else float("inf")

    def trajectory(self, robot_model: RobotModel) -> RobotTrajectory:
        """What the body did, as a trajectory."""
        speed = velocities(robot_model.bare, self.qpos, self.fps)
        return RobotTrajectory(self.qpos, speed, self.fps, robot_model.joint_names)


def record(tracker: Tracker, seconds: float, fps: float = RECORD_FPS) -> TrackingRecord:
    """Steps a tracker; a simulation that fails ends the record, with the reason.

    Args:
        tracker: as it stands, see `Tracker.begin`.
        seconds: to simulate.
        fps: frames per second to keep; the time step must divide the time between two.
    """
    if not (np.isfinite(seconds) and seconds > 0):
        raise UserError(f"seconds is {seconds}; expected a positive number")
    timestep = tracker.robot_model.timestep
    every = round(1.0 / (fps * timestep))
    if every < 1 or abs(every * fps * timestep - 1.0) > 1e-6:
        raise UserError(
            f"{fps:g} frames/s do not fit a time step of {timestep:g} s; give a whole number of steps a frame"
        )
    first = tracker.state()
    qpos, reference = [first.qpos], [first.reference]
    force, torque, saturated = [], [], []
    failure, wall = None, 0.0
    steps = round(seconds / timestep)
    for step in range(1, steps + 1):
        began = time.perf_counter()
        try:
            tracker.step()
        except TrackingError as error:
            failure = str(error)
            break
        wall += time.perf_counter() - began
        now = tracker.assist_force
        force.append(now.force_n / tracker.robot_model.weight_n)
        torque.append(now.torque_nm)
        saturated.append(tracker.saturated)
        if step % every == 0:
            reading = tracker.state()
            qpos.append(reading.qpos)
            reference.append(reading.reference)
    return TrackingRecord(
        mode=TrackingMode(tracker.config.mode),
        strength=tracker.config.strength,
        fps=fps,
        qpos=np.stack(qpos),
        reference=np.stack(reference),
        assist_bw=np.array(force),
        assist_torque_nm=np.array(torque),
        saturated=np.array(saturated),
        wall_s=wall,
        simulated_s=len(force) * timestep,
        failure=failure,
    )
