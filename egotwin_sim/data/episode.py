"""One encoded episode: rows, compressed video (or none) and text, ready to be appended to a dataset."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from egotwin_sim.data.clip import Clip, motion_frames_per_video_frame
from egotwin_sim.data.columns import DEPTH, VIDEO, motion_to_rows
from egotwin_sim.data.depth import depth_to_grey
from egotwin_sim.data.statistics import histogram
from egotwin_sim.data.video_file import Encoding, encode_video
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion

ENCODINGS = {VIDEO: Encoding("rgb"), DEPTH: Encoding("grey")}


@dataclass(frozen=True)
class Episode:
    """One encoded episode.

    Attributes:
        text: the task.
        rows: (T, W) arrays by column name, without the index columns.
        videos: mp4 bytes of T frames by video key; empty for motion alone.
        histogram: int64 (3, 256), how often each level is in the colour video; zeros for motion alone.
        notes: values for the episode's own row in the dataset's table of episodes.
    """

    text: str
    rows: dict[str, np.ndarray]
    videos: dict[str, bytes]
    histogram: np.ndarray
    notes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """T."""
        return len(next(iter(self.rows.values())))

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz file beside `path`, then rename it: `path` is whole or absent."""
        header = {"text": self.text, "notes": self.notes}
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), "histogram": self.histogram}
        arrays |= {f"rows/{name}": rows for name, rows in self.rows.items()}
        arrays |= {f"video/{name}": np.frombuffer(video, np.uint8) for name, video in self.videos.items()}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> Episode:
        """Read what `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header, counts = json.loads(arrays.pop("header").tobytes()), arrays.pop("histogram")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}): remove it and run the same command again") from error

        def group(name: str) -> dict[str, np.ndarray]:
            return {key.split("/", 1)[1]: value for key, value in arrays.items() if key.startswith(name + "/")}

        videos = {key: value.tobytes() for key, value in group("video").items()}
        return cls(header["text"], group("rows"), videos, counts, header["notes"])


def encode_episode(
    clip: Clip, extra: Mapping[str, np.ndarray] | None = None, notes: Mapping[str, str] | None = None
) -> Episode:
    """Encode a clip.

    Args:
        clip: with depth, or without: all clips of a dataset alike.
        extra: further columns by name, (T,) or (T, W) float32 or int64.
        notes: text for the episode's own row.

    Raises:
        UserError: an odd frame size, a frame rate that is no whole number, or an extra column of another length.
    """
    height, width = clip.video.shape[1:3]
    if height % 2 or width % 2:
        raise UserError(f"frames of {width}x{height} cannot be encoded: width and height must be even")
    if clip.fps != int(clip.fps):
        raise UserError(f"video at {clip.fps:g} frames/s cannot be written: the rate must be a whole number")
    rows = motion_to_rows(clip.motion, clip.motion_per_frame)
    for name, values in (extra or {}).items():
        if len(values) != len(clip):
            raise UserError(f"column {name} has {len(values)} rows, the clip {len(clip)} frames: give one per frame")
        rows[name] = np.asarray(values).reshape(len(clip), -1)
    pictures = {VIDEO: clip.video}
    if clip.depth is not None:
        pictures[DEPTH] = depth_to_grey(clip.depth)
    return Episode(
        text=clip.text,
        rows=rows,
        videos={key: encode_video(frames, int(clip.fps), ENCODINGS[key]) for key, frames in pictures.items()},
        histogram=histogram(clip.video),
        notes=dict(notes or {}),
    )


def encode_motion(motion: Motion, text: str, fps: int = 8, notes: Mapping[str, str] | None = None) -> Episode:
    """Encode a clip that has no video, as rows at the rate that its video would have.

    Args:
        motion: 1 + n (T - 1) frames, n motion frames a row.
        text: what the body does.
        fps: rows per second.
        notes: text for the episode's own row.

    Raises:
        UserError: empty text, or a motion that does not end with a row.
    """
    per_row = motion_frames_per_video_frame(motion.fps, fps)
    if (len(motion) - 1) % per_row:
        raise UserError(f"{len(motion)} motion frames do not end with a row: expected 1 + {per_row} n; cut the motion")
    if not text.strip():
        raise UserError("the clip's text is empty: say what the body does")
    return Episode(text, motion_to_rows(motion, per_row), {}, np.zeros((3, 256), dtype=np.int64), dict(notes or {}))
