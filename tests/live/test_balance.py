"""When a dreamt body is lost, and how it is set upright."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.live.balance import Balance
from egotwin_sim.live.dream import LiveDream
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise
from tests.tiny import SIZE, tiny_pipeline, walking


def standing() -> Motion:
    return walking(3)[:1]


def leaning(motion: Motion, degrees: float) -> Motion:
    quat = motion.joint_quat_wxyz.copy()
    quat[:, 0] = quat_multiply(axis_angle_to_quat(np.deg2rad([0.0, degrees, 0.0])), quat[:, 0])
    return Motion(motion.root_position, quat, motion.skeleton, motion.fps)


@pytest.mark.parametrize("seed", range(6))
def test_no_clip_of_a_room_is_lost(seed: int) -> None:
    motion = synthesise(sample_layout(seed), seed).motion
    balance = Balance(standing())
    assert [balance.lost(motion[i + 1 : i + 9]) for i in range(0, 80, 8)] == [""] * 10


@pytest.mark.parametrize(
    ("motion", "words"),
    [
        (walking(3)[:8].transformed(0.0, [0.0, 0.0, 0.2]), "0.20 m above the floor"),
        (walking(3)[:8].transformed(0.0, [0.0, 0.0, -0.2]), "0.20 m below the floor"),
        (leaning(walking(3)[:8], 70.0), "m above the floor|leans by 7|m below the floor"),
    ],
)
def test_a_body_that_cannot_be_is_lost(motion: Motion, words: str) -> None:
    import re

    assert re.search(words, Balance(standing()).lost(motion))


def test_it_is_set_upright_where_it_is() -> None:
    lost = leaning(standing(), 40.0).transformed(0.4, [1.0, 2.0, 0.3])
    motion = Balance(standing()).upright(lost, 8)
    assert len(motion) == 9
    np.testing.assert_allclose(motion[:1].joint_quat_wxyz, lost.joint_quat_wxyz, atol=1e-6)
    ended, began = motion.T_world_head()[-1], lost.T_world_head()[0]
    np.testing.assert_allclose(ended[:2, 3], began[:2, 3], atol=1e-3)
    assert ended[2, 3] == pytest.approx(standing().T_world_head()[0, 2, 3], abs=1e-5)
    np.testing.assert_allclose(motion[8:].joint_quat_wxyz[0, 1:], standing().joint_quat_wxyz[0, 1:], atol=1e-6)


def test_a_dream_catches_the_body_that_it_dreams_and_none_that_it_is_given() -> None:
    pipeline = tiny_pipeline()  # knows nothing, and so loses a body at once
    dream = LiveDream(pipeline)
    body = standing().transformed(1.0, [2.0, -1.0, 0.0])
    dream.begin(np.zeros((SIZE, SIZE, 3), np.uint8), body, "walk", at=0.0)
    chunk = dream.step()
    assert dream.catches == 1 and dream.caught.startswith("step 0: its ")
    np.testing.assert_allclose(chunk.motion.T_world_head()[-1], body.T_world_head()[0], atol=1e-3)
    np.testing.assert_allclose(chunk.T_world_head, chunk.motion.T_world_head(), atol=1e-5)
    np.testing.assert_allclose(dream.recent.root_position, chunk.recent.root_position, atol=1e-5)
    dream.step(chunk.tokens)
    assert dream.catches == 1
