"""Whole clips in the three modes: what comes back, what it depends on, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

from egotwin_sim.diffusion import GuidanceScales, ddim_step, sample, trailing_timesteps
from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.errors import UserError
from egotwin_sim.models import CogVideoXVAE
from egotwin_sim.models.view_condition import CONDITION_CHANNELS, RESIDUAL_SCALE
from egotwin_sim.motion import Motion, Skeleton, encode
from egotwin_sim.pipelines import JointConfig, JointPipeline
from egotwin_sim.training.denoising import model_input
from tests.tiny import LATENT_CHANNELS, SIZE, TOKEN_CHANNELS, tiny_pipeline

GUIDED = JointConfig(steps=2, video=GuidanceScales(1.5, 2.0), motion=GuidanceScales(2.0, 1.5))


def joint(**changes: object) -> JointPipeline:
    base = tiny_pipeline()
    networks = base.video_vae, base.depth_net, base.motion_vae, base.transformer
    return JointPipeline(*networks, base.text_encoder, base.config, replace(GUIDED, **changes))


@pytest.fixture(scope="module")
def pipeline() -> JointPipeline:
    return joint()


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)


def walk(metres: float, frames: int = 17) -> Motion:
    """A stiff body that glides ahead, somewhere in the world."""
    skeleton = Skeleton.default()
    quat = np.zeros((frames, skeleton.num_joints, 4), np.float32)
    quat[..., 0] = 1
    root = np.zeros((frames, 3), np.float32)
    root[:, 0] = np.linspace(0, metres, frames)
    root[:, 2] = skeleton.rest_root_height
    return Motion(root, quat, skeleton).transformed(1.0, (2.0, -1.0, 0.0))


@pytest.fixture(scope="module")
def pose() -> np.ndarray:
    return encode(walk(0.0, 1))[0]


def test_text_gives_both(pipeline: JointPipeline, video: np.ndarray, pose: np.ndarray) -> None:
    clip = pipeline.t2vm(video[0], pose, "walk to the red box", chunks=2)
    assert clip.video.shape == video.shape and clip.video.dtype == np.uint8
    assert len(clip.motion) == 17 and clip.tokens.shape == (5, TOKEN_CHANNELS)
    np.testing.assert_array_equal(clip.video[0], video[0])
    np.testing.assert_allclose(encode(clip.motion[:1])[0], pose, atol=1e-5)


def test_motion_gives_video(pipeline: JointPipeline, video: np.ndarray) -> None:
    motion = walk(0.5)
    clip = pipeline.tm2v(video[0], motion, "walk")
    assert clip.motion is motion and clip.video.shape == video.shape
    np.testing.assert_array_equal(clip.video[0], video[0])
    other = pipeline.tm2v(video[0], walk(-0.5), "walk")
    assert (clip.video != other.video).any()


def test_video_gives_motion_in_the_world_of_the_initial_pose(pipeline: JointPipeline, video: np.ndarray) -> None:
    start = walk(0.5)[:1]
    clip = pipeline.tv2m(video, start, "walk")
    assert clip.video is video and len(clip.motion) == 17
    np.testing.assert_allclose(clip.motion.T_world_head()[0], start.T_world_head()[0], atol=1e-5)
    other = pipeline.tv2m(video[::-1].copy()[[8, *range(1, 9)]], start, "walk")
    assert (clip.tokens[1:] != other.tokens[1:]).any()


def test_a_clip_is_a_function_of_its_arguments(pipeline: JointPipeline, video: np.ndarray, pose: np.ndarray) -> None:
    def clip(text: str | None, seed: int) -> np.ndarray:
        torch.manual_seed(seed + 100)  # the global generator must not matter
        made = pipeline.t2vm(video[0], pose, text, chunks=1, seed=seed)
        return np.concatenate([made.video.ravel(), made.tokens.ravel()])

    first = clip("walk", 3)
    np.testing.assert_array_equal(first, clip("walk", 3))
    assert (first != clip("walk", 4)).any()
    assert (first != clip("sit down", 3)).any()
    assert (first != clip(None, 3)).any()


@pytest.mark.parametrize("temporal", ["causal", "bidirectional"])
def test_only_a_causal_clip_does_not_know_its_end(temporal: str, video: np.ndarray, pose: np.ndarray) -> None:
    pipeline = joint(temporal=temporal)
    short, long = (pipeline.t2vm(video[0], pose, "walk", chunks=chunks).tokens[:3] for chunks in (1, 2))
    assert (np.abs(short - long).max() < 1e-3) == (temporal == "causal")


def test_a_guided_view_equals_the_difference_as_in_training(pipeline: JointPipeline) -> None:
    """Sampling of latents with a prior against the obvious loop over the difference to it."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    latents, motion = normal(1, 3, LATENT_CHANNELS, 4, 4), normal(1, 5, TOKEN_CHANNELS)
    known = normal(1, 3, LATENT_CHANNELS + CONDITION_CHANNELS, 4, 4)
    known[:, 0] = 0
    prior, channels = known.split([LATENT_CHANNELS, CONDITION_CHANNELS], dim=2)
    schedule, times = pipeline.schedule, trailing_timesteps(3)[:, None, None] * torch.tensor([0.0, 1.0, 1.0])
    model = pipeline._model("walk", torch.zeros_like(known), known)
    given = torch.zeros(4, 1, 5)
    found, _ = sample(lambda v, m: (model(v, m, True)[0], None), schedule, latents, motion, times, given)

    text = pipeline.text_encoder.encode(["walk"])
    noisy = latents.clone()
    with torch.no_grad():
        for now, target in zip(times[:-1], times[1:], strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                output = pipeline.transformer(
                    model_input(noisy, prior, channels), text.tokens, now, motion, given[0], text_mask=text.mask,
                    temporal="causal",
                )  # fmt: skip
            velocity = output.video.float() + linear_velocity(schedule, noisy, now, RESIDUAL_SCALE)
            noisy = ddim_step(schedule, noisy, velocity, now, target)
    torch.testing.assert_close(found, noisy + prior, atol=0.03, rtol=0.0)


def test_published_video_vae(pipeline: JointPipeline, video: np.ndarray) -> None:
    torch.manual_seed(0)
    vae = CogVideoXVAE(
        AutoencoderKLCogVideoX(block_out_channels=(4,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=2)
    )
    networks = vae, pipeline.depth_net, pipeline.motion_vae, pipeline.transformer
    other = JointPipeline(*networks, pipeline.text_encoder, pipeline.config, GUIDED)
    clip = other.tm2v(video[0], walk(0.5), "walk")
    assert clip.video.shape == video.shape and len(np.unique(clip.video[1:])) > 2


def test_streaming_weights_make_clips(pipeline: JointPipeline, video: np.ndarray, tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path, dtype=torch.float32)
    loaded = JointPipeline.from_pretrained(tmp_path, sampling=GUIDED)
    clips = [p.tv2m(video[:5], walk(0.0, 1), "walk").tokens for p in (pipeline, loaded)]
    np.testing.assert_array_equal(*clips)


@pytest.mark.parametrize(("part", "message"), [("proj_out", "video is not"), ("motion_proj_out", "motion is not")])
def test_nan_in_the_model_stops(part: str, message: str, video: np.ndarray, pose: np.ndarray) -> None:
    pipeline = joint()
    with torch.no_grad():
        getattr(pipeline.transformer, part).bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=message):
        if part == "proj_out":
            pipeline.tm2v(video[0], walk(0.5), "walk")
        else:
            pipeline.tv2m(video, pose, "walk")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_frame": np.zeros((16, 16, 3), np.uint8)}, "first frame is uint8 \\(16, 16, 3\\)"),
        ({"initial_pose": np.zeros(10)}, "initial pose is"),
        ({"text": "  "}, "empty"),
        ({"text": "walk " * 200}, "token"),
        ({"chunks": 0}, "chunks is 0"),
        ({"seed": -1}, "negative"),
    ],
)
def test_t2vm_refuses(pipeline: JointPipeline, video: np.ndarray, pose: np.ndarray, change: dict, message: str) -> None:
    arguments = {"first_frame": video[0], "initial_pose": pose, "text": "walk", "chunks": 1} | change
    with pytest.raises(UserError, match=message):
        pipeline.t2vm(**arguments)


@pytest.mark.parametrize(
    ("motion", "message"),
    [(walk(0.5, 16), "16 frames"), (walk(0.5, 1), "1 frames"), (walk(0.5).resampled(8.0), "8 frames/s; expected 16")],
)
def test_tm2v_refuses(pipeline: JointPipeline, video: np.ndarray, motion: Motion, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipeline.tm2v(video[0], motion, "walk")


@pytest.mark.parametrize("shape", [(8, SIZE, SIZE, 3), (1, SIZE, SIZE, 3), (5, 16, 16, 3), (5,), ()])
def test_tv2m_refuses(pipeline: JointPipeline, pose: np.ndarray, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="video is uint8"):
        pipeline.tv2m(np.zeros(shape, np.uint8), pose, "walk")


@pytest.mark.parametrize(("field", "value"), [("temporal", "sideways"), ("steps", 0)])
def test_config_refuses(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{field} is"):
        JointConfig(**{field: value})
