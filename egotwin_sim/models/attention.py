"""Attention under a mask; on processors a path of its own skips what the mask hides anyway."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCKED_UP_TO = 2048
"""Most columns for the blocked path: a training step keeps its attention weights, which grow with the square."""

Block = tuple[int, int, int]
"""Rows from, rows to, and the number of leading columns that they see at most."""


@dataclass(frozen=True)
class Visibility:
    """What the rows (queries) of a sequence see of its columns (keys).

    Attributes:
        bias: (1 or B, 1, rows, columns) of the queries' dtype, 0 where seen and -inf where not.
        whole: nothing is hidden.
        blocks: all rows, in blocks; none where there are more than `BLOCKED_UP_TO` columns.
    """

    bias: Tensor
    whole: bool
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, mask: Tensor, bounds: list[int], dtype: torch.dtype, device: torch.device | None = None) -> Visibility:
        """From a bool mask (rows, columns); a block lies between two neighbours of `bounds`.

        The bias is on `device`, on the mask's if None.
        """
        device = mask.device if device is None else device
        blocks: tuple[Block, ...] = ()
        if mask.shape[1] <= BLOCKED_UP_TO:
            blocks = blocks_of(mask, bounds)
        whole = bool(mask.all())
        nothing = torch.zeros(1, 1, dtype=dtype, device=device).expand(mask.shape)
        bias = nothing if whole else as_bias(mask.to(device), dtype)
        return cls(bias[None, None], whole, blocks)

    def without(self, padding: Tensor, has_rows: bool) -> Visibility:
        """The same, with padding hidden from all but itself.

        Args:
            padding: bool (B, n), True at padding, for the first n columns.
            has_rows: the first n rows are the same tokens as the first n columns. A row needs something to see.
        """
        n = padding.shape[1]
        bias = self.bias.expand(len(padding), -1, -1, -1).clone(memory_format=torch.contiguous_format)
        bias[..., :n] += as_bias(~padding, bias.dtype)[:, None, None]
        if has_rows:
            own = torch.arange(n, device=bias.device)
            bias[:, :, own, own] = 0
        return replace(self, bias=bias, whole=False)


def blocks_of(mask: Tensor, bounds: list[int]) -> tuple[Block, ...]:
    """The blocks of a bool mask (rows, columns), each between two neighbours of `bounds`."""
    last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1).tolist()
    spans = [span for span in zip(bounds, bounds[1:], strict=False) if span[0] < span[1]]
    return tuple((start, stop, max(last[start:stop])) for start, stop in spans)


def as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a bool mask is True, -inf elsewhere."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Visibility) -> Tensor:
    """Scaled dot-product attention, (B, rows, heads, D) over (B, columns, heads, D) twice, of one dtype."""
    if query.device.type == "cpu" and key.shape[1] <= BLOCKED_UP_TO:
        return BlockedAttention.apply(query, key, value, seen)
    return plain_attention(query, key, value, seen)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, seen: Visibility) -> Tensor:
    """The same by torch's own kernel."""
    bias = None if seen.whole else seen.bias
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2)


def block_attention(query: Tensor, key: Tensor, value: Tensor, seen: Visibility) -> tuple[Tensor, list[Tensor]]:
    """Attention by matrix products: (B, rows, heads, D), and each block's weights (B * heads, block, columns).

    Args:
        query: (B, heads, rows, D).
        key: (B, heads, columns, D).
        value: likewise.
        seen: with blocks.
    """
    batch, heads, rows, width = query.shape
    q, k, v = (x.reshape(batch * heads, -1, width) for x in (query, key, value))
    out, weights = q.new_empty(batch, rows, heads, width), []
    with torch.autocast(query.device.type, enabled=False):
        q = q * width**-0.5
        for start, stop, columns in seen.blocks:
            scores = torch.bmm(q[:, start:stop], k[:, :columns].transpose(1, 2))
            if not seen.whole:
                scores.view(batch, heads, stop - start, columns).add_(seen.bias[:, :, start:stop, :columns])
            weights.append(torch.softmax(scores, dim=-1))
            attended = torch.bmm(weights[-1], v[:, :columns])
            out[:, start:stop] = attended.unflatten(0, (batch, heads)).transpose(1, 2)
    return out, weights


class BlockedAttention(torch.autograd.Function):
    """Attention by matrix products, a block of rows at a time over the columns that the block sees.

    With a causal mask over chunks that is half of the work; the products alone are faster than torch's kernel on
    processors, two to three times in training. Products and weights are of the inputs' dtype, sums in float32.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, seen: Visibility) -> Tensor:
        """As `attend`."""
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
        by_head = [x.unflatten(0, query.shape[::2]) for x in (q, k, v)]
        out, weights = block_attention(by_head[0], by_head[1], by_head[2], seen)
        ctx.save_for_backward(q, k, v, out, *weights)
        ctx.blocks, ctx.heads, ctx.scale = seen.blocks, query.shape[2], query.shape[-1] ** -0.5
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        q, k, v, out, *weights = ctx.saved_tensors
        g = gradient.transpose(1, 2).reshape(q.shape)
        dq = torch.empty_like(q)
        dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        through = (gradient.float() * out.float()).sum(-1, keepdim=True).to(q.dtype).transpose(1, 2).flatten(0, 1)
        for (start, stop, columns), weight in zip(ctx.blocks, weights, strict=True):
            g_rows = g[:, start:stop]
            dv[:, :columns] += torch.bmm(weight.transpose(1, 2), g_rows)
            scores = torch.bmm(g_rows, v[:, :columns].transpose(1, 2)).sub_(through[:, start:stop])
            scores.mul_(weight).mul_(ctx.scale)
            dq[:, start:stop] = torch.bmm(scores, k[:, :columns])
            dk[:, :columns] += torch.bmm(scores.transpose(1, 2), q[:, start:stop])

        def spread(x: Tensor) -> Tensor:
            return x.to(q.dtype).unflatten(0, (-1, ctx.heads)).transpose(1, 2)

        return spread(dq), spread(dk), spread(dv), None
