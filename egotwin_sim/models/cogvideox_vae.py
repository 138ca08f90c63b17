"""The published size's video VAE: diffusers' `AutoencoderKLCogVideoX` behind the interface of the nano one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import load_whole
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT


@dataclass(frozen=True)
class ConvCache:
    """What causal convolutions remember of the frames before: tensors, batch first, nested as diffusers nests them."""

    tensors: dict[str, Any]

    def index(self, rows: Tensor) -> ConvCache:
        """The cache of the given batch rows."""

        def chosen(value: Any) -> Any:
            return {k: chosen(v) for k, v in value.items()} if isinstance(value, dict) else value[rows]

        return ConvCache(chosen(self.tensors))


class CogVideoXVAE(nn.Module):
    """CogVideoX's video autoencoder as a stream, with 4x temporal and 8x spatial compression.

    The first latent holds 1 frame, each later one 4. Group norms take their statistics over all frames that pass
    together, so it matters which do. diffusers takes two latents at a time, three at first; a call here splits its
    latents in the same way, so a clip of 1 + 8n frames gives what diffusers gives, in one call or in calls of 3, 2,
    2, ... latents. A stream that shows every latent at once needs ``latents_per_group=1``: then each latent passes
    alone, in one call or in many, which diffusers cannot do (it makes one frame of a lone latent). Its tiling and
    slicing are not used.

    It has no depth channel: on its own it gives a view memory nothing to warp.

    Args:
        vae: the autoencoder of CogVideoX 1.0.
        latents_per_group: latents that pass together, 2 (as it was trained) or 1.

    Raises:
        UserError: an autoencoder of another kind.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX, latents_per_group: int = 2) -> None:
        super().__init__()
        if latents_per_group not in (1, 2):
            raise UserError(f"latents_per_group is {latents_per_group}; expected 1 or 2")
        config = vae.config
        more = config.use_quant_conv or config.use_post_quant_conv
        if config.temporal_compression_ratio != FRAMES_PER_LATENT or more:
            raise UserError(
                f"the video VAE has {config.temporal_compression_ratio} frames a latent, use_quant_conv {more}: "
                f"expected {FRAMES_PER_LATENT} and False; use that of a CogVideoX 1.0"
            )
        self.vae, self.latents_per_group = vae, latents_per_group
        self.patch = 2 ** (len(config.block_out_channels) - 1)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, latents_per_group: int = 2, **options: Any) -> CogVideoXVAE:
        """Load a folder that diffusers saved: the autoencoder's own, or a pipeline's, which has it in ``vae``.

        Args:
            folder: where it is.
            latents_per_group: see the class.
            **options: passed to diffusers, for example ``torch_dtype``.

        Raises:
            UserError: see ``checkpoint.load_whole``.
        """
        folder = Path(folder)
        folder = folder / "vae" if (folder / "vae").is_dir() else folder
        return cls(load_whole(AutoencoderKLCogVideoX, folder, **options), latents_per_group)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that ``from_pretrained`` and diffusers read."""
        self.vae.save_pretrained(folder)

    @property
    def config(self) -> Any:
        """The autoencoder's."""
        return self.vae.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vae.device

    def encode(self, video: Tensor) -> Tensor:
        """Normalised latents (B, C, 1+n, H/8, W/8) of a video (B, 3, 1+4n, H, W) in [-1, 1].

        Normalised means times ``scaling_factor``; a latent is the mean of its distribution.

        Raises:
            ValueError: if the number of frames is not 1+4n, or the height or width is not a multiple of 8.
        """
        return self.encode_piece(video)[0]

    def encode_piece(self, video: Tensor, cache: ConvCache | None = None) -> tuple[Tensor, ConvCache]:
        """Encode the next frames of a video.

        Args:
            video: (B, 3, T, H, W) in [-1, 1]; T is 1+4n at the start and 4n later.
            cache: the second result of the call for the frames before; None at the start.

        Returns:
            Normalised latents, and the cache to continue with.

        Raises:
            ValueError: as ``encode``.
        """
        lead = int(cache is None)  # the first frame has a latent of its own
        frames, height, width = video.shape[2:]
        if not frames or (frames - lead) % FRAMES_PER_LATENT or height % self.patch or width % self.patch:
            raise ValueError(
                f"video of {frames} frames of {height}x{width}: expected {'1+4n' if lead else '4n'} frames, sides a "
                f"multiple of {self.patch}"
            )
        sizes = [FRAMES_PER_LATENT * n for n in self._groups((frames - lead) // FRAMES_PER_LATENT + lead)]
        sizes[0] -= (FRAMES_PER_LATENT - 1) * lead
        means, tensors = [], None if cache is None else cache.tensors
        for group in video.to(self.vae.dtype).split(sizes, dim=2):
            moments, tensors = self.vae.encoder(group, conv_cache=tensors)
            tensors = _needed(tensors)
            means.append(moments.float().chunk(2, dim=1)[0])
        assert tensors is not None
        return torch.cat(means, dim=2) * self.config.scaling_factor, ConvCache(tensors)

    def encode_chunks(self, chunks: Tensor) -> Tensor:
        """Normalised latents (N, C, h, w) of chunks (N, 3, 4, H, W) in [-1, 1], each on its own."""
        moments, _ = self.vae.encoder(chunks.to(self.vae.dtype))
        return moments[:, :, 0].float().chunk(2, dim=1)[0] * self.config.scaling_factor

    def decode(self, latents: Tensor, cache: ConvCache | None = None) -> tuple[Tensor, ConvCache]:
        """Decode normalised latents (B, C, n, h, w), each to its own 4 frames.

        Args:
            latents: consecutive latents.
            cache: the second result of the call that decoded the latents before; None at the start.

        Returns:
            (B, n, 3 channels, 4 frames, H, W), RGB in about [-1, 1], and the cache to continue with. The latent of a
            first frame holds that frame four times: ``video_vae.join_chunks`` drops the copies.
        """
        pictures, tensors = [], {} if cache is None else cache.tensors
        raw = (latents / self.config.scaling_factor).to(self.vae.dtype)
        for group in raw.split(self._groups(latents.shape[2]), dim=2):
            picture, tensors = self._decode_group(group, tensors)
            pictures.append(picture.float())
        if cache is None:
            pictures.insert(0, pictures[0][:, :, :1].expand(-1, -1, FRAMES_PER_LATENT - 1, -1, -1))
        return torch.cat(pictures, dim=2).unflatten(2, (-1, FRAMES_PER_LATENT)).transpose(1, 2), ConvCache(tensors)

    def _groups(self, latents: int) -> list[int]:
        """How many latents pass together: the remainder goes with the first ones, as in diffusers."""
        size = self.latents_per_group
        count = max(latents // size, 1)
        return [latents - size * (count - 1)] + [size] * (count - 1)

    def _decode_group(self, latents: Tensor, before: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Frames of raw latents that pass together, and what to remember; ``before`` is empty at the start.

        diffusers' own walk tells a clip's first latent by the parity of the number of latents, which ties it to groups
        of 3, 2, 2, ...; this one is told.
        """
        decoder, after = self.vae.decoder, {}
        x, after["conv_in"] = decoder.conv_in(latents, conv_cache=before.get("conv_in"))
        x, after["mid_block"] = decoder.mid_block(x, None, latents, conv_cache=before.get("mid_block"))
        for i, block in enumerate(decoder.up_blocks):
            for j, resnet in enumerate(block.resnets):
                name = f"up_block_{i}.{j}"
                x, after[name] = resnet(x, None, latents, conv_cache=before.get(name))
            for upsampler in block.upsamplers or ():
                x = _upsample(upsampler, x, starts=not before)
        x, after["norm_out"] = decoder.norm_out(x, latents, conv_cache=before.get("norm_out"))
        x, after["conv_out"] = decoder.conv_out(decoder.conv_act(x), conv_cache=before.get("conv_out"))
        return x, _needed(after)


def _upsample(layer: Any, x: Tensor, starts: bool) -> Tensor:
    """What a `CogVideoXUpsample3D` does to (B, C, T, h, w); the first frame of a clip is not doubled in time."""
    if layer.compress_time:
        still = x[:, :, : int(starts)]
        x = torch.cat([still, x[:, :, int(starts) :].repeat_interleave(2, dim=2)], dim=2)
    frames = F.interpolate(x.transpose(1, 2).flatten(0, 1), scale_factor=2.0)
    return layer.conv(frames).unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def _needed(tensors: dict[str, Any]) -> dict[str, Any]:
    """The cache without what convolutions of one frame keep: whole feature maps, which they never read."""
    return {
        name: _needed(value) if isinstance(value, dict) else value
        for name, value in tensors.items()
        if name not in ("conv_y", "conv_b")
    }
