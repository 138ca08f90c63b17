"""Noise schedule: zero terminal SNR, v-prediction, as CogVideoX has it.

A timestep t is 0 (given: exactly clean) to T (absent: exactly pure noise), an integer or a float. Integer t >= 1 has
the noise level of diffusers' index t - 1, so T = 1000 is its index 999, whose SNR is zero; t = 0 is the clean data that
its last step ends at. Between integers the signal's amplitude is interpolated linearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseScheduleConfig:
    """Parameters of the schedule; the defaults are CogVideoX-5B's.

    Attributes:
        num_timesteps: T.
        beta_start: first beta of the "scaled linear" schedule (linear in the square root).
        beta_end: its last beta, before the rescaling to zero terminal SNR.
        snr_shift_scale: divides the SNR; 1 for CogVideoX-5B, 3 for 2B. A larger value spends more steps at high noise.
    """

    num_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    snr_shift_scale: float = 1.0


def alphas_cumprod(config: NoiseScheduleConfig) -> Tensor:
    """Cumulative products of (1 - beta), shifted, rescaled to zero terminal SNR (arXiv 2305.08891, algorithm 1).

    Returns:
        float32 (T,), equal to `diffusers.CogVideoXDDIMScheduler.alphas_cumprod`.
    """
    roots = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.num_timesteps, dtype=torch.float64)
    product = torch.cumprod(1 - roots.square(), dim=0)
    shift = config.snr_shift_scale
    amplitude = (product / (shift + (1 - shift) * product)).sqrt()
    first, last = amplitude[0].clone(), amplitude[-1].clone()
    return ((amplitude - last) * first / (first - last)).square().float()


class NoiseSchedule:
    """Amplitudes of signal (alpha) and noise (sigma) at a timestep, with `alpha**2 + sigma**2 == 1`.

    In all methods `timestep` has the leading dimensions of the data, e.g. (B,) or (B, F) for data (B, F, C, H, W), and
    is broadcast over the others. Results have the data's dtype.

    Args:
        config: the schedule's parameters.
    """

    def __init__(self, config: NoiseScheduleConfig | None = None):
        self.config = config or NoiseScheduleConfig()
        self._alpha = torch.cat([torch.ones(1), alphas_cumprod(self.config).sqrt()])

    @property
    def num_timesteps(self) -> int:
        """T, the timestep of pure noise."""
        return self.config.num_timesteps

    def amplitudes(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at `timestep`, shaped to broadcast over `like`, float32 or float64 if `like` is."""
        if self._alpha.device != timestep.device:
            self._alpha = self._alpha.to(timestep.device)
        t = timestep.to(torch.float64 if like.dtype == torch.float64 else torch.float32)
        table = self._alpha.to(t.dtype)
        below = t.floor().long().clamp(0, self.num_timesteps - 1)
        alpha = torch.lerp(table[below], table[below + 1], t - below)
        alpha = alpha.reshape(alpha.shape + (1,) * (like.ndim - alpha.ndim))
        return alpha, (1 - alpha.square()).clamp_min(0).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """z_t = alpha z_0 + sigma eps."""
        alpha, sigma = self.amplitudes(timestep, clean)
        return (alpha * clean + sigma * noise).to(clean.dtype)

    def velocity(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The network's target, v = alpha eps - sigma z_0 (arXiv 2202.00512)."""
        alpha, sigma = self.amplitudes(timestep, clean)
        return (alpha * noise - sigma * clean).to(clean.dtype)

    def to_clean(self, noisy: Tensor, velocity: Tensor, timestep: Tensor) -> Tensor:
        """z_0 = alpha z_t - sigma v."""
        alpha, sigma = self.amplitudes(timestep, noisy)
        return (alpha * noisy - sigma * velocity).to(noisy.dtype)

    def to_noise(self, noisy: Tensor, velocity: Tensor, timestep: Tensor) -> Tensor:
        """The noise in z_t: eps = sigma z_t + alpha v."""
        alpha, sigma = self.amplitudes(timestep, noisy)
        return (sigma * noisy + alpha * velocity).to(noisy.dtype)
