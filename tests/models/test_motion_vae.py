"""The motion VAE: shapes, causality, statistics, tracking, learning, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.models.motion_geometry import canonical_frame, consistent_state, head_pose, invert, move_features
from egotwin_sim.models.motion_vae import MotionVAE, next_gap, seen_from
from egotwin_sim.motion import Skeleton, chunk_features, encode
from egotwin_sim.training.motion_samples import clip_samples
from egotwin_sim.training.stages.motion_vae import (
    MotionVAEStageConfig,
    fit_motion_vae,
    reconstruction_errors,
    whole_clip,
)
from egotwin_sim.training.trainer import TrainerConfig
from tests.tiny import walking


@pytest.fixture(scope="module")
def vae() -> MotionVAE:
    """Random weights, none of them zero, with statistics."""
    torch.manual_seed(0)
    model = MotionVAE(width=32, blocks=1, latent_channels=8).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape))
    chunks = chunks_of(*range(4))
    model.set_feature_statistics(chunks)
    model.set_token_statistics(model.encode(model.normalise(chunks))[0])
    return model


def chunks_of(*seeds: int) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([chunk_features(walking(seed)) for seed in seeds]))


@pytest.mark.parametrize("n", [0, 1, 2, 20])
def test_clip_form_shapes(n: int) -> None:
    model = MotionVAE(width=16, blocks=1, latent_channels=4, canonical="clip")
    features = torch.from_numpy(encode(walking(0, 1 + 4 * n)))[None]
    tokens = model.tokenise(features)
    assert tokens.shape == (1, 1 + n, 4)
    assert model.detokenise(tokens).shape == features.shape


def test_chunk_form_shapes(vae: MotionVAE) -> None:
    chunks = chunks_of(0)
    tokens = vae.tokenise(chunks)
    assert tokens.shape == (4, 3, 8)
    assert vae.detokenise(tokens).shape == chunks.shape
    assert vae.decode_chunk(chunks[:, 0], tokens[:, 1:]).shape == (4, 8, 282)


@pytest.mark.parametrize("token", range(3))
def test_tokens_do_not_see_later_frames(vae: MotionVAE, token: int) -> None:
    chunks = chunks_of(0)
    changed = chunks.clone()
    changed[:, 4 * token + 1 :] += 0.3
    before, after = vae.tokenise(chunks), vae.tokenise(changed)
    assert torch.equal(before[:, : token + 1], after[:, : token + 1])
    assert not torch.isclose(before[:, token + 1 :], after[:, token + 1 :]).all(-1).any()


def test_token_of_the_first_state_is_a_function_of_it_alone(vae: MotionVAE) -> None:
    chunks = chunks_of(0, 1)
    torch.testing.assert_close(vae.tokenise(chunks)[:, :1], vae.tokenise(chunks[:, :1]))


@pytest.mark.parametrize("token", range(3))
def test_frames_do_not_see_later_tokens(vae: MotionVAE, token: int) -> None:
    tokens = vae.tokenise(chunks_of(0))
    changed = tokens.clone()
    changed[:, token + 1 :] += 1.0
    before, after = vae.detokenise(tokens), vae.detokenise(changed)
    last = 4 * token
    assert torch.equal(before[:, : last + 1], after[:, : last + 1])
    assert not torch.isclose(before[:, last + 1 :], after[:, last + 1 :]).all(-1).any()
    # A stream that has only the tokens so far decodes the same frames.
    torch.testing.assert_close(vae.detokenise(tokens[:, : token + 1]), before[:, : last + 1])


def test_decoding_a_chunk_needs_state_and_two_tokens_only(vae: MotionVAE) -> None:
    chunks = chunks_of(0)
    tokens = vae.tokenise(chunks)
    expected = vae.detokenise(tokens, state=chunks[:, 0])
    torch.testing.assert_close(vae.decode_chunk(chunks[:, 0], tokens[:, 1:]), expected[:, 1:])
    assert torch.equal(expected[:, 0], chunks[:, 0])


def test_tokens_are_of_unit_scale_and_survive_saving(vae: MotionVAE, tmp_path: Path) -> None:
    chunks = chunks_of(*range(4))
    tokens = vae.tokenise(chunks)
    for part in (tokens[:, 0], tokens[:, 1:].flatten(0, 1)):
        assert part.mean(0).abs().max() < 1e-3
        assert (part.std(0) < 1.01).all() and part.std(0).max() > 0.99
    vae.save_pretrained(tmp_path)
    loaded = MotionVAE.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert torch.equal(loaded.tokenise(chunks), tokens)
    torch.testing.assert_close(vae.denormalise(vae.normalise(chunks)), chunks, atol=1e-5, rtol=1e-5)


def test_constant_features_do_not_blow_up() -> None:
    model = MotionVAE(width=16, blocks=1, latent_channels=4)
    still = chunks_of(0)[:, :1].expand(4, 9, 282)[:1]
    model.set_feature_statistics(still)
    model.set_token_statistics(model.encode(model.normalise(still))[0].expand(3, 3, 4).detach())
    assert model.tokenise(still).abs().max() < 100


def test_seen_from_a_wrong_state_the_goal_stays_where_it_is_in_the_world() -> None:
    chunks = chunks_of(0)
    first, second = chunks[:1], chunks[1:2]
    wrong = first[:, 1:].clone()
    wrong[:, -1] = move_features(wrong[:, -1], torch.tensor(shifted_by(0.3, 0.2, -0.1)))
    state = consistent_state(wrong[:, -2], wrong[:, -1], Skeleton.default(), 16.0)
    gap = next_gap(wrong, first, torch.eye(4)[None])
    assert head_pose(state)[0, :2, 3].abs().max() < 1e-5
    seen = seen_from(state, second, gap)
    where = canonical_frame(head_pose(wrong[:, -1]))  # of the wrong state, in the first chunk's frame
    true = canonical_frame(head_pose(first[:, -1]))
    torch.testing.assert_close(where @ head_pose(seen[:, 1:])[0], true @ head_pose(second[:, 1:])[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(invert(where) @ true, gap, atol=1e-5, rtol=0)


def shifted_by(yaw: float, x: float, y: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)


def test_track_gives_a_stream_that_decodes_to_the_same_states(vae: MotionVAE) -> None:
    chunks = torch.from_numpy(np.stack([whole_clip(walking(seed), vae) for seed in range(2)]))
    tracked = vae.track(chunks)
    assert tracked.tokens.shape == (2, 1 + 2 * 4, 8)
    state = chunks[:, 0, 0]
    for k in range(4):
        torch.testing.assert_close(state, tracked.chunks[:, k, 0], atol=1e-4, rtol=0)
        frames = vae.decode_chunk(state, tracked.tokens[:, 1 + 2 * k : 3 + 2 * k])
        torch.testing.assert_close(frames, tracked.chunks[:, k, 1:], atol=1e-4, rtol=1e-4)
        state = consistent_state(frames[:, -2], frames[:, -1], Skeleton.default(), 16.0)


def test_training_reconstructs_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MotionVAE(width=48, blocks=1, latent_channels=16)
    train, val = [walking(seed) for seed in range(12)], [walking(100 + seed) for seed in range(3)]
    still = np.stack([whole_clip(motion, model) for motion in val])
    before = reconstruction_errors(untrained_like(model, still), still)
    config = MotionVAEStageConfig(
        trainer=TrainerConfig(steps=60, batch_size=12, learning_rate=3e-3, warmup_steps=5, precision="fp32"), chunks=2
    )
    errors = fit_motion_vae(model, train, val, config, tmp_path, device="cpu")
    assert errors["head_mm"] < 0.5 * before["head_mm"]
    assert errors["joint_mm"] < 0.5 * before["joint_mm"]
    assert errors["drift_mm"] < errors["open_drift_mm"] * 1.5
    loaded = MotionVAE.from_pretrained(tmp_path / "motion_vae", low_cpu_mem_usage=False)
    tokens = loaded.tokenise(torch.from_numpy(np.concatenate(still))).detach()
    assert 0.3 < tokens[:, 1:].std() < 3
    with pytest.raises(UserError, match="--resume"):
        fit_motion_vae(model, train, val, config, tmp_path, device="cpu")
    again = fit_motion_vae(MotionVAE(width=48, blocks=1, latent_channels=16), train, val, config, tmp_path, resume=True)
    assert again["joint_mm"] == pytest.approx(errors["joint_mm"], rel=0.05)


def untrained_like(model: MotionVAE, chunks: np.ndarray) -> MotionVAE:
    """A model of the same size that holds the state: its decoder's last layer gives zero."""
    still = MotionVAE(**{k: model.config[k] for k in ("width", "blocks", "latent_channels")})
    still.set_feature_statistics(torch.from_numpy(np.concatenate(chunks)))
    torch.nn.init.zeros_(still.decoder[-1].weight)
    torch.nn.init.zeros_(still.decoder[-1].bias)
    return still


def test_samples_are_runs_of_consecutive_chunks(vae: MotionVAE) -> None:
    motion = walking(0, 41)
    samples = clip_samples(motion, vae, length=2, offsets=2)
    assert samples.shape == (4, 2, 9, 282)
    whole = whole_clip(motion, vae)
    np.testing.assert_array_equal(samples[0], whole[:2])
    np.testing.assert_allclose(samples[2], chunk_features(motion[4:37], previous=motion[:4])[:2])
    with pytest.raises(UserError, match="longer clips"):
        clip_samples(motion, vae, length=6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.tokenise(torch.zeros(1, 9, 280)), "expected .B, 1 . 4n, 282"),
        (lambda m: m.tokenise(torch.zeros(1, 8, 282)), "expected .B, 1 . 4n, 282"),
        (lambda m: m.tokenise(torch.zeros(1, 13, 282)), "a chunk has 1 . 8 frames"),
        (lambda m: m.tokenise(torch.full((1, 9, 282), torch.nan)), "NaN"),
        (lambda m: m.detokenise(torch.zeros(1, 3, 7)), "expected .B, n, 8"),
        (lambda m: m.decode_chunk(torch.zeros(1, 282), torch.full((1, 2, 8), torch.inf)), "NaN or infinity"),
        (lambda m: m.decode_chunk(torch.zeros(2, 282), torch.zeros(1, 2, 8)), "state has shape"),
        (lambda m: m.track(torch.zeros(1, 9, 282)), "track takes the chunks"),
        (lambda m: MotionVAE(canonical="world"), "chunk or clip"),
    ],
)
def test_bad_input_is_refused(vae: MotionVAE, call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(vae)
