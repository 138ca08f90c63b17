"""The three-branch transformer: CogVideoX for text and video, with a narrower motion branch in its lower layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import (
    CogVideoXPatchEmbed,
    TimestepEmbedding,
    Timesteps,
    get_1d_sincos_pos_embed_from_grid,
    get_3d_sincos_pos_embed,
)
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNorm
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.errors import UserError
from egotwin_sim.models.attention import Visibility
from egotwin_sim.models.checkpoint import load_whole
from egotwin_sim.models.interaction_mask import interaction_mask, motion_chunks
from egotwin_sim.models.ring_keys import NewLevel, RingKeys
from egotwin_sim.models.ring_levels import Level, choose_rows, ring_level
from egotwin_sim.models.rotary import motion_rotary, motion_times, signed_sines, video_rotary
from egotwin_sim.models.separate_text import with_own_text
from egotwin_sim.models.transformer_cache import LayerCache, RingCache, TransformerCache
from egotwin_sim.models.transformer_layers import Branch, LayerModulation, Times, Tokens, modulate, project

NOT_COGVIDEOX = ("motion_channels", "motion_dim", "motion_layers", "interaction", "separate_text", "shared_timestep")
"""Settings that a CogVideoX config does not have."""

TABLES_KEPT = 16
"""Masks and position tables that a model keeps; a stream needs a handful, training one for each kind of window."""


@dataclass
class EgoTwinTransformerOutput(BaseOutput):
    """What the network predicts (v, by CogVideoX's schedule).

    Attributes:
        video: (B, F, out_channels, H, W), or None without video.
        motion: (B, M, motion_channels), or None without motion.
        cache: of all chunks seen so far, if it was asked for.
    """

    video: Tensor | None
    motion: Tensor | None
    cache: TransformerCache | RingCache | None = None


@dataclass(frozen=True)
class Modulations:
    """What timesteps make of every norm.

    Attributes:
        layers: one per layer.
        motion_out: shift and scale (B or 1, groups, 1, width) of the norm before the motion's prediction.
        video_out: likewise for the video's.
    """

    layers: tuple[LayerModulation, ...]
    motion_out: tuple[Tensor, Tensor] | None
    video_out: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class _Window:
    """What one call holds; cached chunks come first in `positions` and `times`."""

    batch: int
    num_past: int
    positions: tuple[int, ...]
    times: tuple[float, ...]
    grid: tuple[int, int]
    has_video: bool
    has_motion: bool
    num_text: int
    text_mask: Tensor | None

    @property
    def new(self) -> tuple[int, ...]:
        """Chunk numbers of the new latents."""
        return self.positions[self.num_past :]

    @property
    def new_times(self) -> tuple[float, ...]:
        """Times of the new latents."""
        return self.times[self.num_past :]

    @property
    def pattern(self) -> tuple[int, ...]:
        """The smallest chunk numbers with the same mask: what counts is which is 0, and which follow one another."""
        numbers = [min(self.positions[0], 1)]
        for before, after in zip(self.positions, self.positions[1:], strict=False):
            numbers.append(numbers[-1] + min(after - before, 2))
        return tuple(numbers)

    @property
    def key(self) -> Hashable:
        """All that masks and position tables depend on; a stream comes back to the same key at every chunk."""
        return self.num_past, self.pattern, self.times, self.grid, self.has_motion, self.num_text


def _shares(timestep: Tensor, batch: int, latents: int) -> Tensor:
    """Weight (batch, latents, 1), 1 in the mean, of each latent in the text's timestep.

    What is given says nothing about the step. A weighted mean, for autocast would widen a sum to float32.
    """
    denoised = (timestep.reshape(-1, 1) if timestep.ndim < 2 else timestep).expand(batch, latents) > 0
    denoised = denoised | ~denoised.any(1, keepdim=True)
    denoised = denoised.float()
    return (denoised / denoised.mean(1, keepdim=True))[..., None]


class EgoTwinTransformer3DModel(ModelMixin, ConfigMixin):
    """Denoises text-conditioned video and body motion together (EgoTwin, arXiv 2508.13013, sections 3.2 to 3.4).

    Text and video are CogVideoX: the same weights for both with an adaptive norm for each, so its checkpoints load
    (`from_cogvideox`), and without motion tokens the output equals diffusers' `CogVideoXTransformer3DModel`. The motion
    branch has its own, narrower weights in the lowest `motion_layers` layers, joins the attention there under the
    interaction mask, and leaves with its prediction.

    Timesteps: each modality has its own, per clip or per chunk, embedded by its own network; the other modality's
    embedding is added through a projection that starts at zero. Under ``temporal="causal"`` text takes timestep 0,
    because it must not depend on any chunk; otherwise the mean over the latents that are not given, if there are any.

    Positions: 3D rotary for video; motion token j turns in time alone, at latent time j / 2 (the end of what it covers,
    as with latents). Without rotary positions in the config, CogVideoX's sine tables are added to the video and a 1D
    sine table to the motion.

    Args:
        num_attention_heads: heads of the joint attention.
        attention_head_dim: channels per head; with rotary positions a multiple of 8 whose quarter is even.
        in_channels: channels of the video input; the caller concatenates what conditions it.
        out_channels: channels of the video prediction.
        flip_sin_to_cos: order in the timestep features.
        freq_shift: frequency shift of the timestep features.
        time_embed_dim: width of the timestep embeddings.
        text_embed_dim: width of the text encoder's tokens.
        num_layers: layers of text and video.
        dropout: dropout after the embedding and in the feed-forwards.
        attention_bias: bias of the query, key and value projections.
        sample_width: width in latent pixels that the positions are made for.
        sample_height: height in latent pixels that the positions are made for.
        sample_frames: video frames that the sine tables are made for.
        patch_size: side of a patch in latent pixels.
        patch_size_t: must be None (CogVideoX 1.5's patches in time are not supported).
        temporal_compression_ratio: video frames per latent.
        max_text_seq_length: text tokens at most.
        activation_fn: activation of the feed-forwards.
        timestep_activation_fn: activation in the timestep embeddings.
        norm_elementwise_affine: learnt scale and shift in the norms.
        norm_eps: epsilon of the norms.
        spatial_interpolation_scale: scale of the sine tables in space.
        temporal_interpolation_scale: scale of the sine tables in time.
        use_rotary_positional_embeddings: rotary positions instead of sine tables.
        use_learned_positional_embeddings: the sine table is a stored buffer (CogVideoX-5b-I2V).
        patch_bias: bias of the patch projection.
        motion_channels: channels C of a motion token.
        motion_dim: width of the motion branch.
        motion_layers: layers of the motion branch; half of `num_layers` if None.
        interaction: whether video and motion see each other by the interaction mask only, where a call does not say.
        separate_text: text has weights of its own (as in the first MM-DiT, arXiv 2403.03206) instead of CogVideoX's.
            Those of its last layer count by their keys and values alone.
        shared_timestep: trained with one timestep for both modalities. Nothing here depends on it: it says that a
            given modality (TM2V, TV2M) and guidance by an absent one are not defined for these weights.

    Raises:
        UserError: a config that cannot be built.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["Branch", "CogVideoXPatchEmbed"]
    _skip_layerwise_casting_patterns = ["patch_embed", "norm"]

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 30,
        attention_head_dim: int = 64,
        in_channels: int = 16,
        out_channels: int = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        text_embed_dim: int = 4096,
        num_layers: int = 30,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        patch_size_t: int | None = None,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        use_rotary_positional_embeddings: bool = False,
        use_learned_positional_embeddings: bool = False,
        patch_bias: bool = True,
        motion_channels: int = 32,
        motion_dim: int = 768,
        motion_layers: int | None = None,
        interaction: bool = True,
        separate_text: bool = False,
        shared_timestep: bool = False,
    ) -> None:
        super().__init__()
        inner_dim = num_attention_heads * attention_head_dim
        motion_layers = num_layers // 2 if motion_layers is None else motion_layers
        if patch_size_t is not None:
            raise UserError(
                f"patch_size_t is {patch_size_t}: patches in time (CogVideoX 1.5) are not supported, "
                "use a CogVideoX 1.0 config"
            )
        if not 1 <= motion_layers <= num_layers:
            raise UserError(f"motion_layers is {motion_layers}: expected 1 to num_layers ({num_layers})")
        if use_rotary_positional_embeddings and attention_head_dim % 8:
            raise UserError(f"attention_head_dim is {attention_head_dim}: rotary positions need a multiple of 8")

        self.patch_embed = CogVideoXPatchEmbed(
            patch_size=patch_size,
            in_channels=in_channels,
            embed_dim=inner_dim,
            text_embed_dim=text_embed_dim,
            bias=patch_bias,
            sample_width=sample_width,
            sample_height=sample_height,
            sample_frames=sample_frames,
            temporal_compression_ratio=temporal_compression_ratio,
            max_text_seq_length=max_text_seq_length,
            spatial_interpolation_scale=spatial_interpolation_scale,
            temporal_interpolation_scale=temporal_interpolation_scale,
            use_positional_embeddings=not use_rotary_positional_embeddings,
            use_learned_positional_embeddings=use_learned_positional_embeddings,
        )
        self.embedding_dropout = nn.Dropout(dropout)
        self.time_proj = Timesteps(inner_dim, flip_sin_to_cos, freq_shift)
        self.time_embedding = TimestepEmbedding(inner_dim, time_embed_dim, timestep_activation_fn)
        block: dict[str, Any] = {
            "heads": num_attention_heads,
            "head_dim": attention_head_dim,
            "time_dim": time_embed_dim,
            "bias": attention_bias,
            "affine": norm_elementwise_affine,
            "eps": norm_eps,
            "dropout": dropout,
            "activation_fn": activation_fn,
        }
        experts = 1 if separate_text else 2
        self.transformer_blocks = nn.ModuleList(
            [Branch(inner_dim, experts=experts, **block) for _ in range(num_layers)]
        )
        self.text_blocks = nn.ModuleList(
            [Branch(inner_dim, experts=1, **block) for _ in range(num_layers if separate_text else 0)]
        )
        self.norm_final = nn.LayerNorm(inner_dim, norm_eps, norm_elementwise_affine)
        head = {"norm_elementwise_affine": norm_elementwise_affine, "norm_eps": norm_eps, "chunk_dim": 1}
        self.norm_out = AdaLayerNorm(embedding_dim=time_embed_dim, output_dim=2 * inner_dim, **head)
        self.proj_out = nn.Linear(inner_dim, patch_size * patch_size * out_channels)

        self.motion_embed = nn.Linear(motion_channels, motion_dim)
        self.motion_time_embedding = TimestepEmbedding(inner_dim, time_embed_dim, timestep_activation_fn)
        self.motion_time_to_video = nn.Linear(time_embed_dim, time_embed_dim, bias=False)
        self.video_time_to_motion = nn.Linear(time_embed_dim, time_embed_dim, bias=False)
        self.motion_blocks = nn.ModuleList([Branch(motion_dim, experts=1, **block) for _ in range(motion_layers)])
        self.motion_norm_final = nn.LayerNorm(motion_dim, norm_eps, norm_elementwise_affine)
        self.motion_norm_out = AdaLayerNorm(embedding_dim=time_embed_dim, output_dim=2 * motion_dim, **head)
        self.motion_proj_out = nn.Linear(motion_dim, motion_channels)

        self._tables: dict[Hashable, Any] = {}
        self.initialise()

    def initialise(self) -> None:
        """Start as CogVideoX and DiT do: every layer an identity (gates at zero), the prediction zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for embedding in (self.time_embedding, self.motion_time_embedding):
            nn.init.normal_(embedding.linear_1.weight, std=0.02)
            nn.init.normal_(embedding.linear_2.weight, std=0.02)
        silent = [
            self.motion_time_to_video,
            self.video_time_to_motion,
            self.norm_out.linear,
            self.motion_norm_out.linear,
        ]
        silent += [self.proj_out, self.motion_proj_out]
        silent += [
            norm.linear
            for block in (*self.transformer_blocks, *self.text_blocks, *self.motion_blocks)
            for norm in (block.norm1, block.norm2)
        ]
        for module in silent:
            nn.init.zeros_(module.weight)

    def motion_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the motion branch; all others are text's and video's, as in CogVideoX."""
        return (parameter for name, parameter in self.named_parameters() if name.startswith("motion_"))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> EgoTwinTransformer3DModel:
        """Load a folder of `save_pretrained`; see `checkpoint.load_whole` for what is refused."""
        subfolder = options.pop("subfolder", None)
        folder = Path(pretrained_model_name_or_path)
        return load_whole(cls, folder / subfolder if subfolder else folder, **options)

    @classmethod
    def from_cogvideox(
        cls,
        source: CogVideoXTransformer3DModel | str | Path,
        *,
        torch_dtype: torch.dtype | None = None,
        **motion_config: Any,
    ) -> EgoTwinTransformer3DModel:
        """Take text and video from a CogVideoX; the motion branch starts untrained.

        Args:
            source: the module (its weights are copied), or a local diffusers folder: the transformer's own, or a
                pipeline's, which has it in `transformer`. Text-to-video and image-to-video checkpoints load, with their
                own number of input channels.
            torch_dtype: dtype of the result; the module's own, or float32 for a folder, if None.
            **motion_config: `motion_channels`, `motion_dim`, `motion_layers`, and the switches `interaction`,
                `separate_text` (text's weights then start as a copy of the shared ones) and `shared_timestep`.

        Raises:
            UserError: not a CogVideoX 1.0 transformer, missing or unknown weights, or a setting of another branch.
        """
        unknown = sorted(set(motion_config) - set(NOT_COGVIDEOX))
        if unknown:
            raise UserError(f"from_cogvideox does not take {', '.join(unknown)}: it takes {', '.join(NOT_COGVIDEOX)}")
        if isinstance(source, str | Path):
            folder = Path(source)
            folder = folder / "transformer" if (folder / "transformer").is_dir() else folder
            source = load_whole(CogVideoXTransformer3DModel, folder, torch_dtype=torch_dtype)
        if not isinstance(source, CogVideoXTransformer3DModel):
            raise UserError(
                f"from_cogvideox was given a {type(source).__name__}: "
                "expected a CogVideoXTransformer3DModel or its folder"
            )
        if source.config.ofs_embed_dim is not None or source.config.patch_size_t is not None:
            raise UserError(
                "a CogVideoX 1.5 checkpoint (patch_size_t, ofs_embed_dim) is not supported: "
                "use a CogVideoX 1.0 one (2b, 5b, 5b-I2V)"
            )
        config = {
            name: value for name, value in source.config.items() if not name.startswith("_") and name != "ofs_embed_dim"
        }
        model = nn.Module.to(cls(**config, **motion_config), dtype=torch_dtype or source.dtype, device=source.device)
        weights = source.state_dict()
        if model.config.separate_text:
            weights = with_own_text(weights)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        lost = [name for name in missing if "motion" not in name]
        if lost or unexpected:
            raise UserError(
                f"the CogVideoX weights do not fit: missing {lost[:3]}, unknown {unexpected[:3]}; was its QKV fused?"
            )
        return model.train(source.training)

    def forward(
        self,
        video: Tensor | None,
        text: Tensor | None,
        video_timestep: Tensor | None,
        motion: Tensor | None = None,
        motion_timestep: Tensor | None = None,
        *,
        text_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        latent_positions: Sequence[int] | Tensor | None = None,
        rotary_positions: Sequence[float] | Tensor | None = None,
        interaction: bool | None = None,
        temporal: str = "bidirectional",
        cache: TransformerCache | RingCache | RingKeys | None = None,
        return_cache: bool = False,
        modulations: Modulations | None = None,
        motion_only: bool = False,
        cache_only: bool = False,
        return_dict: bool = True,
    ) -> EgoTwinTransformerOutput | tuple[Tensor | None, Tensor | None]:
        """Predict v for video and motion.

        With ``temporal="causal"`` the work for chunks that do not change (clean ones, at timestep 0) can be done once:
        call with those and ``return_cache=True``, then call with the new chunks, ``text=None`` and that ``cache``. What
        comes out for the new chunks equals what one call with all of them gives.

        Args:
            video: (B, F, in_channels, H, W) latents with what conditions them, or None (the text-motion stage).
            text: (B, Lt, text_embed_dim); None with a cache.
            video_timestep: (B,) or (B, F). Without video it may still be given per clip, or be None: then text takes
                timestep 0 and motion hears of no video.
            motion: (B, M, motion_channels) or None; M is 1 for chunk 0 and 2 for every other chunk of the window.
            motion_timestep: (B,) or (B, M); (B, F), one per chunk, is spread over the chunk's tokens.
            text_mask: bool (B, Lt), False at padding; None lets padding be seen, as CogVideoX does.
            image_rotary_emb: cosines and sines of the video tokens, (F * H/p * W/p, head_dim), to use instead.
            latent_positions: true chunk numbers of the F latents, rising, for the mask and the motion. A window may
                leave chunks out (a sink and the newest ones). If None, 0..F-1, or the numbers that follow the cache's.
            rotary_positions: times of the latents, cached ones first, for the positions; 0, 1, 2, ... if None, so that
                positions are relative to the window.
            interaction: whether video and motion see each other by the interaction mask only; the config's if None.
            temporal: "bidirectional" or "causal".
            cache: text and earlier chunks, from `return_cache`; with a `RingCache` the call takes one new chunk. Where
                the same chunk takes several calls, `ready` does part of their work once.
            return_cache: whether the output carries the cache with these chunks in it.
            modulations: from `chunk_modulations`, instead of both timesteps.
            motion_only: leave out the layers above the motion branch, and predict no video.
            cache_only: predict nothing, for a chunk that is only to be remembered; with `ready` keys.
            return_dict: an `EgoTwinTransformerOutput` rather than the tuple of video and motion.

        Raises:
            UserError: shapes that do not belong together, or an unknown `temporal`.
        """
        if motion_only and (motion is None or return_cache):
            raise UserError("motion_only was given without motion, or with return_cache: it stops half-way up")
        if cache_only and not (return_cache and isinstance(cache, RingKeys)):
            raise UserError("cache_only was given without return_cache, or without keys made ready")
        known = cache.ring if isinstance(cache, RingKeys) else cache
        window = self._window(video, text, motion, latent_positions, rotary_positions, known, text_mask, temporal)
        if image_rotary_emb is not None and cache is not None:
            raise UserError("image_rotary_emb was given with a cache: give rotary_positions instead")
        batch, device = window.batch, self.motion_embed.weight.device
        dtype = self._product_dtype()
        interaction = self.config.interaction if interaction is None else interaction
        levels: tuple[Level | NewLevel, Level | NewLevel]
        if isinstance(cache, RingKeys):
            levels = cache.levels
        elif isinstance(known, RingCache):
            levels = self._ring_levels(window, known, interaction, dtype, device)
        else:
            levels = self._levels(window, interaction, temporal, image_rotary_emb, dtype, device)
        if modulations is None:
            times = self._embed_times(window, video_timestep, motion_timestep, temporal, device)
            changes: list[Any] = [times] * len(self.transformer_blocks)
            motion_change = self._head_modulation(self.motion_norm_out, times.motion) if motion is not None else None
            video_change = self._head_modulation(self.norm_out, times.video) if video is not None else None
        elif cache is None or len(window.new) != 1 or motion is None:
            raise UserError("modulations go with a cache, and with one new latent and its two motion tokens")
        else:
            changes = list(modulations.layers)
            motion_change, video_change = modulations.motion_out, modulations.video_out

        inner_dim = self.config.num_attention_heads * self.config.attention_head_dim
        nothing = torch.zeros(batch, 0, inner_dim, dtype=dtype, device=device)
        tokens = Tokens(
            nothing if text is None else self.embedding_dropout(self._embed_text(text)),
            nothing if motion is None else self.embedding_dropout(self._embed_motion(motion, window)),
            nothing if video is None else self.embedding_dropout(self._embed_video(video, window.new_times)),
        )
        layers: list[LayerCache] = []
        motion_out = None
        block: Any
        for i, block in enumerate(self.transformer_blocks):
            own: Any = self.motion_blocks[i] if motion is not None and i < len(self.motion_blocks) else None
            own_text: Any = self.text_blocks[i] if text is not None and self.text_blocks else None
            level = levels[0] if own is not None else levels[1]
            past = None if cache is None else cache.layers[i]
            if cache_only and i == len(self.transformer_blocks) - 1:
                layers.append(project(block, own, tokens, self._changes(i, changes[i]))[1])
                break
            tokens, layer = block.layer(own, tokens, changes[i], level, past, own_text)
            if return_cache:
                layers.append(layer)
            if motion is not None and i == len(self.motion_blocks) - 1 and not cache_only:
                head = (self.motion_norm_final, self.motion_norm_out, self.motion_proj_out)
                motion_out = self._head(tokens.motion, motion_change, *head)
                if video is None or motion_only:
                    break
        video_out = None
        if video is not None and not motion_only and not cache_only:
            p = self.config.patch_size
            patches = self._head(tokens.video, video_change, self.norm_final, self.norm_out, self.proj_out)
            patches = patches.reshape(batch, video.shape[1], *window.grid, self.config.out_channels, p, p)
            video_out = patches.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        if not return_dict:
            return video_out, motion_out
        kept: TransformerCache | RingCache | None = None
        if return_cache and isinstance(known, RingCache):
            new = 2, math.prod(window.grid)
            kept = known.push(layers if known is not cache else [layer.newest(*new) for layer in layers])
        elif return_cache:
            kept = TransformerCache(window.positions, window.text_mask, tuple(layers))
        return EgoTwinTransformerOutput(video=video_out, motion=motion_out, cache=kept)

    def ready(
        self, cache: RingCache, size: tuple[int, int] | None = None, *, interaction: bool | None = None
    ) -> RingKeys:
        """A ring's keys turned and joined once, as the ``cache`` of all calls for the chunk that comes next.

        They are for one chunk of one stream, and for one call at a time: each call writes its own keys behind them.

        Args:
            cache: text and earlier chunks.
            size: height and width of the latents; the configuration's if None.
            interaction: as for the calls.
        """
        p, (height, width) = self.config.patch_size, size or (self.config.sample_height, self.config.sample_width)
        positions = (*cache.positions, cache.slots)
        times = tuple(float(position) for position in positions)
        num_text, grid = cache.layers[0].text[0].shape[1], (height // p, width // p)
        window = _Window(
            len(cache.filled), cache.slots, positions, times, grid, True, True, num_text, cache.text_mask
        )  # fmt: skip
        interaction = self.config.interaction if interaction is None else interaction
        levels = self._ring_levels(window, cache, interaction, self._product_dtype(), cache.filled.device)
        return RingKeys.of(cache, levels)

    def chunk_modulations(self, video_timestep: float, motion_timestep: float) -> Modulations:
        """What two timesteps make of every norm, for one new chunk after chunk 0; the same for any batch and cache.

        Give it as ``modulations`` where many calls have the same timesteps.
        """
        device = self.motion_embed.weight.device
        window = _Window(1, 1, (0, 1), (0.0, 1.0), (1, 1), True, True, 0, None)
        video, motion = (torch.tensor([timestep], device=device) for timestep in (video_timestep, motion_timestep))
        times = self._embed_times(window, video, motion, "causal", device)
        return Modulations(
            tuple(self._changes(i, times) for i in range(len(self.transformer_blocks))),
            self._head_modulation(self.motion_norm_out, times.motion),
            self._head_modulation(self.norm_out, times.video),
        )

    def _changes(self, layer: int, changes: LayerModulation | Times) -> LayerModulation:
        """What timesteps make of a layer's norms for one new chunk, which has no text."""
        if isinstance(changes, LayerModulation):
            return changes
        own: Any = self.motion_blocks[layer] if layer < len(self.motion_blocks) else None
        block: Any = self.transformer_blocks[layer]
        return modulate(block, own, changes, text=False, video=True)

    @staticmethod
    def _head_modulation(out: Any, time: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale (B, groups, 1, width) of the norm before a prediction."""
        shift, scale = out.linear(time)[:, :, None].chunk(2, dim=-1)
        return shift, 1 + scale

    def _product_dtype(self) -> torch.dtype:
        """What products are computed in."""
        kind = self.motion_embed.weight.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            return torch.get_autocast_dtype(kind)
        return self.motion_embed.weight.dtype

    def _window(
        self,
        video: Tensor | None,
        text: Tensor | None,
        motion: Tensor | None,
        latent_positions: Sequence[int] | Tensor | None,
        rotary_positions: Sequence[float] | Tensor | None,
        cache: TransformerCache | RingCache | None,
        text_mask: Tensor | None,
        temporal: str,
    ) -> _Window:
        """Check what can be wrong with the shapes, and say what the window holds."""
        config = self.config
        if video is None and motion is None:
            raise UserError("neither video nor motion was given: expected at least one of them")
        longest = config.max_text_seq_length
        if cache is not None:
            if text is not None or text_mask is not None or video is None or temporal != "causal":
                raise UserError(
                    'a cache was given: it goes with video, temporal="causal", and no text (that is in the cache)'
                )
            if (cache.layers[0].motion is None) != (motion is None):
                raise UserError("the cache has motion and the call has none, or the other way round: give both or none")
            text_mask, num_text = cache.text_mask, cache.layers[0].text[0].shape[1]
            if isinstance(cache, RingCache) and (video.shape[1] != 1 or motion is None or rotary_positions is not None):
                raise UserError("a ring cache takes one new latent with its two motion tokens, and no rotary_positions")
        elif text is None or text.ndim != 3 or text.shape[2] != config.text_embed_dim or text.shape[1] > longest:
            got = "missing" if text is None else f"of shape {tuple(text.shape)}"
            raise UserError(f"text is {got}: expected (batch, at most {longest} tokens, {config.text_embed_dim})")
        else:
            num_text = text.shape[1]
        if text_mask is not None and text_mask.shape[1] != num_text:
            raise UserError(
                f"text_mask has shape {tuple(text_mask.shape)}: expected (batch, {num_text}), one value for each token"
            )
        p, grid = config.patch_size, (0, 0)
        if video is not None:
            if video.ndim != 5 or video.shape[2] != config.in_channels or video.shape[3] % p or video.shape[4] % p:
                raise UserError(
                    f"video has shape {tuple(video.shape)}: expected (batch, latents, {config.in_channels}, height, "
                    f"width), height and width multiples of {p}"
                )
            grid = (video.shape[3] // p, video.shape[4] // p)
        if motion is not None and (motion.ndim != 3 or motion.shape[2] != config.motion_channels):
            raise UserError(
                f"motion has shape {tuple(motion.shape)}: expected (batch, tokens, {config.motion_channels})"
            )
        past = () if cache is None else cache.positions
        latents = (motion.shape[1] + 1) // 2 if video is None and motion is not None else video.shape[1]  # type: ignore[union-attr]
        if latent_positions is None:
            start = past[-1] + 1 if past else 0
            new = tuple(range(start, start + latents))
        else:
            new = tuple(int(position) for position in latent_positions)
        positions = past + new
        if len(new) == 0 or positions[0] < 0 or any(a >= b for a, b in zip(positions, positions[1:], strict=False)):
            raise UserError(f"latent positions {list(positions)}: expected rising chunk numbers from 0 up")
        count = len(positions)
        times = tuple(float(time) for time in (range(count) if rotary_positions is None else rotary_positions))
        if (video is not None and latents != len(new)) or len(times) != count:
            raise UserError(
                f"{latents} latents were given with {len(new)} latent positions, and {len(times)} times for {count} "
                "latents (cached ones included): expected one each"
            )
        if motion is not None and motion.shape[1] != len(motion_chunks(new)):
            raise UserError(
                f"{motion.shape[1]} motion tokens for the video latents {list(new)}: "
                f"expected {len(motion_chunks(new))}, 1 for chunk 0 and 2 for every other"
            )
        batch = (motion if video is None else video).shape[0]  # type: ignore[union-attr]
        if any(x is not None and x.shape[0] != batch for x in (text, motion, text_mask)):
            raise UserError(f"video, text, text_mask and motion are of different batch sizes: expected {batch} of each")
        return _Window(
            batch, len(past), positions, times, grid, video is not None, motion is not None, num_text, text_mask
        )

    def _embed_times(
        self,
        window: _Window,
        video_timestep: Tensor | None,
        motion_timestep: Tensor | None,
        temporal: str,
        device: torch.device,
    ) -> Times:
        """Activated timestep embeddings of the three branches; groups are 1, F or M."""
        positions, batch = window.new, window.batch
        owners = motion_chunks(positions)
        dtype = self.motion_embed.weight.dtype

        def embedded(name: str, timestep: Tensor, embedding: TimestepEmbedding, *counts: int) -> Tensor:
            timestep = torch.as_tensor(timestep, device=device)
            rows = timestep.expand(batch) if timestep.ndim == 0 or timestep.shape == (1,) else timestep
            rows = rows[:, None] if rows.ndim == 1 else rows
            if rows.ndim != 2 or rows.shape[0] != batch or (timestep.ndim == 2 and rows.shape[1] not in counts):
                expected = " or ".join(f"({batch}, {count})" for count in counts)
                raise UserError(f"{name} has shape {tuple(timestep.shape)}: expected ({batch},) or {expected}")
            return embedding(self.time_proj(rows.flatten()).to(dtype)).unflatten(0, rows.shape)

        if window.has_video and video_timestep is None:
            raise UserError("video was given without video_timestep: expected (batch,) or (batch, latents)")
        if window.has_motion and motion_timestep is None:
            raise UserError(
                "motion was given without motion_timestep: expected (batch,), (batch, tokens) or (batch, chunks)"
            )
        zero = torch.zeros(batch, device=device)
        given = zero if video_timestep is None else video_timestep
        video_time = embedded("video_timestep", given, self.time_embedding, len(positions))
        share = _shares(torch.as_tensor(given, device=device), batch, len(positions)).to(video_time.dtype)
        text_time = (video_time * share).mean(1, keepdim=True)
        motion_time = video_time
        if motion_timestep is not None and window.has_motion:
            counts = (len(owners), len(positions))
            motion_time = embedded("motion_timestep", motion_timestep, self.motion_time_embedding, *counts)
            # Which latent of the window a token comes with, and the first and last token of each latent.
            latent_of = [positions.index(owner) for owner in owners]
            first = [latent_of.index(i) for i in range(len(positions))]
            last = [len(owners) - 1 - latent_of[::-1].index(i) for i in range(len(positions))]
            if motion_time.shape[1] not in (1, len(owners)):
                motion_time = motion_time[:, latent_of]
            to_video, to_motion = self.motion_time_to_video(motion_time), self.video_time_to_motion(video_time)
            if video_timestep is not None:
                motion_time = motion_time + (to_motion if to_motion.shape[1] == 1 else to_motion[:, latent_of])
            if to_video.shape[1] > 1:
                to_video = (to_video[:, first] + to_video[:, last]) / 2
            video_time = video_time + to_video
            text_time = text_time + (to_video * share).mean(1, keepdim=True)
        if temporal == "causal":
            text_time = embedded("text's timestep", zero, self.time_embedding)
        return Times(F.silu(text_time), F.silu(motion_time), F.silu(video_time))

    def _table(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """A mask or position table, made once for each key."""
        if key not in self._tables:
            if len(self._tables) >= TABLES_KEPT:
                self._tables.pop(next(iter(self._tables)))
            # A tensor that is born in inference mode cannot serve a training step later.
            with torch.inference_mode(False):
                self._tables[key] = make()
        return self._tables[key]

    def _levels(
        self,
        window: _Window,
        interaction: bool,
        temporal: str,
        given: tuple[Tensor, Tensor] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> tuple[Level, Level]:
        """Mask and rotary tables of the layers with motion, and of those without."""

        def make() -> tuple[Level, Level]:
            return self._make_levels(window, interaction, temporal, given, dtype, device)

        if given is None:
            key = ("levels", window.key, interaction, temporal, dtype, device)
            lower, upper = self._table(key, make)
        else:
            lower, upper = make()
        if window.text_mask is None or bool(window.text_mask.all()):
            return lower, upper
        padding, has_rows = ~window.text_mask.to(device=device, dtype=torch.bool), window.num_past == 0
        hidden = (replace(level, seen=level.seen.without(padding, has_rows)) for level in (lower, upper))
        return next(hidden), next(hidden)

    def _ring_levels(
        self, window: _Window, cache: RingCache, interaction: bool, dtype: torch.dtype, device: torch.device
    ) -> tuple[Level, Level]:
        """Mask and rotary tables of each row of a ring, whose windows may be filled differently."""
        if not self.config.use_rotary_positional_embeddings:
            raise UserError("a ring cache needs a model with rotary positions")

        def make() -> tuple[Level, Level]:
            plain = []
            for filled in range(1, cache.slots + 1):
                positions = tuple(range(filled + 1))
                times = tuple(float(position) for position in positions)
                part = replace(window, num_past=filled, positions=positions, times=times)
                plain.append(self._make_levels(part, interaction, "causal", None, dtype, device))
            sizes = window.num_text, math.prod(window.grid)
            return (
                ring_level([lower for lower, _ in plain], cache.sink, *sizes, motion=True),
                ring_level([upper for _, upper in plain], cache.sink, *sizes, motion=False),
            )

        key = ("ring", window.key, cache.sink, cache.slots, interaction, dtype, device)
        both = self._table(key, make)
        filled = cache.filled if cache.age is None else cache.filled[:1]
        chosen = [choose_rows(level, filled) for level in both]
        if window.text_mask is not None and not bool(window.text_mask.all()):
            padding = ~window.text_mask.to(device=device, dtype=torch.bool)
            chosen = [replace(level, seen=level.seen.without(padding, has_rows=False)) for level in chosen]
        return chosen[0], chosen[1]

    def _make_levels(
        self,
        window: _Window,
        interaction: bool,
        temporal: str,
        given: tuple[Tensor, Tensor] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> tuple[Level, Level]:
        config, positions, times, per_latent = self.config, window.pattern, window.times, math.prod(window.grid)
        num_text, num_video = window.num_text, len(positions) * per_latent
        num_motion = len(motion_chunks(positions)) if window.has_motion else 0
        # Made on the processor: a mask is asked questions, which would wait for a GPU, and making it takes memory.
        mask = interaction_mask(
            len(positions), per_latent, num_motion, num_text,
            interaction=interaction, temporal=temporal, latent_positions=positions, device="cpu",
        )  # fmt: skip
        text, video, motion = torch.arange(len(mask), device="cpu").split([num_text, num_video, num_motion])
        turn = None
        if config.use_rotary_positional_embeddings or given is not None:
            head_dim, p = config.attention_head_dim, config.patch_size
            base = (config.sample_height // p, config.sample_width // p)
            parts = [(torch.ones(num_text, head_dim), torch.zeros(num_text, head_dim))]
            if num_video:
                parts.append(video_rotary(head_dim, times, window.grid, base) if given is None else given)
            if num_motion:
                parts.append(motion_rotary(head_dim, motion_times(positions, times)))
            cos, sin = (torch.cat([part[i].to(device, torch.float32) for part in parts])[:, None] for i in (0, 1))
            turn = cos.to(dtype), signed_sines(sin).to(dtype)

        new_text = text[:0] if window.num_past else text
        new_video = video[window.num_past * per_latent :]
        new_motion = motion[len(motion_chunks(positions[: window.num_past])) :]

        def level(columns: list[Tensor], rows: list[Tensor]) -> Level:
            # Video comes last, so that the columns that a block of rows sees under a causal mask are the first ones.
            column, row = torch.cat(columns), torch.cat(rows)
            fixed = len(row) - len(new_video)
            bounds = [0, len(new_text), fixed, *range(fixed + per_latent, len(row) + 1, per_latent or 1)]
            seen = Visibility.of(mask[row][:, column], bounds, dtype, device)
            if turn is None:
                return Level(seen, None, None)
            return Level(seen, (turn[0][row], turn[1][row]), (turn[0][column], turn[1][column]))

        lower = level([text, motion, video], [new_text, new_motion, new_video])
        return lower, level([text, video], [new_text, new_video]) if num_motion and num_video else lower

    def _embed_text(self, text: Tensor) -> Tensor:
        """The text encoder's tokens (B, Lt, text_embed_dim) to tokens (B, Lt, inner_dim)."""
        tokens = self.patch_embed.text_proj(text)
        if not self.config.use_learned_positional_embeddings:
            return tokens
        return tokens + self.patch_embed.pos_embedding[:, : text.shape[1]].to(tokens.dtype)

    def _embed_video(self, video: Tensor, times: tuple[float, ...]) -> Tensor:
        """Latents (B, F, C, H, W) to tokens (B, F * H/p * W/p, inner_dim)."""
        p, projection = self.config.patch_size, self.patch_embed.proj
        batch, frames, channels, height, width = video.shape
        # The convolution steps by its own size: as a matrix product over patches it gives the tokens in their order.
        patches = video.reshape(batch, frames, channels, height // p, p, width // p, p).permute(0, 1, 3, 5, 2, 4, 6)
        tokens = F.linear(patches.flatten(4).flatten(1, 3), projection.weight.flatten(1), projection.bias)
        patch_embed = self.patch_embed
        if not (patch_embed.use_positional_embeddings or patch_embed.use_learned_positional_embeddings):
            return tokens
        if any(time != int(time) or time < 0 for time in times):
            raise UserError(f"rotary_positions {times}: a model with sine tables needs whole numbers from 0 up")
        steps = tuple(int(time) for time in times)
        return tokens + self._video_sines(steps, height, width, video.device).to(tokens.dtype)

    def _video_sines(self, steps: tuple[int, ...], height: int, width: int, device: torch.device) -> Tensor:
        """CogVideoX's added positions (F * H/p * W/p, inner_dim) of the latents at whole times."""
        config, p = self.config, self.config.patch_size
        if config.use_learned_positional_embeddings:
            # Of a shorter clip the first rows, as in the code that trained them; diffusers takes sines instead, which
            # such a checkpoint has never seen.
            stored = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
            if (height, width) != (config.sample_height, config.sample_width) or max(steps) >= stored:
                size = f"{stored} of {config.sample_width}x{config.sample_height}"
                raise UserError(
                    f"{max(steps) + 1} video latents of {width}x{height}: this checkpoint's learned positions are for "
                    f"at most {size}; use that size"
                )
            table = self.patch_embed.pos_embedding[0, config.max_text_seq_length :].unflatten(0, (stored, -1))
            in_a_row = steps[-1] - steps[0] + 1 == len(steps)
            return (table[steps[0] : steps[-1] + 1] if in_a_row else table[list(steps)]).flatten(0, 1)

        def make() -> Tensor:
            scales = (config.spatial_interpolation_scale, config.temporal_interpolation_scale)
            inner_dim = config.num_attention_heads * config.attention_head_dim
            size = (width // p, height // p)
            table = get_3d_sincos_pos_embed(inner_dim, size, max(steps) + 1, *scales, device=device, output_type="pt")
            return table[list(steps)].flatten(0, 1)

        return self._table(("sines", steps, height, width, device), make)

    def _embed_motion(self, motion: Tensor, window: _Window) -> Tensor:
        """Motion tokens (B, M, motion_channels) to (B, M, motion_dim), with sines added unless positions are rotary."""
        tokens = self.motion_embed(motion)
        if self.config.use_rotary_positional_embeddings:
            return tokens

        def make() -> Tensor:
            grid = torch.tensor(motion_times(window.new, window.new_times), device=motion.device)
            return get_1d_sincos_pos_embed_from_grid(self.config.motion_dim, grid, output_type="pt").float()

        return tokens + self._table(("motion sines", window.key, motion.device), make).to(tokens.dtype)

    @staticmethod
    def _head(
        x: Tensor, change: tuple[Tensor, Tensor] | None, final: nn.LayerNorm, out: AdaLayerNorm, projection: nn.Linear
    ) -> Tensor:
        """Final norms of a branch and its prediction; `change` is shift and scale (B or 1, groups, 1, width)."""
        assert change is not None
        grouped = out.norm(final(x)).unflatten(1, (change[0].shape[1], -1))
        return projection(torch.addcmul(change[0], grouped, change[1]).flatten(1, 2))
