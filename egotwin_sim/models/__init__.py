"""The networks: VAEs, text encoders, the three-branch transformer. Names load their module, and torch, on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "CogVideoXVAE": "cogvideox_vae",
    "DepthNet": "depth",
    "EgoTwinTransformer3DModel": "transformer",
    "EgoTwinTransformerOutput": "transformer",
    "MiniLM": "text_encoder",
    "MotionVAE": "motion_vae",
    "T5": "text_encoder",
    "TextEmbedding": "text_encoder",
    "TextEncoder": "text_encoder",
    "VideoVAE": "video_vae",
    "ViewMemory": "view_memory",
    "load_text_encoder": "text_encoder",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
