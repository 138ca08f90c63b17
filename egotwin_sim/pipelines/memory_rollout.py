"""Whole clips with a view memory (nano), chunk by chunk as a stream makes them, under any guidance and sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.diffusion.guidance import Noised
from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.models.view_condition import RESIDUAL_SCALE
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines.body import BodyState
from egotwin_sim.pipelines.clip_inputs import ClipInput
from egotwin_sim.pipelines.pipeline import Pipeline
from egotwin_sim.pipelines.prompts import Prompts
from egotwin_sim.pipelines.tokens import motion_tokens


class MemoryRollout:
    """B clips of one mode and length; see ``Rollout`` in ``pipelines.rollout`` for how it is used.

    A chunk sees the sink and the window of chunks before it, as in training; nothing is cached, so that each of the
    guidance's branches may see what it likes. As in training, a view whose motion is known is denoised as its
    difference to what the memory shows of it; where the motion is not known the condition is empty.

    Args:
        networks: of the nano form.
        clips: what is given; equal modes and lengths.
        prompts: what they are told.
    """

    def __init__(self, networks: Pipeline, clips: Sequence[ClipInput], prompts: Prompts) -> None:
        self.networks, self.clips, self.prompts = networks, clips, prompts
        self.mode, self.chunks = clips[0].mode, clips[0].chunks
        first = np.stack([clip.first_frame for clip in clips])
        frames = networks._to_network(first)[0].transpose(0, 1)
        self.bodies = [clip.body for clip in clips]
        opening = networks._open(frames, self.bodies)
        self._inputs, self._tokens, self._decoder = [opening.inputs], [opening.token], opening.decoder
        self.channels = networks.video_vae.config.latent_channels
        self._latents = [opening.inputs[:, :, : self.channels]]
        self._frames = [first[:, None]]
        self._motions = [[body.motion] for body in self.bodies]
        self._given_video: Tensor | None = None
        self._given_tokens: Tensor | None = None
        if self.mode == "tv2m":
            pictures = torch.from_numpy(np.stack([clip.video for clip in clips if clip.video is not None])).to(
                networks.device
            )
            with networks._autocast():
                coded = networks.video_vae.encode(image_to_unit(pictures.permute(0, 4, 1, 2, 3)))
            self._given_video = coded.transpose(1, 2).float()
            self._memory = None
        else:
            features = np.stack([body.features for body in self.bodies])
            poses = np.concatenate([body.motion.T_world_head() for body in self.bodies])
            self._memory = networks._view(frames, networks._joints(features), poses)
        if self.mode == "tm2v":
            tokens = [motion_tokens(clip.motion, networks.motion_vae) for clip in clips if clip.motion is not None]
            self._given_tokens = torch.from_numpy(np.stack(tokens)).to(networks.device)

    def next_window(self) -> MemoryWindow | None:
        """The next chunk, or None after the last."""
        number = len(self._tokens)
        if number > self.chunks:
            return None
        config = self.networks.config
        sink = range(min(config.sink, number))
        context = [*sink, *range(max(len(sink), number - config.window), number)]
        return MemoryWindow(self, number, context)

    def remember(self, window: MemoryWindow, latents: Tensor, tokens: Tensor) -> None:
        """Take a denoised chunk in."""
        networks = self.networks
        self._tokens.append(tokens)
        self._latents.append(latents)
        self._inputs.append(window.clean_input(latents))
        self.bodies = window.bodies
        for parts, motion in zip(self._motions, window.motions, strict=True):
            parts.append(motion)
        if self._memory is None:
            return
        with networks._autocast():
            decoded, self._decoder = networks.video_vae.decode(latents.transpose(1, 2), self._decoder)
        picture = decoded[:, 0].float()
        if not torch.isfinite(picture).all():
            raise FloatingPointError(f"the video of chunk {window.number} is not finite; there is no clip to give")
        self._frames.append(unit_to_image(picture).permute(0, 2, 3, 4, 1).cpu().numpy())
        last = np.stack([features[-1] for features in window.features])
        poses = np.stack([motion.T_world_head()[-1] for motion in window.motions])
        newest = networks._view(picture[:, :, -1].clamp(-1, 1), networks._joints(last), poses)
        self._memory = self._memory.remember(newest)

    @property
    def progress(self) -> int:
        """Chunks that are done."""
        return len(self._tokens) - 1

    def videos(self) -> list[np.ndarray]:
        """uint8 (1 + 4K, H, W, 3) of each clip; as given where it was."""
        if self.mode == "tv2m":
            return [clip.video for clip in self.clips if clip.video is not None]
        return list(np.concatenate(self._frames, axis=1))

    def latents(self) -> Tensor:
        """(B, 1 + K, C, h, w), normalised."""
        return self._given_video if self._given_video is not None else torch.cat(self._latents, dim=1)

    def motions(self) -> list[Motion]:
        """1 + 8K frames of each clip in the world; as given where it was."""
        given = [clip.motion for clip in self.clips if clip.motion is not None]
        return given or [Motion.concatenate(parts) for parts in self._motions]


class MemoryWindow:
    """One chunk of a ``MemoryRollout``; a ``Window``."""

    chunks = 1

    def __init__(self, rollout: MemoryRollout, number: int, context: list[int]) -> None:
        self.rollout, self.number, self.context = rollout, number, context
        given, tokens = rollout._given_video, rollout._given_tokens
        self.video = None if given is None else given[:, number : number + 1]
        self.motion = None if tokens is None else tokens[:, 2 * number - 1 : 2 * number + 1]
        self.bodies: list[BodyState] = []
        self.motions: list[Motion] = []
        self.features: list[np.ndarray] = []
        condition = rollout._inputs[0][:, :, rollout.channels :]
        self._unknown = torch.zeros_like(condition)
        self._known: Tensor | None = None
        self._past = torch.cat([rollout._inputs[k] for k in context], dim=1)
        self._past_tokens = torch.cat([rollout._tokens[k] for k in context], dim=1)

    def settle(self, tokens: Tensor) -> None:
        """Move the bodies, and draw what the memory shows from where the heads will be."""
        rollout, networks = self.rollout, self.rollout.networks
        if not torch.isfinite(tokens).all():
            raise FloatingPointError(f"the motion of chunk {self.number} is not finite; there is no clip to give")
        for body, decoded in zip(rollout.bodies, networks._decode_motion(rollout.bodies, tokens), strict=True):
            if not np.isfinite(decoded).all():
                raise FloatingPointError(f"the motion of chunk {self.number} is not finite; there is no clip to give")
            after, motion, features = body.advance(decoded)
            self.bodies.append(after)
            self.motions.append(motion)
            self.features.append(features)
        if rollout._memory is not None:
            poses = np.concatenate([motion.T_world_head() for motion in self.motions])
            view = networks._condition(rollout._memory, np.concatenate(self.features), poses)
            self._known = torch.cat([view.prior, view.channels], dim=1)[:, None]

    def model(
        self, video: Noised, motion: Noised, with_text: bool, *, motion_only: bool = False
    ) -> tuple[Tensor | None, Tensor]:
        """Velocities of the latent and its tokens themselves, whatever is known beforehand.

        The transformer denoises the difference d = z - p to the prior p. Noised with the same noise,
        d_t = z_t - alpha p and v_d = v + sigma p, so that branches with different priors add up.
        """
        networks = self.rollout.networks
        known = self._known is not None and not motion.timestep.any()
        condition = self._known if known else self._unknown
        assert condition is not None
        prior = condition[:, :, : self.rollout.channels]
        alpha, sigma = networks.schedule.amplitudes(video.timestep, prior)
        noisy = video.tokens - alpha * prior
        text, mask = self.rollout.prompts.told(with_text)
        zeros = torch.zeros(len(noisy), 1, device=noisy.device)
        past, past_tokens = len(self.context), self._past_tokens.shape[1]
        with networks._autocast():
            output = networks.transformer(
                torch.cat([self._past, torch.cat([noisy, condition], dim=2)], dim=1),
                text,
                torch.cat([zeros.expand(-1, past), video.timestep[:, None]], dim=1),
                torch.cat([self._past_tokens, motion.tokens], dim=1),
                torch.cat([zeros.expand(-1, past_tokens), motion.timestep[:, None].expand(-1, 2)], dim=1),
                text_mask=mask,
                latent_positions=[*self.context, self.number],
                temporal="causal",
                motion_only=motion_only,
            )
        if motion_only:
            return None, output.motion[:, -2:].float()
        velocity = output.video[:, -1:].float()
        velocity = velocity + linear_velocity(networks.schedule, noisy, video.timestep, RESIDUAL_SCALE)
        return velocity - sigma * prior, output.motion[:, -2:].float()

    def clean_input(self, latents: Tensor) -> Tensor:
        """What later chunks see of this one: (B, 1, C + C + E, h, w)."""
        condition = self._unknown if self._known is None else self._known
        return torch.cat([latents - condition[:, :, : self.rollout.channels], condition], dim=2)
