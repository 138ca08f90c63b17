"""Keys and values of chunks that the causal transformer has seen, so that it need not see them again."""

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
