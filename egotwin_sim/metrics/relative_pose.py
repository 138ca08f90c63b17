"""The motion of a camera between two frames, from where places moved in the picture and how far away they are.

Weighted least squares on the reprojection error (Hartley and Zisserman, "Multiple View Geometry", 2nd edition,
appendix 6), by Gauss-Newton steps on SE(3). Everything is differentiable, so that a network can be trained through it
to say which places to trust.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.models.motion_geometry import invert

STEPS = 4
DAMPING = 1e-3  # of the normal equations' diagonal; keeps a view without texture solvable
NEAREST = 0.05  # metres; a point is not projected from nearer, where the error has no bound


def skew(v: Tensor) -> Tensor:
    """Cross-product matrices (..., 3, 3) of vectors (..., 3)."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def rotation_of(axis_angle: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3), radians (Rodrigues)."""
    angle = torch.linalg.vector_norm(axis_angle, dim=-1)[..., None, None].clamp_min(1e-8)
    k = skew(axis_angle) / angle
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + torch.sin(angle) * k + (1 - torch.cos(angle)) * (k @ k)


def transform(T: Tensor, points: Tensor) -> Tensor:
    """Points (B, P, 3) moved by rigid transforms (B, 4, 4)."""
    return points @ T[:, :3, :3].mT + T[:, None, :3, 3]


def _rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device).expand_as(top[..., :1, :])
    return torch.cat([top, bottom], dim=-2)


def project(points: Tensor) -> Tensor:
    """Normalised picture coordinates (..., 2) of points (..., 3) in the optical frame."""
    return points[..., :2] / points[..., 2:].clamp_min(NEAREST)


def _projection_jacobian(points: Tensor) -> Tensor:
    """Derivative (..., 2, 3) of `project`."""
    inverse_z = 1 / points[..., 2].clamp_min(NEAREST)
    x, y = (points[..., :2] * inverse_z[..., None]).unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([inverse_z, zero, -x * inverse_z, zero, inverse_z, -y * inverse_z], dim=-1)
    return rows.unflatten(-1, (2, 3))


def _pull(T: Tensor, points: Tensor, seen: Tensor, weights: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """Normal equations (B, 6, 6) and (B, 6) for a left perturbation (translation, rotation) of T.

    `points` are seen at `seen` after T; with `back`, they stand in the other frame and are seen after its inverse.
    """
    moved = transform(invert(T) if back else T, points)
    turning = points if back else moved
    eye = torch.eye(3, dtype=T.dtype, device=T.device).expand(*points.shape, 3)
    change = torch.cat([eye, -skew(turning)], dim=-1)  # (B, P, 3, 6)
    if back:
        change = -(T[:, None, :3, :3].mT @ change)
    jacobian = _projection_jacobian(moved) @ change  # (B, P, 2, 6)
    ahead = (moved[..., 2] > NEAREST).to(weights.dtype)[..., None]
    weighted = (jacobian * (weights * ahead)[..., None]).flatten(1, 2)
    residual = (seen - project(moved)).flatten(1, 2)
    return weighted.mT @ jacobian.flatten(1, 2), (weighted.mT @ residual[..., None])[..., 0]


def solve_motion(
    points_a: Tensor, points_b: Tensor, seen_in_b: Tensor, seen_in_a: Tensor, weights_a: Tensor, weights_b: Tensor
) -> Tensor:
    """The motion that explains best where the points of both frames are seen in the other one.

    The steps before the last one carry no gradient: at the solution the last one alone has the right derivative.

    Args:
        points_a: (B, P, 3) points of frame a in its optical frame, metres.
        points_b: (B, P, 3) those of frame b.
        seen_in_b: (B, P, 2) where the points of a are seen in b, normalised picture coordinates (x/z, y/z).
        seen_in_a: (B, P, 2) where the points of b are seen in a.
        weights_a: (B, P, 2) trust in each coordinate of `seen_in_b`, not negative.
        weights_b: (B, P, 2) of `seen_in_a`.

    Returns:
        T_b_a (B, 4, 4): maps a's optical frame to b's, metres.
    """
    T = torch.eye(4, dtype=points_a.dtype, device=points_a.device).expand(len(points_a), 4, 4)
    for step in range(STEPS):
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == STEPS - 1):
            forth = _pull(T, points_a, seen_in_b, weights_a, back=False)
            back = _pull(T, points_b, seen_in_a, weights_b, back=True)
            normal, gradient = forth[0] + back[0], forth[1] + back[1]
            diagonal = torch.diagonal(normal, dim1=-2, dim2=-1)
            damped = normal + torch.diag_embed(DAMPING * diagonal + 1e-6)
            change = torch.linalg.solve(damped, gradient)
            T = _rigid(rotation_of(change[:, 3:]), change[:, :3]) @ T
    return T


def reprojection(T: Tensor, points: Tensor, seen: Tensor, K: Tensor) -> Tensor:
    """Distance (B, P) between where points are seen and where a motion puts them, in units of `K` (fx, fy, cx, cy)."""
    return torch.linalg.vector_norm((seen - project(transform(T, points))) * K[:2], dim=-1)


def rotation_distance(a: Tensor, b: Tensor) -> Tensor:
    """Angle (...), radians, between rotations (..., 3, 3), from the chordal distance: exact and smooth near zero."""
    chord = (a - b).square().sum((-2, -1)).clamp_min(1e-12).sqrt()
    return 2 * torch.asin((chord / 8**0.5).clamp(max=1 - 1e-6))


def unit_rays(size: int, K: Tensor) -> Tensor:
    """Directions (size * size, 3), z = 1, of a grid of places.

    Args:
        size: places per side; each is the middle of its cell.
        K: (4,) focal lengths and principal point (fx, fy, cx, cy) in units of the picture's width and height.
    """
    line = (torch.arange(size, dtype=K.dtype, device=K.device) + 0.5) / size
    v, u = torch.meshgrid(line, line, indexing="ij")
    x, y = (u - K[2]) / K[0], (v - K[3]) / K[1]
    return F.pad(torch.stack([x, y], dim=-1).flatten(0, 1), (0, 1), value=1.0)
