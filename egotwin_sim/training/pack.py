"""From the folders of the training runs to one folder of weights that a pipeline loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler

from egotwin_sim.metrics.ego_motion import EgoMotion
from egotwin_sim.metrics.ego_motion_net import EgoMotionNet
from egotwin_sim.models.cogvideox_source import noise_scheduler
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.shards import stored_tensors, write_shards
from egotwin_sim.models.text_encoder import load_text_encoder
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import VideoVAE
from egotwin_sim.pipelines import EgoTwinPipeline, StreamConfig, StreamPipeline
from egotwin_sim.training.components import find_component, load_component, require_component
from egotwin_sim.training.networks import networks_of_folder


def pack(config: dict[str, Any], init: Path, out: Path) -> None:
    """Collect the averaged weights of the latest stages below ``init`` into ``out``, the transformer's as bf16.

    Raises:
        UserError: a stage has not been trained.
    """
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if "depth" in config["models"]:
        _pack_stream(config, init, partial)
    else:
        _pack_published(config, init, partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def _pack_stream(config: dict[str, Any], init: Path, out: Path) -> None:
    """The form with a view memory: a stream's folder, and the pipeline's index beside it."""
    pipeline = StreamPipeline(
        load_component(VideoVAE, init, "video_vae"),
        load_component(DepthNet, init, "depth"),
        load_component(MotionVAE, init, "motion_vae"),
        load_component(EgoTwinTransformer3DModel, init, "transformer"),
        load_text_encoder(config["models"]["text_encoder"]),
        StreamConfig(text_encoder=config["models"]["text_encoder"]),
    )
    pipeline.save_pretrained(out)
    EgoTwinPipeline.of_stream(pipeline).save_index(out)
    if find_component(init, "ego_motion") is not None:  # of the metrics; a stream does without
        EgoMotion(load_component(EgoMotionNet, init, "ego_motion")).save_pretrained(out / "ego_motion")


def _pack_published(config: dict[str, Any], init: Path, out: Path) -> None:
    """The published form; of the transformer one tensor is in memory at a time, everything else is copied."""
    sources = {name: require_component(init, name) for name in ("transformer", "video_vae", "motion_vae")}
    networks = networks_of_folder(init)
    told = dict(config["models"]["text_encoder"])
    has_t5 = networks.text_encoder is not None
    tokenizer = None
    if has_t5:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(init / "tokenizer", local_files_only=True)
        sources |= {name: init / name for name in ("text_encoder", "tokenizer")}
        told = {name: value for name, value in told.items() if name == "max_length"}
    saved = init / "scheduler"
    scheduler = CogVideoXDDIMScheduler.from_pretrained(saved) if saved.is_dir() else noise_scheduler()
    pipeline = EgoTwinPipeline(
        networks.transformer,
        networks.video_vae,
        networks.motion_vae,
        scheduler,
        networks.text_encoder,
        tokenizer,
        temporal=config["stages"].get("joint", {}).get("denoising", {}).get("temporal", "bidirectional"),
        text=told,
    )
    for name, source in sources.items():
        if name != "transformer":
            shutil.copytree(source, out / name, ignore=shutil.ignore_patterns(".*"))
    (out / "transformer").mkdir()
    networks.transformer.save_config(out / "transformer")
    stored = stored_tensors(sources["transformer"])
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    tensors = ((name, tensor.read()) for name, tensor in stored.items())
    write_shards(out / "transformer", shapes, tensors, torch.bfloat16)
    pipeline.save_index(out)
