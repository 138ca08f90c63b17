"""The dreamer's thread, mostly without the thread: what is due is done in an order that does not depend on luck."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.live.dream import DreamtChunk
from egotwin_sim.live.dreamer import Dreamer, StepRequest
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines import StreamPipeline
from tests.tiny import SIZE, TOKEN_CHANNELS, tiny_pipeline, walking

WAIT = 120.0  # seconds, far more than any of this takes


@pytest.fixture(scope="module")
def pipeline() -> StreamPipeline:
    return tiny_pipeline()


def frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


HORIZON = 0.3  # seconds, less than a chunk by what an anchor needs: one chunk is enough


def body() -> Motion:
    return walking(3)[:1]


def tokens(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, TOKEN_CHANNELS)).astype(np.float32) * 0.1


def begun(pipeline: StreamPipeline, horizon: float = HORIZON, **options: Any) -> tuple[Dreamer, list[DreamtChunk]]:
    chunks: list[DreamtChunk] = []
    dreamer = Dreamer(pipeline, on_chunk=chunks.append, horizon=horizon, **options)
    dreamer.begin(frame(), body(), "walk to the door")
    assert dreamer.work()
    return dreamer, chunks


def work(dreamer: Dreamer) -> int:
    done = 0
    while dreamer.work():
        done += 1
    return done


def test_it_keeps_as_far_ahead_as_it_was_told_and_no_farther(pipeline: StreamPipeline) -> None:
    dreamer, chunks = begun(pipeline, horizon=0.6)
    assert work(dreamer) == 2 == len(chunks), "one second is more than the horizon"
    assert dreamer.buffered_until == 1.0 and dreamer.state == "dreaming"
    dreamer.tell_time(0.39)
    assert work(dreamer) == 0
    dreamer.tell_time(0.41)
    assert work(dreamer) == 1
    assert [chunk.deadline_s for chunk in chunks] == [0.0, 0.5, 1.0]
    assert dreamer.status()["late"] == 0 and dreamer.status()["chunks"] == 3


def test_a_step_that_comes_too_late_is_counted_and_begins_later(pipeline: StreamPipeline) -> None:
    dreamer, chunks = begun(pipeline)
    work(dreamer)
    dreamer.tell_time(3.0)
    dreamer.work()
    assert chunks[-1].deadline_s > 3.0 and dreamer.status()["late"] == 1


def test_nothing_is_due_before_a_beginning(pipeline: StreamPipeline) -> None:
    dreamer = Dreamer(pipeline, horizon=HORIZON)
    dreamer.tell_time(5.0)
    assert not dreamer.work() and dreamer.state == "waiting for a start"
    assert "no dream yet" in str(dreamer.set_goal("walk"))
    dreamer.anchor(frame(), body(), 5.0)
    assert not dreamer.work()
    dreamer.begin(frame(), body(), "walk")
    work(dreamer)
    assert dreamer.buffered_until == 5.5, "it begins at the time told last"


def test_the_latest_goal_and_the_latest_anchor_count(pipeline: StreamPipeline) -> None:
    dreamer, chunks = begun(pipeline)
    for goal in ("sit down", "open the door", "turn to the table"):
        assert dreamer.set_goal(goal) is None
    work(dreamer)
    assert chunks[-1].goal == "turn to the table" and dreamer.status()["dropped"] == 2
    dreamer.tell_time(0.5)
    dreamer.anchor(frame(), body(), 0.25)
    dreamer.anchor(frame(1), body().transformed(0.0, [3.0, 0.0, 0.0]), 0.5)
    work(dreamer)
    assert dreamer.status()["dropped"] == 3 and dreamer.status()["anchors"] == 1
    assert chunks[-1].before.root_position[0, 0] - body().root_position[0, 0] == pytest.approx(3.0, abs=1e-4)


def test_a_flood_of_goals_and_anchors_does_not_stop_it(pipeline: StreamPipeline) -> None:
    dreamer, chunks = begun(pipeline)
    work(dreamer)
    dreamer.tell_time(0.5)
    for turn in range(3):
        dreamer.set_goal(f"turn {turn}")
        dreamer.anchor(frame(), body(), 0.5)
        dreamer.work()
        if len(chunks) > 1:
            break
        dreamer.set_goal("go on")
        dreamer.anchor(frame(), body(), 0.5)
        dreamer.work()
    assert len(chunks) == 2 and dreamer.status()["anchors"] == 1


@pytest.mark.parametrize("bad", ["", "  ", None, 3])
def test_an_empty_goal_is_refused(pipeline: StreamPipeline, bad: Any) -> None:
    dreamer, _ = begun(pipeline)
    assert "empty" in str(dreamer.set_goal(bad))
    assert dreamer.status()["refused"] == 1 and dreamer.dream.goal == "walk to the door"


def test_a_clock_that_goes_backwards_is_refused(pipeline: StreamPipeline) -> None:
    dreamer, chunks = begun(pipeline)
    work(dreamer)
    assert dreamer.tell_time(2.0) is None
    assert "backwards" in str(dreamer.tell_time(1.0)) and "backwards" in str(dreamer.tell_time(float("nan")))
    dreamer.work()
    assert chunks[-1].deadline_s > 2.0 and dreamer.status()["refused"] == 2


def test_a_driven_dream_asks_for_tokens_and_takes_those_of_the_coming_step(pipeline: StreamPipeline) -> None:
    asked: list[StepRequest] = []
    dreamer, chunks = begun(pipeline, driven=True, on_need=asked.append)
    work(dreamer)
    assert [request.step_id for request in asked] == [0] and not chunks and dreamer.state == "waiting for tokens"
    assert asked[0].deadline_s == 0.0 and asked[0].goal == "walk to the door" and len(asked[0].recent) == 1
    assert not dreamer.work(), "it asks once"
    for given, message in (
        ((1, tokens()), "expected those of step 0"),
        ((-1, tokens()), "expected those of step 0"),
        ((0, tokens()[:1]), "expected float32 \\(2, 6\\)"),
        ((0, np.full((2, TOKEN_CHANNELS), np.nan)), "not finite"),
        ((0, tokens() + 100), "beyond 8"),
    ):
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(dreamer.give_tokens(*given))
    assert dreamer.status()["refused"] == 5 and not dreamer.work() and dreamer.dream.step_id == 0
    assert dreamer.give_tokens(0, tokens(3)) is None
    work(dreamer)
    np.testing.assert_array_equal(chunks[0].tokens, tokens(3))
    assert "step 1" in str(dreamer.give_tokens(0, tokens())), "that step is over"
    dreamer.tell_time(0.4)
    work(dreamer)
    assert asked[-1].step_id == 1 and asked[-1].deadline_s == 0.5 and len(asked[-1].recent) == 9
    undriven, _ = begun(pipeline)
    assert "takes no tokens" in str(undriven.give_tokens(0, tokens()))


def test_a_policy_may_answer_at_once_and_one_that_raises_is_asked_again_later(pipeline: StreamPipeline) -> None:
    asked: list[int] = []

    def policy(request: StepRequest) -> None:
        asked.append(request.step_id)
        if len(asked) == 1:
            raise RuntimeError("thinking")
        dreamer.give_tokens(request.step_id, tokens())

    dreamer, chunks = begun(pipeline, driven=True, on_need=policy)
    work(dreamer)
    assert asked == [0] and not chunks and "thinking" in dreamer.status()["listener_reason"]
    dreamer.tell_time(0.49)
    assert work(dreamer) == 0
    dreamer.tell_time(0.51)
    work(dreamer)
    assert asked[:2] == [0, 0] and chunks[0].step_id == 0


def test_a_step_that_fails_is_tried_again_and_does_not_advance() -> None:
    pipeline = tiny_pipeline()
    dreamer, chunks = begun(pipeline)
    work(dreamer)
    weight = next(p for n, p in pipeline.transformer.named_parameters() if n.startswith("proj_out"))
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
    dreamer.tell_time(0.3)
    assert work(dreamer) == 1
    told = dreamer.status()
    assert told["state"] == "failing" and told["failures"] == 1 and "not finite" in told["reason"]
    assert told["step_id"] == 1 == len(chunks) and told["buffered_until_s"] == 0.5
    with torch.no_grad():
        weight.copy_(kept)
    dreamer.tell_time(0.79)
    assert work(dreamer) == 0, "not before a step's time has passed"
    dreamer.tell_time(0.81)
    work(dreamer)
    assert chunks[1].step_id == 1 and dreamer.state == "dreaming"


def test_what_goes_wrong_with_a_beginning_or_an_anchor_is_told_and_the_dream_goes_on(pipeline: StreamPipeline) -> None:
    dreamer, chunks = begun(pipeline)
    work(dreamer)
    dreamer.anchor(frame(), body(), 0.2)
    dreamer.tell_time(0.5)
    work(dreamer)
    told = dreamer.status()
    assert told["failures"] == 1 and told["anchors"] == 0 and "off the end of a step" in told["reason"]
    assert told["state"] == "dreaming" and len(chunks) == 2
    dreamer.begin(frame(), body(), "walk " * 200)
    work(dreamer)
    assert dreamer.status()["failures"] == 2 and dreamer.dream.goal == "walk to the door"
    other = Dreamer(pipeline)
    other.begin(np.zeros((3, 3)), body(), "walk")
    other.work()
    assert other.state == "failing" and "picture" in other.status()["reason"]


def test_a_listener_that_raises_is_counted(pipeline: StreamPipeline) -> None:
    def listener(chunk: DreamtChunk) -> None:
        raise RuntimeError("nobody home")

    dreamer = Dreamer(pipeline, horizon=HORIZON, on_chunk=listener)
    dreamer.begin(frame(), body(), "walk")
    work(dreamer)
    told = dreamer.status()
    assert told["listener_errors"] == 1 == told["chunks"] and told["listener_reason"] == "RuntimeError: nobody home"


@pytest.mark.parametrize("horizon", [-0.1, 6.0, float("nan")])
def test_the_horizon_is_bounded(pipeline: StreamPipeline, horizon: float) -> None:
    with pytest.raises(UserError, match="horizon"):
        Dreamer(pipeline, horizon=horizon)


def test_the_thread_dreams_when_it_is_time_and_ends_when_told(pipeline: StreamPipeline) -> None:
    came = threading.Semaphore(0)
    dreamer = Dreamer(pipeline, on_chunk=lambda chunk: came.release())
    dreamer.start()
    with pytest.raises(UserError, match="started before"):
        dreamer.start()
    dreamer.begin(frame(), body(), "walk")
    assert came.acquire(timeout=WAIT)
    dreamer.tell_time(0.2)
    assert came.acquire(timeout=WAIT)
    dreamer.stop()
    dreamer.stop()
    assert not dreamer.running and dreamer.status()["chunks"] == 2
    assert "dreamer" not in {thread.name for thread in threading.enumerate()}


def test_an_anchor_that_would_make_the_coming_step_late_is_dropped(pipeline: StreamPipeline) -> None:
    dreamer, _ = begun(pipeline, horizon=0.2)
    assert work(dreamer) == 1 and dreamer.buffered_until == 0.5
    for time_s, cut, counts in ((0.05, False, (1, 0)), (0.15, False, (1, 1)), (0.15, True, (2, 1))):
        dreamer.tell_time(time_s)
        dreamer.anchor(frame(), body(), 0.0 if not cut else 0.15, cut=cut)
        dreamer.work()
        told = dreamer.status()
        assert (told["anchors"], told["dropped"]) == counts
