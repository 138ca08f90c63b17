"""Sharpness of pictures, by their steepest edges.

Mean gradient energy does not see a smear (noise and texture make up for the lost edges); the 99th percentile of the
gradient magnitude sits on the outlines of objects, walls and the door, which a smear loses first.
"""

from __future__ import annotations

import numpy as np

PERCENTILE = 99.0
# ITU-R BT.601 luma.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def gradient_p99(frames: np.ndarray) -> np.ndarray:
    """The 99th percentile of the gradient magnitude of each picture's luma, in grey levels per pixel.

    Gradients are differences to the next pixel to the right and below (2 x 2 pixels decide one value).

    Args:
        frames: uint8 (..., H, W, 3).

    Returns:
        float64 (...), 0 for a plain picture, at most 255 sqrt(2).
    """
    luma = frames.astype(np.float32) @ LUMA
    dx = luma[..., :-1, 1:] - luma[..., :-1, :-1]
    dy = luma[..., 1:, :-1] - luma[..., :-1, :-1]
    magnitude = np.sqrt(dx * dx + dy * dy)
    return np.percentile(magnitude.reshape(*magnitude.shape[:-2], -1), PERCENTILE, axis=-1).astype(np.float64)


def sharpness_ratio(truth: np.ndarray, dream: np.ndarray) -> float:
    """Mean `gradient_p99` of dreamt pictures over that of the true ones: 1 is as sharp, below 1 is blurred.

    A ratio of means, not a mean of ratios: a single plain true picture would otherwise decide the figure.

    Args:
        truth: uint8 (..., H, W, 3).
        dream: uint8 (..., H, W, 3), of the same scenes.
    """
    return float(gradient_p99(dream).mean() / max(float(gradient_p99(truth).mean()), 1e-9))
