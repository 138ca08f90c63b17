"""A live body looks to policies like an environment that somebody else steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.envs import LiveBody, RoomEnv
from egotwin_sim.errors import UserError
from egotwin_sim.live.camera import CameraFrame
from egotwin_sim.live.dreamer import StepRequest
from egotwin_sim.policies import named_policy, scripted_policy
from tests.tiny import SIZE


def frame(rgb: np.ndarray, joints: dict[str, float]) -> CameraFrame:
    return CameraFrame(0.0, rgb, np.eye(4), np.eye(4), np.eye(3), np.zeros(7), joints)


def test_a_policy_drives_it_as_it_drives_the_room(weights: Path) -> None:
    room = RoomEnv(weights)
    policy = scripted_policy(room, 0)
    obs, info = room.reset(seed=1, options={"goal": "turn to the table"})
    start = room.start
    assert start is not None
    lives = named_policy("scripted", start.layout, weights, seed=0)
    for step in range(4):
        wanted = policy(obs, info)
        request = StepRequest(step, 0.5 * step, room.recent_in_room(), start.text)
        big = obs["rgb"].repeat(2, axis=0).repeat(2, axis=1)
        given = lives(request, frame(big, {"door_hinge": info["door_angle"]}))
        np.testing.assert_allclose(given, wanted, atol=1e-5)
        obs, _, _, _, info = room.step(wanted)


def test_it_tells_what_the_room_tells(weights: Path) -> None:
    room = RoomEnv(weights)
    obs, info = room.reset(seed=1, options={"goal": "turn to the table"})
    assert room.start is not None
    body = LiveBody(weights, room.start.layout)
    seen, told = body.observe(obs["rgb"], room.recent, "turn to the table", info["door_angle"])
    assert seen.keys() == obs.keys() and body.observation_space.contains(seen)
    for name, value in obs.items():
        np.testing.assert_allclose(seen[name], value, atol=1e-5)
    assert set(told) == set(info) - {"blocked"} and told["goal_text"] == "turn to the table"
    _, told = body.observe(obs["rgb"], room.recent, "dance")
    assert "door_angle" not in told and body.start is not None and body.start.goal is None and body.episode == 1


def test_it_refuses_what_is_not_its_own(weights: Path) -> None:
    room = RoomEnv(weights)
    obs, _ = room.reset(seed=1)
    body = LiveBody(weights)
    with pytest.raises(UserError, match="resize it"):
        body.observe(np.zeros((3, 3, 3), np.uint8), room.recent, "walk")
    body.observe(obs["rgb"], room.recent, "walk")
    with pytest.raises(UserError, match="room of the live body is not known"):
        body.recent_in_room()
    with pytest.raises(UserError, match="reset the simulation"):
        body.reset()
    with pytest.raises(UserError, match="give the tokens"):
        body.step(np.zeros((2, 32), np.float32))
    with pytest.raises(UserError, match="no policy 'magic'; expected scripted"):
        named_policy("magic", None, weights)
    assert SIZE == body.model.config.image_size
