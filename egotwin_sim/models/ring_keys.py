"""A ring's keys made ready for one chunk: turned by their positions and joined once, not at every denoising step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.models.attention import BLOCKED_UP_TO, Visibility, block_attention, blocks_of
from egotwin_sim.models.ring_levels import CHUNK_TOKENS, Level
from egotwin_sim.models.rotary import rotate
from egotwin_sim.models.transformer_cache import RingCache


@dataclass(frozen=True)
class ReadyKeys:
    """One layer's keys and values over ``[text | motion | video]`` of the past and, behind them, of the new chunk.

    Attributes:
        key: (B, heads, columns, head_dim), turned by position. The new chunk's columns are written over at every call.
        value: likewise, not turned.
        past: columns of the past.
    """

    key: Tensor
    value: Tensor
    past: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, seen: Visibility) -> Tensor:
        """Attention (B, rows, heads, head_dim) of new tokens, whose queries and keys are turned, over all columns."""
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        self.key[:, :, self.past :], self.value[:, :, self.past :] = key, value
        if seen.blocks:
            return block_attention(query, self.key, self.value, seen)[0]
        return F.scaled_dot_product_attention(query, self.key, self.value, attn_mask=seen.bias).transpose(1, 2)


@dataclass(frozen=True)
class NewLevel:
    """What the lower layers, or the upper ones, share: the mask, and the turn of the new tokens by their positions."""

    seen: Visibility
    turn: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RingKeys:
    """A ring made ready for the chunk that comes next.

    Attributes:
        ring: what it is made from.
        levels: of the layers with motion, and of those without.
        layers: one per layer of the transformer.
    """

    ring: RingCache
    levels: tuple[NewLevel, NewLevel]
    layers: tuple[ReadyKeys, ...]

    @classmethod
    def of(cls, ring: RingCache, levels: tuple[Level, Level]) -> RingKeys:
        """From a ring and what the next chunk sees of it, in the order of the ring's columns."""
        per_latent = ring.layers[0].video[0].shape[1] // ring.slots
        orders = [_order(ring, motion, per_latent) for motion in (True, False)]
        new_levels, key_turns = [], []
        for level, (past, new) in zip(levels, orders, strict=True):
            assert level.query_turn is not None and level.key_turn is not None
            columns = torch.cat([past, new]).to(ring.filled.device)
            bias = level.seen.bias.index_select(-1, columns)
            on_cpu = columns.device.type == "cpu" and len(columns) <= BLOCKED_UP_TO
            blocks = blocks_of((bias[:, 0] == 0).any(0), [0, len(new) - per_latent, len(new)]) if on_cpu else ()
            seen = Visibility(bias, False, blocks)
            new_levels.append(NewLevel(seen, level.query_turn))
            past = past.to(columns.device)
            key_turns.append(tuple(turn.index_select(-3, past) for turn in level.key_turn))
        layers = []
        for layer in ring.layers:
            at = 0 if layer.motion is not None else 1
            pairs = [pair for pair in (layer.text, layer.motion, layer.video) if pair is not None]
            key, value = (torch.cat([pair[i] for pair in pairs], dim=1) for i in (0, 1))
            cos, sin = key_turns[at]
            key, extra = rotate(key, cos, sin), len(orders[at][1])
            layers.append(ReadyKeys(_with_room(key, extra), _with_room(value, extra), key.shape[1]))
        return cls(ring, (new_levels[0], new_levels[1]), tuple(layers))


def _order(ring: RingCache, motion: bool, per_latent: int) -> tuple[Tensor, Tensor]:
    """Which of a ring's columns ``[text | motion | video]``, the new chunk's included, are past and which are new."""
    start = ring.layers[0].text[0].shape[1]
    past, new = [torch.arange(start)], []
    tokens = [(2 * ring.slots - 1, CHUNK_TOKENS)] if motion else []
    for count, more in (*tokens, (ring.slots * per_latent, per_latent)):
        past.append(start + torch.arange(count))
        new.append(start + count + torch.arange(more))
        start += count + more
    return torch.cat(past), torch.cat(new)


def _with_room(x: Tensor, extra: int) -> Tensor:
    """(B, columns, heads, D) as (B, heads, columns + extra, D)."""
    batch, columns, heads, width = x.shape
    room = x.new_empty(batch, heads, columns + extra, width)
    room[:, :, :columns] = x.transpose(1, 2)
    return room
