"""The stream: what a step gives, that it repeats, what it refuses, and that a failed step loses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.pipelines import StreamPipeline
from tests.tiny import SIZE, TOKEN_CHANNELS, standing, tiny_pipeline


@pytest.fixture(scope="module")
def pipeline() -> StreamPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pose() -> np.ndarray:
    return standing()


def tokens(steps: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((steps, 2, TOKEN_CHANNELS)).astype(np.float32) * 0.1


def test_a_step_gives_frames_and_a_body(pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray) -> None:
    stream = pipeline.start(frame, pose, "walk to the red box")
    given = tokens(1)[0]
    out = stream.step(given)
    assert out.frames.shape == (4, SIZE, SIZE, 3) and out.frames.dtype == np.uint8
    assert out.motion.shape == (8, 282) and out.state.shape == (282,)
    assert out.T_world_head.shape == (8, 4, 4) and len(out.world_motion) == 8
    np.testing.assert_array_equal(out.motion_tokens, given)
    np.testing.assert_allclose(out.world_motion.T_world_head(), out.T_world_head)
    assert stream.state.chunk.tolist() == [1]


def test_newest_state_starts_a_new_dream(pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray) -> None:
    out = pipeline.start(frame, pose, "look around").step(tokens(1)[0])
    again = pipeline.start(frame, out.state, "look around")
    np.testing.assert_allclose(again.body.features, out.state, atol=1e-5)


def test_world_trajectory_is_continuous(pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray) -> None:
    stream = pipeline.start(frame, pose, "walk")
    for pair in tokens(3):
        before = stream.body
        out = stream.step(pair)
        # The first new frame is expressed in the state's own frame: both views of it must agree in the world.
        head = before.T_world_canonical @ _head_pose(out.motion[:1])[0]
        np.testing.assert_allclose(head, out.T_world_head[0], atol=1e-4)


def _head_pose(features: np.ndarray) -> np.ndarray:
    from egotwin_sim.motion.head_centric import head_pose

    return head_pose(features)


@pytest.mark.parametrize("given", [True, False])
def test_same_seed_same_dream(pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray, given: bool) -> None:
    def roll(seed: int) -> np.ndarray:
        torch.manual_seed(seed + 100)  # the global generator must not matter
        stream = pipeline.start(frame, pose, "walk", seed=seed)
        return np.concatenate([stream.step(pair if given else None).frames for pair in tokens(4)])

    np.testing.assert_array_equal(roll(3), roll(3))
    assert (roll(3) != roll(4)).any()


def test_memory_of_a_stream_stays_flat(pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray) -> None:
    stream = pipeline.start(frame, pose, "walk")
    sizes = {name: value.shape for name, value in stream.state.tensors().items()}
    for pair in tokens(6):
        stream.step(pair)
        assert {name: value.shape for name, value in stream.state.tensors().items()} == sizes


def test_motion_changes_the_view(pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray) -> None:
    first = pipeline.start(frame, pose, "walk").step(tokens(1)[0])
    other = pipeline.start(frame, pose, "walk").step(tokens(1)[0] * 30)
    assert (first.frames != other.frames).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_frame": np.zeros((16, 16, 3), np.uint8)}, "first frame is uint8 \\(16, 16, 3\\)"),
        ({"first_frame": np.zeros((SIZE, SIZE, 3), np.float32)}, "first frame is float32"),
        ({"initial_pose": np.zeros(10)}, "initial pose is"),
        ({"initial_pose": np.zeros(282)}, "rotation"),
        ({"initial_pose": np.full(282, np.nan)}, "finite"),
        ({"text": "  "}, "empty"),
        ({"text": "walk " * 200}, "token"),
        ({"seed": -1}, "negative"),
    ],
)
def test_start_refuses(
    pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray, change: dict, message: str
) -> None:
    arguments = {"first_frame": frame, "initial_pose": pose, "text": "walk"} | change
    with pytest.raises(UserError, match=message):
        pipeline.start(**arguments)


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.full((2, TOKEN_CHANNELS), np.nan)])
def test_step_refuses_bad_tokens(
    pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray, bad: np.ndarray
) -> None:
    stream = pipeline.start(frame, pose, "walk")
    before = stream.state
    with pytest.raises(UserError, match="motion tokens"):
        stream.step(bad)
    assert stream.state is before


@pytest.mark.parametrize("part", ["transformer", "video_vae"])
def test_nan_in_the_model_stops_and_loses_nothing(part: str, frame: np.ndarray, pose: np.ndarray) -> None:
    pipeline = tiny_pipeline()
    stream = pipeline.start(frame, pose, "walk")
    stream.step(tokens(1)[0])
    before = stream.state
    weight = next(p for n, p in getattr(pipeline, part).named_parameters() if n.startswith(("proj_out", "decoder_out")))
    with torch.no_grad():
        weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="chunk 2 is not finite"):
        stream.step(tokens(1)[0])
    assert stream.state is before


def test_save_and_load(pipeline: StreamPipeline, frame: np.ndarray, pose: np.ndarray, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, dtype=torch.float32)
    loaded = StreamPipeline.from_pretrained(tmp_path)
    assert loaded.config == pipeline.config
    loaded.save_pretrained(tmp_path / "again", dtype=torch.float32)
    assert str(tmp_path) not in (tmp_path / "again" / "transformer" / "config.json").read_text()
    rolls = [p.start(frame, pose, "walk").step(tokens(1)[0]).frames for p in (pipeline, loaded)]
    np.testing.assert_array_equal(*rolls)


def test_loading_refuses(pipeline: StreamPipeline, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no stream weights"):
        StreamPipeline.from_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path)
    config = tmp_path / "stream.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps(told | {"format": 99}))
    with pytest.raises(UserError, match="another format"):
        StreamPipeline.from_pretrained(tmp_path)
    config.write_text(json.dumps(told | {"wings": 2}))
    with pytest.raises(UserError, match="does not fit"):
        StreamPipeline.from_pretrained(tmp_path)
    config.write_text(json.dumps(told))
    weights = tmp_path / "video_vae" / "diffusion_pytorch_model.safetensors"
    from safetensors.torch import load_file, save_file

    kept = load_file(weights)
    kept.pop(sorted(kept)[0])
    save_file(kept, weights)
    with pytest.raises(UserError, match="lacks weights"):
        StreamPipeline.from_pretrained(tmp_path)
