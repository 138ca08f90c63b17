"""How far away what is seen is: the view memory needs it, and the pose of the head makes it easy to tell."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.models.checkpoint import WholeModelMixin
from egotwin_sim.models.video_vae import ResBlock, start_at_zero
from egotwin_sim.models.view_memory import R_HEAD_CAMERA, rays

NEAR, FAR = 0.1, 10.0  # metres; the range of the logarithmic depth, the same as the data set's


def depth_to_unit(depth: Tensor) -> Tensor:
    """Metres to logarithmic depth in [-1, 1]."""
    return 2 * torch.log(depth.clamp(NEAR, FAR) / NEAR) / math.log(FAR / NEAR) - 1


def unit_to_depth(unit: Tensor) -> Tensor:
    """Logarithmic depth in [-1, 1] to metres."""
    return NEAR * (FAR / NEAR) ** ((unit.clamp(-1, 1) + 1) / 2)


def plane_depths(T_world_head: Tensor, size: tuple[int, int], fovy: float) -> Tensor:
    """Depth of the floor, and of a level plane as far above the eyes, in every pixel.

    Gravity and the height of the eyes are known from the body, so the floor's depth is known wherever the floor is
    seen, and everything that stands on the floor begins at its depth.

    Args:
        T_world_head: (B, 4, 4); the floor is at z = 0.
        size: height and width.
        fovy: vertical field of view, radians.

    Returns:
        (B, 2, H, W) logarithmic depth in [-1, 1]: floor below the horizon and the plane above it (farthest where
        there is none), and the elevation of the ray, -1 down to 1 up.
    """
    with torch.autocast(T_world_head.device.type, enabled=False):
        rotation = T_world_head[:, :3, :3].float() @ torch.tensor(R_HEAD_CAMERA, device=T_world_head.device)
        directions = rays(*size, fovy).to(rotation)  # of depth 1
        rise = torch.einsum("hwc,bc->bhw", directions, rotation[:, 2])
        height = T_world_head[:, 2, 3].float().clamp_min(0.1)
        depth = height[:, None, None] / rise.abs().clamp_min(1e-3)
        elevation = rise / directions.norm(dim=-1)
        return torch.stack([depth_to_unit(depth), elevation], dim=1)


def u_net(net: Any, x: Tensor) -> Tensor:
    """What a network with the parts of a `DepthNet` makes of its folded picture: features at the scale of the input.

    Args:
        net: with `enter`, and at each level `left` and `down`, then `deepest`, then `up` and `right`.
        x: (B, C, h, w), sides multiples of two to the number of levels.
    """
    x = net.enter(x.contiguous(memory_format=torch.channels_last))
    skips = []
    for block, down in zip(net.left, net.down, strict=True):
        x, _ = block(x)
        skips.append(x)
        x = down(x)
    for block in net.deepest:
        x, _ = block(x)
    for level in reversed(range(len(skips))):
        x = skips[level] + F.pixel_shuffle(net.up[level](x), 2)
        x, _ = net.right[level](x.contiguous(memory_format=torch.channels_last))
    return x


class DepthNet(WholeModelMixin, ModelMixin, ConfigMixin):
    """Depth of one frame from its colours and the head's pose: a small U-Net at 1/4, 1/8, 1/16 and 1/32.

    Args:
        channels: widths at the four scales.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, channels: tuple[int, int, int, int] = (48, 80, 128, 160)) -> None:
        super().__init__()
        a, b, c, d = channels
        self.enter = nn.Conv2d(5 * 16, a, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in ((a, b), (b, c), (c, d)))
        self.left = nn.ModuleList(ResBlock(width) for width in (a, b, c))
        self.deepest = nn.ModuleList(ResBlock(d) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(i, 4 * o, 1) for i, o in ((b, a), (c, b), (d, c)))
        self.right = nn.ModuleList(ResBlock(width) for width in (a, b, c))
        self.leave = nn.Conv2d(a, 16, 3, padding=1)
        start_at_zero(self.leave)
        self.to(memory_format=torch.channels_last)

    def forward(self, frame: Tensor, T_world_head: Tensor, fovy: float) -> Tensor:
        """Logarithmic depth.

        Args:
            frame: (B, 3, H, W) in [-1, 1], sides multiples of 32.
            T_world_head: (B, 4, 4), the floor at z = 0.
            fovy: vertical field of view, radians.

        Returns:
            (B, H, W) in about [-1, 1]; ``unit_to_depth`` gives metres.
        """
        planes = plane_depths(T_world_head, (frame.shape[-2], frame.shape[-1]), fovy)
        x = u_net(self, F.pixel_unshuffle(torch.cat([frame, planes.to(frame)], dim=1), 4))
        # What the planes say, until the network knows better.
        return planes[:, 0] + F.pixel_shuffle(self.leave(x).float(), 4)[:, 0]
