"""The torch twins of `egotwin_sim.motion`: head poses, canonical frames and forward kinematics of feature tensors.

For training and streaming, in batches, on any device, with gradients. Features are in physical units.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.motion import Layout, Skeleton

_STEEP = 0.1  # horizontal length of the x axis below which the heading is read from the z axis, as in motion.rotations


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """6D rotations (..., 6) to matrices (..., 3, 3) by Gram-Schmidt."""
    x = F.normalize(rotation_6d[..., :3], dim=-1, eps=1e-6)
    y = rotation_6d[..., 3:]
    y = F.normalize(y - (x * y).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def head_pose(features: Tensor) -> Tensor:
    """T_canonical_head (..., 4, 4) of features (..., D)."""
    layout = Layout.of_width(features.shape[-1])
    rotation = rotation_6d_to_matrix(features[..., layout.head_rotation])
    return _transform(rotation, features[..., layout.head_position])


def canonical_frame(pose: Tensor) -> Tensor:
    """The frame on the ground under head poses (..., 4, 4), turned with their heading."""
    rotation = pose[..., :3, :3]
    steep = torch.linalg.vector_norm(rotation[..., :2, 0], dim=-1, keepdim=True) < _STEEP
    sign = torch.where(rotation[..., 2:, 0] > 0, -1.0, 1.0)
    forward = F.normalize(torch.where(steep, sign * rotation[..., :2, 2], rotation[..., :2, 0]), dim=-1)
    x, y, zero = forward[..., 0], forward[..., 1], torch.zeros_like(forward[..., 0])
    rows = [torch.stack(row, dim=-1) for row in ((x, -y, zero), (y, x, zero), (zero, zero, zero + 1))]
    return _transform(torch.stack(rows, dim=-2), torch.cat([pose[..., :2, 3], zero[..., None]], dim=-1))


def invert(transform: Tensor) -> Tensor:
    """The inverse of rigid transforms (..., 4, 4)."""
    back = transform[..., :3, :3].mT
    return _transform(back, -(back @ transform[..., :3, 3:])[..., 0])


def move_features(features: Tensor, transform: Tensor) -> Tensor:
    """Features (..., D) seen from another canonical frame: only head rotation and head position change.

    Args:
        features: in the old frame.
        transform: T_new_old (..., 4, 4), a turn about the vertical with a shift; broadcast over leading dimensions.
    """
    layout = Layout.of_width(features.shape[-1])
    turn, shift = transform[..., :3, :3], transform[..., :3, 3]
    moved = features.clone()
    columns = turn @ features[..., layout.head_rotation].unflatten(-1, (2, 3)).mT
    moved[..., layout.head_rotation] = columns.mT.flatten(-2)
    moved[..., layout.head_position] = (turn @ features[..., layout.head_position, None])[..., 0] + shift
    return moved


def joint_positions(features: Tensor, skeleton: Skeleton) -> Tensor:
    """Joint positions (..., J, 3) in the canonical frame, from head pose and joint rotations of features (..., D).

    As `motion.decode` and forward kinematics: the root is found by walking down from the head, so neither the features'
    own joint positions nor the root's rotation are read.
    """
    layout = Layout.of_width(features.shape[-1])
    offsets = torch.as_tensor(skeleton.offsets, dtype=features.dtype, device=features.device)
    head_offset = torch.as_tensor(skeleton.head_offset, dtype=features.dtype, device=features.device)
    local = rotation_6d_to_matrix(features[..., layout.joint_rotations].unflatten(-1, (-1, 6)))
    rotation: list[Tensor] = [_root_rotation(features, local, skeleton)]
    position: list[Tensor] = [torch.zeros_like(features[..., :3])]
    for joint in range(1, skeleton.num_joints):
        parent = skeleton.parents[joint]
        rotation.append(rotation[parent] @ local[..., joint, :, :])
        position.append(position[parent] + rotation[parent] @ offsets[joint])
    top = skeleton.index["head"]
    eyes = position[top] + rotation[top] @ head_offset
    return torch.stack(position, dim=-2) + (features[..., layout.head_position] - eyes)[..., None, :]


def _root_rotation(features: Tensor, local: Tensor, skeleton: Skeleton) -> Tensor:
    """The root's rotation (..., 3, 3) in the canonical frame, from the head's and the rotations between them."""
    rotation = rotation_6d_to_matrix(features[..., Layout.of_width(features.shape[-1]).head_rotation])
    for joint in reversed(skeleton.head_chain[1:]):
        rotation = rotation @ local[..., joint, :, :].mT
    return rotation


def consistent_state(before: Tensor, state: Tensor, skeleton: Skeleton, fps: float) -> Tensor:
    """A decoded state whose redundant parts follow from its head pose and joint rotations.

    What `motion.encode` gives for the motion that `motion.decode` reads from the two states.

    Args:
        before: (B, D), the state one frame earlier, in the same canonical frame.
        state: (B, D).
        skeleton: the body.
        fps: motion frames per second.

    Returns:
        (B, D), in the canonical frame of `state` itself.
    """
    layout = Layout.of_width(state.shape[-1])
    pose_before, pose = head_pose(before), head_pose(state)
    seen_before, seen = (
        (joint_positions(features, skeleton) - at[..., None, :3, 3]) @ at[..., :3, :3]
        for features, at in ((before, pose_before), (state, pose))
    )
    yaw_before = canonical_frame(pose_before)[..., :3, :3]
    here = invert(canonical_frame(pose)) @ pose
    turn = yaw_before.mT @ pose[..., :3, :3] @ pose_before[..., :3, :3].mT @ yaw_before
    step = (yaw_before.mT @ (pose - pose_before)[..., :3, 3:])[..., 0]
    local = rotation_6d_to_matrix(state[..., layout.joint_rotations].unflatten(-1, (-1, 6)))
    root = pose[..., :3, :3].mT @ _root_rotation(state, local, skeleton)
    local = torch.cat([root[..., None, :, :], local[..., 1:, :, :]], dim=-3)
    return torch.cat(
        [
            _rotation_6d(here[..., :3, :3]),
            _rotation_6d(turn),
            here[..., :3, 3],
            step,
            seen.flatten(-2),
            (fps * (seen - seen_before)).flatten(-2),
            _rotation_6d(local).flatten(-2),
        ],
        dim=-1,
    )


def _rotation_6d(matrix: Tensor) -> Tensor:
    return matrix[..., :2].mT.flatten(-2)


def _transform(rotation: Tensor, translation: Tensor) -> Tensor:
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], dim=-2)
