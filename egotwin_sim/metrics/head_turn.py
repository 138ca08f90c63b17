"""Head turn between two frames, seen in the pictures alone: a small regressor trained on true frames.

A turn of the head moves the picture. Both frames are described by the same three convolutions on a 16 x 16 grid, every
place of one is compared with every place of the other, and the expected displacement of each place (a coarse optical
flow) is read by a small network. Comparing places, instead of regressing from pixels, is what lets half a minute of
training do, and what keeps it from recognising rooms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.models.images import image_to_unit

SIZE = 64  # pixels; every picture is brought to this size first
CHANNELS = 24
GRID = SIZE // 4
SCALE = 0.5  # radians; brings the targets near unit size
SHARPNESS = 10.0  # of the comparison at the start of training; learnt
# Most of the time a head hardly turns. A pair is drawn with a weight that grows from STILL_WEIGHT to 1 + STILL_WEIGHT
# at LARGE_TURN, or the regressor would learn to say "little" and fall short of every large turn.
STILL_WEIGHT = 0.15
LARGE_TURN = np.deg2rad(10.0)


def shrink(frames: np.ndarray) -> np.ndarray:
    """Area-averaged pictures of SIZE x SIZE: uint8 (N, H, W, 3) to uint8 (N, SIZE, SIZE, 3)."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    small = [F.interpolate(part.float(), size=(SIZE, SIZE), mode="area") for part in images.split(256)]
    return torch.cat(small).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


class HeadTurn(nn.Module):
    """Yaw of the head between two frames, radians, positive to the left."""

    def __init__(self) -> None:
        super().__init__()
        self.describe = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        )
        self.log_sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())
        self.read = nn.Sequential(
            nn.Conv2d(5, 24, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 24, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(24 * (GRID // 4) ** 2, 64),
            nn.SiLU(),
            nn.Linear(64, 1),
        )
        line = torch.linspace(-1.0, 1.0, GRID)
        places = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(-1, 2)
        self.register_buffer("places", places, persistent=False)

    def _descriptors(self, frames: Tensor) -> Tensor:
        x = self.describe(image_to_unit(frames.permute(0, 3, 1, 2))).flatten(2)
        return F.normalize(x - x.mean(dim=-1, keepdim=True), dim=1)

    def _directed(self, similarity: Tensor) -> Tensor:
        where = similarity.softmax(dim=-1)
        places = self.get_buffer("places")
        flow = where @ places - places
        surety = where.amax(dim=-1, keepdim=True)
        maps = torch.cat([flow, surety, places.expand(len(where), -1, -1)], dim=-1)
        return self.read(maps.transpose(1, 2).unflatten(2, (GRID, GRID)))[:, 0]

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Yaw (N,) in radians from uint8 frames (N, SIZE, SIZE, 3); swapping the frames negates it exactly."""
        a, b = self._descriptors(before), self._descriptors(after)
        similarity = torch.einsum("nci,ncj->nij", a, b) * self.log_sharpness.exp()
        return SCALE * (self._directed(similarity) - self._directed(similarity.transpose(1, 2)))

    @torch.no_grad()
    def predict(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Yaw between pictures of any size.

        Args:
            before: uint8 (N, H, W, 3).
            after: uint8 (N, H, W, 3).

        Returns:
            float64 (N,), radians, positive to the left.
        """
        a, b = torch.from_numpy(shrink(before)), torch.from_numpy(shrink(after))
        parts = [self(x, y) for x, y in zip(a.split(128), b.split(128), strict=True)]
        return torch.cat(parts).double().numpy()


def train_head_turn(
    before: np.ndarray, after: np.ndarray, yaw: np.ndarray, *, seed: int = 0, steps: int = 1000, batch: int = 32
) -> HeadTurn:
    """A `HeadTurn` fitted to pairs of true frames, with mirrored pairs mixed in and large turns drawn more often.

    Args:
        before: uint8 (N, H, W, 3).
        after: uint8 (N, H, W, 3).
        yaw: (N,) radians, the true turns of the head from `before` to `after`.
        seed: decides the start and the order.
        steps: optimiser steps.
        batch: pairs of a step.

    Returns:
        The regressor in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HeadTurn()
    a, b = torch.from_numpy(shrink(before)), torch.from_numpy(shrink(after))
    target = torch.from_numpy(np.asarray(yaw, dtype=np.float32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    weight = STILL_WEIGHT + (target.abs() / LARGE_TURN).clamp(max=1.0)
    for _ in range(steps):
        pick = torch.multinomial(weight, batch, replacement=True, generator=generator)
        mirror = torch.rand(batch, generator=generator) < 0.5
        x = torch.where(mirror[:, None, None, None], a[pick].flip(2), a[pick])
        y = torch.where(mirror[:, None, None, None], b[pick].flip(2), b[pick])
        truth = torch.where(mirror, -target[pick], target[pick])
        loss = F.smooth_l1_loss(model(x, y) / SCALE, truth / SCALE, beta=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def pair_indices(length: int, gap: int) -> np.ndarray:
    """First frames of the consecutive pairs (i, i + gap) that tile a clip: 0, gap, 2 gap, ..."""
    return np.arange(0, length - gap, gap)


def total_turn(model: HeadTurn, frames: np.ndarray, gap: int) -> float:
    """Head turn over a clip uint8 (T, H, W, 3): the sum over consecutive pairs `gap` frames apart, radians."""
    start = pair_indices(len(frames), gap)
    return float(model.predict(frames[start], frames[start + gap]).sum())


@dataclass(frozen=True)
class TurnAgreement:
    """Recovered against commanded head turns.

    Attributes:
        count: clips compared.
        slope: least-squares factor of recovered on commanded turns, through the origin; 1 is right.
        relative_error: mean |recovered - commanded| / |commanded|.
        mean_error_deg: mean |recovered - commanded|, degrees.
    """

    count: int
    slope: float
    relative_error: float
    mean_error_deg: float


def turn_agreement(commanded: np.ndarray, recovered: np.ndarray, least_deg: float = 15.0) -> TurnAgreement:
    """How well turns (N,) in radians agree, over those whose commanded turn is more than `least_deg` degrees."""
    large = np.abs(commanded) > np.deg2rad(least_deg)
    truth, seen = np.asarray(commanded)[large], np.asarray(recovered)[large]
    if not large.any():
        return TurnAgreement(0, float("nan"), float("nan"), float("nan"))
    error = np.abs(seen - truth)
    return TurnAgreement(
        count=int(large.sum()),
        slope=float((seen * truth).sum() / (truth * truth).sum()),
        relative_error=float((error / np.abs(truth)).mean()),
        mean_error_deg=float(np.rad2deg(error.mean())),
    )
