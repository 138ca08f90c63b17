"""Frames to normalised latents and back, with nano's video VAE or CogVideoX's."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import Tensor

from egotwin_sim.models.video_vae import VideoVAE, join_chunks

SPATIAL = 8  # pixels per latent pixel, of both VAEs


class VideoCodec:
    """A video VAE as whole clips use it.

    Args:
        vae: the network. CogVideoX's own tiling and slicing apply where they are switched on.

    Attributes:
        slicing: whether the rows of a batch pass one by one, which takes less memory.
    """

    def __init__(self, vae: VideoVAE | AutoencoderKLCogVideoX) -> None:
        self.vae, self.slicing = vae, False

    @property
    def channels(self) -> int:
        """C, channels of a latent."""
        return int(self.vae.config.latent_channels)

    def encode(self, video: Tensor) -> Tensor:
        """Latents float32 (B, 1 + K, C, H/8, W/8) of a video (B, 3, 1 + 4K, H, W) in [-1, 1].

        Latent 0 is that of the first frame alone, as where nothing but the first frame is given. In one call with the
        frames behind it, the group norms of CogVideoX's encoder would let it hear of them.
        """
        if self.slicing and len(video) > 1:
            return torch.cat([self.encode(row[None]) for row in video])
        if isinstance(self.vae, VideoVAE):
            return self.vae.encode(video).transpose(1, 2).float()
        latents = self._published(video)
        if video.shape[2] > 1:
            latents = torch.cat([self._published(video[:, :, :1]), latents[:, 1:]], dim=1)
        return latents

    def _published(self, video: Tensor) -> Tensor:
        assert isinstance(self.vae, AutoencoderKLCogVideoX)
        moments: Any = self.vae.encode(video.to(self.vae.dtype))
        return (moments.latent_dist.mode() * self.vae.config.scaling_factor).transpose(1, 2).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Video float32 (B, 3, 1 + 4K, H, W) in [-1, 1] of latents (B, 1 + K, C, H/8, W/8)."""
        if self.slicing and len(latents) > 1:
            return torch.cat([self.decode(row[None]) for row in latents])
        latents = latents.transpose(1, 2)
        if isinstance(self.vae, VideoVAE):
            return join_chunks(self.vae.decode(latents)[0]).float()
        decoded: Any = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype))
        return decoded.sample.float()
