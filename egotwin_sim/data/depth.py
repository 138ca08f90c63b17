"""Depth as grey pictures: 8 bits on a logarithmic scale."""

from __future__ import annotations

import numpy as np

NEAR = 0.1  # metres; nearer depths are stored as NEAR
FAR = 10.0  # metres; farther depths are stored as FAR


def depth_to_grey(depth: np.ndarray) -> np.ndarray:
    """Metres, any shape, to uint8: 0 at `NEAR`, 255 at `FAR`; one level is 1.8 % of the depth."""
    clipped = np.clip(np.asarray(depth, dtype=np.float32), NEAR, FAR)
    return np.round(255.0 / np.log(FAR / NEAR) * np.log(clipped / NEAR)).astype(np.uint8)


def grey_to_depth(grey: np.ndarray) -> np.ndarray:
    """The inverse of `depth_to_grey`: uint8, any shape, to float32 metres."""
    levels = NEAR * (FAR / NEAR) ** (np.arange(256) / 255.0)
    return levels.astype(np.float32)[grey]
