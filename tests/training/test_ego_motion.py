"""The stage of the ego-motion head: its losses on true answers, its augmentations, a run at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.room import generate_room_dataset
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.ego_motion_net import GRID, SIZE, Displacement
from egotwin_sim.metrics.relative_pose import project, rotation_of, transform, unit_rays
from egotwin_sim.models.depth import unit_to_depth
from egotwin_sim.models.motion_geometry import invert
from egotwin_sim.training.config import load_config
from egotwin_sim.training.parts import Part
from egotwin_sim.training.stages.ego_motion import (
    PAIRS,
    WINDOW,
    EgoFrames,
    EgoMotionStageConfig,
    blurred,
    mirrored,
    pair_rows,
    place_losses,
    run,
)
from egotwin_sim.training.trainer import TrainerConfig
from tests.tiny import tiny_video_vae

K = torch.tensor([0.5, 0.5, 0.5, 0.5])
P = GRID * GRID


def pose(turn: list[float], shift: list[float]) -> Tensor:
    T = torch.eye(4)
    T[:3, :3], T[:3, 3] = rotation_of(torch.tensor(turn)), torch.tensor(shift)
    return T


def true_flow(T: Tensor, depth: Tensor) -> Tensor:
    rays = unit_rays(GRID, K)
    return (project(transform(T, rays * unit_to_depth(depth)[..., None])) - rays[:, :2]) * K[:2]


def test_true_displacements_cost_nothing_and_hidden_places_do_not_count() -> None:
    # A plane two metres ahead, seen by a camera that moves a quarter of a metre to the side: all of one depth.
    depth = torch.full((1, P), 2 * np.log(2.0 / 0.1) / np.log(100.0) - 1.0)
    T = pose([0.0, 0.0, 0.0], [-0.25, 0.0, 0.0])[None]
    descriptors = torch.nn.functional.normalize(torch.randn(1, 8, P, generator=torch.Generator().manual_seed(0)), dim=1)
    flow = true_flow(T, depth)
    told = Displacement(flow, torch.ones_like(flow), torch.zeros(1, P))
    arguments = (descriptors, descriptors, torch.tensor(10.0), depth, depth, T, K)
    distance, unlikely = place_losses(told, *arguments)
    assert float(distance) == pytest.approx(0.0, abs=1e-4) and float(unlikely) > 0
    # The plane moves by 0.25 / 2 * 0.5 of the picture, which is two places: descriptors moved so are the likeliest.
    shifted = descriptors.unflatten(2, (GRID, GRID)).roll(-2, dims=-1).flatten(2)
    _, likely = place_losses(told, descriptors, shifted, *arguments[2:])
    assert float(likely) == pytest.approx(0.0, abs=1e-3)
    # One pixel off in one coordinate everywhere is one pixel of distance.
    off = told._replace(flow=flow + torch.tensor([1.0 / SIZE, 0.0]))
    assert float(place_losses(off, *arguments)[0]) == pytest.approx(1.0, abs=1e-3)
    # Where the other frame shows something nearer, the place is hidden, or has moved by itself.
    near = depth.unflatten(1, (GRID, GRID)).clone()
    near[..., : GRID // 2] -= 0.5
    wrong = told._replace(flow=torch.where(torch.arange(P)[:, None] % GRID < GRID // 2 + 2, flow + 1.0, flow))
    hidden = place_losses(wrong, *arguments[:4], near.flatten(1), T, K)
    assert float(hidden[0]) == pytest.approx(0.0, abs=1e-4)


def test_a_mirror_turns_the_camera_the_other_way() -> None:
    poses = torch.stack([torch.eye(4), pose([0.1, 0.3, -0.05], [0.2, -0.1, 0.4])])
    batch = {
        "frames": torch.arange(2 * 2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 2, 3, 4, 4),
        "depth": torch.rand(2, 2, P, generator=torch.Generator().manual_seed(0)),
        "poses": poses.expand(2, 2, 4, 4),
    }
    seen = mirrored(batch, torch.tensor([True, False]))
    for name in batch:
        torch.testing.assert_close(seen[name][1], batch[name][1])
    torch.testing.assert_close(seen["frames"][0], batch["frames"][0].flip(-1))
    # The mirrored camera sees the mirrored displacements of the mirrored depth.
    T, T_mirror = (invert(each["poses"][0, 1]) @ each["poses"][0, 0] for each in (batch, seen))
    flow = true_flow(T[None], batch["depth"][0, :1]).unflatten(1, (GRID, GRID))
    flow_mirror = true_flow(T_mirror[None], seen["depth"][0, :1]).unflatten(1, (GRID, GRID))
    torch.testing.assert_close(flow_mirror, flow.flip(2) * torch.tensor([-1.0, 1.0]), atol=1e-5, rtol=1e-4)


def test_pairs_of_windows_and_blur() -> None:
    before, after = pair_rows(2)
    assert before.tolist() == [a for a, _ in PAIRS] + [WINDOW + a for a, _ in PAIRS]
    assert after.tolist() == [b for _, b in PAIRS] + [WINDOW + b for _, b in PAIRS]
    frames = torch.zeros(2, WINDOW, 3, 8, 8, dtype=torch.uint8)
    frames[..., 4, 4] = 90
    soft = blurred(frames, torch.tensor([True, False]))
    assert float(soft[0, 0, 0, 3, 3]) == pytest.approx(10.0) and float(soft[1, 0, 0, 3, 3]) == 0.0


def test_stretches_are_whole_latents() -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        EgoMotionStageConfig(stretch=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_room_dataset(
        tmp_path_factory.mktemp("data") / "room", clips=8, seed=5, workers=1, size=64, seconds=2.0
    )


@pytest.mark.slow
def test_windows_of_the_data(data: Path) -> None:
    reader = LeRobotReader(data)
    config = EgoMotionStageConfig(TrainerConfig(batch_size=4), stretch=8, coded=0.5)
    clips = np.array(reader.split("train"))[:4]
    frames = EgoFrames(reader, clips, tiny_video_vae(), config, "")
    plain = EgoFrames(reader, clips, None, config, "")
    same = [bool((a == b).all()) for a, b in zip(frames.frames, plain.frames, strict=True)]
    assert same == [True, False, True, False]  # every second stretch went through the video VAE
    whole = frames.training_batch(3, config.trainer)
    assert whole["frames"].shape == (4, WINDOW, 3, SIZE, SIZE) and whole["depth"].shape == (4, WINDOW, P)
    halves = [frames.training_batch(3, config.trainer, Part(i, 2)) for i in range(2)]
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([half[name] for half in halves]), value)
    # The first pose of the stretch is the head camera's at that frame of the clip.
    start = int(np.random.default_rng((0, int(clips[0]))).integers(0, reader.length(int(clips[0])) - 8 + 1))
    head = reader.motion(int(clips[0])).T_world_head()[2 * start] @ reader.camera.T_head_camera
    np.testing.assert_allclose(frames.poses[0, 0].numpy(), head, atol=1e-6)
    with pytest.raises(UserError, match="a stretch needs 20"):
        EgoFrames(reader, clips, None, EgoMotionStageConfig(stretch=20), "")


@pytest.mark.slow
def test_a_run_at_toy_size(data: Path, tmp_path: Path) -> None:
    from egotwin_sim.metrics.ego_motion import EgoMotion

    config = load_config("nano")
    config["models"]["ego_motion"] = {"channels": [8, 8, 8]}
    config["stages"]["ego_motion"] |= {
        "clips": 4, "stretch": 8,
        "trainer": {"steps": 2, "batch_size": 2, "validate_every": 2, "checkpoint_steps": 1, "log_every": 1},
    }  # fmt: skip
    with pytest.raises(UserError, match="train that stage first"):
        run(config, data, tmp_path / "out", resume=False, steps=None, init=None)
    tiny_video_vae().save_pretrained(tmp_path / "video_vae")
    run(config, data, tmp_path / "out", resume=False, steps=None, init=tmp_path)
    records = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "train"] == [1, 2]
    assert {"turn_deg", "shift_mm", "inliers"} < set(records[-1])
    run(config, data, tmp_path / "out", resume=True, steps=3, init=tmp_path)
    reader = LeRobotReader(data)
    clip = reader.clip(0, depth=False)
    found = EgoMotion.from_pretrained(tmp_path / "out").recover(clip.video, clip.camera, clip.fps)
    assert len(found) == len(clip.video)
