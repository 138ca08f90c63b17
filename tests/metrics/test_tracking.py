"""Figures of tracking against errors that were put in by hand."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.tracking import TrackingMetrics, tracking_metrics
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply
from tests.body.motions import robot_model

FPS = 30.0


def figures(qpos: np.ndarray, reference: np.ndarray, **given) -> TrackingMetrics:
    usual = {"assist_bw": np.zeros(100), "saturated": np.zeros(100), "real_time_factor": 2.0}
    return tracking_metrics(robot_model(), qpos, reference, FPS, **(usual | given))


def still(frames: int = 20) -> np.ndarray:
    return np.tile(robot_model().standing, (frames, 1))


def test_no_error_is_no_error():
    told = figures(still(), still())
    assert told.g_mpjpe_mm == told.l_mpjpe_mm == told.velocity_error_mm == told.acceleration_error_mm == 0.0
    assert told.head_error_mm == told.foot_slide_m_s == 0.0 and told.penetration_mm < 1e-6
    assert told.success and not told.fallen and told.real_time_factor == 2.0


def test_a_shifted_body_is_off_in_the_world_only():
    told = figures(still() + 0.1 * np.eye(70)[0], still())
    assert told.g_mpjpe_mm == pytest.approx(100.0) and told.head_error_mm == pytest.approx(100.0)
    assert told.l_mpjpe_mm == pytest.approx(0.0, abs=1e-9) and told.head_error_deg == pytest.approx(0.0, abs=1e-6)


def test_velocity_and_acceleration_are_per_frame():
    moving, speeding = still(), still()
    moving[:, 0] += 0.005 * np.arange(20)
    speeding[:, 0] += 0.001 * np.arange(20) ** 2
    assert figures(moving, still()).velocity_error_mm == pytest.approx(5.0)
    assert figures(moving, still()).acceleration_error_mm == pytest.approx(0.0, abs=1e-9)
    assert figures(speeding, still()).acceleration_error_mm == pytest.approx(2.0)


def test_feet_slide_where_they_are_down():
    sliding, above = still(), still()
    sliding[:, 0] += 0.01 * np.arange(20)
    above[:, 0], above[:, 2] = sliding[:, 0], above[:, 2] + 0.05
    assert figures(sliding, sliding).foot_slide_m_s == pytest.approx(0.3)
    assert figures(above, above).foot_slide_m_s == 0.0
    sunk = still() - 0.02 * np.eye(70)[2]
    assert figures(sunk, still()).penetration_mm == pytest.approx(20.0, abs=1e-3)


def test_half_a_metre_is_no_success_and_half_the_height_a_fall():
    away, down = still(), still()
    away[7, 1] += 0.51
    down[7, 2] *= 0.49
    assert not figures(away, still()).success and not figures(away, still()).fallen
    assert figures(down, still()).fallen
    assert not figures(still(), still(), failed=True).success


def test_the_head_has_an_angle_of_its_own():
    nodding = still()
    nodding[:, 7 + robot_model().joint_names.index("head_y")] += np.deg2rad(10.0)
    told = figures(nodding, still())
    assert told.head_error_deg == pytest.approx(10.0) and told.g_mpjpe_mm == pytest.approx(0.0, abs=1e-9)
    assert 5.0 < told.head_error_mm < 30.0  # the eyes are 11 cm from the joint
    turned = still()
    turned[:, 3:7] = quat_multiply(axis_angle_to_quat(np.array([0.0, 0.0, 0.1])), turned[:, 3:7])
    assert figures(turned, still()).head_error_deg == pytest.approx(np.rad2deg(0.1))


def test_help_and_saturation_are_those_of_the_steps():
    told = figures(still(), still(), assist_bw=np.arange(101) / 100, saturated=np.array([0.0, 0.5]))
    assert told.assist_mean_bw == pytest.approx(0.5) and told.assist_p99_bw == pytest.approx(0.99)
    assert told.torque_saturation == 0.25


def test_unequal_lengths_are_refused():
    with pytest.raises(UserError, match="20 frames against 19"):
        figures(still(), still(19))
    with pytest.raises(UserError, match="three at least"):
        figures(still(2), still(2))
