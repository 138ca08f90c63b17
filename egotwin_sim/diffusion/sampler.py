"""DDIM (eta = 0) for v-prediction, with a timestep of its own for every modality and chunk."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from egotwin_sim.diffusion.guidance import Noised
from egotwin_sim.diffusion.schedule import NoiseSchedule

Predict = Callable[[Noised, Noised], tuple[Tensor | None, Tensor | None]]


def trailing_timesteps(steps: int, num_timesteps: int = 1000) -> Tensor:
    """Timesteps of a few-step schedule: from T (pure noise) downwards, evenly spaced, ending at 0 (clean).

    "Trailing" spacing, which zero-terminal-SNR schedules need (arXiv 2305.08891, table 2).

    Args:
        steps: number of network calls, at least 1.
        num_timesteps: T.

    Returns:
        float32 (steps + 1,).
    """
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"steps is {steps}; expected 1 to {num_timesteps}")
    return (torch.arange(steps, -1, -1, dtype=torch.float64) * num_timesteps / steps).round().float()


def ddim_step(schedule: NoiseSchedule, noisy: Tensor, velocity: Tensor, timestep: Tensor, target: Tensor) -> Tensor:
    """One deterministic step from `timestep` to `target` (arXiv 2010.02502, equation 12 with eta = 0).

    Args:
        schedule: the noise schedule.
        noisy: z_t.
        velocity: prediction of v at t, same shape.
        timestep: t, leading dimensions of `noisy`.
        target: the timestep to go to, same shape; where it equals `timestep`, `noisy` stays as it is.

    Returns:
        z at `target`.
    """
    clean = schedule.to_clean(noisy, velocity, timestep)
    noise = schedule.to_noise(noisy, velocity, timestep)
    stepped = schedule.add_noise(clean, noise, target)
    same = (timestep == target).reshape(timestep.shape + (1,) * (noisy.ndim - timestep.ndim))
    return torch.where(same, noisy, stepped)


@torch.no_grad()
def sample(
    predict: Predict,
    schedule: NoiseSchedule,
    video: Tensor,
    motion: Tensor,
    video_timesteps: Tensor,
    motion_timesteps: Tensor,
) -> tuple[Tensor, Tensor]:
    """Walk both modalities through their timesteps together.

    A modality whose timesteps are all 0 is given and stays; one whose timesteps stay at T is absent. With timesteps per
    chunk, chunk 0 has 0 throughout, and chunks may be at different noise levels at the same time.

    Args:
        predict: guided or plain velocity of both modalities; None for one that does not change.
        schedule: the noise schedule.
        video: (B, F, C, H, W), noise where its first timestep is T, clean where 0.
        motion: (B, M, C), likewise.
        video_timesteps: (S + 1, B) or (S + 1, B, F).
        motion_timesteps: (S + 1, B) or (S + 1, B, M).

    Returns:
        Video and motion at their last timesteps.
    """
    if len(video_timesteps) != len(motion_timesteps):
        raise ValueError(f"{len(video_timesteps)} video timesteps but {len(motion_timesteps)} motion timesteps")
    for i in range(len(video_timesteps) - 1):
        t_v, t_m = video_timesteps[i], motion_timesteps[i]
        v_video, v_motion = predict(Noised(video, t_v), Noised(motion, t_m))
        if v_video is not None:
            video = ddim_step(schedule, video, v_video, t_v, video_timesteps[i + 1])
        if v_motion is not None:
            motion = ddim_step(schedule, motion, v_motion, t_m, motion_timesteps[i + 1])
    return video, motion
