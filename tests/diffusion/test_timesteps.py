"""Training timesteps."""

from __future__ import annotations

import pytest
import torch

from egotwin_sim.diffusion.timesteps import (
    TimestepConfig,
    motion_timesteps,
    sample_chunk_timesteps,
    sample_clip_timesteps,
)
from egotwin_sim.errors import UserError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_clip_timesteps_of_the_modalities_are_independent_and_cover_the_range() -> None:
    g = generator()
    t_v, t_m = (sample_clip_timesteps(20000, TimestepConfig(), g) for _ in range(2))
    assert abs(torch.corrcoef(torch.stack([t_v, t_m]))[0, 1]) < 0.03
    assert t_v.min() >= 1 and t_v.max() <= 1000
    assert abs(t_v.mean() - 500) < 10
    assert torch.equal(t_v, t_v.round())


def test_given_and_absent_shares() -> None:
    t = sample_clip_timesteps(20000, TimestepConfig(given=0.2, absent=0.1), generator())
    assert (t == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (t == 1000).float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_logit_normal_mean_moves_the_noise() -> None:
    low, high = (
        sample_clip_timesteps(5000, TimestepConfig(distribution="logit_normal", mean=m), generator()).median()
        for m in (-1.0, 1.0)
    )
    assert low.item() == pytest.approx(1000 * torch.tensor(-1.0).sigmoid().item(), rel=0.08)
    assert high.item() == pytest.approx(1000 * torch.tensor(1.0).sigmoid().item(), rel=0.08)


def test_chunks_are_independent_and_the_first_is_given() -> None:
    t = sample_chunk_timesteps(10000, 4, TimestepConfig(), generator())
    assert t.shape == (10000, 4)
    assert (t[:, 0] == 0).all() and (t[:, 1:] >= 1).all()
    correlation = torch.corrcoef(t[:, 1:].T)
    assert (correlation - torch.eye(3)).abs().max() < 0.05


def test_clean_prefix_leaves_at_least_one_chunk_to_learn_from() -> None:
    t = sample_chunk_timesteps(2000, 5, TimestepConfig(clean_prefix=1.0), generator())
    lengths = (t == 0).sum(1)
    assert sorted(lengths.unique().tolist()) == [1, 2, 3, 4]
    for row, length in zip(t, lengths, strict=True):
        assert (row[:length] == 0).all() and (row[length:] > 0).all()


def test_motion_tokens_take_their_chunks_timestep() -> None:
    assert motion_timesteps(torch.tensor([[0, 7, 9]])).tolist() == [[0, 7, 7, 9, 9]]


def test_bad_configuration_is_refused() -> None:
    with pytest.raises(UserError, match="uniform or logit_normal"):
        TimestepConfig(distribution="normal")
    with pytest.raises(UserError, match="probabilities"):
        TimestepConfig(given=0.7, absent=0.6)
