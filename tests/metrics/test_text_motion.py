"""The text-motion embedding tells matching pairs from others, on clips it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egotwin_sim.metrics.text_motion import POOL, TOP, train_matcher
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import axis_angle_to_quat


def clips(count: int, seed: int) -> tuple[list[Motion], torch.Tensor]:
    """Bodies that turn and walk by two numbers, which their texts' embeddings hold among noise."""
    rng = np.random.default_rng(seed)
    motions, texts = [], []
    for _ in range(count):
        turn, speed = rng.uniform(-1, 1, 2)
        time = np.arange(17) / 16
        yaw = 2.0 * turn * time
        quat = np.zeros((17, 22, 4))
        quat[..., 0] = 1.0
        quat[:, 0] = axis_angle_to_quat(np.stack([0 * yaw, 0 * yaw, yaw], axis=-1))
        step = (1 + speed) / 16 * np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], axis=-1)
        motions.append(Motion(np.cumsum(step, axis=0) + [0, 0, 0.95], quat))
        texts.append(np.concatenate([[turn, speed], 0.05 * rng.normal(size=6)]))
    return motions, torch.tensor(np.stack(texts), dtype=torch.float32)


def test_it_recognises_what_belongs_together() -> None:
    matcher = train_matcher(*clips(160, 0), steps=150)
    motions, texts = clips(64, 1)
    score = matcher.score(motions, texts)
    assert score.r_precision > 0.8 and score.chance == TOP / POOL
    wrong = matcher.score(motions, texts.roll(7, dims=0))
    assert wrong.r_precision < 0.3 and wrong.distance > score.distance
    assert matcher.score(motions, texts) == score
    again = train_matcher(*clips(160, 0), steps=150).score(motions, texts)
    assert again.r_precision == pytest.approx(score.r_precision, abs=0.02)
    assert matcher.describe(motions).std(axis=0).max() < 3
    assert matcher.score(motions[:8], texts[:8]).chance == TOP / 8
    with pytest.raises(ValueError, match=f"more than {TOP}"):
        matcher.score(motions[:3], texts[:3])
