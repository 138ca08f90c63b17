"""Small networks with random weights, for tests of what is around the networks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from egotwin_sim.models import EgoTwinTransformer3DModel, MotionVAE, VideoVAE, load_text_encoder
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.view_condition import CONDITION_CHANNELS
from egotwin_sim.motion import Motion, Skeleton, encode
from egotwin_sim.pipelines import StreamConfig, StreamPipeline

SIZE = 64
LATENT_CHANNELS = 4
TOKEN_CHANNELS = 6


def shake(module: nn.Module, std: float = 0.05) -> nn.Module:
    """Give the parameters that start at zero small values: a network that does nothing proves nothing."""
    for parameter in module.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=std)
    return module.eval()


def tiny_video_vae() -> VideoVAE:
    return shake(VideoVAE(LATENT_CHANNELS, (16, 16), (1, 1), (16, 16), (2, 1)))


def tiny_depth_net() -> DepthNet:
    return shake(DepthNet((8, 8, 8, 16)))


def tiny_motion_vae() -> MotionVAE:
    return shake(MotionVAE(latent_channels=TOKEN_CHANNELS, width=16, blocks=1), std=0.01)


def tiny_transformer(token_channels: int = TOKEN_CHANNELS) -> EgoTwinTransformer3DModel:
    return shake(
        EgoTwinTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=2 * LATENT_CHANNELS + CONDITION_CHANNELS,
            out_channels=LATENT_CHANNELS,
            time_embed_dim=16,
            text_embed_dim=384,
            num_layers=2,
            sample_width=SIZE // 8,
            sample_height=SIZE // 8,
            max_text_seq_length=32,
            use_rotary_positional_embeddings=True,
            motion_channels=token_channels,
            motion_dim=16,
        )
    )


def tiny_pipeline(window: int = 2) -> StreamPipeline:
    torch.manual_seed(0)
    text = {"kind": "minilm", "max_length": 32}
    config = StreamConfig(image_size=SIZE, text_encoder=text, window=window, view_steps=2, body_steps=2)
    networks = tiny_video_vae(), tiny_depth_net(), tiny_motion_vae(), tiny_transformer()
    return StreamPipeline(*networks, load_text_encoder(text), config)


def standing() -> np.ndarray:
    """(D,), the head-centric state of a body that stands at rest."""
    skeleton = Skeleton.default()
    quat = np.zeros((1, skeleton.num_joints, 4), np.float32)
    quat[..., 0] = 1
    return encode(Motion(np.array([[0, 0, skeleton.rest_root_height]], np.float32), quat, skeleton))[0]
