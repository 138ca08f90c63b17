"""Hands expected from the body, hands that the renderer draws, and hands seen in the pixels, in a room."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data import Camera
from egotwin_sim.metrics.hand_detector import PaintedHands
from egotwin_sim.metrics.hand_score import hand_score, hands_expected
from egotwin_sim.metrics.room_hands import hands_rendered
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise
from egotwin_sim.room.world import RoomWorld

CLIPS = ((0, 3), (1, 5), (2, 8))  # room and clip seeds; the bodies wave, reach and open the door


@pytest.fixture(scope="module")
def filmed() -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Hands expected (T, 2), rendered (T, 2) and painted (T,), four times a second."""
    expected, rendered, painted = [], [], []
    for room, seed in CLIPS:
        world = RoomWorld(sample_layout(room), size=128)
        try:
            motion = synthesise(world.layout, seed, seconds=5.0).motion[::4]
            still = np.zeros(len(motion))
            frames, _ = world.record(motion, still, every=1)
            expected.append(hands_expected(motion, Camera(world.intrinsics, world.T_head_camera), (128, 128)))
            rendered.append(hands_rendered(world, motion, still))
            painted.append(PaintedHands().detect(frames))
        finally:
            world.close()
    return expected, rendered, painted


def test_projection_agrees_with_the_renderer(filmed) -> None:
    expected, rendered, _ = filmed
    assert np.concatenate(rendered).any(axis=0).all()  # both hands are seen
    score = hand_score(expected, rendered)
    assert score.f is not None and score.f >= 0.9
    assert score.f_left is not None and score.f_left >= 0.85
    assert score.f_right is not None and score.f_right >= 0.85


def test_paint_agrees_with_the_renderer(filmed) -> None:
    _, rendered, painted = filmed
    truth = np.concatenate(rendered).any(axis=1)
    assert (np.concatenate(painted) == truth).mean() >= 0.9
