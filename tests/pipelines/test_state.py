"""The state of dreams as a value: chosen, forked, joined, saved, refused; and what rows of a batch owe each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.pipelines import DreamState, StreamPipeline
from egotwin_sim.pipelines.stream import Stream
from tests.tiny import SIZE, TOKEN_CHANNELS, standing, tiny_pipeline

GOALS = ("walk to the red box", "open the door", "turn left and look around")


@pytest.fixture(scope="module")
def pipeline() -> StreamPipeline:
    pipeline = tiny_pipeline()
    pipeline.precision = "fp32"
    return pipeline


def frame(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def begin(pipeline: StreamPipeline, rows: list[int]) -> DreamState:
    goals = [GOALS[row % len(GOALS)] for row in rows]
    seeds = [10 + row for row in rows]
    return pipeline.start_batch([frame(r) for r in rows], [standing()] * len(rows), goals, seeds=seeds, episodes=rows)


def tokens(step: int, rows: list[int]) -> np.ndarray:
    pairs = [np.random.default_rng((step, row)).standard_normal((2, TOKEN_CHANNELS)) for row in rows]
    return 0.1 * np.stack(pairs).astype(np.float32)


def rolled(pipeline: StreamPipeline, state: DreamState, rows: list[int], steps: range) -> tuple[DreamState, np.ndarray]:
    frames = []
    for step in steps:
        chunk = pipeline.generate(state, tokens(step, rows))
        state = pipeline.finalize(state, chunk)
        frames.append(chunk.frames.numpy())
    return state, np.concatenate(frames, axis=1)


def same(a: DreamState, b: DreamState) -> bool:
    one, other = a.tensors(), b.tensors()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_row_is_the_dream_alone(pipeline: StreamPipeline) -> None:
    rows = [0, 1, 2]
    state, frames = rolled(pipeline, begin(pipeline, rows), rows, range(5))
    assert state.chunk.tolist() == [5, 5, 5] and state.goals == GOALS
    for row in rows:
        _, alone = rolled(pipeline, begin(pipeline, [row]), [row], range(5))
        np.testing.assert_array_equal(alone[0], frames[row])


def test_rows_of_different_age(pipeline: StreamPipeline) -> None:
    older, _ = rolled(pipeline, begin(pipeline, [0]), [0], range(4))
    both = DreamState.join([older, begin(pipeline, [1])])
    assert both.chunk.tolist() == [4, 0]
    chunk = pipeline.generate(both, np.concatenate([tokens(4, [0]), tokens(0, [1])]))
    _, expected = rolled(pipeline, begin(pipeline, [0]), [0], range(5))
    np.testing.assert_array_equal(chunk.frames[0].numpy(), expected[0, -4:])
    _, expected = rolled(pipeline, begin(pipeline, [1]), [1], range(1))
    np.testing.assert_array_equal(chunk.frames[1].numpy(), expected[0])


def test_restored_state_gives_the_same_frames(pipeline: StreamPipeline, tmp_path: Path) -> None:
    state, _ = rolled(pipeline, begin(pipeline, [0, 1]), [0, 1], range(3))
    state.save(tmp_path / "dream.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["dream.safetensors"]
    loaded = DreamState.load(tmp_path / "dream.safetensors")
    assert same(state, loaded) and loaded.goals == state.goals and loaded.model == pipeline.fingerprint
    _, expected = rolled(pipeline, state, [0, 1], range(3, 6))
    _, again = rolled(pipeline, loaded, [0, 1], range(3, 6))
    np.testing.assert_array_equal(again, expected)


def test_a_fork_does_not_alias(pipeline: StreamPipeline) -> None:
    state, _ = rolled(pipeline, begin(pipeline, [0, 1]), [0, 1], range(2))
    fork = state.rows([1, 1])
    assert fork.goals == (GOALS[1], GOALS[1])
    before = {name: value.clone() for name, value in state.tensors().items()}
    for value in fork.tensors().values():
        value[0] = 0
    assert all(torch.equal(before[name], value) for name, value in state.tensors().items())
    assert not torch.equal(fork.features[0], fork.features[1])


def test_put_replaces_rows_and_leaves_the_others(pipeline: StreamPipeline) -> None:
    state, _ = rolled(pipeline, begin(pipeline, [0, 1, 2]), [0, 1, 2], range(2))
    fresh = begin(pipeline, [7])
    mixed = state.put([1], fresh)
    assert mixed.chunk.tolist() == [2, 0, 2] and mixed.goals[1] == fresh.goals[0]
    assert same(mixed.rows([0, 2]), state.rows([0, 2])) and same(mixed.rows([1]), fresh)


def test_goal_changes_from_now_on(pipeline: StreamPipeline) -> None:
    state, _ = rolled(pipeline, begin(pipeline, [0, 1]), [0, 1], range(2))
    changed = pipeline.set_goal(state, [1], ["sit down"])
    assert changed.goals == (GOALS[0], "sit down")
    _, before = rolled(pipeline, state, [0, 1], range(2, 3))
    _, after = rolled(pipeline, changed, [0, 1], range(2, 3))
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1] != after[1]).any()
    back = pipeline.set_goal(changed, [1], [GOALS[1]])
    assert same(back, state)


def test_refused(pipeline: StreamPipeline, tmp_path: Path) -> None:
    state = begin(pipeline, [0])
    with pytest.raises(UserError, match="no dream 3"):
        state.rows([3])
    with pytest.raises(UserError, match="no dream -1"):
        state.put([-1], state)
    with pytest.raises(UserError, match="2 rows were named for 1"):
        state.put([0, 0], state)
    other = tiny_pipeline(window=3)
    with pytest.raises(UserError, match="of the model"):
        other.generate(state, tokens(0, [0]))
    with pytest.raises(UserError, match="different models"):
        DreamState.join([state, begin(other, [0])])
    with pytest.raises(UserError, match="one dream"):
        Stream(pipeline, DreamState.join([state, state]))
    with pytest.raises(UserError, match="no file"):
        DreamState.load(tmp_path / "nothing")
    (tmp_path / "broken").write_bytes(b"not a state")
    with pytest.raises(UserError, match="no whole dream state"):
        DreamState.load(tmp_path / "broken")
    with pytest.raises(UserError, match="no folder"):
        state.save(tmp_path / "missing" / "dream")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "old", metadata={"format": "egotwin dream state 0"})
    with pytest.raises(UserError, match="of this version"):
        DreamState.load(tmp_path / "old")


def test_a_row_that_is_not_finite_stands_still(pipeline: StreamPipeline) -> None:
    state, _ = rolled(pipeline, begin(pipeline, [0, 1]), [0, 1], range(1))
    with torch.inference_mode():
        state.memory.frames[0] = torch.nan
    chunk = pipeline.generate(state, tokens(1, [0, 1]))
    assert chunk.finite.tolist() == [False, True]
    after = pipeline.finalize(state, chunk)
    assert after.chunk.tolist() == [1, 2]
    _, expected = rolled(pipeline, begin(pipeline, [1]), [1], range(2))
    np.testing.assert_array_equal(chunk.frames[1].numpy(), expected[0, -4:])
