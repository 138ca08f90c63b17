"""Motions as actions, and the wrapper that takes frames."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from egotwin_sim.envs import DreamEnv, MotionFrames, RoomEnv, motion_to_actions
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton, encode
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise


def walk() -> Motion:
    return synthesise(sample_layout(0), 0, 2.0, goal="walk to the table").motion


def test_what_does_not_fill_a_step_is_left_out(weights: Path) -> None:
    motion = walk()
    whole = motion_to_actions(motion, weights)
    assert whole.shape == (4, 2, 32)
    np.testing.assert_allclose(motion_to_actions(motion[:25], weights), whole[:3], atol=1e-5)
    np.testing.assert_allclose(motion_to_actions(motion[:24], weights), whole[:2], atol=1e-5)


def test_other_rates_are_resampled(weights: Path) -> None:
    motion = walk()
    double = motion.resampled(32.0)
    np.testing.assert_allclose(motion_to_actions(double, weights), motion_to_actions(motion, weights), atol=1e-2)


def test_actions_do_not_depend_on_where_the_motion_is(weights: Path) -> None:
    motion = walk()
    moved = motion.transformed(2.0, (3.0, -1.0, 0.0))
    np.testing.assert_allclose(motion_to_actions(moved, weights), motion_to_actions(motion, weights), atol=1e-2)


def test_rejects_motions_that_are_too_short_or_of_another_skeleton(weights: Path) -> None:
    motion = walk()
    with pytest.raises(UserError, match="at least 0.5 s"):
        motion_to_actions(motion[:8], weights)
    full = Skeleton.default()
    leaf = full.index["left_wrist"]
    kept = [i for i in range(full.num_joints) if i != leaf]
    shorter = Skeleton(
        names=tuple(full.names[i] for i in kept),
        parents=tuple(kept.index(full.parents[i]) if full.parents[i] >= 0 else -1 for i in kept),
        offsets=full.offsets[kept],
        head_offset=full.head_offset,
        foot_height=full.foot_height,
    )
    other = Motion(motion.root_position, motion.joint_quat_wxyz[:, kept], shorter, motion.fps)
    with pytest.raises(UserError, match="retarget"):
        motion_to_actions(other, weights)


@pytest.mark.parametrize("kind", [DreamEnv, RoomEnv])
def test_motion_frames_moves_the_body_through_the_frames(weights: Path, kind: type) -> None:
    env = MotionFrames(kind(weights))
    motion = walk()
    frames = encode(motion[:9])[1:]
    assert env.action_space.shape == (8, 282)
    env.reset(seed=0, options={"initial_pose": encode(motion[:1])[0]})
    info = env.step(frames)[4]
    wanted = frames[:, 12:15]
    np.testing.assert_allclose(info["T_world_head"][:, :3, 3], wanted, atol=0.06)


def test_motion_frames_rejects_what_is_no_motion(weights: Path) -> None:
    env = MotionFrames(RoomEnv(weights))
    env.reset(seed=0)
    shape = (8, 282)
    for frames in (np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32), np.ones((4, 282), np.float32)):
        with pytest.raises(UserError):
            env.step(frames)
    with pytest.raises(UserError, match="neither a dream nor a room"):
        MotionFrames(gymnasium.make("CartPole-v1"))
