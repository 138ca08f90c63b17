"""The network of the learned ego-motion head: what it sees in a frame, and how two frames belong together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.metrics.relative_pose import reprojection, solve_motion, unit_rays
from egotwin_sim.models.depth import u_net, unit_to_depth
from egotwin_sim.models.motion_geometry import invert
from egotwin_sim.models.video_vae import ResBlock, start_at_zero

SIZE = 128  # pixels; every picture is brought to this size first
GRID = SIZE // 4  # places per side
SHARPNESS = 20.0  # of the comparison at the start of training; learnt
MOST_SHARPNESS_LOG = 3.5  # the least softmax numerator, exp(-2 * sharpness), is then still a float32 that is not zero
INLIER_PIXELS = 1.5  # a place agrees with the motion when it lies within this many pixels of SIZE
LEAST_TRUST = 1e-4


class View(NamedTuple):
    """Frames as the network sees them: N of them, P = GRID * GRID places each.

    Attributes:
        descriptors: (N, D, P), of unit length.
        context: (N, C, GRID, GRID), what tells a trustworthy place from an arm or a blank wall.
        unit_depth: (N, P), logarithmic depth in about [-1, 1] (`egotwin_sim.models.depth`).
    """

    descriptors: Tensor
    context: Tensor
    unit_depth: Tensor

    def at(self, rows: Tensor) -> View:
        """The given frames."""
        return View(*(each[rows] for each in self))


class Displacement(NamedTuple):
    """Where the places of B frames are seen in another frame.

    Attributes:
        flow: (B, P, 2), minus where they are in their own, in units of the picture's side.
        trust: (B, P, 2), in each coordinate, positive.
        log_sum: (B, P), logarithm of the denominator of the softmax over the other frame, whose largest possible
            term is 1.
    """

    flow: Tensor
    trust: Tensor
    log_sum: Tensor


class PairMotion(NamedTuple):
    """What B pairs of frames (a, b) say of the camera.

    Attributes:
        T_b_a: (B, 4, 4), maps a's optical frame to b's, metres.
        forth: of the places of a.
        back: of the places of b.
        inliers: (B,), share of the places that agree with the motion, weighted by trust.
    """

    T_b_a: Tensor
    forth: Displacement
    back: Displacement
    inliers: Tensor


class EgoMotionNet(ModelMixin, ConfigMixin):
    """Motion of the camera between two frames, in metres.

    A small U-Net describes each place of a 32 x 32 grid and tells how far away it is. All places of one frame are
    compared with all of the other (as in `head_turn`). The expected displacement of each place, corrected by a look at
    its surroundings, and the trust in it go into a least-squares solution for the motion of the camera
    (`relative_pose.solve_motion`), which knows the intrinsics. So the network need not learn geometry, only what
    belongs together, what stands still, and how large a room is.

    Args:
        channels: widths at 1/4, 1/8 and 1/16 of the picture.
        descriptor: length of a place's description.
        context: channels of what else is told of a place.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, channels: tuple[int, int, int] = (48, 64, 80), descriptor: int = 32, context: int = 16) -> None:
        super().__init__()
        a, b, c = channels
        self.enter = nn.Conv2d(3 * 16 + 2, a, 3, padding=1)
        self.left = nn.ModuleList([ResBlock(a), ResBlock(b)])
        self.down = nn.ModuleList([nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in ((a, b), (b, c))])
        self.deepest = nn.ModuleList(ResBlock(c) for _ in range(2))
        self.up = nn.ModuleList([nn.Conv2d(i, 4 * o, 1) for i, o in ((b, a), (c, b))])
        self.right = nn.ModuleList([ResBlock(a), ResBlock(b)])
        self.describe = nn.Conv2d(a, descriptor, 1)
        self.tell = nn.Conv2d(a, context, 1)
        self.depth = nn.Conv2d(a, 1, 1)
        self.log_sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())
        self.judge = nn.Sequential(
            nn.Conv2d(context + 8, a, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(a, a, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(a, 4, 3, padding=1),
        )
        start_at_zero(self.depth, self.judge[-1])
        self.to(memory_format=torch.channels_last)

    @property
    def sharpness(self) -> Tensor:
        """Factor of the likeness of two places in the softmax."""
        return self.log_sharpness.clamp(max=MOST_SHARPNESS_LOG).exp()

    def view(self, frames: Tensor) -> View:
        """What is seen in frames (N, 3, SIZE, SIZE) in [-1, 1]."""
        # Where in the picture a place is: the floor is below, and nearer the lower it is seen.
        where = (2 * _places(frames) - 1).T.unflatten(1, (GRID, GRID)).expand(len(frames), -1, -1, -1)
        x = u_net(self, torch.cat([F.pixel_unshuffle(frames, 4), where], dim=1))
        described = self.describe(x).flatten(2).float()
        described = F.normalize(described - described.mean(dim=-1, keepdim=True), dim=1)
        return View(described, self.tell(x).float(), self.depth(x).flatten(1).float())

    def forward(self, a: View, b: View, K: Tensor) -> PairMotion:
        """The motion from frames `a` to frames `b`.

        Args:
            a: B frames.
            b: B frames.
            K: (4,) intrinsics (fx, fy, cx, cy) in units of the picture's width and height.
        """
        sums_a, sums_b = self._compare(a, b)
        forth, back = self._displacement(sums_a, a), self._displacement(sums_b, b)
        with torch.autocast(K.device.type, enabled=False):  # geometry needs its digits
            rays = unit_rays(GRID, K)
            points_a, points_b = (rays * unit_to_depth(view.unit_depth)[..., None] for view in (a, b))
            seen_in_b, seen_in_a = (rays[:, :2] + each.flow / K[:2] for each in (forth, back))
            T_b_a = solve_motion(points_a, points_b, seen_in_b, seen_in_a, forth.trust, back.trust)
            with torch.no_grad():
                away = torch.cat(
                    [
                        reprojection(T_b_a, points_a, seen_in_b, K),
                        reprojection(invert(T_b_a), points_b, seen_in_a, K),
                    ],
                    dim=1,
                )
                trust = torch.cat([forth.trust, back.trust], dim=1).mean(dim=-1)
                inliers = ((away < INLIER_PIXELS / SIZE) * trust).sum(dim=1) / trust.sum(dim=1)
        return PairMotion(T_b_a, forth, back, inliers)

    def _compare(self, a: View, b: View) -> tuple[Tensor, Tensor]:
        """Sums (B, P, 7) over the other frame's places, for each place of `a` and for each of `b`.

        Weighted by the softmax's numerators: both coordinates, their squares, their product, and 1; and the largest
        numerator. One pair after the other, so that its million numbers stay in the cache.
        """
        with torch.autocast(a.descriptors.device.type, enabled=False):
            # One channel more takes the largest possible exponent off.
            query = self.sharpness * F.pad(a.descriptors, (0, 0, 0, 1), value=-1.0)
            key = F.pad(b.descriptors, (0, 0, 0, 1), value=1.0)
            x, y = _places(query).unbind(-1)
            moments = torch.stack([x, y, x * x, y * y, x * y, torch.ones_like(x)], dim=-1)
            forth: list[Tensor] = []
            back: list[Tensor] = []
            for one, other in zip(query, key, strict=True):
                likeness = (one.T @ other).exp_()
                for sums, numerators in ((forth, likeness), (back, likeness.T)):
                    largest = numerators.detach().amax(dim=-1, keepdim=True)
                    sums.append(torch.cat([numerators @ moments, largest], dim=-1))
            return torch.stack(forth), torch.stack(back)

    def _displacement(self, sums: Tensor, view: View) -> Displacement:
        """What the sums of `_compare` say of each place of a frame."""
        places, total = _places(sums), sums[..., 5:6]
        mean, squares, product = (sums[..., :5] / total).split((2, 2, 1), dim=-1)
        spread = (squares - mean.square()).clamp_min(1e-6).log() / 8
        mixed = GRID * (product - mean[..., :1] * mean[..., 1:])
        surety = sums[..., 6:] / total.detach()
        told = [4 * (mean - places), spread, mixed, surety, places.expand(len(sums), -1, -1)]
        maps = torch.cat(told, dim=-1).mT.unflatten(2, (GRID, GRID))
        read = self.judge(torch.cat([maps, view.context], dim=1)).flatten(2).mT.float()
        flow = mean - places + read[..., :2] / GRID
        return Displacement(flow, F.softplus(read[..., 2:]) + LEAST_TRUST, total[..., 0].log())


def _places(like: Tensor) -> Tensor:
    """The middle (P, 2) of each place, in units of the picture's width and height."""
    line = (torch.arange(GRID, device=like.device, dtype=torch.float32) + 0.5) / GRID
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).flatten(0, 1)
