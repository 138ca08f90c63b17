"""Rotations agree with scipy and with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from egotwin_sim.motion import rotations as rot


@pytest.fixture
def quats():
    quat = np.random.default_rng(0).normal(size=(5, 40, 4))
    return rot.quat_normalize(np.concatenate((quat, [[np.eye(4)[i] for i in (0, 1, 2, 3) * 10]])))


def test_quaternion_functions_agree_with_scipy(quats):
    flat = quats.reshape(-1, 4)
    reference = Rotation.from_quat(flat, scalar_first=True)
    other = reference[::-1]
    np.testing.assert_allclose(rot.quat_to_matrix(flat), reference.as_matrix(), atol=1e-12)
    product = rot.quat_multiply(flat, flat[::-1])
    np.testing.assert_allclose(rot.quat_to_matrix(product), (reference * other).as_matrix(), atol=1e-12)
    turned_back = rot.quat_multiply(flat, rot.quat_conjugate(flat))
    np.testing.assert_allclose(turned_back, np.tile([1, 0, 0, 0], (len(flat), 1)), atol=1e-12)
    np.testing.assert_allclose(rot.axis_angle_to_matrix(reference.as_rotvec()), reference.as_matrix(), atol=1e-12)
    angle = rot.rotation_angle(reference.as_matrix(), other.as_matrix())
    np.testing.assert_allclose(angle, (reference.inv() * other).magnitude(), atol=1e-9)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (rot.matrix_to_quat, rot.quat_to_matrix),
        (rot.matrix_to_rotation_6d, rot.rotation_6d_to_matrix),
        (rot.matrix_to_axis_angle, rot.axis_angle_to_matrix),
    ],
)
def test_every_form_gives_the_matrix_back(quats, there, back):
    matrix = rot.quat_to_matrix(quats)
    np.testing.assert_allclose(back(there(matrix)), matrix, atol=1e-12)


def test_axis_angle_is_exact_near_zero():
    tiny = np.array([[1e-9, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(rot.quat_to_axis_angle(rot.axis_angle_to_quat(tiny)), tiny, atol=1e-18)


def test_6d_is_the_first_two_columns_and_survives_stretching():
    matrix = rot.axis_angle_to_matrix(np.array([0.3, -0.8, 1.1]))
    six = rot.matrix_to_rotation_6d(matrix)
    np.testing.assert_array_equal(six, np.concatenate((matrix[:, 0], matrix[:, 1])))
    skewed = np.concatenate((2.0 * six[:3], 0.1 * six[3:] + six[:3]))
    np.testing.assert_allclose(rot.rotation_6d_to_matrix(skewed), matrix, atol=1e-12)


@pytest.mark.parametrize("six", [[0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1, 2, 3, -2, -4, -6]])
def test_degenerate_6d_is_refused(six):
    six = np.array([[1, 0, 0, 0, 1, 0], six], dtype=np.float64)
    np.testing.assert_array_equal(rot.is_degenerate_6d(six), [False, True])
    with pytest.raises(ValueError, match="parallel"):
        rot.rotation_6d_to_matrix(six)


@given(angle=st.floats(0.0, 3.1), t=st.floats(0.0, 1.0), flip=st.booleans())
def test_slerp_turns_at_a_steady_rate_along_the_shorter_arc(angle, t, flip):
    start = rot.axis_angle_to_quat(np.array([0.4, 0.2, -0.1]))
    axis = np.array([0.6, 0.0, 0.8])
    end = rot.quat_multiply(start, rot.axis_angle_to_quat(axis * angle)) * (-1.0 if flip else 1.0)
    expected = rot.quat_multiply(start, rot.axis_angle_to_quat(axis * angle * t))
    between = rot.slerp(start, end, t)
    assert rot.rotation_angle(rot.quat_to_matrix(expected), rot.quat_to_matrix(between)) < 1e-7


@given(seed=st.integers(0, 10**6), turn=st.floats(-3.0, 3.0), pitch=st.floats(-1.57079, 1.57079))
def test_turning_the_world_adds_to_the_heading(seed, turn, pitch):
    roll, yaw = np.random.default_rng(seed).uniform(-0.5, 0.5, 2)
    matrix = rot.axis_matrix("z", yaw) @ rot.axis_matrix("y", pitch) @ rot.axis_matrix("x", roll)
    added = rot.yaw_of(rot.yaw_matrix(turn) @ matrix) - rot.yaw_of(matrix) - turn
    assert abs(np.angle(np.exp(1j * added))) < 1e-9


@pytest.mark.parametrize("pitch", [-np.pi / 2, -1.5, -0.5, 0.0, 0.5, 1.5, np.pi / 2])
def test_heading_of_a_pitched_head_is_where_it_would_look_level(pitch):
    matrix = rot.yaw_matrix(0.7) @ rot.axis_matrix("y", np.array(pitch))
    assert rot.yaw_of(matrix) == pytest.approx(0.7, abs=1e-9)


def test_float32_stays_float32():
    quat = rot.quat_normalize(np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32))
    matrix = rot.quat_to_matrix(quat)
    assert matrix.dtype == rot.matrix_to_rotation_6d(matrix).dtype == np.float32
    assert rot.quat_multiply(quat, quat).dtype == np.float32


def test_a_quaternion_without_length_is_refused():
    with pytest.raises(ValueError, match="length zero"):
        rot.quat_normalize(np.zeros((2, 4)))


def test_the_shortest_turn_takes_one_direction_to_another_about_what_is_across_both():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 3))
    b[0], b[1], a[2] = 2.0 * a[0], -3.0 * a[1], 0.0
    turn = rot.shortest_turn(a, b)
    np.testing.assert_allclose(np.linalg.det(turn), 1.0, atol=1e-12)
    length = np.linalg.norm(b, axis=-1) / np.where(np.arange(30) == 2, 1.0, np.linalg.norm(a, axis=-1))
    taken = (turn @ a[..., None])[..., 0] * length[:, None]
    np.testing.assert_allclose(np.delete(taken, 2, axis=0), np.delete(b, 2, axis=0), atol=1e-9)
    cosine = np.sum(a * b, axis=-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
    angle = rot.rotation_angle(np.broadcast_to(np.eye(3), turn.shape), turn)
    np.testing.assert_allclose(np.delete(angle, 2), np.arccos(np.clip(np.delete(cosine, 2), -1, 1)), atol=1e-7)
    np.testing.assert_allclose(turn[2], np.eye(3))  # what has no length turns nothing
    np.testing.assert_allclose(rot.shortest_turn(a[5], b[5]), turn[5])
