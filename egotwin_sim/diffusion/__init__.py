"""Asynchronous diffusion: noise schedule, training timesteps, guidance, sampler."""

from egotwin_sim.diffusion.guidance import GuidanceScales, Noised, guide_t2vm, guide_tm2v, guide_tv2m
from egotwin_sim.diffusion.sampler import ddim_step, sample, trailing_timesteps
from egotwin_sim.diffusion.schedule import NoiseSchedule, NoiseScheduleConfig
from egotwin_sim.diffusion.timesteps import (
    TimestepConfig,
    motion_timesteps,
    sample_chunk_timesteps,
    sample_clip_timesteps,
)

__all__ = [
    "GuidanceScales",
    "NoiseSchedule",
    "NoiseScheduleConfig",
    "Noised",
    "TimestepConfig",
    "ddim_step",
    "guide_t2vm",
    "guide_tm2v",
    "guide_tv2m",
    "motion_timesteps",
    "sample",
    "sample_chunk_timesteps",
    "sample_clip_timesteps",
    "trailing_timesteps",
]
