"""Texts as the transformer takes them, and what stands for no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egotwin_sim.models.text_encoder import TextEncoder


@dataclass(frozen=True)
class Prompts:
    """What B clips are told.

    Attributes:
        tokens: (B, L, D), the texts.
        mask: bool (B, L), which of them the transformer sees.
        null_tokens: (B, L, D), what guidance leads away from: the null text, or a negative prompt.
        null_mask: bool (B, L).
    """

    tokens: Tensor
    mask: Tensor
    null_tokens: Tensor
    null_mask: Tensor

    def index(self, rows: Sequence[int]) -> Prompts:
        """Some of the clips."""
        chosen = torch.tensor(list(rows), device=self.tokens.device)
        return Prompts(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def told(self, with_text: bool) -> tuple[Tensor, Tensor]:
        """Tokens and mask of the texts, or of what stands for none."""
        return (self.tokens, self.mask) if with_text else (self.null_tokens, self.null_mask)


def encode_prompts(
    encoder: TextEncoder,
    texts: Sequence[str | None],
    negatives: Sequence[str | None],
    device: torch.device | str,
) -> Prompts:
    """Encode texts; None is the null text.

    Raises:
        UserError: a text that is empty, no string, or longer than the encoder takes (nothing is cut off).
    """
    null = encoder.encode_null()

    def encoded(entries: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        said = [entry for entry in entries if entry is not None]
        known = encoder.encode(said) if said else null
        place = iter(range(len(said)))
        rows = [(null, 0) if entry is None else (known, next(place)) for entry in entries]
        tokens = torch.stack([embedding.tokens[row] for embedding, row in rows])
        return tokens.to(device).float(), torch.stack([embedding.mask[row] for embedding, row in rows]).to(device)

    return Prompts(*encoded(texts), *encoded(negatives))
