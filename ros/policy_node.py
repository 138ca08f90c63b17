"""A policy as a ROS node: head camera, body and goal in; motion tokens out, for the steps that they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, String

from egotwin_sim.errors import UserError

from .body_history import BodyHistory
from .bridge_topics import IMAGE, ROOT_POSE
from .configuration import PolicyConfig
from .messages import NANOSECONDS, image_array, pose_matrix, stamp_ns
from .node import EgoTwinNode
from .outbox import Outbox
from .qos import LATCHED, NEWEST, STATE, image_profile
from .running import run
from .token_message import TokenCommand, TokenRequest, command_message, token_request
from .transforms import T_GAZE_OPTICAL

if TYPE_CHECKING:  # torch takes seconds to import: the node is there at once, and configuring loads it
    from egotwin_sim.live.camera import CameraFrame


class PolicyNode(EgoTwinNode):
    """Answers `token_request` on `motion_tokens` by a policy of `egotwin_sim.policies`; see docs/ros.md.

    The policy has a thread of its own; a request that comes while it thinks replaces one that waits.
    """

    NAME = "policy"
    CONFIG = PolicyConfig

    def __init__(self, give_up: Any, **options: Any) -> None:
        self._requests: Outbox[TokenRequest] | None = None
        self._entities: list[tuple[Any, Any]] = []
        self._goal = ""
        self._answered = 0
        super().__init__(give_up, **options)

    def configure(self) -> None:
        """Make the policy, and take the topics."""
        config: PolicyConfig = self.config
        self._history: BodyHistory | None = None
        self._goal = self._goal or config.prompt.strip()
        self._image: Image | None = None
        self._head: np.ndarray | None = None
        self._intrinsics: np.ndarray | None = None
        if not config.policy:
            return
        from egotwin_sim.policies.live import named_policy
        from egotwin_sim.room.layout import sample_layout

        layout = sample_layout(config.room_seed) if config.room_seed >= 0 else None
        self._policy = named_policy(config.policy, layout, config.model, config.seed)
        self._commands = self.publishes(Float64MultiArray, "motion_tokens", NEWEST)
        subscriptions = [
            self.subscribes(Float64MultiArray, "token_request", self._on_request, LATCHED),
            self.subscribes(String, "prompt", self._on_prompt, LATCHED),
            self.subscribes(Image, IMAGE, self._on_image, image_profile(config.image_qos)),
            self.subscribes(CameraInfo, "head_camera/camera_info", self._on_info, image_profile(config.image_qos)),
            self.subscribes(PoseStamped, "head_pose", self._on_head, STATE),
            self.subscribes(PoseStamped, ROOT_POSE, self._on_root, STATE),
            self.subscribes(JointState, "joint_states", self._on_joints, STATE),
        ]
        self._entities = [
            (self.destroy_lifecycle_publisher, self._commands),
            *((self.destroy_subscription, entity) for entity in subscriptions),
        ]

    def activate(self) -> None:
        """Start the policy's thread."""
        if self._entities:
            self._requests = Outbox("policy", self._answer, self._failed)

    def deactivate(self) -> None:
        """Stop the thread after the step that it is at."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def release(self) -> None:
        """Give the topics back, and the policy."""
        for destroy, entity in self._entities:
            destroy(entity)
        self._entities = []
        self.__dict__.pop("_policy", None)

    def figures(self) -> Mapping[str, object]:
        """What was asked and answered."""
        if self._requests is None:
            return {}
        return {"goal": self._goal, "answered": self._answered, "requests_dropped": self._requests.dropped}

    # The executor's thread.

    def _on_prompt(self, message: String) -> None:
        if not message.data.strip():
            raise UserError("the prompt is empty; give a text such as 'walk to the red box'")
        self._goal = message.data.strip()

    def _on_request(self, message: Float64MultiArray) -> None:
        if self._requests is not None:
            model = self._policy.body.model
            self._requests.put(token_request(message, model.skeleton, model.config.motion_fps))

    def _on_image(self, message: Image) -> None:
        self._image = message

    def _on_info(self, message: CameraInfo) -> None:
        self._intrinsics = np.array(message.k).reshape(3, 3)

    def _on_head(self, message: PoseStamped) -> None:
        self._head = pose_matrix(message.pose)

    def _on_root(self, message: PoseStamped) -> None:
        if self._history is not None:
            self._history.add_root(message)

    def _on_joints(self, message: JointState) -> None:
        if self._history is None:
            self._history = BodyHistory(tuple(message.name))
        self._history.add_joints(message)

    # The policy's thread.

    def _answer(self, request: TokenRequest) -> None:
        from egotwin_sim.live.dreamer import StepRequest

        if not self._goal:
            raise UserError("there is no goal; publish a text on prompt")
        asked = StepRequest(request.step_id, request.deadline_s, request.recent, self._goal)
        tokens = self._policy(asked, self._frame())
        self._commands.publish(command_message(TokenCommand(request.step_id, request.deadline_s, tokens)))
        self._answered += 1

    def _frame(self) -> CameraFrame:
        """The newest picture, and the body at its moment, or now where that is not known yet."""
        from egotwin_sim.live.camera import CameraFrame

        image, head, intrinsics, history = self._image, self._head, self._intrinsics, self._history
        if image is None or head is None or intrinsics is None or history is None or history.newest is None:
            raise UserError(f"nothing has come yet on {IMAGE}, its camera_info, head_pose, {ROOT_POSE} or joint_states")
        stamp = stamp_ns(image.header.stamp)
        qpos = history.at(stamp)
        if qpos is None:
            qpos = history.at(history.newest)
        assert qpos is not None
        return CameraFrame(stamp / NANOSECONDS, image_array(image), head, head @ T_GAZE_OPTICAL, intrinsics, qpos)

    def _failed(self, error: Exception) -> None:
        name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        self.diagnostics.refuse("no answer", f"{name}{error}")


def main(arguments: list[str] | None = None) -> NoReturn:
    """The executable `policy_node`."""
    run([PolicyNode], arguments)


if __name__ == "__main__":
    main()
