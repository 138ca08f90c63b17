"""A public CogVideoX checkpoint, checked against a configuration before anything is made of it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import Tensor

from egotwin_sim.diffusion.schedule import NoiseScheduleConfig
from egotwin_sim.errors import UserError
from egotwin_sim.models.hub import checkpoint_folder
from egotwin_sim.models.separate_text import OWN, SHARED, with_own_text
from egotwin_sim.models.shards import StoredTensor, stored_tensors
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel

PIPELINES = ("CogVideoXPipeline", "CogVideoXImageToVideoPipeline")

FILES = (
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    "text_encoder/*.json",
    "text_encoder/*.safetensors",
    "transformer/*.json",
    "transformer/*.safetensors",
    "vae/*.json",
    "vae/*.safetensors",
)
"""Of a repository, what is downloaded."""

AS_THE_CHECKPOINT = ("in_channels", "use_learned_positional_embeddings")
"""Settings of the transformer in which image-to-video checkpoints differ from text-to-video ones."""


@dataclass(frozen=True)
class CogVideoXSource:
    """The folder of a CogVideoX 1.0 pipeline in the hub's layout; image-to-video ones have twice the input channels.

    Attributes:
        folder: where it is.
        transformer: its transformer's configuration, complete.
        vae: its video VAE's configuration, complete.
    """

    folder: Path
    transformer: dict[str, Any]
    vae: dict[str, Any]

    @classmethod
    def open(cls, path_or_id: str | Path) -> CogVideoXSource:
        """Find a checkpoint and read what it says of itself.

        Args:
            path_or_id: see ``hub.checkpoint_folder``.

        Raises:
            UserError: no such checkpoint, or one of another model.
        """
        folder = checkpoint_folder(path_or_id, FILES)
        named = _read(folder / "model_index.json").get("_class_name")
        if named not in PIPELINES:
            raise UserError(f"{folder} holds a {named}; expected a {' or a '.join(PIPELINES)}: give a CogVideoX 1.0")
        transformer = _network_config(folder / "transformer", CogVideoXTransformer3DModel)
        if transformer.pop("ofs_embed_dim") is not None or transformer["patch_size_t"] is not None:
            raise UserError(
                f"{folder} is a CogVideoX 1.5 (patch_size_t, ofs_embed_dim), which is not supported; give a CogVideoX "
                "1.0 (2b, 5b or 5b-I2V)"
            )
        vae = _network_config(folder / "vae", AutoencoderKLCogVideoX)
        if vae["invert_scale_latents"]:
            raise UserError(
                f"{folder}/vae has invert_scale_latents, as CogVideoX 1.5 has; give the video VAE of a CogVideoX 1.0"
            )
        return cls(folder, transformer, vae)

    def check_parts(self, video_vae: Mapping[str, Any], text_embed_dim: int) -> None:
        """Check everything but the transformer.

        Args:
            video_vae: settings that the video VAE must have.
            text_embed_dim: width that the text encoder must have.

        Raises:
            UserError: settings that differ, each named; missing, truncated or foreign weights.
        """
        differing = _differing("video_vae", video_vae, self.vae)
        text = _read(self.folder / "text_encoder" / "config.json")
        if text.get("model_type") != "t5":
            raise UserError(f"{self.folder}/text_encoder holds a {text.get('model_type')}; expected a T5")
        width = {"text_embed_dim": text_embed_dim}
        differing += _differing("transformer", width, {"text_embed_dim": text.get("d_model")})
        differing += _differing("scheduler", _schedule(), _read(self.folder / "scheduler" / "scheduler_config.json"))
        if differing:
            raise _mismatch(self.folder, differing)
        with torch.device("meta"):
            shapes = _shapes(AutoencoderKLCogVideoX(**self.vae))
        _check_weights(self.folder / "vae", stored_tensors(self.folder / "vae"), shapes)
        stored_tensors(self.folder / "text_encoder", "model")
        self.tokenizer()

    def tokenizer(self) -> Any:
        """The T5 tokenizer.

        Raises:
            UserError: it does not load.
        """
        from transformers import AutoTokenizer

        folder = self.folder / "tokenizer"
        if not any((folder / name).is_file() for name in ("spiece.model", "tokenizer.json")):
            raise UserError(f"{folder} has neither spiece.model nor tokenizer.json; download it again")
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # tokenizers and SentencePiece raise kinds of their own for damaged files
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{folder} does not load ({reason}); it needs sentencepiece (pip install -c constraints.txt '.[t5]'), "
                "or is to be downloaded again"
            ) from error

    def transformer_config(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """The section ``models.transformer`` of a configuration as this checkpoint fills it.

        Raises:
            UserError: settings in which the checkpoint differs, each named.
        """
        defaults = inspect.signature(EgoTwinTransformer3DModel).parameters
        wanted = {name: told.get(name, defaults[name].default) for name in self.transformer}
        free = {name: self.transformer[name] for name in AS_THE_CHECKPOINT}
        differing = _differing("transformer", wanted | free, self.transformer)
        channels = self.transformer["out_channels"]
        if free["in_channels"] not in (channels, 2 * channels):
            differing.append(f"transformer.in_channels {channels} or {2 * channels} ({free['in_channels']})")
        if differing:
            raise _mismatch(self.folder, differing)
        return {**told, **free}

    def check_transformer(self, model: EgoTwinTransformer3DModel) -> dict[str, StoredTensor]:
        """The stored tensors that a model (any device) takes its text and video branches from.

        Raises:
            UserError: missing, truncated or foreign weights.
        """
        found = stored_tensors(self.folder / "transformer")
        with torch.device("meta"):
            shapes = _shapes(CogVideoXTransformer3DModel(**self.transformer))
        _check_weights(self.folder / "transformer", found, shapes)
        return {name: found[source] for name, source in _sources(model, found)}


def weight_of(name: str, stored: StoredTensor, *, separate_text: bool) -> Tensor:
    """A model's weight from the checkpoint's tensor; text may have weights of its own, which start as a copy."""
    if not separate_text or not name.startswith((OWN, SHARED)):
        return stored.read()
    source = name if name.startswith(SHARED) else SHARED + name.removeprefix(OWN)
    return with_own_text({source: stored.read()})[name]


def _sources(model: EgoTwinTransformer3DModel, found: Mapping[str, StoredTensor]) -> Iterator[tuple[str, str]]:
    """Names of a model's weights, each with the name of the CogVideoX weight that it comes from."""
    for name in model.state_dict():
        source = SHARED + name.removeprefix(OWN) if name.startswith(OWN) else name
        if source in found:
            yield name, source


def _schedule() -> dict[str, Any]:
    """What a diffusers scheduler must say to be the schedule that the model is trained with."""
    ours = NoiseScheduleConfig()
    return {
        "num_train_timesteps": ours.num_timesteps,
        "beta_start": ours.beta_start,
        "beta_end": ours.beta_end,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "snr_shift_scale": ours.snr_shift_scale,
    }


def noise_scheduler() -> CogVideoXDDIMScheduler:
    """The diffusers scheduler of the schedule that the model is trained with, as CogVideoX-5b carries it."""
    return CogVideoXDDIMScheduler(**_schedule(), clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")


def _network_config(folder: Path, kind: Any) -> dict[str, Any]:
    told = _read(folder / "config.json")
    if told.get("_class_name") != kind.__name__:
        raise UserError(f"{folder} holds a {told.get('_class_name')}; expected a {kind.__name__}")
    known = {name: p.default for name, p in inspect.signature(kind.__init__).parameters.items() if name != "self"}
    unknown = sorted(name for name in told if name not in known and not name.startswith("_"))
    if unknown:
        raise UserError(f"{folder}/config.json has unknown settings ({', '.join(unknown)}); expected a CogVideoX 1.0")
    return {name: told.get(name, default) for name, default in known.items()}


def _differing(part: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [
        f"{part}.{name} {value} ({found.get(name)})"
        for name, value in wanted.items()
        if _plain(value) != _plain(found.get(name))
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _mismatch(folder: Path, differing: list[str]) -> UserError:
    return UserError(
        f"the configuration says otherwise than the checkpoint {folder} (in brackets): {', '.join(differing)}; "
        "take the configuration of this checkpoint's size, or another checkpoint"
    )


def _shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _check_weights(folder: Path, found: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that are missing, left over or of another shape."""
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    shaped = sorted(name for name in expected if name in found and found[name].shape != expected[name])
    for problem, names in (("lacks", missing), ("has unknown", unknown), ("has wrongly shaped", shaped)):
        if names:
            raise UserError(
                f"{folder} {problem} weights ({len(names)}, first {names[0]}); download it again, its QKV not fused"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}); give the folder of a CogVideoX pipeline") from error
    if not isinstance(told, dict):
        raise UserError(f"{path} holds no JSON object; give the folder of a CogVideoX pipeline")
    return told
