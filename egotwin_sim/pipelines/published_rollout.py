"""Whole clips in the published form: one window for all that the model was trained on, overlapping ones beyond that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.diffusion.guidance import Noised
from egotwin_sim.errors import UserError
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.video_input import published_input
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT
from egotwin_sim.motion import Motion
from egotwin_sim.motion.head_centric import set_down
from egotwin_sim.pipelines.clip_inputs import ClipInput, ClipShape
from egotwin_sim.pipelines.prompts import Prompts
from egotwin_sim.pipelines.tokens import motion_tokens, pose_token, tokens_to_motion
from egotwin_sim.pipelines.video_codec import VideoCodec


class PublishedRollout:
    """B clips of one mode and length; see ``Rollout`` in ``pipelines.rollout`` for how it is used.

    A clip longer than the model was trained on is made of windows. Each window is a clip of its own, with its own
    latent 0 and its own canonical frame: it starts from a frame that is there already, and the `overlap` chunks after
    that are given too.

    Args:
        transformer: denoises.
        codec: codes the frames.
        motion_vae: codes the body.
        shape: of the model's clips.
        clips: what is given; equal modes and lengths.
        prompts: what they are told.
        window: chunks of a window at most.
        overlap: of them, those that a later window takes from the one before.
        temporal: what the transformer was trained to see.
        autocast: makes the context that networks run in.
        device: where they run.
    """

    def __init__(
        self,
        transformer: Any,
        codec: VideoCodec,
        motion_vae: MotionVAE,
        shape: ClipShape,
        clips: Sequence[ClipInput],
        prompts: Prompts,
        *,
        window: int,
        overlap: int,
        temporal: str,
        autocast: Any,
        device: torch.device,
    ) -> None:
        if clips[0].chunks > window and not 0 <= overlap < window:
            raise UserError(f"windows of {window} chunks cannot overlap by {overlap}; expected 0 to {window - 1}")
        self.transformer, self.codec, self.motion_vae, self.shape = transformer, codec, motion_vae, shape
        self.clips, self.prompts, self.window, self.overlap = clips, prompts, window, overlap
        self.temporal, self.autocast = temporal, autocast
        self.mode, self.chunks = clips[0].mode, clips[0].chunks
        self.device = device
        given = [clip.video for clip in clips if clip.video is not None]
        self._video = np.stack(given) if given else np.stack([clip.first_frame for clip in clips])[:, None]
        self._motion = [clip.motion or clip.body.motion for clip in clips]
        self._latents: Tensor | None = None
        self.progress = 0

    def next_window(self) -> PublishedWindow | None:
        """The next chunks, or None after the last."""
        if self.progress >= self.chunks:
            return None
        given = min(self.overlap, self.progress)
        start = self.progress - given
        return PublishedWindow(self, start, given, min(self.window, self.chunks - start))

    def remember(self, window: PublishedWindow, latents: Tensor, tokens: Tensor) -> None:
        """Take denoised chunks in."""
        if not torch.isfinite(tokens).all():
            raise FloatingPointError("the motion is not finite; there is no clip to give")
        latents = torch.cat([window.past_latents, latents], dim=1)
        known = FRAMES_PER_LATENT * window.given + 1
        if self._latents is None:
            self._latents = latents
        else:
            self._latents = torch.cat([self._latents, latents[:, 1 + window.given :]], dim=1)
        if self.mode != "tv2m":
            with self.autocast():
                video = self.codec.decode(latents)
            if not torch.isfinite(video).all():
                raise FloatingPointError("the video is not finite; there is no clip to give")
            new = unit_to_image(video[:, :, known:]).permute(0, 2, 3, 4, 1).cpu().numpy()
            self._video = np.concatenate([self._video, new], axis=1)
        if self.mode != "tm2v":
            every = torch.cat([window.past_tokens, tokens], dim=1).float().cpu().numpy()
            seam = self.shape.motion_frames * window.given
            for row, motion in enumerate(self._motion):
                coming = tokens_to_motion(every[row], window.starts[row], self.motion_vae)
                self._motion[row] = continued(motion, coming, seam)
        self.progress = window.start + window.length

    def videos(self) -> list[np.ndarray]:
        """uint8 (1 + 4K, H, W, 3) of each clip; as given where it was."""
        return list(self._video)

    def latents(self) -> Tensor:
        """(B, 1 + K, C, h, w), normalised; a later window's latents follow those of the one before."""
        assert self._latents is not None
        return self._latents

    def motions(self) -> list[Motion]:
        """1 + 8K frames of each clip in the world; as given where it was."""
        return list(self._motion)


class PublishedWindow:
    """A stretch of a ``PublishedRollout``; a ``Window``."""

    def __init__(self, rollout: PublishedRollout, start: int, given: int, length: int) -> None:
        self.rollout, self.start, self.given, self.length = rollout, start, given, length
        frames = FRAMES_PER_LATENT
        whole = rollout.mode == "tv2m"
        shown = rollout._video[:, frames * start : frames * (start + (length if whole else given)) + 1]
        pictures = torch.from_numpy(shown).to(rollout.device).permute(0, 4, 1, 2, 3)
        with rollout.autocast():
            latents = rollout.codec.encode(image_to_unit(pictures))
        self.past_latents = latents[:, : 1 + given]
        self.video = latents[:, 1 + given :] if whole else None

        step = rollout.shape.motion_frames
        told = length if rollout.mode == "tm2v" else given
        parts = [motion[step * start : step * (start + told) + 1] for motion in rollout._motion]
        vae = rollout.motion_vae
        tokens = np.stack([motion_tokens(part, vae) if told else pose_token(part, vae)[None] for part in parts])
        every = torch.from_numpy(tokens).to(rollout.device)
        self.starts = [part[:1] for part in parts]
        self.past_tokens = every[:, : 1 + 2 * given]
        self.motion = every[:, 1 + 2 * given :] if rollout.mode == "tm2v" else None

    @property
    def chunks(self) -> int:
        """Chunks that are denoised."""
        return self.length - self.given

    def settle(self, tokens: Tensor) -> None:
        """Nothing follows from it: the motion's tokens are all that the view sees."""

    def model(
        self, video: Noised, motion: Noised, with_text: bool, *, motion_only: bool = False
    ) -> tuple[Tensor | None, Tensor]:
        """Velocities of the latents and tokens that are not given."""
        rollout = self.rollout
        latents = torch.cat([self.past_latents, video.tokens], dim=1)
        tokens = torch.cat([self.past_tokens, motion.tokens], dim=1)
        text, mask = rollout.prompts.told(with_text)

        def per_entry(timestep: Tensor, past: int, count: int) -> Tensor:
            return timestep[:, None] * (torch.arange(count, device=timestep.device) >= past)

        with rollout.autocast():
            output = rollout.transformer(
                published_input(latents, self.past_latents[:, :1], rollout.transformer.config.in_channels),
                text,
                per_entry(video.timestep, self.past_latents.shape[1], latents.shape[1]),
                tokens,
                per_entry(motion.timestep, self.past_tokens.shape[1], tokens.shape[1]),
                text_mask=mask,
                temporal=rollout.temporal,
                motion_only=motion_only,
            )
        new_latents, new_tokens = video.tokens.shape[1], motion.tokens.shape[1]
        said = None if motion_only else output.video[:, -new_latents:].float()
        return said, output.motion[:, -new_tokens:].float()


def continued(motion: Motion, coming: Motion, seam: int) -> Motion:
    """A motion with what follows, which overlaps with its last `seam` + 1 frames.

    The overlap went through the motion VAE once more; what follows is set down on the ground where the motion's last
    head is, with its heading, so that there is no jump.
    """
    placed = set_down(coming[seam + 1 :], coming[seam : seam + 1], motion[-1:])
    return Motion.concatenate([motion, placed])
