"""Batches in parts: every sample keeps its random numbers, and means over a part of the samples stay means of all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Skeleton
from egotwin_sim.training.denoising import DenoisingConfig, denoising_loss, masked_mean
from egotwin_sim.training.parts import Part, PartGenerator, draw_normal, draw_rows, whole_draw
from egotwin_sim.training.stages.motion_vae import MotionVAELossConfig, motion_vae_loss
from egotwin_sim.training.stages.text_motion import TextMotionStageConfig, text_motion_loss
from egotwin_sim.training.stages.video_vae import VideoVAEStageConfig, video_vae_loss
from egotwin_sim.training.trainer import batch_indices, step_generator
from tests.tiny import SIZE, standing, tiny_motion_vae, tiny_video_vae
from tests.training import together

SIZES = (1, 2, 4)


def parts(count: int) -> list[PartGenerator]:
    return [step_generator(3, 5, part=Part(index, count)) for index in range(count)]


@pytest.mark.parametrize("count", SIZES)
def test_parts_meet_the_noise_of_the_whole_batch(count: int) -> None:
    whole = step_generator(3, 5)
    first = draw_normal((4, 3), whole)
    shared = whole_draw(4, whole, lambda _, source: torch.randint(0, 100, (2,), generator=source))
    second = draw_rows(4, whole, lambda n, source: torch.rand(2, n, generator=source), dim=1)
    seen: list[list[Tensor]] = [[], []]
    for generator in parts(count):
        seen[0].append(draw_normal((4 // count, 3), generator))
        drawn = whole_draw(4 // count, generator, lambda _, source: torch.randint(0, 100, (2,), generator=source))
        assert torch.equal(drawn, shared)
        seen[1].append(draw_rows(4 // count, generator, lambda n, source: torch.rand(2, n, generator=source), dim=1))
    assert torch.equal(torch.cat(seen[0]), first) and torch.equal(torch.cat(seen[1], dim=1), second)


def test_parts_have_numbers_of_their_own_where_they_are_drawn_directly() -> None:
    numbers = {tuple(torch.randn(3, generator=generator).tolist()) for generator in parts(4)}
    assert len(numbers) == 4


def test_indices_of_parts_are_those_of_the_batch() -> None:
    whole = batch_indices(10, 4, seed=1, step=7)
    assert [int(i) for index in range(2) for i in batch_indices(10, 4, 1, 7, Part(index, 2))] == whole.tolist()
    with pytest.raises(UserError, match="a batch of 4 cannot be dealt out to 3"):
        batch_indices(10, 4, 1, 7, Part(0, 3))


def test_mean_over_kept_entries_is_that_of_the_whole_batch_however_they_are_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    error, keep = torch.randn(4, 3, 2, generator=generator), torch.zeros(4, 3, dtype=torch.bool)
    keep[0], keep[3, 1] = True, True  # the second quarter has none at all
    halves = [masked_mean(error[rows], keep[rows], keep) for rows in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), masked_mean(error, keep))


def assert_mean_of_parts(loss: Callable[..., Tensor], whole: dict[str, Tensor] | Tensor) -> None:
    """A loss of (batch, generator) over a batch of 4 is the mean of those of its parts."""

    def rows(part: Part) -> dict[str, Tensor] | Tensor:
        if isinstance(whole, Tensor):
            return whole[part.rows(len(whole))]
        return {name: value if name == "positions" else value[part.rows(len(value))] for name, value in whole.items()}

    expected = float(loss(whole, step_generator(3, 5)).detach())
    for count in SIZES[1:]:
        found = [float(loss(rows(generator.part), generator).detach()) for generator in parts(count)]
        assert sum(found) / count == pytest.approx(expected, rel=1e-5)
        assert len(set(found)) == count


def test_denoising_and_text_motion() -> None:
    model, schedule = together.transformer(), NoiseSchedule()
    batch = together.batch(together.CONFIG, 0, Part())
    config = DenoisingConfig(motion_given=0.4, text_dropout=0.3)
    assert_mean_of_parts(lambda b, g: denoising_loss(model, schedule, b, together.NULL, config, g)[0], batch)
    text = TextMotionStageConfig(text_dropout=0.3)
    assert_mean_of_parts(lambda b, g: text_motion_loss(model, schedule, b, together.NULL, text, g)[0], batch)


def test_video_and_motion_autoencoders() -> None:
    torch.manual_seed(0)
    video, motion = tiny_video_vae(), tiny_motion_vae()
    pictures = torch.randint(0, 256, (4, 3, 8, SIZE, SIZE), dtype=torch.uint8)
    config = VideoVAEStageConfig()
    assert_mean_of_parts(lambda b, g: video_vae_loss(video, {"video": b}, config, g)[0], pictures)
    chunks = torch.from_numpy(standing()) + 0.01 * torch.randn(4, 2, 9, 282)
    weights = MotionVAELossConfig(kl=1e-2)
    assert_mean_of_parts(lambda b, g: motion_vae_loss(motion, b, weights, g, Skeleton.default())[0], chunks)
