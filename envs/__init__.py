"""Gymnasium environments: the dream (the model) and the room (MuJoCo), with the same spaces.

Names load their module on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "DreamEnv": "dream",
    "DreamVectorEnv": "vector",
    "RoomEnv": "room",
    "Command": "command",
    "LiveBody": "live",
    "MotionFrames": "wrappers",
    "motion_to_actions": "actions",
    "room_vector_env": "room_vector",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
