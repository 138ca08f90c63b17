"""Timesteps to train with: asynchronous between video and motion, per clip or per chunk.

All results are integers held in float32, 0 (given) to T (absent). Chunk 0, the first frame and the initial pose, is
always given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from egotwin_sim.errors import UserError


@dataclass(frozen=True)
class TimestepConfig:
    """Distribution of training timesteps.

    Attributes:
        distribution: "uniform" on 1..T, or "logit_normal": T * sigmoid(mean + std * normal), rounded up.
        mean: of the logit; above 0 favours high noise.
        std: of the logit.
        given: probability that a clip's whole modality is given (t = 0), which TM2V and TV2M sample with.
        absent: probability that it is absent (t = T), which the guidance's branches sample with.
        clean_prefix: per chunk only: probability that a clip's first chunks, uniformly many, are given, as in
            streaming.
    """

    distribution: str = "uniform"
    mean: float = 0.0
    std: float = 1.0
    given: float = 0.0
    absent: float = 0.0
    clean_prefix: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no distribution."""
        if self.distribution not in ("uniform", "logit_normal"):
            raise UserError(f"distribution is {self.distribution!r}; expected uniform or logit_normal")
        if min(self.given, self.absent, self.clean_prefix) < 0 or self.given + self.absent > 1 or self.clean_prefix > 1:
            raise UserError("given, absent and clean_prefix are probabilities, and given + absent is at most 1")


def sample_levels(
    shape: tuple[int, ...], config: TimestepConfig, generator: torch.Generator, num_timesteps: int = 1000
) -> Tensor:
    """Independent draws from the distribution on 1..T, on the generator's device."""
    device = generator.device
    if config.distribution == "uniform":
        unit = torch.rand(shape, generator=generator, device=device)
    else:
        unit = torch.sigmoid(config.mean + config.std * torch.randn(shape, generator=generator, device=device))
    return (num_timesteps * unit).ceil().clamp(1, num_timesteps)


def sample_clip_timesteps(
    batch: int, config: TimestepConfig, generator: torch.Generator, num_timesteps: int = 1000
) -> Tensor:
    """One timestep per clip for one modality; call it once for each: t_v and t_m are independent (paper equation 2).

    Returns:
        (B,) in 0..T.
    """
    levels = sample_levels((batch,), config, generator, num_timesteps)
    kind = torch.rand(batch, generator=generator, device=generator.device)
    levels = torch.where(kind < config.given, 0.0, levels)
    return torch.where(kind > 1 - config.absent, float(num_timesteps), levels)


def sample_chunk_timesteps(
    batch: int, chunks: int, config: TimestepConfig, generator: torch.Generator, num_timesteps: int = 1000
) -> Tensor:
    """An independent timestep per chunk for one modality (diffusion forcing, arXiv 2407.01392).

    Args:
        batch: B.
        chunks: F, chunk 0 included.
        config: the distribution.
        generator: source of randomness; its device is the result's.
        num_timesteps: T.

    Returns:
        (B, F) in 0..T, zero in chunk 0.
    """
    device = generator.device
    levels = sample_levels((batch, chunks), config, generator, num_timesteps)
    kind = torch.rand(batch, 1, generator=generator, device=device)
    prefix = torch.randint(1, max(2, chunks), (batch, 1), generator=generator, device=device)
    has_prefix = torch.rand(batch, 1, generator=generator, device=device) < config.clean_prefix
    levels = torch.where(kind > 1 - config.absent, float(num_timesteps), levels)
    clean = (kind < config.given) | (has_prefix & (torch.arange(chunks, device=device) < prefix))
    clean[:, 0] = True
    return torch.where(clean, 0.0, levels)


def motion_timesteps(chunk_timesteps: Tensor) -> Tensor:
    """Timesteps of motion tokens from those of chunks: token 0 is chunk 0's, tokens 2k-1 and 2k are chunk k's.

    Args:
        chunk_timesteps: (..., F).

    Returns:
        (..., 1 + 2 (F - 1)).
    """
    return chunk_timesteps.repeat_interleave(2, dim=-1)[..., 1:]
