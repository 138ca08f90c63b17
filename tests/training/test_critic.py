"""The critic learns to tell smears from views, and teaches the dreamer without teaching itself to be fooled."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from egotwin_sim.training.critic import LatentCritic, criticise


def latents(seed: int, smeared: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents (8, 4, 8, 8), what is known of them (8, 2, 8, 8), and a nudge."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(8, 4, 8, 8, generator=generator)
    if smeared:
        true = F.avg_pool2d(F.pad(true, (2,) * 4, mode="replicate"), 5, stride=1)
    return true, torch.rand(8, 2, 8, 8, generator=generator), torch.randn(8, 4, 8, 8, generator=generator)


def test_each_loss_trains_its_own_side() -> None:
    torch.manual_seed(0)
    critic = LatentCritic(4, 2, width=16, blocks=(1, 1))
    true, condition, nudge = latents(0)
    dreamt = latents(1, smeared=True)[0].requires_grad_()
    losses = criticise(critic, dreamt, true, condition, nudge)
    losses.dreamer.backward()
    assert dreamt.grad is not None and dreamt.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())
    dreamt.grad = None
    (losses.critic + losses.steepness).backward()
    assert dreamt.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_it_learns_to_prefer_views_and_its_opinion_leads_there() -> None:
    torch.manual_seed(0)
    critic = LatentCritic(4, 2, width=16, blocks=(1, 1))
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for step in range(60):
        true, condition, nudge = latents(2 * step)
        losses = criticise(critic, latents(2 * step + 1, smeared=True)[0], true, condition, nudge)
        optimiser.zero_grad()
        (losses.critic + 0.05 * losses.steepness).backward()
        optimiser.step()
    true, condition, nudge = latents(1000)
    smear = latents(1001, smeared=True)[0].requires_grad_()
    losses = criticise(critic, smear, true, condition, nudge)
    assert losses.critic < 1
    (gradient,) = torch.autograd.grad(losses.dreamer, smear)
    with torch.no_grad():
        better = smear - 0.5 * gradient / gradient.abs().amax()
        assert criticise(critic, better, true, condition, nudge).dreamer < losses.dreamer


def test_a_flat_critic_has_no_slope() -> None:
    critic = LatentCritic(4, 2, width=16, blocks=(1, 1))
    for parameter in critic.parameters():
        torch.nn.init.zeros_(parameter)
    true, condition, nudge = latents(0)
    assert criticise(critic, true, true, condition, nudge).steepness == 0
