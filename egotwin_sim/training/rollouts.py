"""Roll-outs of the model on its own views, from true clips, for training and validation on what a stream will meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.diffusion.precondition import linear_velocity
from egotwin_sim.diffusion.sampler import ddim_step, trailing_timesteps
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.models.depth import DepthNet, unit_to_depth
from egotwin_sim.models.images import image_to_unit
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.transformer_cache import RingCache
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, DecoderCache, VideoVAE
from egotwin_sim.models.view_condition import RESIDUAL_SCALE, view_condition
from egotwin_sim.models.view_memory import ViewMemory, vertical_field_of_view
from egotwin_sim.training.denoising import model_input
from egotwin_sim.training.latents import LatentClips, body_track


@dataclass(frozen=True)
class View:
    """The frozen networks around the denoiser, and the camera.

    Attributes:
        vae: codes frames.
        depth_net: tells how far away they are.
        names: of the joints.
        fovy: vertical field of view, radians.
    """

    vae: VideoVAE
    depth_net: DepthNet
    names: tuple[str, ...]
    fovy: float

    @torch.no_grad()
    def remembered(self, frames: Tensor, joints: Tensor, poses: Tensor) -> ViewMemory:
        """Frames (B, 3, H, W) in [-1, 1] to remember, with joints (B, J, 3) in the head and head poses (B, 4, 4)."""
        depth = unit_to_depth(self.depth_net(frames, poses, self.fovy))
        return ViewMemory.of(frames, depth, joints, poses, self.names, self.fovy)


class RolloutClips:
    """Cached clips with what a roll-out needs beside the latents: true frames, and where head and joints go.

    Args:
        reader: the data set.
        split: "train" or "val".
        latents: the split's cached clips.
        motion_vae: decodes their tokens.
        window: chunks of context before a roll-out, beside chunk 0.
    """

    def __init__(
        self, reader: LeRobotReader, split: str, latents: LatentClips, motion_vae: MotionVAE, window: int
    ) -> None:
        self.reader, self.latents, self.motion_vae, self.window = reader, latents, motion_vae, window
        self.episodes = list(reader.split(split))[: len(latents)]

    @property
    def chunks(self) -> int:
        """Chunks of a clip, chunk 0 not counted."""
        return self.latents.num_latents - 1

    def batch(self, clips: np.ndarray, first: int, count: int) -> dict[str, Tensor]:
        """Roll-outs of chunks ``first`` to ``first + count`` (excluded) of some clips.

        Returns:
            As ``LatentClips.batch`` for the context; ``future`` likewise for the chunks to come, prefixed "future_";
            ``frames`` uint8 (B, 1 + 4 count, 3, H, W), the clip's first frame and the true ones to come;
            ``poses`` (B, 1 + 1 + 4 count, 4, 4) and ``joints`` (B, 1 + 1 + 4 count, J, 3) of the first frame, of the
            frame before the roll-out, and of the frames to come.
        """
        context = self.latents.batch(clips, max(1, first - self.window), first)
        future = self.latents.batch(clips, first, first + count)
        start = 1 + FRAMES_PER_LATENT * (first - 1)
        stop = start + FRAMES_PER_LATENT * count
        frames, poses, joints = [], [], []
        for clip in clips.tolist():
            episode = self.episodes[clip]
            every = self.reader.motion_per_frame
            pose, joint = body_track(self.reader.motion(episode), self.latents.tokens[clip], self.motion_vae)
            seen = np.array([0, start - 1, *range(start, stop)]) * every
            poses.append(pose[seen])
            joints.append(joint[seen])
            true = self.reader.frames(episode, start, stop)
            frames.append(np.concatenate([self.reader.frames(episode, 0, 1), true]))
        return context | {
            "future_latents": future["latents"][:, 1:],
            "future_tokens": future["tokens"][:, 1:].unflatten(1, (count, 2)),
            "frames": torch.from_numpy(np.stack(frames)).permute(0, 1, 4, 2, 3),
            "poses": torch.from_numpy(np.stack(poses)),
            "joints": torch.from_numpy(np.stack(joints)),
        }


@dataclass(frozen=True)
class Rolled:
    """One chunk of a roll-out.

    Attributes:
        picture: float (B, 3, 4, H, W), the dreamt frames.
        clean: float (B, C, h, w), the dreamt difference to the remembered view.
        true_clean: the difference that would have given the true frames.
        prior: float (B, C, h, w), the remembered view.
        condition: float (B, C + E, h, w), all that the denoiser was told beside the noise: the prior and its channels.
    """

    picture: Tensor
    clean: Tensor
    true_clean: Tensor
    prior: Tensor
    condition: Tensor


def roll_out(
    transformer: EgoTwinTransformer3DModel,
    schedule: NoiseSchedule,
    view: View,
    batch: dict[str, Tensor],
    window: int,
    steps: Sequence[tuple[int, int]],
    noise: Tensor,
) -> list[Rolled]:
    """Dream the chunks to come on the model's own views, as a stream does.

    Gradients flow through the last denoising step of each chunk and its decoding alone (self-forcing,
    arXiv 2506.08009): what is remembered, keys and values included, is taken as given.

    Args:
        transformer: the network.
        schedule: of the noise.
        view: what is frozen.
        batch: as ``RolloutClips.batch`` makes it.
        window: chunks that are remembered beside chunk 0.
        steps: for every chunk the number of denoising steps, and after how many of them to stop.
        noise: (chunks, B, C, h, w), standard normal.
    """
    device = batch["latents"].device
    cache = _context(transformer, batch, window)
    newest, decoder = _newest(view, batch["latents"][:, -1])
    poses, joints = batch["poses"], batch["joints"]
    opening = image_to_unit(batch["frames"][:, 0])
    if batch["latents"].shape[1] == 1:
        newest = opening  # given, so not decoded
    first = view.remembered(opening, joints[:, 0], poses[:, 0])
    memory = first.remember(view.remembered(newest, joints[:, 1], poses[:, 1]))
    rolled = []
    for k, (count, stop) in enumerate(steps):
        at = slice(2 + FRAMES_PER_LATENT * k, 2 + FRAMES_PER_LATENT * (k + 1))
        condition = view_condition(view.vae, memory, poses[:, at], joints[:, at], view.names, view.fovy)
        prior, channels = condition.prior.float(), condition.channels.float()
        tokens, zeros = batch["future_tokens"][:, k], torch.zeros(len(prior), 2, device=device)
        noisy = clean = noise[k]
        times = trailing_timesteps(count).to(device)
        for i in range(stop):
            t, target = (time.expand(len(prior)) for time in (times[i], times[i + 1]))
            with torch.set_grad_enabled(torch.is_grad_enabled() and i == stop - 1):
                video = model_input(noisy[:, None], prior[:, None], channels[:, None])
                output = transformer(video, None, t[:, None], tokens, zeros, temporal="causal", cache=cache)
                velocity = output.video[:, 0].float() + linear_velocity(schedule, noisy, t, RESIDUAL_SCALE)
                clean = schedule.to_clean(noisy, velocity, t)
            noisy = ddim_step(schedule, noisy, velocity.detach(), t, target)
        decoded, decoder = view.vae.decode((clean + prior)[:, :, None], decoder)
        decoder = DecoderCache([feature.detach() for feature in decoder.features])
        picture = decoded[:, 0].float()
        told = torch.cat([prior, channels], dim=1)
        rolled.append(Rolled(picture, clean, batch["future_latents"][:, k] - prior, prior, told))
        if k + 1 < len(steps):
            newest, last = picture[:, :, -1].detach().clamp(-1, 1), at.stop - 1
            memory = memory.remember(view.remembered(newest, joints[:, last], poses[:, last]))
            with torch.no_grad():
                video = model_input(clean.detach()[:, None], prior[:, None], channels[:, None])
                cache = transformer(
                    video, None, zeros[:, :1], tokens, zeros, temporal="causal", cache=cache, return_cache=True
                ).cache
    return rolled


@torch.no_grad()
def _context(transformer: EgoTwinTransformer3DModel, batch: dict[str, Tensor], window: int) -> RingCache:
    """Keys and values of the true chunks before a roll-out, each seen once, in order, as in a stream."""
    video = model_input(batch["latents"] - batch["priors"], batch["priors"], batch["channels"])
    zeros = torch.zeros(len(video), 2, device=video.device)
    start = transformer(
        video[:, :1], batch["text"], zeros[:, :1], batch["tokens"][:, :1], zeros[:, :1],
        text_mask=batch["text_mask"], latent_positions=(0,), temporal="causal", return_cache=True,
    ).cache  # fmt: skip
    cache = RingCache.of(start, window)
    for i in range(1, video.shape[1]):
        tokens = batch["tokens"][:, 2 * i - 1 : 2 * i + 1]
        cache = transformer(
            video[:, i : i + 1], None, zeros[:, :1], tokens, zeros, temporal="causal", cache=cache, return_cache=True
        ).cache
    return cache


@torch.no_grad()
def _newest(view: View, latent: Tensor) -> tuple[Tensor, DecoderCache]:
    """The last frame (B, 3, H, W) of a latent (B, C, h, w), and the decoder's memory after it."""
    decoded, decoder = view.vae.decode(latent[:, :, None])
    return decoded[:, 0, :, -1].float().clamp(-1, 1), decoder


def view_of(reader: LeRobotReader, vae: VideoVAE, depth_net: DepthNet) -> View:
    """The frozen part of roll-outs on a data set."""
    for module in (vae, depth_net):
        module.requires_grad_(False)
    skeleton = reader.motion(reader.split("train")[0], 0, 2).skeleton
    return View(vae, depth_net, skeleton.names, vertical_field_of_view(reader.camera.K))
