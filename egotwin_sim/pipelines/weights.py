"""Weights of a stream on disk: finding them, and reading what they say of themselves without loading a network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from egotwin_sim.errors import UserError

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
CONFIG_NAME = "stream.json"
FORMAT = 1


@dataclass(frozen=True)
class StreamConfig:
    """What a stream needs to know beside its networks.

    Attributes:
        image_size: side of the square frames, pixels.
        video_fps, motion_fps: frames per second.
        fovy: vertical field of view of the head camera, radians.
        stature: of the body, metres.
        text_encoder: what ``load_text_encoder`` takes.
        window: chunks before the present one that attention sees, beside the sink.
        sink: chunks from the start that it always sees.
        view_steps: denoising steps of a view.
        body_steps: denoising steps of a chunk of body motion, when it is dreamt too.
        body_guidance: weight of the text when the body is dreamt.
    """

    image_size: int = 128
    video_fps: float = 8.0
    motion_fps: float = 16.0
    fovy: float = 1.5707963267948966
    stature: float = 1.75
    text_encoder: dict[str, Any] = field(default_factory=lambda: {"kind": "minilm"})
    window: int = 3
    sink: int = 1
    view_steps: int = 1
    body_steps: int = 10
    body_guidance: float = 2.0


def shipped_weights() -> list[str]:
    """Names of the weights in the package."""
    return sorted(entry.parent.name for entry in WEIGHTS.glob(f"*/{CONFIG_NAME}"))


def shipped_folder(name: str) -> Path:
    """The folder of shipped weights."""
    return WEIGHTS / name


def find_weights(path: str | Path) -> Path:
    """The folder of shipped weights by name ("nano"), or of what ``save_pretrained`` wrote.

    Raises:
        UserError: no such weights.
    """
    folder = shipped_folder(str(path)) if str(path) in shipped_weights() else Path(path)
    if not (folder / CONFIG_NAME).is_file():
        raise UserError(
            f"no stream weights at {folder}: expected one of {', '.join(shipped_weights()) or 'none shipped'}, or a "
            f"folder with {CONFIG_NAME}, video_vae, motion_vae and transformer"
        )
    return folder


def read_config(folder: Path) -> StreamConfig:
    """The configuration in a folder of weights.

    Raises:
        UserError: damaged, or of another version.
    """
    told = read_json(folder / CONFIG_NAME)
    if told.pop("format", None) != FORMAT:
        raise UserError(f"{folder / CONFIG_NAME} is of another format; expected {FORMAT}")
    try:
        return StreamConfig(**told)
    except TypeError as error:
        raise UserError(f"{folder / CONFIG_NAME} does not fit this version: {error}") from error


def write_config(config: StreamConfig, folder: Path) -> None:
    """Write the configuration into a folder of weights; the last thing that makes the folder whole."""
    partial = folder / (CONFIG_NAME + ".partial")
    partial.write_text(json.dumps({"format": FORMAT, **asdict(config)}, indent=2))
    partial.rename(folder / CONFIG_NAME)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        UserError: the file is missing or damaged, or holds something else.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}); give a complete folder of weights") from error
    if not isinstance(told, dict):
        raise UserError(f"{path} holds no JSON object; give a complete folder of weights")
    return told
