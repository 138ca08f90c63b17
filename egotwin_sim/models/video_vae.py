"""The nano video VAE: a small causal autoencoder whose decoder is cheap enough to stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

FRAMES_PER_LATENT = 4
PATCH = 8  # pixels of a frame's side that become one latent position


def start_at_zero(*modules: nn.Module) -> None:
    """Make layers give zero until they have learnt something."""
    for module in modules:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)


class ResBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; the last convolution starts at zero so that the block starts as identity.

    With ``temporal=True`` the first convolution also sees the frame before (a causal kernel of two frames).
    """

    def __init__(self, channels: int, temporal: bool = False) -> None:
        super().__init__()
        self.temporal = temporal
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels * (2 if temporal else 1), channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        start_at_zero(self.conv2)

    def forward(self, x: Tensor, batch: int = 1, previous: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Map (batch * T, C, h, w); ``previous`` is the (batch, C, h, w) feature of the frame before the first one.

        Returns the output and, for a temporal block, the feature to pass as ``previous`` of the next call.
        """
        h = F.silu(self.norm1(x))
        last = None
        if self.temporal:
            features = h.unflatten(0, (batch, -1))
            start = torch.zeros_like(features[:, :1]) if previous is None else previous[:, None].to(features.dtype)
            last = features[:, -1]
            h = torch.cat([h, torch.cat([start, features[:, :-1]], dim=1).flatten(0, 1)], dim=1)
            h = h.contiguous(memory_format=torch.channels_last)
        h = self.conv1(h)
        return x + self.conv2(F.silu(self.norm2(h))), last


@dataclass
class DecoderCache:
    """What the decoder remembers of the latents before: one (B, C, h, w) feature per temporal block."""

    features: list[Tensor]

    def index(self, rows: Tensor) -> DecoderCache:
        """The cache of the given batch rows."""
        return DecoderCache([feature[rows] for feature in self.features])


class VideoVAE(ModelMixin, ConfigMixin):
    """A causal video autoencoder with 4x temporal and 8x spatial compression.

    The first latent holds 1 frame, each later one 4 frames. Each frame has its own share of a latent's channels and
    is encoded by itself, so the latent of a picture does not depend on when it was seen and a fast turn of the head
    does not blur it; the decoder also sees the frame before (causal), which keeps textures steady.

    Args:
        latent_channels: channels C of a latent; a quarter of them for each frame. Each frame's first channels start
            as the lowest cosine frequencies of its 8x8 patches, to which the networks add what those cannot say.
        encoder_channels: widths at 1/4 and 1/8 of the picture.
        encoder_blocks: residual blocks at 1/4 and 1/8.
        decoder_channels: widths at 1/8 and 1/4 of the picture.
        decoder_blocks: residual blocks at 1/8 and 1/4; the first at 1/8 sees the frame before.
        latents_mean, latents_std: per-channel statistics; ``encode`` returns latents with zero mean and unit
            variance over the training data.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 48,
        encoder_channels: tuple[int, int] = (64, 128),
        encoder_blocks: tuple[int, int] = (1, 2),
        decoder_channels: tuple[int, int] = (128, 80),
        decoder_blocks: tuple[int, int] = (3, 2),
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        share = latent_channels // FRAMES_PER_LATENT
        wide, deep = encoder_channels
        self.encoder_in = nn.Conv2d(3 * 16, wide, 3, padding=1)
        self.encoder_high = nn.ModuleList(ResBlock(wide) for _ in range(encoder_blocks[0]))
        self.encoder_down = nn.Conv2d(4 * wide, deep, 1)
        self.encoder_low = nn.ModuleList(ResBlock(deep) for _ in range(encoder_blocks[1]))
        self.encoder_out = nn.Conv2d(deep, 2 * share, 3, padding=1)

        low, high = decoder_channels
        self.decoder_in = nn.Conv2d(share, low, 3, padding=1)
        self.decoder_low = nn.ModuleList(ResBlock(low, temporal=i == 0) for i in range(decoder_blocks[0]))
        self.decoder_up = nn.Conv2d(low, 4 * high, 1)
        self.decoder_high = nn.ModuleList(ResBlock(high) for _ in range(decoder_blocks[1]))
        self.decoder_out = nn.Conv2d(high, 3 * 16, 3, padding=1)

        basis = cosine_basis(share)
        self.encoder_patch = nn.Conv2d(3, share, PATCH, stride=PATCH)
        self.decoder_patch = nn.ConvTranspose2d(share, 3, PATCH, stride=PATCH)
        start_at_zero(self.encoder_out, self.decoder_out, self.encoder_patch, self.decoder_patch)
        with torch.no_grad():
            self.encoder_patch.weight.copy_(basis)
            self.decoder_patch.weight.copy_(basis)
        self.to(memory_format=torch.channels_last)

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents (N, C, h, w) to zero mean and unit variance over the training data."""
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of ``normalise``."""
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        # Made from the config when needed: a buffer would be empty after a lazy load.
        channels = self.config.latent_channels
        mean = torch.tensor(self.config.latents_mean or [0.0] * channels, dtype=like.dtype, device=like.device)
        std = torch.tensor(self.config.latents_std or [1.0] * channels, dtype=like.dtype, device=like.device)
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def moments(self, chunks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (N, C, h, w), before normalisation, of chunks (N, 3, 4, H, W) in [-1, 1]."""
        frames = chunks.transpose(1, 2).flatten(0, 1)
        x = self.encoder_in(F.pixel_unshuffle(frames, 4).contiguous(memory_format=torch.channels_last))
        for block in self.encoder_high:
            x, _ = block(x)
        x = self.encoder_down(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        for block in self.encoder_low:
            x, _ = block(x)
        mean, log_variance = self.encoder_out(x).float().chunk(2, dim=1)
        mean = mean + self.encoder_patch(frames).float()
        mean, log_variance = (x.unflatten(0, (-1, FRAMES_PER_LATENT)).flatten(1, 2) for x in (mean, log_variance))
        return mean, log_variance.clamp(-20, 10)

    def encode_chunks(self, chunks: Tensor) -> Tensor:
        """Normalised latents (N, C, h, w) of chunks (N, 3, 4, H, W) in [-1, 1], each on its own."""
        return self.normalise(self.moments(chunks)[0])

    def encode(self, video: Tensor) -> Tensor:
        """Normalised latents (B, C, 1+n, H/8, W/8) of a video (B, 3, 1+4n, H, W) in [-1, 1].

        Raises:
            ValueError: if the number of frames is not 1+4n, or the height or width is not a multiple of 8.
        """
        latents = self.encode_chunks(split_chunks(video).flatten(0, 1))
        return latents.unflatten(0, (video.shape[0], -1)).transpose(1, 2)

    def decode(self, latents: Tensor, cache: DecoderCache | None = None) -> tuple[Tensor, DecoderCache]:
        """Decode normalised latents (B, C, n, h, w), each to its own 4 frames.

        Args:
            latents: consecutive latents.
            cache: the second result of the call that decoded the latents before; None at the start.

        Returns:
            (B, n, 3, 4 frames, H, W) RGB in [-1, 1], and the cache to continue with. The latent of a first frame
            holds that frame four times: ``join_chunks`` drops the copies.
        """
        batch, _, steps = latents.shape[:3]
        x = self.denormalise(latents.transpose(1, 2).flatten(0, 1)).unflatten(1, (FRAMES_PER_LATENT, -1)).flatten(0, 1)
        x = x.contiguous(memory_format=torch.channels_last)
        coarse = self.decoder_patch(x).float()
        x = self.decoder_in(x)
        features: list[Tensor] = []
        for block in self.decoder_low:
            previous = cache.features[len(features)] if cache is not None and block.temporal else None
            x, last = block(x, batch, previous)
            if last is not None:
                features.append(last)
        x = F.pixel_shuffle(self.decoder_up(x), 2).contiguous(memory_format=torch.channels_last)
        for block in self.decoder_high:
            x, _ = block(x)
        x = coarse + F.pixel_shuffle(self.decoder_out(x).float(), 4)
        return x.unflatten(0, (batch, steps, FRAMES_PER_LATENT)).transpose(2, 3), DecoderCache(features)


def cosine_basis(count: int) -> Tensor:
    """The ``count`` lowest cosine patterns of a colour patch, orthonormal: (count, 3, 8, 8).

    Grey first, and of each frequency the two opponent colours at a quarter of grey's number: pictures vary most so.
    """
    position = (torch.arange(PATCH) + 0.5) * torch.pi / PATCH
    waves = torch.stack([torch.cos(k * position) for k in range(PATCH)])
    waves = waves / waves.norm(dim=1, keepdim=True)
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    order = sorted(
        ((i + j) * (1 if c == 0 else 2) + (c > 0), c, i, j)
        for c in range(3)
        for i in range(PATCH)
        for j in range(PATCH)
    )
    return torch.stack([torch.einsum("c,h,w->chw", colours[c], waves[i], waves[j]) for _, c, i, j in order[:count]])


def split_chunks(video: Tensor) -> Tensor:
    """(B, 3, 1+4n, H, W) to (B, 1+n, 3, 4, H, W); the first frame fills its chunk four times."""
    frames, height, width = video.shape[2:]
    if frames % FRAMES_PER_LATENT != 1 or height % 8 or width % 8:
        raise ValueError(f"video of {frames} frames of {height}x{width}: expected 1+4n frames, sides a multiple of 8")
    padded = torch.cat([video[:, :, :1].expand(-1, -1, FRAMES_PER_LATENT - 1, -1, -1), video], dim=2)
    return padded.unflatten(2, (-1, FRAMES_PER_LATENT)).transpose(1, 2)


def join_chunks(chunks: Tensor) -> Tensor:
    """(B, 1+n, C, 4, H, W), the first chunk holding one frame, to (B, C, 1+4n, H, W)."""
    return chunks.transpose(1, 2).flatten(2, 3)[:, :, FRAMES_PER_LATENT - 1 :]
