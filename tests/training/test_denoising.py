"""What the denoising loss counts, hides and drops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.diffusion.timesteps import TimestepConfig
from egotwin_sim.models.view_condition import CONDITION_CHANNELS
from egotwin_sim.training.denoising import DenoisingConfig, denoising_loss, drop_text, masked_mean
from tests.tiny import LATENT_CHANNELS, TOKEN_CHANNELS, tiny_transformer

FRAMES, COUNT = 4, 3
CLIP = DenoisingConfig(memory_noise=0.0, memory_dropout=0.0, text_dropout=0.0)
STREAM = replace(CLIP, temporal="causal", per_chunk=True, video=TimestepConfig(clean_prefix=0.5))
NULL = torch.zeros(5, 384), torch.zeros(5, dtype=torch.bool)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "latents": normal(COUNT, FRAMES, LATENT_CHANNELS, 4, 4),
        "priors": normal(COUNT, FRAMES, LATENT_CHANNELS, 4, 4),
        "channels": torch.rand(COUNT, FRAMES, CONDITION_CHANNELS, 4, 4, generator=generator),
        "tokens": normal(COUNT, 2 * FRAMES - 1, TOKEN_CHANNELS),
        "text": normal(COUNT, 5, 384),
        "text_mask": torch.ones(COUNT, 5, dtype=torch.bool),
        "positions": torch.arange(FRAMES),
    }


class Recorder(torch.nn.Module):
    """A transformer that remembers its inputs and predicts zero."""

    config = SimpleNamespace(shared_timestep=False)

    def forward(
        self, video: Tensor, text: Tensor, t_video: Tensor, motion: Tensor, t_motion: Tensor, **options: object
    ):
        from egotwin_sim.models import EgoTwinTransformerOutput

        self.seen = {"video": video, "text": text, "t_video": t_video, "motion": motion, "t_motion": t_motion}
        return EgoTwinTransformerOutput(
            video=torch.zeros_like(video[:, :, :LATENT_CHANNELS]), motion=torch.zeros_like(motion)
        )


def run(batch: dict[str, Tensor], config: DenoisingConfig, seed: int = 0) -> dict[str, Tensor]:
    recorder = Recorder()
    denoising_loss(recorder, NoiseSchedule(), batch, NULL, config, torch.Generator().manual_seed(seed))
    return recorder.seen


@pytest.mark.parametrize("config", [CLIP, STREAM])
def test_first_frame_and_initial_pose_stay_clean(batch: dict[str, Tensor], config: DenoisingConfig) -> None:
    for seed in range(5):
        seen = run(batch, config, seed)
        assert not seen["t_video"][:, 0].any() and not seen["t_motion"][:, 0].any()
        torch.testing.assert_close(
            seen["video"][:, 0, :LATENT_CHANNELS], batch["latents"][:, 0] - batch["priors"][:, 0]
        )
        torch.testing.assert_close(seen["motion"][:, 0], batch["tokens"][:, 0])


def test_one_level_a_clip_or_one_a_chunk(batch: dict[str, Tensor]) -> None:
    clip = run(batch, CLIP)["t_video"][:, 1:]
    assert (clip == clip[:, :1]).all()
    chunk = run(batch, replace(STREAM, video=TimestepConfig()))["t_video"][:, 1:]
    assert (chunk != chunk[:, :1]).any()


def test_video_and_motion_have_their_own_levels(batch: dict[str, Tensor]) -> None:
    seen = run(batch, replace(CLIP, motion_given=0.0))
    assert (seen["t_video"][:, 1] != seen["t_motion"][:, 1]).all()


def test_memory_is_hidden_where_the_motion_is_not_given(batch: dict[str, Tensor]) -> None:
    prior, channels = slice(LATENT_CHANNELS, 2 * LATENT_CHANNELS), slice(2 * LATENT_CHANNELS, None)
    given = run(batch, replace(CLIP, motion_given=1.0))
    torch.testing.assert_close(given["video"][:, :, prior], batch["priors"])
    torch.testing.assert_close(given["video"][:, :, channels], batch["channels"])
    assert not given["t_motion"].any()
    hidden = run(batch, replace(CLIP, motion_given=0.0))
    assert not hidden["video"][:, 1:, prior].any() and not hidden["video"][:, 1:, channels].any()
    torch.testing.assert_close(hidden["video"][:, 0, channels], batch["channels"][:, 0])


def test_given_motion_carries_no_loss(batch: dict[str, Tensor]) -> None:
    _, scalars = denoising_loss(
        Recorder(), NoiseSchedule(), batch, NULL, replace(CLIP, motion_given=1.0), torch.Generator().manual_seed(0)
    )
    assert scalars["motion"] == 0 and scalars["video"] > 0


def test_loss_trains_every_part(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    transformer = tiny_transformer()
    loss, _ = denoising_loss(
        transformer, NoiseSchedule(), batch, NULL, replace(STREAM, motion_given=0.5), torch.Generator().manual_seed(0)
    )
    loss.backward()
    idle = [name for name, p in transformer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_same_generator_same_loss(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    transformer = tiny_transformer()
    losses = [
        denoising_loss(transformer, NoiseSchedule(), batch, NULL, STREAM, torch.Generator().manual_seed(s))[0]
        for s in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_text_dropout_is_a_share_of_the_rows() -> None:
    batch = {"text": torch.ones(2000, 5, 384), "text_mask": torch.ones(2000, 5, dtype=torch.bool)}
    text, mask = drop_text(batch, NULL, 0.1, torch.Generator().manual_seed(0))
    dropped = ~mask[:, 0]
    assert 0.07 < dropped.float().mean() < 0.13
    assert not text[dropped].any() and text[~dropped].all()


def test_masked_mean_counts_kept_entries_only() -> None:
    error = torch.tensor([[[1.0, 1.0], [3.0, 3.0]]])
    assert masked_mean(error, torch.tensor([[True, False]])) == 1
    assert masked_mean(error, torch.tensor([[True, True]])) == 5
    assert masked_mean(error, torch.tensor([[False, False]])) == 0
