"""What the dream and the room have in common: spaces, reset options, checks of actions, observations."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.body import BodyState

from .model import Model
from .start import ResetOptions, Start

if TYPE_CHECKING:
    from egotwin_sim.pipelines.stream import StreamPipeline

# Tokens have unit variance over the training data, whose largest is below 5: data never meets the bound.
TOKEN_BOUND = 8.0
FRAMES_PER_STEP = 4

Observation = dict[str, np.ndarray]


def observation_space(model: Model) -> spaces.Dict:
    """The space of one environment's observations."""
    size = model.config.image_size
    return spaces.Dict(
        {
            "rgb": spaces.Box(0, 255, (size, size, 3), np.uint8),
            "motion": spaces.Box(-np.inf, np.inf, (model.motion_dim,), np.float32),
            "goal": spaces.Box(-1.0, 1.0, (model.text_dim,), np.float32),
        }
    )


def action_space(model: Model) -> spaces.Box:
    """The space of one environment's actions."""
    return spaces.Box(-TOKEN_BOUND, TOKEN_BOUND, (2, model.token_dim), np.float32)


def episode_steps(model: Model, max_seconds: float) -> int:
    """Steps of an episode.

    Raises:
        UserError: seconds that are no positive whole number of steps.
    """
    steps = max_seconds / model.step_seconds
    if not (np.isfinite(steps) and steps >= 1 and steps == round(steps)):
        raise UserError(
            f"max_seconds is {max_seconds:g}; expected a positive multiple of {model.step_seconds:g}, one step"
        )
    return round(steps)


def render_metadata(model: Model, render_mode: str | None) -> dict[str, Any]:
    """An environment's metadata under a render mode.

    Raises:
        UserError: the mode is unknown.
    """
    modes = ["rgb_array", "rgb_array_list"]
    if render_mode is not None and render_mode not in modes:
        raise UserError(f"render mode {render_mode!r} is unknown; expected {' or '.join(modes)}")
    fps = round(model.config.video_fps)
    return {"render_modes": modes, "render_fps": fps // FRAMES_PER_STEP if render_mode == "rgb_array" else fps}


def checked_actions(action: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Motion tokens as float32, of one environment or of several.

    Raises:
        UserError: a wrong shape or type, a number that is not finite or out of bounds.
    """
    tokens = np.asarray(action)
    if tokens.shape != shape or tokens.dtype.kind not in "fiu":
        raise UserError(f"action is {tokens.dtype} {tokens.shape}; expected float32 {shape}")
    if not np.isfinite(tokens).all():
        raise UserError("action holds NaN or infinity; expected finite numbers")
    if np.abs(tokens).max() > TOKEN_BOUND:
        raise UserError(
            f"action reaches {float(np.abs(tokens).max()):.3g}; expected normalised motion tokens from "
            f"{-TOKEN_BOUND:g} to {TOKEN_BOUND:g}: no motion is out there, clip it"
        )
    return tokens.astype(np.float32)


class BodyEnv(gymnasium.Env[Observation, np.ndarray]):
    """Base of both environments. One step is one chunk: 2 motion tokens in, 4 frames out, half a second.

    Args:
        model: name of shipped weights, a folder of weights, a loaded `StreamPipeline`, or another environment's model.
        max_seconds: length of an episode, after which it is truncated.
        render_mode: "rgb_array" for the newest frame, "rgb_array_list" for all frames since the last call.
        device: where the networks run.

    Raises:
        UserError: no such weights, an unknown render mode, or seconds that are no positive whole number of steps.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "rgb_array_list"], "render_fps": 8}

    def __init__(
        self,
        model: str | Path | StreamPipeline | Model = "nano",
        max_seconds: float = 30.0,
        render_mode: str | None = None,
        device: str = "cpu",
    ) -> None:
        self.model = model if isinstance(model, Model) else Model(model, device)
        self.metadata = render_metadata(self.model, render_mode)
        self.max_steps = episode_steps(self.model, max_seconds)
        self.render_mode = render_mode
        self.observation_space = observation_space(self.model)  # type: ignore[assignment]  # Gymnasium types samples as Any
        self.action_space = action_space(self.model)
        self.start: Start | None = None
        self.goal_text = ""
        self.episode = -1
        self.closed = False
        self._steps = -1
        self._recent: Motion | None = None
        size = self.model.config.image_size
        self._frames = np.empty((0, size, size, 3), dtype=np.uint8)
        self._unseen: list[np.ndarray] = []
        self._embedding = np.empty(0, dtype=np.float32)

    @property
    @abstractmethod
    def body(self) -> BodyState:
        """The newest state of the body."""

    @property
    def recent(self) -> Motion:
        """The body's last frames in the coordinates of `body`: the state before the step, then the step's 8 frames."""
        if self._recent is None:
            raise ResetNeeded("there is no body before reset()")
        return self._recent

    @abstractmethod
    def recent_in_room(self) -> Motion:
        """The body's last frames, the newest one last, in the coordinates of the episode's room.

        Raises:
            UserError: the episode has no room.
        """

    def render(self) -> np.ndarray | list[np.ndarray] | None:  # type: ignore[override]
        """The newest frame, or the list of frames since the last call; None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() without a render mode; make the environment with render_mode='rgb_array'")
            return None
        if self._steps < 0:
            raise ResetNeeded("render() before reset()")
        if self.render_mode == "rgb_array":
            return self._frames[-1].copy()
        shown, self._unseen = self._unseen, []
        return shown

    def close(self) -> None:
        """Free what the environment holds. It cannot be used any more."""
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environment was closed; make another one")

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> ResetOptions:
        """Seed, and read the options. Until `_began`, the environment is not ready."""
        self._check_open()
        super().reset(seed=seed)
        self.episode = 0 if seed is not None else self.episode + 1
        self._steps = -1
        return ResetOptions.read(options)

    def _began(self, start: Start | None, text: str, newest_frame: np.ndarray, steps: int = 0) -> None:
        """Take over an episode, whose body is in place, at its beginning or after some steps."""
        self._set_goal_text(text)
        self.start, self._recent = start, self.body.motion
        self._frames = np.repeat(newest_frame[None], FRAMES_PER_STEP, axis=0)
        self._unseen = [newest_frame.copy()]
        self._steps = steps

    def _set_goal_text(self, text: str) -> None:
        self._embedding = self.model.text_encoder.encode([text]).pooled[0].cpu().numpy().astype(np.float32)
        self.goal_text = text

    def _checked(self, action: np.ndarray) -> np.ndarray:
        """The action as float32 (2, C).

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: there is no episode.
            UserError: a wrong shape or type, a number that is not finite or out of bounds.
        """
        self._check_open()
        if self._steps < 0:
            raise ResetNeeded("step() before reset(); call reset() first")
        return checked_actions(action, (2, self.model.token_dim))

    def _stepped(self, frames: np.ndarray, recent: Motion) -> bool:
        """Take over one step's frames and motion (the state before it, then the new frames); True when truncated."""
        self._frames, self._recent = frames, recent
        if self.render_mode == "rgb_array_list":
            self._unseen.extend(frame.copy() for frame in frames)
        self._steps += 1
        return self._steps >= self.max_steps

    def _observation(self) -> Observation:
        return {
            "rgb": self._frames[-1].copy(),
            "motion": self.body.features.copy(),
            "goal": self._embedding.copy(),
        }

    def _info(self, T_world_head: np.ndarray, success: bool) -> dict[str, Any]:
        return {
            "frames": self._frames.copy(),
            "T_world_head": T_world_head,
            "goal_text": self.goal_text,
            "success": success,
        }

    def _pose_at_start(self) -> np.ndarray:
        """The head pose of a body that is where the episode starts, as often as a step has motion frames."""
        T_start_head = np.linalg.inv(self.body.T_world_canonical) @ self.body.motion.T_world_head()
        return np.repeat(T_start_head, self.model.motion_frames, axis=0)
