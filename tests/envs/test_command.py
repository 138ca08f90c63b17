"""Commands: what the body makes of them, and the wrapper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.envs import Command, DreamEnv, RoomEnv
from egotwin_sim.envs.command import HIGH, LOW, STRETCHED, command_motion
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise
from egotwin_sim.room.synthesis.body import read_state


def standing() -> Motion:
    return synthesise(sample_layout(0), 0, 0.5, goal="open the door").motion[:1]


def drive(motion: Motion, steps: int, *, speed=0.0, turn=0.0, yaw=0.0, pitch=0.2, left=0.0, right=0.0) -> Motion:
    command = np.array([speed, turn, yaw, pitch, left, right])
    for _ in range(steps):
        motion = Motion.concatenate([motion, command_motion(motion[-9:], command)])
    return motion


def test_walks_and_turns_at_the_commanded_rates_and_stops() -> None:
    moving = drive(standing(), 6, speed=0.8, turn=0.4)
    state = read_state(moving[-9:])
    assert state.speed == pytest.approx(0.8, abs=0.08)
    assert state.yaw_rate == pytest.approx(0.4, abs=0.12)
    state = read_state(drive(moving, 4)[-9:])
    assert state.speed < 0.03 and abs(state.yaw_rate) < 0.03


def test_standing_feet_stay_put_while_walking_turning_and_reaching() -> None:
    motion = drive(drive(drive(standing(), 6, speed=1.0), 6, turn=1.0), 6, speed=0.6, turn=-0.5, left=1.0, right=1.0)
    index = motion.skeleton.index
    balls = motion.joint_transforms()[0][:, [index["left_foot"], index["right_foot"]]]
    down = balls[..., 2] < balls[..., 2].min() + 0.02
    slide = np.linalg.norm(np.diff(balls[..., :2], axis=0), axis=-1) * motion.fps
    assert slide[down[1:] & down[:-1]].mean() < 0.03
    assert balls[..., 2].min() > 0.0


def test_looks_where_it_is_told() -> None:
    state = read_state(drive(standing(), 5, yaw=0.9, pitch=0.5)[-9:])
    assert state.gaze[0] - state.ground[2] == pytest.approx(0.9, abs=0.1)
    assert state.gaze[1] == pytest.approx(0.5, abs=0.1)


def test_stretches_one_arm_out_and_lets_it_hang_again() -> None:
    reaching = drive(standing(), 5, left=1.0)
    left, right = read_state(reaching[-9:]).palms[:, 2]
    assert left == pytest.approx(STRETCHED[2], abs=0.03) and right < 0.9
    assert read_state(drive(reaching, 6)[-9:]).palms[0, 2] < 0.9


@pytest.mark.parametrize("kind", [DreamEnv, RoomEnv])
def test_wrapper_drives_the_body(weights: Path, kind: type) -> None:
    env = Command(kind(weights))
    obs, _ = env.reset(seed=0, options={"goal": "open the door"})
    for _ in range(4):
        obs, _, _, _, info = env.step(np.array([0.0, 0.8, 0.0, 0.2, 0.0, 0.0], np.float32))
        assert obs in env.observation_space
    heading = np.arctan2(info["T_world_head"][-1, 1, 0], info["T_world_head"][-1, 0, 0])
    assert heading > 0.6


def test_wrapper_rejects_what_is_no_command(weights: Path) -> None:
    env = Command(RoomEnv(weights))
    env.reset(seed=0)
    for command, told in (
        (np.zeros(5), "expected float32"),
        (np.full(6, np.nan), "forward_speed is nan"),
        (HIGH + [0, 0, 0, 0, 0, 1], "reach_right is 2"),
        (LOW - [0, 1, 0, 0, 0, 0], "turn_rate"),
    ):
        with pytest.raises(UserError, match=told):
            env.step(command)
