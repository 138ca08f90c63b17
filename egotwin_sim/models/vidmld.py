"""The VidMLD baseline: joint latent diffusion of video and body motion by one plain transformer, without branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNorm
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.errors import UserError
from egotwin_sim.models.attention import Visibility
from egotwin_sim.models.checkpoint import WholeModelMixin
from egotwin_sim.models.ring_levels import Level
from egotwin_sim.models.rotary import motion_rotary, motion_times, signed_sines, video_rotary
from egotwin_sim.models.transformer import EgoTwinTransformerOutput
from egotwin_sim.models.transformer_layers import Branch, Times, Tokens


class Layer(Branch):
    """CogVideoX's block with one expert, for all tokens alike."""

    def forward(self, x: Tensor, time: Tensor, level: Level) -> Tensor:
        """Tokens (B, S, width) to tokens; time (B, S, time_dim) is the activated timestep embedding of each."""
        nothing = x[:, :0]
        tokens, _ = self.layer(None, Tokens(nothing, nothing, x), Times(time, time, time), level, None)
        return tokens.video


class VidMLD(WholeModelMixin, ModelMixin, ConfigMixin):
    """MLD (arXiv 2212.04048) extended to video: the baseline of the paper's main table, in our construction.

    The paper says of VidMLD only that it extends MLD, a latent diffusion of motion, to video and motion together. What
    we build is what remains of the full model without its own ideas: one diffusion transformer over one sequence, the
    text's tokens before those of motion and of video's patches. All tokens share all weights but the linear maps in and
    out, all see all others, and both modalities have one timestep. What is not compared is as in the full model: VAEs,
    blocks with adaptive norms, rotary positions, v-prediction. MLD's own denoiser has the timestep as a token and long
    skip connections; built so, it learnt more slowly and could not start from weights of video.

    Latent 0 and motion token 0 are given: their tokens have timestep 0. Text has the clip's.

    `forward` takes what `EgoTwinTransformer3DModel.forward` takes where a clip is denoised as a whole.

    Args:
        num_attention_heads: heads.
        attention_head_dim: channels per head, a multiple of 8.
        in_channels: channels of the video input.
        out_channels: channels of the video prediction.
        time_embed_dim: width of the timestep embeddings.
        text_embed_dim: width of the text encoder's tokens.
        num_layers: layers.
        sample_width: width in latent pixels that the positions are made for.
        sample_height: height in latent pixels that the positions are made for.
        patch_size: side of a patch in latent pixels.
        max_text_seq_length: text tokens at most.
        motion_channels: channels C of a motion token.
        interaction: False; there is no interaction mask.
        shared_timestep: True; both modalities have one timestep.

    Raises:
        UserError: a config that cannot be built.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["Layer"]

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 4,
        attention_head_dim: int = 64,
        in_channels: int = 64,
        out_channels: int = 64,
        time_embed_dim: int = 64,
        text_embed_dim: int = 384,
        num_layers: int = 10,
        sample_width: int = 8,
        sample_height: int = 8,
        patch_size: int = 2,
        max_text_seq_length: int = 32,
        motion_channels: int = 32,
        interaction: bool = False,
        shared_timestep: bool = True,
    ) -> None:
        super().__init__()
        if interaction or not shared_timestep:
            raise UserError("VidMLD has no interaction mask and one timestep: interaction false, shared_timestep true")
        if attention_head_dim % 8:
            raise UserError(f"attention_head_dim is {attention_head_dim}: rotary positions need a multiple of 8")
        width = num_attention_heads * attention_head_dim
        block: dict[str, Any] = {
            "heads": num_attention_heads,
            "head_dim": attention_head_dim,
            "time_dim": time_embed_dim,
            "bias": True,
            "affine": True,
            "eps": 1e-5,
            "dropout": 0.0,
            "activation_fn": "gelu-approximate",
        }
        self.text_in = nn.Linear(text_embed_dim, width)
        self.motion_in = nn.Linear(motion_channels, width)
        self.video_in = nn.Linear(in_channels * patch_size**2, width)
        self.time_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, time_embed_dim)
        self.layers = nn.ModuleList([Layer(width, experts=1, **block) for _ in range(num_layers)])
        self.norm_final = nn.LayerNorm(width)
        self.norm_out = AdaLayerNorm(
            embedding_dim=time_embed_dim, output_dim=2 * width, norm_elementwise_affine=True, norm_eps=1e-5, chunk_dim=1
        )
        self.motion_proj_out = nn.Linear(width, motion_channels)
        self.proj_out = nn.Linear(width, out_channels * patch_size**2)
        self.initialise()

    def initialise(self) -> None:
        """Start as the full model does: every layer an identity (gates at zero), the prediction zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.time_embedding.linear_1.weight, std=0.02)
        nn.init.normal_(self.time_embedding.linear_2.weight, std=0.02)
        layers: Any = self.layers
        silent = [norm.linear for layer in layers for norm in (layer.norm1, layer.norm2)]
        for module in (*silent, self.norm_out.linear, self.motion_proj_out, self.proj_out):
            nn.init.zeros_(module.weight)

    def forward(
        self,
        video: Tensor,
        text: Tensor,
        video_timestep: Tensor,
        motion: Tensor,
        motion_timestep: Tensor,
        *,
        text_mask: Tensor | None = None,
        latent_positions: Sequence[int] | None = None,
        temporal: str = "bidirectional",
        motion_only: bool = False,
        return_dict: bool = True,
    ) -> EgoTwinTransformerOutput | tuple[Tensor | None, Tensor]:
        """Predict v for video and motion.

        Args:
            video: (B, F, in_channels, H, W).
            text: (B, Lt, text_embed_dim).
            video_timestep: (B,) or (B, F): one value for all latents of a clip; latent 0 may have 0, being given.
            motion: (B, 2F - 1, motion_channels).
            motion_timestep: (B,) or (B, M), likewise, with the video's value.
            text_mask: bool (B, Lt), False at padding.
            latent_positions: 0..F-1 or None; there are no windows.
            temporal: "bidirectional"; there is no causal form.
            motion_only: predict no video.
            return_dict: an `EgoTwinTransformerOutput` rather than the tuple of video and motion.

        Raises:
            UserError: shapes that do not belong together, timesteps of the modalities that differ, or a causal mask.
        """
        config, p = self.config, self.config.patch_size
        self._check(video, text, motion, latent_positions, temporal)
        batch, frames, _, height, width = video.shape
        grid = (height // p, width // p)
        per_latent = grid[0] * grid[1]
        video_time, motion_time = (
            _spread(video_timestep, batch, frames),
            _spread(motion_timestep, batch, motion.shape[1]),
        )
        timestep = torch.maximum(video_time.amax(1), motion_time.amax(1))
        if bool((torch.cat([video_time[:, 1:], motion_time[:, 1:]], dim=1) != timestep[:, None]).any()):
            raise UserError(
                "video and motion have different timesteps: VidMLD has one for both, so a modality cannot be given "
                "(TM2V, TV2M) nor guided by an absent one"
            )

        patches = video.reshape(batch, frames, -1, grid[0], p, grid[1], p).permute(0, 1, 3, 5, 2, 4, 6)
        words = self.text_in(text)  # of the dtype that products have, also under autocast
        x = torch.cat([words, self.motion_in(motion), self.video_in(patches.flatten(4).flatten(1, 3))], dim=1)
        num_text, num_motion, count = text.shape[1], motion.shape[1], x.shape[1]
        each = [timestep[:, None].expand(-1, num_text), motion_time, video_time.repeat_interleave(per_latent, dim=1)]
        features = self.time_proj(torch.cat(each, dim=1).flatten()).to(self.text_in.weight.dtype)
        time = F.silu(self.time_embedding(features)).unflatten(0, (batch, count))
        turn = self._turn(num_text, frames, grid, words)
        seen = Visibility.of(torch.ones(count, count, dtype=torch.bool), [0, count], words.dtype, x.device)
        if text_mask is not None and not bool(text_mask.all()):
            seen = seen.without(~text_mask.to(device=x.device, dtype=torch.bool), has_rows=True)
        level = Level(seen, turn, turn)
        for layer in self.layers:
            x = layer(x, time, level)
        shift, scale = self.norm_out.linear(time).chunk(2, dim=-1)
        x = (self.norm_out.norm(self.norm_final(x)) * (1 + scale) + shift)[:, num_text:]
        motion_out = self.motion_proj_out(x[:, :num_motion])
        video_out = None
        if not motion_only:
            patches = self.proj_out(x[:, num_motion:]).reshape(batch, frames, *grid, config.out_channels, p, p)
            video_out = patches.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        return EgoTwinTransformerOutput(video=video_out, motion=motion_out) if return_dict else (video_out, motion_out)

    def _turn(self, num_text: int, frames: int, grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (S, 1, head_dim) of the sequence; text has no position."""
        config, p = self.config, self.config.patch_size
        head_dim, positions = config.attention_head_dim, list(range(frames))
        tables = [
            (torch.ones(num_text, head_dim), torch.zeros(num_text, head_dim)),
            motion_rotary(head_dim, motion_times(positions, positions)),
            video_rotary(head_dim, positions, grid, (config.sample_height // p, config.sample_width // p)),
        ]
        cos, sin = (torch.cat([table[i] for table in tables])[:, None] for i in (0, 1))
        return cos.to(like), signed_sines(sin).to(like)

    def _check(
        self, video: Tensor, text: Tensor, motion: Tensor, latent_positions: Sequence[int] | None, temporal: str
    ) -> None:
        config, p = self.config, self.config.patch_size
        if temporal != "bidirectional":
            raise UserError(f'temporal is {temporal!r}: VidMLD has "bidirectional" only')
        if video is None or motion is None or text is None:
            raise UserError("VidMLD denoises video and motion together, from text: give all three")
        if video.ndim != 5 or video.shape[2] != config.in_channels or video.shape[3] % p or video.shape[4] % p:
            raise UserError(
                f"video has shape {tuple(video.shape)}: expected (batch, latents, {config.in_channels}, height, "
                f"width), height and width multiples of {p}"
            )
        if motion.shape[1:] != (2 * video.shape[1] - 1, config.motion_channels):
            raise UserError(
                f"motion has shape {tuple(motion.shape)}: expected (batch, {2 * video.shape[1] - 1}, "
                f"{config.motion_channels}) for {video.shape[1]} latents"
            )
        if text.ndim != 3 or text.shape[2] != config.text_embed_dim or text.shape[1] > config.max_text_seq_length:
            raise UserError(
                f"text has shape {tuple(text.shape)}: expected (batch, at most {config.max_text_seq_length} tokens, "
                f"{config.text_embed_dim})"
            )
        if latent_positions is not None and list(latent_positions) != list(range(video.shape[1])):
            raise UserError(f"latent positions {list(latent_positions)}: VidMLD takes whole clips only")


def _spread(timestep: Tensor, batch: int, count: int) -> Tensor:
    """Timesteps (B,) or (B, count) as (B, count)."""
    rows = timestep[:, None] if timestep.ndim == 1 else timestep
    return rows.expand(batch, count)
