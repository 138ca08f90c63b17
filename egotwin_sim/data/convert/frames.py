"""Pictures of Aria's RGB camera with the time at which each was taken, from an mp4 file or from a VRS file.

Three layouts are read, the first that is there:

* `data/rgb.mp4` with `data/rgb_timestamps.csv`: stream 214-1 as it is stored (turned by 90 degrees), one row a frame
  with the columns `device_timestamp_ns` and, if known, `timecode_ns`.
* `data/data.vrs`: the recording itself, through projectaria-tools (`vrs`).
* an mp4 file that Aria's converter made, such as the preview of a data set: upright, with the device timestamps of all
  frames, nanoseconds, as a list in its `description` tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import pandas as pd

from egotwin_sim.data.convert.recording import recording
from egotwin_sim.errors import UserError


class Frames(Protocol):
    """Pictures that have times."""

    @property
    def times_s(self) -> np.ndarray:
        """Device times float64 (T,), rising, seconds."""
        ...

    @property
    def timecode_s(self) -> np.ndarray | None:
        """The same times in time code, float64 (T,); None where it is not known."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of a picture as it is stored, pixels."""
        ...

    @property
    def upright(self) -> bool:
        """Whether the pictures were turned upright."""
        ...

    def read(self, indices: np.ndarray, reduction: int) -> np.ndarray:
        """Some of the pictures.

        Args:
            indices: (N,), rising, into `times_s`.
            reduction: pixels that are averaged to one, along each side.

        Returns:
            uint8 (N, H / reduction, W / reduction, 3) RGB.

        Raises:
            UserError: a picture is missing or damaged.
        """
        ...


@dataclass(frozen=True, eq=False)
class VideoHeader:
    """What a video file says of itself.

    Attributes:
        frames: their number.
        size: (H, W), pixels.
        description: the tag of that name; empty without it.
    """

    frames: int
    size: tuple[int, int]
    description: str

    @classmethod
    def read(cls, path: Path) -> VideoHeader:
        """Read the head of a file alone.

        Raises:
            UserError: it is damaged or holds no video.
        """
        try:
            with av.open(str(path), "r") as container:
                if not container.streams.video:
                    raise UserError(f"{path} holds no video; download it again")
                stream = container.streams.video[0]
                size = stream.codec_context.height, stream.codec_context.width
                return cls(stream.frames, size, container.metadata.get("description", ""))
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{path} cannot be read as a video ({error}); download it again") from error


@dataclass(frozen=True, eq=False)
class Mp4Frames:
    """Frames of an mp4 file (`Frames`).

    Attributes:
        path: the file.
        times_s: as in `Frames`.
        timecode_s: as in `Frames`.
        upright: as in `Frames`.
        size: as in `Frames`.
        numbers: int64 (T,), which frame of the file has each time.
    """

    path: Path
    times_s: np.ndarray
    timecode_s: np.ndarray | None
    upright: bool
    size: tuple[int, int]
    numbers: np.ndarray

    @classmethod
    def timed(cls, path: Path, times_s: np.ndarray, timecode_s: np.ndarray | None, upright: bool) -> Mp4Frames:
        """The frames of a file and their times, one time a frame.

        Frames that repeat the time of the one before (Aria's converter copies a frame where one was dropped) are left
        out.

        Args:
            path: the file.
            times_s: (N,), device clock, seconds.
            timecode_s: (N,), or None.
            upright: whether the pictures were turned upright.

        Raises:
            UserError: the file cannot be read, the numbers differ, or the times run back.
        """
        header = VideoHeader.read(path)
        if header.frames != len(times_s):
            raise UserError(f"{path} has {header.frames} frames and {len(times_s)} timestamps; expected one a frame")
        if not len(times_s) or not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any():
            raise UserError(f"{path}: the timestamps of its frames are missing or run back; extract the video again")
        new = np.concatenate(([True], np.diff(times_s) > 0))
        timecode_s = None if timecode_s is None else timecode_s[new]
        return cls(path, times_s[new], timecode_s, upright, header.size, np.flatnonzero(new))

    def read(self, indices: np.ndarray, reduction: int) -> np.ndarray:
        """As in `Frames`."""
        return recording(self.path).frames(self.numbers[indices], reduction)


def extracted_frames(video: Path, table: Path) -> Mp4Frames:
    """The layout `rgb.mp4` with `rgb_timestamps.csv`.

    Raises:
        UserError: a file is missing or damaged, or they do not fit to each other.
    """
    if not table.is_file():
        raise UserError(f"{table} is missing; expected the device_timestamp_ns of every frame of {video.name}")
    try:
        rows = pd.read_csv(table)
        device = rows["device_timestamp_ns"].to_numpy(dtype=np.float64) * 1e-9
        timecode = rows["timecode_ns"].to_numpy(dtype=np.float64) * 1e-9 if "timecode_ns" in rows else None
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{table} has no numbers in device_timestamp_ns ({error}); write it again") from error
    if timecode is not None and not np.isfinite(timecode).all():
        raise UserError(f"{table}: timecode_ns is not a number everywhere; leave the column out if it is not known")
    return Mp4Frames.timed(video, device, timecode, upright=False)


def converted_frames(video: Path) -> Mp4Frames:
    """An mp4 file of Aria's converter.

    Raises:
        UserError: the file is damaged, or has no timestamps in its `description` tag.
    """
    tag = VideoHeader.read(video).description
    try:
        stamps = np.array([int(word) for word in tag.strip().strip("[]").split(",")], dtype=np.float64)
    except ValueError as error:
        raise UserError(
            f"{video} has no timestamps in its description tag; expected a file that Aria's vrs_to_mp4 wrote"
        ) from error
    return Mp4Frames.timed(video, stamps * 1e-9, None, upright=True)
