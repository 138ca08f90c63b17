"""Many dreams in one batch: Gymnasium's rules at each step, and that each is what it is alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import egotwin_sim  # noqa: F401  (registers the environments)
from egotwin_sim.envs import DreamEnv, DreamVectorEnv
from egotwin_sim.envs.memory import bytes_per_dream, require_memory
from egotwin_sim.errors import UserError
from egotwin_sim.pipelines import StreamPipeline
from tests.tiny import SIZE

GOALS = ("walk to the red box", "open the door", "dance", "turn to the blue ball", "sing", "walk on", "sit", "jump")
SECONDS = (0.5, 1.0, 1.5)


@pytest.fixture(scope="module")
def pipeline(weights: Path) -> StreamPipeline:
    """Exact: with it a dream does not depend on what shares its batch."""
    return StreamPipeline.from_pretrained(weights, precision="fp32")


@pytest.fixture(scope="module")
def envs(pipeline: StreamPipeline) -> Iterator[DreamVectorEnv]:
    made = DreamVectorEnv(3, pipeline)
    yield made
    made.close()


def actions(steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    return 0.4 * np.random.default_rng(seed).standard_normal((steps, num_envs, 2, 32)).astype(np.float32)


def same(one: Any, other: Any) -> None:
    """Equal to the bit and of one type, dictionaries and arrays of objects included."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.dtype == object):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def test_made_by_gymnasium(weights: Path) -> None:
    made = gymnasium.make_vec(
        "EgoTwin/Dream-v0", num_envs=2, vectorization_mode="vector_entry_point", model=weights, max_seconds=1.0
    )
    assert isinstance(made, DreamVectorEnv) and made.num_envs == 2
    assert made.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    obs, infos = made.reset(seed=0)
    assert obs in made.observation_space
    assert infos["frames"].shape == (2, 4, SIZE, SIZE, 3)
    obs, rewards, terminated, truncated, infos = made.step(np.zeros(made.action_space.shape, np.float32))
    assert obs in made.observation_space and made.action_space.shape == (2, 2, 32)
    assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
    made.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_is_gymnasiums_vector_environment_of_single_ones(pipeline: StreamPipeline, mode: AutoresetMode) -> None:
    ours = DreamVectorEnv(3, pipeline, SECONDS, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda s=s: DreamEnv(pipeline, s) for s in SECONDS], autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    same(ours.reset(seed=5), theirs.reset(seed=5))
    assert ours.np_random_seed == theirs.np_random_seed == (5, 6, 7)
    for action in actions(4, 3):
        out = ours.step(action)
        same(out, theirs.step(action))
        ended = out[2] | out[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            same(*(env.reset(options={"reset_mask": ended.copy()}) for env in (ours, theirs)))
    same(*(env.reset(seed=[1, None, 3], options={"goal": "open the door"}) for env in (ours, theirs)))


# Episodes of 1, 2 and 3 steps: steps since the start as seen after the call, and which were truncated in it.
NEXT = [((1, 1, 1), (1, 0, 0)), ((0, 2, 2), (0, 1, 0)), ((1, 0, 3), (1, 0, 1)), ((0, 1, 0), (0, 0, 0))]
SAME = [((0, 1, 1), (1, 0, 0)), ((0, 0, 2), (1, 1, 0)), ((0, 1, 0), (1, 0, 1)), ((0, 0, 1), (1, 1, 0))]


@pytest.mark.parametrize(("mode", "table"), [(AutoresetMode.NEXT_STEP, NEXT), (AutoresetMode.SAME_STEP, SAME)])
def test_autoreset_step_by_step(pipeline: StreamPipeline, mode: AutoresetMode, table: list) -> None:
    made = DreamVectorEnv(3, pipeline, SECONDS, autoreset_mode=mode.value)
    begun, infos = made.reset(seed=0)
    texts = infos["goal_text"]
    episode = np.zeros(3, int)
    for action, (chunks, over) in zip(actions(4, 3), table, strict=True):
        before = made.get_state()
        obs, rewards, terminated, truncated, infos = made.step(action)
        assert made.get_state().chunk.tolist() == list(chunks)
        assert truncated.tolist() == [bool(x) for x in over] and not terminated.any() and not rewards.any()
        fresh = np.array(chunks) == 0
        episode += fresh
        assert made.get_state().noise_key[:, :2].tolist() == [[i, int(episode[i])] for i in range(3)]
        for i in np.flatnonzero(fresh):  # one frame, shown four times
            assert (infos["frames"][i] == obs["rgb"][i]).all()
        np.testing.assert_array_equal(infos["frames"][:, -1], obs["rgb"])
        assert ("final_obs" in infos) == (mode is AutoresetMode.SAME_STEP and any(over))
        if "final_obs" in infos:
            assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == truncated.tolist()
            reference = DreamEnv(pipeline)
            for i in range(3):
                if not over[i]:
                    assert infos["final_obs"][i] is None and infos["final_info"]["goal_text"][i] is None
                    continue
                reference.set_state(before.rows([i]))
                last, _, _, _, info = reference.step(action[i])
                np.testing.assert_array_equal(infos["final_obs"][i]["rgb"], last["rgb"])
                np.testing.assert_array_equal(infos["final_info"]["frames"][i], info["frames"])
    assert episode.all() and texts.tolist() != infos["goal_text"].tolist()


def test_without_autoreset_an_ended_episode_waits_for_its_mask(pipeline: StreamPipeline) -> None:
    made = DreamVectorEnv(3, pipeline, SECONDS, autoreset_mode=AutoresetMode.DISABLED)
    made.reset(seed=0)
    first, second = actions(2, 3)
    truncated = made.step(first)[3]
    assert truncated.tolist() == [True, False, False]
    kept = made.get_state([1, 2])
    with pytest.raises(ResetNeeded, match=r"\[0\]"):
        made.step(second)
    obs, infos = made.reset(options={"reset_mask": truncated})
    assert infos["_frames"].tolist() == [True, False, False] and not infos["frames"][1:].any()
    assert made.get_state().chunk.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(obs["rgb"][1:], kept.newest_frame.numpy())
    assert made.step(second)[3].tolist() == [True, True, False]


def test_a_mask_resets_some_and_leaves_the_others(envs: DreamVectorEnv) -> None:
    first, second = actions(2, 3)
    envs.reset(seed=0)
    envs.step(first)
    undisturbed = envs.step(second)
    envs.reset(seed=0)
    envs.step(first)
    options = {"reset_mask": np.array([False, True, False]), "goal": [None, "dance", None]}
    obs, infos = envs.reset(seed=[None, 77, None], options=options)
    assert list(options) == ["reset_mask", "goal"]
    assert infos["goal_text"].tolist() == [None, "dance", None] and infos["_goal_text"].tolist() == [False, True, False]
    alone = DreamEnv(envs.model.pipeline)
    same({k: v[1] for k, v in obs.items()}, alone.reset(seed=77, options={"goal": "dance"})[0])
    obs, _, _, _, infos = envs.step(second)
    for i in (0, 2):
        np.testing.assert_array_equal(infos["frames"][i], undisturbed[4]["frames"][i])
        np.testing.assert_array_equal(obs["motion"][i], undisturbed[0]["motion"][i])
    same({k: v[1] for k, v in obs.items()}, alone.step(second[1])[0])


def test_an_environment_alone_is_what_it_is_among_others(pipeline: StreamPipeline) -> None:
    seeds = [3, 1, 4, 15, 92, 65, 35, 89]
    made = DreamVectorEnv(8, pipeline)
    together = [made.reset(seed=seeds, options={"goal": list(GOALS)})]
    steps = actions(3, 8)
    together += [made.step(action)[::4] for action in steps]
    for i in (0, 2, 7):
        alone = DreamEnv(pipeline)
        rolled = [alone.reset(seed=seeds[i], options={"goal": GOALS[i]})]
        rolled += [alone.step(action[i])[::4] for action in steps]
        for (obs, infos), (own_obs, own_info) in zip(together, rolled, strict=True):
            for key, value in own_obs.items():
                np.testing.assert_array_equal(obs[key][i], value)
            for key in ("frames", "T_world_head", "goal_text"):
                np.testing.assert_array_equal(infos[key][i], own_info[key])


def test_pictures_and_poses_for_all_or_for_each(envs: DreamVectorEnv) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    obs, infos = envs.reset(seed=0, options={"goal": "walk on", "first_frame": pictures})
    np.testing.assert_array_equal(obs["rgb"], pictures)
    assert infos["goal_text"].tolist() == ["walk on"] * 3
    obs, _ = envs.reset(seed=0, options={"goal": list(GOALS[:3]), "first_frame": [pictures[2], None, pictures[0]]})
    np.testing.assert_array_equal(obs["rgb"][[0, 2]], pictures[[2, 0]])
    pose = envs.step(actions(1, 3)[0])[0]["motion"]
    np.testing.assert_allclose(envs.reset(options={"initial_pose": pose})[0]["motion"], pose, atol=1e-5)
    same_for_all = envs.reset(options={"initial_pose": pose[0]})[0]["motion"]
    np.testing.assert_allclose(same_for_all, np.repeat(pose[:1], 3, axis=0), atol=1e-5)


def test_tensors_in_and_out_are_the_same_numbers(pipeline: StreamPipeline) -> None:
    def check(tensors: Any, arrays: Any) -> None:
        if isinstance(arrays, dict):
            assert tensors.keys() == arrays.keys()
            for key, value in arrays.items():
                check(tensors[key], value)
        elif isinstance(arrays, tuple) or (isinstance(arrays, np.ndarray) and arrays.dtype == object):
            for one, other in zip(tensors, arrays, strict=True):
                check(one, other)
        elif arrays is None or isinstance(arrays, str):
            assert tensors == arrays
        else:
            assert isinstance(tensors, torch.Tensor)
            np.testing.assert_array_equal(tensors.numpy(), arrays)

    arrays = DreamVectorEnv(2, pipeline, (0.5, 1.0), autoreset_mode="SameStep")
    tensors = DreamVectorEnv(2, pipeline, (0.5, 1.0), autoreset_mode="SameStep", output="torch")
    check(tensors.reset(seed=1), arrays.reset(seed=1))
    for action in actions(2, 2):
        check(tensors.step(torch.from_numpy(action)), arrays.step(action))


def test_tensors_are_not_copied_and_stay_as_they_were(pipeline: StreamPipeline) -> None:
    made = DreamVectorEnv(2, pipeline, output="torch")
    made.reset(seed=0)
    obs, rewards, _, _, infos = made.step(torch.zeros(2, 2, 32))
    assert obs["rgb"].untyped_storage().data_ptr() == infos["frames"].untyped_storage().data_ptr()
    assert rewards.dtype == torch.float32
    before = obs["rgb"].clone()
    made.step(torch.zeros(2, 2, 32, dtype=torch.bfloat16))
    assert torch.equal(obs["rgb"], before)


def test_what_is_handed_out_is_no_part_of_the_dreams(envs: DreamVectorEnv) -> None:
    steps = actions(2, 3)
    envs.reset(seed=0)
    envs.step(steps[0])
    expected = envs.step(steps[1])
    obs, infos = envs.reset(seed=0)
    stepped = envs.step(steps[0])
    for out in (obs, infos, stepped[0], stepped[4]):
        for value in out.values():
            if value.dtype != object:
                value[...] = 0
    same(envs.step(steps[1]), expected)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("part", ["decoder.0", "cache.0.video.value"])
def test_nan_ends_one_environment_and_no_other(pipeline: StreamPipeline, mode: AutoresetMode, part: str) -> None:
    made = DreamVectorEnv(3, pipeline, autoreset_mode=mode, render_mode="rgb_array")
    made.reset(seed=0)
    first, second, third = actions(3, 3)
    shown = made.step(first)[0]["rgb"]
    state = made.get_state()
    healthy = made.step(second)
    state.tensors()[part][1] = torch.nan
    made.set_state(state)
    obs, rewards, terminated, truncated, infos = made.step(second)
    assert terminated.tolist() == [False, True, False] and not truncated.any() and not rewards.any()
    told = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
    assert told["_error"].tolist() == [False, True, False] and "not finite" in told["error"][1]
    last = infos["final_obs"][1]["rgb"] if mode is AutoresetMode.SAME_STEP else obs["rgb"][1]
    np.testing.assert_array_equal(last, shown[1])
    np.testing.assert_array_equal(told["frames"][1], np.repeat(shown[1:2], 4, axis=0))
    for i in (0, 2):
        np.testing.assert_array_equal(obs["rgb"][i], healthy[0]["rgb"][i])
        np.testing.assert_array_equal(infos["frames"][i], healthy[4]["frames"][i])
    if mode is AutoresetMode.DISABLED:
        made.reset(options={"reset_mask": terminated})
    _, _, terminated, _, infos = made.step(third)
    assert not terminated.any() and "error" not in infos
    assert made.get_state().chunk.tolist() == {"NextStep": [3, 0, 3]}.get(mode.value, [3, 1, 3])
    assert all(bool(torch.isfinite(x).all()) for x in made.get_state(1).tensors().values())


@pytest.mark.parametrize("part", ["decoder.0", "cache.0.video.value", "features"])
def test_nan_stays_in_its_row_of_a_shared_forward_pass(weights: Path, part: str) -> None:
    made = DreamVectorEnv(
        3, StreamPipeline.from_pretrained(weights)
    )  # in bf16 all rows go through the networks at once
    made.reset(seed=0)
    first, second = actions(2, 3)
    made.step(first)
    state = made.get_state()
    healthy = made.step(second)[4]["frames"]
    state.tensors()[part][1] = torch.nan
    made.set_state(state)
    _, _, terminated, _, infos = made.step(second)
    assert terminated.tolist() == [False, True, False]
    np.testing.assert_array_equal(infos["frames"][[0, 2]], healthy[[0, 2]])


def test_renders_what_single_environments_render(pipeline: StreamPipeline) -> None:
    for mode in ("rgb_array", "rgb_array_list"):
        ours = DreamVectorEnv(2, pipeline, 0.5, render_mode=mode)
        theirs = SyncVectorEnv([lambda mode=mode: DreamEnv(pipeline, 0.5, mode)] * 2)
        assert ours.metadata == theirs.metadata and ours.render_mode == mode
        for env in (ours, theirs):
            env.reset(seed=0)
        for action in actions(2, 2):
            for env in (ours, theirs):
                env.step(action)
            np.testing.assert_array_equal(np.array(ours.render()), np.array(theirs.render()))
        if mode == "rgb_array_list":
            assert ours.render() == ([], [])


def test_a_state_goes_to_other_environments(envs: DreamVectorEnv) -> None:
    first, second = actions(2, 3)
    envs.reset(seed=0)
    envs.step(first)
    saved = envs.get_state()
    expected = envs.step(second)
    obs, infos = envs.set_state(saved)
    np.testing.assert_array_equal(obs["rgb"], saved.newest_frame.numpy())
    assert infos["_frames"].all() and infos["goal_text"].tolist() == list(saved.goals)
    same(envs.step(second), expected)
    # The other way round: rows follow the order of the index.
    _, infos = envs.set_state(saved, index=[2, 1, 0])
    assert infos["goal_text"].tolist() == list(saved.goals)[::-1]
    np.testing.assert_array_equal(envs.step(second[::-1])[4]["frames"], expected[4]["frames"][::-1])
    # One into one: the others go on.
    after = envs.get_state()
    obs, infos = envs.set_state(saved.rows([0]), index=1)
    assert infos["_frames"].tolist() == [False, True, False]
    assert envs.get_state().chunk.tolist() == [2, 1, 2]
    np.testing.assert_array_equal(obs["rgb"][[0, 2]], after.newest_frame.numpy()[[0, 2]])
    frames = envs.step(np.repeat(second[:1], 3, axis=0))[4]["frames"]
    np.testing.assert_array_equal(frames[1], expected[4]["frames"][0])


def test_a_state_needs_no_reset_before_it(pipeline: StreamPipeline, envs: DreamVectorEnv) -> None:
    envs.reset(seed=0)
    made = DreamVectorEnv(2, pipeline, max_seconds=1.0)
    made.set_state(envs.fork(0, 2))
    assert [made.step(action)[3].tolist() for action in actions(2, 2)] == [[False] * 2, [True] * 2]
    # A truncated episode that is set anew is not reset.
    made.set_state(envs.get_state([1, 2]))
    assert made.step(actions(1, 2)[0])[3].tolist() == [False] * 2
    assert made.get_state().chunk.tolist() == [1, 1]


def test_a_fork_is_the_same_dream_and_shares_nothing(envs: DreamVectorEnv) -> None:
    first, second = actions(2, 3)
    envs.reset(seed=0)
    envs.step(first)
    fork = envs.fork(2, 2)
    assert len(fork) == 2 and fork.goals == (envs.goal_texts[2],) * 2
    envs.set_state(fork, index=[0, 1])
    alike = np.repeat(second[2:], 3, axis=0)
    kept = envs.get_state()
    frames = envs.step(alike)[4]["frames"]
    np.testing.assert_array_equal(frames[0], frames[2])
    np.testing.assert_array_equal(frames[1], frames[2])
    # Writing into the fork, into one row of it or into a saved state reaches nobody else.
    envs.set_state(kept)
    clean = [value.clone() for value in kept.rows([1]).tensors().values()]
    for name, value in fork.tensors().items():
        value[0] = 0
        kept.tensors()[name][0] = 0
    for value, before in zip(kept.rows([1]).tensors().values(), clean, strict=True):
        assert torch.equal(value, before)
    np.testing.assert_array_equal(envs.step(alike)[4]["frames"], frames)


def test_goals_change_in_the_middle_of_an_episode(envs: DreamVectorEnv) -> None:
    first, second = actions(2, 3)
    envs.reset(seed=0)
    envs.step(first)
    alone = DreamEnv(envs.model.pipeline)
    alone.set_state(envs.get_state(1))
    plain = envs.get_state()
    undisturbed = envs.step(second)
    envs.set_state(plain)
    own = alone.set_goal("climb the mountain")
    obs = envs.set_goal(1, "climb the mountain")
    np.testing.assert_array_equal(obs["goal"][1], own["goal"])
    changed, unchanged = (state.cache.tensors()["0.text.key"] for state in (envs.get_state(), plain))
    assert [bool((changed[i] == unchanged[i]).all()) for i in range(3)] == [True, False, True]
    obs, _, _, _, infos = envs.step(second)
    expected = alone.step(second[1])
    assert infos["goal_text"][1] == "climb the mountain" == envs.goal_texts[1]
    np.testing.assert_array_equal(infos["frames"][1], expected[4]["frames"])
    for i in (0, 2):
        np.testing.assert_array_equal(infos["frames"][i], undisturbed[4]["frames"][i])
    envs.set_goal(None, "rest")
    envs.set_goal([2, 0], ["run", "swim"])
    assert envs.goal_texts == ("swim", "rest", "run")


def test_bad_actions_change_nothing(envs: DreamVectorEnv) -> None:
    envs.reset(seed=0)
    good = actions(1, 3)[0]
    for action, told in (
        (good[:2], "expected float32"),
        (good[0], "expected float32"),
        (np.full(good.shape, "a"), "expected float32"),
        (np.where(np.arange(3)[:, None, None] == 1, np.nan, good), "NaN"),
        (good * 100, "from -8 to 8"),
        (torch.full(good.shape, torch.inf), "infinity"),
        (torch.ones(good.shape, dtype=torch.bool), "expected float32"),
        (None, "expected float32"),
    ):
        with pytest.raises(UserError, match=told):
            envs.step(action)
    frames = envs.step(good)[4]["frames"]
    envs.reset(seed=0)
    np.testing.assert_array_equal(envs.step(good)[4]["frames"], frames)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"seed": [1, 2]}, "2 seeds for 3"),
        ({"seed": -1}, "from 0 on"),
        ({"seed": [0, 1, 1.5]}, "from 0 on"),
        ({"options": {"gaol": "dance"}}, "'gaol' is unknown"),
        ({"options": {"goal": ["dance", "sing"]}}, "2 entries"),
        ({"options": {"goal": ["dance", "", "sing"]}}, "empty"),
        ({"options": {"first_frame": np.zeros((2, SIZE, SIZE, 3), np.uint8), "goal": "sing"}}, "2 entries"),
        ({"options": {"reset_mask": np.ones(2, bool)}}, r"expected bool \(3,\)"),
        ({"options": {"reset_mask": np.ones(3)}}, "expected bool"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, "False everywhere"),
    ],
)
def test_bad_resets_change_nothing(envs: DreamVectorEnv, how: dict, told: str) -> None:
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(UserError, match=told):
        envs.reset(**how)
    for one, other in zip(before.tensors().values(), envs.get_state().tensors().values(), strict=True):
        assert torch.equal(one, other)


def test_a_reset_that_fails_halfway_must_be_made_up_for(envs: DreamVectorEnv) -> None:
    envs.reset(seed=0)
    mask = np.array([False, True, False])
    with pytest.raises(UserError, match="tokens"):
        envs.reset(options={"goal": "and then " * 40, "reset_mask": mask})
    with pytest.raises(ResetNeeded, match=r"\[1\]"):
        envs.step(actions(1, 3)[0])
    envs.reset(options={"reset_mask": mask})
    envs.step(actions(1, 3)[0])


def test_environments_that_are_not_there(envs: DreamVectorEnv) -> None:
    envs.reset(seed=0)
    state = envs.get_state(0)
    for index in (3, -1, True, "0", [0, 3]):
        for call in (envs.get_state, lambda i: envs.set_state(state, i), lambda i: envs.set_goal(i, "dance")):
            with pytest.raises(UserError, match="there is no environment"):
                call(index)
    for index in (3, -1):
        with pytest.raises(UserError, match="there is no environment"):
            envs.fork(index, 2)
    with pytest.raises(UserError, match="from 1 on"):
        envs.fork(0, 0)
    with pytest.raises(UserError, match="each once"):
        envs.set_state(envs.fork(0, 2), [1, 1])
    with pytest.raises(UserError, match="2 texts for 3"):
        envs.set_goal(None, ["dance", "sing"])
    with pytest.raises(UserError, match="empty"):
        envs.set_goal([0, 1], ["dance", " "])
    assert envs.goal_texts[0] == state.goals[0]


def test_states_that_do_not_fit(envs: DreamVectorEnv, weights: Path, pipeline: StreamPipeline) -> None:
    envs.reset(seed=0)
    for state, index in ((envs.get_state([0, 1]), None), (envs.get_state(), 0), (envs.get_state(), [0, 1])):
        with pytest.raises(UserError, match="the state holds"):
            envs.set_state(state, index)
    with pytest.raises(UserError, match="expected a DreamState"):
        envs.set_state({"state": 1})
    other = DreamVectorEnv(3, StreamPipeline.from_pretrained(weights))  # in bf16, so its dreams are others
    other.reset(seed=0)
    with pytest.raises(UserError, match="of the model"):
        envs.set_state(other.get_state())
    assert envs.get_state().chunk.tolist() == [0, 0, 0]


def test_before_reset_and_after_close(pipeline: StreamPipeline) -> None:
    made = DreamVectorEnv(2, pipeline, render_mode="rgb_array")
    uses = (
        lambda: made.step(actions(1, 2)[0]),
        lambda: made.get_state(),
        lambda: made.fork(0, 1),
        lambda: made.set_goal(0, "dance"),
    )
    for use in (*uses, made.render):
        with pytest.raises(ResetNeeded):
            use()
    with pytest.raises(UserError, match="never began"):
        made.reset(options={"reset_mask": np.array([True, False])})
    made.reset(seed=0)
    state = made.get_state()
    with pytest.raises(UserError, match="never began"):
        DreamVectorEnv(2, pipeline).set_state(state.rows([0]), 0)
    made.close()
    made.close()
    for use in (*uses, made.reset, lambda: made.set_state(state)):
        with pytest.raises(ClosedEnvironmentError):
            use()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": 1.5}, "num_envs"),
        ({"max_seconds": 0.7}, "max_seconds"),
        ({"max_seconds": (1.0, 2.0, 3.0)}, "3 entries"),
        ({"render_mode": "human"}, "render mode"),
        ({"autoreset_mode": "Never"}, "'NextStep'"),
        ({"output": "jax"}, "numpy or torch"),
    ],
)
def test_rejects_bad_arguments(pipeline: StreamPipeline, how: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        DreamVectorEnv(**{"num_envs": 2, "model": pipeline, **how})


def test_more_environments_than_memory_allows(pipeline: StreamPipeline, envs: DreamVectorEnv) -> None:
    envs.reset(seed=0)
    each = bytes_per_dream(envs.get_state(0))
    assert each > sum(x.numel() * x.element_size() for x in envs.get_state(0).tensors().values())
    require_memory(10, each, 10 * each)
    require_memory(10**9, each, None)
    with pytest.raises(UserError, match=r"11 environments need about .* GB .* are free; make at most 10"):
        require_memory(11, each, 10 * each)
    with pytest.raises(UserError, match="environments need about"):
        DreamVectorEnv(10**9, pipeline)
