"""A policy as a node: asked for a step's motion, it answers from the camera, the body and the goal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, String

from egotwin_sim.body.kinematics import BodyKinematics
from egotwin_sim.body.robot import RobotModel, our_robot
from egotwin_sim.room.goals import goals_of
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise
from egotwin_sim.ros.messages import (
    camera_info_message,
    image_message,
    joint_state_message,
    pose_message,
)
from egotwin_sim.ros.policy_node import PolicyNode
from egotwin_sim.ros.qos import LATCHED, NEWEST, STATE, image_profile
from egotwin_sim.ros.token_message import TokenRequest, request_message, token_command
from egotwin_sim.ros.transforms import root_pose
from tests.ros.harness import Client, Diagnoses, HostedNode
from tests.tiny import SIZE, TOKEN_CHANNELS, tiny_pipeline

ROOM = 3


@pytest.fixture
def hosted(domain: int, namespace: str, tmp_path: Path) -> Iterator[HostedNode]:
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    made = HostedNode(PolicyNode, domain, namespace, model=str(tmp_path / "tiny"), room_seed=ROOM)
    yield made
    made.close()


def test_a_request_is_answered_for_its_step_once_everything_is_known(hosted: HostedNode, client: Client) -> None:
    for transition in (hosted.node.trigger_configure, hosted.node.trigger_activate):
        assert hosted.run(transition) == TransitionCallbackReturn.SUCCESS
    diagnoses = Diagnoses(client, "policy")
    commands = client.collect(Float64MultiArray, "motion_tokens", NEWEST)
    requests = client.publisher(Float64MultiArray, "token_request", LATCHED)
    prompts = client.publisher(String, "prompt", LATCHED)
    layout = sample_layout(ROOM)
    body = synthesise(layout, 0, 1.0, goal=goals_of(layout)[0].text).motion[:1]
    request = request_message(TokenRequest(7, 123.5, body))

    requests.publish(request)
    diagnoses.until_said("there is no goal")
    prompts.publish(String(data="sing a song"))
    client.until(lambda: diagnoses.values().get("goal") == "sing a song", "the goal")
    requests.publish(request)
    diagnoses.until_said("nothing has come yet on head_camera/image_raw")

    robot = RobotModel(our_robot())
    qpos = BodyKinematics(robot.bare).qpos_from_motion(body)[0]
    pictures = image_profile("reliable")
    intrinsics = np.array([[SIZE / 2, 0, SIZE / 2], [0, SIZE / 2, SIZE / 2], [0, 0, 1]])
    spoken = [
        (JointState, "joint_states", STATE, joint_state_message(robot.joint_names, qpos[7:], np.zeros(63), 1000)),
        (PoseStamped, "root_pose", STATE, pose_message(root_pose(qpos), 1000, "odom")),
        (PoseStamped, "head_pose", STATE, pose_message(body.T_world_head()[0], 1000, "odom")),
        (CameraInfo, "head_camera/camera_info", pictures, camera_info_message(intrinsics, SIZE, SIZE, 1000, "camera")),
        (Image, "head_camera/image_raw", pictures, image_message(np.zeros((SIZE, SIZE, 3), np.uint8), 1000, "camera")),
    ]
    voices = [(client.publisher(kind, topic, profile), message) for kind, topic, profile, message in spoken]

    # Once the node has heard of body and camera, it refuses the goal and nothing else.
    def refused_the_goal() -> bool:
        for publisher, message in [*voices, (requests, request)]:
            publisher.publish(message)
        return any("means nothing in a room" in status.message for status in diagnoses.statuses())

    client.until(refused_the_goal, "a refusal of the goal")
    assert not commands
    prompts.publish(String(data=goals_of(layout)[0].text))
    client.until(lambda: diagnoses.values().get("goal") == goals_of(layout)[0].text, "the goal")
    requests.publish(request)
    client.until(lambda: commands, "an answer")
    command = token_command(commands[-1])
    assert (command.step_id, command.deadline_s) == (7, 123.5)
    assert command.tokens.shape == (2, TOKEN_CHANNELS) and np.isfinite(command.tokens).all()
