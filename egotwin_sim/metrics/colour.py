"""Colour statistics of pictures: a dream that fades to grey or burns out shows here first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.metrics.hue import hsv


@dataclass(frozen=True)
class ColourStatistics:
    """Colours of N pictures.

    Attributes:
        mean: float64 (N, 3), mean of red, green and blue over the pixels, grey levels 0 to 255.
        std: float64 (N, 3), their standard deviation over the pixels, grey levels.
        saturation: float64 (N,), mean saturation (of hue, saturation, value), 0 to 1.
    """

    mean: np.ndarray
    std: np.ndarray
    saturation: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> ColourStatistics:
        """Those of uint8 pictures (N, H, W, 3)."""
        pixels = frames.reshape(len(frames), -1, 3).astype(np.float32)
        mean, std = (part.astype(np.float64) for part in (pixels.mean(axis=1), pixels.std(axis=1)))
        return cls(mean, std, np.array([hsv(frame)[1].mean(dtype=np.float64) for frame in frames]))
