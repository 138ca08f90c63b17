"""Stretches of clips that are denoised at once, and the loop that denoises one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from egotwin_sim.diffusion.guidance import GuidanceScales, Noised, guide_shared, guide_t2vm, guide_tm2v, guide_tv2m
from egotwin_sim.diffusion.schedule import NoiseScheduleConfig
from egotwin_sim.diffusion.stepper import Stepper, dynamic_scale

ABSENT = float(NoiseScheduleConfig().num_timesteps)
"""The level of pure noise."""


class Window(Protocol):
    """n chunks of B clips that follow what is known.

    Attributes:
        chunks: n.
        video: (B, n, C, h, w), the chunks' latents where the video is given, else None.
        motion: (B, 2n, Cm), their tokens where the motion is given, else None.
    """

    video: Tensor | None
    motion: Tensor | None

    @property
    def chunks(self) -> int: ...  # noqa: D102

    def settle(self, tokens: Tensor) -> None:
        """Hear that these are the motion's tokens, before the video's remaining steps and at the latest at the end."""
        ...

    def model(self, video: Noised, motion: Noised, with_text: bool, *, motion_only: bool = False) -> tuple[Any, Tensor]:
        """Velocities of the chunks' latents and tokens; timesteps are (B,)."""
        ...


@dataclass(frozen=True)
class WindowNoise:
    """The draws for a window: where the generated modalities start, and what stands for absent ones.

    Attributes:
        video, absent_video: (B, n, C, h, w).
        motion, absent_motion: (B, 2n, Cm).
    """

    video: Tensor
    motion: Tensor
    absent_video: Tensor
    absent_motion: Tensor


@dataclass(frozen=True)
class Guidance:
    """How both modalities are guided.

    Attributes:
        video: by the text and by the motion.
        motion: by the text and by the video.
        dynamic: start without guidance and end with it (``dynamic_scale``).
        shared: the weights have one timestep for both modalities, so that only the text can guide.
    """

    video: GuidanceScales
    motion: GuidanceScales
    dynamic: bool = False
    shared: bool = False

    def at(self, scales: GuidanceScales, progress: float, *, alone: bool) -> GuidanceScales:
        """The scales at a share of the denoising; `alone`: the other modality is absent, so it has nothing to say."""
        if self.dynamic:
            scales = GuidanceScales(*(dynamic_scale(scale, progress) for scale in (scales.text, scales.other)))
        return replace(scales, other=0.0) if alone else scales


AfterStep = Callable[[float, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(timestep of diffusers, latents, tokens) -> latents and tokens to go on with."""


def denoise(
    window: Window,
    noise: WindowNoise,
    video_steps: Stepper | None,
    motion_steps: Stepper | None,
    lead: int,
    guidance: Guidance,
    after_step: AfterStep,
) -> tuple[Tensor, Tensor]:
    """Walk the generated modalities of a window from noise to data, each through its own timesteps.

    Args:
        window: what is denoised.
        noise: its draws.
        video_steps: of the video; None where it is given.
        motion_steps: of the motion; None where it is given.
        lead: steps that the motion takes before the video's first; the video is absent until then. With all of the
            motion's steps the body is complete before its view begins.
        guidance: the paper's, see ``diffusion.guidance``.
        after_step: called after every step.

    Returns:
        Latents (B, n, C, h, w) and tokens (B, 2n, Cm).
    """
    video = noise.video if window.video is None else window.video
    motion = noise.motion if window.motion is None else window.motion
    batch = len(video)

    def noised(tokens: Tensor, level: float) -> Noised:
        return Noised(tokens, torch.full((batch,), level, device=tokens.device))

    absent_video, absent_motion = noised(noise.absent_video, ABSENT), noised(noise.absent_motion, ABSENT)
    begin = 0 if motion_steps is None else lead
    total = max(
        0 if motion_steps is None else len(motion_steps), 0 if video_steps is None else begin + len(video_steps)
    )
    settled = False
    for step in range(total):
        view, body = step - begin, step  # how many steps each has taken
        view_moves = video_steps is not None and 0 <= view < len(video_steps)
        body_moves = motion_steps is not None and body < len(motion_steps)
        t_video = _level(video_steps, view)
        t_motion = _level(motion_steps, body)
        if t_motion == 0 and not settled:
            window.settle(motion)
            settled = True
        now_video, now_motion = noised(video, t_video), noised(motion, t_motion)
        v_video = v_motion = None
        for_video = guidance.at(guidance.video, _share(video_steps, view), alone=t_motion == ABSENT and not body_moves)
        for_motion = guidance.at(
            guidance.motion, _share(motion_steps, body), alone=t_video == ABSENT and not view_moves
        )
        if guidance.shared:
            v_video, v_motion = guide_shared(window.model, now_video, now_motion, for_video.text, for_motion.text)
        elif view_moves and body_moves:
            v_video, v_motion = guide_t2vm(
                window.model, now_video, now_motion, absent_video, absent_motion, for_video, for_motion
            )
        elif view_moves:
            v_video = guide_tm2v(window.model, now_video, now_motion, absent_motion, for_video)
        else:
            v_motion = guide_tv2m(window.model, now_video, now_motion, absent_video, for_motion)
        if v_video is not None and video_steps is not None:
            video = video_steps.step(view, v_video, video)
        if v_motion is not None and motion_steps is not None:
            motion = motion_steps.step(body, v_motion, motion)
        video, motion = after_step((t_video if view_moves else t_motion) - 1, video, motion)
    if not settled:
        window.settle(motion)
    return video, motion


def _level(steps: Stepper | None, taken: int) -> float:
    """The level of a modality: 0 where it is given, that of its first step before that."""
    return 0.0 if steps is None else steps.levels[min(max(taken, 0), len(steps))]


def _share(steps: Stepper | None, taken: int) -> float:
    return 1.0 if steps is None else min(max(taken, 0), len(steps)) / len(steps)
