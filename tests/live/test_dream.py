"""A dream on the simulation's time line, and what re-anchoring does to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.live.dream import ANCHOR_TOLERANCE, MARGIN, LiveDream
from egotwin_sim.motion import Motion
from egotwin_sim.motion.head_centric import set_down
from egotwin_sim.pipelines import StreamPipeline
from tests.tiny import SIZE, TOKEN_CHANNELS, tiny_pipeline, walking


@pytest.fixture(scope="module")
def pipeline() -> StreamPipeline:
    return tiny_pipeline()


def frame(seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, TOKEN_CHANNELS)).astype(np.float32) * 0.1


def body(x: float = 2.0, y: float = -1.0, yaw: float = 1.0) -> Motion:
    return walking(3)[:1].transformed(yaw, [x, y, 0.0])


@pytest.fixture
def dream(pipeline: StreamPipeline) -> LiveDream:
    made = LiveDream(pipeline, seed=4)
    made.begin(frame(size=2 * SIZE), body(), "walk to the door", at=10.0)
    return made


def test_chunks_follow_one_another_in_the_simulations_world(dream: LiveDream) -> None:
    assert dream.begun and dream.goal == "walk to the door" and len(dream.recent) == 1
    last, end = body(), 10.0
    for step in range(3):
        assert dream.step_id == step and dream.end_s == pytest.approx(end)
        chunk = dream.step(tokens(step))
        np.testing.assert_allclose(chunk.before.root_position, last.root_position, atol=1e-5)
        np.testing.assert_allclose(chunk.motion.T_world_head(), chunk.T_world_head, atol=1e-5)
        np.testing.assert_allclose(chunk.motion_times, end + np.arange(1, 9) / 16)
        np.testing.assert_allclose(chunk.frame_times, end + np.arange(1, 5) / 8)
        assert chunk.step_id == step and chunk.frames.shape == (4, SIZE, SIZE, 3) and chunk.end_s == end + 0.5
        np.testing.assert_array_equal(chunk.tokens, tokens(step))
        np.testing.assert_allclose(dream.recent.root_position, chunk.recent.root_position, atol=1e-5)
        last, end = chunk.motion[-1:], end + 0.5


def test_a_chunk_that_is_ready_too_late_begins_later(dream: LiveDream) -> None:
    assert dream.step(now=lambda: 10.0).deadline_s == 10.0
    late = dream.step(now=lambda: 11.0)
    assert late.deadline_s == pytest.approx(11.0 + MARGIN)
    assert dream.end_s == pytest.approx(11.5 + MARGIN)
    assert dream.step(now=lambda: 11.2).deadline_s == pytest.approx(11.5 + MARGIN)


def test_the_same_seed_gives_the_same_and_a_new_beginning_another(pipeline: StreamPipeline) -> None:
    def rolled(dream: LiveDream) -> np.ndarray:
        dream.begin(frame(), body(), "walk", at=0.0)
        return dream.step(tokens(0)).frames

    one, other = LiveDream(pipeline, 4), LiveDream(pipeline, 4)
    first = rolled(one)
    np.testing.assert_array_equal(first, rolled(other))
    assert (first != rolled(one)).any(), "the second episode"
    assert one.step_id == 2, "steps go on being counted"
    with pytest.raises(UserError, match="seed"):
        LiveDream(pipeline, -1)


def test_a_failed_step_does_not_advance() -> None:
    pipeline = tiny_pipeline()
    dream = LiveDream(pipeline)
    dream.begin(frame(), body(), "walk", at=0.0)
    dream.step(tokens(0))
    weight = next(p for n, p in pipeline.transformer.named_parameters() if n.startswith("proj_out"))
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
    for attempt in (lambda: dream.step(tokens(1)), lambda: dream.anchor(frame(), body(), at=0.0)):
        with pytest.raises(FloatingPointError, match="not finite"):
            attempt()
        assert dream.step_id == 1 and dream.end_s == 0.5
    with pytest.raises(UserError, match="motion tokens"):
        dream.step(np.zeros((3, 3)))
    with torch.no_grad():
        weight.copy_(kept)
    assert dream.step(tokens(1)).step_id == 1


def test_anchored_at_the_end_of_what_was_dreamt_it_goes_on_from_there(dream: LiveDream) -> None:
    for step in range(2):
        dream.step(tokens(step))
    found = walking(5)[3:5].transformed(0.5, [4.0, 4.0, 0.0])
    dream.anchor(frame(9, 3 * SIZE), found, at=11.0)
    assert dream.end_s == 11.0 and dream.step_id == 2 and dream.goal == "walk to the door"
    np.testing.assert_allclose(dream.recent[-1:].T_world_head(), found[-1:].T_world_head(), atol=1e-5)
    assert len(dream.recent) == 9, "what led there is what was dreamt, as if it had led there"
    chunk = dream.step(tokens(2))
    np.testing.assert_allclose(chunk.before.root_position, found[-1:].root_position, atol=1e-5)
    assert chunk.deadline_s == 11.0
    # When the body waits for the next step, any moment will do.
    dream.anchor(frame(9), found, at=12.34)
    assert dream.end_s == 12.34


def test_anchored_in_the_past_it_follows_what_was_handed_out_from_where_the_body_was(dream: LiveDream) -> None:
    """The tiny motion VAE cannot code a motion, so only where it is led is looked at."""
    chunks = [dream.step(tokens(step)) for step in range(3)]
    drift = 0.7, np.array([0.3, -0.2, 0.0])
    seen = chunks[0].motion[-1:]
    found = seen.transformed(*drift)
    parts = dream._handed_out(found, at=10.5, steps=2)
    assert [len(part) for part in parts] == [9, 9]
    wanted = Motion.concatenate([seen, chunks[1].motion, chunks[2].motion]).transformed(*drift)
    np.testing.assert_allclose(parts[0].root_position, wanted.root_position[:9], atol=1e-4)
    np.testing.assert_allclose(parts[1].root_position, wanted.root_position[8:], atol=1e-4)
    dream.anchor(frame(9), found, at=10.5)
    assert dream.end_s == pytest.approx(11.5) and dream.step_id == 3
    # A frame a little later than the end of a step shifts the time line by as much.
    dream.anchor(frame(9), found, at=10.5 + 0.03)
    assert dream.end_s == pytest.approx(11.53)


def test_anchored_in_the_past_it_goes_back_to_what_it_knew_then_and_keeps_the_goal_of_now(dream: LiveDream) -> None:
    chunks = [dream.step(tokens(step)) for step in range(3)]
    past, number = dream._before[1], dream._state.chunk.tolist()
    dream.set_goal("open the door")
    dream.anchor(frame(9), chunks[0].motion[-1:], at=10.5)
    assert dream._state.chunk.tolist() == number, "two steps undone, two steps made again"
    anchored = dream._before[1]
    assert anchored.goals == dream._state.goals == ("open the door",)
    np.testing.assert_array_equal(anchored.newest_frame[0].numpy(), frame(9))
    assert anchored.chunk.tolist() == past.chunk.tolist()
    # Something in the way undoes all of it.
    dream.anchor(frame(9), chunks[0].motion[-1:], at=10.6, cut=True)
    assert dream.end_s == 10.6 and dream._state.chunk.tolist() == past.chunk.tolist() and dream.at_beginning


def test_the_way_that_was_handed_out_goes_round_earlier_anchors_and_waits(dream: LiveDream) -> None:
    first = dream.step(tokens(0))
    dream.anchor(frame(1), first.motion[-1:].transformed(0.0, [1.0, 0.0, 0.0]), at=10.5)
    second = dream.step(tokens(1), now=lambda: 10.75)
    assert second.deadline_s == pytest.approx(10.75 + MARGIN)
    found = first.motion[-1:]
    (part, _) = dream._handed_out(found, at=10.5, steps=2)
    np.testing.assert_allclose(part.root_position[:6], np.repeat(found.root_position, 6, axis=0), atol=1e-4)
    # The metre by which the dream was moved is none that the body went.
    goes_on = set_down(second.motion, of=second.before, at=found)
    last = [np.interp(11.0, second.motion_times, goes_on.root_position[:, axis]) for axis in range(3)]
    np.testing.assert_allclose(part.root_position[8], last, atol=1e-4)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda dream: dream.anchor(frame(), body(), at=10.25), "off the end of a step"),
        (lambda dream: dream.anchor(frame(), body(), at=10.5 + 2 * ANCHOR_TOLERANCE), "off the end of a step"),
        (lambda dream: dream.anchor(frame(), body(), at=8.0), "give newer ones"),
        (lambda dream: dream.anchor(frame()[:, :5], body(), at=10.5), "picture"),
        (lambda dream: dream.anchor(frame(), walking(3).resampled(8.0)[:1], at=10.5), "frames/s"),
        (lambda dream: dream.begin(frame(), body(), " ", at=0.0), "empty"),
        (lambda dream: dream.begin(frame().astype(float), body(), "walk", at=0.0), "picture"),
        (lambda dream: dream.set_goal(""), "empty"),
        (lambda dream: dream.set_goal("walk " * 200), "token"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    dream: LiveDream, attempt: Callable[[LiveDream], None], message: str
) -> None:
    for step in range(2):
        dream.step(tokens(step))
    state, end = dream._state, dream.end_s
    with pytest.raises(UserError, match=message):
        attempt(dream)
    assert dream._state is state and dream.end_s == end


def test_nothing_goes_on_before_a_beginning(pipeline: StreamPipeline) -> None:
    dream = LiveDream(pipeline)
    assert not dream.begun and dream.goal == ""
    for attempt in (dream.step, lambda: dream.set_goal("walk"), lambda: dream.anchor(frame(), body(), at=0.0)):
        with pytest.raises(UserError, match="no dream yet"):
            attempt()
