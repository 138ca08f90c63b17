"""One layer of the three-branch transformer: CogVideoX's block for text and video, a narrower one for motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from egotwin_sim.models.attention import attend
from egotwin_sim.models.ring_keys import NewLevel, ReadyKeys
from egotwin_sim.models.ring_levels import Level
from egotwin_sim.models.rotary import rotate
from egotwin_sim.models.transformer_cache import LayerCache, longer

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


class Modulation(NamedTuple):
    """Shift, scale and gate of a norm, (B or 1, groups, 1, width) each."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


class LayerModulation(NamedTuple):
    """A layer's two norms for each branch; None for a branch that is not there."""

    text: tuple[Modulation, Modulation] | None
    motion: tuple[Modulation, Modulation] | None
    video: tuple[Modulation, Modulation] | None


class ExpertNorm(nn.Module):
    """LayerNorm with shift, scale and gate from the timestep: one norm, with three modulations for each expert."""

    def __init__(self, time_dim: int, width: int, experts: int, affine: bool, eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(time_dim, 3 * experts * width)
        self.norm = nn.LayerNorm(width, eps=eps, elementwise_affine=affine)

    def modulation(self, time: Tensor, expert: int = 0) -> Modulation:
        """What the timestep makes of the norm: time (B, G, time_dim), activated; group g of tokens takes row g."""
        width = self.norm.normalized_shape[0]
        rows = slice(3 * expert * width, 3 * (expert + 1) * width)
        shift, scale, gate = F.linear(time, self.linear.weight[rows], self.linear.bias[rows])[:, :, None].chunk(3, -1)
        return Modulation(shift, 1 + scale, gate)

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """Normalise and modulate tokens (B, S, width), S / G in a row to a group."""
        grouped = self.norm(x).unflatten(1, (modulation.shift.shape[1], -1))
        return torch.addcmul(modulation.shift, grouped, modulation.scale).flatten(1, 2)


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
        self.gradient_checkpointing = False

    def layer(
        self,
        own: Branch | None,
        tokens: Tokens,
        changes: LayerModulation | Times,
        level: Level | NewLevel,
        past: LayerCache | ReadyKeys | None,
        text: Branch | None = None,
    ) -> tuple[Tokens, LayerCache]:
        """`apply_layer` with this as the shared branch: the one call in which all of a layer's weights are used.

        So it is what sharding gathers the weights for, and, with `gradient_checkpointing`, what the backward pass
        computes again.
        """
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(apply_layer, self, own, tokens, changes, level, past, text, use_reentrant=False)
        return apply_layer(self, own, tokens, changes, level, past, text)


def apply_layer(
    shared: Branch,
    own: Branch | None,
    tokens: Tokens,
    changes: LayerModulation | Times,
    level: Level | NewLevel,
    past: LayerCache | ReadyKeys | None,
    text: Branch | None = None,
) -> tuple[Tokens, LayerCache]:
    """Apply one layer.

    Args:
        shared: the weights of text and video, or of video alone.
        own: the weights of motion, None in the layers above its branch.
        tokens: the new tokens; text has none when it is in the cache, motion has none above its branch.
        changes: what their timesteps make of the norms, or the timesteps.
        level: mask and positions.
        past: keys and values of what was seen before, in this layer.
        text: the weights of text where they are its own, and there is new text.

    Returns:
        The tokens after the layer, and the keys and values of all that was seen, or of the new tokens alone where the
        past was made ready.
    """
    num_text = tokens.text.shape[1]
    num_motion = tokens.motion.shape[1] if own is not None else 0
    if isinstance(changes, Times):
        given = {"text": num_text > 0, "video": tokens.video.shape[1] > 0}
        changes = modulate(shared, own, changes, **given, own_text=text)
    query, new = project(shared, own, tokens, changes, text)
    text_pair, motion_pair, video_pair = new.text, new.motion, new.video
    if isinstance(past, ReadyKeys):
        assert isinstance(level, NewLevel)
        key, value = longer(motion_pair, video_pair)
        attended = past.attend(rotate(query, *level.turn), rotate(key, *level.turn), value, level.seen)
    else:
        assert isinstance(level, Level)
        if past is not None:
            text_pair, video_pair = past.text, longer(past.video, video_pair)
            motion_pair = past.motion if motion_pair is None else longer(past.motion, motion_pair)
        pairs = [text_pair, video_pair] if motion_pair is None else [text_pair, motion_pair, video_pair]
        key, value = (torch.cat([pair[i] for pair in pairs], dim=1) for i in (0, 1))
        if level.query_turn is not None and level.key_turn is not None:
            query, key = rotate(query, *level.query_turn), rotate(key, *level.key_turn)
        attended = attend(query, key, value, level.seen)

    motion = tokens.motion
    if own is not None and changes.motion is not None:
        rows = slice(num_text, num_text + num_motion)
        first, second = changes.motion
        motion = add_gated(motion, first.gate, own.attn1.out(attended[:, rows]))
        motion = add_gated(motion, second.gate, own.ff(own.norm2(motion, second)))
        attended = torch.cat([attended[:, :num_text], attended[:, rows.stop :]], dim=1)
    tokens = _changed(
        tokens, changes, 0, _each(shared, text, lambda branch, x: branch.attn1.out(x), attended, num_text)
    )
    normed = _normed(shared, text, tokens, changes, 1)
    tokens = _changed(tokens, changes, 1, _each(shared, text, lambda branch, x: branch.ff(x), normed, num_text))
    return Tokens(tokens.text, motion, tokens.video), LayerCache(text_pair, motion_pair, video_pair)


def project(
    shared: Branch, own: Branch | None, tokens: Tokens, changes: LayerModulation, text: Branch | None = None
) -> tuple[Tensor, LayerCache]:
    """Queries of the new tokens, ``[text | motion | video]``, and their keys and values; the start of `apply_layer`."""
    num_text = tokens.text.shape[1]
    normed = _normed(shared, text, tokens, changes, 0)
    if text is None:
        query, key, value = shared.attn1(normed)
    else:
        pairs = zip(text.attn1(normed[:, :num_text]), shared.attn1(normed[:, num_text:]), strict=True)
        query, key, value = (torch.cat(pair, dim=1) for pair in pairs)
    text_pair, video_pair = (key[:, :num_text], value[:, :num_text]), (key[:, num_text:], value[:, num_text:])
    if own is None:
        return query, LayerCache(text_pair, None, video_pair)
    assert changes.motion is not None
    motion_query, motion_key, motion_value = own.attn1(own.norm1(tokens.motion, changes.motion[0]))
    query = torch.cat([query[:, :num_text], motion_query, query[:, num_text:]], dim=1)
    return query, LayerCache(text_pair, (motion_key, motion_value), video_pair)


def modulate(
    shared: Branch, own: Branch | None, times: Times, *, text: bool, video: bool, own_text: Branch | None = None
) -> LayerModulation:
    """What the timesteps make of a layer's norms; `text` and `video` say whether those have tokens."""

    def both(branch: Branch, time: Tensor, expert: int = 0) -> tuple[Modulation, Modulation]:
        return branch.norm1.modulation(time, expert), branch.norm2.modulation(time, expert)

    of_text = (shared, times.text, TEXT) if own_text is None else (own_text, times.text)
    return LayerModulation(
        both(*of_text) if text else None,
        None if own is None else both(own, times.motion),
        both(shared, times.video, VIDEO) if video else None,
    )


def _each(
    shared: Branch, text: Branch | None, part: Callable[[Branch, Tensor], Tensor], x: Tensor, num_text: int
) -> Tensor:
    """A part of a branch applied to text and video (B, S, width): the shared one, or to text its own."""
    if text is None:
        return part(shared, x)
    return torch.cat([part(text, x[:, :num_text]), part(shared, x[:, num_text:])], dim=1)


def _normed(shared: Branch, text: Branch | None, tokens: Tokens, changes: LayerModulation, which: int) -> Tensor:
    """Text and video, normalised and modulated for attention (0) or feed-forward (1), in one sequence."""
    pairs = ((text or shared, tokens.text, changes.text), (shared, tokens.video, changes.video))
    parts = [
        (branch.norm2 if which else branch.norm1)(x, change[which]) for branch, x, change in pairs if change is not None
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _changed(tokens: Tokens, changes: LayerModulation, which: int, change: Tensor) -> Tokens:
    """Text and video plus their gated parts of one sequence of changes."""
    num_text, text, video = tokens.text.shape[1], tokens.text, tokens.video
    if changes.text is not None:
        text = add_gated(text, changes.text[which].gate, change[:, :num_text])
    if changes.video is not None:
        video = add_gated(video, changes.video[which].gate, change[:, num_text:])
    return Tokens(text, tokens.motion, video)
