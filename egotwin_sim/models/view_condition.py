"""What the denoiser is told about the view to come: the memory warped into it, and where one's arms will be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE
from egotwin_sim.models.view_memory import BODY_MAP_CHANNELS, ViewMemory, body_map, render

MEMORY_VIEWS = 2  # the episode's first frame, and the newest one
# Per frame of a latent: one mask a view, and the body map's channels.
CONDITION_CHANNELS = FRAMES_PER_LATENT * (MEMORY_VIEWS + BODY_MAP_CHANNELS)
# Deviation of a latent's difference to its prior, in latent units, measured over the room's clips.
RESIDUAL_SCALE = 0.5
CHANGED = 0.35  # mean colour distance in [-1, 1] above which the two views disagree: the scene has changed


@dataclass(frozen=True)
class ViewCondition:
    """The condition of one latent.

    Attributes:
        prior: float (B, C, h, w), the video VAE's latent of the remembered views drawn from the new head poses. The
            denoiser works on the difference to it.
        channels: float (B, CONDITION_CHANNELS, h, w) in [0, 1]: which pixels each view knows, and the body map.
    """

    prior: Tensor
    channels: Tensor

    @classmethod
    def absent(cls, vae: VideoVAE, joints_head: Tensor, size: tuple[int, int], dtype: torch.dtype) -> ViewCondition:
        """No memory and no body: for a view whose motion is not known."""
        batch = joints_head.shape[0]
        prior = torch.zeros(batch, vae.config.latent_channels, *size, dtype=dtype, device=joints_head.device)
        return cls(prior, torch.zeros(batch, CONDITION_CHANNELS, *size, dtype=dtype, device=joints_head.device))


def compose(frames: Tensor, mask: Tensor) -> Tensor:
    """One picture from the views: the first frame's where it is known and still true, else the newest frame's.

    The first frame is a real picture and does not fade; where both know a pixel and differ over a neighbourhood, the
    scene has changed (a door moved) and the newest is believed.

    Args:
        frames: (B, S, N, 3, H, W) in [-1, 1], holes already filled.
        mask: (B, S, N, H, W).
    """
    if frames.shape[1] == 1:
        return frames[:, 0]
    first, newest = frames.unbind(1)
    know_first, know_newest = (m[:, :, None] for m in mask.unbind(1))
    difference = (first - newest).abs().mean(dim=2, keepdim=True) * know_first * know_newest
    local = F.avg_pool2d(difference.flatten(0, 1), 7, stride=1, padding=3).view_as(difference)
    use_first = know_first * (local < CHANGED)
    picture = use_first * first + (1 - use_first) * newest
    nobody = (1 - know_first) * (1 - know_newest)
    return torch.where(nobody > 0, 0.5 * (first + newest), picture)


@torch.no_grad()
def view_condition(
    vae: VideoVAE, memory: ViewMemory, T_world_head: Tensor, joints_head: Tensor, names: tuple[str, ...], fovy: float
) -> ViewCondition:
    """The condition of the latent whose 4 frames are seen from the given head poses.

    Args:
        vae: codes the warped frames.
        memory: one or two remembered views.
        T_world_head: (B, 4, 4, 4) head pose of each frame.
        joints_head: (B, 4, J, 3) joints in the head frame, metres.
        names: the J joint names.
        fovy: vertical field of view, radians.
    """
    frames, mask = render(memory, T_world_head, fovy)
    prior = vae.encode_chunks(compose(frames, mask).transpose(1, 2))
    size = prior.shape[-2], prior.shape[-1]
    if mask.shape[1] < MEMORY_VIEWS:
        mask = mask.expand(-1, MEMORY_VIEWS, -1, -1, -1)
    known = F.adaptive_avg_pool2d(mask.flatten(1, 2), size)
    return ViewCondition(prior, torch.cat([known, body_channels(joints_head, names, size, fovy)], dim=1).to(prior))


def body_channels(joints_head: Tensor, names: tuple[str, ...], size: tuple[int, int], fovy: float) -> Tensor:
    """The body map of the 4 frames (B, 4, J, 3) of a latent as channels (B, 8, h, w)."""
    return body_map(joints_head, names, size, fovy).flatten(1, 2)
