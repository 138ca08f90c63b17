"""Colour statistics of pictures whose colours are known."""

from __future__ import annotations

import numpy as np

from egotwin_sim.metrics.colour import ColourStatistics


def test_plain_and_two_coloured_pictures() -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[0] = (200, 100, 100)
    frames[1, :4] = (100, 0, 0)
    colours = ColourStatistics.of(frames)
    np.testing.assert_allclose(colours.mean, [[200, 100, 100], [50, 0, 0]])
    np.testing.assert_allclose(colours.std, [[0, 0, 0], [50, 0, 0]], atol=1e-4)
    np.testing.assert_allclose(colours.saturation, [0.5, 0.5])


def test_a_picture_that_fades_loses_spread_and_saturation(rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    faded = (128 + 0.5 * (frames - 128.0)).round().astype(np.uint8)
    before, after = ColourStatistics.of(frames), ColourStatistics.of(faded)
    assert (after.std < 0.52 * before.std).all()
    assert after.saturation[0] < 0.8 * before.saturation[0]
