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


def luma(video: Tensor) -> Tensor:
    """Float32 luma (B, T, H, W) of a video (B, 3, T, H, W)."""
    return torch.einsum("bcthw,c->bthw", video.float(), video.new_tensor(LUMA, dtype=torch.float32))


def steepness_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the steepest luma edge of each 4x4 pixels of two videos (B, 3, T, H, W)."""

    def steepest(video: Tensor, dim: int) -> Tensor:
        grey = luma(video)
        return F.max_pool2d(grey.diff(dim=dim).abs(), kernel_size=4, stride=2)

    return sum(((steepest(a, dim) - steepest(b, dim)).abs().mean() for dim in (-1, -2)), start=a.new_zeros(()))


def edge_distribution_distance(a: Tensor, b: Tensor, cells: int = 4, tail: float = 0.0) -> Tensor:
    """Wasserstein distance of the luma gradients' magnitudes in each of cells x cells parts of two videos.

    Where a view could not be known, no edge of the dream lies where the true one does, and every distance that compares
    places rewards a smear. This one asks for as many edges, as steep, anywhere in the same part of the picture. In one
    dimension the distance is that of the sorted values.

    Args:
        a: (B, 3, T, H, W).
        b: likewise.
        cells: parts of a side.
        tail: weighs a gradient of rank r in [0, 1], 1 being the steepest, by (1 + tail) r^tail: 0 weighs all alike,
            8 gives the steepest tenth six times the weight of the mean. A picture's outlines are a small part of it.
    """

    def ordered(video: Tensor) -> Tensor:
        grey = luma(video)
        dx, dy = grey[..., :-1, 1:] - grey[..., :-1, :-1], grey[..., 1:, :-1] - grey[..., :-1, :-1]
        magnitude = F.pad((dx.square() + dy.square() + 1e-8).sqrt(), (0, 1, 0, 1))
        parts = magnitude.unflatten(-1, (cells, -1)).unflatten(-3, (cells, -1)).transpose(-3, -2)
        return parts.flatten(-2).sort(dim=-1).values

    difference = (ordered(a) - ordered(b)).abs()
    rank = torch.linspace(0, 1, difference.shape[-1], device=difference.device)
    return (difference * (1 + tail) * rank**tail).mean()
