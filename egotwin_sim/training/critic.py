"""A critic that tells dreamt from true latents, so that what was never seen becomes a view instead of a smear.

Distances to the true picture cannot ask for that: where a view could not be known, their best answer is the mean of
all that it might have been. A critic (Goodfellow et al., arXiv 1406.2661, with the hinge loss of arXiv 1705.02894)
asks that a chunk looks like one of the room. It works on latents, where a small network sees far (latent adversarial
distillation, arXiv 2403.12015), and it is told what the dreamer was told: what of the view is remembered, and where
the arms are. So it also asks for the arm that should be there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

SLOPE = 0.2  # of the leaky rectifiers
NUDGE = 0.05  # deviation of the noise that measures how steep the critic is, in latent units


class CriticBlock(nn.Module):
    """Two convolutions around a shortcut, of equal variance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w)."""
        change = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, SLOPE)), SLOPE))
        return (x + change) / math.sqrt(2)


class LatentCritic(nn.Module):
    """How true each place of a chunk's latent looks, given its condition.

    Args:
        latent_channels: of a latent.
        condition_channels: of what the dreamer was told beside its noise.
        width: of the layers.
        blocks: at the latent's own size, and at half of it.
    """

    def __init__(
        self, latent_channels: int, condition_channels: int, width: int = 128, blocks: tuple[int, int] = (2, 2)
    ) -> None:
        super().__init__()
        self.into = nn.Conv2d(latent_channels + condition_channels, width, 3, padding=1)
        self.fine = nn.Sequential(*(CriticBlock(width) for _ in range(blocks[0])))
        self.coarse = nn.Sequential(*(CriticBlock(width) for _ in range(blocks[1])))
        self.out_fine, self.out_coarse = nn.Conv2d(width, 1, 1), nn.Conv2d(width, 1, 1)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Scores (N, h w + h w / 4) of latents (N, C, h, w) under a condition (N, E, h, w); positive looks true."""
        fine = self.fine(self.into(torch.cat([latent, condition], dim=1)))
        coarse = self.coarse(F.avg_pool2d(fine, 2))
        places = (out(F.leaky_relu(x, SLOPE)).flatten(1) for out, x in
                  ((self.out_fine, fine), (self.out_coarse, coarse)))  # fmt: skip
        return torch.cat(list(places), dim=1).float()


class Criticism(NamedTuple):
    """Scalars: what the dreamer minimises, what the critic minimises, and how steep the critic is."""

    dreamer: Tensor
    critic: Tensor
    steepness: Tensor


def criticise(critic: LatentCritic, dreamt: Tensor, true: Tensor, condition: Tensor, nudge: Tensor) -> Criticism:
    """The losses of both sides; neither trains the other's weights.

    The steepness is a finite difference at the true latents (arXiv 2501.08316), which keeps the critic's slope, and so
    what it teaches, from growing without end.

    Args:
        critic: the critic.
        dreamt: (N, C, h, w).
        true: likewise, for the same condition.
        condition: (N, E, h, w).
        nudge: standard normal, like `true`.
    """
    frozen = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    dreamer = -functional_call(critic, frozen, (dreamt, condition)).mean()
    count = len(true)
    said = critic(
        torch.cat([true, true + NUDGE * nudge, dreamt.detach()]), torch.cat([condition, condition, condition])
    )
    said_true, said_near, said_dreamt = said.split(count)
    mistakes = F.relu(1 - said_true).mean() + F.relu(1 + said_dreamt).mean()
    return Criticism(dreamer, mistakes, ((said_near - said_true) / NUDGE).square().mean())
