"""The scripted policy."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import egotwin_sim  # noqa: F401  (registers the environments)
from egotwin_sim.envs import DreamEnv, RoomEnv
from egotwin_sim.errors import UserError
from egotwin_sim.policies import scripted_policy
from egotwin_sim.room.goals import success
from tests.tiny import SIZE


@pytest.mark.parametrize("goal", ["turn to the table", "walk to the door"])
def test_reaches_goals_in_the_room(weights: Path, goal: str) -> None:
    env = gymnasium.make("EgoTwin/Room-v0", model=weights, max_seconds=15.0)
    policy = scripted_policy(env, 0)
    reached = 0
    for seed in range(3):
        obs, info = env.reset(seed=seed, options={"goal": goal})
        done = False
        while not done:
            action = policy(obs, info)
            assert action in env.action_space
            obs, reward, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        reached += terminated
        assert reward == float(terminated)
    assert reached >= 2


def test_pursues_the_goal_in_a_dream_of_a_sampled_room(weights: Path) -> None:
    env = DreamEnv(weights)
    policy = scripted_policy(env, 0)
    obs, info = env.reset(seed=0, options={"goal": "turn to the table"})
    start = env.start
    reached = False
    for _ in range(16):
        obs, _, _, _, info = env.step(policy(obs, info))
        reached = reached or success(start.goal, start.layout, env.recent_in_room()[-1:], 0.0)
    assert reached


def test_repeats_with_its_seed(weights: Path) -> None:
    env = RoomEnv(weights)
    actions = []
    for _ in range(2):
        policy = scripted_policy(env, 3)
        obs, info = env.reset(seed=1)
        actions.append([policy(obs, info)])
        for _ in range(2):
            obs, _, _, _, info = env.step(actions[-1][-1])
            actions[-1].append(policy(obs, info))
    np.testing.assert_array_equal(actions[0], actions[1])


def test_needs_a_room_and_a_goal_that_it_knows(weights: Path) -> None:
    env = DreamEnv(weights)
    policy = scripted_policy(env, 0)
    with pytest.raises(UserError, match="no room"):
        policy(
            *env.reset(seed=0, options={"goal": "open the door", "first_frame": np.zeros((SIZE, SIZE, 3), np.uint8)})
        )
    with pytest.raises(UserError, match="dance"):
        policy(*env.reset(seed=0, options={"goal": "dance"}))
    with pytest.raises(UserError, match="neither a dream nor a room"):
        scripted_policy(gymnasium.make("CartPole-v1"), 0)
