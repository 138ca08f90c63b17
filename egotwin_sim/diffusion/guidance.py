"""Classifier-free guidance of the paper's three sampling modes.

The equations are written for the noise; all terms of one sum share z_t and t of the guided modality, and their weights
sum to one, so the same combination holds for the velocity. Each sum is rearranged by branch, and a branch of weight
zero is not computed:

    prediction = (1 - w_text) null + (w_text - w_other) text + w_other both

with null: no text, other modality absent; text: text, other modality absent; both: text and the other modality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Noised:
    """Tokens of one modality with their noise level.

    Attributes:
        tokens: video latents (B, F, C, H, W) or motion tokens (B, M, C).
        timestep: (B,) or per chunk (B, F) or (B, M); 0 given, T absent.
    """

    tokens: Tensor
    timestep: Tensor


class Model(Protocol):
    """The network as the guidance calls it."""

    def __call__(
        self, video: Noised, motion: Noised, with_text: bool, *, motion_only: bool = False
    ) -> tuple[Any, Tensor]:
        """Velocities of video and motion.

        Args:
            video: z_v and its timestep.
            motion: z_m and its timestep.
            with_text: False stands for the null text.
            motion_only: the video's velocity will not be looked at: the layers above the motion branch may be left out.
        """
        ...


@dataclass(frozen=True)
class GuidanceScales:
    """Weights of the guidance; 1 is none, and all of them 1 costs a single pass.

    Attributes:
        text: w_t.
        other: w_m when video is generated, w_v when motion is: weight of the other modality.
    """

    text: float = 1.0
    other: float = 1.0


def _combine(
    null: Callable[[], Tensor], text: Callable[[], Tensor], both: Callable[[], Tensor], w: GuidanceScales
) -> Tensor:
    weighted = ((1 - w.text, null), (w.text - w.other, text), (w.other, both))
    terms = [weight * branch() for weight, branch in weighted if weight]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def guide_tm2v(model: Model, video: Noised, motion: Noised, absent_motion: Noised, scales: GuidanceScales) -> Tensor:
    """Velocity of the video from text and given motion (TM2V, equation 3).

        eps_v = eps_v(z_v^t, z_m^T, null, t, T)
              + w_t [eps_v(z_v^t, z_m^T, c, t, T) - eps_v(z_v^t, z_m^T, null, t, T)]
              + w_m [eps_v(z_v^t, z_m^0, c, t, 0) - eps_v(z_v^t, z_m^T, c, t, T)]

    Args:
        model: the network.
        video: z_v^t.
        motion: z_m^0, timestep 0.
        absent_motion: z_m^T, an independent normal draw, timestep T (its token 0 may stay given, timestep 0).
        scales: w_t and w_m.

    Returns:
        Guided velocity, the video's shape.
    """
    return _combine(
        lambda: model(video, absent_motion, False)[0],
        lambda: model(video, absent_motion, True)[0],
        lambda: model(video, motion, True)[0],
        scales,
    )


def guide_tv2m(model: Model, video: Noised, motion: Noised, absent_video: Noised, scales: GuidanceScales) -> Tensor:
    """Velocity of the motion from text and given video (TV2M, the mirror image of equation 3).

        eps_m = eps_m(z_m^t, z_v^T, null, t, T)
              + w_t [eps_m(z_m^t, z_v^T, c, t, T) - eps_m(z_m^t, z_v^T, null, t, T)]
              + w_v [eps_m(z_m^t, z_v^0, c, t, 0) - eps_m(z_m^t, z_v^T, c, t, T)]

    Args:
        model: the network.
        video: z_v^0, timestep 0.
        motion: z_m^t.
        absent_video: z_v^T, an independent normal draw, timestep T (its latent 0 may stay given, timestep 0).
        scales: w_t and w_v.

    Returns:
        Guided velocity, the motion's shape.
    """
    return _combine(
        lambda: model(absent_video, motion, False, motion_only=True)[1],
        lambda: model(absent_video, motion, True, motion_only=True)[1],
        lambda: model(video, motion, True, motion_only=True)[1],
        scales,
    )


def guide_t2vm(
    model: Model,
    video: Noised,
    motion: Noised,
    absent_video: Noised,
    absent_motion: Noised,
    video_scales: GuidanceScales,
    motion_scales: GuidanceScales,
) -> tuple[Tensor, Tensor]:
    """Velocities of both from text (T2VM, equation 4): each modality is guided by the other at its present noise level.

        eps_v = eps_v(z_v^t, z_m^T, null, t, T)
              + w_t [eps_v(z_v^t, z_m^T, c, t, T) - eps_v(z_v^t, z_m^T, null, t, T)]
              + w_m [eps_v(z_v^t, z_m^t, c, t, t) - eps_v(z_v^t, z_m^T, c, t, T)]
        eps_m = eps_m(z_m^t, z_v^T, null, t, T)
              + w_t [eps_m(z_m^t, z_v^T, c, t, T) - eps_m(z_m^t, z_v^T, null, t, T)]
              + w_v [eps_m(z_m^t, z_v^t, c, t, t) - eps_m(z_m^t, z_v^T, c, t, T)]

    At most five passes: the one with both at (t, t) is shared.

    Args:
        model: the network.
        video: z_v^t.
        motion: z_m^t.
        absent_video: z_v^T, an independent normal draw.
        absent_motion: z_m^T, likewise.
        video_scales: w_t and w_m.
        motion_scales: w_t and w_v.

    Returns:
        Guided velocities of video and motion.
    """
    joint = model(video, motion, True) if video_scales.other or motion_scales.other else None

    def both(index: int) -> Tensor:
        assert joint is not None
        return joint[index]

    guided_video = _combine(
        lambda: model(video, absent_motion, False)[0],
        lambda: model(video, absent_motion, True)[0],
        lambda: both(0),
        video_scales,
    )
    guided_motion = _combine(
        lambda: model(absent_video, motion, False, motion_only=True)[1],
        lambda: model(absent_video, motion, True, motion_only=True)[1],
        lambda: both(1),
        motion_scales,
    )
    return guided_video, guided_motion


def guide_shared(
    model: Model, video: Noised, motion: Noised, video_text: float, motion_text: float
) -> tuple[Tensor, Tensor]:
    """Velocities of both from text, for weights with one timestep for both modalities (the paper's ablation).

    No modality was ever absent or given in their training, so only the text guides:

        eps = eps(z_v^t, z_m^t, null, t) + w_t [eps(z_v^t, z_m^t, c, t) - eps(z_v^t, z_m^t, null, t)]

    Args:
        model: the network.
        video: z_v^t.
        motion: z_m^t.
        video_text: w_t of the video.
        motion_text: w_t of the motion.

    Returns:
        Guided velocities of video and motion.
    """
    told = model(video, motion, True)
    if video_text == motion_text == 1:
        return told
    null = model(video, motion, False)
    guided = [n + weight * (t - n) for n, t, weight in zip(null, told, (video_text, motion_text), strict=True)]
    return guided[0], guided[1]
