"""A dream as a value: taken, set, saved, and gone on with elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from egotwin_sim.envs import DreamEnv, RoomEnv
from egotwin_sim.errors import UserError
from egotwin_sim.pipelines import DreamState, StreamPipeline
from tests.tiny import SIZE

CONTINUE = """
import sys
import numpy as np
from egotwin_sim.envs import DreamEnv
from egotwin_sim.pipelines import DreamState

weights, state, actions, frames = sys.argv[1:]
env = DreamEnv(weights)
env.set_state(DreamState.load(state))
np.save(frames, [env.step(action)[4]["frames"] for action in np.load(actions)])
"""


@pytest.fixture(scope="module")
def env(weights: Path) -> Iterator[DreamEnv]:
    made = DreamEnv(weights, max_seconds=3.0, render_mode="rgb_array")
    yield made
    made.close()


def actions(steps: int) -> np.ndarray:
    return 0.4 * np.random.default_rng(0).standard_normal((steps, 2, 32)).astype(np.float32)


def test_restored_dreams_repeat_to_the_bit(env: DreamEnv) -> None:
    env.reset(seed=0)
    before, after = actions(6)[:2], actions(6)[2:]
    for action in before:
        obs, _, _, _, info = env.step(action)
    state = env.get_state()
    first = [env.step(action) for action in after]
    env.reset(seed=9)
    shown, told = env.set_state(state)
    for key, value in obs.items():
        np.testing.assert_array_equal(shown[key], value)
    np.testing.assert_array_equal(env.render(), obs["rgb"])
    np.testing.assert_array_equal(told["frames"], np.repeat(obs["rgb"][None], 4, axis=0))
    np.testing.assert_allclose(told["T_world_head"], np.repeat(info["T_world_head"][-1:], 8, axis=0), atol=1e-6)
    assert told["goal_text"] == info["goal_text"]
    for action, expected in zip(after, first, strict=True):
        again = env.step(action)
        np.testing.assert_array_equal(again[4]["frames"], expected[4]["frames"])
        np.testing.assert_array_equal(again[0]["motion"], expected[0]["motion"])
        np.testing.assert_array_equal(again[4]["T_world_head"], expected[4]["T_world_head"])
        # Six steps are three seconds, counted from where the dream began.
        assert again[1:4] == expected[1:4]
    assert first[-1][3] and not first[-2][3]


def test_the_next_reset_is_what_it_would_have_been(env: DreamEnv) -> None:
    env.reset(seed=0)
    state = env.get_state()
    expected = env.reset()
    env.reset(seed=0)
    env.set_state(state)
    obs, info = env.reset()
    assert info["goal_text"] == expected[1]["goal_text"]
    np.testing.assert_array_equal(obs["rgb"], expected[0]["rgb"])


def test_the_room_stays_with_its_own_dream(env: DreamEnv) -> None:
    env.reset(seed=1)
    env.step(actions(1)[0])
    room, state, place = env.start, env.get_state(), env.recent_in_room().T_world_head()[-1]
    env.set_state(state)
    assert env.start is room
    np.testing.assert_allclose(env.recent_in_room().T_world_head()[-1], place, atol=1e-5)
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    for how in ({"seed": 2}, {}, {"seed": 1, "options": {"goal": "dance", "first_frame": picture}}):
        env.reset(**how)
        own, own_state = env.start, env.get_state()
        env.set_state(state)
        assert env.start is None
        with pytest.raises(UserError, match="no room"):
            env.recent_in_room()
        env.set_state(own_state)
        assert env.start is own


def test_goal_changes_in_the_middle_of_an_episode(env: DreamEnv) -> None:
    env.reset(seed=0, options={"goal": "open the door"})
    one, two = actions(2)
    obs = env.step(one)[0]
    state = env.get_state()
    changed = env.set_goal("dance in the rain")
    np.testing.assert_array_equal(changed["rgb"], obs["rgb"])
    assert not np.allclose(changed["goal"], obs["goal"])
    later, _, _, _, info = env.step(two)
    assert info["goal_text"] == env.goal_text == "dance in the rain"
    np.testing.assert_array_equal(later["goal"], changed["goal"])
    env.set_state(state)
    assert not np.array_equal(env.step(two)[4]["frames"], info["frames"])  # the text is heard
    # The same as having had that goal's keys all along since the change, and a state keeps it.
    env.set_state(state)
    env.set_goal("dance in the rain")
    kept = env.get_state()
    env.reset(seed=5)
    obs, told = env.set_state(kept)
    assert told["goal_text"] == "dance in the rain"
    np.testing.assert_array_equal(obs["goal"], changed["goal"])
    np.testing.assert_array_equal(env.step(two)[4]["frames"], info["frames"])
    for text, why in (("", "empty"), (3, "expected a string"), ("and then " * 40, "tokens")):
        with pytest.raises(UserError, match=why):
            env.set_goal(text)
    assert env.goal_text == "dance in the rain"


def test_a_state_is_a_copy(env: DreamEnv) -> None:
    env.reset(seed=0)
    env.step(actions(1)[0])
    state = env.get_state()
    expected = env.step(actions(2)[1])[4]["frames"]
    env.set_state(state)
    for value in state.tensors().values():
        value.zero_()
    np.testing.assert_array_equal(env.step(actions(2)[1])[4]["frames"], expected)


def test_another_process_dreams_on(env: DreamEnv, weights: Path, tmp_path: Path) -> None:
    env.reset(seed=0)
    before, *after = actions(3)
    env.step(before)
    env.get_state().save(tmp_path / "state.safetensors")
    np.save(tmp_path / "actions.npy", after)
    expected = [env.step(action)[4]["frames"] for action in after]
    files = [str(tmp_path / name) for name in ("state.safetensors", "actions.npy", "frames.npy")]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([sys.executable, "-c", CONTINUE, str(weights), *files], check=True, env={**os.environ, **threads})
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), expected)


def test_rejects_states_that_do_not_fit(env: DreamEnv, weights: Path, tmp_path: Path) -> None:
    env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(UserError, match="holds 2 dreams"):
        env.set_state(state.rows([0, 0]))
    with pytest.raises(UserError, match="expected a DreamState"):
        env.set_state(None)
    other = DreamEnv(StreamPipeline.from_pretrained(weights, precision="fp32"))
    other.reset(seed=0)
    with pytest.raises(UserError, match="of the model"):
        env.set_state(other.get_state())
    for value, path in ((state, tmp_path / "state"), (b"no state", tmp_path / "other")):
        value.save(path) if isinstance(value, DreamState) else path.write_bytes(value)
    path = tmp_path / "state"
    path.write_bytes(path.read_bytes().replace(b"dream state 1", b"dream state 0"))
    with pytest.raises(UserError, match="of this version"):
        DreamState.load(path)
    with pytest.raises(UserError, match="no whole dream state"):
        DreamState.load(tmp_path / "other")
    np.testing.assert_array_equal(env.step(actions(1)[0])[0]["goal"], env.set_state(state)[0]["goal"])


def test_before_reset_and_after_close(weights: Path) -> None:
    for kind in (DreamEnv, RoomEnv):
        made = kind(weights)
        made.reset(seed=0)
        made.close()
        made.close()
        for use in (lambda made=made: made.step(actions(1)[0]), made.reset):
            with pytest.raises(ClosedEnvironmentError, match="closed"):
                use()
    fresh = DreamEnv(weights)
    for use in (fresh.get_state, lambda: fresh.set_goal("dance")):
        with pytest.raises(ResetNeeded):
            use()
    fresh.reset(seed=0)
    state = fresh.get_state()
    needs_no_reset = DreamEnv(weights)
    needs_no_reset.set_state(state)
    needs_no_reset.step(actions(1)[0])
    fresh.close()
    for use in (fresh.get_state, lambda: fresh.set_state(state), lambda: fresh.set_goal("dance")):
        with pytest.raises(ClosedEnvironmentError):
            use()


def test_without_a_seed_episodes_differ(weights: Path) -> None:
    frames = []
    for _ in range(2):
        made = gymnasium.make("EgoTwin/Dream-v0", model=weights)
        made.reset(options={"goal": "dance", "first_frame": np.zeros((SIZE, SIZE, 3), np.uint8)})
        frames.append(made.step(actions(1)[0])[4]["frames"])
    assert not np.array_equal(*frames)
