"""The MuJoCo humanoid as a ROS node: a joint trajectory in; head camera, joints, poses and clock out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from rclpy.clock import Clock, ClockType
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from egotwin_sim.body import mujoco
from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.robots import find_robot
from egotwin_sim.body.tracker import BodyReading, Tracker, TrackerConfig
from egotwin_sim.errors import UserError
from egotwin_sim.live.camera import CameraFrame, HeadCamera
from egotwin_sim.live.simulation import Simulation

from .bridge_topics import ROOT_POSE, BridgeTopics
from .configuration import BridgeConfig
from .frames import MAP, ODOM
from .messages import stamp_ns
from .node import EgoTwinNode
from .outbox import Outbox
from .presence import Presence
from .qos import NEWEST, STATE
from .running import run
from .timeline import Timeline
from .trajectories import trajectory_of

MAX_AHEAD_SECONDS = 60.0  # a trajectory that begins later than this was stamped by another clock
WATCH_SECONDS = 1.0


class MujocoBridgeNode(EgoTwinNode):
    """Simulates a humanoid in real time and gives out what it senses; see docs/ros.md for topics and services.

    The simulation's thread leaves readings in one outbox, the camera's thread pictures in another, and each outbox has
    a thread that publishes. Commands are checked in the executor's thread and taken over by the simulation before its
    next time step. So nothing that comes or goes over the network can make the simulation wait.
    """

    NAME = "mujoco_bridge"
    CONFIG = BridgeConfig

    def __init__(self, give_up: Any, **options: Any) -> None:
        self._simulation: Simulation | None = None
        self._camera: HeadCamera | None = None
        self._states: Outbox[tuple[int, BodyReading]] | None = None
        self._pictures: Outbox[tuple[int, CameraFrame]] | None = None
        self._topics: BridgeTopics | None = None
        self._entities: list[tuple[Any, Any]] = []
        self._timeline = Timeline()  # one for all simulations of the node, so that stamps never go back
        self._accepted = self._late_frames = 0
        super().__init__(give_up, **options)

    def configure(self) -> None:
        """Build the scene, look for another bridge, and take the topics."""
        began = time.monotonic()
        config = self._settings = self.config
        self._build(config)
        self._presence = Presence(self, ROOT_POSE)
        if other := self._presence.wait(began + config.discovery_seconds):
            reason = f"{other} is a bridge in this namespace already; stop it, or start this one with -r __ns:=/another"
            self.leave(reason)
            raise UserError(reason)
        self._timeline.now = None if config.publish_clock else lambda: self.get_clock().now().nanoseconds
        self._topics = BridgeTopics(self, config, self._robot.joint_names)
        self._presence.settle()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._entities = [
            (self.destroy_subscription, self.subscribes(JointTrajectory, "joint_trajectory", self._command, NEWEST)),
            (self.destroy_service, self.create_service(SetBool, "~/pause", self._on_pause)),
            (self.destroy_service, self.create_service(Trigger, "~/reset", self._on_reset)),
            (self.destroy_service, self.create_service(Trigger, "~/step", self._on_step)),
            (self.destroy_timer, self.create_timer(WATCH_SECONDS, self._watch, clock=steady)),
        ]

    def _build(self, config: BridgeConfig) -> None:
        robot, scene, pose = find_robot(config.body), None, np.zeros(3)
        if config.room_seed >= 0:
            from egotwin_sim.room.layout import sample_layout
            from egotwin_sim.room.physics import room_scene

            layout = sample_layout(config.room_seed)
            scene = room_scene(layout, config.image_size)
            pose = np.array(layout.sample_spawn(np.random.Generator(np.random.PCG64(layout.seed))))
        self._robot = RobotModel(robot, scene)
        self._start_pose = self._robot.standing.copy()
        self._start_pose[:2] = pose[:2]
        turn = np.array([np.cos(pose[2] / 2), 0.0, 0.0, np.sin(pose[2] / 2)])
        mujoco.mju_mulQuat(self._start_pose[3:7], turn, self._robot.standing[3:7])
        policy = None
        if config.mode == "policy":
            from egotwin_sim.body.tracking_policy import TrackingPolicy

            weights = config.tracking_policy
            joints = len(self._robot.joint_names)
            policy = (TrackingPolicy.from_pretrained(weights) if weights else TrackingPolicy(joints)).act
        self._tracker = Tracker(self._robot, TrackerConfig(mode=config.mode, assist=config.assist), policy)

    def activate(self) -> None:
        """Start sending, then the camera and the simulation."""
        config, topics = self._settings, self._topics
        assert topics is not None
        self._seen = {"refused": 0, "backward": self._timeline.backward_jumps, "dropped": 0, "failures": 0}
        self._assist_peak, self._refused_here = 0.0, 0
        self._states = Outbox("states", topics.send_state, self._not_sent, depth=STATE.depth)
        self._pictures = Outbox("pictures", topics.send_picture, self._not_sent)
        self._simulation = Simulation(
            self._tracker,
            self._start_pose,
            publish_hz=config.publish_hz,
            camera_hz=config.camera_hz or 1.0,
            on_state=self._on_state,
        )
        if config.camera_hz > 0:
            self._camera = HeadCamera(self._robot, self._simulation.views, config.image_size, self._on_frame)
            self._camera.start()
        self._simulation.start()

    def deactivate(self) -> None:
        """Stop the simulation, the camera, and then the sending."""
        if self._simulation is not None:
            self._simulation.stop()
        if self._camera is not None:
            self._camera.stop()
        for outbox in (self._states, self._pictures):
            if outbox is not None:
                outbox.close()
        self._simulation = self._camera = self._states = self._pictures = None

    def release(self) -> None:
        """Give topics and services back, and the scene."""
        for destroy, entity in self._entities:
            destroy(entity)
        self._entities = []
        if self._topics is not None:
            self._topics.close()
            self._topics = None
        for name in ("_robot", "_tracker"):
            self.__dict__.pop(name, None)

    def figures(self) -> Mapping[str, object]:
        """Real-time factor, delays, losses, the assist, and whether it holds a pose."""
        simulation, camera, states, pictures = self._simulation, self._camera, self._states, self._pictures
        if simulation is None or states is None or pictures is None:
            return {}
        status = simulation.status()
        warning = ""
        if status["state"] == "broken":
            warning = f"the simulation is broken ({status['reason']}); call ~/reset"
        elif camera is not None and not camera.running:
            warning = f"the head camera has stopped: {camera.status()['reason']}"
        elif status["state"] == "holding" and self._accepted:
            warning = "underrun: the trajectory has ended, the last pose is held"
        peak, self._assist_peak = self._assist_peak, 0.0
        return {
            "warning": warning,
            "simulation": status.pop("state"),
            **status,
            "frames": 0 if camera is None else camera.status()["frames"],
            "assist_bw_peak": peak,
            "trajectories": self._accepted,
            "late_frames_cut": self._late_frames,
            "states_sent": states.sent,
            "states_dropped": states.dropped,
            "images_sent": pictures.sent,
            "images_dropped": pictures.dropped,
        }

    # Threads of the simulation, the camera and the outboxes.

    def _on_state(self, reading: BodyReading) -> None:
        self._assist_peak = max(self._assist_peak, reading.assist_bw)
        if self._states is not None:
            self._states.put((self._timeline.observe(reading.time_s), reading))

    def _on_frame(self, frame: CameraFrame) -> None:
        if self._pictures is not None:
            self._pictures.put((self._timeline.stamp(frame.time_s), frame))

    def _not_sent(self, error: Exception) -> None:
        self.diagnostics.refuse("not sent", f"{type(error).__name__}: {error}")

    # The executor's thread.

    def _command(self, message: JointTrajectory) -> None:
        simulation = self._simulation
        if simulation is None:
            raise UserError(f"the bridge is {self.state}; activate it")
        if message.header.frame_id not in ("", ODOM, MAP):
            raise UserError(f"the trajectory's frame is {message.header.frame_id!r}; expected {ODOM!r}")
        trajectory, delay = trajectory_of(message, self._robot, simulation.reading.qpos[:7])
        now, stamp = simulation.time_s, stamp_ns(message.header.stamp)
        at: float | None
        if stamp:
            at = self._timeline.time_s(stamp) + delay
            if at > now + MAX_AHEAD_SECONDS:
                raise UserError(
                    f"the trajectory begins in {at - now:.1f} s; expected at most {MAX_AHEAD_SECONDS:g}: is it stamped "
                    "by the same clock (use_sim_time)?"
                )
            late = int(np.ceil(max(0.0, now - at) * trajectory.fps - 1e-6))
            if late >= len(trajectory):
                raise UserError(
                    f"the trajectory comes too late: it lasts {trajectory.duration:.3f} s, begun {now - at:.3f} s ago"
                )
            trajectory, at = trajectory[late:], at + late / trajectory.fps
            self._late_frames += late
        else:
            at = now + delay if delay > 0 else None
        if reason := simulation.append(trajectory, at):
            self._refused_here += 1
            raise UserError(reason)
        self._accepted += 1

    def _watch(self) -> None:
        """Once a second: report what has happened where nobody could be told."""
        others = self._presence.others()
        if others and self._presence.must_leave():
            self.leave(f"{others[0]} is a bridge in this namespace as well and was first; this one ends")
            return
        if others:
            self.diagnostics.refuse("second bridge", f"{others[0]} publishes {ROOT_POSE} as well; stop it")
        simulation, states, pictures = self._simulation, self._states, self._pictures
        if simulation is None or states is None or pictures is None:
            return
        status = simulation.status()
        if self._rose("refused", status["refused"] - self._refused_here):
            self.diagnostics.refuse("joint_trajectory refused", status["refused_reason"])
        if self._rose("failures", status["failures"]):
            self.diagnostics.fail("simulation", status["reason"])
        if self._rose("backward", self._timeline.backward_jumps):
            self.diagnostics.refuse("clock", "the clock has gone back; stamps follow it, the simulation goes on")
        if lost := self._rose("dropped", states.dropped + pictures.dropped):
            self.diagnostics.refuse("outgoing queue full", f"{lost} messages were replaced before they could be sent")
        if self._settings.publish_clock is False and self.get_clock().now().nanoseconds == 0:
            self.diagnostics.refuse("clock", "use_sim_time is set and nobody publishes /clock; stamps are 0")

    def _rose(self, name: str, count: int) -> int:
        """By how much a count has risen since it was looked at last."""
        before, self._seen[name] = self._seen[name], count
        return count - before

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._simulation is None:
            response.success, response.message = False, self._inactive()
        else:
            self._simulation.pause(request.data)
            response.success, response.message = True, "paused" if request.data else "running"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._simulation is None:
            response.success, response.message = False, self._inactive()
        else:
            self._simulation.reset()
            response.success, response.message = True, "the body stands where it began"
        return response

    def _on_step(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._simulation is None:
            response.success, response.message = False, self._inactive()
            return response
        steps = max(1, round(1.0 / (self._settings.publish_hz * self._robot.timestep)))
        try:
            self._simulation.advance(steps)
        except UserError as error:
            response.success, response.message = False, str(error)
        else:
            response.success, response.message = True, f"{self._simulation.time_s:.6f} s"
        return response

    def _inactive(self) -> str:
        return f"the bridge is {self.state}; activate it"


def main(arguments: list[str] | None = None) -> NoReturn:
    """The executable `mujoco_bridge_node`."""
    run([MujocoBridgeNode], arguments)


if __name__ == "__main__":
    main()
