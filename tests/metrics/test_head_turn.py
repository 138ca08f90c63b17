"""The head-turn regressor on pictures that are shifted by known amounts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from egotwin_sim.metrics.head_turn import SIZE, pair_indices, total_turn, train_head_turn, turn_agreement

PIXEL = np.deg2rad(90.0) / SIZE  # radians that one pixel stands for


def panorama(rng: np.random.Generator) -> np.ndarray:
    """A random periodic picture (SIZE, 256, 3)."""
    noise = gaussian_filter(rng.normal(size=(SIZE, 256, 3)), (3, 3, 0), mode="wrap")
    return np.clip(128 + 600 * gaussian_filter1d(noise, 1, axis=0), 0, 255).astype(np.uint8)


def view(world: np.ndarray, left: int) -> np.ndarray:
    """The window of SIZE columns that begins at `left`, wrapping round."""
    return np.take(world, range(left, left + SIZE), axis=1, mode="wrap")


@pytest.fixture(scope="module")
def model():
    """Trained on 300 pairs of 30 panoramas."""
    rng = np.random.Generator(np.random.PCG64(1))
    worlds = [panorama(rng) for _ in range(30)]
    picks = rng.integers(0, 30, 300), rng.integers(0, 256, 300), rng.integers(-24, 25, 300)
    before = np.stack([view(worlds[w], at) for w, at, _ in zip(*picks, strict=True)])
    # A turn to the left looks at what lies further left.
    after = np.stack([view(worlds[w], at - turn) for w, at, turn in zip(*picks, strict=True)])
    return train_head_turn(before, after, picks[2] * PIXEL, steps=100, batch=12)


def test_it_reads_shifts_of_pictures_it_has_not_seen(model) -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    worlds = [panorama(rng) for _ in range(8)]
    turns = rng.integers(-20, 21, 40)
    before = np.stack([view(worlds[i % 8], 100) for i in range(40)])
    after = np.stack([view(worlds[i % 8], 100 - turn) for i, turn in enumerate(turns)])
    seen = model.predict(before, after)
    assert np.abs(seen - turns * PIXEL).mean() < np.deg2rad(2.5)
    agreement = turn_agreement(turns * PIXEL, seen)
    assert agreement.slope == pytest.approx(1.0, abs=0.08)
    np.testing.assert_allclose(model.predict(after, before), -seen, atol=1e-5)


def test_a_clip_turn_is_the_sum_of_its_pairs(model) -> None:
    world = panorama(np.random.Generator(np.random.PCG64(3)))
    frames = np.stack([view(world, 100 - 3 * t) for t in range(13)])
    assert pair_indices(13, 4).tolist() == [0, 4, 8]
    pairs = model.predict(frames[[0, 4, 8]], frames[[4, 8, 12]])
    assert total_turn(model, frames, gap=4) == pytest.approx(float(pairs.sum()))


def test_agreement_by_hand() -> None:
    commanded = np.deg2rad([30.0, -60.0, 10.0])
    recovered = np.deg2rad([24.0, -66.0, 90.0])  # the third is too small a turn to count
    agreement = turn_agreement(commanded, recovered)
    assert agreement.count == 2
    assert agreement.relative_error == pytest.approx((0.2 + 0.1) / 2)
    assert agreement.mean_error_deg == pytest.approx(6.0)
    assert agreement.slope == pytest.approx((24 * 30 + 66 * 60) / (30**2 + 60**2))
    assert turn_agreement(np.zeros(3), np.zeros(3)).count == 0
