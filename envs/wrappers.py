"""Other ways to say how the body moves, for both environments."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from egotwin_sim.errors import UserError
from egotwin_sim.motion import decode

from .base import TOKEN_BOUND, BodyEnv, Observation


def body_env(env: gymnasium.Env[Any, Any]) -> BodyEnv:
    """The dream or room at the bottom of an environment.

    Raises:
        UserError: it is another environment.
    """
    inner = env.unwrapped
    if not isinstance(inner, BodyEnv):
        raise UserError(f"{inner} is neither a dream nor a room; give EgoTwin/Dream-v0 or EgoTwin/Room-v0")
    return inner


class MotionFrames(gymnasium.ActionWrapper[Observation, np.ndarray, np.ndarray]):
    """Takes the 8 coming body states themselves instead of their motion tokens.

    The action is `Box(-inf, inf, (8, D), float32)`: head-centric states 1/16 s apart, in the canonical frame of the
    present one (`obs["motion"]`; the frame of `egotwin_sim.motion.encode` of the present state and what follows). Only
    the poses are read (head position and rotation, joint rotations); changes and velocities are computed from them.
    The tokeniser keeps what is like human motion: tokens are clipped to the environment's bounds.

    Args:
        env: `EgoTwin/Dream-v0` or `EgoTwin/Room-v0`.

    Raises:
        UserError: another environment; from `step`, frames of another shape, not finite, or without a rotation.
    """

    def __init__(self, env: gymnasium.Env[Observation, np.ndarray]) -> None:
        super().__init__(env)
        model = body_env(env).model
        self.action_space = spaces.Box(-np.inf, np.inf, (model.motion_frames, model.motion_dim), np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """Motion tokens (2, C) of frames (8, D)."""
        from egotwin_sim.pipelines.tokens import chunk_tokens

        frames = np.asarray(action)
        if frames.shape != self.action_space.shape or frames.dtype.kind not in "fiu":
            raise UserError(f"action is {frames.dtype} {frames.shape}; expected float32 {self.action_space.shape}")
        env = body_env(self.env)
        body = env.body
        coming = decode(frames, body.motion.skeleton, body.motion.fps, body.T_world_canonical)
        return np.clip(chunk_tokens(body, coming, env.model.motion_vae), -TOKEN_BOUND, TOKEN_BOUND)
