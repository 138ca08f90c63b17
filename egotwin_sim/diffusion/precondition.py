"""What a straight line can say about the velocity, so that the network need only say the rest."""

from __future__ import annotations

from torch import Tensor

from egotwin_sim.diffusion.schedule import NoiseSchedule


def linear_velocity(schedule: NoiseSchedule, noisy: Tensor, timestep: Tensor, scale: float) -> Tensor:
    """The best linear guess of v from z_t alone, for data of zero mean and a deviation of ``scale``.

    With z_t = alpha z_0 + sigma eps, E[v | z_t] = alpha sigma (1 - scale^2) / (alpha^2 scale^2 + sigma^2) z_t: the
    skip connection of EDM (arXiv 2206.00364, section 5) in terms of v. It is zero for pure noise, and for data of
    unit variance.

    Args:
        schedule: of the noise.
        noisy: z_t.
        timestep: t, with the leading dimensions of ``noisy``.
        scale: deviation of the clean data.
    """
    alpha, sigma = schedule.amplitudes(timestep, noisy)
    variance = (alpha * scale).square() + sigma.square()
    return alpha * sigma * (1 - scale**2) / variance * noisy
