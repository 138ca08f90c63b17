"""Stage zero: what sees. The video VAE, and beside it the depth network of the view memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.metrics.sharpness import sharpness_ratio
from egotwin_sim.models.checkpoint import load_whole
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE, join_chunks
from egotwin_sim.training.config import build, section
from egotwin_sim.training.parts import WHOLE, Part, draw_normal
from egotwin_sim.training.pictures import gradient_distance, steepness_distance
from egotwin_sim.training.stages.depth import train_depth
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices

HELD_OUT = 16  # clips, from all over the validation split


@dataclass(frozen=True)
class VideoVAEStageConfig:
    """What the loss weighs.

    Attributes:
        trainer: the optimisation of the video VAE.
        latents: latents per sample; a sample is 4 times as many successive frames from anywhere in a clip.
        gradient_weight: of the L1 distance between horizontal and vertical differences; it puts edges in their place.
        steepness_weight: of the L1 distance between the steepest edges of each neighbourhood, wherever in it they
            are; without it the safest edge is a soft one, and every outline comes out at half its steepness.
        kl_weight: of the KL divergence to a unit Gaussian, per latent value.
        depth: the optimisation of the depth network.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    latents: int = 2
    gradient_weight: float = 0.5
    steepness_weight: float = 1.0
    kl_weight: float = 1e-5
    depth: TrainerConfig = field(default_factory=TrainerConfig)


class FrameBatches:
    """Frames of random stretches of clips, a function of the step."""

    def __init__(self, reader: LeRobotReader, clips: np.ndarray, config: VideoVAEStageConfig) -> None:
        self.reader, self.clips, self.config = reader, clips, config

    def __call__(self, step: int, part: Part = WHOLE) -> dict[str, Tensor]:
        """Video uint8 (B, 3, T, H, W)."""
        trainer = self.config.trainer
        chosen = self.clips[batch_indices(len(self.clips), trainer.batch_size, trainer.seed, step)]
        length = FRAMES_PER_LATENT * self.config.latents
        rng = np.random.default_rng((trainer.seed, step, 1))
        starts = [int(rng.integers(0, self.reader.length(int(clip)) - length + 1)) for clip in chosen]
        rows = part.rows(len(chosen))
        video = []
        for clip, start in zip(chosen[rows], starts[rows], strict=True):
            video.append(self.reader.frames(int(clip), start, start + length))
        return {"video": torch.from_numpy(np.stack(video)).permute(0, 4, 1, 2, 3)}


def video_vae_loss(
    vae: VideoVAE, batch: dict[str, Tensor], config: VideoVAEStageConfig, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction of colour and edges, plus the KL term."""
    video = image_to_unit(batch["video"])
    chunks = video.unflatten(2, (-1, FRAMES_PER_LATENT)).transpose(1, 2)
    mean, log_variance = vae.moments(chunks.flatten(0, 1))
    noise = draw_normal(mean.shape, generator)  # a sample's chunks lie in a row, so its rows do
    sample = mean + noise * (0.5 * log_variance).exp()
    latents = vae.normalise(sample).unflatten(0, chunks.shape[:2]).transpose(1, 2)
    decoded = vae.decode(latents)[0].transpose(1, 2).flatten(2, 3)
    colour = (decoded - video).abs().mean()
    edges = gradient_distance(decoded, video)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    steepness = steepness_distance(decoded, video)
    loss = colour + config.gradient_weight * edges + config.steepness_weight * steepness + config.kl_weight * kl
    return loss, {"colour": colour, "edges": edges, "steepness": steepness, "kl": kl}


@torch.no_grad()
def reconstruction_quality(vae: VideoVAE, reader: LeRobotReader, clips: np.ndarray) -> dict[str, float]:
    """Mean PSNR (dB) and sharpness (ratio to the truth) of clips coded as a whole."""
    psnr, sharpness = [], []
    for clip in clips:
        frames = reader.frames(int(clip))
        video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]
        with torch.autocast("cpu", torch.bfloat16):
            decoded = join_chunks(vae.decode(vae.encode(image_to_unit(video)))[0]).float()
        coded = unit_to_image(decoded)
        error = coded.float() - video.float()
        psnr.append(float((10 * torch.log10(255**2 / error.square().mean(dim=(1, 3, 4)))).mean()))
        sharpness.append(sharpness_ratio(frames, coded[0].permute(1, 2, 3, 0).numpy()))
    return {"psnr_db": float(np.mean(psnr)), "sharpness": float(np.mean(sharpness))}


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the video VAE, then the depth network, into ``out``."""
    stage = build(VideoVAEStageConfig, section(config, "stages", "video_vae"), "stages.video_vae")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps), depth=replace(stage.depth, steps=steps))
    reader = LeRobotReader(data, needs_video=True)
    train_clips, val_clips = (np.array(reader.split(split)) for split in ("train", "val"))
    held_out = val_clips[:: max(1, len(val_clips) // HELD_OUT)][:HELD_OUT]
    torch.manual_seed(stage.trainer.seed)
    vae = build(VideoVAE, section(config, "models", "video_vae"), "models.video_vae")
    depth_net = build(DepthNet, section(config, "models", "depth"), "models.depth")
    batches = FrameBatches(reader, train_clips, stage)
    if not (resume and (out / "video_vae" / "config.json").is_file() and steps is None):
        Trainer(
            {"video_vae": vae},
            lambda batch, generator: video_vae_loss(vae, batch, stage, generator),
            batches,
            stage.trainer,
            out,
            validate=lambda: reconstruction_quality(vae, reader, held_out),
            finish=lambda: store_statistics(vae, batches),
            resume=resume,
            title="video-vae",
        ).fit()
    vae = load_whole(VideoVAE, out / "video_vae").eval()
    train_depth(depth_net, vae, reader, train_clips, val_clips, stage.depth, out, resume=resume)


def store_statistics(vae: VideoVAE, batches: FrameBatches, count: int = 32) -> None:
    """Set the latents' mean and scale from ``count`` training batches, in the module and in its config."""
    moments = []
    for step in range(count):
        video = image_to_unit(batches(step)["video"])
        chunks = video.unflatten(2, (-1, FRAMES_PER_LATENT)).transpose(1, 2).flatten(0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            moments.append(vae.moments(chunks.to(vae.device))[0])
    values = torch.cat(moments).transpose(0, 1).flatten(1)
    std = values.std(1)
    # Half-way between one scale for all and a scale for each: strong channels stay stronger, so that noise hides
    # the fine ones first and the loss minds the coarse ones more.
    mean, std = values.mean(1), (std * std.mean()).sqrt()
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
