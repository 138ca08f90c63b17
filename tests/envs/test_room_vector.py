"""Rooms in processes: the same rooms as alone, with the vector dream's arguments and options."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

import egotwin_sim  # noqa: F401  (registers the environments)
from egotwin_sim.envs import RoomEnv, room_vector_env
from egotwin_sim.errors import UserError
from egotwin_sim.pipelines import StreamPipeline


def test_rooms_in_processes_are_the_rooms(weights: Path) -> None:
    made = gymnasium.make_vec(
        "EgoTwin/Room-v0",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        model=weights,
        max_seconds=(0.5, 1.0),
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    try:
        assert isinstance(made, AsyncVectorEnv) and made.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        goals = ["open the door", "walk to the table"]
        obs, infos = made.reset(seed=4, options={"goal": goals})
        assert infos["goal_text"].tolist() == goals
        action = np.full((2, 2, 32), 0.3, np.float32)
        stepped, _, _, truncated, later = made.step(action)
        assert truncated.tolist() == later["_final_obs"].tolist() == [True, False]
        ends = [later["final_obs"][0], {key: value[1] for key, value in stepped.items()}]
        for i in range(2):
            alone = RoomEnv(weights)
            begun = alone.reset(seed=4 + i, options={"goal": goals[i]})[0]
            end = alone.step(action[i])[0]
            alone.close()
            for key in begun:
                np.testing.assert_array_equal(obs[key][i], begun[key])
                np.testing.assert_array_equal(ends[i][key], end[key])
        before = {key: value[1].copy() for key, value in stepped.items()}
        obs, infos = made.reset(
            seed=7, options={"reset_mask": np.array([True, False]), "goal": ["turn to the door", None]}
        )
        assert infos["_goal_text"].tolist() == [True, False] and infos["goal_text"][0] == "turn to the door"
        for key, value in before.items():
            np.testing.assert_array_equal(obs[key][1], value)
        for bad, told in (
            (lambda: made.step(np.full((2, 2, 32), np.nan, np.float32)), "NaN"),
            (lambda: made.step(action[:1]), "expected float32"),
            (lambda: made.reset(options={"gaol": "open the door"}), "'gaol' is unknown"),
            (lambda: made.reset(options={"goal": ["open the door"]}), "1 entries"),
            (lambda: made.reset(options={"reset_mask": np.zeros(2, bool)}), "False everywhere"),
            (lambda: made.reset(seed=[1]), "1 seeds"),
        ):
            with pytest.raises(UserError, match=told):
                bad()
        made.step(action)  # nothing was lost
        with pytest.raises(UserError, match="moon"):
            made.reset(options={"goal": "walk to the moon"})
    finally:
        made.close()


def test_gymnasiums_own_processes_take_a_room(weights: Path) -> None:
    made = gymnasium.make_vec(
        "EgoTwin/Room-v0",
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
        model=weights,
    )
    try:
        obs, _ = made.reset(seed=0)
        assert obs in made.observation_space
        assert made.step(np.zeros(made.action_space.shape, np.float32))[0] in made.observation_space
    finally:
        made.close()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"autoreset_mode": "Never"}, "'NextStep'"),
        ({"max_seconds": (1.0, 1.0, 1.0)}, "3 entries"),
        ({"max_seconds": 0.7}, "positive multiple"),
    ],
)
def test_rejects_bad_arguments(weights: Path, how: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        room_vector_env(**{"num_envs": 2, "model": weights, **how})


def test_a_loaded_pipeline_cannot_be_sent(weights: Path) -> None:
    with pytest.raises(UserError, match="name or folder"):
        room_vector_env(2, StreamPipeline.from_pretrained(weights))
