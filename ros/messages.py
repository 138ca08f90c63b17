"""NumPy arrays to standard ROS messages and back.

Quaternions are xyzw in messages and wxyz everywhere else. Byte fields are given as `array.array`: rclpy checks the
elements of anything else one by one, which takes 35 ms for a picture of 512 x 512 instead of half a millisecond.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, TransformStamped, Vector3
from nav_msgs.msg import Odometry, Path
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import matrix_to_quat, quat_to_matrix

NANOSECONDS = 1_000_000_000
# Encodings of three bytes a pixel that `image_array` reads, and the order in which they hold red, green and blue.
_ENCODINGS = {"rgb8": slice(None), "bgr8": slice(None, None, -1)}


def time_message(stamp_ns: int) -> Time:
    """A stamp of nanoseconds."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def stamp_ns(time: Time) -> int:
    """Nanoseconds of a stamp."""
    return time.sec * NANOSECONDS + time.nanosec


def image_message(rgb: np.ndarray, stamp: int, frame_id: str) -> Image:
    """A picture uint8 (H, W, 3), stamped with nanoseconds, in an optical frame."""
    height, width, _ = rgb.shape
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    message.data = array("B", np.ascontiguousarray(rgb, dtype=np.uint8).tobytes())
    return message


def image_array(message: Image) -> np.ndarray:
    """The picture of a message, uint8 (H, W, 3) RGB.

    Raises:
        UserError: another encoding than rgb8 and bgr8, or another number of bytes than its size asks for.
    """
    if message.encoding not in _ENCODINGS:
        raise UserError(f"the image's encoding is {message.encoding!r}; expected {' or '.join(_ENCODINGS)}")
    height, width, step = message.height, message.width, message.step
    if width < 1 or height < 1 or step < 3 * width or len(message.data) != height * step:
        raise UserError(
            f"the image is {width} x {height} with {step} bytes a row and {len(message.data)} bytes in all; expected "
            "at least 3 bytes a pixel, and as many rows as it is high"
        )
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(height, step)[:, : 3 * width]
    return np.ascontiguousarray(rows.reshape(height, width, 3)[:, :, _ENCODINGS[message.encoding]])


def compressed_image_message(rgb: np.ndarray, stamp: int, frame_id: str, quality: int) -> CompressedImage:
    """The picture as a JPEG of a quality from 1 to 95."""
    from PIL import Image as Picture

    buffer = io.BytesIO()
    Picture.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array("B", buffer.getvalue()))
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    return message


def camera_info_message(intrinsics: np.ndarray, width: int, height: int, stamp: int, frame_id: str) -> CameraInfo:
    """The calibration of a pinhole camera without distortion, from its matrix (3, 3) in pixels."""
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    message.k = np.asarray(intrinsics, dtype=np.float64).reshape(9)
    message.r = np.eye(3).reshape(9)
    message.p = np.hstack([intrinsics, np.zeros((3, 1))]).astype(np.float64).reshape(12)
    return message


def quaternion_message(quat_wxyz: Sequence[float] | np.ndarray) -> Quaternion:
    """A wxyz quaternion as a message, which is xyzw."""
    w, x, y, z = (float(value) for value in quat_wxyz)
    return Quaternion(x=x, y=y, z=z, w=w)


def quat_wxyz(message: Quaternion) -> np.ndarray:
    """float64 (4,), wxyz, of a message, which is xyzw."""
    return np.array([message.w, message.x, message.y, message.z])


def pose(position: Sequence[float] | np.ndarray, orientation_wxyz: Sequence[float] | np.ndarray) -> Pose:
    """A pose of metres (3,) and a quaternion wxyz (4,)."""
    x, y, z = (float(value) for value in position)
    return Pose(position=Point(x=x, y=y, z=z), orientation=quaternion_message(orientation_wxyz))


def pose_message(T: np.ndarray, stamp: int, frame_id: str) -> PoseStamped:
    """A pose (4, 4) in a frame."""
    message = PoseStamped(pose=pose(T[:3, 3], matrix_to_quat(T[:3, :3])))
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    return message


def pose_matrix(message: Pose) -> np.ndarray:
    """float64 (4, 4).

    Raises:
        UserError: a number that is not finite, or an orientation that is no unit quaternion.
    """
    quat = quat_wxyz(message.orientation)
    position = np.array([message.position.x, message.position.y, message.position.z])
    # NaN compares false, so it is caught here as well.
    if not abs(np.linalg.norm(quat) - 1.0) < 1e-3 or not np.isfinite(position).all():
        raise UserError(
            f"the pose has position {position.tolist()} and quaternion wxyz {quat.tolist()}; expected metres and "
            "a quaternion of length 1"
        )
    T = np.eye(4)
    T[:3, :3] = quat_to_matrix(quat / np.linalg.norm(quat))
    T[:3, 3] = position
    return T


def joint_state_message(
    names: Sequence[str], position: np.ndarray, velocity: np.ndarray, stamp: int, frame_id: str = ""
) -> JointState:
    """Angles (n,) in radians and speeds (n,) in radians a second of named hinges."""
    message = JointState(
        name=list(names),
        position=array("d", np.asarray(position, np.float64).tobytes()),
        velocity=array("d", np.asarray(velocity, np.float64).tobytes()),
    )
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    return message


def odometry_message(
    T: np.ndarray, linear: np.ndarray, angular: np.ndarray, stamp: int, frame_id: str, child_frame_id: str
) -> Odometry:
    """A pose (4, 4) in a frame, with its speeds (3,) in metres and radians a second in the child's own axes."""
    message = Odometry(child_frame_id=child_frame_id)
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    message.pose.pose = pose(T[:3, 3], matrix_to_quat(T[:3, :3]))
    for vector, values in ((message.twist.twist.linear, linear), (message.twist.twist.angular, angular)):
        vector.x, vector.y, vector.z = (float(value) for value in values)
    return message


def path_message(poses: np.ndarray, stamps: Sequence[int], frame_id: str) -> Path:
    """Poses (n, 4, 4) in a frame, each with its own stamp; the path bears that of its first one."""
    message = Path(poses=[pose_message(T, stamp, frame_id) for T, stamp in zip(poses, stamps, strict=True)])
    message.header.stamp, message.header.frame_id = time_message(stamps[0]), frame_id
    return message


def transform_message(T: np.ndarray, stamp: int, frame_id: str, child_frame_id: str) -> TransformStamped:
    """The transform that maps the child's coordinates to the frame's (4, 4), as tf wants it."""
    message = TransformStamped(child_frame_id=child_frame_id)
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    x, y, z = (float(value) for value in T[:3, 3])
    message.transform.translation = Vector3(x=x, y=y, z=z)
    message.transform.rotation = quaternion_message(matrix_to_quat(T[:3, :3]))
    return message


def clock_message(stamp: int) -> Clock:
    """The time, nanoseconds."""
    return Clock(clock=time_message(stamp))
