"""The sampler against diffusers, and on a distribution whose best prediction is known."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from egotwin_sim.diffusion import Noised, NoiseSchedule, ddim_step, sample, trailing_timesteps


def test_trailing_spacing() -> None:
    assert trailing_timesteps(1).tolist() == [1000, 0]
    assert trailing_timesteps(4).tolist() == [1000, 750, 500, 250, 0]
    with pytest.raises(ValueError, match="steps"):
        trailing_timesteps(0)


@pytest.mark.parametrize("steps", [1, 4, 8, 50])
def test_steps_equal_cogvideox_ddim(steps: int) -> None:
    reference = CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    reference.set_timesteps(steps)
    times = trailing_timesteps(steps)
    torch.testing.assert_close(reference.timesteps.float() + 1, times[:-1])
    schedule = NoiseSchedule()
    ours = theirs = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    for i, t in enumerate(reference.timesteps):
        ours = ddim_step(schedule, ours, ours.sin(), times[i][None], times[i + 1][None])
        theirs = reference.step(theirs.sin(), t, theirs).prev_sample
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def oracle(schedule: NoiseSchedule, video: torch.Tensor, motion: torch.Tensor):
    """Predicts the velocity towards known clean data."""

    def velocity(state: Noised, clean: torch.Tensor) -> torch.Tensor:
        alpha, sigma = schedule.amplitudes(state.timestep, clean)
        noise = (state.tokens - alpha * clean) / sigma.clamp_min(1e-9)
        return alpha * noise - sigma * clean

    return lambda v, m: (velocity(v, video), velocity(m, motion))


def test_modalities_walk_with_their_own_timesteps_and_given_chunks_stay() -> None:
    g = torch.Generator().manual_seed(1)
    schedule = NoiseSchedule()
    video, motion = torch.randn(2, 3, 4, 2, 2, generator=g), torch.randn(2, 5, 6, generator=g)
    noisy_video, noisy_motion = torch.randn(video.shape, generator=g), torch.randn(motion.shape, generator=g)
    noisy_video[:, 0], noisy_motion[:, 0] = video[:, 0], motion[:, 0]
    times = trailing_timesteps(4)
    t_video = times[:, None, None].expand(5, 2, 3).clone()
    t_video[:, :, 0] = 0
    t_motion = torch.tensor([1000.0, 400.0, 0.0, 0.0, 0.0])[:, None, None].expand(5, 2, 5).clone()
    t_motion[:, :, 0] = 0
    out_video, out_motion = sample(
        oracle(schedule, video, motion), schedule, noisy_video, noisy_motion, t_video, t_motion
    )
    assert torch.equal(out_video[:, 0], video[:, 0]) and torch.equal(out_motion[:, 0], motion[:, 0])
    torch.testing.assert_close(out_video, video, atol=1e-4, rtol=0)
    torch.testing.assert_close(out_motion, motion, atol=1e-4, rtol=0)


def test_samples_of_a_normal_distribution_have_its_mean_and_spread() -> None:
    mean, std = 1.5, 0.5
    schedule = NoiseSchedule()

    def predict(video: Noised, motion: Noised):
        alpha, sigma = schedule.amplitudes(video.timestep, video.tokens)
        x = video.tokens
        clean = (mean * sigma**2 + std**2 * alpha * x) / (sigma**2 + std**2 * alpha**2)  # posterior mean
        noise = (x - alpha * clean) / sigma
        return alpha * noise - sigma * clean, None

    times = trailing_timesteps(50)[:, None].expand(51, 4000)
    start = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    out, _ = sample(predict, schedule, start, torch.zeros(4000, 1), times, torch.zeros(51, 4000))
    assert out.mean().item() == pytest.approx(mean, abs=0.05)
    assert out.std().item() == pytest.approx(std, abs=0.05)
