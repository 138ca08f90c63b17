"""The bridge in a process of its own, as its users see it: topics, services, parameters, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

import rclpy
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from egotwin_sim.body.robot import RobotModel, our_robot
from egotwin_sim.body.trajectory import RobotTrajectory, velocities
from egotwin_sim.ros.configuration import BridgeConfig, described
from egotwin_sim.ros.messages import NANOSECONDS, image_array, pose_matrix, stamp_ns
from egotwin_sim.ros.qos import CLOCK, COMPRESSED, LATCHED, NEWEST, STATE, image_profile
from egotwin_sim.ros.trajectories import trajectory_message
from tests.ros.harness import Client, Diagnoses, NodeProcess

SIZE = 32
ROOM = 3
# Small pictures and few of them: what these tests are about does not depend on it. Simulated time is ROS time here.
PARAMETERS = {
    "image_size": SIZE,
    "camera_hz": 10.0,
    "room_seed": ROOM,
    "mode": "kinematic",
    "discovery_seconds": 0.5,
    "publish_clock": True,
}
NODE = "mujoco_bridge"


def transition(client: Client, number: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=number))
    return bool(client.call(ChangeState, f"{NODE}/change_state", request).success)


def state(client: Client) -> str:
    return str(client.call(GetState, f"{NODE}/get_state", GetState.Request()).current_state.label)


@pytest.fixture(scope="module")
def bridge(launched: Callable[..., NodeProcess], domain: int, namespace: str) -> NodeProcess:
    """One for all tests of this file, brought up as `ros2 lifecycle` does it."""
    node = launched("mujoco_bridge_node", **PARAMETERS)
    client = Client(domain, namespace)
    assert state(client) == "unconfigured"
    assert transition(client, Transition.TRANSITION_CONFIGURE) and state(client) == "inactive"
    refused = client.call(Trigger, f"{NODE}/step", Trigger.Request())
    assert not refused.success and refused.message == "the bridge is inactive; activate it"
    assert transition(client, Transition.TRANSITION_ACTIVATE) and state(client) == "active"
    client.close()
    return node


@pytest.fixture(scope="module")
def robot() -> RobotModel:
    return RobotModel(our_robot())


def stamp(message: object) -> int:
    return stamp_ns(message.header.stamp)  # type: ignore[attr-defined]


def walk_from(here: np.ndarray, robot: RobotModel, metres: float = 0.3, seconds: float = 1.0) -> RobotTrajectory:
    """A body that slides ahead along its heading's x from a pose (7 + n,)."""
    frames = round(seconds * 16) + 1
    qpos = np.tile(here, (frames, 1))
    qpos[:, 0] += np.linspace(0.0, metres, frames)
    return RobotTrajectory(qpos, velocities(robot.bare, qpos, 16.0), 16.0, robot.joint_names)


def where(client: Client, robot: RobotModel, watch: NodeProcess) -> np.ndarray:
    """The body's coordinates (7 + n,) now."""
    states, roots = client.collect(JointState, "joint_states", STATE), client.collect(PoseStamped, "root_pose", STATE)

    def both() -> tuple[JointState, PoseStamped] | None:
        known = {stamp(state): state for state in states}
        return next(((known[stamp(root)], root) for root in reversed(roots) if stamp(root) in known), None)

    state, root = client.until(both, "joints and root of one moment", watch)
    assert tuple(state.name) == robot.joint_names
    pose = root.pose
    quat = [pose.orientation.w, pose.orientation.x, pose.orientation.y, pose.orientation.z]
    return np.array([pose.position.x, pose.position.y, pose.position.z, *quat, *state.position])


def test_pictures_and_calibration_come_in_pairs_of_one_stamp(bridge: NodeProcess, client: Client) -> None:
    images = client.collect(Image, "head_camera/image_raw", image_profile("reliable"))
    infos = client.collect(CameraInfo, "head_camera/camera_info", image_profile("reliable"))

    def paired() -> list[int]:
        both = sorted({stamp(m) for m in images} & {stamp(m) for m in infos})
        return both if len(both) >= 3 else []

    stamps = client.until(paired, "three pairs", bridge)
    image, info = ({stamp(m): m for m in messages}[stamps[-1]] for messages in (images, infos))
    assert (image.width, image.height, image.encoding) == (SIZE, SIZE, "rgb8")
    assert image.header.frame_id == info.header.frame_id == "head_camera_optical_frame"
    assert info.k[0] == pytest.approx(SIZE / 2) and info.k[2] == SIZE / 2  # 90 degrees of view
    assert image_array(image).std() > 5  # a room, not a black picture


def test_the_picture_is_what_the_head_sees(bridge: NodeProcess, client: Client, robot: RobotModel) -> None:
    """The same pose, drawn here, is the same picture."""
    from egotwin_sim.live.camera import HeadView
    from egotwin_sim.live.simulation import View
    from egotwin_sim.room.layout import sample_layout
    from egotwin_sim.room.physics import room_scene

    client.call(Trigger, f"{NODE}/reset", Trigger.Request())
    images = client.collect(Image, "head_camera/image_raw", image_profile("reliable"))
    here = where(client, robot, bridge)
    client.until(lambda: len(images) >= 3, "pictures", bridge)
    scene = RobotModel(our_robot(), room_scene(sample_layout(ROOM), SIZE))
    qpos = scene.model.qpos0.copy()
    qpos[scene.qpos_index] = here
    view = HeadView(scene, SIZE)
    expected = view.draw(View(0.0, qpos)).rgb
    view.close()
    np.testing.assert_array_equal(image_array(images[-1]), expected)


def test_states_come_together_in_the_frames_of_the_conventions(
    bridge: NodeProcess, client: Client, robot: RobotModel
) -> None:
    heads = client.collect(PoseStamped, "head_pose", STATE)
    odometry = client.collect(Odometry, "odom", STATE)
    here = where(client, robot, bridge)
    client.until(lambda: heads and odometry, "head and odometry", bridge)
    assert heads[-1].header.frame_id == odometry[-1].header.frame_id == "odom"
    assert odometry[-1].child_frame_id == "base_link"
    np.testing.assert_allclose(pose_matrix(heads[-1].pose), robot.head_poses(here[None])[0], atol=1e-5)


def test_a_trajectory_is_followed_and_its_end_is_held_and_said(
    bridge: NodeProcess, client: Client, robot: RobotModel
) -> None:
    diagnoses = Diagnoses(client, NODE)
    commands = client.publisher(JointTrajectory, "joint_trajectory", NEWEST)
    client.call(Trigger, f"{NODE}/reset", Trigger.Request())
    here = where(client, robot, bridge)
    roots = client.collect(PoseStamped, "root_pose", STATE)
    commands.publish(trajectory_message(walk_from(here, robot), 0, "odom"))
    client.until(lambda: roots and roots[-1].pose.position.x > here[0] + 0.299, "the end of the way", bridge)
    xs = [root.pose.position.x for root in roots]
    # It starts abruptly, which a smooth reference takes a run-up of a millimetre for.
    assert min(np.diff(xs)) > -0.002 and max(np.diff(xs)) < 0.2
    diagnoses.until_said("underrun: the trajectory has ended, the last pose is held")


def test_a_new_goal_in_mid_walk_replaces_what_was_to_come(
    bridge: NodeProcess, client: Client, robot: RobotModel
) -> None:
    commands = client.publisher(JointTrajectory, "joint_trajectory", NEWEST)
    client.call(Trigger, f"{NODE}/reset", Trigger.Request())
    here = where(client, robot, bridge)
    roots = client.collect(PoseStamped, "root_pose", STATE)
    commands.publish(trajectory_message(walk_from(here, robot, metres=30.0, seconds=100.0), 0, "odom"))
    client.until(lambda: roots and roots[-1].pose.position.x > here[0] + 0.1, "a beginning", bridge)
    turned = roots[-1]
    there = here.copy()
    there[0] = turned.pose.position.x
    commands.publish(trajectory_message(walk_from(there, robot, metres=-1.0), stamp(turned) + NANOSECONDS // 2, "odom"))
    client.until(lambda: roots[-1].pose.position.x < here[0] - 0.2, "the way back", bridge)
    xs = np.array([root.pose.position.x for root in roots])
    assert xs.max() < here[0] + 3.0
    assert np.abs(np.diff(xs)).max() < 0.5, "the body has jumped"


def test_a_publisher_that_dies_leaves_a_held_pose_and_another_one_goes_on(
    bridge: NodeProcess, client: Client, domain: int, namespace: str, robot: RobotModel
) -> None:
    client.call(Trigger, f"{NODE}/reset", Trigger.Request())
    here = where(client, robot, bridge)
    roots = client.collect(PoseStamped, "root_pose", STATE)
    for metres in (0.2, 0.4):
        other = Client(domain, namespace)
        commands = other.publisher(JointTrajectory, "joint_trajectory", NEWEST)
        commands.publish(trajectory_message(walk_from(where(client, robot, bridge), robot, metres=0.2), 0, "odom"))
        client.until(lambda: roots and roots[-1].pose.position.x > here[0] + 0.02, "a movement", bridge)
        other.close()
        end = here[0] + metres - 1e-3
        client.until(lambda end=end: roots[-1].pose.position.x > end, "the end of the way", bridge)
        count = len(roots)
        client.until(lambda count=count: len(roots) > count + 5, "readings of the held pose", bridge)


def test_a_trajectory_that_is_partly_late_is_followed_from_now_on(
    bridge: NodeProcess, client: Client, robot: RobotModel
) -> None:
    diagnoses = Diagnoses(client, NODE)
    commands = client.publisher(JointTrajectory, "joint_trajectory", NEWEST)
    client.call(Trigger, f"{NODE}/reset", Trigger.Request())
    here = where(client, robot, bridge)
    roots = client.collect(PoseStamped, "root_pose", STATE)
    now = stamp(client.until(lambda: roots and roots[-1], "a reading", bridge))
    commands.publish(trajectory_message(walk_from(here, robot, seconds=60.0), now - 10 * NANOSECONDS, "odom"))
    client.until(lambda: roots[-1].pose.position.x > here[0] + 0.05, "a movement", bridge)
    client.until(lambda: int(diagnoses.values().get("late_frames_cut", 0)) >= 160, "the count of late frames", bridge)
    commands.publish(trajectory_message(walk_from(here, robot, seconds=1.0), now - 9 * NANOSECONDS, "odom"))
    diagnoses.until_said("joint_trajectory refused: the trajectory comes too late")
    commands.publish(trajectory_message(walk_from(here, robot), now + 3600 * NANOSECONDS, "odom"))
    diagnoses.until_said("use_sim_time")
    client.call(Trigger, f"{NODE}/reset", Trigger.Request())


def test_what_does_not_fit_is_refused_with_the_reason_and_the_body_stays(
    bridge: NodeProcess, client: Client, robot: RobotModel
) -> None:
    diagnoses = Diagnoses(client, NODE)
    commands = client.publisher(JointTrajectory, "joint_trajectory", NEWEST)
    client.call(Trigger, f"{NODE}/reset", Trigger.Request())
    here = where(client, robot, bridge)

    def message() -> JointTrajectory:
        return trajectory_message(walk_from(here, robot), 0, "odom")

    unknown, no_number, unordered, other, elsewhere = (message() for _ in range(5))
    unknown.joint_names[9] = "tail_x"
    no_number.points[3].positions[4] = float("nan")
    unordered.points[5].time_from_start.sec = 0
    unordered.points[5].time_from_start.nanosec = 1
    other.joint_names = other.joint_names[:8]
    for point in other.points:
        point.positions = point.positions[:8]
    elsewhere.header.frame_id = "moon"
    for bad, words in (
        (unknown, "tail_x"),
        (no_number, "point 3 of the trajectory holds NaN"),
        (unordered, "point 5 of the trajectory comes before"),
        (other, "another body"),
        (elsewhere, "the trajectory's frame is 'moon'"),
    ):
        commands.publish(bad)
        assert diagnoses.until_said(words).startswith("joint_trajectory refused: ")
    np.testing.assert_allclose(where(client, robot, bridge), here, atol=1e-9)
    assert int(diagnoses.values()["joint_trajectory refused"]) >= 5


def test_pause_step_and_resume_with_a_clock_that_never_goes_back(bridge: NodeProcess, client: Client) -> None:
    clocks = client.collect(Clock, "/clock", CLOCK)
    roots = client.collect(PoseStamped, "root_pose", STATE)
    client.until(lambda: len(clocks) > 5 and roots, "the clock", bridge)
    running = client.call(Trigger, f"{NODE}/step", Trigger.Request())
    assert not running.success and "pause" in running.message
    assert client.call(SetBool, f"{NODE}/pause", SetBool.Request(data=True)).success
    stepped = client.call(Trigger, f"{NODE}/step", Trigger.Request())
    assert stepped.success
    time_s = float(stepped.message.split()[0])
    client.until(lambda: 0 <= time_s - stamp(roots[-1]) / NANOSECONDS < 0.011, "the state of the step", bridge)
    count = len(roots)
    assert client.call(Trigger, f"{NODE}/step", Trigger.Request()).success
    client.until(lambda: len(roots) == count + 1, "one more state", bridge)
    assert client.call(SetBool, f"{NODE}/pause", SetBool.Request(data=False)).success
    client.until(lambda: len(roots) > count + 10, "states after the pause", bridge)
    assert client.call(Trigger, f"{NODE}/reset", Trigger.Request()).success
    count = len(clocks)
    client.until(lambda: len(clocks) > count + 10, "the clock after the reset", bridge)
    times = [stamp_ns(clock.clock) for clock in clocks]
    assert times == sorted(times)
    stamps = [stamp(root) for root in roots]
    assert stamps == sorted(set(stamps))
    assert max(np.diff(stamps)) < NANOSECONDS // 2, "the pause is no time of the simulation"


def test_parameters_are_described_and_refused_with_the_reason(bridge: NodeProcess, client: Client) -> None:
    names = list(described(BridgeConfig))
    about = client.call(
        DescribeParameters, f"{NODE}/describe_parameters", DescribeParameters.Request(names=names)
    ).descriptors
    assert all(one.description for one in about)
    assist = about[names.index("assist")]
    assert assist.type == ParameterType.PARAMETER_DOUBLE and assist.read_only
    assert (assist.floating_point_range[0].from_value, assist.floating_point_range[0].to_value) == (0.0, 1.0)

    def attempt(name: str, value: object) -> str:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = client.call(SetParameters, f"{NODE}/set_parameters", request).results
        return "" if result.successful else str(result.reason)

    assert attempt("jpeg_quality", 50) == ""
    assert "range" in attempt("jpeg_quality", 200)
    assert "read-only" in attempt("body", "g1")
    assert attempt("jpeg_quality", "good")


def test_compressed_pictures_are_made_for_who_listens(bridge: NodeProcess, client: Client) -> None:
    import io

    from PIL import Image as Picture

    pictures = client.collect(CompressedImage, "head_camera/image_raw/compressed", COMPRESSED)
    (first,) = client.until(lambda: pictures[:1], "a compressed picture", bridge)
    assert Picture.open(io.BytesIO(bytes(first.data))).size == (SIZE, SIZE)
    assert first.header.frame_id == "head_camera_optical_frame"


def test_a_reader_that_asks_for_too_much_is_reported(bridge: NodeProcess, client: Client) -> None:
    diagnoses = Diagnoses(client, NODE)
    client.until(diagnoses.values, "diagnostics", bridge)
    client.collect(JointState, "joint_states", LATCHED)  # durable, and the states are not
    said = diagnoses.until_said("incompatible qos")
    assert "joint_states" in said and "DURABILITY" in said


def test_a_reader_that_takes_nothing_slows_nobody_down(
    bridge: NodeProcess, client: Client, domain: int, namespace: str
) -> None:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    sleeper = Node("sleeper", namespace=namespace, context=context)
    slow = sleeper.create_subscription(Image, "head_camera/image_raw", print, image_profile("reliable"))
    diagnoses = Diagnoses(client, NODE)
    client.until(lambda: slow.get_publisher_count() == 1, "the sleeper's publisher", bridge)

    def sent() -> int:
        return int(diagnoses.values().get("images_sent", 0))

    before = client.until(sent, "pictures", bridge)
    states = int(diagnoses.values()["states_sent"])
    client.until(lambda: sent() > before + 15, "more pictures", bridge)
    assert int(diagnoses.values()["states_sent"]) > states + 30
    assert diagnoses.values()["simulation"] in ("running", "holding")
    with slow.handle:
        taken = slow.handle.take_message(slow.msg_type, False)
        assert taken is not None and slow.handle.take_message(slow.msg_type, False) is None  # the newest alone is kept
    sleeper.destroy_node()
    rclpy.shutdown(context=context)


def test_a_second_bridge_in_the_namespace_is_refused(bridge: NodeProcess, launched: Callable[..., NodeProcess]) -> None:
    second = launched("mujoco_bridge_node", autostart=True, **{**PARAMETERS, "discovery_seconds": 20.0})
    assert second.wait() == 1
    assert f"/{NODE} is a bridge in this namespace already" in second.log
    assert bridge.process.poll() is None


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        ({"mode": "fly"}, 2, "mode is 'fly'; expected one of kinematic, assisted, pd, policy"),
        ({"body": "/no/such.xml", "autostart": True}, 1, "/no/such.xml"),
    ],
    ids=["parameter", "body"],
)
def test_a_start_with_what_is_refused_ends_with_the_reason(
    launched: Callable[..., NodeProcess], parameters: dict[str, object], code: int, words: str
) -> None:
    node = launched("mujoco_bridge_node", **parameters)
    assert node.wait() == code, node.log
    assert "egotwin_sim: error: " in node.log
    assert words in node.log and "Traceback" not in node.log


def test_it_can_be_brought_down_and_up_and_ends_on_sigint_without_a_trace(bridge: NodeProcess, client: Client) -> None:
    roots = client.collect(PoseStamped, "root_pose", STATE)
    client.until(lambda: roots, "states", bridge)
    assert transition(client, Transition.TRANSITION_DEACTIVATE) and state(client) == "inactive"
    assert transition(client, Transition.TRANSITION_CLEANUP) and state(client) == "unconfigured"
    assert transition(client, Transition.TRANSITION_CONFIGURE)
    assert transition(client, Transition.TRANSITION_ACTIVATE)
    before = stamp(roots[-1])
    client.until(lambda: stamp(roots[-1]) > before, "later states", bridge)
    assert bridge.interrupt() == 0, bridge.log
    assert "Traceback" not in bridge.log
    assert bridge.orphans() == []
