"""The critic learns to tell smears from pictures, and teaches the dreamer without teaching itself to be fooled."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from egotwin_sim.training.critic import PatchCritic, critic_losses


def chunks(seed: int, blurred: bool = False) -> torch.Tensor:
    """Chunks (4, 3, 4, 64, 64) of coarse squares, sharp or smeared."""
    squares = torch.rand(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).mul(2).sub(1).round()
    picture = squares.expand(-1, -1, 4, -1, -1).flatten(1, 2).repeat_interleave(8, -1).repeat_interleave(8, -2)
    if blurred:
        picture = F.avg_pool2d(F.pad(picture, (8,) * 4, mode="replicate"), 17, stride=1)
    return picture.unflatten(1, (3, 4))


def test_each_loss_trains_its_own_side() -> None:
    torch.manual_seed(0)
    critic = PatchCritic((8, 16, 16))
    dreamt = chunks(1, blurred=True).requires_grad_()
    dreamer, mistakes = critic_losses(critic, dreamt, chunks(0))
    dreamer.backward()
    assert dreamt.grad is not None and dreamt.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())
    dreamt.grad = None
    mistakes.backward()
    assert dreamt.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_it_learns_to_prefer_pictures_and_its_opinion_sharpens() -> None:
    torch.manual_seed(0)
    critic = PatchCritic((8, 16, 16))
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for step in range(60):
        _, mistakes = critic_losses(critic, chunks(2 * step, blurred=True), chunks(2 * step + 1))
        optimiser.zero_grad()
        mistakes.backward()
        optimiser.step()
    smear = chunks(1000, blurred=True)
    with torch.no_grad():
        assert critic(chunks(1001)).mean() > critic(smear).mean() + 1
    opinion, _ = critic_losses(critic, smear.requires_grad_(), chunks(1001))
    (gradient,) = torch.autograd.grad(opinion, smear)
    with torch.no_grad():
        changed = smear - 0.5 * gradient / gradient.abs().amax()
        assert critic(changed).mean() > critic(smear).mean()
