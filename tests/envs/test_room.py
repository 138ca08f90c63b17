"""The room alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from egotwin_sim.envs import DreamEnv, RoomEnv, motion_to_actions
from egotwin_sim.errors import UserError
from egotwin_sim.motion import canonical_frame
from egotwin_sim.pipelines import StreamPipeline
from egotwin_sim.room.synthesis import Synthesiser, synthesise


@pytest.fixture(scope="module")
def env(weights: Path) -> Iterator[RoomEnv]:
    made = RoomEnv(weights)
    yield made
    made.close()


@pytest.mark.parametrize("goal", ["dance", "walk to the orange box", "open the table", "the door", "walk to the moon"])
def test_rejects_goals_that_no_room_fits(env: RoomEnv, goal: str) -> None:
    with pytest.raises(UserError, match="room"):
        env.reset(seed=0, options={"goal": goal})


def test_draws_its_own_first_frame(env: RoomEnv) -> None:
    with pytest.raises(UserError, match="first_frame"):
        env.reset(seed=0, options={"first_frame": np.zeros((32, 32, 3), np.uint8)})


def test_actions_of_a_plan_move_the_body_along_it_and_reach_the_goal(env: RoomEnv) -> None:
    env.reset(seed=1, options={"goal": "walk to the table"})
    start = env.start
    plan = Synthesiser(start.layout, 0).plan(env.recent_in_room(), env.goal_text)
    plan = plan[: 1 + (len(plan) - 1) // 8 * 8]
    actions = motion_to_actions(plan, env.model)
    assert actions.shape == ((len(plan) - 1) // 8, 2, 32) and actions.dtype == np.float32
    walked = 0.0
    for k, action in enumerate(actions):
        _, reward, terminated, _, info = env.step(action)
        planned = np.linalg.inv(start.T_room_start) @ plan[8 * k + 1 : 8 * k + 9].T_world_head()
        error = np.linalg.norm(info["T_world_head"][-1, :3, 3] - planned[-1, :3, 3])
        walked = max(walked, float(np.linalg.norm(planned[-1, :3, 3] - [0, 0, planned[-1, 2, 3]])))
        assert error < 0.1 + 0.2 * walked
        assert reward == float(terminated) == float(info["success"])
        if terminated:
            break
    assert walked > 0.5


def test_frames_are_what_the_head_sees_at_every_second_motion_frame(env: RoomEnv) -> None:
    env.reset(seed=1)
    action = np.full((2, 32), 0.2, np.float32)
    info = env.step(action)[4]
    recent = env.recent_in_room()
    assert len(recent) == 9
    for i, frame in enumerate(info["frames"]):
        env.world.reset(recent[2 * i + 2], info["door_angle"])
        np.testing.assert_array_equal(env.world.render(), frame)


def test_a_wall_stops_the_body(env: RoomEnv, weights: Path) -> None:
    env.reset(seed=3, options={"goal": "open the door"})
    walk = synthesise(env.start.layout, 3, 4.0, goal="walk to the table").motion
    steady = motion_to_actions(walk, weights)[2]
    blocked = False
    for _ in range(20):
        _, _, terminated, _, info = env.step(steady)
        blocked |= info["blocked"]
        at = env.recent_in_room().root_position[-1, :2]
        assert (np.abs(at) < np.array(env.start.layout.size) / 2 + 1.5).all()
    assert blocked and not terminated


def test_initial_pose_is_taken_at_the_place_drawn(env: RoomEnv) -> None:
    standing = env.reset(seed=6)[0]
    place = env.start.T_room_start
    env.reset(seed=9)
    pose = env.step(np.full((2, 32), 0.5, np.float32))[0]["motion"]
    obs, _ = env.reset(seed=6, options={"initial_pose": pose})
    np.testing.assert_allclose(obs["motion"], pose, atol=1e-5)
    np.testing.assert_allclose(canonical_frame(env.recent_in_room().T_world_head())[0], place, atol=1e-5)
    assert not np.array_equal(obs["motion"], standing["motion"])


def test_nan_in_the_motion_vae_stops_the_rollout(weights: Path) -> None:
    pipeline = StreamPipeline.from_pretrained(weights)
    made = RoomEnv(pipeline)
    made.reset(seed=0)
    with torch.no_grad():
        for parameter in pipeline.motion_vae.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        made.step(np.zeros((2, 32), np.float32))


def test_needs_the_motion_vae_and_no_other_weights(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "few")
    for network in ("transformer", "video_vae", "depth_net"):
        for file in (tmp_path / "few" / network).glob("*.safetensors"):
            file.unlink()
    made = RoomEnv(tmp_path / "few")
    made.reset(seed=0)
    made.step(np.zeros((2, 32), np.float32))
    with pytest.raises(UserError, match="weights do not load"):
        DreamEnv(tmp_path / "few").reset(seed=0)
