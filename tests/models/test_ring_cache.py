"""The ring of keys and values equals a cache that forgets nothing and is cut to the sink and the newest chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from egotwin_sim.errors import UserError
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.models.transformer_cache import RingCache, TransformerCache, join, with_text
from egotwin_sim.pipelines.reference import appended, visible
from tests.tiny import shake

CHANNELS, SIDE, TEXT, MOTION = 5, 4, 6, 3


@pytest.fixture(scope="module")
def model() -> EgoTwinTransformer3DModel:
    torch.manual_seed(0)
    model = EgoTwinTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=CHANNELS, out_channels=4, time_embed_dim=16,
        text_embed_dim=8, num_layers=3, sample_width=SIDE, sample_height=SIDE, patch_size=2, max_text_seq_length=TEXT,
        use_rotary_positional_embeddings=True, motion_channels=MOTION, motion_dim=16, motion_layers=2,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in shake(model, 0.3).parameters():
            parameter.mul_(1.5)
    return model


def chunk(seed: int, rows: int, number: int) -> dict[str, Tensor]:
    """A clean chunk as the transformer's arguments."""
    generator = torch.Generator().manual_seed(1000 * seed + number)
    tokens = 1 if number == 0 else 2
    return {
        "video": torch.randn(rows, 1, CHANNELS, SIDE, SIDE, generator=generator),
        "video_timestep": torch.zeros(rows, 1),
        "motion": torch.randn(rows, tokens, MOTION, generator=generator),
        "motion_timestep": torch.zeros(rows, tokens),
    }


def begin(model: EgoTwinTransformer3DModel, seed: int, rows: int, mask: Tensor | None = None) -> TransformerCache:
    text = torch.randn(rows, TEXT, 8, generator=torch.Generator().manual_seed(seed))
    return model(**chunk(seed, rows, 0), text=text, text_mask=mask, temporal="causal", return_cache=True).cache


@pytest.mark.parametrize(("sink", "window"), [(1, 1), (1, 4), (2, 2), (3, 1)])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_ring_equals_the_growing_cache(model: EgoTwinTransformer3DModel, sink: int, window: int, padded: bool) -> None:
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2]) if padded else None
    grown = begin(model, 1, 2, mask)
    ring = RingCache.of(grown, window, sink)
    assert (ring.sink, ring.window) == (sink, window)
    sizes = {name: value.shape for name, value in ring.tensors().items()}
    for number in range(1, sink + 3 * window + 2):
        kept = visible(grown, sink, window)
        new = chunk(1, 2, number)
        expected = model(**new, text=None, temporal="causal", cache=kept, latent_positions=[number], return_cache=True)
        result = model(**new, text=None, temporal="causal", cache=ring, return_cache=True)
        torch.testing.assert_close(result.video, expected.video, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(result.motion, expected.motion, atol=1e-4, rtol=1e-4)
        grown = appended(grown, expected.cache, num_motion=2)
        ring = result.cache
        assert {name: value.shape for name, value in ring.tensors().items()} == sizes


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_ready_keys_serve_every_call_of_a_chunk(model: EgoTwinTransformer3DModel, padded: bool) -> None:
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2]) if padded else None
    old, young = (RingCache.of(begin(model, seed, 1, None if mask is None else mask[row : row + 1]), 2)
                  for row, seed in enumerate((1, 2)))  # fmt: skip
    for number in range(1, 4):
        old = model(**chunk(1, 1, number), text=None, temporal="causal", cache=old, return_cache=True).cache
    ring = join(old, young)
    for number in range(4, 7):
        ready = model.ready(ring)
        for timestep in (900.0, 400.0, 0.0):  # as denoising does, each call with other keys of its own
            new = chunk(3, 2, number) | {"video_timestep": torch.full((2, 1), timestep)}
            kwargs = {"text": None, "temporal": "causal", "return_cache": True}
            expected, result = model(**new, **kwargs, cache=ring), model(**new, **kwargs, cache=ready)
            torch.testing.assert_close(result.video, expected.video, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(result.motion, expected.motion, atol=1e-5, rtol=1e-5)
            told = {"video_timestep": None, "motion_timestep": None}
            told["modulations"] = model.chunk_modulations(timestep, 0.0)
            again = model(**new | told, **kwargs, cache=ready)
            torch.testing.assert_close(again.video, expected.video, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(again.motion, expected.motion, atol=1e-5, rtol=1e-5)
        half = {"text": None, "temporal": "causal", "motion_only": True}
        torch.testing.assert_close(model(**new, **half, cache=ready).motion, expected.motion, atol=1e-5, rtol=1e-5)
        result = model(**new, **kwargs, cache=ready, cache_only=True)
        assert result.video is None and result.motion is None
        pairs = zip(result.cache.tensors().values(), expected.cache.tensors().values(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
        ring = result.cache


@torch.no_grad()
def test_rows_of_different_age_share_a_batch(model: EgoTwinTransformer3DModel) -> None:
    rings = []
    for seed, age in ((1, 7), (2, 0), (3, 2)):
        ring = RingCache.of(begin(model, seed, 1), window=3, sink=2)
        for number in range(1, age + 1):
            ring = model(**chunk(seed, 1, number), text=None, temporal="causal", cache=ring, return_cache=True).cache
        rings.append(ring)
    together = join(join(rings[0], rings[1]), rings[2])
    assert together.filled.tolist() == [5, 1, 3]
    for number in range(9, 13):
        news = [chunk(seed, 1, number) for seed in (1, 2, 3)]
        new = {name: torch.cat([each[name] for each in news]) for name in news[0]}
        result = model(**new, text=None, temporal="causal", cache=together, return_cache=True)
        together = result.cache
        for row, own in enumerate(news):
            alone = model(**own, text=None, temporal="causal", cache=rings[row], return_cache=True)
            rings[row] = alone.cache
            torch.testing.assert_close(result.video[row : row + 1], alone.video, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(result.motion[row : row + 1], alone.motion, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_another_text_changes_what_comes_and_nothing_else(model: EgoTwinTransformer3DModel) -> None:
    ring = RingCache.of(begin(model, 1, 2), 2)
    other = begin(model, 7, 1)
    swapped = with_text(ring, [layer.text for layer in other.layers], other.text_mask)
    new = chunk(1, 2, 1)
    before = model(**new, text=None, temporal="causal", cache=ring).video
    after = model(**new, text=None, temporal="causal", cache=swapped).video
    assert not torch.allclose(before, after)
    assert torch.equal(swapped.layers[0].video[0], ring.layers[0].video[0])


@torch.no_grad()
def test_refuses_two_chunks_at_once(model: EgoTwinTransformer3DModel) -> None:
    ring = RingCache.of(begin(model, 1, 1), 2)
    two = {
        "video": torch.zeros(1, 2, CHANNELS, SIDE, SIDE), "video_timestep": torch.zeros(1, 2),
        "motion": torch.zeros(1, 4, MOTION), "motion_timestep": torch.zeros(1, 4),
    }  # fmt: skip
    with pytest.raises(UserError, match="one new latent"):
        model(**two, text=None, temporal="causal", cache=ring)
