import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from geometry_msgs.msg import Pose, Quaternion

from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_to_matrix
from egotwin_sim.ros import messages

STAMP = 3 * messages.NANOSECONDS + 250


def some_pose() -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = quat_to_matrix(axis_angle_to_quat(np.array([0.2, -0.4, 1.0])))
    T[:3, 3] = 1.0, -2.0, 1.6
    return T


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_stamps_come_back_to_the_nanosecond() -> None:
    for stamp in (0, 1, STAMP, 1_700_000_000 * messages.NANOSECONDS + 999_999_999):
        assert messages.stamp_ns(messages.time_message(stamp)) == stamp


def test_a_picture_comes_back_as_it_was() -> None:
    message = messages.image_message(picture(), STAMP, "head_camera_optical_frame")
    assert (message.width, message.height, message.step, message.encoding) == (7, 5, 21, "rgb8")
    assert messages.stamp_ns(message.header.stamp) == STAMP
    np.testing.assert_array_equal(messages.image_array(message), picture())


def test_a_picture_with_padded_rows_in_the_other_order_is_read() -> None:
    padded = np.zeros((5, 24), np.uint8)
    padded[:, :21] = picture()[:, :, ::-1].reshape(5, 21)
    message = messages.image_message(picture(), STAMP, "camera")
    message.encoding, message.step, message.data = "bgr8", 24, padded.tobytes()
    np.testing.assert_array_equal(messages.image_array(message), picture())


def test_pictures_that_are_none_are_refused() -> None:
    message = messages.image_message(picture(), STAMP, "camera")
    message.encoding = "16UC1"
    with pytest.raises(UserError, match="16UC1.*expected rgb8 or bgr8"):
        messages.image_array(message)
    message.encoding, message.data = "rgb8", message.data[:-1]
    with pytest.raises(UserError, match="104 bytes in all"):
        messages.image_array(message)


def test_a_jpeg_shows_the_picture() -> None:
    import io

    from PIL import Image

    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    message = messages.compressed_image_message(smooth, STAMP, "camera", 95)
    assert message.format == "rgb8; jpeg compressed bgr8"
    shown = np.asarray(Image.open(io.BytesIO(bytes(message.data))))
    assert np.abs(shown.astype(int) - smooth).mean() < 8


def test_camera_info_holds_the_camera_and_the_identity_as_rectification() -> None:
    focal = 0.5 * 480 / np.tan(np.deg2rad(60.0) / 2)
    K = np.array([[focal, 0, 320], [0, focal, 240], [0, 0, 1]])
    message = messages.camera_info_message(K, 640, 480, STAMP, "camera")
    np.testing.assert_allclose(message.k, [focal, 0, 320, 0, focal, 240, 0, 0, 1])
    np.testing.assert_array_equal(message.r, np.eye(3).reshape(-1))
    np.testing.assert_allclose(np.array(message.p).reshape(3, 4), np.hstack([K, np.zeros((3, 1))]))
    assert message.distortion_model == "plumb_bob" and list(message.d) == [0.0] * 5


def test_quaternions_are_xyzw_in_messages() -> None:
    quat = axis_angle_to_quat(np.array([0.0, 0.0, np.pi / 2]))
    message = messages.quaternion_message(quat)
    assert (message.x, message.y) == (0.0, 0.0)
    assert message.z == pytest.approx(np.sqrt(0.5)) and message.w == pytest.approx(np.sqrt(0.5))
    np.testing.assert_allclose(messages.quat_wxyz(message), quat)


def test_a_pose_comes_back() -> None:
    message = messages.pose_message(some_pose(), STAMP, "odom")
    np.testing.assert_allclose(messages.pose_matrix(message.pose), some_pose(), atol=1e-12)
    transform = messages.transform_message(some_pose(), STAMP, "odom", "gaze").transform
    assert transform.translation.z == pytest.approx(1.6)
    assert transform.rotation.w == pytest.approx(message.pose.orientation.w)


@pytest.mark.parametrize("w", [0.0, 0.5, float("nan")])
def test_a_pose_without_a_rotation_is_refused(w: float) -> None:
    with pytest.raises(UserError, match="quaternion of length 1"):
        messages.pose_matrix(Pose(orientation=Quaternion(x=0.0, y=0.0, z=0.0, w=w)))


def test_odometry_and_joint_states_keep_their_numbers() -> None:
    odometry = messages.odometry_message(
        some_pose(), np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), STAMP, "odom", "base_link"
    )
    assert odometry.child_frame_id == "base_link" and odometry.twist.twist.angular.y == 5.0
    state = messages.joint_state_message(["a", "b"], np.array([0.1, 0.2]), np.array([0.3, 0.4]), STAMP)
    assert list(state.name) == ["a", "b"] and list(state.position) == [0.1, 0.2] and list(state.velocity) == [0.3, 0.4]


def test_a_path_has_a_stamp_for_every_pose() -> None:
    path = messages.path_message(np.stack([some_pose(), np.eye(4)]), [STAMP, STAMP + 5], "odom")
    assert [messages.stamp_ns(pose.header.stamp) for pose in path.poses] == [STAMP, STAMP + 5]
    assert messages.stamp_ns(path.header.stamp) == STAMP
