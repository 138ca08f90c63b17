"""Statistics agree with what numpy gives for all values at once."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data.depth import FAR, NEAR, depth_to_grey, grey_to_depth
from egotwin_sim.data.statistics import QUANTILES, RunningStats, column_stats, histogram, picture_stats


def test_running_statistics_are_those_of_all_rows() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    rows = (rng.normal(size=(1000, 3)) * (1.0, 10.0, 0.1) + (0.0, 1e4, -5.0)).astype(np.float32)
    running = RunningStats(3)
    for part in np.split(rows, [1, 42, 300, 301]):
        running.add(part)
    whole, joined = column_stats(rows), running.result()
    assert whole.keys() == joined.keys()
    for kind, value in whole.items():
        assert np.allclose(joined[kind], value, rtol=1e-6), kind


@pytest.mark.parametrize("lengths", [(7,) * 400, (1,) * 2800, (2000, 3, 797)])
def test_the_sample_is_every_kth_row(lengths: tuple[int, ...]) -> None:
    running, at = RunningStats(1, sample=100), 0
    for length in lengths:
        running.add(np.arange(at, at + length, dtype=np.float32)[:, None])
        at += length
    assert np.array_equal(running.kept[:, 0], np.arange(0, at, 32))
    assert abs(running.result()["q50"][0] - at / 2) < 32


def test_picture_statistics_are_those_of_the_pixels() -> None:
    frames = np.random.Generator(np.random.PCG64(1)).integers(20, 200, (5, 8, 8, 3)).astype(np.uint8)
    stats = picture_stats(histogram(frames), len(frames))
    pixels = frames.reshape(-1, 3) / 255.0
    for kind in ("min", "max", "mean", "std"):
        assert np.allclose(stats[kind][:, 0, 0], getattr(pixels, kind)(axis=0)), kind
    for name, q in QUANTILES.items():
        assert np.allclose(stats[name][:, 0, 0], np.quantile(pixels, q, axis=0, method="inverted_cdf")), name
    assert stats["count"].tolist() == [5]


def test_depth_keeps_two_percent() -> None:
    depth = np.linspace(NEAR, FAR, 5000, dtype=np.float32)
    again = grey_to_depth(depth_to_grey(depth))
    assert again.dtype == np.float32
    assert np.abs(again / depth - 1.0).max() < 0.01
    beyond = np.array([0.0, np.inf], dtype=np.float32)
    assert np.allclose(grey_to_depth(depth_to_grey(beyond)), (NEAR, FAR))
