"""The streaming stage: causal in time, a noise level for every chunk, on windows of a few chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egotwin_sim.training.stages.joint import train


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the transformer of the joint stage to stream."""
    train("stream", config, data, out, resume=resume, steps=steps, init=init)
