"""Two clocks of one recording."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data.convert.clock import clock_from_pairs, clock_from_turning
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_quat, matrix_to_quat, quat_multiply
from tests.data.convert.aria_files import T_HEAD_DEVICE, Person, device_clock, time_code


def test_the_line_through_readings_of_both() -> None:
    times = np.linspace(0.0, 1200.0, 50)
    clock = clock_from_pairs(device_clock(times), time_code(times), "the frames")
    np.testing.assert_allclose(clock.timecode(device_clock(times)), time_code(times), atol=1e-9)
    np.testing.assert_allclose(clock.device(time_code(times)), device_clock(times), atol=1e-9)


@pytest.mark.parametrize("jump", [0.1, -3.0])
def test_a_clock_that_jumped_is_refused(jump: float) -> None:
    times = np.linspace(0.0, 1200.0, 50)
    code = time_code(times)
    code[30:] += jump
    with pytest.raises(UserError, match="one of them jumped"):
        clock_from_pairs(device_clock(times), code, "the frames")


def turning(times: np.ndarray, seed: int = 0) -> np.ndarray:
    """A head that is turned by whims, with its own frame."""
    rng = np.random.default_rng(seed)
    rates, phases = rng.uniform(0.3, 6.0, (3, 8)), rng.uniform(0.0, 6.0, (3, 8))
    vector = (0.3 * np.sin(rates[..., None] * times + phases[..., None]) / np.sqrt(rates[..., None])).sum(axis=1)
    return axis_angle_to_quat(vector.T)


def test_turning_tells_the_shift_to_a_few_milliseconds() -> None:
    device = np.arange(-5.0, 70.0, 0.004)
    code = np.arange(3.0, 55.0, 1 / 240.0)
    mounted = axis_angle_to_quat(np.array([0.5, 1.0, -0.3]))
    own_world = axis_angle_to_quat(np.array([0.0, 0.0, 2.0]))
    head = quat_multiply(own_world, quat_multiply(turning(code), mounted))
    clock, correlation = clock_from_turning((5000.0 + device, turning(device)), (1100.0 + code, head), "the clocks")
    assert abs(clock.offset_s - (1100.0 - 5000.0)) < 0.003 and correlation > 0.99


def test_drift_is_found_over_a_long_recording() -> None:
    device = np.arange(0.0, 600.0, 0.01)
    code = np.arange(20.0, 560.0, 0.01)
    clock, _ = clock_from_turning(
        (5000.0 + device, turning(device)), (1100.0 + code * (1 + 6e-5), turning(code)), "the clocks"
    )
    assert clock.drift == pytest.approx(6e-5, abs=5e-6)
    for time in (30.0, 290.0, 550.0):
        assert clock.timecode(np.array([5000.0 + time]))[0] == pytest.approx(1100.0 + time * (1 + 6e-5), abs=3e-3)


def test_a_walking_person_is_enough() -> None:
    times = np.arange(0.0, 14.0, 0.01)
    head = Person().T_world_head(times)
    glasses = head @ T_HEAD_DEVICE
    quats = matrix_to_quat(glasses[:, :3, :3]), matrix_to_quat(head[200:1200, :3, :3])
    clock, _ = clock_from_turning((times + 7.0, quats[0]), (times[200:1200] + 90.0, quats[1]), "the clocks")
    assert abs(clock.offset_s - 83.0) < 0.003


def test_things_that_do_not_turn_alike_are_refused() -> None:
    times = np.arange(0.0, 60.0, 0.01)
    with pytest.raises(UserError, match="no shift of time makes the glasses turn as the head does"):
        clock_from_turning((times, turning(times)), (times, turning(times, seed=1)), "the clocks")
    still = np.tile([1.0, 0.0, 0.0, 0.0], (len(times), 1))
    with pytest.raises(UserError, match="no shift of time"):
        clock_from_turning((times, turning(times)), (times, still), "the clocks")
