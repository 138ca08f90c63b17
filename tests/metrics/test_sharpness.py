"""The edge percentile on a step and on its blur."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from egotwin_sim.metrics.sharpness import gradient_p99, sharpness_ratio


def test_a_step_has_the_gradient_of_its_height() -> None:
    frame = np.zeros((65, 65, 3), np.uint8)
    frame[:, 33:] = 120  # one of 64 gradient columns, more than a hundredth
    assert gradient_p99(frame) == pytest.approx(120.0, rel=1e-5)
    assert gradient_p99(np.full((16, 16, 3), 77, np.uint8)) == 0.0


def test_a_smear_loses_what_the_mean_gradient_keeps() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[16:48, 16:48] = 200
    smear = gaussian_filter(frame.astype(float), (2, 2, 0)).round().astype(np.uint8)
    # A step spread over pixels keeps its sum of differences but not its steepest one.
    assert sharpness_ratio(frame[None], smear[None]) < 0.4
    assert sharpness_ratio(frame[None], frame[None]) == pytest.approx(1.0)
