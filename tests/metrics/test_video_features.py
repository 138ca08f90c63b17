"""Features of seconds of video: what is seen, and how much it changes."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.metrics.video_features import video_features
from tests.tiny import tiny_video_vae


def test_a_still_video_has_no_change_and_order_counts_only_there() -> None:
    vae, rng = tiny_video_vae(), np.random.default_rng(0)
    moving = rng.integers(0, 256, (1, 17, 32, 32, 3), dtype=np.uint8)
    features = video_features(moving, vae)
    half = features.shape[1] // 2
    assert features.shape[0] == 2
    still = video_features(np.repeat(moving[:, :1], 8, axis=1), vae)
    assert np.abs(still[:, half:]).max() < 1e-5 < np.abs(features[:, half:]).min(axis=1).max()
    swapped = moving[:, :8].copy()
    swapped[:, [0, 4]] = swapped[:, [4, 0]]
    other = video_features(swapped, vae)
    np.testing.assert_allclose(other[0, :half], features[0, :half], atol=1e-4)
    assert not np.allclose(other[0, half:], features[0, half:], atol=1e-4)


def test_short_videos_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        video_features(np.zeros((1, 7, 32, 32, 3), np.uint8), tiny_video_vae())
