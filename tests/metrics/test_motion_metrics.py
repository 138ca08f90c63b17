"""Motion errors, speeds and the kind classifier on bodies whose movement is known."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.goal_kind import chance, describe, train_kind_classifier
from egotwin_sim.metrics.motion import (
    heading,
    mean_head_height,
    mean_joint_speed,
    motion_error,
    rotation_angle,
    share_in_range,
)
from egotwin_sim.motion import Motion, Skeleton

SKELETON = Skeleton.default()


def statue(frames: int, velocity: tuple[float, float, float] = (0.0, 0.0, 0.0), turn: float = 0.0) -> Motion:
    """The rest pose that glides at a velocity (m/s) and turns about the vertical (rad/s)."""
    seconds = np.arange(frames) / 16.0
    root = np.array([0.0, 0.0, SKELETON.rest_root_height]) + seconds[:, None] * np.array(velocity)
    quat = np.zeros((frames, SKELETON.num_joints, 4))
    quat[..., 0] = 1.0
    quat[:, 0, 0], quat[:, 0, 3] = np.cos(turn * seconds / 2), np.sin(turn * seconds / 2)
    return Motion(root, quat)


def test_a_shift_is_an_error_of_its_length() -> None:
    a = statue(5)
    error = motion_error(a, a.transformed(0.0, (0.003, 0.0, 0.004)))
    assert error.joint_mm == pytest.approx(5.0, abs=1e-3)
    assert error.head_mm == pytest.approx(5.0, abs=1e-3)
    assert error.head_deg == pytest.approx(0.0, abs=1e-4)


def test_a_turn_is_an_error_of_its_angle() -> None:
    a = statue(5)
    assert motion_error(a, a.transformed(np.deg2rad(3.0))).head_deg == pytest.approx(3.0, abs=1e-3)


def test_motions_of_different_length_are_refused() -> None:
    with pytest.raises(UserError, match="5 and 4 frames"):
        motion_error(statue(5), statue(4))


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.3, np.pi])
def test_rotation_angle(angle: float) -> None:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    assert rotation_angle(np.eye(3), turn) == pytest.approx(angle, abs=1e-9)


def test_speed_height_and_heading_of_a_gliding_statue() -> None:
    motion = statue(17, velocity=(0.6, 0.8, 0.0))
    assert mean_joint_speed(motion) == pytest.approx(1.0, abs=1e-4)
    assert mean_joint_speed(motion[:1]) == 0.0
    up = SKELETON.rest_root_height + SKELETON.offsets[list(SKELETON.head_chain)][1:, 2].sum() + SKELETON.head_offset[2]
    assert mean_head_height(motion) == pytest.approx(up, abs=1e-5)
    turning = heading(statue(81, turn=1.0).T_world_head())
    assert turning[-1] - turning[0] == pytest.approx(5.0, abs=1e-4)  # beyond half a turn without a jump


def test_share_in_range_by_hand() -> None:
    reference = np.arange(101.0)  # 5th and 95th percentile: 5 and 95
    assert share_in_range(np.array([4.9, 5.0, 50.0, 95.1]), reference) == 0.5


def test_the_description_ignores_where_the_motion_happens() -> None:
    motion = statue(17, velocity=(0.5, 0.2, 0.0), turn=0.8)
    moved = motion.transformed(2.0, (3.0, -1.0, 0.0))
    np.testing.assert_allclose(describe(moved), describe(motion), atol=1e-4)


def test_kinds_are_recognised_in_motions_not_trained_on(rng: np.random.Generator) -> None:
    def sample(count: int) -> tuple[list[Motion], list[str]]:
        motions, kinds = [], []
        for _ in range(count):
            motions += [
                statue(33, velocity=(rng.uniform(0.4, 1.2), 0.0, 0.0)),
                statue(33, turn=rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)),
                statue(33, velocity=(0.0, 0.0, -rng.uniform(0.1, 0.4))),
            ]
            kinds += ["walk", "turn", "crouch"]
        return motions, kinds

    classifier = train_kind_classifier(*sample(10))
    assert classifier.accuracy(*sample(5)) == 1.0


def test_chance_by_hand() -> None:
    assert chance(["walk", "turn", "crouch", "walk"]) == pytest.approx(0.25 + 2 / 16)
    assert chance(["walk", "turn"]) == pytest.approx(0.5)
