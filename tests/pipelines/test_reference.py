"""The stream with its ring equals the stream that computes everything again, over three windows and more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from egotwin_sim.pipelines import StreamPipeline
from egotwin_sim.pipelines.reference import ReferenceStream
from tests.tiny import SIZE, TOKEN_CHANNELS, standing, tiny_pipeline


def pipeline_with(sink: int, window: int) -> StreamPipeline:
    pipeline = tiny_pipeline(window)
    pipeline.config = replace(pipeline.config, sink=sink)
    pipeline.precision = "fp32"
    return pipeline


@pytest.mark.parametrize(("sink", "window"), [(1, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("given", [True, False])
def test_cached_equals_recomputed(sink: int, window: int, given: bool) -> None:
    pipeline = pipeline_with(sink, window)
    frame = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    steps = 3 * (sink + window)
    tokens = np.random.default_rng(1).standard_normal((steps, 2, TOKEN_CHANNELS)).astype(np.float32) * 0.1
    stream = ReferenceStream(pipeline, frame, standing(), "walk to the red box", seed=5)
    for pair in tokens:
        # Both from the same state, and the view under the same body: what is compared is the keys and values, not what
        # the warp makes of a last digit.
        before = stream.state
        step = stream.step(pair if given else None)
        if not given:
            dreamt = pipeline.generate(before, None)
            np.testing.assert_allclose(dreamt.motion_tokens[0], step.motion_tokens, atol=1e-4)
        chunk = pipeline.generate(before, step.motion_tokens[None])
        torch.testing.assert_close(chunk.inputs, stream.newest_inputs, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(chunk.motion_tokens[0], step.motion_tokens, atol=1e-4)
        np.testing.assert_allclose(chunk.motion[0], step.motion, atol=1e-4)
        assert np.abs(chunk.frames[0].numpy().astype(int) - step.frames).max() <= 1  # a rounding of 1e-4 away


def test_the_reference_is_sensitive() -> None:
    """With a window that is one chunk longer, the reference gives something else: the test above can fail."""
    short, long = pipeline_with(1, 1), pipeline_with(1, 2)
    frame = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    tokens = np.random.default_rng(1).standard_normal((4, 2, TOKEN_CHANNELS)).astype(np.float32) * 0.1
    cached, other = short.start(frame, standing(), "walk"), ReferenceStream(long, frame, standing(), "walk")
    for pair in tokens[:-1]:
        cached.step(pair)
        other.step(pair)
    one = short.generate(cached.state, tokens[-1:])
    other.step(tokens[-1])
    assert (one.inputs - other.newest_inputs).abs().max() > 1e-3
