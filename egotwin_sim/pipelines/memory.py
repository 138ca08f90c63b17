"""Whether a pipeline fits a GPU, said before anything is sent there."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

from egotwin_sim.models.footprint import ClipSize, free_memory, pass_cost, require_memory, sampling_memory
from egotwin_sim.models.measure import measure
from egotwin_sim.pipelines.video_codec import SPATIAL


def check_memory(pipeline: Any, device: torch.device | str, *, batch: int = 1, offload: bool = False) -> None:
    """Refuse a GPU that is too small, with the settings that would fit; a processor is never refused.

    Args:
        pipeline: an ``EgoTwinPipeline`` with a published form's video VAE; nano fits everywhere.
        device: where it shall run.
        batch: clips at once.
        offload: only the network at work is on the GPU.

    Raises:
        UserError: it does not fit.
    """
    available = free_memory(torch.device(device))
    if available is not None and isinstance(pipeline.video_vae, AutoencoderKLCogVideoX):
        needed, alternatives = needed_memory(pipeline, batch=batch, offload=offload)
        require_memory(needed, available, [words for words, count in alternatives.items() if count <= available])


def needed_memory(pipeline: Any, *, batch: int, offload: bool) -> tuple[int, dict[str, int]]:
    """Bytes to sample with, and what other settings would need, by what a user would have to do."""
    networks = {
        name: part
        for name in ("transformer", "video_vae", "motion_vae", "text_encoder")
        if (part := getattr(pipeline, name, None)) is not None
    }

    @cache
    def denoising(clips: int) -> int:
        return pass_cost(networks["transformer"], ClipSize(clips, pipeline.config.num_frames)).peak_bytes

    @cache
    def decoding(clips: int, tiled: bool) -> int:
        return decode_cost(pipeline, 1 if pipeline.codec.slicing else clips, tiled)

    def total(clips: int, offloaded: bool, tiled: bool) -> int:
        costs = {name: 0 for name in networks}
        costs |= {"transformer": denoising(clips), "video_vae": decoding(clips, tiled)}
        return sampling_memory(networks, costs, offload=offloaded).total

    alternatives = {
        "generate one clip at a time (--batch 1)": total(1, offload, pipeline.video_vae.use_tiling),
        "code the frames in tiles (--tiling)": total(batch, offload, True),
        "keep parts that are not at work off the GPU (--offload)": total(batch, True, pipeline.video_vae.use_tiling),
        "--offload --tiling --batch 1": total(1, True, True),
    }
    return total(batch, offload, pipeline.video_vae.use_tiling), alternatives


def decode_cost(pipeline: Any, clips: int, tiled: bool) -> int:
    """Peak bytes of decoding clips together."""
    vae = _on_meta(pipeline.video_vae)
    config = pipeline.config
    height, width = config.height // SPATIAL, config.width // SPATIAL
    if tiled:
        height, width = min(height, vae.tile_latent_min_height), min(width, vae.tile_latent_min_width)
    latents = torch.empty(
        clips, vae.config.latent_channels, 1 + (config.num_frames - 1) // 4, height, width, device="meta"
    )
    with torch.no_grad():
        return measure(lambda: vae.decode(latents.to(vae.dtype))).peak_bytes


def _on_meta(module: Any) -> Any:
    """The same network without its weights."""
    with torch.device("meta"):
        empty = type(module).from_config(copy.deepcopy(dict(module.config)))
    # The base class's method: diffusers' own warns of modules to keep in float32 even where there are none.
    return torch.nn.Module.to(empty, module.dtype).eval()
