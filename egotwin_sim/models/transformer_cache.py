"""Keys and values of chunks that the causal transformer has seen, so that it need not see them again.

`TransformerCache` grows with every chunk; `RingCache` is what a stream keeps: the same number of bytes for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Keys and values, each (B, tokens, heads, head_dim), not yet turned by their position."""


def longer(first: Pair | None, second: Pair) -> Pair:
    """The second pair's tokens after those of the first, if there is one."""
    if first is None:
        return second
    return torch.cat([first[0], second[0]], dim=1), torch.cat([first[1], second[1]], dim=1)


@dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer, by modality; motion is None in the layers above the motion branch."""

    text: Pair
    motion: Pair | None
    video: Pair

    def newest(self, num_motion: int, num_video: int) -> LayerCache:
        """Keys and values of the last tokens of motion and video alone."""

        def tail(pair: Pair, count: int) -> Pair:
            return pair[0][:, -count:], pair[1][:, -count:]

        motion = None if self.motion is None else tail(self.motion, num_motion)
        return LayerCache(self.text, motion, tail(self.video, num_video))


@dataclass(frozen=True)
class TransformerCache:
    """What `EgoTwinTransformer3DModel.forward` needs of the text and of earlier chunks; a value, batch first.

    Attributes:
        positions: true chunk numbers of the chunks in it, rising.
        text_mask: bool (B, Lt) or None.
        layers: one per layer of the transformer.
    """

    positions: tuple[int, ...]
    text_mask: Tensor | None
    layers: tuple[LayerCache, ...]

    def keep(self, chunks: Sequence[int]) -> TransformerCache:
        """The cache of some of its chunks, given by their true numbers in rising order (a sink and the newest ones)."""
        places = [self.positions.index(chunk) for chunk in chunks]
        per_latent = self.layers[0].video[0].shape[1] // len(self.positions)
        video = [place * per_latent + i for place in places for i in range(per_latent)]
        ends = torch.tensor([1 if position == 0 else 2 for position in self.positions]).cumsum(0).tolist()
        motion = [i for place in places for i in range(ends[place - 1] if place else 0, ends[place])]
        layers = tuple(
            LayerCache(
                layer.text,
                None if layer.motion is None else (layer.motion[0][:, motion], layer.motion[1][:, motion]),
                (layer.video[0][:, video], layer.video[1][:, video]),
            )
            for layer in self.layers
        )
        return replace(self, positions=tuple(chunks), layers=layers)

    def rows(self, rows: Tensor) -> TransformerCache:
        """The cache of some rows of the batch: a fork where a row is named twice."""

        def chosen(pair: Pair) -> Pair:
            return pair[0][rows], pair[1][rows]

        layers = tuple(
            LayerCache(chosen(x.text), None if x.motion is None else chosen(x.motion), chosen(x.video))
            for x in self.layers
        )
        return replace(self, text_mask=None if self.text_mask is None else self.text_mask[rows], layers=layers)


Cache = TypeVar("Cache", bound="TransformerCache | RingCache")


def with_text(cache: Cache, text: Sequence[Pair], text_mask: Tensor | None) -> Cache:
    """The same chunks with the keys and values of another text, (B or 1, Lt, ...), one pair a layer."""
    batch = cache.layers[0].video[0].shape[0]

    def rows(x: Tensor) -> Tensor:
        return x.expand(batch, *x.shape[1:])

    layers = tuple(
        replace(layer, text=(rows(pair[0]), rows(pair[1]))) for layer, pair in zip(cache.layers, text, strict=True)
    )
    return replace(cache, text_mask=None if text_mask is None else rows(text_mask), layers=layers)


def join(first: Cache, second: Cache) -> Cache:
    """The rows of two caches of the same chunks as one batch."""

    def both(a: Pair, b: Pair) -> Pair:
        return torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])

    layers = []
    for a, b in zip(first.layers, second.layers, strict=True):
        motion = None if a.motion is None or b.motion is None else both(a.motion, b.motion)
        layers.append(LayerCache(both(a.text, b.text), motion, both(a.video, b.video)))
    masks = [cache.text_mask for cache in (first, second) if cache.text_mask is not None]
    joined = replace(first, text_mask=torch.cat(masks) if masks else None, layers=tuple(layers))
    if isinstance(joined, RingCache) and isinstance(second, RingCache):
        joined = replace(joined, filled=torch.cat([joined.filled, second.filled]))
    return joined


@dataclass(frozen=True)
class RingCache:
    """Text, the sink (the first S chunks) and the newest W chunks in buffers of fixed size; a value, batch first.

    The buffers hold the sink's slots and then W slots, the newest chunk in the last one. A row that has seen fewer
    chunks has slots empty, the window's from the front, and the mask hides them, so rows of different age share a
    batch. Positions are relative to the newest chunk: there is no longest rollout.

    Attributes:
        filled: int64 (B,), chunks in the buffers, 1 to S + W.
        sink: S, at least 1.
        text_mask: bool (B, Lt) or None.
        layers: one per layer of the transformer; motion (B, 2 (S + W) - 1, ...), video (B, (S + W) * tokens per
            latent, ...).
    """

    filled: Tensor
    sink: int
    text_mask: Tensor | None
    layers: tuple[LayerCache, ...]

    @classmethod
    def of(cls, start: TransformerCache, window: int, sink: int = 1) -> RingCache:
        """Empty slots behind a cache that holds chunk 0 alone."""
        if start.positions != (0,) or window < 1 or sink < 1:
            raise ValueError(f"chunks {start.positions}, window {window}, sink {sink}: expected chunk 0, and 1 or more")
        slots = window + sink - 1

        def padded(pair: Pair, per_chunk: int) -> Pair:
            empty = [x.new_zeros(x.shape[0], slots * per_chunk, *x.shape[2:]) for x in pair]
            return torch.cat([pair[0], empty[0]], dim=1), torch.cat([pair[1], empty[1]], dim=1)

        layers = tuple(
            LayerCache(x.text, None if x.motion is None else padded(x.motion, 2), padded(x.video, x.video[0].shape[1]))
            for x in start.layers
        )
        video = layers[0].video[0]
        return cls(torch.ones(len(video), dtype=torch.long, device=video.device), sink, start.text_mask, layers)

    @property
    def slots(self) -> int:
        """S + W."""
        motion = self.layers[0].motion
        if motion is None:
            raise ValueError("a ring cache needs motion in its first layer")
        return (motion[0].shape[1] + 1) // 2

    @property
    def age(self) -> int | None:
        """The number of filled slots, where all rows have as many; None too where asking would stop a GPU."""
        filled = self.filled
        return int(filled[0]) if filled.device.type == "cpu" and bool((filled == filled[0]).all()) else None

    @property
    def window(self) -> int:
        """W."""
        return self.slots - self.sink

    @property
    def positions(self) -> tuple[int, ...]:
        """A number for each slot, as if all were full for the first time."""
        return tuple(range(self.slots))

    def push(self, layers: Sequence[LayerCache]) -> RingCache:
        """The ring with one more chunk, whose keys and values are `layers`; their text is not looked at.

        It goes to the sink while that has room, then to the window, whose oldest chunk goes.
        """
        slots, filled, age = self.slots, self.filled, self.age
        if age is None:
            # Where each slot's content comes from, by the number of filled slots; `slots` is the new chunk.
            stay = list(range(slots))
            table = [stay[:n] + [slots] + stay[n + 1 :] for n in range(self.sink)]
            table += [stay[: self.sink] + list(range(self.sink + 1, slots + 1))] * (slots - self.sink + 1)
            source = torch.tensor(table, device=filled.device)[filled]

        def moved(old: Tensor, new: Tensor, short: int) -> Tensor:
            # Every slot has as many tokens, but for `short` ones that the first lacks.
            width = new.shape[1]
            if age is not None:  # all rows alike: where the new chunk goes, and which one it pushes out
                out = min(age, self.sink)
                kept, rest = old[:, : out * width - short], old[:, (out + 1) * width - short :]
                return torch.cat([kept, new, rest] if age < self.sink else [kept, rest, new], dim=1)
            x = torch.cat([old, new], dim=1)
            index = (source[..., None] * width + torch.arange(width, device=x.device)).flatten(1)[:, short:] - short
            return x[torch.arange(len(x), device=x.device)[:, None], index]

        pushed = []
        for old, new in zip(self.layers, layers, strict=True):
            motion: Pair | None = None
            if old.motion is not None and new.motion is not None:
                motion = moved(old.motion[0], new.motion[0], 1), moved(old.motion[1], new.motion[1], 1)
            video = moved(old.video[0], new.video[0], 0), moved(old.video[1], new.video[1], 0)
            pushed.append(LayerCache(old.text, motion, video))
        return replace(self, filled=(filled + 1).clamp(max=slots), layers=tuple(pushed))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        named = {"filled": self.filled}
        if self.text_mask is not None:
            named["text_mask"] = self.text_mask
        for i, layer in enumerate(self.layers):
            for name, pair in (("text", layer.text), ("motion", layer.motion), ("video", layer.video)):
                if pair is not None:
                    named[f"{i}.{name}.key"], named[f"{i}.{name}.value"] = pair
        return named

    @classmethod
    def from_tensors(cls, named: dict[str, Tensor], sink: int = 1) -> RingCache:
        """The inverse of `tensors`."""

        def pair(i: int, name: str) -> Pair | None:
            key = named.get(f"{i}.{name}.key")
            return None if key is None else (key, named[f"{i}.{name}.value"])

        layers: list[LayerCache] = []
        while (video := pair(len(layers), "video")) is not None:
            i = len(layers)
            text = pair(i, "text")
            assert text is not None
            layers.append(LayerCache(text, pair(i, "motion"), video))
        return cls(named["filled"], sink, named.get("text_mask"), tuple(layers))
