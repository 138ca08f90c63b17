"""Frames of any video file by number, and when each was seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from egotwin_sim.errors import UserError

_QUARTER_TURN = 90


class Recording:
    """A video file as it was recorded: any codec, any rate, any container that FFmpeg reads.

    Attributes:
        path: the file.
        times_s: float64 (T,), rising, when each frame is shown by the file's own timestamps; the first is 0.
    """

    def __init__(self, path: Path | str) -> None:
        """Read all timestamps, without decoding.

        Raises:
            UserError: the file is missing, damaged or holds no video, or its timestamps do not rise.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path} is no file: expected a video")
        with self._opened() as (container, stream):
            stamps = [packet.pts for packet in container.demux(stream) if packet.size]
            self._time_base = stream.time_base
        if not stamps:
            raise UserError(f"{path} holds no video frames")
        if any(stamp is None for stamp in stamps):
            raise UserError(f"{path} has frames without a timestamp: write the video again, with timestamps")
        self._stamps = sorted(stamps)
        self.times_s = np.array([float((stamp - self._stamps[0]) * self._time_base) for stamp in self._stamps])
        if (np.diff(self.times_s) <= 0).any():
            first = self.times_s[int(np.argmax(np.diff(self.times_s) <= 0))]
            raise UserError(f"{path}: two frames bear the timestamp {first:.3f} s: write the video again")

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.times_s)

    @property
    def duration(self) -> float:
        """Seconds between the first and the last frame."""
        return float(self.times_s[-1])

    @property
    def fps(self) -> float:
        """Frames per second: the reciprocal of the median interval; infinite for a single frame."""
        return 1.0 / float(np.median(np.diff(self.times_s))) if len(self) > 1 else float("inf")

    def frames(self, numbers: np.ndarray, reduction: int = 1) -> np.ndarray:
        """Decode frames, after one seek, turned upright if the file says how it was held.

        Args:
            numbers: (N,), rising.
            reduction: pixels that are averaged to one, along each side.

        Returns:
            uint8 (N, H / reduction, W / reduction, 3) RGB.

        Raises:
            UserError: a frame is missing or damaged.
        """
        wanted = {self._stamps[number]: i for i, number in enumerate(numbers)}
        found: dict[int, np.ndarray] = {}
        with self._opened() as (container, stream):
            container.seek(self._stamps[numbers[0]], stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    if frame.is_corrupt:
                        break
                    if reduction > 1:
                        small = frame.width // reduction, frame.height // reduction
                        frame = frame.reformat(*small, format="rgb24", interpolation=Interpolation.AREA)
                    picture = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / _QUARTER_TURN))
                    found[wanted[frame.pts]] = picture
                if len(found) == len(wanted):
                    break
        if len(found) != len(wanted):
            missing = next(number for i, number in enumerate(numbers) if i not in found)
            raise UserError(f"{self.path}: frame {missing} at {self.times_s[missing]:.3f} s cannot be decoded")
        return np.stack([found[i] for i in range(len(numbers))])

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        try:
            with av.open(str(self.path), "r") as container:
                if not container.streams.video:
                    raise UserError(f"{self.path} holds no video")
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.path} cannot be read as a video ({error}): it is damaged or cut short") from error


def recording(path: Path) -> Recording:
    """The recording in a file, its timestamps read once a process as long as the file does not change."""
    try:
        status = os.stat(path)
    except OSError:
        return Recording(path)  # which says what is wrong
    return _remembered(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _remembered(path: Path, changed_ns: int, size: int) -> Recording:
    return Recording(path)
