"""What whole clips are made by, window after window."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from egotwin_sim.motion import Motion


class Rollout(Protocol):
    """B clips of one mode and length in the making: ask for a window, denoise it, give it back, until there is none.

    Attributes:
        chunks: K, of each clip.
        progress: chunks that are done.
    """

    chunks: int

    @property
    def progress(self) -> int: ...  # noqa: D102

    def next_window(self) -> Any:
        """The next ``Window``, or None after the last."""
        ...

    def remember(self, window: Any, latents: Tensor, tokens: Tensor) -> None:
        """Take a denoised window in: latents (B, n, C, h, w) and tokens (B, 2n, Cm)."""
        ...

    def videos(self) -> list[np.ndarray]:
        """uint8 (1 + 4K, H, W, 3) of each clip."""
        ...

    def latents(self) -> Tensor:
        """(B, 1 + K, C, h, w), normalised."""
        ...

    def motions(self) -> list[Motion]:
        """1 + 8K frames of each clip in the world."""
        ...
