"""The blocked attention equals torch's own, forwards and backwards."""

from __future__ import annotations

import pytest
import torch

from egotwin_sim.models.attention import Visibility, attend, plain_attention


def causal_mask(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A random mask in which later rows see further, and every row something."""
    reach = torch.linspace(1, columns, rows).long()
    mask = torch.arange(columns)[None] < reach[:, None]
    scattered = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.8
    scattered[:, 0] = True
    return mask & scattered


@pytest.mark.parametrize("rows", [12, 5])
@pytest.mark.parametrize("whole", [True, False])
def test_blocked_equals_plain(rows, whole):
    mask = torch.ones(rows, 12, dtype=torch.bool) if whole else causal_mask(rows, 12)
    seen = Visibility.of(mask, [0, 2, 2, 5, rows], torch.float32)
    assert seen.whole == whole
    assert all(not mask[start:stop, columns:].any() for start, stop, columns in seen.blocks)
    assert sum(stop - start for start, stop, _ in seen.blocks) == rows
    query, key, value = (torch.randn(3, n, 2, 8, requires_grad=True) for n in (rows, 12, 12))
    upstream = torch.randn(3, rows, 2, 8)
    results = []
    for way in (attend, plain_attention):
        out = way(query, key, value, seen)
        results.append((out, *torch.autograd.grad(out, (query, key, value), upstream)))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


def test_blocked_gradient_by_differences():
    seen = Visibility.of(causal_mask(4, 6), [0, 2, 4], torch.float64)
    tensors = [torch.randn(2, n, 2, 3, dtype=torch.float64, requires_grad=True) for n in (4, 6, 6)]
    # Sums of keys' and values' gradients are float32.
    assert torch.autograd.gradcheck(lambda *x: attend(*x, seen), tensors, eps=1e-4, atol=1e-4)


def test_bf16_is_close_under_autocast():
    seen = Visibility.of(causal_mask(20, 20), [0, 10, 20], torch.bfloat16)
    query, key, value = (torch.randn(2, 20, 2, 16) for _ in range(3))
    exact = plain_attention(query, key, value, Visibility.of(causal_mask(20, 20), [0, 20], torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        rough = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), seen)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("way", [attend, plain_attention])
def test_padding_is_hidden_from_all_but_itself(way):
    padding = torch.tensor([[False, False, False], [False, True, True]])
    seen = Visibility.of(torch.ones(5, 5, dtype=torch.bool), [0, 5], torch.float32).without(padding, has_rows=True)
    query, key, value = (torch.randn(2, 5, 1, 4) for _ in range(3))
    out = way(query, key, value, seen)
    kept = [0, 3, 4]
    whole = Visibility.of(torch.ones(3, 3, dtype=torch.bool), [0, 3], torch.float32)
    torch.testing.assert_close(out[1:, kept], way(query[1:, kept], key[1:, kept], value[1:, kept], whole))
    nothing_said = Visibility.of(torch.ones(5, 5, dtype=torch.bool), [0, 5], torch.float32)
    nothing_said = nothing_said.without(torch.ones(2, 5, dtype=torch.bool), has_rows=True)
    torch.testing.assert_close(way(query, key, value, nothing_said), value)
