"""Many dreams that share one forward pass: the vector twin of `EgoTwin/Dream-v0`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import logger
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from egotwin_sim.errors import UserError

from .base import FRAMES_PER_STEP, action_space, checked_actions, episode_steps, observation_space, render_metadata
from .dream import checked_state
from .dream_start import DreamStart, draw_dream, noise_seed
from .memory import available_memory, bytes_per_dream, require_memory
from .model import Model
from .start import ResetOptions, sample_start
from .vector_options import count_of_envs, own_options, own_rows, own_seconds, own_seeds, reset_rows

if TYPE_CHECKING:
    from torch import Tensor

    from egotwin_sim.pipelines.state import DreamState
    from egotwin_sim.pipelines.stream import Generated, StreamPipeline

Batch = dict[str, Any]
"""Observations or infos: NumPy arrays or tensors, environments first."""

OUTPUTS = ("numpy", "torch")
NOT_FINITE = "the model gave a number that is not finite; the episode was ended, its state is as before the step"


class Source:
    """One environment's random numbers, as `gymnasium.Env` keeps them, and the number of its episode."""

    def __init__(self) -> None:
        self.rng, self.seed = seeding.np_random()
        self.episode = -1

    def begin(self, seed: int | None) -> None:
        """Count an episode, or begin anew from a seed."""
        if seed is not None:
            self.rng, self.seed = seeding.np_random(seed)
        self.episode = 0 if seed is not None else self.episode + 1


class DreamVectorEnv(VectorEnv[Batch, Any, Any]):
    """N dreams of `EgoTwin/Dream-v0` in one batch.

    ## Description

    Each environment is what `DreamEnv` is, with its own seed, episode, goal and end; the model sees all of them in one
    forward pass. With `StreamPipeline(..., precision="fp32")` on a CPU, environment i gives bit for bit what it gives
    alone, whatever the others do; with bf16, matrix products round differently for another number of rows.

    `gymnasium.make_vec("EgoTwin/Dream-v0", num_envs=N, vectorization_mode="vector_entry_point")` makes one.

    ## Spaces

    Those of `DreamEnv` with one more dimension of N in front. `info` holds the same keys in the manner of Gymnasium's
    vector environments: an array of N, and a bool array of the key with an underscore before it, which is True where
    the environment told it.

    ## Seeds, options, masks

    `reset(seed=...)` takes an int (environment i gets seed + i) or a list. The options of `DreamEnv` may be given once
    for all environments, or in a list with an entry for each: `options={"goal": ["open the door", None]}`. With
    `options={"reset_mask": mask}`, bool (N,), the others go on.

    ## Episode end

    An episode is truncated after `max_seconds`. One whose model gives a number that is not finite is terminated, says
    so in `info["error"]`, shows the last good frame and keeps the last good state; the others go on. What follows is
    Gymnasium's `AutoresetMode`, found in `metadata["autoreset_mode"]`:

    * NEXT_STEP: the environment ignores its next action and is reset instead, with reward 0.
    * SAME_STEP: it is reset at once; its last observation and info are `info["final_obs"]` and `info["final_info"]`.
    * DISABLED: `reset` with a mask must come before the next step.

    ## State

    `get_state`, `set_state`, `fork` and `set_goal` work on all environments or on some, by index. To try n futures of
    environment 3: `env.set_state(env.fork(3, n), index=[...])`.

    ## Arguments

    * `num_envs=1`: N.
    * `model="nano"`: name of shipped weights, a folder of weights, or a loaded `StreamPipeline`.
    * `max_seconds=30.0`: length of an episode, a multiple of 0.5; or one for each environment.
    * `render_mode=None`: "rgb_array" (newest frames) or "rgb_array_list" (lists of frames since the last call).
    * `device="cpu"`: where the model runs.
    * `autoreset_mode=AutoresetMode.NEXT_STEP`: the mode, or its value.
    * `output="numpy"`: or "torch", for tensors on the model's device in place of arrays: observations, rewards, flags
      and infos, their masks included. Frames are then handed out as the model made them, without a copy: do not write
      into them. Actions may be arrays or tensors in either case.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array", "rgb_array_list"],
        "render_fps": 8,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        model: str | Path | StreamPipeline = "nano",
        max_seconds: float | Sequence[float] = 30.0,
        render_mode: str | None = None,
        device: str = "cpu",
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        output: str = "numpy",
    ) -> None:
        self.num_envs = count_of_envs(num_envs)
        if output not in OUTPUTS:
            raise UserError(f"output is {output!r}; expected {' or '.join(OUTPUTS)}")
        self.output, self.render_mode = output, render_mode
        self.autoreset_mode = read_autoreset_mode(autoreset_mode)
        self.model = Model(model, device)
        self._require_memory()
        self.metadata = {**render_metadata(self.model, render_mode), "autoreset_mode": self.autoreset_mode}
        seconds = [own_seconds(max_seconds, i, self.num_envs) for i in range(self.num_envs)]
        self.max_steps = np.array([episode_steps(self.model, own) for own in seconds])
        self.single_observation_space = observation_space(self.model)
        self.single_action_space = action_space(self.model)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._sources = [Source() for _ in range(self.num_envs)]
        self._state: DreamState | None = None
        # Of the newest step: uint8 (N, 4, H, W, 3), float64 (N, 8, 4, 4); and the pooled goals (N, E).
        self._frames: Tensor
        self._poses: np.ndarray
        self._goals: Tensor
        self._ready = np.zeros(self.num_envs, dtype=np.bool_)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._unseen: list[list[np.ndarray]] = [[] for _ in range(self.num_envs)]

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of the environments' random numbers."""
        return tuple(source.seed for source in self._sources)

    @property  # type: ignore[misc]  # as in SyncVectorEnv, one for each environment, and not to be set
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The environments' random numbers."""
        return tuple(source.rng for source in self._sources)

    @property
    def goal_texts(self) -> tuple[str, ...]:
        """The environments' goals."""
        return self._dreams.goals

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Batch, Batch]:
        """Begin episodes, in all environments or in those of the mask; see the class.

        Returns:
            Observations of all environments, and infos of those that were reset.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            UserError: an unknown option or one that does not fit, seeds or a mask for another number of environments,
                or a mask before there is anything to keep.
        """
        self._check_open()
        seeds = own_seeds(seed, self.num_envs)
        options = dict(options or {})
        rows = reset_rows(options.pop("reset_mask", None), self.num_envs)
        if self._state is None and len(rows) < self.num_envs:
            raise UserError("reset option reset_mask leaves out environments that never began; reset all of them first")
        asked = [ResetOptions.read(own_options(options, row, self.num_envs)) for row in rows]
        self._begin(rows, [seeds[row] for row in rows], asked)
        return self._observation(), self._info(rows)

    def step(self, actions: Any) -> tuple[Batch, Any, Any, Any, Batch]:
        """Dream the next half second of every environment.

        Args:
            actions: float32 (N, 2, C), array or tensor. Those of environments that are reset instead are not read.

        Returns:
            Observations, rewards (float64, or float32 as tensors), terminated, truncated, infos.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: an environment has no episode.
            UserError: actions of another shape, not finite or out of bounds; nothing has changed then.
        """
        self._check_open()
        state = self._dreams
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            over = np.flatnonzero(self._ended).tolist()
            raise ResetNeeded(f"the episodes of environments {over} have ended; reset them with options['reset_mask']")
        going = np.flatnonzero(~self._ended).tolist()
        tokens = self._tokens(actions, going)
        lost: list[int] = []
        if going:
            pipeline = self.model.pipeline
            part = state if len(going) == self.num_envs else state.rows(going)
            chunk = pipeline.generate(part, tokens)
            after = pipeline.finalize(part, chunk)
            lost = [going[i] for i, fine in enumerate(chunk.finite.tolist()) if not fine]
            self._state = after if part is state else state.put(going, after)
            self._take(going, chunk, lost)
        over = np.flatnonzero(self._ended).tolist()
        if over:
            self._begin(over, [None] * len(over), [ResetOptions()] * len(over))
        terminated, truncated = np.zeros((2, self.num_envs), dtype=np.bool_)
        terminated[lost] = True
        truncated[going] = self._dreams.chunk.cpu().numpy()[going] >= self.max_steps[going]
        truncated &= ~terminated
        self._ended = terminated | truncated
        errors = dict.fromkeys(lost, NOT_FINITE)
        done = np.flatnonzero(self._ended).tolist()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done:
            final = self._final(done, errors)
            self._begin(done, [None] * len(done), [ResetOptions()] * len(done))
            infos = {**self._info(range(self.num_envs)), **final}
        else:
            infos = self._info(range(self.num_envs), errors)
        rewards = np.zeros(self.num_envs, dtype=np.float32 if self.output == "torch" else np.float64)
        flags = (self._given(np.copy(flag)) for flag in (terminated, truncated))
        return self._observation(), self._given(rewards), *flags, infos

    def render(self) -> tuple[Any, ...] | None:
        """The environments' newest frames, or their lists of frames since the last call."""
        if self.render_mode is None:
            logger.warn("render() without a render mode; make the environment with render_mode='rgb_array'")
            return None
        self._dreams  # noqa: B018  (there is none before reset)
        if self.render_mode == "rgb_array":
            return tuple(self._frames[:, -1].cpu().numpy().copy())
        shown, self._unseen = self._unseen, [[] for _ in range(self.num_envs)]
        return tuple(shown)

    def close_extras(self, **kwargs: Any) -> None:
        """Free the dreams."""
        self._state = None

    def get_state(self, index: int | Sequence[int] | None = None) -> DreamState:
        """All of some dreams, a copy: of every environment, of one (a state of one row), or of several.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: an environment has no episode.
            UserError: an environment that is not there.
        """
        self._check_open()
        return self._dreams.rows(own_rows(index, self.num_envs))

    def set_state(self, state: DreamState, index: int | Sequence[int] | None = None) -> tuple[Batch, Batch]:
        """Go on from a state, in every environment or in some; see `DreamEnv.set_state`.

        Args:
            state: as many dreams as environments are named, of this model.
            index: one environment, several, or all.

        Returns:
            Observations of all environments, and infos of those that were set.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            UserError: an environment that is not there or was named twice, no state, one of another number of dreams
                or of another model, or some environments before the others ever began.
        """
        self._check_open()
        rows = own_rows(index, self.num_envs)
        state = checked_state(self.model.pipeline, state, len(rows))
        if self._state is None and len(rows) < self.num_envs:
            raise UserError("only some environments were named and the others never began; reset all of them first")
        self._place(rows, state)
        return self._observation(), self._info(rows)

    def fork(self, index: int, n: int) -> DreamState:
        """The dream of one environment n times over, for `set_state`.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: an environment has no episode.
            UserError: an environment that is not there, or n below 1.
        """
        self._check_open()
        (row,) = own_rows([index], self.num_envs)
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise UserError(f"n is {n!r}; expected how many copies to make, from 1 on")
        return self._dreams.rows([row] * int(n))

    def set_goal(self, index: int | Sequence[int] | None, text: str | Sequence[str]) -> Batch:
        """Give some episodes another goal; what was dreamt so far stays.

        Args:
            index: one environment, several, or None for all.
            text: for all of those, or one for each.

        Returns:
            Observations of all environments.

        Raises:
            ClosedEnvironmentError: the environment was closed.
            ResetNeeded: an environment has no episode.
            UserError: an environment that is not there, another number of texts, or an empty or too long one; the goals
                stay what they were.
        """
        self._check_open()
        rows = own_rows(index, self.num_envs)
        texts = [text] * len(rows) if isinstance(text, str) else list(text)
        if len(texts) != len(rows):
            raise UserError(f"{len(texts)} texts for {len(rows)} environments; give one for all, or one for each")
        self._state = self.model.pipeline.set_goal(self._dreams, rows, texts)
        self._goals = put_rows(self._goals, rows, self._embedded(texts))
        return self._observation()

    @property
    def _dreams(self) -> DreamState:
        if self._state is None or not self._ready.all():
            waiting = np.flatnonzero(~self._ready).tolist()
            raise ResetNeeded(f"environments {waiting} have no dream; call reset() or set_state() first")
        return self._state

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environment was closed; make another one")

    def _require_memory(self) -> None:
        """Begin one dream to see how large it is, and ask for as many."""
        pipeline, size = self.model.pipeline, self.model.config.image_size
        pose = sample_start(np.random.default_rng(0)).pose
        black = np.zeros((size, size, 3), dtype=np.uint8)
        one = pipeline.start_batch([black], [pose], ["stand"], seeds=[0], episodes=[0])
        require_memory(self.num_envs, bytes_per_dream(one), available_memory(pipeline.device))

    def _begin(self, rows: list[int], seeds: list[int | None], asked: list[ResetOptions]) -> None:
        """Begin episodes. If that fails, these environments are not ready."""
        self._ready[rows] = False
        begun: list[DreamStart] = []
        for row, seed, own in zip(rows, seeds, asked, strict=True):
            self._sources[row].begin(seed)
            begun.append(draw_dream(self.model, self._sources[row].rng, own))
        state = self.model.pipeline.start_batch(
            [start.first_frame for start in begun],
            [start.pose for start in begun],
            [start.text for start in begun],
            seeds=[noise_seed(self._sources[row].seed) for row in rows],
            episodes=[self._sources[row].episode for row in rows],
        )
        self._place(rows, state)

    def _place(self, rows: list[int], state: DreamState) -> None:
        """Put dreams into environments; one frame and one pose are known of each, and are repeated."""
        frames = state.newest_frame[:, None].expand(-1, FRAMES_PER_STEP, -1, -1, -1)
        poses = self._standing(state, range(len(state)))
        goals = self._embedded(state.goals)
        if len(rows) == self.num_envs:  # their order is free where a caller named them
            order = np.argsort(rows).tolist()
            self._state = state if order == list(range(len(rows))) else state.rows(order)
            self._frames, self._poses, self._goals = frames[order], poses[order], goals[order]
        else:
            assert self._state is not None
            self._state = self._state.put(rows, state)
            self._frames, self._goals = put_rows(self._frames, rows, frames), put_rows(self._goals, rows, goals)
            self._poses = self._poses.copy()
            self._poses[rows] = poses
        self._ready[rows], self._ended[rows] = True, False
        if self.render_mode == "rgb_array_list":
            for row in rows:
                self._unseen[row] = [self._frames[row, -1].cpu().numpy().copy()]

    def _take(self, rows: list[int], chunk: Generated, lost: list[int]) -> None:
        """Take over what a step gave to some environments; what is not finite is replaced by the last good frame."""
        assert self._state is not None
        before = self._frames[:, -1:].expand(-1, FRAMES_PER_STEP, -1, -1, -1)
        whole = len(rows) == self.num_envs
        self._frames = chunk.frames if whole else put_rows(self._frames, rows, chunk.frames)
        self._poses = self._poses.copy()
        self._poses[rows] = chunk.T_world_head
        if lost:
            self._frames = put_rows(self._frames, lost, before[lost])
            self._poses[lost] = self._standing(self._state, lost)
        if self.render_mode == "rgb_array_list":
            for row in rows:
                self._unseen[row].extend(self._frames[row].cpu().numpy().copy())

    def _standing(self, state: DreamState, rows: Sequence[int]) -> np.ndarray:
        """The head poses of some dreams (n, 8, 4, 4), repeated."""
        bodies = (state.body(row, self.model.skeleton, self.model.config.motion_fps) for row in rows)
        poses = np.concatenate([body.motion.T_world_head() for body in bodies])
        return np.repeat(poses[:, None], self.model.motion_frames, axis=1)

    def _tokens(self, actions: Any, rows: list[int]) -> np.ndarray:
        """The actions of some environments, checked."""
        import torch

        if isinstance(actions, torch.Tensor):
            # Tokens are few, and the bodies that they move are computed on the processor.
            actions = actions.detach().to("cpu", torch.float32 if actions.is_floating_point() else actions.dtype)
        actions = np.asarray(actions)
        single = (2, self.model.token_dim)
        if actions.shape != (self.num_envs, *single):
            raise UserError(f"action is {actions.dtype} {actions.shape}; expected float32 {(self.num_envs, *single)}")
        return checked_actions(actions[rows], (len(rows), *single)) if rows else actions[rows]

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """The pooled texts (n, E), each computed alone: what shares its batch would change its last digits."""
        import torch

        encode = self.model.text_encoder.encode
        return torch.cat([encode([text]).pooled for text in texts]).to(self.model.pipeline.device).float()

    def _given(self, value: Any) -> Any:
        """A tensor, or an array that is not the tensor's memory, as `output` says."""
        import torch

        if self.output == "torch":
            if isinstance(value, np.ndarray):
                value = torch.from_numpy(value).to(self.model.pipeline.device)
            return value
        return value.cpu().numpy().copy() if isinstance(value, torch.Tensor) else value

    def _observation(self) -> Batch:
        state = self._dreams
        # The body and the goal are copied: they are few numbers, and the first are a part of the state.
        parts = {"rgb": self._frames[:, -1], "motion": state.features.clone(), "goal": self._goals.clone()}
        return {name: self._given(value) for name, value in parts.items()}

    def _info(self, rows: Sequence[int], errors: dict[int, str] | None = None) -> Batch:
        """The infos of some environments, zeros or None for the others, and masks that say which."""
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[list(rows)] = True
        texts = np.full(self.num_envs, None, dtype=object)
        texts[mask] = np.array(self._dreams.goals, dtype=object)[mask]
        poses = np.where(mask[:, None, None, None], self._poses, 0.0)
        frames = self._frames
        if not mask.all():
            others = np.flatnonzero(~mask).tolist()
            frames = put_rows(frames, others, frames.new_zeros((len(others), *frames.shape[1:])))
        success = np.zeros(self.num_envs, dtype=np.bool_)
        told = {"frames": frames, "T_world_head": poses, "goal_text": texts, "success": success}
        infos: Batch = {}
        for name, value in told.items():
            infos[name] = value if value is texts else self._given(value)
            infos[f"_{name}"] = self._given(mask.copy())
        if errors:
            infos |= self._errors(errors)
        return infos

    def _errors(self, errors: dict[int, str]) -> Batch:
        texts = np.full(self.num_envs, None, dtype=object)
        for row, text in errors.items():
            texts[row] = text
        return {"error": texts, "_error": self._given(np.array([text is not None for text in texts]))}

    def _final(self, rows: list[int], errors: dict[int, str]) -> Batch:
        """The last observations and infos of episodes that end in this step."""
        observation = self._observation()
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[rows] = True
        last = np.full(self.num_envs, None, dtype=object)
        for row in rows:
            last[row] = {name: value[row] for name, value in observation.items()}
        return {
            "final_obs": last,
            "_final_obs": self._given(mask.copy()),
            "final_info": self._info(rows, errors),
            "_final_info": self._given(mask.copy()),
        }


def read_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """The mode, or that of a value such as "NextStep".

    Raises:
        UserError: there is none of that value.
    """
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        known = ", ".join(repr(one.value) for one in AutoresetMode)
        raise UserError(f"autoreset_mode is {mode!r}; expected an AutoresetMode or one of {known}") from error


def put_rows(whole: Tensor, rows: Sequence[int], part: Tensor) -> Tensor:
    """A copy of a tensor with some rows replaced: those handed out stay as they were."""
    whole = whole.clone()
    whole[list(rows)] = part
    return whole
