"""The interaction mask: which token of text, video and motion may see which (paper section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from egotwin_sim.errors import UserError

TEMPORAL = ("bidirectional", "causal")
TEXT_CHUNK = -1
"""Chunk number that stands for text: below every chunk of video and motion."""


def motion_chunks(latent_positions: Sequence[int]) -> list[int]:
    """Chunk number of every motion token that comes with a window of video latents.

    Latent 0 comes with motion token 0 (the initial pose); latent k >= 1 with tokens 2k-1 and 2k, the body motion that
    leads to it.

    Args:
        latent_positions: true chunk numbers of the window's latents, rising.

    Returns:
        One chunk number per motion token, in time order.
    """
    return [position for position in latent_positions for _ in range(1 if position == 0 else 2)]


def interaction_mask(
    num_latents: int,
    tokens_per_latent: int,
    num_motion: int,
    text_length: int,
    *,
    interaction: bool = True,
    temporal: str = "bidirectional",
    latent_positions: Sequence[int] | None = None,
    text_mask: torch.Tensor | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Build the attention mask over ``[text | video | motion]``; True means that the row's token sees the column's.

    Between video and motion (``interaction=True``, paper section 5): latent k >= 1 sees motion tokens {2k-1, 2k};
    motion tokens {2k+1, 2k+2} see latents {k, k+1}; latent 0 and motion token 0 see each other. Within a modality, and
    with text, everything is seen.
    ``interaction=False`` lifts the rule: all video and motion tokens see each other (the paper's ablation "w/o IM").
    ``temporal="causal"`` adds: a token of chunk k sees nothing of a later chunk, and text sees only text.

    Args:
        num_latents: number F of video latents.
        tokens_per_latent: number P of video tokens in a latent; 0 leaves the video out and keeps the motion's chunks.
        num_motion: number of motion tokens: 0, or what `motion_chunks` gives for the latents.
        text_length: number of text tokens, padding included.
        interaction: whether the rule between video and motion holds.
        temporal: "bidirectional" or "causal".
        latent_positions: true chunk numbers of the latents, rising; 0..F-1 if None. A window may leave chunks out.
        text_mask: bool (B, text_length), False where text is padding. Padding is seen by nobody but itself.
        device: where the mask is made.

    Returns:
        Bool (S, S), or (B, S, S) with a text mask; S = text_length + num_latents * tokens_per_latent + num_motion.

    Raises:
        UserError: positions that do not rise, a wrong number of motion tokens, or an unknown `temporal`.
    """
    if temporal not in TEMPORAL:
        raise UserError(f'temporal is {temporal!r}: expected "bidirectional" or "causal"')
    positions = list(range(num_latents)) if latent_positions is None else [int(p) for p in latent_positions]
    rising = all(a < b for a, b in zip(positions, positions[1:], strict=False))
    if len(positions) != num_latents or not rising or (positions and positions[0] < 0):
        raise UserError(
            f"latent positions {positions}: expected {num_latents} rising chunk numbers from 0 up, one for each latent"
        )
    owners = motion_chunks(positions)
    if num_motion not in (0, len(owners)):
        raise UserError(
            f"{num_motion} motion tokens for the video latents {positions}: "
            f"expected {len(owners)} (1 for chunk 0, 2 for every other) or none"
        )
    num_video = num_latents * tokens_per_latent
    chunk = torch.tensor(
        [TEXT_CHUNK] * text_length
        + [p for p in positions for _ in range(tokens_per_latent)]
        + (owners if num_motion else []),
        device=device,
    )
    sees = torch.ones(len(chunk), len(chunk), dtype=torch.bool, device=device)
    query, key = chunk[:, None], chunk[None, :]
    if interaction:
        video = slice(text_length, text_length + num_video)
        motion = slice(text_length + num_video, None)
        sees[video, motion] = query[video] == key[:, motion]
        sees[motion, video] = (key[:, video] == query[motion]) | (key[:, video] == query[motion] - 1)
    if temporal == "causal":
        sees &= key <= query
    if text_mask is None:
        return sees
    seen = torch.ones(len(text_mask), len(chunk), dtype=torch.bool, device=device)
    seen[:, :text_length] = text_mask.to(device=device, dtype=torch.bool)
    # A padded token keeps sight of itself: a row that sees nothing has no softmax.
    return (sees & seen[:, None, :]) | torch.eye(len(chunk), dtype=torch.bool, device=device)
