"""What the bridge gives out: the publishers, and the messages of a reading and of a picture."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from egotwin_sim.body.tracker import BodyReading
from egotwin_sim.live.camera import CameraFrame

from .configuration import BridgeConfig
from .frames import BASE, ODOM, OPTICAL
from .messages import (
    camera_info_message,
    clock_message,
    compressed_image_message,
    image_message,
    joint_state_message,
    odometry_message,
    pose_message,
)
from .node import EgoTwinNode
from .qos import CLOCK, COMPRESSED, STATE, image_profile
from .transforms import Transforms, root_pose
from .transport import LargeImageWarning

ROOT_POSE = "root_pose"
IMAGE = "head_camera/image_raw"


class BridgeTopics:
    """The bridge's publishers.

    Args:
        node: that publishes.
        config: of the node.
        joint_names: hinges of the body, in the order of its coordinates.
    """

    def __init__(self, node: EgoTwinNode, config: BridgeConfig, joint_names: tuple[str, ...]) -> None:
        self._node, self._names = node, joint_names
        pictures = image_profile(config.image_qos)
        self._image = node.publishes(Image, IMAGE, pictures)
        self._info = node.publishes(CameraInfo, "head_camera/camera_info", pictures)
        self._jpeg = node.publishes(CompressedImage, f"{IMAGE}/compressed", COMPRESSED)
        self._joints = node.publishes(JointState, "joint_states", STATE)
        self._head = node.publishes(PoseStamped, "head_pose", STATE)
        self._root = node.publishes(PoseStamped, ROOT_POSE, STATE)
        self._odometry = node.publishes(Odometry, "odom", STATE)
        self._clock = node.publishes(Clock, "/clock", CLOCK) if config.publish_clock else None
        self._transforms = Transforms(node)
        self._large = LargeImageWarning(config.image_qos, lambda text: node.diagnostics.refuse("large pictures", text))

    def send_state(self, item: tuple[int, BodyReading]) -> None:
        """Publish a reading under its stamp, nanoseconds; what nobody reads is not made."""
        stamp, reading = item
        T_world_root = root_pose(reading.qpos)
        if self._clock is not None:
            self._clock.publish(clock_message(stamp))
        if _read(self._joints):
            self._joints.publish(joint_state_message(self._names, reading.qpos[7:], reading.qvel[6:], stamp))
        if _read(self._head):
            self._head.publish(pose_message(reading.T_world_head, stamp, ODOM))
        if _read(self._root):
            self._root.publish(pose_message(T_world_root, stamp, ODOM))
        if _read(self._odometry):
            # MuJoCo has the linear velocity in the world's axes, odometry wants it in the child's.
            linear = T_world_root[:3, :3].T @ reading.qvel[:3]
            self._odometry.publish(odometry_message(T_world_root, linear, reading.qvel[3:6], stamp, ODOM, BASE))
        self._transforms.publish(T_world_root, reading.T_world_head, stamp)

    def send_picture(self, item: tuple[int, CameraFrame]) -> None:
        """Publish a picture and its camera's calibration under one stamp, that of the moment it shows."""
        stamp, frame = item
        height, width, _ = frame.rgb.shape
        self._large.check(IMAGE, frame.rgb.nbytes)
        if _read(self._image):
            self._image.publish(image_message(frame.rgb, stamp, OPTICAL))
        if _read(self._info):
            self._info.publish(camera_info_message(frame.intrinsics, width, height, stamp, OPTICAL))
        if _read(self._jpeg):
            quality = self._node.config.jpeg_quality
            self._jpeg.publish(compressed_image_message(frame.rgb, stamp, OPTICAL, quality))

    def close(self) -> None:
        """Give the publishers back."""
        publishers = [self._image, self._info, self._jpeg, self._joints, self._head, self._root, self._odometry]
        for publisher in [*publishers, *([] if self._clock is None else [self._clock])]:
            self._node.destroy_lifecycle_publisher(publisher)
        self._transforms.close()


def _read(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count())
