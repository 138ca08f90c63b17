"""The linear guess is the regression of v on z_t."""

from __future__ import annotations

import pytest
import torch

from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.diffusion.schedule import NoiseSchedule


@pytest.mark.parametrize("t", [50.0, 400.0, 900.0])
def test_is_the_least_squares_line(t: float) -> None:
    schedule, scale = NoiseSchedule(), 0.5
    generator = torch.Generator().manual_seed(0)
    clean = scale * torch.randn(1, 200_000, generator=generator)
    noise = torch.randn(1, 200_000, generator=generator)
    timestep = torch.tensor([t])
    noisy, velocity = schedule.add_noise(clean, noise, timestep), schedule.velocity(clean, noise, timestep)
    slope = (noisy * velocity).mean() / noisy.square().mean()
    torch.testing.assert_close(linear_velocity(schedule, noisy, timestep, scale), slope * noisy, atol=0.02, rtol=0.02)


def test_is_zero_for_pure_noise_and_for_unit_data() -> None:
    schedule, noisy = NoiseSchedule(), torch.randn(2, 3)
    assert not linear_velocity(schedule, noisy, torch.tensor([1000.0, 1000.0]), 0.5).any()
    assert not linear_velocity(schedule, noisy, torch.tensor([300.0, 700.0]), 1.0).any()
