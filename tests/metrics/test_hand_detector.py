"""Detectors: the room's paint, a function, a TorchScript file; and what they are told when they answer nonsense."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.hand_detector import CalledHands, PaintedHands, ScriptedHands, hand_detector

FRAMES = np.zeros((5, 16, 16, 3), np.uint8)


class Bright(nn.Module):
    """Says left where the left half is bright, right where the right half is."""

    def forward(self, frames: Tensor) -> Tensor:
        half = frames.shape[3] // 2
        return torch.stack([frames[..., :half].mean((1, 2, 3)), frames[..., half:].mean((1, 2, 3))], dim=1)


class Sums(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames.sum((1, 2, 3)) + 3.0


def scripted(module: nn.Module, path: Path) -> Path:
    torch.jit.trace(module, torch.zeros(2, 3, 16, 16)).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_file_is_named_by_its_content(tmp_path: Path) -> None:
    path = scripted(Bright(), tmp_path / "bright.pt")
    detector = ScriptedHands(path)
    assert detector.name == f"bright.pt sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    frames = np.zeros((40, 16, 16, 3), np.uint8)  # more than are given at once
    frames[::2, :, :8] = 255
    frames[5, :, 8:] = 200
    seen = detector.detect(frames)
    assert seen.shape == (40, 2) and seen.dtype == bool
    np.testing.assert_array_equal(seen[:, 0], np.arange(40) % 2 == 0)
    np.testing.assert_array_equal(np.flatnonzero(seen[:, 1]), [5])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no hand detector at"):
        ScriptedHands(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no program")
    with pytest.raises(UserError, match="no TorchScript file"):
        ScriptedHands(tmp_path / "text.pt")
    with pytest.raises(UserError, match="outside 0 to 1"):
        ScriptedHands(scripted(Sums(), tmp_path / "sums.pt")).detect(FRAMES)


def test_a_function_is_a_detector() -> None:
    def hands_above(frames: np.ndarray) -> np.ndarray:
        return frames.mean(axis=(1, 2, 3)) / 255

    detector = hand_detector(hands_above)
    assert detector.name.endswith("hands_above") and not detector.detect(FRAMES).any()
    assert CalledHands(hands_above, "x").detect(FRAMES + np.uint8(200)).all()
    with pytest.raises(UserError, match=r"returned \(4,\) for 5 frames"):
        CalledHands(lambda frames: np.ones(4, bool), "x").detect(FRAMES)
    with pytest.raises(UserError, match="outside 0 to 1"):
        CalledHands(lambda frames: np.full(5, np.nan), "x").detect(FRAMES)


def test_paint_is_the_rooms_own() -> None:
    detector = hand_detector("paint")
    assert isinstance(detector, PaintedHands)
    frames = np.full((3, 64, 64, 3), 120, np.uint8)
    frames[1, 40:56, 20:40] = [224, 172, 145]  # skin
    np.testing.assert_array_equal(detector.detect(frames), [False, True, False])
    assert isinstance(hand_detector(lambda frames: frames), CalledHands)
