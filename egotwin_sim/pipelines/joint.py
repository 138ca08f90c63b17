"""Whole clips of video and body motion in the paper's three modes (arXiv 2508.13013, asynchronous diffusion)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.diffusion.guidance import GuidanceScales, Model, Noised, guide_t2vm, guide_tm2v, guide_tv2m
from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.diffusion.sampler import sample, trailing_timesteps
from egotwin_sim.diffusion.timesteps import motion_timesteps
from egotwin_sim.errors import UserError
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.images import unit_to_image
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import TextEncoder
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE, join_chunks
from egotwin_sim.models.view_condition import RESIDUAL_SCALE
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.noise import keyed_normal
from egotwin_sim.pipelines.pipeline import Opening, Pipeline
from egotwin_sim.pipelines.tokens import motion_tokens
from egotwin_sim.pipelines.weights import StreamConfig

VIEW, BODY, ABSENT_VIEW, ABSENT_BODY = range(4)  # which draw of a clip's noise


@dataclass(frozen=True)
class JointConfig:
    """How clips are sampled.

    Attributes:
        temporal: "causal" (weights that stream, as the shipped ones) or "bidirectional" (weights of the joint stage).
        steps: denoising steps.
        video: guidance of the video by the text and by the motion.
        motion: guidance of the motion by the text and by the video.
    """

    temporal: str = "causal"
    steps: int = 20
    video: GuidanceScales = field(default_factory=GuidanceScales)
    motion: GuidanceScales = field(default_factory=lambda: GuidanceScales(text=2.0, other=2.0))

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        if self.temporal not in ("bidirectional", "causal"):
            raise UserError(f"temporal is {self.temporal!r}; expected bidirectional or causal")
        if not 1 <= self.steps <= 1000:
            raise UserError(f"steps is {self.steps}; expected 1 to 1000")


@dataclass(frozen=True)
class JointClip:
    """A clip of K chunks; what was given comes back as it was.

    Attributes:
        video: uint8 (1 + 4K, H, W, 3), the first frame included.
        motion: 1 + 8K frames in the world.
        tokens: float32 (1 + 2K, Cm), the motion as normalised tokens.
    """

    video: np.ndarray
    motion: Motion
    tokens: np.ndarray


class JointPipeline(Pipeline):
    """Generates whole clips: both modalities from text, or one of them from the other.

    A clip starts from a first frame and an initial pose, whose latent and motion token stay clean. Each modality has
    its own timesteps; the guidance is the paper's (``egotwin_sim.diffusion.guidance``). A text of None is the null
    text, and leaves nothing for the text's guidance to weigh. Equal arguments give equal clips.

    As in training, a view whose motion is given is denoised as its difference to what is known of it beforehand: the
    first frame drawn from the head poses to come, beside a map of the body. Without the motion nothing is known.

    Args:
        video_vae: codes the frames; a ``CogVideoXVAE`` will do too.
        depth_net: tells how far away the first frame's pixels are.
        motion_vae: codes the body, in the ``chunk`` form.
        transformer: denoises.
        text_encoder: codes the text.
        config: rates and sizes.
        sampling: steps, guidance, and what the transformer was trained to see.

    Raises:
        UserError: networks that do not belong together.
    """

    def __init__(
        self,
        video_vae: VideoVAE,
        depth_net: DepthNet,
        motion_vae: MotionVAE,
        transformer: EgoTwinTransformer3DModel,
        text_encoder: TextEncoder,
        config: StreamConfig | None = None,
        sampling: JointConfig | None = None,
    ) -> None:
        super().__init__(video_vae, depth_net, motion_vae, transformer, text_encoder, config)
        self.sampling = sampling or JointConfig()

    @torch.inference_mode()
    def t2vm(
        self,
        first_frame: np.ndarray,
        initial_pose: np.ndarray | Motion,
        text: str | None,
        *,
        chunks: int = 10,
        seed: int = 0,
    ) -> JointClip:
        """Video and motion from text (T2VM): both go through the same timesteps together.

        Args:
            first_frame: uint8 (H, W, 3) RGB, H = W = ``config.image_size``.
            initial_pose: (D,) head-centric state, the world then begins under its head; or a motion, whose last frame
                is the initial pose.
            text: what happens, or None.
            chunks: K, of half a second each.
            seed: of the noise, not negative.

        Raises:
            UserError: a frame of another size or type, a pose that is none, an empty or too long text.
            FloatingPointError: the model gave a number that is not finite.
        """
        if chunks < 1:
            raise UserError(f"chunks is {chunks}; expected at least 1")
        body = self._body(initial_pose)
        first_frame = self._check_first_frame(first_frame)
        opening = self._open(self._to_network(first_frame[None])[:, :, 0], [body])
        model = self._model(text, self._unknown(opening, chunks))
        noise = self._noise(seed, opening, chunks)
        t_video, t_motion = self._timesteps(chunks)
        absent_video, absent_motion = Noised(noise[ABSENT_VIEW], t_video[0]), Noised(noise[ABSENT_BODY], t_motion[0])
        scales = [_scales(text, given) for given in (self.sampling.video, self.sampling.motion)]

        def predict(video: Noised, motion: Noised) -> tuple[Tensor, Tensor]:
            return guide_t2vm(model, video, motion, absent_video, absent_motion, *scales)

        latents, tokens = sample(predict, self.schedule, noise[VIEW], noise[BODY], t_video, t_motion)
        _, motion, _ = self._follow(body, _finite(tokens))
        return JointClip(self._decode(latents, first_frame), motion, _numpy(tokens))

    @torch.inference_mode()
    def tm2v(self, first_frame: np.ndarray, motion: Motion, text: str | None, *, seed: int = 0) -> JointClip:
        """Video from text and motion (TM2V, equation 3).

        Args:
            first_frame: as for ``t2vm``.
            motion: 1 + 8K frames; the first is the initial pose.
            text: what happens, or None.
            seed: of the noise, not negative.

        Raises:
            UserError: as ``t2vm``; or a motion of another length, rate or skeleton.
            FloatingPointError: the model gave a number that is not finite.
        """
        body = self._body(motion[:1])
        first_frame = self._check_first_frame(first_frame)
        tokens = torch.from_numpy(motion_tokens(motion, self.motion_vae))[None].to(self.device)
        chunks = (tokens.shape[1] - 1) // 2
        frame = self._to_network(first_frame[None])[:, :, 0]
        opening = self._open(frame, [body])
        # The poses that the tokens lead to, as in training.
        poses, _, features = self._follow(body, tokens)
        first_view = self._view(frame, self._joints(body.features[None]), body.motion.T_world_head())
        remembered = first_view.index(torch.zeros(chunks, dtype=torch.long))
        view = self._condition(remembered.remember(remembered), features, poses)
        unknown = self._unknown(opening, chunks)
        known = torch.cat([unknown[:, :1], torch.cat([view.prior, view.channels], dim=1)[None]], dim=1)
        model = self._model(text, unknown, known)
        noise = self._noise(seed, opening, chunks)
        t_video, t_motion = self._timesteps(chunks)
        absent_motion = Noised(noise[ABSENT_BODY], t_motion[0])
        scales = _scales(text, self.sampling.video)

        def predict(video: Noised, motion: Noised) -> tuple[Tensor, None]:
            return guide_tm2v(model, video, motion, absent_motion, scales), None

        latents, _ = sample(predict, self.schedule, noise[VIEW], tokens, t_video, torch.zeros_like(t_motion))
        return JointClip(self._decode(latents, first_frame), motion, _numpy(tokens))

    @torch.inference_mode()
    def tv2m(
        self, video: np.ndarray, initial_pose: np.ndarray | Motion, text: str | None, *, seed: int = 0
    ) -> JointClip:
        """Motion from text and video (TV2M, the mirror image of equation 3).

        Args:
            video: uint8 (1 + 4K, H, W, 3) RGB at ``config.video_fps``; the first frame included.
            initial_pose: as for ``t2vm``.
            text: what happens, or None.
            seed: of the noise, not negative.

        Raises:
            UserError: as ``t2vm``; or a video of another length, size or type.
            FloatingPointError: the model gave a number that is not finite.
        """
        video = np.asarray(video)
        size = self.config.image_size
        chunks, rest = divmod(len(video) - 1 if video.ndim else 0, FRAMES_PER_LATENT)
        if video.shape[1:] != (size, size, 3) or video.dtype != np.uint8 or rest or chunks < 1:
            raise UserError(
                f"video is {video.dtype} {video.shape}; expected uint8 (1 + {FRAMES_PER_LATENT} K, {size}, {size}, 3) "
                "with K >= 1: resize and cut it"
            )
        body = self._body(initial_pose)
        pictures = self._to_network(video)
        opening = self._open(pictures[:, :, 0], [body])
        with self._autocast():
            latents = self.video_vae.encode(pictures).transpose(1, 2).float()
        model = self._model(text, self._unknown(opening, chunks))
        noise = self._noise(seed, opening, chunks)
        t_video, t_motion = self._timesteps(chunks)
        absent_video = Noised(noise[ABSENT_VIEW], t_video[0])
        scales = _scales(text, self.sampling.motion)

        def predict(video: Noised, motion: Noised) -> tuple[None, Tensor]:
            return None, guide_tv2m(model, video, motion, absent_video, scales)

        _, tokens = sample(predict, self.schedule, latents, noise[BODY], torch.zeros_like(t_video), t_motion)
        _, motion, _ = self._follow(body, _finite(tokens))
        return JointClip(video, motion, _numpy(tokens))

    def _body(self, pose: np.ndarray | Motion) -> BodyState:
        if not isinstance(pose, Motion):
            return BodyState.from_pose(pose, self.skeleton, self.config.motion_fps)
        if pose.fps != self.config.motion_fps:
            raise UserError(f"the motion has {pose.fps:g} frames/s; expected {self.config.motion_fps:g}: resample it")
        if pose.skeleton.names != self.skeleton.names:
            raise UserError("the motion belongs to another skeleton than the model's; retarget it first")
        return BodyState.of(pose)

    def _timesteps(self, chunks: int) -> tuple[Tensor, Tensor]:
        """From T to 0: (S + 1, 1, 1 + K) of the latents and (S + 1, 1, 1 + 2K) of the tokens, chunk 0 staying at 0."""
        times = trailing_timesteps(self.sampling.steps, self.schedule.num_timesteps).to(self.device)
        t_video = times[:, None, None] * (torch.arange(1 + chunks, device=self.device) > 0)
        return t_video, motion_timesteps(t_video)

    def _noise(self, seed: int, opening: Opening, chunks: int) -> list[Tensor]:
        """The clean latent or token 0 followed by noise, for each of a clip's draws."""
        if seed < 0:
            raise UserError(f"seed is {seed}; expected a number that is not negative")
        latent = opening.inputs[:, :, : self.video_vae.config.latent_channels]
        draws = []
        for which in (VIEW, BODY, ABSENT_VIEW, ABSENT_BODY):
            first, count = (latent, chunks) if which in (VIEW, ABSENT_VIEW) else (opening.token, 2 * chunks)
            drawn = keyed_normal((seed, which), (1, count, *first.shape[2:]), self.device)
            draws.append(torch.cat([first, drawn], dim=1))
        return draws

    def _unknown(self, opening: Opening, chunks: int) -> Tensor:
        """Prior and channels (1, 1 + K, C + E, h, w) where the motion is not given: nothing but latent 0's body map."""
        first = opening.inputs[:, :, self.video_vae.config.latent_channels :]
        return torch.cat([first, torch.zeros_like(first).expand(-1, chunks, -1, -1, -1)], dim=1)

    def _model(self, text: str | None, unknown: Tensor, known: Tensor | None = None) -> Model:
        """The transformer as the guidance calls it: on the latents themselves, whatever is known beforehand.

        The transformer denoises the difference d = z - p to the prior p. Noised with the same noise,
        d_t = z_t - alpha p and v_d = v + sigma p, so that branches with different priors add up.

        Args:
            text: None is the null text.
            unknown: (1, F, C + E, h, w) prior and channels of latents whose motion is not given.
            known: the same, if the motion is given.
        """
        null = self.text_encoder.encode_null()
        told = null if text is None else self.text_encoder.encode([text])

        def model(video: Noised, motion: Noised, with_text: bool) -> tuple[Tensor, Tensor]:
            condition = unknown if known is None or motion.timestep.any() else known
            prior = condition[:, :, : video.tokens.shape[2]]
            alpha, sigma = self.schedule.amplitudes(video.timestep, prior)
            noisy = video.tokens - alpha * prior
            embedded = told if with_text else null
            with self._autocast():
                output = self.transformer(
                    torch.cat([noisy, condition], dim=2),
                    embedded.tokens.to(self.device).float(),
                    video.timestep,
                    motion.tokens,
                    motion.timestep,
                    text_mask=embedded.mask.to(self.device),
                    temporal=self.sampling.temporal,
                )
            difference = output.video.float() + linear_velocity(self.schedule, noisy, video.timestep, RESIDUAL_SCALE)
            return difference - sigma * prior, output.motion.float()

        return model

    def _follow(self, body: BodyState, tokens: Tensor) -> tuple[np.ndarray, Motion, np.ndarray]:
        """Where the tokens (1, 1 + 2K, Cm) lead the body.

        Returns:
            Head poses (8K, 4, 4) in the world; the motion (1 + 8K frames); and features (8K, D), each chunk's in the
            canonical frame of the state before it.
        """
        parts, features = [body.motion], []
        for k, pair in enumerate(tokens[:, 1:].split(2, dim=1), start=1):
            decoded = self._decode_motion([body], pair)[0]
            if not np.isfinite(decoded).all():
                raise FloatingPointError(f"the motion of chunk {k} is not finite; the roll-out was stopped")
            body, part, seen = body.advance(decoded)
            parts.append(part)
            features.append(seen)
        motion = Motion.concatenate(parts)
        return motion.T_world_head()[1:], motion, np.concatenate(features)

    def _decode(self, latents: Tensor, first_frame: np.ndarray) -> np.ndarray:
        """Frames (1 + 4K, H, W, 3) of the latents (1, 1 + K, C, h, w), after the given first one."""
        with self._autocast():
            decoded, _ = self.video_vae.decode(latents.transpose(1, 2))
        if not torch.isfinite(decoded).all():
            raise FloatingPointError("the video is not finite; there is no clip to give")
        frames = unit_to_image(join_chunks(decoded)[0, :, 1:].float()).permute(1, 2, 3, 0)
        return np.concatenate([first_frame[None], frames.cpu().numpy()])


def _scales(text: str | None, scales: GuidanceScales) -> GuidanceScales:
    """Without a text, the branches with and without it are one."""
    return scales if text is not None else replace(scales, text=1.0)


def _finite(tokens: Tensor) -> Tensor:
    if not torch.isfinite(tokens).all():
        raise FloatingPointError("the motion is not finite; there is no clip to give")
    return tokens


def _numpy(tokens: Tensor) -> np.ndarray:
    return tokens[0].float().cpu().numpy()
