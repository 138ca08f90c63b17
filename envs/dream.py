"""The imagined environment: the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import ResetNeeded

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import yaw_of
from egotwin_sim.pipelines.body import BodyState

from .base import BodyEnv, Observation
from .dream_start import draw_dream, noise_seed
from .start import Start

if TYPE_CHECKING:
    from egotwin_sim.pipelines.state import DreamState
    from egotwin_sim.pipelines.stream import Stream, StreamPipeline


class DreamEnv(BodyEnv):
    """A room that exists only in the model: EgoTwin (arXiv 2508.13013) as an environment.

    ## Description

    The agent says how its body moves in the coming half second; the model rolls out what its eyes then see, chunk by
    chunk, under the causal interaction mask. The spaces are those of `EgoTwin/Room-v0`, and both start alike from the
    same seed.

    ## Action space

    `Box(-8, 8, (2, C), float32)`: the two motion tokens of the coming 8 motion frames, normalised to unit variance over
    the training data, whose tokens stay well inside the bounds. An action out of bounds is an error, not clipped.
    `motion_to_actions` turns a motion into actions; the wrapper `MotionFrames` takes the 8 frames themselves, and the
    wrapper `Command` a speed, a turn rate, a gaze and reaches.

    ## Observation space

    | key      | space                           | meaning                                                            |
    |----------|---------------------------------|--------------------------------------------------------------------|
    | `rgb`    | `Box(0, 255, (H, W, 3), uint8)` | the newest frame                                                   |
    | `motion` | `Box(-inf, inf, (D,), float32)` | the newest head-centric state, physical units, own canonical frame |
    | `goal`   | `Box(-1, 1, (E,), float32)`     | the goal text's pooled embedding, of unit length                   |

    `info` holds `frames` uint8 (4, H, W, 3), all frames of the step; `T_world_head` float64 (8, 4, 4), the head's poses
    in the frame of the episode's start; `goal_text`; and `success`, which is always False: a dream cannot tell. At
    reset, where there is one frame and one pose, both are repeated.

    ## Rewards

    Zero.

    ## Starting state

    Without options, a procedural room is drawn from the seed and the model gets its first frame and a standing body,
    with a goal such as "walk to the red box", "turn to the blue ball" or "open the door". `reset` takes these options:

    * `goal`: any text that the text encoder takes. A text that names things gives a room that has them.
    * `first_frame`: uint8 (H, W, 3) RGB, to dream on from any picture; then `goal` is needed, and no room is drawn.
    * `initial_pose`: (D,), a head-centric state as in `obs["motion"]`; without it the body stands.

    ## Episode end

    The episode is truncated after `max_seconds`; it never terminates. A model that gives a number that is not finite
    raises `FloatingPointError`.

    ## State

    `env.unwrapped.get_state()` gives all of the dream as a value (`DreamState`), `set_state` goes on from one, in this
    environment or in another of the same model, and `set_goal` changes the goal in the middle of an episode.

    ## Arguments

    * `model="nano"`: name of shipped weights, a folder of weights, or a loaded `StreamPipeline`.
    * `max_seconds=30.0`: length of an episode, a multiple of 0.5.
    * `render_mode=None`: "rgb_array" (the newest frame) or "rgb_array_list" (all frames since the last call).
    * `device="cpu"`: where the model runs.

    ## Version history

    * v0: first version
    """

    def __init__(
        self,
        model: str | Path | StreamPipeline = "nano",
        max_seconds: float = 30.0,
        render_mode: str | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(model, max_seconds, render_mode, device)
        self._stream: Stream | None = None
        self._room: tuple[Start | None, DreamState] | None = None

    @property
    def body(self) -> BodyState:
        """The newest body state, in the frame of the episode's start."""
        if self._stream is None:
            raise ResetNeeded("there is no body before reset()")
        return self._stream.body

    def recent_in_room(self) -> Motion:
        """The body's last frames as they would lie in the room that the first frame was taken in."""
        if self.start is None:
            raise UserError("this dream began with a given first frame, so it has no room; reset without first_frame")
        T = self.start.T_room_start
        return self.recent.transformed(float(yaw_of(T[:3, :3])), T[:3, 3])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a dream; see the class for the options.

        Raises:
            UserError: an unknown option, or one that does not fit.
        """
        asked = self._begin(seed, options)
        begun = draw_dream(self.model, self.np_random, asked)
        self._stream = self.model.pipeline.start(
            begun.first_frame, begun.pose, begun.text, seed=noise_seed(self.np_random_seed), episode=self.episode
        )
        self._room = begun.room, self._stream.state
        self._began(begun.room, begun.text, begun.first_frame)
        return self._observation(), self._info(self._pose_at_start(), success=False)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Dream the next half second.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: there is no episode.
            UserError: an action of another shape, not finite or out of bounds.
            FloatingPointError: the model gave a number that is not finite; the episode stays where it was.
        """
        tokens = self._checked(action)
        before = self.body.motion
        out = self._dream.step(tokens)
        truncated = self._stepped(out.frames, Motion.concatenate([before, out.world_motion]))
        return self._observation(), 0.0, False, truncated, self._info(out.T_world_head, success=False)

    def get_state(self) -> DreamState:
        """All of the dream, one row; a copy.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: there is no episode.
        """
        self._check_open()
        return self._dream.state.rows([0])

    def set_state(self, state: DreamState) -> tuple[Observation, dict[str, Any]]:
        """Go on from a state: the same actions then give the same frames as where it was taken.

        Steps are counted from the state's beginning, so the episode is truncated where that one would have been. The
        environment's random numbers stay as they are: the next `reset` gives what it would have given. `start` is the
        room of the last `reset` where the state descends from it, otherwise None. The body's past is not in a state:
        `recent` begins anew.

        Args:
            state: one dream, of this model.

        Returns:
            Observation and info as `reset` gives them: one frame and one pose, repeated.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            UserError: no state, a state of more than one dream, or of another model.
        """
        from egotwin_sim.pipelines.stream import Stream

        self._check_open()
        state = checked_state(self.model.pipeline, state, 1)
        text = state.goals[0]
        frame = state.newest_frame[0].cpu().numpy()
        room = self._room[0] if self._room is not None and same_beginning(state, self._room[1]) else None
        self._stream = Stream(self.model.pipeline, state)
        self._began(room, text, frame, int(state.chunk[0]))
        return self._observation(), self._info(self._pose_now(), success=False)

    def set_goal(self, text: str) -> Observation:
        """Give the episode another goal; what was dreamt so far stays.

        Returns:
            The observation with the new goal.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: there is no episode.
            UserError: no text, an empty or too long one; the goal stays what it was.
        """
        self._check_open()
        dream = self._dream
        dream.state = self.model.pipeline.set_goal(dream.state, [0], [text])
        self._set_goal_text(text)
        return self._observation()

    @property
    def _dream(self) -> Stream:
        if self._stream is None or self._steps < 0:
            raise ResetNeeded("there is no dream before reset(); call reset() or set_state() first")
        return self._stream

    def _pose_now(self) -> np.ndarray:
        """The head pose in the frame of the episode's start, as often as a step has motion frames."""
        return np.repeat(self.body.motion.T_world_head(), self.model.motion_frames, axis=0)


def checked_state(pipeline: StreamPipeline, state: DreamState, dreams: int) -> DreamState:
    """A copy of a state, where the pipeline is.

    Raises:
        UserError: no state, one of another number of dreams, or of another model.
    """
    from egotwin_sim.pipelines.state import DreamState

    if not isinstance(state, DreamState):
        raise UserError(f"the state is a {type(state).__name__}; expected a DreamState as get_state() gives it")
    if len(state) != dreams:
        raise UserError(f"the state holds {len(state)} dreams; expected {dreams}: choose with state.rows([...])")
    pipeline.check(state)
    return state.rows(range(dreams)).to(pipeline.device)


def same_beginning(state: DreamState, begun: DreamState) -> bool:
    """Whether a dream descends from another's first frame, seed and episode; both are one row."""
    same_key = state.noise_key[0, :2].tolist() == begun.noise_key[0, :2].tolist()
    return same_key and bool((state.memory.frames[0, 0] == begun.memory.frames[0, 0]).all())
