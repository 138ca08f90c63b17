"""The dream, chunk by chunk: two motion tokens in, four frames and eight body states out, for one dream or many.

Three calls underneath: `start_batch` (text, first frame and initial pose, and their keys and values), `generate` (the
next chunk) and `finalize` (the clean pass that writes its keys and values, after the frames were handed out). All of a
dream is a value, `DreamState`; the pipeline itself holds none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.diffusion.sampler import ddim_step, trailing_timesteps
from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import fingerprint
from egotwin_sim.models.images import unit_to_image
from egotwin_sim.models.ring_keys import RingKeys
from egotwin_sim.models.transformer import EgoTwinTransformerOutput, Modulations
from egotwin_sim.models.transformer_cache import Pair, RingCache, TransformerCache, join, with_text
from egotwin_sim.models.video_vae import DecoderCache
from egotwin_sim.models.view_condition import RESIDUAL_SCALE
from egotwin_sim.models.view_memory import ViewMemory
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.noise import keyed_normal
from egotwin_sim.pipelines.pipeline import Pipeline
from egotwin_sim.pipelines.state import DreamState, body_tensors

VIEW, BODY = 0, 1  # which draw of a chunk's noise


class TextKeys(NamedTuple):
    """Keys and values of texts in every layer, and which of their tokens are padding."""

    pairs: tuple[Pair, ...]
    mask: Tensor


@dataclass(frozen=True)
class Generated:
    """The next chunk of B dreams, not yet remembered.

    Attributes:
        frames: uint8 (B, 4, H, W, 3).
        motion: float32 (B, 8, D), head-centric features in the canonical frame of the state before.
        T_world_head: float64 (B, 8, 4, 4), in the frame of the episode's start.
        motion_tokens: float32 (B, 2, Cm), as given or as dreamt.
        inputs: (B, 1, C + C + E, h, w), the transformer's clean input of the new latent.
        newest: the view to remember.
        decoder: the video decoder's memory after the chunk.
        bodies: B body states after the chunk.
        world_motion: B motions of 8 frames in the frame of the episode's start.
        finite: bool (B,); a row that is not has no usable result.
        keys: those of the state before, ready for the pass that remembers the chunk.
    """

    frames: Tensor
    motion: np.ndarray
    T_world_head: np.ndarray
    motion_tokens: Tensor
    inputs: Tensor
    newest: ViewMemory
    decoder: DecoderCache
    bodies: tuple[BodyState, ...]
    world_motion: tuple[Motion, ...]
    finite: Tensor
    keys: RingKeys | None = None

    def row(self, row: int) -> Generated:
        """One dream's part, as a batch of one."""
        index = torch.tensor([row], device=self.finite.device)
        return Generated(
            frames=self.frames[index],
            motion=self.motion[row : row + 1],
            T_world_head=self.T_world_head[row : row + 1],
            motion_tokens=self.motion_tokens[index],
            inputs=self.inputs[index],
            newest=self.newest.index(index),
            decoder=self.decoder.index(index),
            bodies=self.bodies[row : row + 1],
            world_motion=self.world_motion[row : row + 1],
            finite=self.finite[index],
        )

    @classmethod
    def join(cls, parts: Sequence[Generated]) -> Generated:
        """Some dreams' parts as one batch."""

        def tensors(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])

        fields = ViewMemory.__dataclass_fields__
        features = zip(*(part.decoder.features for part in parts), strict=True)
        return cls(
            frames=tensors("frames"),
            motion=np.concatenate([part.motion for part in parts]),
            T_world_head=np.concatenate([part.T_world_head for part in parts]),
            motion_tokens=tensors("motion_tokens"),
            inputs=tensors("inputs"),
            newest=ViewMemory(**{n: torch.cat([getattr(part.newest, n) for part in parts]) for n in fields}),
            decoder=DecoderCache([torch.cat(feature) for feature in features]),
            bodies=tuple(body for part in parts for body in part.bodies),
            world_motion=tuple(motion for part in parts for motion in part.world_motion),
            finite=tensors("finite"),
        )


@dataclass(frozen=True)
class StreamStep:
    """What one step of one dream gives.

    Attributes:
        frames: uint8 (4, H, W, 3).
        motion: float32 (8, D), head-centric features in the canonical frame of the state before the step.
        state: float32 (D,), the newest state in its own canonical frame.
        T_world_head: float64 (8, 4, 4), in the frame of the episode's start.
        motion_tokens: float32 (2, Cm), as given or as dreamt.
        world_motion: the 8 frames of the body in the frame of the episode's start.
    """

    frames: np.ndarray
    motion: np.ndarray
    state: np.ndarray
    T_world_head: np.ndarray
    motion_tokens: np.ndarray
    world_motion: Motion

    @classmethod
    def of(cls, chunk: Generated, row: int) -> StreamStep:
        """One dream's part of a generated chunk."""
        return cls(
            chunk.frames[row].cpu().numpy(),
            chunk.motion[row],
            chunk.bodies[row].features,
            chunk.T_world_head[row],
            chunk.motion_tokens[row].cpu().numpy(),
            chunk.world_motion[row],
        )


class StreamPipeline(Pipeline):
    """The causal model as a stream.

    Use ``from_pretrained``; then ``stream = pipeline.start(first_frame, initial_pose, text)`` and
    ``stream.step(motion_tokens)``, or the batch-first calls that these are made of.
    """

    def start(
        self, first_frame: np.ndarray, initial_pose: np.ndarray, text: str, *, seed: int = 0, episode: int = 0
    ) -> Stream:
        """Begin a dream.

        Args:
            first_frame: uint8 (H, W, 3) RGB, H = W = ``config.image_size``.
            initial_pose: (D,) head-centric state, in any canonical frame; the dream's world begins under its head.
            text: the goal, or what happens.
            seed: of the dream's noise, not negative.
            episode: further key of the noise.

        Raises:
            UserError: a frame of another size or type, a pose that is none, an empty or too long text.
        """
        return Stream(self, self.start_batch([first_frame], [initial_pose], [text], seeds=[seed], episodes=[episode]))

    @torch.inference_mode()
    def start_batch(
        self,
        first_frames: Sequence[np.ndarray],
        initial_poses: Sequence[np.ndarray],
        texts: Sequence[str],
        *,
        seeds: Sequence[int],
        episodes: Sequence[int],
    ) -> DreamState:
        """Begin several dreams; see ``start``."""
        if self._row_by_row and len(texts) > 1:
            each = zip(first_frames, initial_poses, texts, seeds, episodes, strict=True)
            begun = [self.start_batch([f], [p], [t], seeds=[s], episodes=[e]) for f, p, t, s, e in each]
            return DreamState.join(begun)
        frames = np.stack([self._check_first_frame(frame) for frame in first_frames])
        for seed, episode in zip(seeds, episodes, strict=True):
            if seed < 0 or episode < 0:
                raise UserError(f"seed {seed} and episode {episode} must not be negative")
        fps = self.config.motion_fps
        bodies = [BodyState.from_pose(pose, self.skeleton, fps) for pose in initial_poses]
        embedded = self.text_encoder.encode(list(texts))
        pictures = self._to_network(frames)[0].transpose(0, 1)
        opening = self._open(pictures, bodies)
        with self._autocast():
            cache = self.transformer(
                opening.inputs,
                embedded.tokens.to(self.device).float(),
                torch.zeros(len(bodies), 1, device=self.device),
                opening.token,
                torch.zeros(len(bodies), 1, device=self.device),
                text_mask=embedded.mask.to(self.device),
                latent_positions=(0,),
                temporal="causal",
                return_cache=True,
            ).cache
        joints = self._joints(np.stack([body.features for body in bodies]))
        poses = np.concatenate([body.motion.T_world_head() for body in bodies])
        view = self._view(pictures, joints, poses)
        key = [(seed, episode, 0) for seed, episode in zip(seeds, episodes, strict=True)]
        return DreamState(
            cache=RingCache.of(cache, self.config.window, self.config.sink),
            memory=view.remember(view),
            decoder=opening.decoder,
            **body_tensors(bodies, self.device),
            noise_key=torch.tensor(key, dtype=torch.long, device=self.device),
            goals=tuple(texts),
            model=self.fingerprint,
        )

    @torch.inference_mode()
    def reanchor(self, state: DreamState, frames: Sequence[np.ndarray], motions: Sequence[Motion]) -> DreamState:
        """Let dreams go on from what really was seen and how the bodies really are; see ``pipelines.reanchor``.

        Args:
            state: the dreams up to now.
            frames: for each, what its eyes see now, uint8 (H, W, 3) RGB.
            motions: for each, its body now, the last frame of a motion in the frame of the episode's start. A frame
                before it, if any, gives the velocities.

        Raises:
            UserError: a frame of another size or type, a body of another skeleton or rate, another number of either,
                or a state of another model.
        """
        from egotwin_sim.pipelines.reanchor import reanchored

        return reanchored(self, state, frames, motions)

    @torch.inference_mode()
    def generate(
        self,
        state: DreamState,
        motion_tokens: np.ndarray | Tensor | None = None,
        *,
        cache: TransformerCache | None = None,
    ) -> Generated:
        """The next chunk of every dream: the body first (given, or dreamt), then the view from its head.

        Args:
            state: the dreams so far.
            motion_tokens: (B, 2, Cm) normalised tokens, or None to dream the bodies too.
            cache: keys and values to use instead of the state's; the reference computes them anew.

        Raises:
            UserError: tokens of another shape or not finite, or a state of another model.
        """
        self.check(state)
        given = None if motion_tokens is None else self._given(motion_tokens, len(state))
        if self._row_by_row and len(state) > 1:
            return Generated.join(
                [
                    self.generate(state.rows([row]), None if given is None else given[row : row + 1])
                    for row in range(len(state))
                ]
            )
        tokens = self._dream_body(state, cache) if given is None else given
        known = self._ready(state.cache) if cache is None else cache
        bodies, motions, features, fine = self._move(state, tokens)
        poses = np.stack([motion.T_world_head() for motion in motions])
        inputs, latent = self._dream_view(state, known, tokens, np.concatenate(features), poses.reshape(-1, 4, 4))
        with self._autocast():
            decoded, decoder = self.video_vae.decode(latent[:, :, None], state.decoder)
        picture = decoded[:, 0].float()
        finite = fine & torch.isfinite(picture).flatten(1).all(1)
        newest = picture[:, :, -1].clamp(-1, 1).nan_to_num()
        last = np.stack([part[-1] for part in features])
        view = self._view(newest, self._joints(last), poses[:, -1])
        frames = unit_to_image(picture.nan_to_num()).permute(0, 2, 3, 4, 1)
        keys = known if isinstance(known, RingKeys) else None
        return Generated(
            frames, np.stack(features), poses, tokens, inputs, view, decoder, bodies, motions, finite, keys
        )  # fmt: skip

    @torch.inference_mode()
    def finalize(self, state: DreamState, chunk: Generated) -> DreamState:
        """The dreams with the chunk remembered; rows that are not finite stay as they were."""
        if self._row_by_row and len(state) > 1:
            return DreamState.join([self.finalize(state.rows([row]), chunk.row(row)) for row in range(len(state))])
        # A goal may have changed since.
        current = chunk.keys is not None and chunk.keys.ring is state.cache
        keys = chunk.keys if current else self._ready(state.cache)
        clean = self._modulations(0.0, 0.0)
        with self._autocast():
            cache = self.transformer(
                chunk.inputs, None, None, chunk.motion_tokens,
                temporal="causal", cache=keys, modulations=clean, return_cache=True, cache_only=True,
            ).cache  # fmt: skip
        after = replace(
            state,
            cache=cache,
            memory=state.memory.remember(chunk.newest),
            decoder=chunk.decoder,
            noise_key=state.noise_key + torch.tensor([0, 0, 1], device=self.device),
        ).with_bodies(chunk.bodies)
        if bool(chunk.finite.all()):
            return after
        lost = [row for row, fine in enumerate(chunk.finite.tolist()) if not fine]
        return after.put(lost, state.rows(lost))

    @torch.inference_mode()
    def set_goal(self, state: DreamState, rows: Sequence[int], texts: Sequence[str]) -> DreamState:
        """Give some dreams another text; their past stays as it is.

        Raises:
            UserError: a row that is not there, an empty or too long text.
        """
        self.check(state)
        if self._row_by_row and len(rows) > 1:
            for row, text in zip(rows, texts, strict=True):
                state = self.set_goal(state, [row], [text])
            return state
        part = state.rows(rows)
        keys = self._text_keys(texts)
        goals = list(state.goals)
        for row, text in zip(rows, texts, strict=True):
            goals[row] = text
        changed = replace(part, cache=with_text(part.cache, keys.pairs, keys.mask))
        return replace(state.put(rows, changed), goals=tuple(goals))

    def check(self, state: DreamState) -> None:
        """Refuse a state of another model.

        Raises:
            UserError: it is.
        """
        if state.model != self.fingerprint:
            raise UserError(
                f"the state is of the model {state.model}, this one is {self.fingerprint}: load the weights that it "
                "was dreamt with"
            )

    @property
    def _row_by_row(self) -> bool:
        """Whether dreams that share a batch are computed one by one.

        Matrix products of a processor sum in another order for another number of rows. With bf16 that is lost in
        rounding anyway; where full precision is asked for, a dream must be the same whatever shares its batch.
        """
        return self.precision == "fp32" and self.device.type == "cpu"

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the weights, and of what else a state depends on."""
        return fingerprint(self._networks(), f"window {self.config.window} sink {self.config.sink}", self.precision)

    def _given(self, motion_tokens: np.ndarray | Tensor, batch: int) -> Tensor:
        if isinstance(motion_tokens, Tensor):
            tokens = motion_tokens.to(self.device, torch.float32)
        else:
            tokens = torch.from_numpy(np.asarray(motion_tokens, dtype=np.float32)).to(self.device)
        if tuple(tokens.shape) != (batch, 2, self.token_dim):
            expected = (2, self.token_dim)
            raise UserError(f"motion tokens have shape {tuple(tokens.shape[1:])}; expected {expected} for each dream")
        if not bool(torch.isfinite(tokens).all()):
            raise UserError("motion tokens hold NaN or infinity; expected finite numbers")
        return tokens

    def _move(
        self, state: DreamState, tokens: Tensor
    ) -> tuple[tuple[BodyState, ...], tuple[Motion, ...], tuple[np.ndarray, ...], Tensor]:
        """Every body after its tokens (B, 2, Cm), and which are finite (B,): the others stand still."""
        before = [state.body(row, self.skeleton, self.config.motion_fps) for row in range(len(state))]
        known = torch.isfinite(tokens).all(-1).all(-1)
        decoded = self._decode_motion(before, tokens.masked_fill(~known[:, None, None], 0.0))
        fine = np.isfinite(decoded).all(axis=(1, 2)) & known.cpu().numpy()
        moves = []
        for body, coming, is_fine in zip(before, decoded, fine, strict=True):
            if is_fine:
                moves.append(body.advance(coming))
            else:
                still = Motion.concatenate([body.motion] * self.motion_frames)
                moves.append((body, still, np.repeat(body.features[None], self.motion_frames, axis=0)))
        bodies, motions, features = zip(*moves, strict=True)
        return bodies, motions, features, torch.from_numpy(fine).to(self.device)

    def _velocities(
        self,
        cache: RingKeys | TransformerCache,
        video: Tensor,
        t_video: float,
        tokens: Tensor,
        t_motion: float,
        *,
        motion_only: bool = False,
    ) -> EgoTwinTransformerOutput:
        """Velocities of the next latents (B, 1, C, h, w) and of their two tokens (B, 2, Cm)."""
        modulations = self._modulations(t_video, t_motion)
        with self._autocast():
            return self.transformer(
                video[:, None], None, None, tokens,
                temporal="causal", cache=cache, modulations=modulations, motion_only=motion_only,
            )  # fmt: skip

    def _modulations(self, t_video: float, t_motion: float) -> Modulations:
        """What two timesteps make of the transformer's norms; a stream comes back to the same few at every chunk."""
        key = t_video, t_motion
        if key not in self._known_modulations:
            with self._autocast():
                self._known_modulations[key] = self.transformer.chunk_modulations(*key)
        return self._known_modulations[key]

    @cached_property
    def _known_modulations(self) -> dict[tuple[float, float], Modulations]:
        return {}

    def _ready(self, cache: RingCache) -> RingKeys:
        with self._autocast():
            return self.transformer.ready(cache)

    def _noise(self, state: DreamState, draw: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers (B, *shape), each row's from its own key."""
        keys = (state.noise_key + torch.tensor([0, 0, 1], device=state.noise_key.device)).tolist()
        return torch.stack([keyed_normal((*key, *draw), shape, self.device) for key in keys])

    def _dream_view(
        self,
        state: DreamState,
        cache: RingKeys | TransformerCache,
        tokens: Tensor,
        features: np.ndarray,
        poses: np.ndarray,
    ) -> tuple[Tensor, Tensor]:
        """Denoise the next latents; returns their clean input (B, 1, C + C + E, h, w) and the latents (B, C, h, w)."""
        condition = self._condition(state.memory, features, poses)
        prior, channels = condition.prior, condition.channels
        noisy = self._noise(state, (VIEW,), tuple(prior.shape[1:]))
        for level, t, target in _steps(self.config.view_steps, self.device):
            video = torch.cat([noisy, prior, channels], dim=1)
            said = self._velocities(cache, video, level, tokens, 0.0).video
            assert said is not None
            velocity = said[:, 0].float() + linear_velocity(self.schedule, noisy, t.expand(len(noisy)), RESIDUAL_SCALE)
            noisy = ddim_step(self.schedule, noisy, velocity, t.expand(len(noisy)), target.expand(len(noisy)))
        return torch.cat([noisy, prior, channels], dim=1)[:, None], noisy + prior

    def _dream_body(self, state: DreamState, cache: TransformerCache | None) -> Tensor:
        """Denoise the next two motion tokens (B, 2, Cm), the view being absent."""
        batch = len(state)
        size = state.memory.frames.shape[-1] // 8
        latent = (self.video_vae.config.latent_channels, size, size)
        absent = self._noise(state, (BODY, 1), latent)
        unknown = absent.new_zeros(batch, self.transformer.config.in_channels - latent[0], size, size)
        video = torch.cat([absent, unknown], dim=1)
        noisy = self._noise(state, (BODY, 0), (2, self.token_dim))
        top = float(self.schedule.num_timesteps)
        nothing = self._nothing.pairs, self._nothing.mask
        both: RingKeys | TransformerCache
        if cache is None:
            both = self._ready(join(state.cache, with_text(state.cache, *nothing)))
        else:
            both = join(cache, with_text(cache, *nothing))
        video = torch.cat([video, video])
        for level, t, target in _steps(self.config.body_steps, self.device):
            said = self._velocities(both, video, top, torch.cat([noisy, noisy]), level, motion_only=True).motion
            assert said is not None
            told, without = said.float().chunk(2)
            velocity = without + self.config.body_guidance * (told - without)
            noisy = ddim_step(self.schedule, noisy, velocity, t.expand(batch), target.expand(batch))
        return noisy

    def _text_keys(self, texts: Sequence[str] | None) -> TextKeys:
        """Keys and values of texts, or of the null text; text sees no chunk, so any chunk 0 will do."""
        embedded = self.text_encoder.encode_null() if texts is None else self.text_encoder.encode(list(texts))
        config, batch = self.transformer.config, len(embedded.tokens)
        video = torch.zeros(batch, 1, config.in_channels, config.sample_height, config.sample_width, device=self.device)
        token, zeros = torch.zeros(batch, 1, self.token_dim, device=self.device), torch.zeros(batch, 1)
        zeros = zeros.to(self.device)
        with self._autocast():
            cache = self.transformer(
                video, embedded.tokens.to(self.device).float(), zeros, token, zeros,
                text_mask=embedded.mask.to(self.device), latent_positions=(0,), temporal="causal", return_cache=True,
            ).cache  # fmt: skip
        return TextKeys(tuple(layer.text for layer in cache.layers), embedded.mask.to(self.device))

    @cached_property
    def _nothing(self) -> TextKeys:
        return self._text_keys(None)


class Stream:
    """One dream: the pipeline and the present state."""

    def __init__(self, pipeline: StreamPipeline, state: DreamState) -> None:
        if len(state) != 1:
            raise UserError(f"a stream is one dream; the state holds {len(state)}: choose a row")
        pipeline.check(state)
        self.pipeline, self.state = pipeline, state

    @property
    def body(self) -> BodyState:
        """The newest body state."""
        return self.state.body(0, self.pipeline.skeleton, self.pipeline.config.motion_fps)

    def step(self, motion_tokens: np.ndarray | None = None) -> StreamStep:
        """Go on by one chunk, under two motion tokens (2, Cm) or, without them, with the body dreamt as well.

        A step that fails leaves the stream as it was.

        Raises:
            UserError: tokens of another shape or not finite.
            FloatingPointError: the model gave a number that is not finite.
        """
        tokens = None if motion_tokens is None else np.asarray(motion_tokens)[None]
        chunk = self.pipeline.generate(self.state, tokens)
        if not bool(chunk.finite[0]):
            raise FloatingPointError(f"chunk {int(self.state.chunk[0]) + 1} is not finite; the roll-out was stopped")
        self.state = self.pipeline.finalize(self.state, chunk)
        return StreamStep.of(chunk, 0)


def _steps(count: int, device: torch.device) -> list[tuple[float, Tensor, Tensor]]:
    """Of each denoising step the timestep, as a number and as a tensor, and the next one."""
    times = trailing_timesteps(count)
    on_device = times.to(device)
    return list(zip(times[:-1].tolist(), on_device[:-1], on_device[1:], strict=True))
