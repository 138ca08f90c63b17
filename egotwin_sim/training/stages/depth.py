"""The second half of stage zero: the depth network, on true frames and on frames that the video VAE has decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from egotwin_sim.data import LeRobotReader
from egotwin_sim.models.depth import DepthNet, depth_to_unit, unit_to_depth
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE
from egotwin_sim.models.view_memory import vertical_field_of_view
from egotwin_sim.training.processes import processes
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices

VALIDATION_CLIPS = 48


class DepthFrames:
    """Single frames in memory: of each clip one latent's worth, half of it as it is and half through the video VAE.

    A stream asks for the depth of a given frame once, and of its own frames ever after.
    """

    def __init__(self, reader: LeRobotReader, clips: np.ndarray, vae: VideoVAE, seed: int, title: str) -> None:
        frames, depth, poses = [], [], []
        for clip in track(clips.tolist(), description=title):
            rng = np.random.default_rng((seed, clip))
            start = int(rng.integers(0, reader.length(clip) - FRAMES_PER_LATENT + 1))
            stop = start + FRAMES_PER_LATENT
            true = torch.from_numpy(reader.frames(clip, start, stop)).permute(0, 3, 1, 2)
            with torch.no_grad(), torch.autocast(vae.device.type, torch.bfloat16):
                latent = vae.encode_chunks(image_to_unit(true).transpose(0, 1)[None].to(vae.device))
                decoded = vae.decode(latent[:, :, None])[0][0, 0].float().transpose(0, 1).cpu()
            coded = unit_to_image(decoded)
            frames.append(torch.where((torch.arange(FRAMES_PER_LATENT) % 2 == 0)[:, None, None, None], true, coded))
            depth.append(torch.from_numpy(reader.depth(clip, start, stop)).half())
            poses.append(torch.from_numpy(reader.motion(clip, start, stop).T_world_head()[:: reader.motion_per_frame]))
        self.frames, self.depth, self.poses = torch.cat(frames), torch.cat(depth), torch.cat(poses).float()

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Frames (B, 3, H, W) uint8, depth (B, H, W) in metres and head poses (B, 4, 4)."""
        index = torch.from_numpy(rows)
        return {"frame": self.frames[index], "depth": self.depth[index], "T_world_head": self.poses[index]}


def train_depth(
    depth_net: DepthNet,
    vae: VideoVAE,
    reader: LeRobotReader,
    train_clips: np.ndarray,
    val_clips: np.ndarray,
    config: TrainerConfig,
    out: Path,
    *,
    resume: bool,
) -> None:
    """Train into ``out/depth``; the run's own files are in ``out/depth-run``."""
    fovy = vertical_field_of_view(reader.camera.K)
    frames = DepthFrames(reader, train_clips, vae, config.seed, "frames for depth")
    held_out = DepthFrames(reader, val_clips[:VALIDATION_CLIPS], vae, config.seed, "held-out frames")

    def told(batch: dict[str, Tensor]) -> Tensor:
        return depth_net(image_to_unit(batch["frame"]), batch["T_world_head"], fovy)

    def loss(batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        distance = (told(batch) - depth_to_unit(batch["depth"].float())).abs().mean()
        return distance, {"depth": distance}

    def validate() -> dict[str, float]:
        batch = {name: value.to(depth_net.device) for name, value in held_out.batch(np.arange(len(held_out))).items()}
        with torch.autocast(depth_net.device.type, torch.bfloat16):
            depth = unit_to_depth(told(batch))
        relative = (depth - batch["depth"].float()).abs() / batch["depth"].float()
        return {"median_relative_error": float(relative.median()), "mean_relative_error": float(relative.mean())}

    Trainer(
        {"depth": depth_net},
        loss,
        lambda step, part: frames.batch(batch_indices(len(frames), config.batch_size, config.seed, step, part)),
        config,
        out / "depth-run",
        validate=validate,
        resume=resume,
        title="depth",
    ).fit()
    if processes().main:
        source, target = out / "depth-run" / "depth", out / "depth"
        target.mkdir(exist_ok=True)
        for file in source.iterdir():
            (target / f".{file.name}.partial").write_bytes(file.read_bytes())
            (target / f".{file.name}.partial").rename(target / file.name)
    processes().wait()
