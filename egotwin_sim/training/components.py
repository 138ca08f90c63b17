"""Finding the weights of earlier stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import nn

from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import fingerprint, load_whole
from egotwin_sim.models.denoiser import DENOISERS
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.models.motion_vae import MotionVAE
from egotwin_sim.models.text_encoder import TextEncoder, load_text_encoder
from egotwin_sim.models.video_vae import VideoVAE
from egotwin_sim.training.processes import processes

READ_WHOLE = 64 * 2**20
SAMPLE_BYTES = 2**18
SAMPLES = 256

# Where each component is looked for in the folder of --init: the latest stage that trained it first.
STAGES_OF = {
    "video_vae": ("refine", "video-vae"),
    "depth": ("video-vae",),
    "motion_vae": ("motion-vae",),
    "ego_motion": ("ego-motion",),
    "transformer": ("modes", "refine", "distill", "stream", "joint", "text-motion"),
}


def find_component(init: Path, name: str, before: str | None = None) -> Path | None:
    """The folder of a component's weights below ``init``: ``init/<stage>/<name>``, or else ``init/<name>``.

    Args:
        init: a folder of runs named like their stages, which `egotwin model init` may have begun; a run's folder; or a
            pipeline's folder.
        name: a key of ``STAGES_OF``.
        before: only stages that come before this one; all when None.
    """
    stages = STAGES_OF[name]
    if before in STAGES_OF["transformer"]:
        order = STAGES_OF["transformer"]
        later = order[: order.index(before) + 1]
        stages = tuple(stage for stage in stages if stage not in later)
    for folder in (*(init / stage / name for stage in stages), init / name):
        if (folder / "config.json").is_file():
            return folder
    return None


def require_component(init: Path | None, name: str, before: str | None = None) -> Path:
    """As ``find_component``, but it has to be there.

    Raises:
        UserError: no ``init``, or no such component in it.
    """
    folder = find_component(init, name, before) if init is not None else None
    if folder is None:
        places = " or ".join(f"<init>/{stage}/{name}" for stage in STAGES_OF[name])
        raise UserError(f"no trained {name} found (looked for {places}); train that stage first and give --init <init>")
    return folder


def load_component(cls: Any, init: Path | None, name: str, before: str | None = None) -> Any:
    """Load a component's weights (a diffusers folder), in eval mode.

    Raises:
        UserError: no ``init``, or no such component in it.
    """
    return load_whole(cls, require_component(init, name, before)).eval()


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        load: gives it, in eval mode.
        digest: what tells it from others.
        folder: of its weights, if it has one.
    """

    load: Callable[[], Any]
    digest: Callable[[], str]
    folder: Path | None = None

    @classmethod
    def of_folder(cls, kind: Any, folder: Path) -> Source:
        """A network that ``save_pretrained`` wrote."""
        return cls(lambda: load_whole(kind, folder).eval(), lambda: folder_digest(folder), folder)

    @classmethod
    def of_network(cls, name: str, network: Any) -> Source:
        """A network, or a text encoder, that is in memory already."""

        def digest() -> str:
            if isinstance(network, nn.Module):
                return fingerprint({name: network})
            return f"{type(network).__name__} {network.max_length}"

        return cls(lambda: network, digest)


Data = Path | Sequence[Path]
"""A data set's folder, or several."""


def data_folders(data: Data) -> list[Path]:
    """The folders of one data set or of several."""
    return [data] if isinstance(data, Path) else list(data)


def empty_denoiser(folder: Path) -> Any:
    """The network whose weights are in a folder, on the meta device: it takes no memory until it is filled.

    Raises:
        UserError: no network that denoises.
    """
    try:
        told = json.loads((folder / "config.json").read_text())
        kind = {one.__name__: one for one in DENOISERS.values()}[told["_class_name"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}/config.json names no network that denoises video and motion ({error}); give the folder of the "
            "right model"
        ) from error
    with torch.device("meta"):
        return kind.from_config(told).train()


class FrozenNetworks:
    """The networks around the transformer, which its stages use as they are; each is loaded when it is asked for.

    Args:
        **sources: how to load ``vae``, ``motion_vae``, ``text_encoder`` and, with a view memory, ``depth_net``.
    """

    def __init__(self, **sources: Source) -> None:
        self._sources, self._loaded = sources, dict[str, Any]()

    @classmethod
    def of(cls, **networks: Any) -> FrozenNetworks:
        """Networks that are loaded already."""
        return cls(**{name: Source.of_network(name, network) for name, network in networks.items()})

    @property
    def remembers(self) -> bool:
        """Whether the model has a view memory; otherwise it is in the published form."""
        return "depth_net" in self._sources

    @property
    def vae(self) -> Any:
        """The video VAE: nano's own, or CogVideoX's."""
        return self._get("vae")

    @property
    def depth_net(self) -> DepthNet:
        """The depth network of the view memory."""
        return self._get("depth_net")

    @property
    def motion_vae(self) -> MotionVAE:
        """The motion VAE."""
        return self._get("motion_vae")

    @property
    def text_encoder(self) -> TextEncoder:
        """The text encoder."""
        return self._get("text_encoder")

    def _get(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._sources[name].load()
        return self._loaded[name]

    def digest(self, *names: str) -> str:
        """What tells these networks from others, without loading them."""
        return " ".join(self._sources[name].digest() for name in names)

    def on_device(self, *names: str) -> FrozenNetworks:
        """These, with the named ones on this process's device; the text encoder is loaded there."""
        for name in names:
            if isinstance(network := self._get(name), nn.Module):
                network.to(processes().device)
        return self

    def release(self, name: str) -> None:
        """Free the memory of a network, where it came from a file; asked for again, it is loaded again."""
        if self._sources[name].folder is not None and self._loaded.pop(name, None) is not None:
            torch.cuda.empty_cache()


def folder_digest(folder: Path) -> str:
    """A short digest of a network's files: of small ones all, of large ones their sizes and samples of their bytes."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            step = SAMPLE_BYTES if size <= READ_WHOLE else max(SAMPLE_BYTES, size // SAMPLES)
            for start in range(0, size, step):
                file.seek(start)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def frozen_networks(config: dict[str, Any], init: Path | None, before: str) -> FrozenNetworks:
    """The networks around the transformer of a configuration, for the stage ``before``.

    The configuration says the form: with ``models.depth`` there is a view memory, and ``kind: cogvideox`` in
    ``models.video_vae`` is CogVideoX's. A T5 without a folder lies in ``init``.

    Raises:
        UserError: one that is not below ``init``.
    """
    models = config["models"]
    published = models.get("video_vae", {}).get("kind") == "cogvideox"
    sources = {
        "motion_vae": Source.of_folder(MotionVAE, require_component(init, "motion_vae", before)),
        "text_encoder": _text_source(models["text_encoder"], init),
    }
    if "video_vae" in models and before != "text-motion":
        kind = AutoencoderKLCogVideoX if published else VideoVAE
        sources["vae"] = Source.of_folder(kind, require_component(init, "video_vae", before))
    if "depth" in models and before != "text-motion":
        sources["depth_net"] = Source.of_folder(DepthNet, require_component(init, "depth", before))
    return FrozenNetworks(**sources)


def _text_source(choice: dict[str, Any], init: Path | None) -> Source:
    told = dict(choice)
    if told.get("kind") == "t5":
        folder = Path(told.setdefault("folder", init or ""))
        if not (folder / "text_encoder").is_dir() and not (folder / "config.json").is_file():
            raise UserError(
                f"no T5 in {folder / 'text_encoder'}; make the folder with `egotwin model init` and give it as --init, "
                "or name another as models.text_encoder.folder"
            )
        parts = [folder / name if (folder / name).is_dir() else folder for name in ("text_encoder", "tokenizer")]
        named = " ".join(f"{key} {value}" for key, value in sorted(told.items()) if key != "folder")
        return Source(
            lambda: load_text_encoder(told, device=processes().device),
            lambda: f"{named} {' '.join(folder_digest(part) for part in dict.fromkeys(parts))}",
            folder,
        )
    named = " ".join(f"{key} {value}" for key, value in sorted(told.items()))
    return Source(lambda: load_text_encoder(told, device=processes().device), lambda: named)
