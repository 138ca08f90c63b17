"""What a user calls to generate. Names load their module, and torch, on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "BodyState": "body",
    "DreamState": "state",
    "EgoTwinPipeline": "egotwin",
    "EgoTwinPipelineOutput": "egotwin",
    "Generated": "stream",
    "Stream": "stream",
    "StreamConfig": "weights",
    "StreamPipeline": "stream",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
