"""Keys and values of chunks that the causal transformer has seen, so that it need not see them again.

`TransformerCache` grows with every chunk; `RingCache` is what a stream keeps: the same number of bytes for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Keys and values, each (B, tokens, heads, head_dim), not yet turned by their position."""


@dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer, by modality; motion is None in the layers above the motion branch."""

    text: Pair
    motion: Pair | None
    video: Pair


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


@dataclass(frozen=True)
class RingCache:
    """Text, the sink (chunk 0) and the newest W chunks in buffers of fixed size; a value, batch first.

    The buffers hold the sink's slot and then W slots, the newest chunk in the last one. A row that has seen fewer
    chunks has its first slots empty, and the mask hides them, so rows of different age share a batch. Positions are
    relative to the newest chunk: there is no longest rollout.

    Attributes:
        filled: int64 (B,), chunks in the window, 0 to W.
        text_mask: bool (B, Lt) or None.
        layers: one per layer of the transformer; motion (B, 1 + 2W, ...), video (B, (1 + W) * tokens per latent, ...).
    """

    filled: Tensor
    text_mask: Tensor | None
    layers: tuple[LayerCache, ...]

    @classmethod
    def of(cls, start: TransformerCache, window: int) -> RingCache:
        """An empty window behind a cache that holds chunk 0 alone."""
        if start.positions != (0,):
            raise ValueError(f"the cache holds chunks {start.positions}; expected chunk 0 alone")

        def padded(pair: Pair, per_chunk: int) -> Pair:
            empty = [x.new_zeros(x.shape[0], window * per_chunk, *x.shape[2:]) for x in pair]
            return torch.cat([pair[0], empty[0]], dim=1), torch.cat([pair[1], empty[1]], dim=1)

        layers = tuple(
            LayerCache(x.text, None if x.motion is None else padded(x.motion, 2), padded(x.video, x.video[0].shape[1]))
            for x in start.layers
        )
        filled = torch.zeros(layers[0].video[0].shape[0], dtype=torch.long, device=layers[0].video[0].device)
        return cls(filled, start.text_mask, layers)

    @property
    def window(self) -> int:
        """W, the number of slots beside the sink's."""
        return self.layers[0].video[0].shape[1] // self.per_latent - 1

    @property
    def per_latent(self) -> int:
        """Video tokens of a latent."""
        motion = self.layers[0].motion
        assert motion is not None
        slots = (motion[0].shape[1] + 1) // 2
        return self.layers[0].video[0].shape[1] // slots

    @property
    def positions(self) -> tuple[int, ...]:
        """A number for each slot, as if the window were full and had begun with chunk 1."""
        return tuple(range(self.window + 1))

    def push(self, layers: Sequence[LayerCache]) -> RingCache:
        """The ring with one more chunk, whose keys and values stand at the end of each of `layers`; the oldest goes."""

        def kept(pair: Pair, sink: int, per_chunk: int) -> Pair:
            def one(x: Tensor) -> Tensor:
                return torch.cat([x[:, :sink], x[:, sink + per_chunk :]], dim=1)

            return one(pair[0]), one(pair[1])

        per_latent = self.per_latent
        pushed = []
        for layer in layers:
            motion = None if layer.motion is None else kept(layer.motion, 1, 2)
            pushed.append(LayerCache(layer.text, motion, kept(layer.video, per_latent, per_latent)))
        return RingCache((self.filled + 1).clamp(max=self.window), self.text_mask, tuple(pushed))

    def with_text(self, text: Sequence[Pair], text_mask: Tensor | None) -> RingCache:
        """The same chunks with the keys and values of another text, (B or 1, Lt, ...), one pair a layer."""
        batch = self.filled.shape[0]

        def rows(x: Tensor) -> Tensor:
            return x.expand(batch, *x.shape[1:])

        layers = tuple(
            replace(layer, text=(rows(pair[0]), rows(pair[1]))) for layer, pair in zip(self.layers, text, strict=True)
        )
        return RingCache(self.filled, None if text_mask is None else rows(text_mask), layers)

    @classmethod
    def join(cls, rings: Sequence[RingCache]) -> RingCache:
        """The rows of some rings as one batch."""
        parts = [ring.tensors() for ring in rings]
        return cls.from_tensors({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

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
    def from_tensors(cls, named: dict[str, Tensor]) -> RingCache:
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
        return cls(named["filled"], named.get("text_mask"), tuple(layers))
