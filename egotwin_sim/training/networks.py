"""The networks of a configuration or of a model's folder, on the meta device: their shapes, without their weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import nn

from egotwin_sim.errors import UserError
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import VideoVAE
from egotwin_sim.training.components import find_component
from egotwin_sim.training.config import Section, build, section

T5_V1_1 = {
    512: {"d_ff": 1024, "num_layers": 8, "num_heads": 6},
    768: {"d_ff": 2048, "num_layers": 12, "num_heads": 12},
    1024: {"d_ff": 2816, "num_layers": 24, "num_heads": 16},
    2048: {"d_ff": 5120, "num_layers": 24, "num_heads": 32},
    4096: {"d_ff": 10240, "num_layers": 24, "num_heads": 64},
}
"""The published sizes of T5 v1.1 (small, base, large, XL, XXL) by their width; arXiv 2002.05202 and 1910.10683."""


@dataclass(frozen=True)
class Networks:
    """A model's networks on the meta device.

    Attributes:
        transformer: denoises.
        video_vae: codes frames; None where a folder has none yet.
        motion_vae: codes motion; likewise.
        text_encoder: a T5, where it is one whose size is known.
        depth: of the nano form.
    """

    transformer: EgoTwinTransformer3DModel
    video_vae: VideoVAE | AutoencoderKLCogVideoX | None
    motion_vae: MotionVAE | None
    text_encoder: nn.Module | None
    depth: DepthNet | None

    def named(self) -> dict[str, nn.Module]:
        """Those that are there, by what they are called on disk."""
        return {name: network for name, network in vars(self).items() if network is not None}


def networks_of_config(config: Section) -> Networks:
    """The networks that a configuration describes.

    Raises:
        UserError: it describes none, or another denoiser.
    """
    models = config["models"]
    told = section(config, "models", "transformer")
    if told.get("kind", "egotwin") != "egotwin":
        raise UserError(f"models.transformer is a {told['kind']}; expected EgoTwin's own transformer")
    told = {name: value for name, value in told.items() if name != "kind"}
    with torch.device("meta"):
        return Networks(
            build(EgoTwinTransformer3DModel, told, "models.transformer"),
            _video_vae(models["video_vae"]) if "video_vae" in models else None,
            build(MotionVAE, models["motion_vae"], "models.motion_vae") if "motion_vae" in models else None,
            _t5(told) if models.get("text_encoder", {}).get("kind") == "t5" else None,
            build(DepthNet, models["depth"], "models.depth") if "depth" in models else None,
        )


def networks_of_folder(folder: Path) -> Networks:
    """The networks in a model's folder, or in one of runs that are named like their stages.

    Raises:
        UserError: there is no transformer.
    """
    if find_component(folder, "transformer") is None:
        raise UserError(f"{folder} holds no transformer; give a configuration's name, or the folder of a model")
    text = folder / "text_encoder" / "config.json"
    with torch.device("meta"):
        return Networks(
            _saved(folder, "transformer", EgoTwinTransformer3DModel),
            _saved(folder, "video_vae", VideoVAE, AutoencoderKLCogVideoX),
            _saved(folder, "motion_vae", MotionVAE),
            _saved_t5(text) if text.is_file() else None,
            _saved(folder, "depth", DepthNet),
        )


def _video_vae(told: Section) -> VideoVAE | AutoencoderKLCogVideoX:
    kinds = {None: VideoVAE, "cogvideox": AutoencoderKLCogVideoX}
    kind = told.get("kind")
    if kind not in kinds:
        raise UserError(f"models.video_vae.kind is {kind!r}; expected cogvideox, or none for nano's")
    rest = {name: value for name, value in told.items() if name != "kind"}
    return build(kinds[kind], rest, "models.video_vae")


def _t5(transformer: Section) -> nn.Module | None:
    from transformers import T5Config, T5EncoderModel

    width = transformer.get("text_embed_dim")
    if width not in T5_V1_1:
        return None
    return T5EncoderModel(
        T5Config(vocab_size=32128, d_model=width, d_kv=64, feed_forward_proj="gated-gelu", **T5_V1_1[width])
    )


def _saved(folder: Path, name: str, *kinds: Any) -> Any:
    found = find_component(folder, name)
    if found is None:
        return None
    try:
        named = json.loads((found / "config.json").read_text()).get("_class_name")
        for kind in kinds:
            if kind.__name__ == named:
                return kind.from_config(kind.load_config(found))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{found}/config.json cannot be read ({error}); save or download it again") from error
    raise UserError(f"{found} holds a {named}; expected a {' or a '.join(kind.__name__ for kind in kinds)}")


def _saved_t5(path: Path) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config.from_json_file(path))
