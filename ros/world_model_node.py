"""The dream as a ROS node: a goal text in; dreamt pictures, a joint trajectory, head pose and path out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import quat_to_matrix, yaw_of

from .body_history import BodyHistory
from .bridge_topics import IMAGE, ROOT_POSE
from .configuration import WorldModelConfig
from .frames import ODOM, OPTICAL
from .messages import NANOSECONDS, image_array, image_message, path_message, pose_message, stamp_ns
from .node import EgoTwinNode
from .outbox import Outbox
from .playback import Playback
from .qos import LATCHED, NEWEST, STATE, image_profile
from .running import run
from .token_message import TokenRequest, request_message, token_command
from .trajectories import trajectory_message
from .transforms import root_pose
from .transport import LargeImageWarning

if TYPE_CHECKING:  # torch takes seconds to import: the node is there at once, and configuring loads it
    from egotwin_sim.body.trajectory import RobotTrajectory
    from egotwin_sim.live.dream import DreamtChunk
    from egotwin_sim.live.dreamer import Dreamer, StepRequest
    from egotwin_sim.live.puppet import Puppet
    from egotwin_sim.motion import Motion

GENERATED = "generated/image_raw"
KEPT_CHUNKS = 4  # whose trajectories are remembered, for pictures that come late
PATH_POSES = 160  # of the path: ten seconds
TICK_SECONDS = 0.02  # how often the time is told where no bridge tells it
WATCH_SECONDS = 1.0


class WorldModelNode(EgoTwinNode):
    """Dreams view and body ahead of the bridge's time; see docs/ros.md for topics and services.

    The dream runs in a thread of its own. Its time is that of the bridge's readings, whose stamps it is told; without a
    bridge (`start_from` is room), that of the node's clock. A chunk goes out as one trajectory, stamped with the time
    at which it begins; its pictures go out when their time comes.
    """

    NAME = "world_model"
    CONFIG = WorldModelConfig

    def __init__(self, give_up: Any, **options: Any) -> None:
        self._dreamer: Dreamer | None = None
        self._pictures: Outbox[tuple[int, np.ndarray, np.ndarray]] | None = None
        self._paths: Outbox[list[tuple[int, np.ndarray]]] | None = None
        self._entities: list[tuple[Any, Any]] = []
        self._publishers: list[Any] = []
        self._prompt = ""
        super().__init__(give_up, **options)

    def configure(self) -> None:
        """Load the weights, and take the topics."""
        from egotwin_sim.body.kinematics import BodyKinematics
        from egotwin_sim.body.robot import RobotModel, our_robot
        from egotwin_sim.body.robots import find_robot
        from egotwin_sim.pipelines.stream import StreamPipeline

        config: WorldModelConfig = self.config
        self._settings = config
        self._pipeline = StreamPipeline.from_pretrained(config.model)
        self._robot = find_robot(config.body, self._pipeline.skeleton)
        ours = RobotModel(our_robot(self._pipeline.skeleton))
        self._ours = BodyKinematics(ours.bare, self._pipeline.skeleton)
        self._standing = self._ours.motion_from_qpos(ours.standing[None], self._pipeline.config.motion_fps)
        self._history = BodyHistory(RobotModel(self._robot).joint_names)
        self._room = self._first_of_room(config.room_seed) if config.start_from == "room" else None
        self._prompt = self._prompt or config.prompt.strip()
        large = LargeImageWarning(config.image_qos, lambda text: self.diagnostics.refuse("large pictures", text))
        large.check(GENERATED, 3 * self._pipeline.config.image_size**2)
        self._image = self.publishes(Image, GENERATED, image_profile(config.image_qos))
        self._head = self.publishes(PoseStamped, "generated/head_pose", STATE)
        self._trajectory = self.publishes(JointTrajectory, "joint_trajectory", NEWEST)
        self._path = self.publishes(Path, "motion", LATCHED)
        self._requests = self.publishes(Float64MultiArray, "token_request", LATCHED)
        self._publishers = [self._image, self._head, self._trajectory, self._path, self._requests]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        subscriptions = [
            self.subscribes(String, "prompt", self._on_prompt, LATCHED),
            self.subscribes(Float64MultiArray, "motion_tokens", self._on_tokens, NEWEST),
        ]
        timers = [self.create_timer(WATCH_SECONDS, self._watch, clock=steady)]
        if self._room is None:
            subscriptions += [
                self.subscribes(Image, IMAGE, self._on_image, image_profile(config.image_qos)),
                self.subscribes(PoseStamped, ROOT_POSE, self._on_root, STATE),
                self.subscribes(JointState, "joint_states", self._on_joints, STATE),
            ]
        else:
            timers.append(self.create_timer(TICK_SECONDS, self._tick))
        services = [
            self.create_service(Trigger, "~/start", self._on_start),
            self.create_service(Trigger, "~/reset", self._on_reset),
            self.create_service(SetBool, "~/pause", self._on_pause),
        ]
        self._entities = [
            *((self.destroy_subscription, entity) for entity in subscriptions),
            *((self.destroy_timer, entity) for entity in timers),
            *((self.destroy_service, entity) for entity in services),
        ]

    def _first_of_room(self, seed: int) -> tuple[np.ndarray, Motion]:
        """First frame and body of a room's standing figure."""
        if seed < 0:
            raise UserError("start_from is room and room_seed is -1; give the seed of a room, from 0")
        from egotwin_sim.room.layout import sample_layout
        from egotwin_sim.room.world import RoomWorld

        world = RoomWorld(sample_layout(seed), self._pipeline.skeleton, self._pipeline.config.image_size)
        try:
            return world.render(), world.frame
        finally:
            world.close()

    def activate(self) -> None:
        """Start the dream's thread, which waits for a prompt and a frame."""
        from egotwin_sim.live.dreamer import Dreamer

        config = self._settings
        self._now, self._newest_stamp = 0.0, 0
        self._origin: int | None = None
        self._wanted, self._paused = bool(self._prompt), False
        self._picture: Image | None = None
        self._picture_stamp, self._picture_period = 0, NANOSECONDS
        self._next_anchor = 0.0
        self._puppet: Puppet | None = None
        self._sent: deque[tuple[DreamtChunk, RobotTrajectory]] = deque(maxlen=KEPT_CHUNKS)
        self._way: deque[tuple[int, np.ndarray]] = deque(maxlen=PATH_POSES)
        self._request: tuple[StepRequest, float] | None = None
        self._seen = dict.fromkeys(("refused", "failures", "listener_errors"), 0)
        self._refused_here = 0
        self._pictures = Outbox("generated pictures", self._send_picture, self._not_sent)
        self._paths = Outbox("paths", self._send_path, self._not_sent)
        self._playback = Playback(self._pictures)
        self._dreamer = Dreamer(
            self._pipeline,
            seed=config.seed,
            driven=config.body_from == "tokens",
            horizon=config.horizon_seconds,
            on_chunk=self._on_chunk,
            on_need=self._on_need,
        )
        self._dreamer.start()

    def deactivate(self) -> None:
        """Stop the dream, then the sending."""
        if self._dreamer is not None:
            self._dreamer.stop()
        for outbox in (self._pictures, self._paths):
            if outbox is not None:
                outbox.close()
        self._dreamer = self._pictures = self._paths = None

    def release(self) -> None:
        """Give topics and services back, and the weights."""
        for destroy, entity in self._entities:
            destroy(entity)
        for publisher in self._publishers:
            self.destroy_lifecycle_publisher(publisher)
        self._entities, self._publishers = [], []
        for name in ("_pipeline", "_history", "_ours", "_room", "_puppet", "_sent"):
            self.__dict__.pop(name, None)

    def figures(self) -> Mapping[str, object]:
        """The dream's figures, and what it waits for."""
        dreamer, pictures = self._dreamer, self._pictures
        if dreamer is None or pictures is None:
            return {}
        status = dreamer.status()
        dream = status.pop("state")
        return {
            "warning": f"the dream fails: {status['reason']}" if dream == "failing" else "",
            "dream": "paused" if self._paused else dream,
            "waiting_for": self._waiting_for(),
            "prompt": self._prompt,
            "buffered_s": max(0.0, dreamer.buffered_until - self._now) if dreamer.dream.begun else 0.0,
            **status,
            "images_sent": pictures.sent,
            "images_dropped": pictures.dropped + self._playback.skipped,
        }

    def _waiting_for(self) -> str:
        if not self._prompt:
            return "prompt"
        if self._wanted and self._room is None:
            return f"{IMAGE}, {ROOT_POSE} and joint_states"
        return ""

    # Time. The dream counts seconds from the first stamp on.

    def _stamp(self, time_s: float) -> int:
        return (self._origin or 0) + round(time_s * NANOSECONDS)

    def _tell(self, stamp: int) -> None:
        """It is a stamp's time now, nanoseconds."""
        assert self._dreamer is not None
        if self._origin is None:
            self._origin = stamp
        elif stamp < self._newest_stamp:
            self._origin = stamp - round(self._now * NANOSECONDS)
            self._wanted, self._picture = bool(self._prompt), None
            self._playback.clear()
            self.diagnostics.refuse(
                "clock",
                f"the time has gone back by {(self._newest_stamp - stamp) / NANOSECONDS:.3f} s; the dream begins anew",
            )
        self._newest_stamp = stamp
        if self._paused:
            return
        self._now = max(self._now, (stamp - self._origin) / NANOSECONDS)
        self._dreamer.tell_time(self._now)
        self._playback.tell(self._now)
        self._ask_again()

    def _tick(self) -> None:
        if self._dreamer is not None:
            self._tell(self.get_clock().now().nanoseconds)
            if self._wanted and not self._paused:
                assert self._room is not None
                self._begin(*self._room, self._now)

    # What the bridge says, in the executor's thread.

    def _on_root(self, message: PoseStamped) -> None:
        self._on_reading(self._history.add_root(message))

    def _on_joints(self, message: JointState) -> None:
        self._on_reading(self._history.add_joints(message))

    def _on_reading(self, stamp: int | None) -> None:
        if stamp is not None and self._dreamer is not None:
            self._tell(stamp)
            self._look()

    def _on_image(self, message: Image) -> None:
        if self._dreamer is None:
            return
        stamp = stamp_ns(message.header.stamp)
        self._picture_period = abs(stamp - self._picture_stamp)
        self._picture, self._picture_stamp = message, stamp
        self._look()

    def _look(self) -> None:
        """Begin the dream with the newest picture, or tie it to that, once the body of its moment is known."""
        picture, dreamer = self._picture, self._dreamer
        if picture is None or dreamer is None or self._origin is None or self._paused:
            return
        qpos = self._history.at(self._picture_stamp)
        if qpos is None:
            return
        self._picture = None
        time_s = (self._picture_stamp - self._origin) / NANOSECONDS
        if self._wanted:
            self._begin(image_array(picture), self._measured_start(qpos), time_s)
        elif self._anchor_is_due(time_s) and (body := self._measured(qpos, time_s)) is not None:
            self._next_anchor = time_s + 1.0 / self.config.anchor_hz
            dreamer.anchor(image_array(picture), body, time_s)

    def _begin(self, rgb: np.ndarray, body: Motion, time_s: float) -> None:
        from egotwin_sim.live.puppet import Puppet

        assert self._dreamer is not None
        self._wanted = False
        self._puppet = Puppet(self._robot, body)
        self._sent.clear()
        self._way.clear()
        self._playback.clear()
        self._next_anchor = time_s + 1.0 / (self.config.anchor_hz or 1.0)
        self._dreamer.begin(rgb, body, self._prompt, max(time_s, 0.0))

    def _measured_start(self, qpos: np.ndarray) -> Motion:
        """The body as it stands: as measured where it is ours, else standing where the robot does."""
        if self._robot.skeleton is not None:
            return self._ours.motion_from_qpos(qpos[None], self._pipeline.config.motion_fps)
        here = self._standing.transformed(float(yaw_of(quat_to_matrix(qpos[3:7]))))
        return here.transformed(0.0, [*(qpos[:2] - here.root_position[0, :2]), 0.0])

    def _anchor_is_due(self, time_s: float) -> bool:
        from egotwin_sim.live.dream import ANCHOR_TOLERANCE

        assert self._dreamer is not None
        if not self.config.anchor_hz or not self._dreamer.dream.begun:
            return False
        near = min(ANCHOR_TOLERANCE, 0.5 * self._picture_period / NANOSECONDS + 1e-6)
        return time_s >= self._next_anchor - near and self._dreamer.dream.off_step(time_s) <= near

    def _measured(self, qpos: np.ndarray, time_s: float) -> Motion | None:
        """The body as a motion of one frame, in the dream's world; None while nothing was sent."""
        for chunk, trajectory in reversed(list(self._sent)):
            if chunk.deadline_s <= time_s and self._puppet is not None:
                fps = chunk.motion.fps
                at = min((time_s - chunk.deadline_s) * fps, len(chunk.motion))
                wanted = trajectory.qpos[max(0, round(at) - 1)]
                return self._puppet.measured(qpos, wanted, chunk.recent.sampled(np.array([at]), fps))
        return None

    # What the user and the policy say, in the executor's thread.

    def _on_prompt(self, message: String) -> None:
        text = message.data.strip()
        if not text:
            raise UserError("the prompt is empty; give a text such as 'walk to the red box'")
        self._prompt = text
        if self._dreamer is None:
            return
        if not self._dreamer.dream.begun or self._wanted:
            self._wanted = True
        elif reason := self._dreamer.set_goal(text):
            self._refused_here += 1
            raise UserError(reason)

    def _on_tokens(self, message: Float64MultiArray) -> None:
        dreamer, command = self._dreamer, token_command(message)
        if dreamer is None:
            raise UserError(f"the world model is {self.state}; activate it")
        now = self._stamp(self._now) / NANOSECONDS
        if now > command.deadline_s:
            raise UserError(
                f"tokens of step {command.step_id} come {now - command.deadline_s:.3f} s after their deadline; answer "
                "sooner, or give more time with token_seconds"
            )
        if reason := dreamer.give_tokens(command.step_id, command.tokens):
            self._refused_here += 1
            raise UserError(reason)
        self._request = None

    def _ask_again(self) -> None:
        pending = self._request
        if pending is not None and self._stamp(self._now) / NANOSECONDS > pending[1]:
            self.diagnostics.refuse("no tokens", f"step {pending[0].step_id} had none by its deadline; asked again")
            self._on_need(pending[0])

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._dreamer is None:
            response.success, response.message = False, f"the world model is {self.state}; activate it"
        elif not self._prompt:
            response.success, response.message = False, "there is no goal; publish a text on prompt first"
        else:
            self._paused = False
            self._wanted = self._wanted or not self._dreamer.dream.begun
            response.success, response.message = (
                True,
                f"waiting for {self._waiting_for()}" if self._wanted else "dreaming",
            )
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._dreamer is None:
            response.success, response.message = False, f"the world model is {self.state}; activate it"
        else:
            self._wanted = bool(self._prompt)
            response.success, response.message = True, "the dream begins anew with the next frame"
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._dreamer is None:
            response.success, response.message = False, f"the world model is {self.state}; activate it"
        else:
            self._paused = request.data
            response.success, response.message = True, "paused" if request.data else "dreaming"
        return response

    def _watch(self) -> None:
        """Once a second: report what went wrong in the dream's thread."""
        if self._dreamer is None:
            return
        status = self._dreamer.status()
        for kind, count, reason in (
            ("refused", status["refused"] - self._refused_here, status["refused_reason"]),
            ("failures", status["failures"], status["reason"]),
            ("listener_errors", status["listener_errors"], status["listener_reason"]),
        ):
            if count > self._seen[kind]:
                self.diagnostics.refuse(f"dream {kind.replace('_', ' ')}", reason)
            self._seen[kind] = count

    # The dream's thread.

    def _on_chunk(self, chunk: DreamtChunk) -> None:
        if self._puppet is None:
            return
        trajectory = self._puppet.trajectory(chunk.before, chunk.motion)
        self._sent.append((chunk, trajectory))
        first = self._stamp(float(chunk.motion_times[0]))
        self._trajectory.publish(trajectory_message(trajectory, first, ODOM))
        every = len(chunk.motion) // len(chunk.frames)
        heads = chunk.T_world_head[every - 1 :: every]
        self._playback.add(
            (float(time_s), (self._stamp(float(time_s)), frame, head))
            for time_s, frame, head in zip(chunk.frame_times, chunk.frames, heads, strict=True)
        )
        for time_s, qpos in zip(chunk.motion_times, trajectory.qpos, strict=True):
            self._way.append((self._stamp(float(time_s)), root_pose(qpos)))
        if self._paths is not None:
            self._paths.put(list(self._way))

    def _on_need(self, request: StepRequest) -> None:
        now = self._stamp(self._now) / NANOSECONDS
        deadline = max(self._stamp(request.deadline_s) / NANOSECONDS, now + self._settings.token_seconds)
        self._request = request, deadline
        self._requests.publish(request_message(TokenRequest(request.step_id, deadline, request.recent)))

    # The outboxes' threads.

    def _send_picture(self, item: tuple[int, np.ndarray, np.ndarray]) -> None:
        stamp, rgb, head = item
        self._image.publish(image_message(rgb, stamp, OPTICAL))
        self._head.publish(pose_message(head, stamp, ODOM))

    def _send_path(self, way: list[tuple[int, np.ndarray]]) -> None:
        stamps, poses = zip(*way, strict=True)
        self._path.publish(path_message(np.stack(poses), stamps, ODOM))

    def _not_sent(self, error: Exception) -> None:
        self.diagnostics.refuse("not sent", f"{type(error).__name__}: {error}")


def main(arguments: list[str] | None = None) -> NoReturn:
    """The executable `world_model_node`."""
    run([WorldModelNode], arguments)


if __name__ == "__main__":
    main()
