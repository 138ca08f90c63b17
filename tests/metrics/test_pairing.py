"""Pairing on denoisers whose answer is known: one that hears the other modality, and one that does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.metrics.pairing import pairing


class Scripted:
    """Knows that a clip's latents are all the number that its tokens are, and how noise was added."""

    config = SimpleNamespace(in_channels=1)

    def __init__(self, hears: bool) -> None:
        self.hears, self.schedule = hears, NoiseSchedule()

    def __call__(
        self, video: Tensor, text: Tensor, t_video: Tensor, motion: Tensor, t_motion: Tensor, *, text_mask: Tensor
    ) -> SimpleNamespace:
        alpha, _ = self.schedule.amplitudes(t_motion, motion)
        told = (motion / alpha).mean((1, 2))[:, None, None, None, None].expand_as(video)
        clean = told if self.hears else torch.zeros_like(video)
        alpha, sigma = self.schedule.amplitudes(t_video, video)
        noise = (video - alpha * clean) / sigma.clamp_min(1e-3)
        return SimpleNamespace(video=alpha * noise - sigma * clean, motion=torch.zeros_like(motion))


def clips() -> tuple[Tensor, ...]:
    value = torch.linspace(-2, 2, 6)
    latents = value[:, None, None, None, None].expand(6, 3, 1, 2, 2).contiguous()
    tokens = value[:, None, None].expand(6, 5, 16).contiguous()
    return latents, tokens, torch.zeros(6, 4, 8), torch.ones(6, 4, dtype=torch.bool)


def test_another_clips_motion_hurts_who_listens() -> None:
    listening = pairing(Scripted(True), *clips(), levels=(300.0, 500.0))
    assert listening.video_gain > 1.0
    assert abs(listening.motion_gain) < 1e-6  # says nothing of the motion, whatever the video
    deaf = pairing(Scripted(False), *clips(), levels=(300.0, 500.0))
    assert abs(deaf.video_gain) < 1e-6 and deaf.video_error > listening.video_error
    assert pairing(Scripted(True), *clips(), levels=(300.0, 500.0)) == listening


def test_one_clip_has_no_other() -> None:
    with pytest.raises(ValueError, match="two clips"):
        pairing(Scripted(True), *(part[:1] for part in clips()))
