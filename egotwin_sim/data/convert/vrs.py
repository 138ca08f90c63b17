"""Aria's own recordings (VRS), through Meta's reader; docs/data.md says how to install it.

VRS files with pictures can only be recorded by the glasses, so no test of this project reads one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from egotwin_sim.errors import UserError

_RGB_STREAM = "214-1"
# Readings of both clocks, spread over the recording.
_CLOCK_READINGS = 20


def has_reader() -> bool:
    """Whether Meta's reader is installed."""
    from importlib.util import find_spec

    return find_spec("projectaria_tools") is not None


def _open(path: Path) -> Any:
    try:
        from projectaria_tools.core import data_provider
    except ImportError as error:
        raise UserError(
            f"reading {path.name} needs projectaria-tools: pip install --no-deps projectaria-tools==2.3.0, or extract "
            "the video to rgb.mp4 first"
        ) from error
    provider = data_provider.create_vrs_data_provider(str(path))
    if provider is None:
        raise UserError(f"{path} cannot be read as VRS; download it again")
    return provider


def clock_readings(path: Path, device_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Device times and the time code (N,) of each, as the file says, seconds.

    Args:
        path: `data.vrs` or the smaller `motion.vrs`: both hold the readings of the clocks.
        device_s: the first and last device time (2,) of interest.

    Raises:
        UserError: the file cannot be read, or holds no time code.
    """
    provider = _open(path)
    device_ns = np.linspace(device_s[0] * 1e9, device_s[1] * 1e9, _CLOCK_READINGS).astype(np.int64)
    timecode_ns = np.array([provider.convert_from_device_time_to_timecode_ns(int(time)) for time in device_ns])
    if (timecode_ns <= 0).any():
        raise UserError(f"{path} holds no time code: the recording was not synchronised with others")
    return device_ns * 1e-9, timecode_ns * 1e-9


class VrsFrames:
    """Pictures of the RGB stream (`frames.Frames`), as stored: turned by 90 degrees."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            UserError: it cannot be read, or has no RGB stream.
        """
        from projectaria_tools.core.sensor_data import TimeDomain
        from projectaria_tools.core.stream_id import StreamId

        self.path, self.upright, self.timecode_s = path, False, None  # `clock_readings` tells the time code
        self._provider, self._stream = _open(path), StreamId(_RGB_STREAM)
        if not self._provider.check_stream_is_active(self._stream):
            raise UserError(f"{path} has no RGB stream {_RGB_STREAM}; expected the recording with pictures")
        stamps = self._provider.get_timestamps_ns(self._stream, TimeDomain.DEVICE_TIME)
        self.times_s = np.array(stamps, dtype=np.float64) * 1e-9
        height, width = self._picture(0).shape[:2]
        self.size = height, width

    def _picture(self, index: int) -> np.ndarray:
        return self._provider.get_image_data_by_index(self._stream, index)[0].to_numpy_array()

    def read(self, indices: np.ndarray, reduction: int) -> np.ndarray:
        """As in `frames.Frames`."""
        height, width = self.size[0] // reduction, self.size[1] // reduction
        pictures = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        for i, index in enumerate(indices):
            picture = self._picture(int(index))[: height * reduction, : width * reduction]
            blocks = picture.reshape(height, reduction, width, reduction, 3)
            pictures[i] = np.rint(blocks.mean(axis=(1, 3)))
        return pictures
