"""Distances between pictures that a mean colour distance does not see: edges, and how steep they are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.metrics.sharpness import LUMA


def gradient_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the spatial differences of two pictures (..., H, W)."""
    difference = a - b
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def steepness_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the steepest luma edge of each 4x4 pixels of two videos (B, 3, T, H, W)."""

    def steepest(video: Tensor, dim: int) -> Tensor:
        luma = torch.einsum("bcthw,c->bthw", video.float(), video.new_tensor(LUMA, dtype=torch.float32))
        return F.max_pool2d(luma.diff(dim=dim).abs(), kernel_size=4, stride=2)

    return sum(((steepest(a, dim) - steepest(b, dim)).abs().mean() for dim in (-1, -2)), start=a.new_zeros(()))
