"""Driving the body by a few numbers: how fast to walk and turn, where to look, which arm to stretch out."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.room.synthesis.body import (
    MAX_GAZE_DOWN,
    MAX_GAZE_UP,
    MAX_GAZE_YAW,
    Gaze,
    Hand,
    Score,
    State,
    Style,
    perform,
    read_state,
)
from egotwin_sim.room.synthesis.ground import ACCELERATION, BODY_TURN_RATE, RATE

from .base import TOKEN_BOUND, Observation
from .wrappers import body_env

NAMES = ("forward_speed", "turn_rate", "gaze_yaw", "gaze_pitch", "reach_left", "reach_right")
LOW = np.array([0.0, -BODY_TURN_RATE, -MAX_GAZE_YAW, -MAX_GAZE_UP, 0.0, 0.0], dtype=np.float32)
HIGH = np.array([1.1, BODY_TURN_RATE, MAX_GAZE_YAW, MAX_GAZE_DOWN, 1.0, 1.0], dtype=np.float32)

LOOK_AHEAD = 1.4  # seconds that a command is thought to go on, so that the next steps know where they lead
BRAKING = 2.0  # m/s^2
TURN_ACCELERATION = 4.0  # rad/s^2
GAZE_SECONDS = 0.6  # in which the gaze goes over to a new direction, if the neck's speed allows
# Palm in the frame of the hips' ground point, metres: hanging, and stretched out; the left one, the right is mirrored.
HANGING, STRETCHED = np.array([0.12, 0.28, 0.78]), np.array([0.56, 0.14, 1.22])
HAND_STEP = 0.35  # metres that a palm is moved in half a second
LET_GO = 0.2  # metres from the hanging place within which an arm that is not wanted swings freely


def command_motion(recent: Motion, command: np.ndarray, frames: int = 8) -> Motion:
    """What a body does under a command in the coming half second, by the synthesiser's gait: feet that stand stay put.

    Args:
        recent: the body's last frames, 16 per second, world coordinates; two or more give its velocities.
        command: (6,), see `NAMES`.
        frames: how many to make.

    Returns:
        The frames that follow, world coordinates.
    """
    speed, turn, gaze_yaw, gaze_pitch, *reaches = (float(value) for value in command)
    state = read_state(recent)
    now = (0.0, GAZE_SECONDS, np.inf, np.inf)
    hands = [hand for side, reach in enumerate(reaches) if (hand := _hand(state, side, reach)) is not None]
    score = Score(_path(state, speed, turn, frames / recent.fps), [Gaze(now, yaw=gaze_yaw, down=gaze_pitch)], hands)
    return perform(score, Style(), 1 + frames, recent.skeleton, state)[0][1:]


def _path(state: State, speed: float, turn: float, seconds: float) -> np.ndarray:
    """The way over the floor (N, 3): x, y, heading at `RATE`."""
    dt = 1.0 / RATE
    x, y, yaw = state.ground
    going, turning = state.speed, state.yaw_rate
    rows = [(x, y, yaw)]
    for _ in range(round((seconds + LOOK_AHEAD) * RATE)):
        going += np.clip(speed - going, -BRAKING * dt, ACCELERATION * dt)
        turning += np.clip(turn - turning, -TURN_ACCELERATION * dt, TURN_ACCELERATION * dt)
        yaw += turning * dt
        x, y = x + going * np.cos(yaw) * dt, y + going * np.sin(yaw) * dt
        rows.append((x, y, yaw))
    return np.array(rows)


def _hand(state: State, side: int, reach: float) -> Hand | None:
    """The hand on its way between hanging (0) and stretched out (1); None when it hangs and shall."""
    mirror = np.array([1.0, 1.0 if side == 0 else -1.0, 1.0])
    x, y, yaw = state.ground
    cos, sin = np.cos(yaw), np.sin(yaw)
    to_world = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    palm = to_world.T @ (state.palms[side] - [x, y, 0.0])
    wanted = (HANGING + reach * (STRETCHED - HANGING)) * mirror
    way = wanted - palm
    length = float(np.linalg.norm(way))
    if reach < 0.05 and length < LET_GO:
        return None
    local = palm + way * min(1.0, HAND_STEP / max(length, 1e-6))

    def target(t: np.ndarray, ground: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(ground[:, 2]), np.sin(ground[:, 2])
        across = ground[:, 0] + cos * local[0] - sin * local[1], ground[:, 1] + sin * local[0] + cos * local[1]
        return np.stack([*across, np.full(len(t), local[2])], axis=-1)

    # At its target from the start: the body's blend from its present pose brings the hand there in half a second.
    return Hand(side, (-1.0, -0.5, np.inf, np.inf), target)


class Command(gymnasium.ActionWrapper[Observation, np.ndarray, np.ndarray]):
    """Takes a command for the coming half second instead of motion tokens.

    The action is `Box((6,), float32)`, in this order:

    | name            | range         | unit                                                                  |
    |-----------------|---------------|-----------------------------------------------------------------------|
    | `forward_speed` | 0 to 1.1      | m/s                                                                   |
    | `turn_rate`     | -1.19 to 1.19 | rad/s, positive to the left                                           |
    | `gaze_yaw`      | -1.26 to 1.26 | rad against the hips, positive to the left                            |
    | `gaze_pitch`    | -0.52 to 0.84 | rad, positive downward                                                |
    | `reach_left`    | 0 to 1        | the left hand from hanging (0) to stretched out before the chest (1)  |
    | `reach_right`   | 0 to 1        | the right hand                                                        |

    The body gets there as fast as a body does: it speeds up, brakes, and turns its head at human rates.

    Args:
        env: `EgoTwin/Dream-v0` or `EgoTwin/Room-v0`.

    Raises:
        UserError: another environment; from `step`, a command of another shape, not finite or out of range.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        body_env(env)
        self.action_space = spaces.Box(LOW, HIGH, dtype=np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """Motion tokens (2, C) of a command (6,)."""
        from egotwin_sim.pipelines.tokens import chunk_tokens

        command = np.asarray(action)
        if command.shape != LOW.shape or command.dtype.kind not in "fiu":
            raise UserError(f"command is {command.dtype} {command.shape}; expected float32 (6,): {', '.join(NAMES)}")
        wrong = ~((command >= LOW - 1e-6) & (command <= HIGH + 1e-6))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise UserError(f"{NAMES[i]} is {command[i]:g}; expected {LOW[i]:.3g} to {HIGH[i]:.3g}")
        env = body_env(self.env)
        coming = command_motion(env.recent, command, env.model.motion_frames)
        return np.clip(chunk_tokens(env.body, coming, env.model.motion_vae), -TOKEN_BOUND, TOKEN_BOUND)
