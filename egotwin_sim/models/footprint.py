"""What a model needs: parameters of its branches, operations of a step, and memory of a GPU to sample and to train.

Parameters, operations and activations are those of the very code that will run, on the meta device (``measure``). The
rest is arithmetic: bytes per parameter, and an allowance for what no operation shows (``RESERVE``, ``FRAGMENTED``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from egotwin_sim.errors import UserError
from egotwin_sim.models.measure import Cost, measure, training_cost
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT

PASSES = {"t2vm": (3, 2), "tm2v": (3, 0), "tv2m": (0, 3)}
"""Passes of the transformer in a denoising step with the paper's guidance (``diffusion.guidance``): those that predict
the video, and those that predict the motion alone, which end with the motion branch."""

MASTER = 4
"""Bytes of a weight in training, of its gradient and of its average: float32."""
MOMENTS = 8
"""Bytes of AdamW's two moments of a weight."""

RESERVE = 2 * 1024**3
"""Bytes of a GPU that no tensor shows: the CUDA context, workspaces of the libraries, buffers of communication."""
FRAGMENTED = 1.1
"""What activations take of the allocator for each byte: blocks are rounded up, and gaps are left."""


@dataclass(frozen=True)
class ClipSize:
    """What one call of the transformer holds, at the size that it was made for.

    Attributes:
        batch: clips.
        frames: video frames of a clip, 1 + 4 n; its motion goes along with them.
        video: whether the video is there; without it, as in text-to-motion training, text and motion are alone.
    """

    batch: int = 1
    frames: int = 41
    video: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no clip."""
        if self.batch < 1:
            raise UserError(f"batch is {self.batch}; expected at least 1")
        if self.frames < 5 or (self.frames - 1) % FRAMES_PER_LATENT:
            raise UserError(f"frames is {self.frames}; expected {FRAMES_PER_LATENT} n + 1, at least 5")


def parameters(network: nn.Module) -> int:
    """Weights of a network."""
    return sum(weight.numel() for weight in network.parameters())


def branch_parameters(transformer: EgoTwinTransformer3DModel) -> dict[str, int]:
    """Weights of text and video, of the motion branch, and of what embeds patches, text and timesteps."""
    counts = {"text and video": 0, "motion": 0, "embeddings": 0}
    for name, weight in transformer.named_parameters():
        embeds = name.startswith(("patch_embed.", "time_embedding.", "video_time_to_motion."))
        motion = name.startswith("motion_")
        counts["embeddings" if embeds else "motion" if motion else "text and video"] += weight.numel()
    return counts


def transformer_inputs(transformer: EgoTwinTransformer3DModel, clip: ClipSize) -> dict[str, Any]:
    """Inputs of a clip's shape on the meta device, with a timestep for each chunk: the first is always given."""
    config, latents = transformer.config, 1 + (clip.frames - 1) // FRAMES_PER_LATENT

    def empty(*shape: int) -> Tensor:
        return torch.empty(clip.batch, *shape, device="meta")

    video = empty(latents, config.in_channels, config.sample_height, config.sample_width)
    return {
        "video": video if clip.video else None,
        "text": empty(config.max_text_seq_length, config.text_embed_dim),
        "video_timestep": empty(latents) if clip.video else None,
        "motion": empty(2 * latents - 1, config.motion_channels),
        "motion_timestep": empty(2 * latents - 1),
    }


def pass_cost(
    transformer: EgoTwinTransformer3DModel,
    clip: ClipSize,
    dtype: torch.dtype | None = None,
    *,
    motion_only: bool = False,
) -> Cost:
    """One pass without gradients.

    Args:
        transformer: on any device; only its configuration counts.
        clip: its size.
        dtype: of the weights, the transformer's own if None; with bf16, what autocast leaves in float32 is counted so.
        motion_only: without the layers above the motion branch.
    """
    dtype = transformer.dtype if dtype is None else dtype
    twin = _meta_twin(transformer, dtype)
    given = transformer_inputs(twin, clip)
    return measure(torch.no_grad()(lambda: twin(**given, motion_only=motion_only)), autocast=dtype == torch.bfloat16)


def step_cost(transformer: EgoTwinTransformer3DModel, clip: ClipSize, *, bf16: bool, checkpointing: bool) -> Cost:
    """One pass with gradients, forward and backward.

    Args:
        transformer: on any device; its configuration counts, and which weights have ``requires_grad``.
        clip: its size.
        bf16: products in bf16, of weights that were brought to it (``Memory.gathered``).
        checkpointing: layers are computed again in the backward pass.
    """
    twin = _meta_twin(transformer, torch.bfloat16 if bf16 else torch.float32)
    for weight, told in zip(twin.parameters(), transformer.parameters(), strict=True):
        weight.requires_grad_(told.requires_grad)
    if checkpointing:
        twin.enable_gradient_checkpointing()
    given = transformer_inputs(twin, clip)

    def loss() -> Tensor:
        output = twin(**given)
        parts = [part.float().square().mean() for part in (output.video, output.motion) if part is not None]
        return torch.stack(parts).sum()

    return training_cost(twin, loss, bf16)


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU, by what holds them.

    Attributes:
        weights: of the network; in training its piece of them in float32.
        gradients: of the trained weights.
        optimiser: AdamW's two moments.
        average: the moving average of the trained weights.
        gathered: weights as products take them: whole layers where they are sharded, bf16 copies where they are not.
        activations: what a pass makes, with the allocator's gaps.
        reserve: see ``RESERVE``.
    """

    weights: int = 0
    gradients: int = 0
    optimiser: int = 0
    average: int = 0
    gathered: int = 0
    activations: int = 0
    reserve: int = RESERVE

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class SamplingNeeds:
    """What a GPU needs to sample clips.

    Attributes:
        costs: of a call of each network: a pass of the transformer, the decoding of the clips, the encoding of texts.
        together: with all networks on the GPU.
        offloaded: with the network at work alone on it.
    """

    costs: dict[str, Cost]
    together: Memory
    offloaded: Memory


def sampling_needs(
    transformer: EgoTwinTransformer3DModel,
    video_vae: Any,
    text_encoder: Any,
    clip: ClipSize,
    dtype: torch.dtype = torch.bfloat16,
) -> SamplingNeeds:
    """What clips of a size need, with weights in ``dtype``.

    Args:
        transformer: on any device; only its configuration counts, as of the others.
        video_vae: nano's or diffusers' ``AutoencoderKLCogVideoX``; None leaves it out.
        text_encoder: a T5 of transformers; None leaves it out.
        clip: the clips.
        dtype: of the weights.
    """
    networks: dict[str, Any] = {"transformer": _meta_twin(transformer, dtype)}
    costs = {"transformer": pass_cost(transformer, clip, dtype)}
    if video_vae is not None:
        vae = networks["video_vae"] = _meta_twin(video_vae, dtype)
        shape = transformer_inputs(transformer, clip)["video"].shape
        latents = torch.empty(clip.batch, vae.config.latent_channels, shape[1], *shape[3:], dtype=dtype, device="meta")
        costs["video_vae"] = measure(torch.no_grad()(lambda: vae.decode(latents)))
    if text_encoder is not None:
        encoder = networks["text_encoder"] = _meta_twin(text_encoder, dtype)
        ids = torch.zeros(clip.batch, transformer.config.max_text_seq_length, dtype=torch.long, device="meta")
        costs["text_encoder"] = measure(torch.no_grad()(lambda: encoder(input_ids=ids)))
    peaks = {name: cost.peak_bytes for name, cost in costs.items()}
    return SamplingNeeds(
        costs, sampling_memory(networks, peaks, offload=False), sampling_memory(networks, peaks, offload=True)
    )


def sampling_memory(networks: Mapping[str, nn.Module], activations: Mapping[str, int], *, offload: bool) -> Memory:
    """What a GPU needs to sample.

    Args:
        networks: all that are called, with the dtype that they have there.
        activations: peak bytes of each one's call, by the same names.
        offload: only the network at work is on the GPU; otherwise all are.
    """
    sizes = {name: sum(weight.nbytes for weight in network.parameters()) for name, network in networks.items()}
    if not offload:
        return Memory(weights=sum(sizes.values()), activations=_with_gaps(max(activations.values())))
    most = max(networks, key=lambda name: sizes[name] + _with_gaps(activations[name]))
    return Memory(weights=sizes[most], activations=_with_gaps(activations[most]))


def _meta_twin(network: Any, dtype: torch.dtype) -> Any:
    """A network of the same configuration without memory for its weights."""
    kind = type(network)
    with torch.device("meta"):
        twin = kind.from_config(network.config) if hasattr(kind, "from_config") else kind(network.config)
    return nn.Module.to(twin, dtype).eval()


def training_memory(
    transformer: EgoTwinTransformer3DModel,
    activations: int,
    *,
    gpus: int,
    sharded: bool,
    bf16: bool,
    adapters: int = 0,
    frozen: int = MASTER,
) -> Memory:
    """What each GPU needs to train; see ``training.trainer`` and ``training.sharding`` for what is held.

    Args:
        transformer: with ``requires_grad`` where it is trained.
        activations: peak bytes of one pass.
        gpus: how many.
        sharded: each holds its piece of weights, gradients, moments and averages, instead of all of them.
        bf16: products in bf16.
        adapters: trained weights beside the transformer's own.
        frozen: bytes of a weight that is not trained.
    """
    count = parameters(transformer) + adapters
    trained = adapters + sum(weight.numel() for weight in transformer.parameters() if weight.requires_grad)
    pieces, width = gpus if sharded else 1, 2 if bf16 else MASTER
    if sharded:
        gathered = _whole_layers(transformer, width)
    else:
        # Autocast keeps a copy of every float32 weight in bf16, from its first use to the end of the backward pass.
        gathered = width * (count if frozen == MASTER else trained) if bf16 else 0
        # Where all GPUs hold all, their gradients are averaged in one piece.
        gathered += MASTER * trained if gpus > 1 else 0
    return Memory(
        weights=(MASTER * trained + frozen * (count - trained)) // pieces,
        gradients=MASTER * trained // pieces,
        optimiser=MOMENTS * trained // pieces,
        average=MASTER * trained // pieces,
        gathered=gathered,
        activations=_with_gaps(activations),
    )


def _whole_layers(transformer: EgoTwinTransformer3DModel, width: int) -> int:
    """Bytes of what is gathered of a sharded model at once; a weight has ``width`` bytes there."""
    layers = [parameters(layer) for layer in transformer.transformer_blocks]
    for blocks in (transformer.motion_blocks, transformer.text_blocks):
        for i, block in enumerate(blocks):
            layers[i] += parameters(block)
    largest, rest = max(layers), parameters(transformer) - sum(layers)
    # Two layers, of which one is on its way while the other computes, and what belongs to no layer; and the gradient of
    # a layer, as it comes and in float32 as it is summed.
    return width * (2 * largest + rest) + (width + MASTER) * largest


def _with_gaps(activations: int) -> int:
    return round(FRAGMENTED * activations)


def require_memory(needed: int, available: int, suggestions: Sequence[str]) -> None:
    """Refuse to start what would not fit, before anything is loaded.

    Args:
        needed: bytes.
        available: bytes of the device that are free.
        suggestions: what would make it fit, the best first.

    Raises:
        UserError: it does not fit.
    """
    if needed <= available:
        return
    remedy = "; or ".join(suggestions) or "take a larger GPU"
    raise UserError(f"this needs about {gigabytes(needed)} of GPU memory and {gigabytes(available)} are free: {remedy}")


def free_memory(device: torch.device) -> int | None:
    """Bytes of a GPU that are free; None for a processor, whose memory can be swapped."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def gigabytes(count: int) -> str:
    """Bytes for a reader, in units of 1024**3, as the makers of GPUs count."""
    return f"{count / 1024**3:.1f} GB"
