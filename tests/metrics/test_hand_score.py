"""HandScore by hand-written cases, and the projection of hands against the room's renderer."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.hand_score import (
    HAND_LENGTH,
    POINTS,
    at_video_rate,
    hand_points,
    hand_score,
    hands_expected,
)
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat

R_HEAD_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def camera(width: int = 100, height: int = 100) -> Camera:
    T = np.eye(4)
    T[:3, :3] = R_HEAD_CAMERA
    return Camera.from_fovy(np.pi / 2, width, height, T)


def pose(**joints: tuple[float, float, float]) -> Motion:
    """One frame of the default body, arms to the sides, some joints turned by axis-angle vectors."""
    skeleton = Skeleton.default()
    quat = np.zeros((1, skeleton.num_joints, 4))
    quat[..., 0] = 1.0
    for name, turn in joints.items():
        quat[0, skeleton.index[name]] = axis_angle_to_quat(np.array(turn))
    return Motion(np.array([[0.0, 0.0, skeleton.rest_root_height]]), quat)


FORWARD = {"left": (0.0, 0.0, -np.pi / 2), "right": (0.0, 0.0, np.pi / 2)}  # from the side to straight ahead


def test_a_hand_goes_on_in_the_direction_of_the_forearm() -> None:
    motion = pose()
    position, _ = motion.joint_transforms()
    points = hand_points(motion)
    assert points.shape == (1, 2, POINTS, 3)
    for i, side in enumerate(("left", "right")):
        wrist, elbow = (motion.skeleton.index[f"{side}_{joint}"] for joint in ("wrist", "elbow"))
        along = position[0, wrist] - position[0, elbow]
        np.testing.assert_allclose(points[0, i, 0], position[0, wrist], atol=1e-6)
        reach = points[0, i, -1] - points[0, i, 0]
        np.testing.assert_allclose(reach, HAND_LENGTH * along / np.linalg.norm(along), atol=1e-6)


def test_an_arm_stretched_ahead_is_in_view_and_the_other_is_not() -> None:
    assert hands_expected(pose(), camera(), (100, 100)).tolist() == [[False, False]]
    left = pose(left_shoulder=FORWARD["left"])
    assert hands_expected(left, camera(), (100, 100)).tolist() == [[True, False]]
    both = pose(left_shoulder=FORWARD["left"], right_shoulder=FORWARD["right"])
    assert hands_expected(both, camera(), (100, 100)).tolist() == [[True, True]]
    # The same arm, seen by a head that looks the other way.
    behind = pose(left_shoulder=FORWARD["left"], head=(0.0, 0.0, np.pi))
    assert hands_expected(behind, camera(), (100, 100)).tolist() == [[False, False]]


def test_the_picture_may_be_wider_than_high() -> None:
    both = pose(left_shoulder=FORWARD["left"], right_shoulder=FORWARD["right"])
    # The hands hang 0.2 m below the eyes at 0.6 m: 18 degrees down, within 45 and outside 10.
    assert hands_expected(both, camera(200, 100), (100, 200)).all()
    T = np.eye(4)
    T[:3, :3] = R_HEAD_CAMERA
    narrow = Camera.from_fovy(np.deg2rad(20.0), 200, 50, T)
    assert not hands_expected(both, narrow, (50, 200)).any()


def test_a_body_without_wrists_is_refused() -> None:
    motion = pose()
    skeleton = motion.skeleton
    names = tuple(name.replace("wrist", "stump") for name in skeleton.names)
    other = Skeleton(names, skeleton.parents, skeleton.offsets, skeleton.head_offset, skeleton.foot_height)
    with pytest.raises(UserError, match="no left_wrist"):
        hand_points(Motion(motion.root_position, motion.joint_quat_wxyz, other))


def test_the_score_by_hand() -> None:
    expected = [np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool), np.array([[0, 0], [1, 0]], bool)]
    seen = [np.array([[1, 0], [0, 1], [0, 1], [0, 0]], bool), np.array([[0, 0], [1, 0]], bool)]
    score = hand_score(expected, seen)
    # Frames with any hand expected: 0, 1, 3, 5; seen: 0, 1, 2, 5.
    assert score.frames == 6
    assert score.expected == pytest.approx(4 / 6) and score.seen == pytest.approx(4 / 6)
    assert score.precision == pytest.approx(3 / 4) and score.recall == pytest.approx(3 / 4)
    assert score.f == pytest.approx(3 / 4)
    assert score.f_left == pytest.approx(2 * 2 / (2 * 2 + 0 + 1))  # hits 0 and 5, missed 1
    assert score.f_right == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))  # hit 1, extra 2, missed 3


def test_a_detector_that_does_not_tell_the_sides() -> None:
    score = hand_score([np.array([[1, 0], [0, 0]], bool)], [np.array([True, True])])
    assert score.f == pytest.approx(2 / 3) and score.f_left is None and score.f_right is None
    assert score.precision == pytest.approx(0.5) and score.recall == 1.0


def test_no_hands_anywhere_is_no_score() -> None:
    empty = np.zeros((3, 2), bool)
    score = hand_score([empty], [empty])
    assert score.f is score.precision is score.recall is None and score.frames == 3
    assert hand_score([~empty], [empty]).f == 0.0
    with pytest.raises(UserError, match="at least one clip"):
        hand_score([], [])
    with pytest.raises(UserError, match="same frames"):
        hand_score([empty], [empty[:2]])


def test_motion_at_the_rate_of_the_video() -> None:
    motion = Motion.concatenate([pose()] * 17)
    assert len(at_video_rate(motion, 9, 8.0)) == 9
    assert len(at_video_rate(motion, 5, 8.0)) == 5
    with pytest.raises(UserError, match="the video has 10"):
        at_video_rate(motion, 10, 8.0)
