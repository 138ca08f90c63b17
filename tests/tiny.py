"""Small networks with random weights, for tests of what is around the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import nn

from egotwin_sim.models import EgoTwinTransformer3DModel, MotionVAE, VideoVAE, load_text_encoder
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.view_condition import CONDITION_CHANNELS
from egotwin_sim.motion import Motion, Skeleton, encode
from egotwin_sim.motion.rotations import axis_angle_to_quat
from egotwin_sim.pipelines import EgoTwinPipeline, StreamConfig, StreamPipeline

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


WORDS = "walk to the red blue box ball open door sit down".split()
HEIGHT, WIDTH = 48, 64  # of the published form's frames


def tiny_t5(words: Sequence[str] = WORDS) -> tuple[Any, Any]:
    """A T5 encoder with random weights, 16 wide, and a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    vocabulary = ["<pad>", "</s>", "<unk>", *words]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = T5Config(vocab_size=len(vocabulary), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval(), fast


def tiny_published_pipeline(*, image_to_video: bool = False, **transformer: Any) -> EgoTwinPipeline:
    """The published form: CogVideoX's VAE, a T5, clip motion tokens, frames that are not square, 9 frames a clip."""
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(4,) * 4, latent_channels=LATENT_CHANNELS, layers_per_block=1, norm_num_groups=2
    ).eval()
    network = EgoTwinTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=(2 if image_to_video else 1) * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        time_embed_dim=16,
        text_embed_dim=16,
        num_layers=2,
        sample_width=WIDTH // 8,
        sample_height=HEIGHT // 8,
        max_text_seq_length=8,
        use_rotary_positional_embeddings=True,
        motion_channels=TOKEN_CHANNELS,
        motion_dim=16,
        **transformer,
    )
    motion_vae = shake(MotionVAE(latent_channels=TOKEN_CHANNELS, width=16, blocks=1, canonical="clip"), std=0.01)
    text_encoder, tokenizer = tiny_t5()
    scheduler = CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True,
        snr_shift_scale=1.0, timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip
    return EgoTwinPipeline(
        shake(network), vae, motion_vae, scheduler, text_encoder, tokenizer, num_frames=9,
        sampling={"num_inference_steps": 2, "guidance_scale": 2.0},
    )  # fmt: skip


def walking(seed: int, frames: int = 33) -> Motion:
    """A body that walks a curve and swings its limbs."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 16
    phase, rate = rng.uniform(0, 6, size=(1, 22, 3)), rng.uniform(0.5, 1.0)
    angles = 0.1 * np.sin(2 * np.pi * rate * t + phase) * np.array([0.3, 1.0, 0.3])
    yaw = rng.uniform(0, 6) + rng.uniform(-1, 1) * t[:, 0, 0]
    angles[:, 0] = np.stack([0 * yaw, 0 * yaw, yaw], axis=-1)
    step = rng.uniform(0.3, 1.2) / 16 * np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], axis=-1)
    return Motion(np.cumsum(step, axis=0) + [0, 0, 0.95], axis_angle_to_quat(angles))
