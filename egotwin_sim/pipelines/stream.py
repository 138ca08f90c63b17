"""The dream, chunk by chunk: two motion tokens in, four frames and eight body states out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.diffusion.sampler import ddim_step, trailing_timesteps
from egotwin_sim.errors import UserError
from egotwin_sim.models.transformer_cache import TransformerCache
from egotwin_sim.models.video_vae import DecoderCache
from egotwin_sim.models.view_condition import RESIDUAL_SCALE
from egotwin_sim.models.view_memory import ViewMemory
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.noise import keyed_normal
from egotwin_sim.pipelines.pipeline import Pipeline, to_uint8

VIEW, BODY = 0, 1  # which draw of a chunk's noise


@dataclass(frozen=True)
class StreamState:
    """All of a stream between two steps; a value.

    Attributes:
        inputs: (1, F, C + C + E, h, w), the transformer's clean input for latent 0 and the newest latents.
        tokens: (1, M, Cm), their motion tokens.
        positions: their F chunk numbers.
        text, text_mask: (1, Lt, Dt) and (1, Lt).
        memory: the views that are remembered.
        decoder: the video decoder's memory.
        body: the newest body state.
        seed, episode: the key of the noise.
    """

    inputs: Tensor
    tokens: Tensor
    positions: tuple[int, ...]
    text: Tensor
    text_mask: Tensor
    memory: ViewMemory
    decoder: DecoderCache
    body: BodyState
    seed: int
    episode: int

    @property
    def chunk(self) -> int:
        """Number of the newest chunk; 0 at the start."""
        return self.positions[-1]


@dataclass(frozen=True)
class StreamStep:
    """What one step gives.

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


class StreamPipeline(Pipeline):
    """The causal model as a stream.

    Use ``from_pretrained``; then ``stream = pipeline.start(first_frame, initial_pose, text)`` and
    ``stream.step(motion_tokens)``. The pipeline itself holds no state of a roll-out.
    """

    @torch.inference_mode()
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
        first_frame = self._check_first_frame(first_frame)
        if seed < 0 or episode < 0:
            raise UserError(f"seed {seed} and episode {episode} must not be negative")
        body = BodyState.from_pose(initial_pose, self.skeleton, self.config.motion_fps)
        embedded = self.text_encoder.encode([text])
        frame = self._to_network(first_frame[None])[:, :, 0]
        opening = self._open(frame, body)
        joints = self._joints(body.features[None])
        memory = self._view(frame, joints, body.motion.T_world_head())
        return Stream(
            self,
            StreamState(
                opening.inputs,
                opening.token,
                (0,),
                embedded.tokens.to(self.device).float(),
                embedded.mask.to(self.device),
                memory,
                opening.decoder,
                body,
                seed,
                episode,
            ),
        )

    @torch.inference_mode()
    def generate(self, state: StreamState, motion_tokens: np.ndarray | None = None) -> tuple[StreamState, StreamStep]:
        """One chunk: the body first (given, or dreamt), then the view from its head.

        Args:
            state: the stream so far.
            motion_tokens: (2, Cm) normalised tokens, or None to dream the body too.

        Raises:
            UserError: tokens of another shape or not finite.
            FloatingPointError: the model gave a number that is not finite; the state is as it was.
        """
        given = None if motion_tokens is None else self._given(motion_tokens)
        context = self._context(state, state.text, state.text_mask)
        tokens = self._dream_body(state, context) if given is None else given
        body, motion, features = self._advance(state.body, tokens, state.chunk + 1)
        poses = motion.T_world_head()
        inputs, latent = self._dream_view(state, context, tokens, features, poses)
        with self._autocast():
            decoded, decoder = self.video_vae.decode(latent[:, :, None], state.decoder)
        if not torch.isfinite(decoded).all():
            raise FloatingPointError(f"the view of chunk {state.chunk + 1} is not finite; the roll-out was stopped")
        picture = decoded[0, 0].float()
        newest = self._view(picture[None, :, -1].clamp(-1, 1), self._joints(features[-1:]), poses[-1:])
        frames = to_uint8(picture)
        state = self._remember(state, inputs, tokens)
        state = replace(state, memory=state.memory.remember(newest), decoder=decoder, body=body)
        return state, StreamStep(frames, features, body.features, poses, tokens[0].cpu().numpy(), motion)

    def _given(self, motion_tokens: np.ndarray) -> Tensor:
        tokens = np.asarray(motion_tokens, dtype=np.float32)
        if tokens.shape != (2, self.token_dim):
            raise UserError(f"motion tokens have shape {tokens.shape}; expected (2, {self.token_dim})")
        if not np.isfinite(tokens).all():
            raise UserError("motion tokens hold NaN or infinity; expected finite numbers")
        return torch.from_numpy(tokens)[None].to(self.device)

    def _remember(self, state: StreamState, inputs: Tensor, tokens: Tensor) -> StreamState:
        """The state with one more chunk, and the oldest one after the sink dropped when the window is full."""
        positions = (*state.positions, state.chunk + 1)
        inputs = torch.cat([state.inputs, inputs], dim=1)
        tokens = torch.cat([state.tokens, tokens], dim=1)
        if len(positions) > 1 + self.config.window:
            positions = (positions[0], *positions[2:])
            inputs = torch.cat([inputs[:, :1], inputs[:, 2:]], dim=1)
            tokens = torch.cat([tokens[:, :1], tokens[:, 3:]], dim=1)
        return replace(state, inputs=inputs, tokens=tokens, positions=positions)

    def _context(self, state: StreamState, text: Tensor, text_mask: Tensor) -> TransformerCache:
        """Keys and values of the text, latent 0 and the newest latents, all clean."""
        frames, tokens = state.inputs.shape[1], state.tokens.shape[1]
        with self._autocast():
            return self.transformer(
                state.inputs,
                text,
                torch.zeros(1, frames, device=self.device),
                state.tokens,
                torch.zeros(1, tokens, device=self.device),
                text_mask=text_mask,
                latent_positions=state.positions,
                temporal="causal",
                return_cache=True,
            ).cache

    def _velocities(
        self, context: TransformerCache, video: Tensor, t_video: Tensor, tokens: Tensor, t_motion: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Velocities of the next latent (1, C, h, w) and of its two tokens (1, 2, Cm)."""
        with self._autocast():
            output = self.transformer(
                video[:, None],
                None,
                t_video.view(1, 1),
                tokens,
                t_motion.expand(1, 2),
                temporal="causal",
                cache=context,
            )
        return output.video[:, 0].float(), output.motion.float()

    def _dream_view(
        self, state: StreamState, context: TransformerCache, tokens: Tensor, features: np.ndarray, poses: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Denoise the next latent; returns its clean input (1, 1, C + C + E, h, w) and the latent (1, C, h, w)."""
        condition = self._condition(state.memory, features, poses)
        prior, channels = condition.prior, condition.channels
        noisy = keyed_normal((state.seed, state.episode, state.chunk + 1, VIEW), tuple(prior.shape), self.device)
        given = torch.zeros((), device=self.device)
        for t, target in _steps(self.config.view_steps, self.device):
            video = torch.cat([noisy, prior, channels], dim=1)
            velocity, _ = self._velocities(context, video, t, tokens, given)
            velocity = velocity + linear_velocity(self.schedule, noisy, t[None], RESIDUAL_SCALE)
            noisy = ddim_step(self.schedule, noisy, velocity, t[None], target[None])
        return torch.cat([noisy, prior, channels], dim=1)[:, None], noisy + prior

    def _dream_body(self, state: StreamState, context: TransformerCache) -> Tensor:
        """Denoise the next two motion tokens (1, 2, Cm), the view being absent."""
        key = (state.seed, state.episode, state.chunk + 1, BODY)
        absent = keyed_normal(
            (*key, 1), (1, self.video_vae.config.latent_channels, *state.inputs.shape[-2:]), self.device
        )
        unknown = torch.zeros(1, state.inputs.shape[2] - absent.shape[1], *absent.shape[-2:], device=self.device)
        video = torch.cat([absent, unknown], dim=1)
        noisy = keyed_normal((*key, 0), (1, 2, self.token_dim), self.device)
        nothing = self.text_encoder.encode_null()
        untold = self._context(state, nothing.tokens.to(self.device).float(), nothing.mask.to(self.device))
        top = torch.tensor(float(self.schedule.num_timesteps), device=self.device)
        for t, target in _steps(self.config.body_steps, self.device):
            with_text, without = (self._velocities(c, video, top, noisy, t)[1] for c in (context, untold))
            velocity = without + self.config.body_guidance * (with_text - without)
            noisy = ddim_step(self.schedule, noisy, velocity, t[None], target[None])
        return noisy


class Stream:
    """A roll-out: the pipeline and the present state."""

    def __init__(self, pipeline: StreamPipeline, state: StreamState) -> None:
        self.pipeline, self.state = pipeline, state

    def step(self, motion_tokens: np.ndarray | None = None) -> StreamStep:
        """Go on by one chunk; see ``StreamPipeline.generate``. A step that fails leaves the stream as it was."""
        self.state, out = self.pipeline.generate(self.state, motion_tokens)
        return out


def _steps(count: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """(timestep, next timestep) of each denoising step."""
    times = trailing_timesteps(count).to(device)
    return list(zip(times[:-1], times[1:], strict=True))
