"""The baseline without branches: what it sees, what it takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from egotwin_sim.errors import UserError
from egotwin_sim.models.denoiser import denoiser_class, load_denoiser
from egotwin_sim.models.vidmld import VidMLD

TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 3,
    "time_embed_dim": 16,
    "text_embed_dim": 12,
    "num_layers": 3,
    "max_text_seq_length": 6,
    "motion_channels": 7,
}


def tiny(**options: object) -> VidMLD:
    model = VidMLD(**(TINY | options))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def inputs(latents: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    timestep = torch.tensor([300.0, 900.0])
    return {
        "video": torch.randn(2, latents, 4, 4, 6, generator=generator),
        "text": torch.randn(2, 6, 12, generator=generator),
        "video_timestep": timestep[:, None] * (torch.arange(latents) > 0),
        "motion": torch.randn(2, 2 * latents - 1, 7, generator=generator),
        "motion_timestep": timestep[:, None] * (torch.arange(2 * latents - 1) > 0),
    }


@torch.no_grad()
def changed(model: VidMLD, name: str, index: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the predictions of video (B, F) and motion (B, M) change with a number of the input."""
    before, after = inputs(), inputs()
    after[name][index] += 1.0
    (video, motion), (other_video, other_motion) = (model(**x, return_dict=False) for x in (before, after))
    return (video != other_video).flatten(2).any(-1), (motion != other_motion).any(-1)


@pytest.mark.parametrize(("name", "index"), [("video", (0, 2, 0, 3, 5)), ("motion", (0, 4, 0)), ("text", (0, 0, 0))])
def test_all_tokens_see_all_tokens(name: str, index: tuple) -> None:
    video, motion = changed(tiny(), name, index)
    assert video[0].all() and motion[0].all()
    assert not video[1].any() and not motion[1].any()


def test_shapes_and_a_new_model_predicts_zero() -> None:
    output = VidMLD(**TINY)(**inputs())
    assert output.video.shape == (2, 3, 3, 4, 6) and output.motion.shape == (2, 5, 7)
    assert not output.video.any() and not output.motion.any()
    model = tiny()
    with torch.no_grad():
        half = model(**inputs(), motion_only=True)
        assert half.video is None and torch.equal(half.motion, model(**inputs()).motion)


def test_gradients_reach_every_parameter() -> None:
    model = tiny()
    output = model(**inputs())
    (output.video.square().mean() + output.motion.square().mean()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_padding_is_not_seen() -> None:
    model, data = tiny(), inputs()
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    other = data | {"text": data["text"].clone()}
    other["text"][0, 4:] += 1.0
    with torch.no_grad():
        assert torch.equal(model(**data, text_mask=mask).video, model(**other, text_mask=mask).video)
        assert not torch.equal(model(**data).video, model(**other).video)


def test_what_is_given_and_the_noise_level_count() -> None:
    model, data = tiny(), inputs()
    with torch.no_grad():
        before = model(**data).video
        all_noisy = {name: torch.tensor([300.0, 900.0]) for name in ("video_timestep", "motion_timestep")}
        other_level = {name: data[name] * 0.5 for name in ("video_timestep", "motion_timestep")}
        assert not torch.allclose(model(**(data | all_noisy)).video, before)
        assert not torch.allclose(model(**(data | other_level)).video, before)


def test_positions_tell_tokens_of_one_content_apart() -> None:
    model, data = tiny(), inputs()
    data["video"] = torch.ones_like(data["video"])
    with torch.no_grad():
        video = model(**data).video
    assert not torch.allclose(video[:, 1], video[:, 2])
    assert not torch.allclose(video[:, 1, :, :2, :2], video[:, 1, :, :2, 2:4])


def test_learns_and_survives_saving(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VidMLD(**TINY)
    data, target = inputs(), (torch.randn(2, 3, 3, 4, 6), torch.randn(2, 5, 7))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        video, motion = model(**data, return_dict=False)
        loss = nn.functional.mse_loss(video, target[0]) + nn.functional.mse_loss(motion, target[1])
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]
    model.eval().save_pretrained(tmp_path)
    loaded = load_denoiser(tmp_path)
    assert isinstance(loaded, VidMLD) and loaded.config.shared_timestep and not loaded.config.interaction
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**data).video, model(**data).video)


def test_bf16_autocast_is_close_to_float32() -> None:
    model = tiny()
    with torch.no_grad():
        exact = model(**inputs()).video
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(**inputs()).video
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"motion_timestep": torch.zeros(2)}, "different timesteps"),
        ({"video_timestep": torch.tensor([1000.0, 1000.0])}, "different timesteps"),
        ({"temporal": "causal"}, "bidirectional"),
        ({"motion": None}, "all three"),
        ({"motion": torch.zeros(2, 4, 7)}, "motion has shape"),
        ({"video": torch.zeros(2, 3, 4, 5, 6)}, "video has shape"),
        ({"text": torch.zeros(2, 7, 12)}, "text has shape"),
        ({"latent_positions": [0, 7, 8]}, "whole clips"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiny()(**(inputs() | change))


def test_configs_that_cannot_be_built_are_named() -> None:
    with pytest.raises(UserError, match="no interaction mask"):
        VidMLD(interaction=True)
    with pytest.raises(UserError, match="multiple of 8"):
        VidMLD(attention_head_dim=12)
    with pytest.raises(UserError, match="egotwin or vidmld"):
        denoiser_class("mld")
