"""The live loop without ROS: simulation, head camera and dream as threads that never wait for one another.

Names load their module on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "CameraFrame": "camera",
    "ClosedLoop": "closed_loop",
    "Dreamer": "dreamer",
    "DreamtChunk": "dream",
    "DriftCurve": "recording",
    "HeadCamera": "camera",
    "HeadView": "camera",
    "LiveConfig": "loop",
    "LiveDream": "dream",
    "LiveLoop": "loop",
    "Mailbox": "mailbox",
    "Pacer": "pacing",
    "Puppet": "puppet",
    "Recording": "recording",
    "Simulation": "simulation",
    "StepRequest": "dreamer",
    "TokenPolicy": "loop",
    "View": "simulation",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
