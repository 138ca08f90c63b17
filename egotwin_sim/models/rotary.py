"""Rotary positions: three axes for video tokens, time alone for motion tokens, none for text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed

Rotary = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, each float32 (tokens, head_dim), every frequency twice in a row."""


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """How CogVideoX shares the channels of a head between time, height and width."""
    return head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3


def fitted_extent(size: tuple[int, int], base: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Start and end of both axes when a grid is scaled into the middle of `base` without changing its proportions."""
    scale = min(base[0] / size[0], base[1] / size[1])
    extents = []
    for length, room in zip(size, base, strict=True):
        fitted = round(length * scale)
        start = round((room - fitted) / 2)
        extents.append((start, start + fitted))
    return extents[0], extents[1]


def video_rotary(
    head_dim: int,
    times: Sequence[float],
    grid: tuple[int, int],
    base_grid: tuple[int, int],
    device: torch.device | None = None,
) -> Rotary:
    """3D rotary positions of video tokens, equal to the CogVideoX pipeline's when `times` is 0..F-1.

    Args:
        head_dim: channels of an attention head.
        times: one time per latent, in latents.
        grid: tokens of a latent (height, width).
        base_grid: tokens of a latent (height, width) at the model's own size; another size is fitted into it.
        device: where the tables are made.

    Returns:
        Tables of F * height * width rows, in the order of the video tokens.
    """
    (top, bottom), (left, right) = fitted_extent(grid, base_grid)
    height, width = grid
    axes = (
        torch.tensor(times, dtype=torch.float32, device=device),
        torch.linspace(top, bottom * (height - 1) / height, height, dtype=torch.float32, device=device),
        torch.linspace(left, right * (width - 1) / width, width, dtype=torch.float32, device=device),
    )
    parts = [
        get_1d_rotary_pos_embed(n, axis, use_real=True) for n, axis in zip(axis_widths(head_dim), axes, strict=True)
    ]

    def spread(time: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        shape = (len(times), height, width, -1)
        return torch.cat(
            [time[:, None, None].expand(shape), row[None, :, None].expand(shape), column[None, None].expand(shape)],
            dim=-1,
        ).flatten(0, 2)

    return spread(*(cos for cos, _ in parts)), spread(*(sin for _, sin in parts))


def motion_times(latent_positions: Sequence[int], times: Sequence[float]) -> list[float]:
    """Time of every motion token, in latents: a token sits where the window that it covers ends, as a latent does.

    Token 2k ends with latent k, token 2k-1 half a latent earlier, token 0 with latent 0.
    """
    halves = (
        (time,) if position == 0 else (time - 0.5, time) for position, time in zip(latent_positions, times, strict=True)
    )
    return [time for pair in halves for time in pair]


def motion_rotary(head_dim: int, times: Sequence[float], device: torch.device | None = None) -> Rotary:
    """1D rotary positions of motion tokens: the time channels turn as the video's do, the other channels stay."""
    dim_time = axis_widths(head_dim)[0]
    cos = torch.ones(len(times), head_dim, device=device)
    sin = torch.zeros(len(times), head_dim, device=device)
    cos[:, :dim_time], sin[:, :dim_time] = get_1d_rotary_pos_embed(
        dim_time, torch.tensor(times, dtype=torch.float32, device=device), use_real=True
    )
    return cos, sin


def signed_sines(sin: torch.Tensor) -> torch.Tensor:
    """Sines with the sign that each channel of a pair needs in `rotate`: minus for the first, plus for the second."""
    return sin * torch.tensor([-1.0, 1.0], device=sin.device).repeat(sin.shape[-1] // 2)


def rotate(x: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """Turn the channel pairs (0, 1), (2, 3), ... of x.

    Args:
        x: (B, S, heads, head_dim).
        cos: (S, 1, head_dim), or (B, S, 1, head_dim), of x's dtype.
        signed_sin: likewise, from `signed_sines`, of x's dtype.
    """
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, swapped, signed_sin)
