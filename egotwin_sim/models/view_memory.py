"""The view memory: frames that were seen, with depth and pose, drawn again from where the head is now.

A denoiser that gets camera motion as numbers has to learn projective geometry before it can keep an object; with
the frames that it has already seen warped into the view to come, it only has to fill in what was hidden, what
moved, and the body (the idea of GEN3C, arXiv 2503.03751). The head pose comes from the motion tokens of the same
chunk, so the interaction mask's order of cause and effect is kept: nothing here looks at later motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Columns are the optical axes (x right, y down, z forward) in the head frame (x forward, y left, z up).
R_HEAD_CAMERA = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
DEPTH_TOLERANCE = 0.08  # relative; a remembered point hides behind a nearer one by more than this
BODY_RADIUS = 0.14  # metres around a bone within which a remembered point is one's own body
ARM_RADIUS = 0.06  # metres; thickness of an arm in the body map
HAND_LENGTH = 0.16  # metres from the wrist to the finger tips
# Bones that the head camera can see, by joint names.
BODY_BONES = (
    ("left_elbow", "left_wrist"),
    ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"),
    ("left_hip", "left_knee"),
    ("right_hip", "right_knee"),
    ("left_knee", "left_ankle"),
    ("right_knee", "right_ankle"),
    ("left_ankle", "left_foot"),
    ("right_ankle", "right_foot"),
    ("pelvis", "spine3"),
)
BODY_MAP_CHANNELS = 2  # per frame: forearms, hands


@dataclass(frozen=True)
class ViewMemory:
    """Remembered views, batch first. A value: ``remember`` returns a new one.

    Attributes:
        frames: float (B, S, 3, H, W) in [-1, 1]; S views, the first being the episode's first frame.
        depth: float (B, S, H, W), metres along the optical axis.
        valid: bool (B, S, H, W), false on one's own body.
        T_world_head: float (B, S, 4, 4).
    """

    frames: Tensor
    depth: Tensor
    valid: Tensor
    T_world_head: Tensor

    @classmethod
    def of(
        cls,
        frame: Tensor,
        depth: Tensor,
        joints_head: Tensor,
        T_world_head: Tensor,
        names: tuple[str, ...],
        fovy: float,
    ) -> ViewMemory:
        """One view: frame (B, 3, H, W), depth (B, H, W), joints (B, J, 3) in the head frame, pose (B, 4, 4)."""
        valid = ~body_mask(depth, joints_head, names, fovy)
        return cls(frame[:, None], depth[:, None], valid[:, None], T_world_head[:, None])

    def remember(self, other: ViewMemory, keep: int = 1) -> ViewMemory:
        """The first ``keep`` views of this memory followed by the views of ``other``."""
        return ViewMemory(
            *(
                torch.cat([getattr(self, name)[:, :keep], getattr(other, name)], dim=1)
                for name in ("frames", "depth", "valid", "T_world_head")
            )
        )

    def index(self, rows: Tensor) -> ViewMemory:
        """The memory of the given batch rows."""
        return replace(
            self,
            frames=self.frames[rows],
            depth=self.depth[rows],
            valid=self.valid[rows],
            T_world_head=self.T_world_head[rows],
        )


def vertical_field_of_view(K: np.ndarray) -> float:
    """Radians, from the intrinsics (3, 3) of a camera with square pixels and a centred principal point."""
    return 2 * math.atan(K[1, 2] / K[1, 1])


def rays(height: int, width: int, fovy: float) -> Tensor:
    """(H, W, 3) direction of each pixel's centre in the optical frame, with z = 1; ``fovy`` in radians."""
    focal = height / (2 * math.tan(fovy / 2))
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([(u - width / 2) / focal, (v - height / 2) / focal, torch.ones_like(u)], dim=-1)


def body_mask(depth: Tensor, joints_head: Tensor, names: tuple[str, ...], fovy: float) -> Tensor:
    """Which pixels (B, H, W) of a depth picture show one's own body, whose joints (B, J, 3) are in the head frame."""
    batch, height, width = depth.shape
    rotation = torch.tensor(R_HEAD_CAMERA).to(depth)
    segments = body_segments(joints_head, names, hand=True)
    start, end = (torch.stack(each, dim=1) for each in zip(*segments, strict=True))  # (B, bones, 3)
    with torch.autocast(depth.device.type, enabled=False):
        directions = rotation @ rays(height, width, fovy).to(depth).flatten(0, 1).T
        points = directions * depth.view(batch, 1, -1)
        axis = end - start
        length = axis.square().sum(-1, keepdim=True).clamp_min(1e-8)
        # |p - s - t a|^2 with t = (p - s) a / |a|^2 in [0, 1], multiplied out: products instead of differences.
        along = torch.baddbmm(-(start * axis).sum(-1, keepdim=True), axis, points)
        share = (along / length).clamp_(0, 1)
        distance = torch.baddbmm(start.square().sum(-1, keepdim=True), start, points, alpha=-2)
        distance += points.square().sum(1, keepdim=True)
        distance += share * (share * length - 2 * along)
        return (distance < BODY_RADIUS**2).any(1).view_as(depth)


def body_segments(joints: Tensor, names: tuple[str, ...], hand: bool) -> list[tuple[Tensor, Tensor]]:
    """Start and end (B, 3) of the bones that the camera can see; with ``hand`` the forearms reach the finger tips."""
    segments = []
    for parent, child in BODY_BONES:
        start, end = joints[..., names.index(parent), :], joints[..., names.index(child), :]
        if hand and child.endswith("wrist"):
            end = end + F.normalize(end - start, dim=-1) * HAND_LENGTH
        segments.append((start, end))
    return segments


def segment_distance(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distance of points (..., 3) to segments (..., 3)-(..., 3)."""
    axis = end - start
    along = ((points - start) * axis).sum(-1) / axis.square().sum(-1).clamp_min(1e-8)
    return (points - start - along.clamp(0, 1)[..., None] * axis).norm(dim=-1)


def body_map(joints_head: Tensor, names: tuple[str, ...], size: tuple[int, int], fovy: float) -> Tensor:
    """Where the arms and hands will be in view.

    Args:
        joints_head: (..., J, 3) joint positions in the head frame, metres.
        names: the J joint names.
        size: height and width of the map.
        fovy: vertical field of view, radians.

    Returns:
        (..., 2, h, w) in [0, 1]: forearms and hands, soft at half a cell.
    """
    height, width = size
    focal = height / (2 * math.tan(fovy / 2))
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    grid = torch.stack([u - width / 2, v - height / 2], dim=-1).to(joints_head).flatten(0, 1)

    def drawn(start: Tensor, end: Tensor) -> Tensor:
        """Soft mask (..., h*w) of a bone, both ends (..., 3) in the head frame."""
        near = 0.05  # metres: the part of the bone behind the camera is cut off
        cut = ((near - start[..., :1]) / (end - start)[..., :1].abs().clamp_min(1e-6)).clamp(0, 1)
        start, visible = start + cut * (end - start), end[..., 0] > near
        ends = torch.stack([start, end], dim=-2)
        ahead = ends[..., :1].clamp_min(near)
        pixels = torch.cat([-ends[..., 1:2], -ends[..., 2:3]], dim=-1) / ahead * focal
        distance = segment_distance(grid, pixels[..., 0, :][..., None, :], pixels[..., 1, :][..., None, :])
        radius = ARM_RADIUS / ahead.mean(dim=-2) * focal
        return torch.sigmoid(4 * (radius - distance)) * visible[..., None]

    arms, hands = [], []
    for side in ("left", "right"):
        elbow = joints_head[..., names.index(f"{side}_elbow"), :]
        wrist = joints_head[..., names.index(f"{side}_wrist"), :]
        tip = wrist + F.normalize(wrist - elbow, dim=-1) * HAND_LENGTH
        arms.append(drawn(elbow, wrist))
        hands.append(drawn(wrist, tip))
    channels = [torch.stack(parts).amax(0) for parts in (arms, hands)]
    return torch.stack(channels, dim=-2).unflatten(-1, (height, width))


def render(memory: ViewMemory, T_world_head: Tensor, fovy: float) -> tuple[Tensor, Tensor]:
    """Warp each remembered view into new head poses.

    A coarse depth map of each new view is made by projecting the remembered points (nearest wins), small gaps are
    closed, and every new pixel then looks its colour up in the remembered picture, so that edges stay sharp.

    Args:
        memory: S remembered views.
        T_world_head: (B, N, 4, 4) poses to draw from.
        fovy: vertical field of view, radians.

    Returns:
        frames (B, S, N, 3, H, W) in [-1, 1], holes filled with the mean of what is around them, and
        mask float (B, S, N, H, W): 1 where the memory knows the pixel.
    """
    with torch.autocast(memory.depth.device.type, enabled=False):  # geometry needs its digits
        return _render(memory, T_world_head, fovy)


def _render(memory: ViewMemory, T_world_head: Tensor, fovy: float) -> tuple[Tensor, Tensor]:
    batch, views, _, height, width = memory.frames.shape
    poses, sources, pixels = T_world_head.shape[1], batch * views, height * width
    focal = height / (2 * math.tan(fovy / 2))
    rotation = torch.eye(4, dtype=memory.depth.dtype, device=memory.depth.device)
    rotation[:3, :3] = torch.tensor(R_HEAD_CAMERA)
    source_pose = memory.T_world_head.to(rotation) @ rotation
    target_pose = T_world_head.to(rotation) @ rotation
    # (B * S, N): remembered optical frame to new optical frame, and back
    forward = (torch.linalg.inv(target_pose)[:, None] @ source_pose[:, :, None]).flatten(0, 1)
    backward = torch.linalg.inv(forward).flatten(0, 1)
    depth, valid = memory.depth.flatten(0, 1), memory.valid.flatten(0, 1)
    # Coordinates in rows and pixels in columns: every coordinate of all pixels lies together.
    directions = rays(height, width, fovy).to(depth).flatten(0, 1).T.contiguous()
    remembered = directions * depth.view(sources, 1, pixels)
    turns, moves = forward[..., :3, :3].flatten(1, 2), forward[..., :3, 3:].flatten(1, 2)
    points = torch.baddbmm(moves, turns, remembered).view(sources, poses, 3, pixels)
    coarse = _splat(points, valid, fovy)

    target_depth = F.interpolate(coarse, size=(height, width), mode="nearest").view(-1, 1, pixels)
    known = torch.isfinite(target_depth)
    target_depth.masked_fill_(~known, 1.0)
    seen_from = torch.baddbmm(backward[:, :3, 3:], backward[:, :3, :3], directions * target_depth)
    z = seen_from[:, 2]
    ahead = z > 0.05
    inverse = z.clamp(min=1e-3).reciprocal()
    grid = seen_from.new_empty(sources * poses, pixels, 2)
    torch.mul(seen_from[:, 0], inverse * (2 * focal / width), out=grid[..., 0])
    torch.mul(seen_from[:, 1], inverse * (2 * focal / height), out=grid[..., 1])
    looked_up = torch.cat([memory.frames.flatten(0, 1), depth[:, None], valid[:, None].to(depth)], dim=1)
    sampled = F.grid_sample(
        looked_up, grid.view(sources, -1, width, 2), mode="bilinear", padding_mode="zeros", align_corners=False
    ).unflatten(2, (poses, height))
    z = z.view(sources, poses, height, width)
    mask = (known[:, 0] & ahead).view(z.shape) & (sampled[:, 4] > 0.9)
    mask &= (sampled[:, 3] - z).abs_() < DEPTH_TOLERANCE * z
    mask_float = mask.to(depth)[:, :, None]
    frames = _fill((sampled[:, :3].transpose(1, 2) * mask_float).flatten(0, 1), mask_float.flatten(0, 1))
    shape = (batch, views, poses)
    return frames.view(*shape, 3, height, width), mask_float.view(*shape, height, width)


def _splat(points: Tensor, valid: Tensor, fovy: float) -> Tensor:
    """Nearest projected depth of remembered points in new views; inf where nothing falls.

    Args:
        points: (n, N, 3, H * W), each source's points in the optical frames of N new views.
        valid: bool (n, H, W).
        fovy: vertical field of view, radians.

    Returns:
        (n, N, H/2, W/2).
    """
    (n, poses, _, pixels), (height, width) = points.shape, valid.shape[-2:]
    h, w = height // 2, width // 2
    x, y, z = points.unbind(2)
    focal = h / (2 * math.tan(fovy / 2))
    inverse = z.clamp(min=1e-3).reciprocal_().mul_(focal)
    u, v = (x * inverse).add_(w / 2).floor_(), (y * inverse).add_(h / 2).floor_()
    inside = (u >= 0) & (u < w) & (v >= 0) & (v < h) & (z > 0.05) & valid.view(n, 1, pixels)
    cell = torch.where(inside, v.mul_(w).add_(u), h * w).long()
    buffer = torch.full((n * poses, h * w + 1), torch.inf, dtype=z.dtype, device=z.device)
    buffer.scatter_reduce_(1, cell.flatten(0, 1), z.flatten(0, 1), "amin")
    coarse = buffer[:, :-1].reshape(n * poses, 1, h, w)
    for _ in range(2):  # close gaps that magnification opens, up to two cells
        nearest = -F.max_pool2d(-coarse, 3, stride=1, padding=1)
        coarse = torch.where(torch.isfinite(coarse), coarse, nearest)
    return coarse.view(n, poses, h, w)


def _fill(frames: Tensor, mask: Tensor) -> Tensor:
    """Give the holes of frames (n, 3, H, W), already multiplied by the mask (n, 1, H, W), the mean around them."""
    height, width = frames.shape[-2:]
    near = height // 8, width // 8
    colours, weights = F.avg_pool2d(frames, 8), F.avg_pool2d(mask, 8)
    around = frames.new_zeros(len(frames), 3, 1, 1)
    for cells in ((1, 1), (4, 4), near):  # the whole picture's mean, and what is nearer where there is something
        colour, weight = F.adaptive_avg_pool2d(colours, cells), F.adaptive_avg_pool2d(weights, cells)
        mean = colour / weight.clamp_min(1e-4)
        around = torch.where(weight > 1e-3, mean, F.interpolate(around, size=cells, mode="nearest"))
    across = around.repeat_interleave(8, dim=-1)[:, :, :, None]  # whole rows, so that a row is one vector
    rows = near[0], 8
    return torch.addcmul(frames.unflatten(2, rows), (1 - mask).unflatten(2, rows), across).view(frames.shape)
