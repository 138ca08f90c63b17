"""The dream as a node, with a tiny model of random weights: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from egotwin_sim.body.robot import RobotModel, our_robot
from egotwin_sim.motion import Skeleton
from egotwin_sim.ros.messages import (
    NANOSECONDS,
    image_message,
    joint_state_message,
    pose_message,
    stamp_ns,
)
from egotwin_sim.ros.qos import LATCHED, NEWEST, STATE, image_profile
from egotwin_sim.ros.token_message import TokenCommand, TokenRequest, command_message, token_request
from egotwin_sim.ros.trajectories import trajectory_of
from egotwin_sim.ros.transforms import root_pose
from egotwin_sim.ros.world_model_node import WorldModelNode
from tests.ros.harness import Client, Diagnoses, HostedNode, NodeProcess
from tests.tiny import SIZE, TOKEN_CHANNELS, tiny_pipeline

NODE = "world_model"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def robot() -> RobotModel:
    return RobotModel(our_robot())


@pytest.fixture
def hosted(domain: int, namespace: str, weights: Path) -> Iterator[Callable[..., HostedNode]]:
    """World models in this process, which end with the test."""
    made: list[HostedNode] = []

    def make(**parameters: Any) -> HostedNode:
        made.append(HostedNode(WorldModelNode, domain, namespace, **{"model": str(weights), **parameters}))
        return made[-1]

    yield make
    for host in made:
        host.close()


def stamp(message: Any) -> int:
    return stamp_ns(message.header.stamp)


class Standing:
    """A bridge whose body stands, by hand: readings and pictures of the stamps that the test wants."""

    def __init__(self, client: Client, robot: RobotModel) -> None:
        self._robot = robot
        self._joints = client.publisher(JointState, "joint_states", STATE)
        self._roots = client.publisher(PoseStamped, "root_pose", STATE)
        self._images = client.publisher(Image, "head_camera/image_raw", image_profile("reliable"))
        self._picture = np.random.default_rng(0).integers(0, 255, (2 * SIZE, 2 * SIZE, 3), dtype=np.uint8)

    def say(self, seconds: float, picture: bool = False) -> None:
        """A reading, and before it a picture of the same moment."""
        at, qpos = round(seconds * NANOSECONDS), self._robot.standing
        if picture:
            self._images.publish(image_message(self._picture, at, "head_camera_optical_frame"))
        velocity = np.zeros(len(qpos) - 7)
        self._joints.publish(joint_state_message(self._robot.joint_names, qpos[7:], velocity, at))
        self._roots.publish(pose_message(root_pose(qpos), at, "odom"))


def test_without_its_model_it_stays_unconfigured_and_says_why(
    hosted: Callable[..., HostedNode], client: Client
) -> None:
    host = hosted(model="/no/such/weights")
    diagnoses = Diagnoses(client, NODE)
    client.until(diagnoses.values, "the node's diagnostics")
    assert host.run(host.node.trigger_configure) == TransitionCallbackReturn.FAILURE
    assert host.node.state == "unconfigured"
    assert "/no/such/weights" in diagnoses.until_said("configuring")


def test_a_prompt_becomes_pictures_a_trajectory_and_a_path(
    hosted: Callable[..., HostedNode], client: Client, robot: RobotModel
) -> None:
    host = hosted(start_from="room", room_seed=3)
    images = client.collect(Image, "generated/image_raw", image_profile("reliable"))
    heads = client.collect(PoseStamped, "generated/head_pose", STATE)
    trajectories = client.collect(JointTrajectory, "joint_trajectory", NEWEST)
    paths = client.collect(PathMessage, "motion", LATCHED)
    diagnoses = Diagnoses(client, NODE)
    assert host.run(host.node.trigger_configure) == TransitionCallbackReturn.SUCCESS
    prompts = client.publisher(String, "prompt", LATCHED)
    prompts.publish(String(data="   "))
    diagnoses.until_said("prompt refused: the prompt is empty")
    assert host.run(host.node.trigger_activate) == TransitionCallbackReturn.SUCCESS
    refused = client.call(Trigger, f"{NODE}/start", Trigger.Request())
    assert not refused.success and "no goal" in refused.message

    prompts.publish(String(data="walk to the red box"))
    client.until(lambda: len(images) >= 4 and len(trajectories) >= 2 and heads and paths, "a dream")
    assert (images[-1].width, images[-1].height) == (SIZE, SIZE)
    stamps = [stamp(image) for image in images]
    assert stamps == sorted(set(stamps))
    assert {stamp(head) for head in heads} & set(stamps)
    trajectory, _ = trajectory_of(trajectories[0], robot, robot.standing[:7])
    assert len(trajectory) == 8 and trajectory.fps == pytest.approx(16.0)
    assert [pose.header.frame_id for pose in paths[-1].poses[:1]] == ["odom"]

    prompts.publish(String(data="sit down"))
    client.until(lambda: diagnoses.values().get("goal") == "sit down", "the new goal")
    client.until(lambda: int(diagnoses.values()["step_id"]) >= 3, "steps going on")

    assert client.call(SetBool, f"{NODE}/pause", SetBool.Request(data=True)).success
    client.until(lambda: diagnoses.values().get("dream") == "paused", "the pause")
    assert client.call(Trigger, f"{NODE}/start", Trigger.Request()).success
    count = len(images)
    client.until(lambda: len(images) > count, "pictures after the pause")
    before = int(diagnoses.values()["step_id"])
    assert client.call(Trigger, f"{NODE}/reset", Trigger.Request()).success
    client.until(lambda: int(diagnoses.values()["step_id"]) > before + 1, "steps after the reset")
    assert host.run(host.node.trigger_deactivate) == TransitionCallbackReturn.SUCCESS
    assert not [
        thread.name for thread in threading.enumerate() if thread.name in ("dreamer", "generated pictures", "paths")
    ]


def test_it_begins_with_the_camera_anchors_on_it_and_lives_with_a_clock_that_goes_back(
    hosted: Callable[..., HostedNode], client: Client, robot: RobotModel
) -> None:
    host = hosted(prompt="walk ahead", anchor_hz=2.0)
    for transition in (host.node.trigger_configure, host.node.trigger_activate):
        assert host.run(transition) == TransitionCallbackReturn.SUCCESS
    diagnoses = Diagnoses(client, NODE)
    trajectories = client.collect(JointTrajectory, "joint_trajectory", NEWEST)
    body = Standing(client, robot)
    client.until(lambda: "head_camera/image_raw" in diagnoses.values().get("waiting_for", ""), "the wait for a camera")

    def go_on(start: float, done: Callable[[], bool], what: str) -> float:
        """Time passes as it is taken note of: a reading every 20 ms, a picture every 40 ms, until something is so."""
        now = [start]

        def told() -> bool:
            now[0] += 0.02
            body.say(now[0], picture=round((now[0] - start) / 0.02) % 2 == 0)
            return done()

        client.until(told, what)
        return now[0]

    time_s = go_on(100.0, lambda: len(trajectories) >= 2, "a trajectory")
    assert 100.0 < stamp(trajectories[0]) / NANOSECONDS
    time_s = go_on(time_s, lambda: int(diagnoses.values().get("anchors", 0)) >= 1, "an anchor")
    count = len(trajectories)
    go_on(
        5.0,
        lambda: len(trajectories) > count and stamp(trajectories[-1]) < 100 * NANOSECONDS,
        "a dream at the new time",
    )
    assert "the dream begins anew" in diagnoses.until_said("the time has gone back by")


def test_tokens_are_asked_for_and_those_out_of_order_late_or_no_numbers_are_refused(
    hosted: Callable[..., HostedNode], client: Client
) -> None:
    host = hosted(prompt="walk ahead", start_from="room", body_from="tokens", token_seconds=60.0)
    requests: list[Float64MultiArray] = client.collect(Float64MultiArray, "token_request", LATCHED)
    trajectories = client.collect(JointTrajectory, "joint_trajectory", NEWEST)
    diagnoses = Diagnoses(client, NODE)
    for transition in (host.node.trigger_configure, host.node.trigger_activate):
        assert host.run(transition) == TransitionCallbackReturn.SUCCESS
    commands = client.publisher(Float64MultiArray, "motion_tokens", NEWEST)

    def asked(step_id: int) -> TokenRequest:
        def last() -> TokenRequest | None:
            request = token_request(requests[-1], Skeleton.default(), 16.0) if requests else None
            return request if request is not None and request.step_id == step_id else None

        return client.until(last, f"the request for step {step_id}")

    def answer(step_id: int, deadline_s: float, value: float = 0.1) -> None:
        tokens = np.full((2, TOKEN_CHANNELS), value, np.float32)
        commands.publish(command_message(TokenCommand(step_id, deadline_s, tokens)))

    first = asked(0)
    assert len(first.recent) == 1
    answer(5, first.deadline_s)
    assert "expected those of step 0" in diagnoses.until_said("tokens of step 5")
    answer(0, 1.0)
    diagnoses.until_said("after their deadline")
    answer(0, first.deadline_s, float("nan"))
    diagnoses.until_said("NaN or infinity")
    answer(0, first.deadline_s, 99.0)
    diagnoses.until_said("beyond 8")
    assert diagnoses.values()["step_id"] == "0" and not trajectories
    answer(0, first.deadline_s)
    second = asked(1)
    assert len(second.recent) == 9
    answer(0, first.deadline_s)
    assert "expected those of step 1" in diagnoses.until_said("tokens of step 0; expected those of step 1")
    client.until(lambda: trajectories, "the step's trajectory")


def test_a_request_that_nobody_answers_is_made_again(hosted: Callable[..., HostedNode], client: Client) -> None:
    host = hosted(prompt="walk ahead", start_from="room", body_from="tokens", token_seconds=0.05, horizon_seconds=0.0)
    requests: list[Float64MultiArray] = client.collect(Float64MultiArray, "token_request", LATCHED)
    diagnoses = Diagnoses(client, NODE)
    for transition in (host.node.trigger_configure, host.node.trigger_activate):
        assert host.run(transition) == TransitionCallbackReturn.SUCCESS
    diagnoses.until_said("step 0 had none by its deadline; asked again")
    client.until(lambda: len(requests) >= 2, "the second request")
    assert {int(request.data[0]) for request in requests} == {0}
    assert requests[-1].data[1] > requests[0].data[1]


def test_dream_body_and_camera_close_the_loop_and_outlive_a_bridge_that_dies(
    hosted: Callable[..., HostedNode], client: Client, launched: Callable[..., NodeProcess]
) -> None:
    """Both nodes, the bridge in a process of its own."""
    parameters = {
        "autostart": True, "image_size": 32, "camera_hz": 8.0, "mode": "kinematic", "discovery_seconds": 0.0,
    }  # fmt: skip
    bridge = launched("mujoco_bridge_node", **parameters)
    host = hosted(prompt="walk ahead", anchor_hz=2.0)
    for transition in (host.node.trigger_configure, host.node.trigger_activate):
        assert host.run(transition) == TransitionCallbackReturn.SUCCESS
    dream, body = Diagnoses(client, NODE), Diagnoses(client, "mujoco_bridge")

    def moves(watch: NodeProcess) -> None:
        client.until(lambda: int(body.values().get("trajectories", 0)) >= 2, "trajectories that were taken", watch)
        anchors = int(dream.values().get("anchors", 0))
        client.until(lambda: int(dream.values().get("anchors", 0)) > anchors, "an anchor", watch)

    moves(bridge)
    bridge.kill()
    body.forget()
    another = launched("mujoco_bridge_node", **parameters)
    moves(another)
    assert another.interrupt() == 0, another.log
