"""A roll-out in training is what a stream does, and its gradients reach the network and nothing that is remembered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.room import generate_room_dataset
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.motion import canonical_frame, encode
from egotwin_sim.pipelines import StreamPipeline
from egotwin_sim.pipelines.noise import keyed_normal
from egotwin_sim.pipelines.stream import VIEW
from egotwin_sim.training.components import FrozenNetworks
from egotwin_sim.training.latents import latent_clips
from egotwin_sim.training.rollouts import RolloutClips, roll_out, view_of
from tests.tiny import SIZE, tiny_pipeline

CHUNKS = 2  # a random network makes ten times more of a last digit with every chunk


@pytest.fixture(scope="module")
def pipeline() -> StreamPipeline:
    pipeline = tiny_pipeline(window=2)
    pipeline.precision = "fp32"
    return pipeline


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> LeRobotReader:
    return LeRobotReader(
        generate_room_dataset(tmp_path_factory.mktemp("rooms") / "data", clips=4, seed=5, workers=1, size=SIZE)
    )


@pytest.fixture(scope="module")
def rollouts(pipeline: StreamPipeline, reader: LeRobotReader, tmp_path_factory: pytest.TempPathFactory) -> RolloutClips:
    networks = FrozenNetworks.of(
        vae=pipeline.video_vae,
        depth_net=pipeline.depth_net,
        motion_vae=pipeline.motion_vae,
        text_encoder=pipeline.text_encoder,
    )
    latents = latent_clips(reader, "train", tmp_path_factory.mktemp("latents"), networks, limit=2)
    return RolloutClips(reader, "train", latents, pipeline.motion_vae, pipeline.config.window)


def test_a_roll_out_is_what_a_stream_does(
    pipeline: StreamPipeline, reader: LeRobotReader, rollouts: RolloutClips
) -> None:
    batch = rollouts.batch(np.array([0]), 1, CHUNKS)
    # The cached latents are half precision and were coded in bf16; a stream codes its first frame itself.
    clip = reader.clip(rollouts.episodes[0], depth=False)
    state = pipeline.start(clip.video[0], encode(clip.motion[:1])[0], clip.text, seed=3).state
    with torch.no_grad():
        picture = pipeline._to_network(clip.video[:1])[:, :, 0]
        batch["latents"] = pipeline.video_vae.encode(picture[:, :, None]).transpose(1, 2)
        embedded = pipeline.text_encoder.encode([clip.text])
        batch["text"], batch["text_mask"] = embedded.tokens.float(), embedded.mask
    # A dream's world begins under its head; the last digits of another world's coordinates move warped pixels.
    start = torch.from_numpy(canonical_frame(clip.motion[:1].T_world_head())[0])
    batch["poses"] = (torch.linalg.inv(start) @ batch["poses"].double()).float()
    shape = tuple(batch["latents"].shape[2:])
    noise = torch.stack([keyed_normal((3, 0, k + 1, VIEW), shape)[None] for k in range(CHUNKS)])
    view = view_of(reader, pipeline.video_vae, pipeline.depth_net)
    steps = [(pipeline.config.view_steps,) * 2] * CHUNKS
    frames = []
    for _ in range(CHUNKS):
        chunk = pipeline.generate(state, batch["future_tokens"][:, len(frames)])
        state = pipeline.finalize(state, chunk)
        frames.append(chunk.frames.float())

    def distances(noise: torch.Tensor) -> list[float]:
        window = pipeline.config.window
        with torch.no_grad():
            rolled = roll_out(pipeline.transformer, NoiseSchedule(), view, batch, window, steps, noise)
        pictures = [((part.picture.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 4, 1) for part in rolled]
        return [float((a - b).abs().mean()) for a, b in zip(pictures, frames, strict=True)]

    same, other = distances(noise), distances(noise.flip(0))
    assert same[0] < 0.5 and same[1] < 2, same  # grey levels; frames are rounded
    assert all(b > 4 * a for a, b in zip(same, other, strict=True)), (same, other)


def test_gradients_reach_the_network_and_nothing_that_is_remembered(
    pipeline: StreamPipeline, reader: LeRobotReader, rollouts: RolloutClips
) -> None:
    batch = rollouts.batch(np.array([0, 1]), 3, 2)
    assert batch["positions"].tolist() == [0, 1, 2] and batch["frames"].shape == (2, 1 + 8, 3, SIZE, SIZE)
    view = view_of(reader, pipeline.video_vae, pipeline.depth_net)
    noise = torch.randn(2, 2, *batch["latents"].shape[2:], generator=torch.Generator().manual_seed(0))
    rolled = roll_out(pipeline.transformer, NoiseSchedule(), view, batch, 2, [(2, 1), (2, 2)], noise)
    first = torch.autograd.grad(rolled[0].picture.sum(), pipeline.transformer.proj_out.weight, retain_graph=True)[0]
    assert first.abs().sum() > 0
    rolled[1].picture.square().mean().backward()
    assert pipeline.transformer.proj_out.weight.grad is not None
    assert all(p.grad is None for p in (*pipeline.video_vae.parameters(), *pipeline.depth_net.parameters()))
    assert not rolled[1].true_clean.requires_grad
    pipeline.transformer.zero_grad()


def test_true_frames_belong_to_the_true_latents(rollouts: RolloutClips, reader: LeRobotReader) -> None:
    batch = rollouts.batch(np.array([1]), 2, 3)
    clip = reader.clip(rollouts.episodes[1], depth=False)
    frames = batch["frames"][0].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(frames, clip.video[[0, *range(5, 17)]])
    np.testing.assert_array_equal(batch["future_latents"][0].numpy(), rollouts.latents.latents[1][2:5])
    assert batch["poses"].shape == (1, 2 + 12, 4, 4) and batch["joints"].shape == (1, 2 + 12, 22, 3)
