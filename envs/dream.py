"""The imagined environment: the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import yaw_of
from egotwin_sim.pipelines.body import BodyState

from .base import BodyEnv, Observation
from .start import Start, sample_start

if TYPE_CHECKING:
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

    @property
    def body(self) -> BodyState:
        """The newest body state, in the frame of the episode's start."""
        assert self._stream is not None
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
        pipeline = self.model.pipeline
        if asked.first_frame is None:
            start: Start | None = sample_start(self.np_random, asked.goal, free_text=True)
            assert start is not None
            text = start.text
            pose = start.pose if asked.initial_pose is None else asked.initial_pose
            first_frame = self._look(start, pose)
        else:
            if asked.goal is None:
                raise UserError("reset option first_frame comes without goal; give a text as well")
            start, text, first_frame = None, asked.goal, np.asarray(asked.first_frame)
            pose = sample_start(np.random.default_rng(0)).pose if asked.initial_pose is None else asked.initial_pose
        # A seed that is not known (a generator was set from outside) leaves the noise to the episode's number.
        noise = max(self.np_random_seed, 0)
        self._stream = pipeline.start(first_frame, pose, text, seed=noise, episode=self.episode)
        self._began(start, text, first_frame)
        return self._observation(), self._info(self._pose_at_start(), success=False)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Dream the next half second.

        Raises:
            UserError: an action of another shape, not finite or out of bounds.
            FloatingPointError: the model gave a number that is not finite; the episode stays where it was.
        """
        tokens = self._checked(action)
        assert self._stream is not None
        before = self.body.motion
        out = self._stream.step(tokens)
        truncated = self._stepped(out.frames, Motion.concatenate([before, out.world_motion]))
        return self._observation(), 0.0, False, truncated, self._info(out.T_world_head, success=False)

    def _look(self, start: Start, pose: np.ndarray) -> np.ndarray:
        """What a body in that pose sees at the start, uint8 (H, W, 3)."""
        from egotwin_sim.room.world import RoomWorld

        body = BodyState.from_pose(pose, self.model.skeleton, self.model.config.motion_fps, start.T_room_start)
        world = RoomWorld(start.layout, self.model.skeleton, self.model.config.image_size)
        try:
            world.reset(body.motion)
            return world.render()
        finally:
            world.close()
