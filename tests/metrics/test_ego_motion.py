"""The learned recovery: what it gives back, what it refuses, and how exact the shipped weights are in a room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egotwin_sim.data import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.consistency import judge_trajectory
from egotwin_sim.metrics.ego_motion import EgoMotion, at_network_size, unit_intrinsics
from egotwin_sim.metrics.ego_motion_net import GRID, SIZE, EgoMotionNet

CAMERA = Camera.from_fovy(np.pi / 2, SIZE, SIZE, np.eye(4))


@pytest.fixture(scope="module")
def shipped() -> EgoMotion:
    return EgoMotion.from_pretrained("nano")


def test_views_and_pairs_have_the_stated_shapes() -> None:
    torch.manual_seed(0)
    net = EgoMotionNet(channels=(8, 8, 8), descriptor=6, context=4).eval()
    view = net.view(torch.rand(3, 3, SIZE, SIZE) * 2 - 1)
    assert view.descriptors.shape == (3, 6, GRID * GRID) and view.context.shape == (3, 4, GRID, GRID)
    torch.testing.assert_close(view.descriptors.norm(dim=1), torch.ones(3, GRID * GRID))
    assert view.unit_depth.shape == (3, GRID * GRID)
    first, second = torch.tensor([0, 1]), torch.tensor([1, 2])
    told = net(view.at(first), view.at(second), unit_intrinsics(CAMERA, SIZE, SIZE))
    assert told.T_b_a.shape == (2, 4, 4) and told.inliers.shape == (2,)
    assert told.forth.flow.shape == told.back.trust.shape == (2, GRID * GRID, 2)
    assert (told.forth.trust > 0).all() and ((told.inliers >= 0) & (told.inliers <= 1)).all()


def test_the_order_of_two_frames_inverts_the_motion() -> None:
    torch.manual_seed(0)
    net = EgoMotionNet(channels=(8, 8, 8), descriptor=6, context=4).eval()
    torch.nn.init.normal_(net.judge[-1].weight, std=0.1)
    K = unit_intrinsics(CAMERA, SIZE, SIZE)
    with torch.no_grad():
        view = net.view(torch.rand(2, 3, SIZE, SIZE) * 2 - 1)
        one, other = view.at(torch.tensor([0])), view.at(torch.tensor([1]))
        forth, back = net(one, other, K), net(other, one, K)
    torch.testing.assert_close(forth.forth.flow, back.back.flow, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(forth.inliers, back.inliers)


def test_pictures_of_other_sizes() -> None:
    frames = torch.arange(2 * 3 * 64 * 96, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 3, 64, 96)
    assert at_network_size(frames).shape == (2, 3, SIZE, SIZE) and at_network_size(frames).dtype == torch.uint8
    K = unit_intrinsics(Camera(np.array([[48.0, 0, 40], [0, 64, 32], [0, 0, 1]]), np.eye(4)), 64, 96)
    torch.testing.assert_close(K, torch.tensor([0.5, 1.0, 40 / 96, 0.5]))


def test_what_is_no_head_and_no_video(tmp_path: Path, shipped: EgoMotion) -> None:
    with pytest.raises(UserError, match="egotwin train ego-motion"):
        EgoMotion.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="uint8"):
        shipped.recover(np.zeros((4, 8, 8, 3)), CAMERA, 8.0)
    with pytest.raises(UserError, match="fps is 0"):
        shipped.recover(np.zeros((4, 8, 8, 3), np.uint8), CAMERA, 0.0)


def test_one_frame_and_frames_without_relation_are_not_recovered(shipped: EgoMotion, rng: np.random.Generator) -> None:
    assert not shipped.recover(np.zeros((1, SIZE, SIZE, 3), np.uint8), CAMERA, 8.0).recovered.any()
    noise = rng.integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    found = shipped.recover(noise, CAMERA, 8.0)
    assert found.recovered.mean() < 0.5 and found.inliers is not None and found.inliers < 0.4


def test_a_walk_through_a_room(filmed_walk, shipped: EgoMotion) -> None:
    found = shipped.recover(filmed_walk.video, filmed_walk.camera, 8.0)  # 320 pixels, brought to 128
    judged = judge_trajectory(found, filmed_walk.T_world_camera, metric=shipped.metric)
    assert judged.recovered and judged.registered > 0.9
    assert judged.rot_err is not None and np.rad2deg(judged.rot_err) < 8.0
    assert judged.trans_err_m is not None and judged.trans_err_m < 0.15 * judged.extent_m
    assert judged.metric_trans_err_m is not None and judged.metric_trans_err_m < 0.35 * judged.extent_m
    assert "ego-motion head" in shipped.name
