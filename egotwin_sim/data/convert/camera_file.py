"""The camera of a recording, described by the user in a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.convert.captions import read_object
from egotwin_sim.errors import UserError

# A camera between the eyes that looks ahead: the optical frame's axes (right, down, forward) in the head's.
AHEAD = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
_KEYS = {"K", "fovy_deg", "width", "height", "distortion", "T_head_camera"}
_MIN_FOVY, _MAX_FOVY = 5.0, 170.0


def read_camera(path: Path | None, size: tuple[int, int], default_fovy_deg: float) -> tuple[Camera, list[str]]:
    """The camera of a video, and what had to be assumed.

    The file's object has `K` (3x3, pixels of the video, pixel centres at half-integers) or `fovy_deg` (the vertical
    field of view, degrees), and may have `T_head_camera` (4x4), `width` and `height`, which must be the video's, and
    `distortion`, which must be "none": undistort a video before it is given.

    Args:
        path: the file; None where there is none.
        size: (H, W) of the video.
        default_fovy_deg: the field of view where there is no file.

    Raises:
        UserError: the file is not of that form.
    """
    height, width = size
    if path is None:
        camera = _ahead(default_fovy_deg, size, AHEAD)
        note = f"no camera.json: a vertical field of view of {default_fovy_deg:g} degrees was assumed, between the eyes"
        return camera, [note]
    value, notes = read_object(path), []
    if unknown := sorted(value.keys() - _KEYS):
        raise UserError(f"{path} has '{unknown[0]}'; expected {', '.join(sorted(_KEYS))}")
    if ("K" in value) == ("fovy_deg" in value):
        raise UserError(f"{path} must have either K or fovy_deg")
    if value.get("distortion", "none") != "none":
        raise UserError(f'{path}: distortion is {value["distortion"]}; expected "none": undistort the video first')
    if (value.get("height", height), value.get("width", width)) != size:
        raise UserError(
            f"{path} speaks of pictures of {value.get('width')}x{value.get('height')} pixels, the video has "
            f"{width}x{height}: give the camera of this video"
        )
    if "T_head_camera" in value:
        pose = _numbers(path, value, "T_head_camera")
    else:
        pose = AHEAD
        notes.append("no T_head_camera in the camera file: it was taken to sit between the eyes and to look ahead")
    if "fovy_deg" in value:
        return _ahead(float(_numbers(path, value, "fovy_deg")), size, pose), notes
    camera = Camera(_numbers(path, value, "K"), pose)
    K = camera.K
    if not (K[0, 0] > 0 and K[1, 1] > 0 and np.allclose(K[2], (0, 0, 1)) and K[1, 0] == 0):
        raise UserError(f"{path}: K is {K.tolist()}; expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]]")
    if not (0 < K[0, 2] < width and 0 < K[1, 2] < height):
        raise UserError(
            f"{path}: K's principal point ({K[0, 2]:g}, {K[1, 2]:g}) lies outside the {width}x{height} pixels of the "
            "video: give the K of this video"
        )
    return camera, notes


def _ahead(fovy_deg: float, size: tuple[int, int], pose: np.ndarray) -> Camera:
    if not _MIN_FOVY <= fovy_deg <= _MAX_FOVY:
        raise UserError(f"a vertical field of view of {fovy_deg:g} degrees; expected {_MIN_FOVY:g} to {_MAX_FOVY:g}")
    return Camera.from_fovy(np.radians(fovy_deg), size[1], size[0], pose)


def _numbers(path: Path, value: dict[str, Any], name: str) -> np.ndarray:
    try:
        return np.array(value[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{path}: {name} is {value[name]!r}; expected numbers") from None
