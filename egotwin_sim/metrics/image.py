"""Fidelity of pictures: peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

import numpy as np

PEAK = 255.0
# Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), section III-B.
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K1 = 0.01
SSIM_K2 = 0.03
# Identical pictures would have an infinite ratio, which no mean survives.
PSNR_LIMIT = 100.0


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or a.ndim < 3 or a.shape[-1] != 3:
        raise ValueError(f"two picture arrays (..., H, W, 3) of one shape expected, got {a.shape} and {b.shape}")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"uint8 pictures expected, got {a.dtype} and {b.dtype}")


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each picture in dB, 10 log10(255^2 / MSE over pixels and channels).

    Args:
        a: uint8 (..., H, W, 3).
        b: uint8 of the same shape.

    Returns:
        float64 (...): 0 for black against white, at most `PSNR_LIMIT` (identical pictures).

    Raises:
        ValueError: shapes differ or the pictures are not uint8 RGB.
    """
    _check(a, b)
    error = np.square(a.astype(np.float32) - b.astype(np.float32)).mean(axis=(-3, -2, -1), dtype=np.float64)
    with np.errstate(divide="ignore"):
        ratio = 10.0 * np.log10(PEAK**2 / error)
    return np.minimum(ratio, PSNR_LIMIT)


def _blur(x: np.ndarray) -> np.ndarray:
    """Gaussian mean over (H, W) of (..., H, W, C), only where the whole window lies inside the picture."""
    taps = np.exp(-0.5 * (np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1) / SSIM_SIGMA) ** 2)
    taps /= taps.sum()
    for axis in (-3, -2):
        size = x.shape[axis] - 2 * SSIM_RADIUS
        out = 0.0
        for i, tap in enumerate(taps):
            out = out + tap * np.take(x, range(i, i + size), axis=axis)
        x = np.asarray(out)
    return x


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean structural similarity of each picture (Wang et al. 2004), Gaussian window of 11 pixels, sigma 1.5.

    The map is computed for each colour channel, on the pixels whose window lies inside the picture, and averaged; the
    same as scikit-image's with `gaussian_weights=True, use_sample_covariance=False`.

    Args:
        a: uint8 (..., H, W, 3), H and W at least 11.
        b: uint8 of the same shape.

    Returns:
        float64 (...) in [-1, 1]; 1 for identical pictures.

    Raises:
        ValueError: shapes differ, the pictures are not uint8 RGB, or they are smaller than the window.
    """
    _check(a, b)
    if min(a.shape[-3:-1]) < 2 * SSIM_RADIUS + 1:
        raise ValueError(f"SSIM needs pictures of at least 11 x 11 pixels, got {a.shape[-3]} x {a.shape[-2]}")
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(axis=(-3, -2, -1))
