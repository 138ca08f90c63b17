"""Guidance: the paper's sums, term by term, and no pass that is not needed."""

from __future__ import annotations

import pytest
import torch

from egotwin_sim.diffusion import GuidanceScales, Noised, guide_t2vm, guide_tm2v, guide_tv2m
from egotwin_sim.diffusion.guidance import guide_shared


class Recorder:
    """A network whose answer encodes what it was asked, and which counts its passes."""

    def __init__(self) -> None:
        self.passes: list[tuple[float, float, bool]] = []

    def __call__(
        self, video: Noised, motion: Noised, text: bool, *, motion_only: bool = False
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        key = (float(video.timestep[0]), float(motion.timestep[0]), text)
        self.passes.append(key)
        return None if motion_only else self.video(*key), self.motion(*key)

    @staticmethod
    def video(t_v: float, t_m: float, text: bool) -> torch.Tensor:
        return torch.tensor([1.0 + t_v + t_m**1.5 + 50.0 * text])

    @staticmethod
    def motion(t_v: float, t_m: float, text: bool) -> torch.Tensor:
        return torch.tensor([2.0 + t_m + t_v**1.5 - 70.0 * text])


def state(timestep: float) -> Noised:
    return Noised(torch.zeros(1, 1, 1), torch.tensor([timestep]))


def test_tm2v_is_equation_3() -> None:
    model, f = Recorder(), Recorder.video
    out = guide_tm2v(model, state(40), state(0), state(1000), GuidanceScales(text=3.0, other=2.0))
    null, text, both = f(40, 1000, False), f(40, 1000, True), f(40, 0, True)
    torch.testing.assert_close(out, null + 3 * (text - null) + 2 * (both - text))
    assert len(model.passes) == 3


def test_tv2m_is_its_mirror() -> None:
    f = Recorder.motion
    out = guide_tv2m(Recorder(), state(0), state(40), state(1000), GuidanceScales(text=3.0, other=2.0))
    null, text, both = f(1000, 40, False), f(1000, 40, True), f(0, 40, True)
    torch.testing.assert_close(out, null + 3 * (text - null) + 2 * (both - text))


def test_t2vm_is_equation_4_in_five_passes() -> None:
    model, f, g = Recorder(), Recorder.video, Recorder.motion
    video, motion = guide_t2vm(
        model, state(40), state(60), state(1000), state(1000), GuidanceScales(3.0, 2.0), GuidanceScales(4.0, 1.5)
    )
    null, text, both = f(40, 1000, False), f(40, 1000, True), f(40, 60, True)
    torch.testing.assert_close(video, null + 3 * (text - null) + 2 * (both - text))
    null, text, both = g(1000, 60, False), g(1000, 60, True), g(40, 60, True)
    torch.testing.assert_close(motion, null + 4 * (text - null) + 1.5 * (both - text))
    assert len(model.passes) == 5


@pytest.mark.parametrize(("scales", "passes"), [(GuidanceScales(), 1), (GuidanceScales(2.0, 2.0), 2)])
def test_branches_of_weight_zero_are_not_computed(scales: GuidanceScales, passes: int) -> None:
    model = Recorder()
    guide_tm2v(model, state(40), state(0), state(1000), scales)
    assert len(model.passes) == passes


def test_with_one_timestep_only_the_text_guides() -> None:
    model, f, g = Recorder(), Recorder.video, Recorder.motion
    video, motion = guide_shared(model, state(40), state(40), 3.0, 2.0)
    torch.testing.assert_close(video, f(40, 40, False) + 3 * (f(40, 40, True) - f(40, 40, False)))
    torch.testing.assert_close(motion, g(40, 40, False) + 2 * (g(40, 40, True) - g(40, 40, False)))
    assert len(model.passes) == 2
    unguided = Recorder()
    assert torch.equal(guide_shared(unguided, state(40), state(40), 1.0, 1.0)[0], f(40, 40, True))
    assert len(unguided.passes) == 1
