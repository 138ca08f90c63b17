"""The networks that denoise video and motion together, by the name that a config or a saved folder gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import load_whole
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.vidmld import VidMLD

Denoiser = EgoTwinTransformer3DModel | VidMLD

DENOISERS: dict[str, Any] = {"egotwin": EgoTwinTransformer3DModel, "vidmld": VidMLD}
"""By `kind` in a config's ``models.transformer``; without it, "egotwin"."""


def denoiser_class(kind: str) -> Any:
    """The class of a kind.

    Raises:
        UserError: there is none of that name.
    """
    if kind not in DENOISERS:
        raise UserError(f"models.transformer.kind is {kind!r}; expected {' or '.join(DENOISERS)}")
    return DENOISERS[kind]


def load_denoiser(folder: Path, **options: Any) -> Any:
    """Load the denoiser in a folder of `save_pretrained`, of whichever class its config names.

    Raises:
        UserError: as `checkpoint.load_whole`.
    """
    named = ""
    if (folder / "config.json").is_file():
        try:
            named = json.loads((folder / "config.json").read_text()).get("_class_name", "")
        except (OSError, ValueError, AttributeError):
            named = ""  # `load_whole` says what is wrong
    return load_whole(VidMLD if named == VidMLD.__name__ else EgoTwinTransformer3DModel, folder, **options)
