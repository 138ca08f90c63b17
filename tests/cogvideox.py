"""Tiny CogVideoX checkpoints with random weights, saved by diffusers itself in the hub's layout."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 12,
    "num_layers": 4,
    "sample_width": 8,
    "sample_height": 4,
    "sample_frames": 9,
    "max_text_seq_length": 6,
    "use_rotary_positional_embeddings": True,
}
MOTION = {"motion_channels": 6, "motion_dim": 16}
VAE = {"latent_channels": 4, "scaling_factor": 0.7}
VAE_WIDTHS = {"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2}
TEXTS = ["walk to the red box and open the door", "sit down on the chair", "wave, then turn around slowly"]


def shaken(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The network with random weights and buffers: no gate is shut, and learnt positions are not the initial ones."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return network.eval()


def save_tokenizer(folder: Path) -> None:
    """A SentencePiece tokenizer as public checkpoints have it: `spiece.model`, and no `tokenizer.json`."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20), model_writer=model, vocab_size=32, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        minloglevel=2,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    told = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"extra_ids": 100, "model_max_length": 6}))


def save_pipeline(folder: Path, *, image_to_video: bool = False, shard: str = "20KB", **changes: Any) -> Any:
    """Save a pipeline with shards of the given size.

    Returns:
        The transformer that was saved.
    """
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXImageToVideoPipeline,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    save_tokenizer(folder / "tokenizer")
    config = TRANSFORMER | changes
    if image_to_video:
        config |= {"in_channels": 8, "use_learned_positional_embeddings": True}
    transformer = shaken(CogVideoXTransformer3DModel(**config))
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(**VAE, **VAE_WIDTHS)
    t5 = T5Config(vocab_size=132, d_model=config["text_embed_dim"], d_kv=4, d_ff=16, num_layers=2, num_heads=3)
    scheduler = CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0,
        clip_sample=False, timestep_spacing="trailing",
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    kind = CogVideoXImageToVideoPipeline if image_to_video else CogVideoXPipeline
    pipeline = kind(
        tokenizer=tokenizer, text_encoder=T5EncoderModel(t5), vae=vae, transformer=transformer, scheduler=scheduler
    )
    spiece = (folder / "tokenizer" / "spiece.model").read_bytes()
    told = (folder / "tokenizer" / "tokenizer_config.json").read_bytes()
    pipeline.save_pretrained(folder, max_shard_size=shard)
    # transformers now writes `tokenizer.json`; the public checkpoints were saved before.
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece)
    (folder / "tokenizer" / "tokenizer_config.json").write_bytes(told)
    return transformer


def write_config(path: Path, **transformer: Any) -> Path:
    """A configuration of the published form that fits the checkpoint."""
    models = {
        "video_vae": {"kind": "cogvideox", **VAE},
        "motion_vae": {"latent_channels": 6, "width": 16, "blocks": 1, "canonical": "clip"},
        "text_encoder": {"kind": "t5", "max_length": 6},
        "transformer": TRANSFORMER | MOTION | transformer,
    }
    path.write_text(yaml.safe_dump({"models": models, "stages": {}}))
    return path
