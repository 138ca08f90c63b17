"""Depth from colours and pose: what the pose alone says must be right."""

from __future__ import annotations

import math

import pytest
import torch

from egotwin_sim.models.depth import DepthNet, depth_to_unit, plane_depths, unit_to_depth

FOVY = math.pi / 2


def head(height: float, pitch: float = 0.0) -> torch.Tensor:
    """A head pose (1, 4, 4) at a height in metres that looks down by a pitch in radians."""
    T = torch.eye(4)
    T[0, 0], T[0, 2], T[2, 0], T[2, 2] = math.cos(pitch), math.sin(pitch), -math.sin(pitch), math.cos(pitch)
    T[2, 3] = height
    return T[None]


def test_depth_round_trip() -> None:
    depth = torch.tensor([0.1, 0.5, 2.0, 10.0])
    torch.testing.assert_close(unit_to_depth(depth_to_unit(depth)), depth)
    assert float(depth_to_unit(torch.tensor(0.1))) == -1
    assert float(depth_to_unit(torch.tensor(10.0))) == pytest.approx(1)


def test_the_floor_is_as_far_as_geometry_says() -> None:
    planes = plane_depths(head(1.6), (64, 64), FOVY)
    # A level camera with a focal length of 32 pixels: row r lies (r + 0.5 - 32) / 32 below the axis.
    for row in (40, 50, 63):
        expected = 1.6 / ((row + 0.5 - 32) / 32)
        assert float(unit_to_depth(planes[0, 0, row, 10])) == pytest.approx(min(expected, 10.0), rel=1e-4)
    assert planes[0, 1, 63, 32] < 0 < planes[0, 1, 0, 32]


def test_looking_down_brings_the_floor_closer() -> None:
    level, down = (plane_depths(head(1.6, pitch), (64, 64), FOVY) for pitch in (0.0, 0.6))
    assert float(unit_to_depth(down[0, 0, 40, 32])) < float(unit_to_depth(level[0, 0, 40, 32]))
    middle = float(unit_to_depth(down[0, 0, 31:33, 31:33].mean()))
    assert middle == pytest.approx(1.6 / math.sin(0.6), rel=0.02)


def test_every_part_learns() -> None:
    torch.manual_seed(0)
    net = DepthNet((8, 8, 8, 8))
    for parameter in net.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.05)
    depth = net(torch.randn(2, 3, 64, 64), torch.cat([head(1.6), head(1.2, 0.3)]), FOVY)
    assert depth.shape == (2, 64, 64)
    depth.square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
