"""The whole live loop in one process: prompt, dream, body, head camera, and back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.observation import Policy
from egotwin_sim.body.robot import Robot, RobotModel
from egotwin_sim.body.tracker import BodyReading, Tracker, TrackerConfig, TrackingMode
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.live.camera import CameraFrame, HeadCamera, HeadView, check_size
from egotwin_sim.live.dream import DreamtChunk
from egotwin_sim.live.dreamer import Dreamer, StepRequest
from egotwin_sim.live.pictures import resized
from egotwin_sim.live.puppet import Puppet
from egotwin_sim.live.recording import Recording
from egotwin_sim.live.simulation import Simulation
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.stream import StreamPipeline

MOVED = 0.05  # radians or metres by which a coordinate has changed when the body has moved

TokenPolicy = Callable[[StepRequest, CameraFrame], np.ndarray]
"""(what is asked, the newest head-camera frame) -> motion tokens (2, C)."""


@dataclass(frozen=True)
class LiveConfig:
    """How a live loop runs.

    Attributes:
        mode: how the body follows, see `TrackingMode`.
        assist: strength of the assist in the mode "assisted", 0 to 1.
        size: of the head camera's pictures, pixels.
        camera_hz: of the head camera.
        publish_hz: of the body's readings.
        anchor_every: simulated seconds after which the dream is tied to the head camera again; 0: never.
        seed: of the dream's noise.

    Raises:
        UserError: a number out of range.
    """

    mode: TrackingMode | str = TrackingMode.ASSISTED
    assist: float = 1.0
    size: int = 256
    camera_hz: float = 30.0
    publish_hz: float = 100.0
    anchor_every: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check."""
        check_size(self.size)
        object.__setattr__(self, "mode", self.tracker.mode)
        if not (np.isfinite(self.anchor_every) and self.anchor_every >= 0):
            raise UserError(f"anchor_every {self.anchor_every} s; expected 0 (never) or more")

    @property
    def tracker(self) -> TrackerConfig:
        """The part of it that the tracker hears of."""
        return TrackerConfig(mode=self.mode, assist=self.assist)


class LiveLoop:
    """A robot in a scene that does what is dreamt, and a dream that is tied to what the robot sees.

    Either `start`, `wait` and `stop` with threads in real time, or `step_through` without any, as fast or slow as it
    goes, with the same result every time.

    Args:
        pipeline: the model.
        robot: the body.
        scene: what surrounds it, such as `egotwin_sim.room.physics.room_scene`; None for an empty floor.
        start: where body and dream begin: one frame in the scene's world, of the model's skeleton and rate.
        goal: the prompt.
        config: how.
        policy: gives the body's motion; None to dream it from the goal.
        tracking_policy: for the mode "policy".

    Attributes:
        config, robot_model, simulation, camera, dreamer, recording: its parts.
        newest: the head camera's newest frame, None before the first.
        first_movement_s: seconds on the wall from the prompt to the first movement, None before it.
    """

    def __init__(
        self,
        pipeline: StreamPipeline,
        robot: Robot,
        scene: mujoco.MjSpec | None,
        start: Motion,
        goal: str,
        config: LiveConfig | None = None,
        *,
        policy: TokenPolicy | None = None,
        tracking_policy: Policy | None = None,
    ) -> None:
        self.config = config = LiveConfig() if config is None else config
        if not goal.strip():
            raise UserError("the goal is empty; give a text such as 'walk to the red box'")
        self._pipeline, self._begin_at, self._goal, self._policy = pipeline, start[-1:], goal, policy
        self.puppet = Puppet(robot, self._begin_at)
        self.robot_model = RobotModel(robot, scene)
        tracker = Tracker(self.robot_model, config.tracker, tracking_policy)
        self.simulation = Simulation(
            tracker,
            self.puppet.start_qpos,
            publish_hz=config.publish_hz,
            camera_hz=config.camera_hz,
            on_state=self._on_state,
        )
        self.dreamer = Dreamer(
            pipeline, seed=config.seed, driven=policy is not None, on_chunk=self._on_chunk, on_need=self._on_need
        )
        self.camera = HeadCamera(self.robot_model, self.simulation.views, config.size, self._on_frame)
        self.recording = Recording(config.camera_hz)
        self.newest: CameraFrame | None = None
        self._next_anchor = config.anchor_every
        self._blocked = 0
        self._until = np.inf
        self._over = threading.Event()
        self._prompted: float | None = None
        self.first_movement_s: float | None = None

    def start(self) -> None:
        """Begins, and returns while the threads run.

        Raises:
            UserError: the machine cannot draw, or it was started before.
        """
        self.camera.start()
        self.dreamer.start()
        self.simulation.start()

    def wait(self, seconds: float, meanwhile: Callable[[], bool] | None = None, period: float = 0.1) -> bool:
        """Waits until that simulated time.

        Args:
            seconds: simulated.
            meanwhile: called in every period; False ends the waiting.
            period: seconds.

        Returns:
            False where that time was not reached.
        """
        self._over.clear()
        self._until = seconds
        while not self._over.wait(period):
            if self.simulation.time_s >= seconds:
                break
            if self.simulation.state == "broken" or not self.simulation.running:
                return False
            if meanwhile is not None and not meanwhile():
                return False
        return True

    def stop(self) -> None:
        """Ends all threads, each of which frees what is its own; stopping twice does no harm."""
        self.dreamer.stop()
        self.simulation.stop()
        self.camera.stop()

    def step_through(self, seconds: float) -> bool:
        """Runs until that simulated time in this thread, in which nobody waits for anybody.

        Returns:
            False if the simulation failed before.
        """
        simulation, head = self.simulation, HeadView(self.robot_model, self.config.size)
        try:
            if self.newest is None:
                simulation.tell()
            while simulation.time_s < seconds - 1e-9:
                view = simulation.views.take(0.0)
                if view is not None:
                    self._on_frame(head.draw(view))
                while self.dreamer.work():
                    pass
                simulation.tick()
                if simulation.state == "broken":
                    return False
            return True
        finally:
            head.close()

    def trajectory(self) -> RobotTrajectory:
        """What the robot did, at the rate of the motion.

        Raises:
            UserError: nothing was read yet.
        """
        fps, readings = self._pipeline.config.motion_fps, self.recording.readings
        if not readings:
            raise UserError("nothing was simulated yet; let the live loop run")
        times = np.array([reading.time_s for reading in readings])
        due = np.arange(int(times[-1] * fps + 1e-6) + 1) / fps
        qpos = np.stack([readings[i].qpos for i in np.minimum(np.searchsorted(times, due - 1e-6), len(times) - 1)])
        return RobotTrajectory(qpos, velocities(self.robot_model.bare, qpos, fps), fps, self.robot_model.joint_names)

    def motion(self) -> Motion:
        """The same as a motion; of a robot of other proportions, the motion that was dreamt for it."""
        trajectory = self.trajectory()
        told = self.puppet.motion(trajectory.qpos, trajectory.fps)
        return (
            Motion.concatenate([self._begin_at, *(c.motion for c in self.recording.chunks)]) if told is None else told
        )

    def report(self) -> dict[str, Any]:
        """What happened, ready for JSON."""
        simulation = self.simulation.status()
        told = {
            "goal": self.dreamer.dream.goal or self._goal,
            "simulated_s": self.simulation.time_s,
            "prompt_to_first_movement_s": self.first_movement_s,
            "anchor_every_s": self.config.anchor_every,
            "dream_against_simulation": self.recording.drift().summary(),
            "simulation": simulation,
            "dreamer": self.dreamer.status(),
            "camera": self.camera.status(),
        }
        return _for_json(told)

    def _on_state(self, reading: BodyReading) -> None:
        self.dreamer.tell_time(reading.time_s)
        self.recording.readings.append(reading)
        if self.first_movement_s is None and self._prompted is not None:
            if np.abs(reading.qpos - self.puppet.start_qpos).max() > MOVED:
                self.first_movement_s = time.perf_counter() - self._prompted
        if reading.time_s >= self._until:
            self._over.set()

    def _on_frame(self, frame: CameraFrame) -> None:
        first, self.newest = self.newest is None, frame
        if first:
            self._prompted = time.perf_counter()
            self.dreamer.begin(frame.rgb, self._begin_at, self._goal, frame.time_s)
        else:
            self._anchor(frame)
        if self.recording.wants(frame.time_s):
            self.recording.add_frame(frame, resized(frame.rgb, self._pipeline.config.image_size))

    def _anchor(self, frame: CameraFrame) -> None:
        """Ties the dream to a frame, if it is time, or if the body was stopped."""
        cut = bool(self.config.anchor_every) and self.simulation.blocked > self._blocked
        if not cut and not self._anchor_is_due(frame.time_s):
            return
        body = self._measured(frame)
        if body is not None:
            self._next_anchor = frame.time_s + self.config.anchor_every
            self._blocked = self.simulation.blocked
            self.dreamer.anchor(frame.rgb, body, frame.time_s, cut=cut)

    def _anchor_is_due(self, time_s: float) -> bool:
        if not self.config.anchor_every or time_s < self._next_anchor - 0.5 / self.config.camera_hz:
            return False
        return self.dreamer.dream.begun and self.dreamer.dream.off_step(time_s) <= 0.5 / self.config.camera_hz + 1e-6

    def _measured(self, frame: CameraFrame) -> Motion | None:
        """The body in the dream's world: as the frame saw it and, if it was read then, one motion frame before."""
        fps = self._pipeline.config.motion_fps
        now, before = (self.recording.reading_at(frame.time_s - back / fps) for back in (0, 1))
        seen = None if now is None else self._body(replace(now, qpos=frame.qpos))
        past = None if before is None else self._body(before)
        return seen if seen is None or past is None else Motion.concatenate([past, seen])

    def _body(self, reading: BodyReading) -> Motion | None:
        for chunk in reversed(self.recording.chunks[-4:]):
            if chunk.deadline_s <= reading.time_s:
                at = min((reading.time_s - chunk.deadline_s) * chunk.motion.fps, len(chunk.motion))
                expected = chunk.recent.sampled(np.array([at]), chunk.motion.fps)
                return self.puppet.measured(reading.qpos, reading.reference, expected)
        return None

    def _on_need(self, request: StepRequest) -> None:
        assert self._policy is not None and self.newest is not None
        reason = self.dreamer.give_tokens(request.step_id, self._policy(request, self.newest))
        if reason is not None:
            raise UserError(reason)

    def _on_chunk(self, chunk: DreamtChunk) -> None:
        trajectory = self.puppet.trajectory(chunk.before, chunk.motion)
        self.simulation.append(trajectory, chunk.deadline_s + 1.0 / trajectory.fps)
        self.recording.heads.append(self.robot_model.head_poses(trajectory.qpos))
        self.recording.chunks.append(chunk)


def _for_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _for_json(part) for name, part in value.items()}
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
