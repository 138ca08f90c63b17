"""A camera described by a user, and what is assumed or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data.convert.camera_file import AHEAD, read_camera
from egotwin_sim.errors import UserError

SIZE = (480, 640)
K = [[500.0, 0, 320], [0, 510.0, 240], [0, 0, 1]]


def _write(tmp_path: Path, value: dict[str, object]) -> Path:
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(value))
    return path


def test_what_is_given_is_taken(tmp_path: Path) -> None:
    pose = AHEAD.copy()
    pose[:3, 3] = (0.08, 0.0, 0.03)
    value = {"K": K, "width": 640, "height": 480, "distortion": "none", "T_head_camera": pose.tolist()}
    camera, notes = read_camera(_write(tmp_path, value), SIZE, 60.0)
    assert np.array_equal(camera.K, K) and np.array_equal(camera.T_head_camera, pose) and notes == []


def test_what_is_missing_is_assumed_and_told(tmp_path: Path) -> None:
    camera, notes = read_camera(None, SIZE, 60.0)
    assert camera.K[1, 1] == pytest.approx(240 / np.tan(np.radians(30))) and "60 degrees was assumed" in notes[0]
    ahead = camera.T_head_camera[:3, :3] @ (0, 0, 1)
    assert ahead.tolist() == [1, 0, 0]
    camera, notes = read_camera(_write(tmp_path, {"fovy_deg": 90}), SIZE, 60.0)
    assert camera.K[1, 1] == pytest.approx(240) and "between the eyes" in notes[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "either K or fovy_deg"),
        ({"K": K, "fovy_deg": 60}, "either K or fovy_deg"),
        ({"k": K}, "has 'k'"),
        ({"K": K, "distortion": "fisheye"}, "undistort the video first"),
        ({"K": K, "width": 1280, "height": 720}, "1280x720 pixels, the video has 640x480"),
        ({"K": [[500.0, 0, 640], [0, 500, 360], [0, 0, 1]]}, "principal point"),
        ({"K": [[500.0, 0], [0, 500]]}, "K must be"),
        ({"K": [[-500.0, 0, 320], [0, 500, 240], [0, 0, 1]]}, "expected \\[\\[fx"),
        ({"K": "wide"}, "expected numbers"),
        ({"fovy_deg": 200}, "expected 5 to 170"),
        ({"K": K, "T_head_camera": (2 * np.eye(4)).tolist()}, "rigid"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, value: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_camera(_write(tmp_path, value), SIZE, 60.0)
