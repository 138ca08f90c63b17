"""What the distances between pictures mind and what they let pass."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from egotwin_sim.training.pictures import edge_distribution_distance, gradient_distance, steepness_distance


def square(shift: int = 0, blur: int = 0) -> torch.Tensor:
    """A bright square (1, 3, 1, 64, 64), shifted to the right, or with soft outlines."""
    picture = -torch.ones(1, 3, 1, 64, 64)
    picture[..., 20:44, 20 + shift : 44 + shift] = 1
    if blur:
        size = 2 * blur + 1
        picture = F.avg_pool2d(F.pad(picture[:, :, 0], (blur,) * 4, mode="replicate"), size, stride=1)[:, :, None]
    return picture


def test_equal_pictures_have_no_distance() -> None:
    for distance in (gradient_distance, steepness_distance, edge_distribution_distance):
        assert distance(square(), square()) == 0


def test_a_soft_outline_is_dear_and_a_misplaced_one_cheap() -> None:
    assert steepness_distance(square(), square(1)) < 0.6 * steepness_distance(square(), square(blur=2))
    assert edge_distribution_distance(square(), square(1)) < 0.2 * edge_distribution_distance(square(), square(blur=2))


def test_the_tail_minds_the_steepest_edges() -> None:
    """Faint texture everywhere costs less, a lost outline more, when the steepest gradients weigh more."""
    noise = 0.02 * torch.randn(1, 3, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    def share(tail: float) -> torch.Tensor:
        lost = edge_distribution_distance(square(blur=2), square(), tail=tail)
        return edge_distribution_distance(square() + noise, square(), tail=tail) / lost

    assert share(8.0) < 0.7 * share(0.0)


def test_a_smear_is_pulled_towards_edges() -> None:
    smear = square(blur=6).requires_grad_()
    edge_distribution_distance(smear, square()).backward()
    assert smear.grad is not None and smear.grad.isfinite().all() and smear.grad.abs().sum() > 0
    with torch.no_grad():
        sharper = smear - 20 * smear.grad
    assert edge_distribution_distance(sharper, square()) < edge_distribution_distance(smear.detach(), square())
