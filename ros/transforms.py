"""The tree of frames on /tf and /tf_static, where tf2_msgs is installed (it is in every ROS 2, not in the wheels)."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node

from egotwin_sim.motion.rotations import quat_to_matrix, yaw_matrix, yaw_of

from .frames import BASE, FOOTPRINT, GAZE, MAP, ODOM, OPTICAL
from .messages import transform_message
from .qos import LATCHED, STATE

# Maps optical coordinates (z forward, x right, y down) to the head's (x forward, y left, z up).
T_GAZE_OPTICAL = np.eye(4)
T_GAZE_OPTICAL[:3, :3] = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]


class Transforms:
    """Publishes the frames of one body.

    Args:
        node: that publishes.
    """

    def __init__(self, node: Node) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().info("tf2_msgs is not installed: /tf is not published, poses are")
            self._message = None
            return
        self._message = TFMessage
        self._node = node
        self._moving = node.create_publisher(TFMessage, "/tf", STATE)
        self._static = node.create_publisher(TFMessage, "/tf_static", LATCHED)
        stamp = node.get_clock().now().nanoseconds
        fixed = [
            transform_message(np.eye(4), stamp, MAP, ODOM),
            transform_message(T_GAZE_OPTICAL, stamp, GAZE, OPTICAL),
        ]
        self._static.publish(TFMessage(transforms=fixed))

    def publish(self, T_world_root: np.ndarray, T_world_head: np.ndarray, stamp: int) -> None:
        """The frames that move, from the poses (4, 4) of root and head."""
        if self._message is None:
            return
        T_root_world = np.linalg.inv(T_world_root)
        moving = [
            transform_message(T_world_root, stamp, ODOM, BASE),
            transform_message(T_root_world @ footprint(T_world_root), stamp, BASE, FOOTPRINT),
            transform_message(T_root_world @ T_world_head, stamp, BASE, GAZE),
        ]
        self._moving.publish(self._message(transforms=moving))

    def close(self) -> None:
        """Give the publishers back."""
        if self._message is not None:
            self._node.destroy_publisher(self._moving)
            self._node.destroy_publisher(self._static)


def root_pose(qpos: np.ndarray) -> np.ndarray:
    """The pose (4, 4) of the root in a robot's coordinates (7 + n,)."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = quat_to_matrix(qpos[3:7]), qpos[:3]
    return T


def footprint(T_world_root: np.ndarray) -> np.ndarray:
    """The pose (4, 4) on the floor below a root, with its heading."""
    T = np.eye(4)
    T[:3, :3] = yaw_matrix(float(yaw_of(T_world_root[:3, :3])))
    T[:2, 3] = T_world_root[:2, 3]
    return T
