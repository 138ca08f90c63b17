"""The four modes of tracking: what they reach, what they refuse, and how they fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from egotwin_sim.body.record import TrackingRecord, record
from egotwin_sim.body.tracker import Tracker, TrackerConfig, TrackingError, TrackingMode
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.tracking import TrackingMetrics, tracking_metrics
from tests.body.motions import reaching, robot_model, squat, standing, walking


def track(trajectory: RobotTrajectory, **config) -> tuple[TrackingRecord, TrackingMetrics]:
    tracker = Tracker(robot_model(), TrackerConfig(**config))
    tracker.begin(trajectory)
    done = record(tracker, tracker.reference.end_time)
    figures = tracking_metrics(
        robot_model(),
        done.qpos,
        done.reference,
        done.fps,
        assist_bw=done.assist_bw,
        saturated=done.saturated,
        real_time_factor=done.real_time_factor,
        failed=done.failure is not None,
    )
    return done, figures


def test_kinematic_follows_exactly():
    done, figures = track(walking(), mode="kinematic")
    assert figures.g_mpjpe_mm < 1e-6 and figures.head_error_deg < 1e-4 and figures.assist_mean_bw == 0.0
    assert done.mode is TrackingMode.KINEMATIC and done.strength == 0.0


def test_assisted_walking_stays_near():
    done, figures = track(walking(), mode="assisted")
    assert figures.success and not figures.fallen
    assert figures.g_mpjpe_mm <= 10.0  # the aim is 25 mm
    assert figures.head_error_mm <= 10.0 and figures.head_error_deg <= 1.0
    assert 0.3 < figures.assist_mean_bw < 1.3  # most of a walk hangs: an aid, no balance
    assert figures.torque_saturation < 0.01 and done.strength == 1.0


def test_a_weaker_assist_carries_less_and_follows_less():
    strong, weak = (track(walking(), assist=assist)[1] for assist in (1.0, 0.3))
    assert weak.assist_mean_bw < 0.5 * strong.assist_mean_bw
    assert strong.g_mpjpe_mm < weak.g_mpjpe_mm <= 40.0 and weak.success


def test_squat_with_a_tenth_of_the_weight():
    _, figures = track(squat(), assist=0.1)
    assert figures.success and figures.g_mpjpe_mm <= 20.0  # the aim is 40 mm
    assert figures.assist_mean_bw <= 0.1


@pytest.mark.parametrize("motion", [standing, reaching])
def test_standing_and_reaching_need_no_assist(motion):
    done, figures = track(motion(), mode="pd")
    assert done.simulated_s == pytest.approx(10.0)
    assert figures.success and not figures.fallen and figures.g_mpjpe_mm <= 40.0
    assert not done.assist_bw.any() and not done.assist_torque_nm.any()


def test_assist_zero_is_pd():
    pair = [track(squat()[:20], **config)[0].qpos for config in ({"mode": "pd"}, {"assist": 0.0})]
    np.testing.assert_array_equal(*pair)


def test_the_assist_is_measured_in_body_weights():
    """Held up in the air, the assist carries the weight, and its torque holds what hangs out of the middle."""
    tracker = Tracker(robot_model(), TrackerConfig())
    pose = robot_model().standing + np.eye(70)[2]
    tracker.reset(pose)
    for _ in range(150):
        tracker.step()
    assert tracker.state().assist_bw == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(tracker.state().qpos[:3], pose[:3], atol=0.01)
    leaning = pose.copy()
    leaning[3:7] = [np.cos(0.4), 0.0, np.sin(0.4), 0.0]
    tracker.reset(leaning)
    for _ in range(150):
        tracker.step()
    data = tracker.data
    arm = data.subtree_com[robot_model().root_body] - data.xpos[robot_model().root_body]
    expected = robot_model().weight_n * np.hypot(*arm[:2])
    assert tracker.state().assist_torque_nm == pytest.approx(expected, rel=0.1)


def test_same_input_same_result():
    np.testing.assert_array_equal(track(walking()[:20])[0].qpos, track(walking()[:20])[0].qpos)


def test_trackers_of_one_model_do_not_disturb_each_other():
    alone = track(walking()[:16], assist=1.0)[0].qpos
    tracker, other = (Tracker(robot_model(), TrackerConfig(assist=assist)) for assist in (1.0, 0.2))
    for each in (tracker, other):
        each.begin(walking()[:16])
    rows = [tracker.state().qpos]
    for step in range(1, round(tracker.reference.end_time * 300) + 1):
        tracker.step()
        other.step()
        if step % 10 == 0:
            rows.append(tracker.state().qpos)
    np.testing.assert_array_equal(rows, alone)


def test_start_from_the_reference_has_its_pose_and_velocity():
    tracker = Tracker(robot_model(), TrackerConfig())
    tracker.begin(walking()[16:])
    reading = tracker.state()
    np.testing.assert_allclose(reading.qpos, walking().qpos[16], atol=1e-12)
    np.testing.assert_allclose(reading.qvel, walking().qvel[16], atol=1e-12)
    for _ in range(30):
        tracker.step()
    assert tracker.state().assist_bw < 2.0  # no jerk


def test_start_by_blending_stands_there_first():
    tracker = Tracker(robot_model(), TrackerConfig(start="blend", start_seconds=0.8))
    turned = replace(walking(), qpos=walking().qpos.copy())
    part = turned[25:]
    tracker.begin(part)
    reading = tracker.state()
    np.testing.assert_allclose(reading.qpos[7:], robot_model().standing[7:])
    np.testing.assert_allclose(reading.qpos[:2], part.qpos[0, :2])
    heads = robot_model().head_poses(np.stack([reading.qpos, part.qpos[0]]))
    assert np.dot(heads[0, :2, 0], heads[1, :2, 0]) > 0.9
    np.testing.assert_allclose(tracker.reference.sample(0.8)[0], part.qpos[0], atol=1e-9)
    done = record(tracker, 1.5)
    assert np.linalg.norm(done.qpos - done.reference, axis=1).max() < 0.5


def test_underrun_holds_the_last_pose_and_says_so():
    tracker = Tracker(robot_model(), TrackerConfig())
    tracker.begin(walking()[:8])
    for _ in range(300):
        tracker.step()
    reading = tracker.state()
    assert reading.underrun and np.linalg.norm(reading.qpos[:3] - walking().qpos[7, :3]) < 0.02
    np.testing.assert_allclose(reading.reference, walking().qpos[7])


def test_contacts_and_penetration_are_told():
    tracker = Tracker(robot_model(), TrackerConfig("pd"))
    for _ in range(60):
        tracker.step()
    reading = tracker.state()
    assert reading.contacts >= 4 and 0.0 < reading.penetration_mm < 5.0 and not reading.saturated


def test_numbers_that_run_away_are_caught(caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = Tracker(robot_model(), TrackerConfig("pd"))
    for speed in (np.nan, 1e13):
        tracker.reset()
        tracker.data.qvel[3] = speed
        with pytest.raises(TrackingError, match=r"failed at 0.003 s in mode pd"):
            tracker.step()
        assert tracker.broken
        with pytest.raises(TrackingError, match="reset it"):
            tracker.step()
    tracker.reset()
    tracker.step()
    assert not tracker.broken and np.isfinite(tracker.state().qpos).all()
    assert not list(tmp_path.iterdir())  # MuJoCo writes no log file


def test_a_failure_ends_the_record_with_its_reason():
    tracker = Tracker(robot_model(), TrackerConfig())
    tracker.begin(walking())
    tracker.data.qvel[3] = 1e13
    done = record(tracker, 1.0)
    assert done.failure is not None and "assisted" in done.failure and len(done.qpos) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mode": "magic"}, "'magic' is unknown; expected kinematic, assisted, pd, policy"),
        ({"assist": 1.5}, "assist 1.5; expected 0"),
        ({"assist": float("nan")}, "assist nan"),
        ({"start": "jump"}, "'jump' is unknown; expected reference or blend"),
        ({"start_seconds": 0.2}, "expected 0.5 to 10"),
        ({"blend_seconds": 0.0}, "blend_seconds"),
        ({"policy_hz": 0.0}, "policy_hz"),
    ],
)
def test_options_out_of_range_are_refused(options, complaint):
    with pytest.raises(UserError, match=complaint):
        TrackerConfig(**options)


def test_what_does_not_fit_the_body_is_refused():
    tracker = Tracker(robot_model(), TrackerConfig())
    other = RobotTrajectory(walking().qpos[:, :9], walking().qvel[:, :8], 16.0, ("left_tentacle", "right_tentacle"))
    with pytest.raises(UserError, match="another body"):
        tracker.begin(other)
    with pytest.raises(UserError, match="expected \\(70,\\), all finite"):
        tracker.reset(np.zeros(9))
    with pytest.raises(UserError, match="seconds is -1"):
        record(tracker, -1.0)
    with pytest.raises(UserError, match="7 frames/s"):
        record(tracker, 1.0, fps=7.0)
    with pytest.raises(UserError, match="mode pd takes no policy"):
        Tracker(robot_model(), TrackerConfig("pd"), policy=lambda seen: seen)
    with pytest.raises(UserError, match="mode policy needs a policy"):
        Tracker(robot_model(), TrackerConfig("policy"))
