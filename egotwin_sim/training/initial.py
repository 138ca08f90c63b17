"""The folder that training starts from: made of a public CogVideoX checkpoint, or of nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from egotwin_sim.errors import UserError
from egotwin_sim.models.cogvideox_source import CogVideoXSource, noise_scheduler, weight_of
from egotwin_sim.models.fresh import fresh_weights, parts
from egotwin_sim.models.shards import SHARD_BYTES, StoredTensor, write_shards
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.pipelines.egotwin import EgoTwinPipeline
from egotwin_sim.training.config import Section, build, section
from egotwin_sim.training.networks import networks_of_config

PARTS = {"vae": "video_vae", "text_encoder": "text_encoder", "tokenizer": "tokenizer", "scheduler": "scheduler"}
"""What a checkpoint's folders are called in a model's folder; the transformer is made anew."""

Report = Callable[[str], None]


def initial_model(
    config: Section,
    out: Path,
    *,
    source: CogVideoXSource | None = None,
    around: CogVideoXSource | None = None,
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
    link: bool = False,
    shard_bytes: int = SHARD_BYTES,
    report: Report = lambda line: None,
) -> None:
    """Write the folder of a model that has not been trained yet; it appears whole, or not at all.

    One tensor of the transformer is in memory at a time.

    Args:
        config: a configuration in the published form.
        out: the folder; new or empty.
        source: where text and video come from, with all that is around the transformer. The motion branch is new.
        around: where only what is around a new transformer comes from: video VAE, text encoder, tokenizer.
        dtype: of the transformer's weights on disk. What is copied stays as it is.
        seed: of the new weights.
        link: hard-link the large copied files where the disk allows it, instead of copying them.
        shard_bytes: of a weights file at most.
        report: told what is being done.

    Raises:
        UserError: a configuration of another form, a checkpoint that does not fit it, or a folder that is in use.
    """
    told, out = _published(config), out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already; give a new or empty folder")
    parts_from = source or around
    if parts_from is not None:
        video_vae = {name: value for name, value in section(config, "models", "video_vae").items() if name != "kind"}
        parts_from.check_parts(video_vae, networks_of_config(config).transformer.config.text_embed_dim)
    if source is not None:
        told = source.transformer_config(told)
    with torch.device("meta"):
        model = build(EgoTwinTransformer3DModel, told, "models.transformer")
    stored = source.check_transformer(model) if source is not None else {}
    # The name is the same at every call: what a killed one left is cleared away by the next.
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "transformer").mkdir(parents=True)
        report(f"transformer: {len(stored)} weights from the checkpoint, {len(model.state_dict()) - len(stored)} new")
        model.save_config(partial / "transformer")
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        weights = _weights(model, stored, seed)
        write_shards(partial / "transformer", shapes, weights, dtype, shard_bytes)
        if parts_from is None:
            noise_scheduler().save_pretrained(partial / "scheduler")
        else:
            for theirs, ours in PARTS.items():
                report(f"{ours}: from {parts_from.folder / theirs}")
                _copy(parts_from.folder / theirs, partial / ours, link)
            _write_index(partial, model, parts_from)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _published(config: Section) -> Section:
    """The section of the transformer in a configuration of the published form, whose parts fit together."""
    networks = networks_of_config(config)
    if networks.depth is not None or not isinstance(networks.video_vae, AutoencoderKLCogVideoX):
        raise UserError(
            "the configuration is not of the published form (it has models.depth, or a video VAE that is not of kind "
            "cogvideox); use small, base or one like them, and `egotwin train video-vae` for the others"
        )
    if networks.motion_vae is None:
        raise UserError("the configuration has no models.motion_vae; use small, base or one like them")
    transformer = networks.transformer.config
    for name, found, other in (
        ("motion_channels", networks.motion_vae.config.latent_channels, "motion_vae"),
        ("out_channels", networks.video_vae.config.latent_channels, "video_vae"),
    ):
        if transformer[name] != found:
            raise UserError(
                f"models.transformer.{name} is {transformer[name]} and models.{other}.latent_channels {found}; "
                "expected the same number"
            )
    return {name: value for name, value in section(config, "models", "transformer").items() if name != "kind"}


def _weights(
    model: EgoTwinTransformer3DModel, stored: dict[str, StoredTensor], seed: int
) -> Iterator[tuple[str, Tensor]]:
    """The model's weights in the order of its state: from the checkpoint where it has them, otherwise new."""
    for part, module in parts(model):
        names = [f"{part}.{name}" for name in module.state_dict()]
        new = {} if all(name in stored for name in names) else fresh_weights(model, part, seed)
        for name in names:
            found = name in stored
            yield name, weight_of(name, stored[name], separate_text=model.config.separate_text) if found else new[name]


def _write_index(folder: Path, transformer: EgoTwinTransformer3DModel, source: CogVideoXSource) -> None:
    """Say how the parts belong together; a motion VAE comes later, from stage one."""
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(**source.vae)
        text_encoder = T5EncoderModel(T5Config.from_pretrained(folder / "text_encoder", local_files_only=True))
    EgoTwinPipeline(transformer, vae, None, noise_scheduler(), text_encoder, source.tokenizer()).save_config(folder)


def _copy(source: Path, target: Path, link: bool) -> None:
    """Copy a component's folder; the hub's cache keeps its files as links, which are followed."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if not file.is_file() or file.name.startswith(".") or file.suffix in (".bin", ".md", ".msgpack"):
            continue
        if link and file.suffix == ".safetensors":
            try:
                os.link(file.resolve(), target / file.name)
                continue
            except OSError:  # another disk, or one without hard links
                pass
        shutil.copyfile(file, target / file.name)
