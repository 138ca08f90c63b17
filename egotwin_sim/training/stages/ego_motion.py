"""The learned ego-motion head of the consistency metrics: how the camera moved between two frames, in metres."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.data import LeRobotReader
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.ego_motion import at_network_size, unit_intrinsics
from egotwin_sim.metrics.ego_motion_net import GRID, SIZE, Displacement, EgoMotionNet, PairMotion, View
from egotwin_sim.metrics.relative_pose import NEAREST, project, rotation_distance, transform, unit_rays
from egotwin_sim.models.depth import depth_to_unit, unit_to_depth
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.models.motion_geometry import invert
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE
from egotwin_sim.training.components import load_component
from egotwin_sim.training.config import build, section
from egotwin_sim.training.parts import WHOLE, Part, draw_rows
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices

WINDOW = 4  # frames of a sample
PAIRS = ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))  # of a window: 1, 2 and 3 frames apart
VALIDATION_CLIPS = 48
DEPTH_AGREEMENT = 0.08  # of logarithmic depth; what has moved by itself, or is hidden, differs by more
ROTATION_SCALE = 0.02  # radians: an error that weighs as much as
TRANSLATION_SCALE = 0.02  # metres
CENTRED = 1e-3  # of the picture's width; a mirrored picture has the camera's intrinsics only where these are centred


@dataclass(frozen=True)
class EgoMotionStageConfig:
    """What the head is trained on, and what the loss weighs.

    Attributes:
        trainer: the optimisation; a sample of a batch is a window of four frames.
        clips: clips that are used, from all over the training split.
        stretch: successive frames that are kept of each, a multiple of four.
        coded: share of the clips whose frames go through the video VAE and back, as a dream's do.
        blurred: share of the windows that are blurred, as a dream is where it is unsure.
        flow_weight: of the L1 distance of the displacements, in pixels of 128.
        match_weight: of the negative log likelihood of the true place in the other frame.
        depth_weight: of the L1 distance of the logarithmic depth.
        motion_weight: of the motion's error.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    clips: int = 1200
    stretch: int = 12
    coded: float = 0.5
    blurred: float = 0.25
    flow_weight: float = 1.0
    match_weight: float = 1.0
    depth_weight: float = 12.0
    motion_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse stretches that cannot be coded."""
        if self.stretch < FRAMES_PER_LATENT or self.stretch % FRAMES_PER_LATENT:
            raise UserError(f"stretch is {self.stretch}; expected a positive multiple of {FRAMES_PER_LATENT} frames")


class EgoFrames:
    """Stretches of clips in memory: frames, depth of each place, camera poses.

    Args:
        reader: a data set with depth.
        clips: (N,) episodes.
        vae: codes the share `config.coded` of them; none when None.
        config: the stage's.
        title: of the progress bar.

    Raises:
        UserError: the data have no depth, or a clip is shorter than a stretch.
    """

    def __init__(
        self, reader: LeRobotReader, clips: np.ndarray, vae: VideoVAE | None, config: EgoMotionStageConfig, title: str
    ) -> None:
        if not reader.has_depth:
            raise UserError(f"{reader.root} has no depth, which the ego-motion head learns from: make data with depth")
        frames, depth, poses = [], [], []
        for n, clip in enumerate(track(clips.tolist(), description=title)):
            if reader.length(clip) < config.stretch:
                raise UserError(f"clip {clip} of {reader.root} has {reader.length(clip)} frames, a stretch needs "
                                f"{config.stretch}: make longer clips, or set stages.ego_motion.stretch")  # fmt: skip
            rng = np.random.default_rng((config.trainer.seed, clip))
            start = int(rng.integers(0, reader.length(clip) - config.stretch + 1))
            stop = start + config.stretch
            seen = torch.from_numpy(reader.frames(clip, start, stop)).permute(0, 3, 1, 2)
            # So that the share holds for every beginning of the list: coded where the count of coded ones grows.
            if vae is not None and int((n + 1) * config.coded) > int(n * config.coded):
                seen = _coded(vae, seen)
            frames.append(at_network_size(seen))
            depth.append(_at_places(torch.from_numpy(reader.depth(clip, start, stop))))
            head = reader.motion(clip, start, stop).T_world_head()[:: reader.motion_per_frame]
            poses.append(torch.from_numpy(head @ reader.camera.T_head_camera).float())
        self.frames, self.depth, self.poses = torch.stack(frames), torch.stack(depth), torch.stack(poses)

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, rows: np.ndarray, starts: np.ndarray) -> dict[str, Tensor]:
        """Windows: frames uint8 (B, W, 3, SIZE, SIZE), logarithmic depth (B, W, P), T_world_camera (B, W, 4, 4)."""
        index = torch.from_numpy(rows)[:, None], torch.from_numpy(starts[:, None] + np.arange(WINDOW))
        return {"frames": self.frames[index], "depth": self.depth[index].float(), "poses": self.poses[index]}

    def training_batch(self, step: int, config: TrainerConfig, part: Part = WHOLE) -> dict[str, Tensor]:
        """Windows from anywhere in the stretches, a function of the step and the part of its batch."""
        rng = np.random.default_rng((config.seed, step, 1))
        starts = rng.integers(0, self.frames.shape[1] - WINDOW + 1, config.batch_size)
        rows = batch_indices(len(self), config.batch_size, config.seed, step, part)
        return self.batch(rows, starts[part.rows(config.batch_size)])


@torch.no_grad()
def _coded(vae: VideoVAE, frames: Tensor) -> Tensor:
    """Frames uint8 (T, 3, H, W) through the video VAE and back."""
    chunks = image_to_unit(frames).unflatten(0, (-1, FRAMES_PER_LATENT)).transpose(1, 2)
    with torch.autocast(vae.device.type, torch.bfloat16):
        latents = vae.encode_chunks(chunks.to(vae.device))
        decoded = vae.decode(latents.transpose(0, 1)[None])[0][0]
    return unit_to_image(decoded.float().transpose(1, 2).flatten(0, 1)).cpu()


def _at_places(depth: Tensor) -> Tensor:
    """Logarithmic depth (T, P), half precision, in the middle of each place, of depth (T, H, W) in metres."""
    line = (2 * torch.arange(GRID) + 1) / GRID - 1
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).expand(len(depth), -1, -1, -1)
    return F.grid_sample(depth_to_unit(depth)[:, None], grid, align_corners=False).flatten(1).half()


def pair_rows(windows: int) -> tuple[Tensor, Tensor]:
    """Rows of both frames of all `PAIRS` of windows whose frames lie one after the other."""
    pairs = torch.tensor(PAIRS) + WINDOW * torch.arange(windows)[:, None, None]
    return pairs[..., 0].flatten(), pairs[..., 1].flatten()


def window_motion(net: EgoMotionNet, frames: Tensor, K: Tensor) -> tuple[View, PairMotion]:
    """What is seen in windows (B, W, 3, SIZE, SIZE), 0 to 255, and the motions of their `PAIRS`."""
    view = net.view(image_to_unit(frames.flatten(0, 1)))
    before, after = pair_rows(len(frames))
    return view, net(view.at(before), view.at(after), K)


def mirrored(batch: dict[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    """Windows as a mirror shows them where `which` (B,) is true: left and right exchanged, in pictures and poses."""
    side = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], device=which.device))
    depth = batch["depth"].unflatten(2, (GRID, GRID)).flip(-1).flatten(2)
    choose = which[:, None, None]
    return {
        "frames": torch.where(choose[..., None, None], batch["frames"].flip(-1), batch["frames"]),
        "depth": torch.where(choose, depth, batch["depth"]),
        "poses": torch.where(choose[..., None], side @ batch["poses"] @ side, batch["poses"]),
    }


def blurred(frames: Tensor, which: Tensor) -> Tensor:
    """Windows (B, W, 3, H, W), as float, averaged over 3 x 3 pixels where `which` (B,) is true."""
    sharp = frames.float()
    soft = F.avg_pool2d(sharp.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False).view_as(sharp)
    return torch.where(which[:, None, None, None, None], soft, sharp)


def ego_motion_loss(
    net: EgoMotionNet, batch: dict[str, Tensor], K: Tensor, config: EgoMotionStageConfig, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Displacements, matches, depth and motion against the true ones."""
    chance = draw_rows(
        len(batch["frames"]),
        generator,
        lambda count, source: torch.rand(count, 2, generator=source, device=source.device),
    )
    before, after = pair_rows(len(batch["frames"]))
    with torch.autocast(generator.device.type, enabled=False):  # geometry needs its digits
        if abs(float(K[2]) - 0.5) < CENTRED:
            batch = mirrored(batch, chance[:, 0] < 0.5)
        depth, poses = batch["depth"].flatten(0, 1), batch["poses"].flatten(0, 1)
        T_b_a = invert(poses[after]) @ poses[before]
    view, told = window_motion(net, blurred(batch["frames"], chance[:, 1] < config.blurred), K)
    with torch.autocast(generator.device.type, enabled=False):
        turn, shift = motion_distance(told.T_b_a, T_b_a)
        a, b = view.descriptors[before], view.descriptors[after]
        forth = place_losses(told.forth, a, b, net.sharpness, depth[before], depth[after], T_b_a, K)
        back = place_losses(told.back, b, a, net.sharpness, depth[after], depth[before], invert(T_b_a), K)
        flow, match = ((one + other) / 2 for one, other in zip(forth, back, strict=True))
        far = (view.unit_depth - depth).abs().mean()
        # A logarithm, so that the few pairs that cannot be solved do not decide.
        moved = (torch.log1p(turn / ROTATION_SCALE) + torch.log1p(shift / TRANSLATION_SCALE)).mean()
        loss = config.flow_weight * flow + config.match_weight * match
        loss = loss + config.depth_weight * far + config.motion_weight * moved
    return loss, {
        "flow_pixels": flow,
        "match": match,
        "depth": far,
        "turn_deg": torch.rad2deg(turn).mean(),
        "shift_mm": 1000 * shift.mean(),
        "inliers": told.inliers.mean(),
    }


def motion_distance(told: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Angle in radians and distance in metres, (B,) each, between motions (B, 4, 4)."""
    turn = rotation_distance(told[:, :3, :3], truth[:, :3, :3])
    return turn, torch.linalg.vector_norm(told[:, :3, 3] - truth[:, :3, 3], dim=-1)


def place_losses(
    told: Displacement,
    descriptors: Tensor,
    other_descriptors: Tensor,
    sharpness: Tensor,
    depth: Tensor,
    other_depth: Tensor,
    T: Tensor,
    K: Tensor,
) -> tuple[Tensor, Tensor]:
    """Losses of those places of B frames that the camera's motion alone explains.

    Args:
        told: displacements of the places.
        descriptors: (B, D, P) of the places.
        other_descriptors: (B, D, P) of the other frames' places.
        sharpness: of the comparison.
        depth: (B, P) logarithmic depth of the places.
        other_depth: (B, P) that of the other frames' places: tells what is hidden there, or has moved by itself.
        T: (B, 4, 4) from the frames' optical frame to the other ones'.
        K: (4,) intrinsics in units of the picture's width and height.

    Returns:
        Mean L1 distance of the displacements, pixels of 128; mean negative log likelihood of the true place.
    """
    rays = unit_rays(GRID, K)
    moved = transform(T, rays * unit_to_depth(depth)[..., None])
    seen = project(moved)
    grid = (2 * (seen * K[:2] + K[2:]) - 1)[:, None]
    there = F.grid_sample(other_depth.unflatten(1, (1, GRID, GRID)), grid, mode="nearest", align_corners=False)
    explained = (depth_to_unit(moved[..., 2]) - there[:, 0, 0]).abs() < DEPTH_AGREEMENT
    counted = (explained & (grid[:, 0].abs() < 1).all(-1) & (moved[..., 2] > NEAREST)).float()
    # Each pair counts alike, so that a batch may be dealt out to several processes.
    counted = counted / counted.sum(dim=1, keepdim=True).clamp_min(1)
    error = SIZE * (told.flow - (seen - rays[:, :2]) * K[:2]).abs().sum(-1)
    found = F.grid_sample(other_descriptors.unflatten(2, (GRID, GRID)), grid, align_corners=False)[:, :, 0]
    unlikely = told.log_sum - sharpness * ((descriptors * found).sum(1) - 1)
    return (error * counted).sum(dim=1).mean(), (unlikely * counted).sum(dim=1).mean()


@torch.no_grad()
def pair_errors(net: EgoMotionNet, held_out: EgoFrames, K: Tensor) -> dict[str, float]:
    """Errors of the motions of the first window of each held-out stretch."""
    errors = []
    for part in np.array_split(np.arange(len(held_out)), max(1, len(held_out) // 8)):
        batch = held_out.batch(part, np.zeros_like(part))
        with torch.autocast(net.device.type, torch.bfloat16):
            _, told = window_motion(net, batch["frames"].to(net.device), K)
        poses = batch["poses"].flatten(0, 1).to(net.device)
        before, after = pair_rows(len(part))
        turn, shift = motion_distance(told.T_b_a, invert(poses[after]) @ poses[before])
        errors.append(torch.stack([torch.rad2deg(turn), 1000 * shift, told.inliers]))
    turn, shift, inliers = torch.cat(errors, dim=1)
    return {
        "turn_deg": float(turn.mean()),
        "median_turn_deg": float(turn.median()),
        "shift_mm": float(shift.mean()),
        "median_shift_mm": float(shift.median()),
        "inliers": float(inliers.mean()),
    }


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the ego-motion head into `out/ego_motion`; the video VAE of `init` codes part of the frames."""
    stage = build(EgoMotionStageConfig, section(config, "stages", "ego_motion"), "stages.ego_motion")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    net_config = section(config, "models", "ego_motion")
    vae = load_component(VideoVAE, init, "video_vae") if stage.coded > 0 else None
    reader = LeRobotReader(data, needs_video=True)
    train_clips, val_clips = (np.array(reader.split(split)) for split in ("train", "val"))
    spread = np.linspace(0, len(train_clips) - 1, min(stage.clips, len(train_clips))).round().astype(int)
    held_out = val_clips[:: max(1, len(val_clips) // VALIDATION_CLIPS)][:VALIDATION_CLIPS]
    torch.manual_seed(stage.trainer.seed)
    net = build(EgoMotionNet, net_config, "models.ego_motion")
    frames = EgoFrames(reader, train_clips[spread], vae, stage, "frames for ego-motion")
    unseen = EgoFrames(reader, held_out, None, stage, "held-out frames")
    height, width = (int(side) for side in reader.features["observation.images.ego"]["shape"][:2])
    K = unit_intrinsics(reader.camera, height, width)
    Trainer(
        {"ego_motion": net},
        lambda batch, generator: ego_motion_loss(net, batch, K.to(net.device), stage, generator),
        lambda step, part: frames.training_batch(step, stage.trainer, part),
        stage.trainer,
        out,
        validate=lambda: pair_errors(net, unseen, K.to(net.device)),
        resume=resume,
        title="ego-motion",
    ).fit()
