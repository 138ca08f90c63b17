"""Which hands a video shows: the protocol, the room's paints, and detectors that a user brings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.objects import HAND, NAMES, hand_present, segment

FRAMES_AT_ONCE = 16
PROBABILITY = 0.5  # from which a hand counts as seen


class HandDetector(Protocol):
    """Tells in which frames hands are seen.

    Attributes:
        name: of the detector, with what identifies it; it stands in every report.
    """

    name: str

    def detect(self, frames: np.ndarray) -> np.ndarray:
        """Hands in frames uint8 (T, H, W, 3).

        Returns:
            bool (T, 2), left and right hand of the one who wears the camera; or (T,) where the detector does not tell
            them apart.
        """
        ...


class PaintedHands:
    """Hands in the room's pictures, by the hue of their paint (`objects.segment`); it does not tell left from right."""

    name = f"pixels of the room's {NAMES[NAMES.index(HAND)]} paint"

    def detect(self, frames: np.ndarray) -> np.ndarray:
        """As `HandDetector.detect`: bool (T,)."""
        return np.concatenate(
            [hand_present(segment(frames[i : i + FRAMES_AT_ONCE])) for i in range(0, len(frames), FRAMES_AT_ONCE)]
        )


class CalledHands:
    """A detector from a function on frames uint8 (T, H, W, 3) that returns what `HandDetector.detect` does.

    Args:
        function: the detector.
        name: for reports.
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], name: str) -> None:
        self.function, self.name = function, name

    def detect(self, frames: np.ndarray) -> np.ndarray:
        """As `HandDetector.detect`.

        Raises:
            UserError: the function returned something else.
        """
        return _checked(np.asarray(self.function(frames)), len(frames), self.name)


class ScriptedHands:
    """A detector from a TorchScript file.

    The module takes float32 (T, 3, H, W) in [0, 1] and returns probabilities (T, 2) of the left and the right hand, or
    (T,) of any hand. The file's SHA-256 is part of the name: figures of two files cannot be mistaken for one another.

    Args:
        path: the file. A TorchScript file is a program: use one that you trust.
        device: where it runs.

    Raises:
        UserError: no such file, or no TorchScript in it.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu") -> None:
        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no hand detector at {path}; give a TorchScript file")
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.name = f"{path.name} sha256 {self.sha256}"
        self.device = torch.device(device)
        try:
            self.module = torch.jit.load(str(path), map_location=self.device).eval()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{path} is no TorchScript file ({reason}); save one with torch.jit.save") from error

    @torch.inference_mode()
    def detect(self, frames: np.ndarray) -> np.ndarray:
        """As `HandDetector.detect`.

        Raises:
            UserError: the module failed on the frames, or returned no probabilities.
        """
        seen = []
        for i in range(0, len(frames), FRAMES_AT_ONCE):
            pictures = torch.from_numpy(np.ascontiguousarray(frames[i : i + FRAMES_AT_ONCE])).permute(0, 3, 1, 2)
            try:
                told = self.module(pictures.to(self.device).float() / 255)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                raise UserError(f"{self.name} fails on frames {frames.shape[1:]} ({reason})") from error
            if not isinstance(told, torch.Tensor):
                raise UserError(f"{self.name} returned {type(told).__name__}; expected a tensor of probabilities")
            seen.append(_checked(told.float().cpu().numpy(), len(pictures), self.name))
        return np.concatenate(seen)


def _checked(told: np.ndarray, frames: int, name: str) -> np.ndarray:
    if told.shape not in ((frames,), (frames, 2)):
        raise UserError(f"{name} returned {told.shape} for {frames} frames; expected ({frames}, 2) or ({frames},)")
    if told.dtype == bool:
        return told
    if not (np.isfinite(told).all() and told.min() >= 0 and told.max() <= 1):
        raise UserError(f"{name} returned numbers outside 0 to 1; expected probabilities (add a sigmoid) or bool")
    return told >= PROBABILITY


def hand_detector(what: str | Path | Callable[[np.ndarray], np.ndarray]) -> HandDetector:
    """A detector by what it is: "paint" (the room's pictures), the path of a TorchScript file, or a function."""
    if callable(what):
        return CalledHands(what, getattr(what, "__qualname__", type(what).__qualname__))
    return PaintedHands() if str(what) == "paint" else ScriptedHands(what)
