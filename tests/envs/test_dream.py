"""The dream alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from egotwin_sim.envs import DreamEnv
from egotwin_sim.errors import UserError
from egotwin_sim.pipelines import StreamPipeline
from tests.tiny import SIZE


@pytest.fixture(scope="module")
def env(weights: Path) -> Iterator[DreamEnv]:
    made = DreamEnv(weights)
    yield made
    made.close()


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def test_goal_may_be_any_text(env: DreamEnv) -> None:
    _, info = env.reset(seed=0, options={"goal": "a person dances the tango"})
    assert info["goal_text"] == "a person dances the tango"
    with pytest.raises(UserError, match="tokens"):
        env.reset(seed=0, options={"goal": "and then " * 40})


def test_dreams_on_from_a_given_picture(env: DreamEnv) -> None:
    obs, info = env.reset(seed=0, options={"goal": "walk on", "first_frame": picture()})
    np.testing.assert_array_equal(obs["rgb"], picture())
    np.testing.assert_array_equal(info["frames"], np.repeat(picture()[None], 4, axis=0))
    obs, reward, terminated, truncated, info = env.step(np.zeros((2, 32), np.float32))
    assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False)
    with pytest.raises(UserError, match="no room"):
        env.recent_in_room()


@pytest.mark.parametrize(
    "frame",
    [np.zeros((16, 16, 3), np.uint8), np.zeros((SIZE, SIZE, 3), np.float32), np.zeros((3, SIZE, SIZE), np.uint8)],
)
def test_rejects_a_picture_of_another_size_or_type(env: DreamEnv, frame: np.ndarray) -> None:
    with pytest.raises(UserError, match="first frame"):
        env.reset(seed=0, options={"goal": "walk on", "first_frame": frame})


def test_a_picture_needs_a_goal(env: DreamEnv) -> None:
    with pytest.raises(UserError, match="goal"):
        env.reset(seed=0, options={"first_frame": picture()})


def test_the_noise_belongs_to_seed_and_episode(env: DreamEnv) -> None:
    def roll(**how: int) -> np.ndarray:
        env.reset(options={"goal": "walk on", "first_frame": picture()}, **how)
        return env.step(np.zeros((2, 32), np.float32))[4]["frames"]

    first, next_episode = roll(seed=3), roll()
    np.testing.assert_array_equal(first, roll(seed=3))
    assert not np.array_equal(first, next_episode)
    assert not np.array_equal(first, roll(seed=4))


def test_takes_a_loaded_pipeline(weights: Path) -> None:
    pipeline = StreamPipeline.from_pretrained(weights)
    made = DreamEnv(pipeline)
    assert made.model.pipeline is pipeline
    assert made.observation_space == DreamEnv(weights).observation_space


@pytest.mark.parametrize("network", ["motion_vae", "transformer", "video_vae"])
def test_nan_in_the_model_stops_the_rollout(weights: Path, network: str) -> None:
    pipeline = StreamPipeline.from_pretrained(weights)
    made = DreamEnv(pipeline)
    made.reset(seed=0)
    with torch.no_grad():
        for parameter in getattr(pipeline, network).parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        made.step(np.zeros((2, 32), np.float32))
