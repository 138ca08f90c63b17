"""One layer of the three-branch transformer: CogVideoX's block for text and video, a narrower one for motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.models.attention import attend
from egotwin_sim.models.ring_keys import NewLevel, ReadyKeys
from egotwin_sim.models.ring_levels import Level
from egotwin_sim.models.rotary import rotate
from egotwin_sim.models.transformer_cache import LayerCache, Pair, longer

VIDEO, TEXT = 0, 1
"""Order of the experts in CogVideoX's modulation."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of the three branches, (B, n, width) each; n is 0 for a branch that is not there."""

    text: Tensor
    motion: Tensor
    video: Tensor


@dataclass(frozen=True)
class Times:
    """Activated timestep embeddings of the branches, (B, groups, time_dim) each; a group's tokens lie in a row."""

    text: Tensor
    motion: Tensor
    video: Tensor


class ExpertNorm(nn.Module):
    """LayerNorm with shift, scale and gate from the timestep: one norm, with three modulations for each expert."""

    def __init__(self, time_dim: int, width: int, experts: int, affine: bool, eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(time_dim, 3 * experts * width)
        self.norm = nn.LayerNorm(width, eps=eps, elementwise_affine=affine)

    def forward(self, x: Tensor, time: Tensor, expert: int = 0) -> tuple[Tensor, Tensor]:
        """Normalise and modulate.

        Args:
            x: (B, S, width).
            time: (B, G, time_dim), activated; group g of S / G tokens in a row takes row g.
            expert: whose modulation.

        Returns:
            The modulated tokens (B, S, width) and the gate (B, G, 1, width).
        """
        rows = slice(3 * expert * x.shape[-1], 3 * (expert + 1) * x.shape[-1])
        modulation = F.linear(time, self.linear.weight[rows], self.linear.bias[rows])[:, :, None]
        shift, scale, gate = modulation.chunk(3, dim=-1)
        grouped = self.norm(x).unflatten(1, (time.shape[1], -1))
        return torch.addcmul(shift, grouped, 1 + scale).flatten(1, 2), gate


def add_gated(x: Tensor, gate: Tensor, change: Tensor) -> Tensor:
    """Sum of x and gate * change; x and change (B, S, width), gate (B, G, 1, width) of `ExpertNorm`."""
    groups = (gate.shape[1], -1)
    return torch.addcmul(x.unflatten(1, groups), gate, change.unflatten(1, groups)).flatten(1, 2)


class Projections(nn.Module):
    """Queries, keys, values and output of a branch in the joint attention, from its width to the heads' common one."""

    def __init__(self, width: int, heads: int, head_dim: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_dim, bias=bias)
        self.to_k = nn.Linear(width, heads * head_dim, bias=bias)
        self.to_v = nn.Linear(width, heads * head_dim, bias=bias)
        self.norm_q = nn.LayerNorm(head_dim, eps=1e-6)  # CogVideoX's value, whatever norm_eps is
        self.norm_k = nn.LayerNorm(head_dim, eps=1e-6)
        self.to_out = nn.ModuleList([nn.Linear(heads * head_dim, width), nn.Identity()])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, S, width) to queries, keys and values (B, S, heads, head_dim) of one dtype."""
        query, key, value = (to(x).unflatten(-1, (self.heads, -1)) for to in (self.to_q, self.to_k, self.to_v))
        return self.norm_q(query).to(value.dtype), self.norm_k(key).to(value.dtype), value

    def out(self, x: Tensor) -> Tensor:
        """Attended values (B, S, heads, head_dim) to (B, S, width)."""
        return self.to_out[0](x.flatten(2))


class Branch(nn.Module):
    """One layer's weights for one branch; with two experts they are those of CogVideoX's block."""

    def __init__(
        self,
        width: int,
        heads: int,
        head_dim: int,
        *,
        experts: int,
        time_dim: int,
        bias: bool,
        affine: bool,
        eps: float,
        dropout: float,
        activation_fn: str,
    ) -> None:
        super().__init__()
        self.norm1 = ExpertNorm(time_dim, width, experts, affine, eps)
        self.attn1 = Projections(width, heads, head_dim, bias)
        self.norm2 = ExpertNorm(time_dim, width, experts, affine, eps)
        self.ff: Any = FeedForward(width, dropout=dropout, activation_fn=activation_fn, final_dropout=True)


def apply_layer(
    shared: Branch,
    own: Branch | None,
    tokens: Tokens,
    times: Times,
    level: Level | NewLevel,
    past: LayerCache | ReadyKeys | None,
) -> tuple[Tokens, LayerCache]:
    """Apply one layer.

    Args:
        shared: the weights of text and video.
        own: the weights of motion, None in the layers above its branch.
        tokens: the new tokens; text has none when it is in the cache, motion has none above its branch.
        times: their timesteps.
        level: mask and positions.
        past: keys and values of what was seen before, in this layer.

    Returns:
        The tokens after the layer, and the keys and values of all that was seen, or of the new tokens alone where the
        past was made ready.
    """
    num_text = tokens.text.shape[1]
    num_motion = tokens.motion.shape[1] if own is not None else 0

    joint, gates = _normed(shared.norm1, tokens, times)
    query, key, value = shared.attn1(joint)
    text_pair, video_pair = (key[:, :num_text], value[:, :num_text]), (key[:, num_text:], value[:, num_text:])
    motion_pair: Pair | None = None
    if own is not None:
        motion_joint, motion_gate = own.norm1(tokens.motion, times.motion)
        motion_query, *motion_keys = own.attn1(motion_joint)
        motion_pair = (motion_keys[0], motion_keys[1])
        query = torch.cat([query[:, :num_text], motion_query, query[:, num_text:]], dim=1)
    if isinstance(past, ReadyKeys):
        assert isinstance(level, NewLevel)
        key, value = longer(motion_pair, video_pair)
        attended = past.attend(rotate(query, *level.turn), rotate(key, *level.turn), value, level.seen)
    else:
        assert isinstance(level, Level)
        if past is not None:
            text_pair, video_pair = past.text, longer(past.video, video_pair)
            motion_pair = past.motion if motion_pair is None else longer(past.motion, motion_pair)
        if own is not None or past is not None:
            pairs = [text_pair, video_pair] if motion_pair is None else [text_pair, motion_pair, video_pair]
            key, value = (torch.cat([pair[i] for pair in pairs], dim=1) for i in (0, 1))
        if level.query_turn is not None and level.key_turn is not None:
            query, key = rotate(query, *level.query_turn), rotate(key, *level.key_turn)
        attended = attend(query, key, value, level.seen)

    motion = tokens.motion
    if own is not None:
        rows = slice(num_text, num_text + num_motion)
        motion = add_gated(motion, motion_gate, own.attn1.out(attended[:, rows]))
        motion_joint, motion_gate = own.norm2(motion, times.motion)
        motion = add_gated(motion, motion_gate, own.ff(motion_joint))
        attended = torch.cat([attended[:, :num_text], attended[:, rows.stop :]], dim=1)
    tokens = _changed(tokens, gates, shared.attn1.out(attended))
    joint, gates = _normed(shared.norm2, tokens, times)
    tokens = _changed(tokens, gates, shared.ff(joint))
    return Tokens(tokens.text, motion, tokens.video), LayerCache(text_pair, motion_pair, video_pair)


def _normed(norm: ExpertNorm, tokens: Tokens, times: Times) -> tuple[Tensor, list[Tensor | None]]:
    """Text and video, normalised and modulated, in one sequence, with their gates."""
    parts: list[Tensor] = []
    gates: list[Tensor | None] = []
    for x, time, expert in ((tokens.text, times.text, TEXT), (tokens.video, times.video, VIDEO)):
        part, gate = norm(x, time, expert) if x.shape[1] else (x, None)
        parts.append(part)
        gates.append(gate)
    present = [part for part in parts if part.shape[1]]
    return present[0] if len(present) == 1 else torch.cat(present, dim=1), gates


def _changed(tokens: Tokens, gates: list[Tensor | None], change: Tensor) -> Tokens:
    """Text and video plus their gated parts of one sequence of changes."""
    num_text = tokens.text.shape[1]
    text = tokens.text if gates[0] is None else add_gated(tokens.text, gates[0], change[:, :num_text])
    video = tokens.video if gates[1] is None else add_gated(tokens.video, gates[1], change[:, num_text:])
    return Tokens(text, tokens.motion, video)
