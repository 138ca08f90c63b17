"""The simulation as a thread: it keeps to the clock on the wall, whatever the threads around it do or fail to do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from egotwin_sim.body.tracker import BodyReading, Tracker
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.errors import UserError
from egotwin_sim.live.mailbox import Mailbox
from egotwin_sim.live.pacing import Pacer

QUEUE = 3  # trajectories that may wait to be taken over, which happens before every time step
BLOCKED = 0.15  # metres by which the assist has to give way until the body is held where it is
_SAME = 1e-9  # of a period


@dataclass(frozen=True, eq=False)
class View:
    """What a camera needs to draw one moment: a value that nothing overwrites.

    Attributes:
        time_s: of the simulation, seconds.
        qpos: (nq,), coordinates of the whole scene.
    """

    time_s: float
    qpos: np.ndarray


class Simulation:
    """Steps a tracker in real time, in a thread of its own, and tells what becomes of the body.

    Nothing that is given to it stops it or makes it jump: what does not fit is refused, counted, and named in
    `status`. Without new trajectories it holds the last pose; so it does where something, such as a wall, is in the way
    of the assist by more than `BLOCKED`. Its time never goes backwards, not even over a reset.

    Without `start`, `tick` does in the caller's thread what the thread does in every period.

    Args:
        tracker: what is simulated; from `start` on it belongs to the thread.
        start_pose: (7 + n,), where the body begins and where `reset` puts it; default standing at the origin.
        publish_hz: readings handed to `on_state` per simulated second.
        camera_hz: views left in `views` per simulated second.
        on_state: called with each reading, in the simulation's thread: it must not wait. What it raises is counted.
        auto_reset: begin anew when the simulation has failed, instead of waiting for `reset`.

    Attributes:
        tracker, on_state, auto_reset: as given.
        views: for the head camera.
        blocked: how often something was in the way.

    Raises:
        UserError: a rate that is not positive or above that of the time steps, or a pose of another body.
    """

    def __init__(
        self,
        tracker: Tracker,
        start_pose: np.ndarray | None = None,
        *,
        publish_hz: float = 100.0,
        camera_hz: float = 30.0,
        on_state: Callable[[BodyReading], None] | None = None,
        auto_reset: bool = False,
    ) -> None:
        self.tracker, self.on_state, self.auto_reset = tracker, on_state, auto_reset
        self.views: Mailbox[View] = Mailbox()
        self._timestep = tracker.robot_model.timestep
        for name, rate in (("publish_hz", publish_hz), ("camera_hz", camera_hz)):
            if not 0.0 < rate <= 1.0 / self._timestep + _SAME:
                raise UserError(f"{name} is {rate}; expected more than 0 and at most {1.0 / self._timestep:g}")
        self._publish_hz, self._camera_hz = publish_hz, camera_hz
        self._start_pose = None if start_pose is None else np.array(start_pose, dtype=np.float64)
        self._pacer = Pacer(self._timestep)
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._paused = self._stopping = False
        self._queue: deque[tuple[RobotTrajectory, float | None]] = deque()
        self._queue_lock = threading.Lock()
        self._reason = ""
        self._offset = 0.0
        self._steps = self._published = self._viewed = 0
        self._underruns = self._held_steps = self._resets = self._failures = self.blocked = 0
        self._refused, self._refused_reason = 0, ""
        self._listener_errors, self._listener_reason = 0, ""
        self._appended = self._following = False
        tracker.reset(self._start_pose)
        self._time = tracker.time_s
        self._reading = tracker.state()

    # Commands, from any thread.

    def start(self) -> None:
        """Begins to run.

        Raises:
            UserError: it runs already, or has been stopped.
        """
        if self._thread is not None:
            raise UserError("the simulation was started before; make another one")
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for its end; stopping twice does no harm."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.views.close()

    def pause(self, paused: bool = True) -> None:
        """Stands still, or goes on, without making up for the time between."""
        with self._changed:
            self._paused = bool(paused)
            self._changed.notify_all()

    def reset(self) -> None:
        """Puts the body back where it began, holding that pose; time goes on. It mends a broken simulation."""
        self._do(self._reset)

    def advance(self, steps: int = 1) -> None:
        """Makes some time steps while paused, and returns when they are made.

        Raises:
            UserError: it is not paused, or the number is no positive whole one.
        """
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
            raise UserError(f"steps is {steps!r}; expected a whole number from 1 on")
        if not self._paused:
            raise UserError("single steps are made only while the simulation is paused; pause it first")

        def make() -> None:
            for _ in range(int(steps)):
                if self._reason or self._stopping:
                    break
                self.tick()

        self._do(make)

    def append(self, trajectory: RobotTrajectory, at: float | None = None) -> str | None:
        """Gives what the body shall do next.

        Args:
            trajectory: of this body; joints are matched by name.
            at: simulated time of its first frame; what was to come from then on is replaced. None: right after what is
                there.

        Returns:
            Why it was refused, or None. One whose time has passed when the simulation comes to it is refused there.
        """
        try:
            trajectory = trajectory.for_joints(self.tracker.robot_model.joint_names)
        except UserError as error:
            return self._refuse(str(error))
        if at is not None and not np.isfinite(at):
            return self._refuse(f"the trajectory's time is {at}; expected finite seconds")
        if self._reason:
            return self._refuse(f"the simulation is broken ({self._reason}); reset it")
        with self._queue_lock:
            if len(self._queue) < QUEUE:
                self._queue.append((trajectory, at))
                return None
        return self._refuse(f"{QUEUE} trajectories wait already; the simulation stands still, or give them more slowly")

    # What it tells, to any thread.

    @property
    def time_s(self) -> float:
        """Simulated seconds."""
        return self._time

    @property
    def reading(self) -> BodyReading:
        """The newest reading."""
        return self._reading

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def state(self) -> str:
        """One of "running", "holding" (the last pose, for want of a trajectory), "paused" and "broken"."""
        if self._reason:
            return "broken"
        if self._paused:
            return "paused"
        return "running" if self._following else "holding"

    def status(self) -> dict[str, Any]:
        """State and figures, ready for a message: numbers, texts and truth values.

        `refused`, `listener_errors` and `failures` count; the texts `refused_reason`, `listener_reason` and `reason`
        say what was last. `underruns` counts how often the reference ended under way, `blocked` how often something
        was in the way, `held_s` how long poses were held.
        """
        pace, reading = self._pacer.report(), self._reading
        return {
            "state": self.state,
            "reason": self._reason,
            "time_s": self._time,
            "mode": str(reading.mode.value),
            "real_time_factor": pace.real_time_factor,
            "lag_ms_p50": pace.lag_ms_p50,
            "lag_ms_p99": pace.lag_ms_p99,
            "jitter_ms_p50": pace.jitter_ms_p50,
            "jitter_ms_p99": pace.jitter_ms_p99,
            "resyncs": pace.resyncs,
            "underruns": self._underruns,
            "blocked": self.blocked,
            "held_s": self._held_steps * self._timestep,
            "buffered_s": max(0.0, self.tracker.reference.end_time + self._offset - self._time),
            "dropped_views": self.views.dropped,
            "refused": self._refused,
            "refused_reason": self._refused_reason,
            "listener_errors": self._listener_errors,
            "listener_reason": self._listener_reason,
            "failures": self._failures,
            "resets": self._resets,
            "assist_strength": reading.strength,
            "assist_bw": reading.assist_bw,
            "assist_slip_m": reading.assist_slip_m,
            "assist_torque_nm": reading.assist_torque_nm,
            "saturated": reading.saturated,
            "contacts": reading.contacts,
            "penetration_mm": reading.penetration_mm,
        }

    # The thread.

    def tick(self) -> None:
        """Makes one time step: takes over what was appended, steps, tells."""
        self._take_over()
        follows = self._appended and not self.tracker.reference.underrun(self.tracker.time_s)
        self._held_steps += not follows
        self._underruns += self._following and not follows
        self._following = follows
        try:
            self.tracker.step()
        except Exception as error:  # whatever fails in there, a tracker that failed must not be stepped
            self._fail(" ".join(str(error).split()) or repr(error))
            return
        self._steps += 1
        self._time = self._offset + self.tracker.time_s
        self._tell()

    def tell(self) -> None:
        """Hands out the present reading and view, besides those that are due."""
        self._reading = replace(self.tracker.state(), time_s=self._time)
        self._leave_view()
        self._listen()

    def _run(self) -> None:
        self.tell()
        while True:
            with self._changed:
                if not self._commands and not self._stopping and (self._paused or self._reason):
                    self._changed.wait_for(
                        lambda: self._commands or self._stopping or not (self._paused or self._reason)
                    )
                    self._pacer.restart()
                if self._stopping:
                    break
                commands = list(self._commands)
                self._commands.clear()
            for command in commands:
                command()
            if not self._paused and not self._reason:
                self._pacer.wait()
                self.tick()
        while self._commands:  # nobody shall wait for what is not done any more
            self._commands.popleft()()

    def _do(self, action: Callable[[], None]) -> None:
        """Has something done by the thread between two time steps, and waits for it."""
        if not self.running or threading.current_thread() is self._thread:
            action()
            return
        done = threading.Event()
        errors: list[Exception] = []

        def command() -> None:
            try:
                action()
            except Exception as error:
                errors.append(error)
            finally:
                done.set()

        with self._changed:
            self._commands.append(command)
            self._changed.notify_all()
        while not done.wait(0.5):
            if not self.running and not done.is_set():
                return  # it was stopped in the meantime
        if errors:
            raise errors[0]

    def _reset(self) -> None:
        with self._queue_lock:
            self._queue.clear()
        self.tracker.reset(self._start_pose)
        self._offset = self._time - self.tracker.time_s
        self._reason, self._appended, self._following = "", False, False
        self._resets += 1
        self.tell()

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._reason, self._following = reason, False
        if self.auto_reset:
            self._reset()

    def _refuse(self, reason: str) -> str:
        with self._queue_lock:
            self._refused += 1
            self._refused_reason = reason
        return reason

    def _take_over(self) -> None:
        while True:
            with self._queue_lock:
                if not self._queue:
                    return
                trajectory, at = self._queue.popleft()
            if at is not None and at < self._time - _SAME:
                self._refuse(
                    f"the trajectory begins at {at:.3f} s, and it is {self._time:.3f} s already; give it earlier"
                )
                continue
            try:
                self.tracker.reference.append(trajectory, None if at is None else at - self._offset)
                self._appended = True
            except UserError as error:
                self._refuse(str(error))

    def _tell(self) -> None:
        published, viewed = (
            int(self._steps * self._timestep * rate + _SAME) for rate in (self._publish_hz, self._camera_hz)
        )
        if viewed > self._viewed:
            self._leave_view()
        if published > self._published:
            self._reading = replace(self.tracker.state(), time_s=self._time)
            if self._reading.assist_slip_m > BLOCKED:
                self.tracker.hold()
                self._appended = self._following = False
                self.blocked += 1
            self._listen()
        self._published, self._viewed = published, viewed

    def _leave_view(self) -> None:
        self.views.put(View(self._time, self.tracker.data.qpos.copy()))

    def _listen(self) -> None:
        if self.on_state is None:
            return
        try:
            self.on_state(self._reading)
        except Exception as error:  # a listener's mistake is no reason for the body to stand still
            self._listener_errors += 1
            self._listener_reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
