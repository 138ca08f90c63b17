"""Masks and positions of a ring cache: what a new chunk sees of slots that are filled differently in every row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from egotwin_sim.models.attention import Visibility

SINK_TOKENS, CHUNK_TOKENS = 1, 2  # motion tokens of chunk 0, and of every other chunk


@dataclass(frozen=True)
class Level:
    """What the lower layers, or the upper ones, share: over ``[text | motion | video]``, or ``[text | video]``.

    Attributes:
        seen: what the new tokens (rows) see of cached and new ones (columns).
        query_turn: cosines and signed sines (rows, 1, head_dim), or None without rotary positions.
        key_turn: likewise for the columns.
    """

    seen: Visibility
    query_turn: tuple[Tensor, Tensor] | None
    key_turn: tuple[Tensor, Tensor] | None


def ring_columns(filled: int, sink: int, window: int, num_text: int, per_latent: int, motion: bool) -> Tensor:
    """Where in the ring's columns those of a plain cache with `filled` chunks lie.

    Both are ordered ``[text | motion | video]``, cached before new. The ring's new chunk comes after all slots.
    """
    new = sink + window
    in_window = max(0, filled - sink)
    slots = [*range(min(filled, sink)), *range(new - in_window, new), new]
    columns, start = [torch.arange(num_text)], num_text
    if motion:
        for slot in slots:
            first = SINK_TOKENS + CHUNK_TOKENS * (slot - 1) if slot else 0
            columns.append(start + first + torch.arange(CHUNK_TOKENS if slot else SINK_TOKENS))
        start += SINK_TOKENS + CHUNK_TOKENS * new
    columns += [start + slot * per_latent + torch.arange(per_latent) for slot in slots]
    return torch.cat(columns)


def ring_level(levels: list[Level], sink: int, num_text: int, per_latent: int, motion: bool) -> Level:
    """One level whose leading dimension is the number of filled slots, less one.

    Args:
        levels: of plain caches with 1, 2, ... S + W chunks and one new chunk.
        sink: S.
        num_text: text tokens.
        per_latent: video tokens of a latent.
        motion: whether the level has motion.
    """
    slots = len(levels)
    total = num_text + (slots + 1) * per_latent
    total += SINK_TOKENS + CHUNK_TOKENS * slots if motion else 0
    rows, like = levels[0].seen.bias.shape[2], levels[0].seen.bias
    bias = like.new_full((slots, 1, rows, total), float("-inf"))
    query, key = [], []
    for i, level in enumerate(levels):
        columns = ring_columns(i + 1, sink, slots - sink, num_text, per_latent, motion).to(like.device)
        bias[i, :, :, columns] = level.seen.bias[0].expand(1, rows, -1)
        assert level.query_turn is not None and level.key_turn is not None
        query.append(level.query_turn)
        spread = [turn.new_zeros(total, *turn.shape[1:]) for turn in level.key_turn]
        for full, turn in zip(spread, level.key_turn, strict=True):
            full[columns] = turn
        key.append((spread[0], spread[1]))
    fixed = rows - per_latent
    seen = Visibility.of((bias[:, 0] == 0).any(0), [0, fixed, rows], like.dtype)
    seen = Visibility(bias, whole=False, blocks=seen.blocks)
    return Level(seen, _stacked(query), _stacked(key))


def choose_rows(level: Level, filled: Tensor) -> Level:
    """The level of rows whose buffers hold `filled` (B,) chunks."""
    assert level.query_turn is not None and level.key_turn is not None
    at = filled - 1
    seen = Visibility(level.seen.bias[at], whole=False, blocks=level.seen.blocks)
    query, key = ((turn[0][at], turn[1][at]) for turn in (level.query_turn, level.key_turn))
    return Level(seen, query, key)


def _stacked(turns: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([cos for cos, _ in turns]), torch.stack([sin for _, sin in turns])
