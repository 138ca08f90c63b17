from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from egotwin_sim.body.observation import observation_width, observe
from egotwin_sim.body.record import record
from egotwin_sim.body.tracker import Tracker, TrackerConfig, TrackingError
from egotwin_sim.body.tracking_policy import TrackingPolicy
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply, quat_to_matrix
from tests.body.motions import robot_model, squat

HINGES = 63


def test_untrained_it_corrects_nothing():
    network = TrackingPolicy(HINGES, width=16)
    rows = []
    for mode, policy in (("policy", network.act), ("pd", None)):
        tracker = Tracker(robot_model(), TrackerConfig(mode), policy)
        tracker.begin(squat()[:16])
        rows.append(record(tracker, 0.5).qpos)
    np.testing.assert_array_equal(*rows)


def test_corrections_move_the_targets_and_are_asked_for_at_their_rate():
    calls = []

    def nod(seen: np.ndarray) -> np.ndarray:
        calls.append(seen)
        return 0.3 * (np.array(robot_model().joint_names) == "head_y")

    tracker = Tracker(robot_model(), TrackerConfig("policy", policy_hz=50.0), nod)
    calls.clear()
    for _ in range(150):
        tracker.step()
    assert len(calls) == 25 and calls[0].shape == (observation_width(HINGES),)
    head = 7 + robot_model().joint_names.index("head_y")
    moved = tracker.state().qpos[head] - tracker.state().reference[head]
    assert 0.05 < moved < 0.31


def test_observation_does_not_depend_on_place_and_heading():
    rng = np.random.default_rng(0)
    qpos, reference = squat().qpos[10].copy(), squat().qpos[12].copy()
    qvel, speed = rng.normal(size=(2, 69))
    turn = axis_angle_to_quat(np.array([0.0, 0.0, 1.2]))
    moved = []
    for pose in (qpos, reference):
        other = pose.copy()
        other[:3] = quat_to_matrix(turn) @ pose[:3] + [3.0, -2.0, 0.0]
        other[3:7] = quat_multiply(turn, pose[3:7])
        moved.append(other)
    turned = [np.concatenate([quat_to_matrix(turn) @ value[:3], value[3:]]) for value in (qvel, speed)]
    seen = observe(qpos, qvel, reference, speed)
    assert seen.shape == (observation_width(HINGES),)
    np.testing.assert_allclose(observe(moved[0], turned[0], moved[1], turned[1]), seen, atol=1e-9)
    np.testing.assert_allclose(seen[:3], quat_to_matrix(qpos[3:7]).T @ [0.0, 0.0, -1.0], atol=1e-12)


def test_saved_weights_come_back(tmp_path):
    network = TrackingPolicy(HINGES, width=16, largest=0.2, mean=[0.1] * 273, spread=[2.0] * 273)
    torch.nn.init.normal_(network.out.weight)
    network.save_pretrained(tmp_path / "policy")
    assert sorted(path.suffix for path in (tmp_path / "policy").iterdir()) == [".json", ".safetensors"]
    back = TrackingPolicy.from_pretrained(tmp_path / "policy")
    seen = np.linspace(-1.0, 1.0, 273)
    np.testing.assert_allclose(back.act(seen), network.act(seen), atol=1e-7)
    assert 0.0 < np.abs(back.act(seen)).max() <= 0.2


def test_a_policy_for_another_body_is_refused(tmp_path):
    TrackingPolicy(29, width=16).save_pretrained(tmp_path / "policy")
    other = TrackingPolicy.from_pretrained(tmp_path / "policy")
    with pytest.raises(UserError, match="made for a body of 29 hinges"):
        Tracker(robot_model(), TrackerConfig("policy"), other.act)
    with pytest.raises(UserError, match=r"offsets of shape \(5,\); expected \(63,\)"):
        Tracker(robot_model(), TrackerConfig("policy"), lambda seen: np.zeros(5))


def test_damaged_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="no config.json"):
        TrackingPolicy.from_pretrained(tmp_path)
    TrackingPolicy(HINGES, width=16).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"width": 32}))
    with pytest.raises(UserError, match="do not load"):
        TrackingPolicy.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"mean": [0.0]}))
    with pytest.raises(UserError, match="mean of the policy has 1 numbers; an observation has 273"):
        TrackingPolicy.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="must be positive"):
        TrackingPolicy(0)


def test_a_policy_that_gives_no_number_breaks_the_tracker_only():
    answers = iter([np.zeros(HINGES), np.full(HINGES, np.nan)])
    tracker = Tracker(robot_model(), TrackerConfig("policy"), lambda seen: next(answers))
    with pytest.raises(TrackingError, match="offset that is not finite"):
        tracker.step()
    assert tracker.broken
