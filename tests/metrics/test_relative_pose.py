"""The least-squares motion between two views: exact on true displacements, and steered by trust."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from egotwin_sim.metrics.relative_pose import (
    project,
    rotation_distance,
    rotation_of,
    solve_motion,
    transform,
    unit_rays,
)
from egotwin_sim.models.motion_geometry import invert

K = torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)


def pose(turn: list[float], shift: list[float]) -> Tensor:
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = rotation_of(torch.tensor(turn, dtype=torch.float64)), torch.tensor(shift, dtype=torch.float64)
    return T


@pytest.fixture
def scene() -> tuple[Tensor, Tensor, Tensor]:
    """True motions (2, 4, 4) and what two cameras see of a random depth."""
    generator = torch.Generator().manual_seed(0)
    T = torch.stack([pose([0.05, -0.2, 0.03], [0.05, 0.02, -0.1]), pose([0.0, 0.3, 0.0], [0.0, 0.0, 0.0])])
    rays = unit_rays(16, K)
    depth = 1 + 3 * torch.rand(2, 2, len(rays), 1, generator=generator, dtype=torch.float64)
    return T, rays * depth[0], rays * depth[1]


def test_true_displacements_give_the_true_motion(scene: tuple[Tensor, Tensor, Tensor]) -> None:
    T, a, b = scene
    trust = torch.ones(*a.shape[:2], 2, dtype=torch.float64)
    found = solve_motion(a, b, project(transform(T, a)), project(transform(invert(T), b)), trust, trust)
    torch.testing.assert_close(found, T, atol=1e-4, rtol=0)


def test_places_without_trust_do_not_count_and_the_gradient_says_so(scene: tuple[Tensor, Tensor, Tensor]) -> None:
    T, a, b = scene
    seen = project(transform(T, a))
    wrong = seen.clone()
    wrong[:, ::4] += 0.5
    trust = torch.ones_like(seen)
    trust[:, ::4] = 1e-6
    told = (a, b, wrong, project(transform(invert(T), b)))
    torch.testing.assert_close(solve_motion(*told, trust, torch.ones_like(seen)), T, atol=1e-3, rtol=0)
    even = torch.ones_like(seen).requires_grad_()
    error = (solve_motion(*told, even, torch.ones_like(seen)) - T).square().sum()
    (gradient,) = torch.autograd.grad(error, even)
    # More trust in the wrong places makes the error larger, in the right ones smaller.
    assert gradient[:, ::4].mean() > 0 > gradient[:, 1::4].mean()


def test_small_angles_have_a_gradient() -> None:
    turn = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rotation = rotation_of(turn)
    torch.testing.assert_close(rotation, torch.eye(3, dtype=torch.float64))
    distance = rotation_distance(rotation_of(torch.tensor([0.0, 0.0, 0.2])), torch.eye(3))
    assert float(distance) == pytest.approx(0.2, abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(rotation[0, 1], turn)[0]).all()


def test_rays_of_a_wide_picture() -> None:
    rays = unit_rays(2, torch.tensor([1.0, 0.5, 0.5, 0.25]))
    torch.testing.assert_close(
        rays, torch.tensor([[-0.25, 0.0, 1.0], [0.25, 0.0, 1.0], [-0.25, 1.0, 1.0], [0.25, 1.0, 1.0]])
    )
