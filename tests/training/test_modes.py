"""The stage that reads motion from given video and keeps everything else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.models.view_condition import CONDITION_CHANNELS
from egotwin_sim.training.stages.modes import ModesConfig, head_distance, hide_unknown, modes_loss
from tests.tiny import LATENT_CHANNELS, TOKEN_CHANNELS, standing, tiny_motion_vae, tiny_transformer

CLIPS, CHUNKS = 4, 2
NULL = torch.zeros(5, 384), torch.ones(5, dtype=torch.bool)


def clips(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "latents": normal(CLIPS, 1 + CHUNKS, LATENT_CHANNELS, 4, 4),
        "priors": normal(CLIPS, 1 + CHUNKS, LATENT_CHANNELS, 4, 4),
        "channels": normal(CLIPS, 1 + CHUNKS, CONDITION_CHANNELS, 4, 4),
        "tokens": normal(CLIPS, 1 + 2 * CHUNKS, TOKEN_CHANNELS),
        "text": normal(CLIPS, 5, 384),
        "text_mask": torch.ones(CLIPS, 5, dtype=torch.bool),
        "positions": torch.arange(1 + CHUNKS),
        "states": torch.from_numpy(standing()).expand(CLIPS, CHUNKS, -1),
    }


def loss_of(transformer: Any, teacher: Any, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    batch = {"read": clips(1), "keep": clips(2)}
    generator = torch.Generator().manual_seed(seed)
    vae = tiny_motion_vae().requires_grad_(False)
    return modes_loss(transformer, teacher, vae, NoiseSchedule(), batch, NULL, ModesConfig(), generator)


def test_at_the_start_nothing_has_to_be_kept():
    torch.manual_seed(0)
    transformer = tiny_transformer()
    _, parts = loss_of(transformer, copy.deepcopy(transformer))
    assert parts["kept_view"] == parts["kept_body"] == 0
    assert parts["motion"] > 0 and parts["head"] > 0


def test_what_changes_is_held_back():
    torch.manual_seed(0)
    transformer = tiny_transformer()
    teacher = copy.deepcopy(transformer)
    with torch.no_grad():
        transformer.proj_out.bias += 0.1
        transformer.motion_proj_out.bias += 0.1
    _, parts = loss_of(transformer, teacher)
    assert parts["kept_view"].item() == pytest.approx(0.01, rel=1e-3)
    assert parts["kept_body"].item() == pytest.approx(0.01, rel=1e-3)


def test_gradients_reach_the_motion_from_where_it_leads_the_head():
    torch.manual_seed(0)
    transformer = tiny_transformer()
    _, parts = loss_of(transformer, copy.deepcopy(transformer))
    parts["head"].backward()
    assert transformer.motion_proj_out.weight.grad.abs().sum() > 0
    assert transformer.proj_out.weight.grad is None or not transformer.proj_out.weight.grad.any()


def test_head_distance():
    vae, batch = tiny_motion_vae().requires_grad_(False), clips()
    tokens, states = batch["tokens"], batch["states"]
    every = torch.ones(CLIPS, CHUNKS, dtype=torch.bool)
    assert head_distance(vae, states, tokens, tokens, every) == 0
    other = tokens.clone()
    other[0, 1:3] += 1  # the first chunk of the first clip
    assert head_distance(vae, states, other, tokens, every) > 0
    every[0, 0] = False
    assert head_distance(vae, states, other, tokens, every) == 0


def test_only_what_is_known_is_shown():
    batch = clips()
    known = torch.zeros(CLIPS, 1 + CHUNKS, dtype=torch.bool)
    known[:, 2] = True
    priors, channels = hide_unknown(batch, known)
    assert not priors[:, :2].any() and torch.equal(priors[:, 2], batch["priors"][:, 2])
    assert torch.equal(channels[:, 2], batch["channels"][:, 2]) and not channels[:, 1].any()
    remembered = 8
    assert torch.equal(channels[:, 0, remembered:], batch["channels"][:, 0, remembered:])  # the initial pose's body
    assert not channels[:, 0, :remembered].any()
