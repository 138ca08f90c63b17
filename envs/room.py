"""The MuJoCo environment: the dream's ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.room.goals import success
from egotwin_sim.room.world import RoomWorld

from .base import FRAMES_PER_STEP, BodyEnv, Observation
from .start import sample_start

if TYPE_CHECKING:
    from egotwin_sim.pipelines.stream import StreamPipeline


class RoomEnv(BodyEnv):
    """A procedural room in MuJoCo, the ground truth of `EgoTwin/Dream-v0`.

    ## Description

    A humanoid in a room whose walls and furniture stop it, and whose door its hands can open. The spaces are those of
    the dream: an action is decoded into body motion by the same motion VAE, played in the room, and filmed by the head
    camera. Both start alike from the same seed.

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
    in the frame of the episode's start; `goal_text`; `success`, whether the goal is reached; `blocked`, whether
    something stopped the body during the step; and `door_angle`, radians. At reset, where there is one frame and one
    pose, both are repeated.

    ## Rewards

    1 on the step that reaches the goal, otherwise 0. "Walk": within 0.9 m of the thing and facing it within 35 degrees;
    "turn": facing it within 15 degrees; "open": the door open by more than 60 degrees (`egotwin_sim.room.goals`).

    ## Starting state

    A procedural room, a goal such as "walk to the red box", "turn to the blue ball" or "open the door", and a standing
    body that has not reached it, all drawn from the seed. `reset` takes these options:

    * `goal`: a text that `egotwin_sim.room.goals.parse_goal` reads. Rooms are drawn until one has what it names.
    * `initial_pose`: (D,), a head-centric state as in `obs["motion"]`; the body takes it at the place drawn.

    ## Episode end

    The episode terminates when the goal is reached, and is truncated after `max_seconds`.

    ## Arguments

    * `model="nano"`: name of shipped weights, a folder of weights, or a loaded `StreamPipeline`; of the first two, only
      the motion VAE and the text encoder are loaded.
    * `max_seconds=30.0`: length of an episode, a multiple of 0.5.
    * `render_mode=None`: "rgb_array" (the newest frame) or "rgb_array_list" (all frames since the last call).
    * `device="cpu"`: where the networks run.

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
        self.world: RoomWorld | None = None
        self._body: BodyState | None = None

    @property
    def body(self) -> BodyState:
        """The newest body state, in the room's coordinates."""
        assert self._body is not None
        return self._body

    def recent_in_room(self) -> Motion:
        """The body's last frames, in the room's coordinates."""
        return self.recent

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; see the class for the options.

        Raises:
            UserError: an unknown option, a goal that no room fits, or a pose that is none.
        """
        asked = self._begin(seed, options)
        if asked.first_frame is not None:
            raise UserError("reset option first_frame: the room draws its own first frame; leave it out")
        start = sample_start(self.np_random, asked.goal)
        pose = start.pose if asked.initial_pose is None else asked.initial_pose
        self._body = BodyState.from_pose(pose, self.model.skeleton, self.model.config.motion_fps, start.T_room_start)
        self._free_room()
        self.world = RoomWorld(start.layout, self.model.skeleton, self.model.config.image_size)
        self.world.reset(self._body.motion)
        self._began(start, start.text, self.world.render())
        return self._observation(), self._room_info(self._pose_at_start(), blocked=False)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play the next half second.

        Raises:
            UserError: an action of another shape, not finite or out of bounds.
            FloatingPointError: the motion VAE gave a number that is not finite; the episode stays where it was.
        """
        tokens = self._checked(action)
        assert self.world is not None and self.start is not None
        before = self.body
        wanted = before.advance(self._decoded(tokens))[1]
        played = self.world.step(wanted)
        self._body = before.moved(played.motion)
        every = self.model.motion_frames // FRAMES_PER_STEP
        shown = slice(every - 1, None)
        frames, _ = self.world.record(played.motion[shown], played.door_angle[shown], every)
        truncated = self._stepped(frames, Motion.concatenate([before.motion, played.motion]))
        T_start_head = np.linalg.inv(self.start.T_room_start) @ played.motion.T_world_head()
        info = self._room_info(T_start_head, blocked=bool(played.blocked.any()))
        return self._observation(), float(info["success"]), info["success"], truncated, info

    def close(self) -> None:
        """Free the room's images. The environment cannot be used any more."""
        super().close()
        self._free_room()

    def _free_room(self) -> None:
        if self.world is not None:
            self.world.close()
            self.world = None

    def _decoded(self, tokens: np.ndarray) -> np.ndarray:
        """The coming motion features (8, D) in the canonical frame of the present state."""
        import torch

        vae = self.model.motion_vae
        with torch.inference_mode():
            state, pair = (torch.from_numpy(x[None]).to(vae.device) for x in (self.body.features, tokens))
            decoded = vae.decode_chunk(state, pair)[0].float().cpu().numpy()
        if not np.isfinite(decoded).all():
            raise FloatingPointError("the motion VAE gave numbers that are not finite; the roll-out was stopped")
        return decoded

    def _room_info(self, T_world_head: np.ndarray, blocked: bool) -> dict[str, Any]:
        assert self.world is not None and self.start is not None and self.start.goal is not None
        door_angle = self.world.door_angle
        reached = bool(success(self.start.goal, self.start.layout, self.body.motion, door_angle))
        return {**self._info(T_world_head, reached), "blocked": blocked, "door_angle": door_angle}
