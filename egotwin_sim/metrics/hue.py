"""Hue, saturation and value, and the regions of them that the room's paints occupy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def hsv(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in degrees [0, 360), saturation and value in [0, 1] of each pixel.

    The same numbers as `colorsys.rgb_to_hsv`, for arrays: (..., H, W, 3) in 0..255, uint8 or float, to three float32
    (..., H, W).
    """
    rgb = frames.astype(np.float32) / np.float32(255.0)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value = rgb.max(axis=-1)
    spread = value - rgb.min(axis=-1)
    safe = np.where(spread > 0, spread, 1.0)
    sector = np.where(
        value == r, ((g - b) / safe) % 6.0, np.where(value == g, (b - r) / safe + 2.0, (r - g) / safe + 4.0)
    )
    hue = np.where(spread > 0, 60.0 * sector, 0.0) % 360.0
    return hue, np.where(value > 0, spread / np.where(value > 0, value, 1.0), 0.0), value


@dataclass(frozen=True)
class Paint:
    """What one kind of surface looks like, whatever light falls on it.

    Attributes:
        hue_deg: middle of its hues, degrees.
        half_width_deg: a pixel belongs to it when its hue is at most this far away, degrees.
        saturation: (least, most).
        value: least brightness; darker pixels have no trustworthy hue.
    """

    hue_deg: float
    half_width_deg: float
    saturation: tuple[float, float]
    value: float = 0.15

    def mask(self, hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Bool mask of the pixels of this paint, from the three arrays of `hsv`."""
        away = np.abs((hue - self.hue_deg + 180.0) % 360.0 - 180.0)
        low, high = self.saturation
        return (away <= self.half_width_deg) & (saturation >= low) & (saturation <= high) & (value >= self.value)
