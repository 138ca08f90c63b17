"""The torch twin of `egotwin_sim.motion.root_centric.decode`: joints and head of root-centric feature tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from egotwin_sim.models.motion_geometry import rotation_6d_to_matrix
from egotwin_sim.motion import Skeleton
from egotwin_sim.motion.root_centric import RootLayout, children_of_root, hip_axes


def root_body(features: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Joint positions (B, T, J, 3) and head poses (B, T, 4, 4) in the canonical frame of the first frame's root.

    As `root_centric.decode` and forward kinematics; with gradients through the sums of turns and steps.

    Args:
        features: (B, T, D), physical units.
        skeleton: the body.
    """
    layout = RootLayout.of_width(features.shape[-1])
    offsets = torch.as_tensor(skeleton.offsets, dtype=features.dtype, device=features.device)
    zero = torch.zeros_like(features[:, :1, 0])
    yaw = torch.cat([zero, features[:, 1:, layout.root_turn][..., 0].cumsum(1)], dim=1)
    heading = _about_vertical(yaw)
    step = torch.cat([features[:, 1:, layout.root_step], torch.zeros_like(features[:, 1:, :1])], dim=-1)
    moved = (heading[:, :-1] @ step[..., None])[..., 0].cumsum(1)
    height = features[..., layout.root_height]
    ground = torch.cat([torch.zeros_like(features[:, :1, :2]), moved[..., :2]], dim=1)
    root = torch.cat([ground, height], dim=-1)

    seen = features[..., layout.joint_positions].unflatten(-1, (-1, 3))
    pelvis = torch.cat([torch.zeros_like(ground), height], dim=-1)[..., None, :]
    axes = torch.cat(hip_axes(torch.cat([pelvis, seen], dim=-2), skeleton), dim=-1)
    rest = torch.cat(hip_axes(offsets, skeleton), dim=-1)
    tilt = rotation_6d_to_matrix(axes) @ rotation_6d_to_matrix(rest).mT
    local = rotation_6d_to_matrix(features[..., layout.joint_rotations].unflatten(-1, (-1, 6)))
    first = children_of_root(skeleton)
    rotation, position = [heading @ tilt], [root]
    for joint in range(1, skeleton.num_joints):
        parent = skeleton.parents[joint]
        above = heading if joint in first else rotation[parent]
        rotation.append(above @ local[..., joint - 1, :, :])
        position.append(position[parent] + rotation[parent] @ offsets[joint])
    head = skeleton.index["head"]
    eyes = torch.as_tensor(skeleton.head_offset, dtype=features.dtype, device=features.device)
    pose = torch.zeros(*features.shape[:-1], 4, 4, dtype=features.dtype, device=features.device)
    pose[..., :3, :3], pose[..., 3, 3] = rotation[head], 1
    pose[..., :3, 3] = position[head] + rotation[head] @ eyes
    return torch.stack(position, dim=-2), pose


def _about_vertical(yaw: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about the vertical by angles (...,) in radians."""
    cos, sin, zero = yaw.cos(), yaw.sin(), torch.zeros_like(yaw)
    rows = [torch.stack(row, dim=-1) for row in ((cos, -sin, zero), (sin, cos, zero), (zero, zero, zero + 1))]
    return torch.stack(rows, dim=-2)
