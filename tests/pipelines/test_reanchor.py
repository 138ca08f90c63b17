"""Re-anchoring: a dream goes on from a real frame and a real body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, encode
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.pipelines import DreamState, StreamPipeline
from tests.tiny import SIZE, TOKEN_CHANNELS, standing, tiny_pipeline, walking


@pytest.fixture(scope="module")
def pipeline() -> StreamPipeline:
    made = tiny_pipeline()
    made.precision = "fp32"
    return made


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def tokens(seed: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 2, TOKEN_CHANNELS)).astype(np.float32) * 0.1


def under_way(pipeline: StreamPipeline, text: str = "walk to the door", steps: int = 3, seed: int = 5) -> DreamState:
    stream = pipeline.start(frame(0), standing(), text, seed=seed)
    for step in range(steps):
        stream.step(tokens(step)[0])
    return stream.state


def test_what_is_seen_is_the_real_frame_and_the_past_is_kept(pipeline: StreamPipeline) -> None:
    state, body = under_way(pipeline), walking(1)[:1]
    anchored = pipeline.reanchor(state, [frame(7)], [body])
    np.testing.assert_array_equal(anchored.newest_frame[0].numpy(), frame(7))
    fresh = pipeline.start(frame(7), encode(body)[0], "anything").state
    for one, other in zip(anchored.decoder.features, fresh.decoder.features, strict=True):
        assert torch.equal(one, other)
    for name in ("frames", "depth", "valid", "T_world_head"):
        assert torch.equal(getattr(anchored.memory, name)[:, :1], getattr(state.memory, name)[:, :1]), name
    for name, value in anchored.cache.tensors().items():
        assert torch.equal(value, state.cache.tensors()[name]), name
    assert anchored.noise_key.tolist() == state.noise_key.tolist() == [[5, 0, 3]]
    assert anchored.goals == state.goals


def test_where_nothing_was_dreamt_wrong_nothing_changes(pipeline: StreamPipeline) -> None:
    """Anchored on its own first frame and body, an episode's start is what it was."""
    body = walking(1)[:1]
    start = pipeline.start(frame(0), encode(body)[0], "walk", seed=5).state
    where = start.body(0, pipeline.skeleton, 16.0).motion
    anchored = pipeline.reanchor(start, [frame(0)], [where])
    one, other = (pipeline.generate(state, tokens(1)) for state in (start, anchored))
    assert (one.frames.int() - other.frames.int()).abs().float().mean() < 0.5
    np.testing.assert_allclose(one.motion, other.motion, atol=1e-4)


def test_the_body_is_where_it_was_measured_and_as_fast(pipeline: StreamPipeline) -> None:
    motion = walking(2)
    state = under_way(pipeline)
    two = pipeline.reanchor(state, [frame(3)], [motion[7:9]])
    one = pipeline.reanchor(state, [frame(3)], [motion[8:9]])
    for anchored in (one, two):
        body = anchored.body(0, pipeline.skeleton, 16.0)
        np.testing.assert_allclose(body.motion.T_world_head(), motion[8:9].T_world_head(), atol=1e-6)
    np.testing.assert_array_equal(two.features[0], encode(motion[8:9], previous=motion[7:8])[0])
    assert (one.features != two.features).any(), "a single frame stands still"


def test_a_row_does_not_depend_on_its_batch_and_the_state_is_a_value(pipeline: StreamPipeline) -> None:
    states = [under_way(pipeline, text, steps) for text, steps in (("walk", 1), ("sit down", 4))]
    bodies, frames = [walking(1)[:1], walking(2)[3:5]], [frame(1), frame(2)]
    together = DreamState.join(states)
    before = {name: value.clone() for name, value in together.tensors().items()}
    anchored = pipeline.reanchor(together, frames, bodies)
    assert all(torch.equal(value, before[name]) for name, value in together.tensors().items())
    for row in (0, 1):
        alone = pipeline.reanchor(states[row], frames[row : row + 1], bodies[row : row + 1])
        for name, value in alone.tensors().items():
            assert torch.equal(value, anchored.rows([row]).tensors()[name]), name


@pytest.mark.parametrize(
    ("frames", "bodies", "message"),
    [
        ([np.zeros((16, 16, 3), np.uint8)], [walking(0)[:1]], "first frame is uint8 \\(16, 16, 3\\)"),
        ([frame(0) / 255.0], [walking(0)[:1]], "first frame is float64"),
        ([frame(0), frame(1)], [walking(0)[:1]], "2 frames and 1 bodies were given for 1 dreams"),
        ([], [], "0 frames"),
        ([frame(0)], [walking(0)[:9].resampled(8.0)], "at 8 frames/s"),
    ],
)
def test_it_refuses(pipeline: StreamPipeline, frames: list, bodies: list, message: str) -> None:
    state = under_way(pipeline, steps=0)
    with pytest.raises(UserError, match=message):
        pipeline.reanchor(state, frames, bodies)


def test_it_refuses_a_state_of_another_model_and_a_body_of_another_skeleton(pipeline: StreamPipeline) -> None:
    state = under_way(pipeline, steps=0)
    with pytest.raises(UserError, match="the state is of the model"):
        pipeline.reanchor(replace(state, model="another"), [frame(0)], [walking(0)[:1]])
    skeleton = pipeline.skeleton
    fewer = Skeleton(skeleton.names[:-1], skeleton.parents[:-1], skeleton.offsets[:-1])
    quat = np.zeros((1, fewer.num_joints, 4))
    quat[..., 0] = 1
    with pytest.raises(UserError, match="21 joints"):
        pipeline.reanchor(state, [frame(0)], [Motion(np.zeros((1, 3)), quat, fewer)])
