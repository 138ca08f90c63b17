"""What holds in both environments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import egotwin_sim  # noqa: F401  (registers the environments)
from egotwin_sim.envs.base import TOKEN_BOUND
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Layout
from tests.tiny import SIZE

NAMES = ("EgoTwin/Dream-v0", "EgoTwin/Room-v0")


@pytest.fixture(scope="module", params=NAMES)
def env(request: pytest.FixtureRequest, weights: Path) -> Iterator[gymnasium.Env]:
    made = gymnasium.make(request.param, model=weights)
    yield made
    made.close()


def test_passes_gymnasiums_checker(env: gymnasium.Env) -> None:
    check_env(env.unwrapped)


def test_render_modes(weights: Path) -> None:
    for name in NAMES:
        newest = gymnasium.make(name, model=weights, render_mode="rgb_array")
        obs, _ = newest.reset(seed=0)
        np.testing.assert_array_equal(newest.render(), obs["rgb"])
        assert newest.metadata["render_fps"] == 2
        every = gymnasium.make(name, model=weights, render_mode="rgb_array_list")
        every.reset(seed=0)
        info = every.step(np.zeros(every.action_space.shape, np.float32))[4]
        shown = every.render()
        assert len(shown) == 5 and every.render() == []
        np.testing.assert_array_equal(shown[0], obs["rgb"])
        np.testing.assert_array_equal(shown[1:], info["frames"])


def test_both_start_alike_from_one_seed_and_run_the_same_actions(weights: Path) -> None:
    starts, ends = [], []
    actions = 0.5 * np.random.default_rng(0).standard_normal((4, 2, 32)).astype(np.float32)
    for name in NAMES:
        made = gymnasium.make(name, model=weights)
        starts.append(made.reset(seed=5))
        for action in actions:
            obs, _, _, _, info = made.step(action)
            assert obs in made.observation_space
            assert info["frames"].shape == (4, SIZE, SIZE, 3) and info["frames"].dtype == np.uint8
            np.testing.assert_array_equal(info["frames"][-1], obs["rgb"])
        ends.append((obs, info))
        made.close()
    (dream, dream_info), (room, room_info) = starts
    assert dream_info["goal_text"] == room_info["goal_text"]
    for key in ("rgb", "goal"):
        np.testing.assert_array_equal(dream[key], room[key])
    np.testing.assert_allclose(dream["motion"], room["motion"], atol=1e-6)
    np.testing.assert_allclose(dream_info["T_world_head"], room_info["T_world_head"], atol=1e-6)
    # The room does not stop this body, so it is the same motion in both; what the eyes see is not.
    assert not ends[1][1]["blocked"]
    np.testing.assert_allclose(ends[0][0]["motion"], ends[1][0]["motion"], atol=2e-3)
    np.testing.assert_allclose(ends[0][1]["T_world_head"], ends[1][1]["T_world_head"], atol=2e-3)


def test_spaces(env: gymnasium.Env) -> None:
    obs, info = env.reset(seed=1)
    assert env.observation_space["rgb"].shape == (SIZE, SIZE, 3)
    assert env.observation_space["motion"].shape == (282,)
    assert env.observation_space["goal"].shape == (384,)
    assert env.action_space == gymnasium.spaces.Box(-TOKEN_BOUND, TOKEN_BOUND, (2, 32), np.float32)
    assert np.linalg.norm(obs["goal"]) == pytest.approx(1.0, abs=1e-4)
    assert info["success"] is False
    # The newest state in its own canonical frame: the head over the origin, looking along x.
    layout = Layout(22)
    np.testing.assert_allclose(obs["motion"][layout.head_position][:2], 0.0, atol=1e-6)
    assert abs(obs["motion"][layout.head_rotation][1]) < 1e-6


def test_an_observed_state_is_an_initial_pose(env: gymnasium.Env) -> None:
    env.reset(seed=2)
    obs = env.step(np.full(env.action_space.shape, 0.3, np.float32))[0]
    again = env.reset(seed=3, options={"initial_pose": obs["motion"]})[0]
    np.testing.assert_allclose(again["motion"], obs["motion"], atol=1e-5)


def test_rollouts_repeat_with_the_seed_and_differ_between_episodes(env: gymnasium.Env) -> None:
    action = np.full(env.action_space.shape, 0.2, np.float32)

    def roll(**how: int) -> tuple[str, np.ndarray]:
        _, info = env.reset(**how)
        return info["goal_text"], env.step(action)[4]["frames"]

    first, second, repeated = roll(seed=7), roll(), roll(seed=7)
    assert first[0] == repeated[0]
    np.testing.assert_array_equal(first[1], repeated[1])
    assert not np.array_equal(first[1], second[1])


def test_goal_option_gives_a_room_that_has_it(env: gymnasium.Env) -> None:
    for goal in ("walk to the red box", "please turn to the blue ball", "open the door"):
        _, info = env.reset(seed=0, options={"goal": goal})
        assert info["goal_text"] == goal
        assert env.unwrapped.start.goal.target in ("red box", "blue ball", "door")
        assert not info["success"]


def test_sampled_goals_are_of_all_kinds(env: gymnasium.Env) -> None:
    kinds = {env.reset(seed=seed)[1]["goal_text"].split()[0] for seed in range(10)}
    assert kinds == {"walk", "turn", "open"}


def test_truncates_after_max_seconds(weights: Path) -> None:
    for name in NAMES:
        made = gymnasium.make(name, model=weights, max_seconds=1.0)
        made.reset(seed=0)
        rest = np.zeros(made.action_space.shape, np.float32)
        ends = [made.step(rest)[2:4] for _ in range(2)]
        assert ends == [(False, False), (False, True)]
        made.close()


@pytest.mark.parametrize("seconds", [0, -1.0, 0.7, float("nan"), float("inf")])
def test_rejects_a_length_that_is_no_number_of_steps(weights: Path, seconds: float) -> None:
    with pytest.raises(UserError, match="max_seconds"):
        gymnasium.make("EgoTwin/Dream-v0", model=weights, max_seconds=seconds)


def test_rejects_bad_actions_and_stays_where_it_was(env: gymnasium.Env) -> None:
    shape = env.action_space.shape
    env.reset(seed=4)
    for action, told in (
        (np.zeros((3, 32), np.float32), "expected float32"),
        (np.zeros(64, np.float32), "expected float32"),
        (np.full(shape, "a"), "expected float32"),
        (np.full(shape, np.nan, np.float32), "NaN"),
        (np.full(shape, np.inf, np.float32), "NaN or infinity"),
        (np.full(shape, TOKEN_BOUND + 1, np.float32), "from -8 to 8"),
    ):
        with pytest.raises(UserError, match=told):
            env.step(action)
    rest = np.zeros(shape, np.float32)
    after = env.step(rest)[0]
    env.reset(seed=4)
    np.testing.assert_array_equal(after["rgb"], env.step(rest)[0]["rgb"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gaol": "open the door"}, "'gaol' is unknown"),
        ({"goal": ""}, "empty"),
        ({"goal": "  "}, "empty"),
        ({"goal": 3}, "expected a text"),
        ({"initial_pose": np.zeros(10, np.float32)}, "initial pose"),
        ({"initial_pose": np.full(282, np.nan, np.float32)}, "NaN"),
        ({"initial_pose": np.zeros(282, np.float32)}, "rotation"),
    ],
)
def test_rejects_bad_options(env: gymnasium.Env, options: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        env.reset(seed=0, options=options)
    with pytest.raises(ResetNeeded):
        env.unwrapped.step(np.zeros(env.action_space.shape, np.float32))


def test_step_and_render_before_reset(weights: Path) -> None:
    for name in NAMES:
        made = gymnasium.make(name, model=weights, render_mode="rgb_array")
        with pytest.raises(ResetNeeded):
            made.step(np.zeros(made.action_space.shape, np.float32))
        with pytest.raises(ResetNeeded):
            made.unwrapped.render()


def test_rejects_weights_that_are_not_there(tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(UserError, match="no stream weights"):
            gymnasium.make(name, model=tmp_path / "none")


def test_environments_of_a_process_share_their_networks(weights: Path) -> None:
    for part in ("motion_vae", "text_encoder", "pipeline"):
        one, other = (gymnasium.make(name, model=weights).unwrapped.model for name in NAMES)
        assert getattr(one, part) is getattr(other, part)
