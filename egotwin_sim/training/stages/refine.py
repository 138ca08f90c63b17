"""The last stage: dreams that look like a room, by a critic and a decoder that learns what dreams are like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egotwin_sim.training.stages.distill import train


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the transformer and the decoder of the distilled model further."""
    train("refine", config, data, out, resume=resume, steps=steps, init=init)
