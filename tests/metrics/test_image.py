"""PSNR and SSIM against hand-computed cases and the direct formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from egotwin_sim.metrics.image import PSNR_LIMIT, psnr, ssim


def test_psnr_of_a_known_difference() -> None:
    a = np.full((2, 16, 16, 3), 100, np.uint8)
    b = a.copy()
    b[0] += 10  # MSE 100
    b[1, :8] -= 51  # half of the pixels by a fifth of the peak: MSE 255^2 / 50
    np.testing.assert_allclose(psnr(a, b), [10 * np.log10(255**2 / 100), 10 * np.log10(50)], rtol=1e-6)


def test_psnr_ends() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert psnr(black, white) == 0.0
    assert psnr(black, black) == PSNR_LIMIT


def test_ssim_of_identical_pictures_is_one(rng: np.random.Generator) -> None:
    a = rng.integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    np.testing.assert_allclose(ssim(a, a), np.ones(3), atol=1e-12)


def test_ssim_of_two_plain_pictures_is_the_luminance_term() -> None:
    a, b = np.full((16, 16, 3), 50, np.uint8), np.full((16, 16, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 50 * 150 + c1) / (50**2 + 150**2 + c1), abs=1e-9)


def test_ssim_agrees_with_the_direct_formula(rng: np.random.Generator) -> None:
    a = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    b = np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
    per_channel = []
    for c in range(3):
        x, y = a[..., c].astype(float), b[..., c].astype(float)
        # truncate=3.5 gives the window of 11 pixels; the border is cut, so the filter's padding does not matter.
        mx, my, xx, yy, xy = (gaussian_filter(v, 1.5, truncate=3.5) for v in (x, y, x * x, y * y, x * y))
        c1, c2 = 2.55**2, 7.65**2
        top = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
        bottom = (mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2)
        per_channel.append((top / bottom)[5:-5, 5:-5].mean())
    assert ssim(a, b) == pytest.approx(np.mean(per_channel), abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_pictures_of_different_kinds_are_refused(metric) -> None:
    a = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        metric(a, a[:12])
    with pytest.raises(ValueError, match="uint8"):
        metric(a, a.astype(np.float32))
