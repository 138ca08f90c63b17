"""The noise schedule against diffusers, and its algebra."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from egotwin_sim.diffusion.schedule import NoiseSchedule, NoiseScheduleConfig, alphas_cumprod


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_equals_cogvideox(shift: float) -> None:
    reference = CogVideoXDDIMScheduler(snr_shift_scale=shift, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    ours = alphas_cumprod(NoiseScheduleConfig(snr_shift_scale=shift))
    torch.testing.assert_close(ours.double(), reference.alphas_cumprod.double(), atol=1e-6, rtol=1e-5)
    assert ours[-1] == 0


def test_ends_are_exactly_clean_and_exactly_noise() -> None:
    schedule, x, noise = NoiseSchedule(), torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(schedule.add_noise(x, noise, torch.tensor([0, 0])), x)
    assert torch.equal(schedule.add_noise(x, noise, torch.tensor([1000, 1000])), noise)


def test_integer_timestep_is_diffusers_index_plus_one() -> None:
    reference = CogVideoXDDIMScheduler(rescale_betas_zero_snr=True, snr_shift_scale=1.0)
    schedule, x, noise = NoiseSchedule(), torch.randn(4, 3), torch.randn(4, 3)
    index = torch.tensor([0, 10, 500, 998])
    torch.testing.assert_close(
        schedule.add_noise(x, noise, index + 1), reference.add_noise(x, noise, index), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        schedule.velocity(x, noise, index + 1), reference.get_velocity(x, noise, index), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("shape", [(2,), (2, 5)])
def test_velocity_gives_back_clean_and_noise_per_clip_and_per_chunk(shape: tuple[int, ...]) -> None:
    schedule, x, noise = NoiseSchedule(), torch.randn(2, 5, 3, 4, 4), torch.randn(2, 5, 3, 4, 4)
    t = torch.rand(shape) * 1000
    noisy, v = schedule.add_noise(x, noise, t), schedule.velocity(x, noise, t)
    torch.testing.assert_close(schedule.to_clean(noisy, v, t), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(schedule.to_noise(noisy, v, t), noise, atol=1e-5, rtol=0)


def test_fractional_timesteps_lie_between_and_noise_grows() -> None:
    schedule = NoiseSchedule()
    alpha, sigma = schedule.amplitudes(torch.arange(0, 1000.5, 0.5), torch.zeros(2001))
    assert (alpha.diff() < 0).all()
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(2001))


def test_bfloat16_data_keeps_its_type() -> None:
    x = torch.randn(2, 3, dtype=torch.bfloat16)
    assert NoiseSchedule().add_noise(x, x, torch.tensor([3.0, 4.0])).dtype == torch.bfloat16
