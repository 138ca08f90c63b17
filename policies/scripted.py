"""A policy that knows the room: it plans a motion for the goal and plays it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from egotwin_sim.envs.base import TOKEN_BOUND, BodyEnv, Observation
from egotwin_sim.envs.wrappers import body_env
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, canonical_frame
from egotwin_sim.motion.rotations import yaw_of
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.tokens import chunk_tokens
from egotwin_sim.room.synthesis import Synthesiser
from egotwin_sim.room.synthesis.timing import wrap
from egotwin_sim.room.world import RoomWorld

# A plan is dropped when the body is this far from where the plan has it.
OFF_METRES = 0.10
OFF_RADIANS = np.deg2rad(12.0)


def scripted_policy(env: gymnasium.Env[Any, Any], seed: int) -> ScriptedPolicy:
    """A policy that pursues each episode's goal.

    Args:
        env: `EgoTwin/Room-v0`, or `EgoTwin/Dream-v0` with episodes that began in a sampled room, wrapped or not. The
            policy looks at its room and body, so it must be called once between two steps of this environment.
        seed: of the body's style and of small choices.

    Raises:
        UserError: another environment.
    """
    return ScriptedPolicy(body_env(env), seed)


class ScriptedPolicy:
    """See `scripted_policy`.

    The synthesiser's plan stands in the room's coordinates: every action leads from where the body is to where the plan
    has it half a second later, so small errors of the tokens do not add up. A body that is off the plan, or at its end,
    gets a new one from its present state.
    """

    def __init__(self, env: BodyEnv, seed: int) -> None:
        self.env, self.seed = env, seed
        self._episode: object = None

    def __call__(self, obs: Observation, info: dict[str, Any]) -> np.ndarray:
        """The action float32 (2, C) for the environment's present state, whose observation and info these are.

        Raises:
            UserError: the episode has no room, or its goal is one that the room's words do not cover.
        """
        env = self.env
        recent = env.recent_in_room()
        start = env.start
        assert start is not None
        if start.goal is None:
            raise UserError(f"goal {env.goal_text!r} means nothing in a room; expected walk to, turn to or open")
        if start is not self._episode:
            self._episode = start
            self._synthesiser = Synthesiser(start.layout, self.seed)
            self._door = None if "door_angle" in info else RoomWorld(start.layout, env.model.skeleton, size=16)
            if self._door is not None:
                self._door.reset(recent[-1:])
            self._plan: Motion | None = None
        elif self._door is not None:
            # A dream has no door to measure: this is what the hands would have done to it in the room.
            self._door.reset(recent[:1], self._door.door_angle)
            self._door.step(recent[1:])
        count = env.model.motion_frames
        if self._plan is None or len(self._plan) == 1 or _is_off(recent[-1:], self._plan[:1]):
            door_angle = info["door_angle"] if self._door is None else self._door.door_angle
            self._plan = self._synthesiser.plan(recent, env.goal_text, door_angle=door_angle)
        planned, coming = self._plan[:1], self._plan[1 : 1 + count]
        self._plan = self._plan[min(count, len(self._plan) - 1) :]
        if len(coming) < count:
            coming = Motion.concatenate([coming, *[coming[-1:]] * (count - len(coming))])
        body = BodyState(obs["motion"], recent[-1:], canonical_frame(recent[-1:].T_world_head())[0])
        tokens = chunk_tokens(body, coming, env.model.motion_vae, planned)
        return np.clip(tokens, -TOKEN_BOUND, TOKEN_BOUND).astype(np.float32)


def _is_off(body: Motion, planned: Motion) -> bool:
    """Whether a body (one frame) is elsewhere than a plan has it: hips on the floor plan, or heading of the head."""
    metres = float(np.linalg.norm((body.root_position - planned.root_position)[0, :2]))
    radians = wrap(float(yaw_of(body.T_world_head()[0, :3, :3]) - yaw_of(planned.T_world_head()[0, :3, :3])))
    return metres > OFF_METRES or abs(radians) > OFF_RADIANS
