"""Masks and positions of a ring cache: what a new chunk sees of slots that are filled differently in every row."""

from __future__ import annotations

import torch
from torch import Tensor

from egotwin_sim.models.attention import Visibility
from egotwin_sim.models.transformer_layers import Level

SINK_TOKENS, CHUNK_TOKENS = 1, 2  # motion tokens of chunk 0, and of every other chunk


def ring_columns(filled: int, window: int, num_text: int, per_latent: int, motion: bool) -> Tensor:
    """Where in the ring's columns those of a plain cache with `filled` chunks after the sink lie.

    Both are ordered ``[text | motion | video]``, cached before new. The ring's new chunk comes after all slots, and
    its newest cached chunk in the last slot.
    """
    slots = [0, *range(window - filled + 1, window + 2)]  # the sink, the filled slots, the new chunk
    columns = [torch.arange(num_text)]
    start = num_text
    if motion:
        first = [0 if slot == 0 else SINK_TOKENS + CHUNK_TOKENS * (slot - 1) for slot in slots]
        counts = [CHUNK_TOKENS if slot else SINK_TOKENS for slot in slots]
        columns += [start + at + torch.arange(count) for at, count in zip(first, counts, strict=True)]
        start += SINK_TOKENS + CHUNK_TOKENS * (window + 1)
    columns += [start + slot * per_latent + torch.arange(per_latent) for slot in slots]
    return torch.cat(columns)


def ring_level(levels: list[Level], num_text: int, per_latent: int, motion: bool) -> Level:
    """One level whose leading dimension is the number of filled slots.

    Args:
        levels: of plain caches with 0, 1, ... W chunks after the sink and one new chunk.
        num_text: text tokens.
        per_latent: video tokens of a latent.
        motion: whether the level has motion.
    """
    window = len(levels) - 1
    total = num_text + (window + 2) * per_latent
    total += SINK_TOKENS + CHUNK_TOKENS * (window + 1) if motion else 0
    rows, like = levels[0].seen.bias.shape[2], levels[0].seen.bias
    bias = like.new_full((window + 1, 1, rows, total), float("-inf"))
    query, key = [], []
    for filled, level in enumerate(levels):
        columns = ring_columns(filled, window, num_text, per_latent, motion).to(like.device)
        bias[filled, :, :, columns] = level.seen.bias[0].expand(1, rows, -1)
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
    """The level of rows whose windows hold `filled` (B,) chunks."""
    assert level.query_turn is not None and level.key_turn is not None
    seen = Visibility(level.seen.bias[filled], whole=False, blocks=level.seen.blocks)
    query, key = ((turn[0][filled], turn[1][filled]) for turn in (level.query_turn, level.key_turn))
    return Level(seen, query, key)


def _stacked(turns: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([cos for cos, _ in turns]), torch.stack([sin for _, sin in turns])
