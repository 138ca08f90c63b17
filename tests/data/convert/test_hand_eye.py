"""How glasses sit on a head, against a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data.convert.hand_eye import mean_mount, solve_hand_eye
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_matrix, rotation_angle
from egotwin_sim.motion.timed import invert_poses
from tests.data.convert.aria_files import T_HEAD_DEVICE, Person

TRUTH = np.linalg.inv(T_HEAD_DEVICE)
STEP = 16


def poses(rotation_vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
    T = np.zeros((len(places), 4, 4))
    T[:, :3, :3], T[:, :3, 3], T[:, 3, 3] = axis_angle_to_matrix(rotation_vectors), places, 1.0
    return T


def tracked(seconds: float = 40.0, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Glasses in their world and the head in another one, at 32 Hz, with noise of `noise` mm and as many mrad."""
    rng = np.random.default_rng(seed)
    times = np.arange(0.0, seconds, 1.0 / 32.0)
    head = Person().T_world_head(times)
    glasses = head @ T_HEAD_DEVICE
    drift = np.stack((0.003 * times, -0.002 * times, 0 * times), axis=-1)
    slide = np.array([3.0, 4.0, 0.1]) + drift
    other = poses(np.stack((0 * times, 0 * times, 1.0 + 1e-4 * times), axis=-1), slide) @ head
    for T in (glasses, other):
        T[:, :3, 3] += rng.normal(size=(len(T), 3)) * noise * 1e-3
        T[:, :3, :3] = T[:, :3, :3] @ axis_angle_to_matrix(rng.normal(size=(len(T), 3)) * noise * 1e-3)
    return glasses, other


def test_the_mount_is_found_exactly_without_noise() -> None:
    times = np.arange(0.0, 20.0, 1.0 / 32.0)
    head = Person().T_world_head(times)
    mount = solve_hand_eye([(head @ T_HEAD_DEVICE, np.linalg.inv(T_HEAD_DEVICE) @ head)], STEP)
    np.testing.assert_allclose(mount.T_a_b, TRUTH, atol=1e-8)
    assert mount.translation_error < 1e-8 and mount.used > 0.95


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_the_mount_is_found_under_noise_and_drift(noise: float) -> None:
    mount = solve_hand_eye([tracked(noise=noise)], STEP)
    assert rotation_angle(mount.T_a_b[:3, :3], TRUTH[:3, :3]) < np.radians(0.3)
    off = np.abs(mount.T_a_b[:3, 3] - TRUTH[:3, 3]).max()
    assert off < 0.01 and off < 4.0 * mount.uncertainty
    assert 0.5 * noise < 1000 * mount.translation_error < 6.0 * noise


def test_stretches_are_taken_together_and_short_ones_left_out() -> None:
    glasses, head = tracked(noise=1.0)
    parts = [slice(0, 10), slice(10, 400), slice(500, 900)]
    mount = solve_hand_eye([(glasses[part], head[part]) for part in parts], STEP)
    assert np.abs(mount.T_a_b[:3, 3] - TRUTH[:3, 3]).max() < 0.01
    with pytest.raises(UserError, match="turns in 0 of 0 places"):
        solve_hand_eye([(glasses[:10], head[:10])], STEP)


def test_slipped_stretches_do_not_move_it() -> None:
    glasses, head = tracked(noise=1.0)
    rng = np.random.default_rng(1)
    for start in rng.integers(0, len(head) - 20, 6):
        head[start : start + 20, :3, 3] += 0.3 * rng.normal(size=3)
    mount = solve_hand_eye([(glasses, head)], STEP)
    assert np.abs(mount.T_a_b[:3, 3] - TRUTH[:3, 3]).max() < 0.01
    assert mount.used < 0.95


def test_a_head_that_turns_about_one_axis_is_refused() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(0.0, 30.0, 1.0 / 32.0)
    zero = np.zeros_like(times)
    head = poses(np.stack((zero, zero, np.sin(times)), axis=-1), np.stack((times, zero, zero), axis=-1))
    head[:, :3, 3] += rng.normal(size=(len(head), 3)) * 2e-3
    with pytest.raises(UserError, match="turns about one axis only"):
        solve_hand_eye([(head @ T_HEAD_DEVICE, head)], STEP)


def test_a_still_head_is_refused() -> None:
    still = np.tile(np.eye(4), (600, 1, 1))
    with pytest.raises(UserError, match="too short or too still"):
        solve_hand_eye([(still, still)], STEP)


def test_another_time_is_refused() -> None:
    glasses, head = tracked()
    with pytest.raises(UserError, match="do not move as one"):
        solve_hand_eye([(glasses[:-40], head[40:])], STEP)


def test_in_one_world_the_mount_is_the_mean() -> None:
    glasses, _ = tracked(noise=5.0)
    head = invert_poses(invert_poses(Person().T_world_head(np.arange(0.0, 40.0, 1.0 / 32.0))))
    head[100:130, :3, 3] += 1.0
    mount = mean_mount(glasses, head)
    assert np.abs(mount.T_a_b[:3, 3] - TRUTH[:3, 3]).max() < 0.002
    assert rotation_angle(mount.T_a_b[:3, :3], TRUTH[:3, :3]) < np.radians(0.1)
    with pytest.raises(UserError, match="do not move as one"):
        mean_mount(glasses[:-320], head[320:])
