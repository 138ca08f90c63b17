"""The same clips with smaller pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.columns import INDEX_COLUMNS, VIDEO, Column, motion_columns
from egotwin_sim.data.episode import ENCODINGS, Episode
from egotwin_sim.data.lerobot_reader import LeRobotReader
from egotwin_sim.data.lerobot_writer import LeRobotWriter
from egotwin_sim.data.statistics import histogram
from egotwin_sim.data.video_file import encode_video
from egotwin_sim.errors import UserError


def smaller_dataset(
    reader: LeRobotReader,
    out: Path,
    size: tuple[int, int],
    clips: Mapping[str, int],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a data set of the first clips of each split, with pictures averaged over blocks of pixels; without depth.

    Args:
        reader: the data set.
        out: a new or empty folder.
        size: (H, W) of the pictures; the data set's are a whole multiple.
        clips: how many of each split, at most.
        progress: called with the number of clips done and that of all.

    Raises:
        UserError: a size that does not divide the pictures', or `out` is not empty.
    """
    height, width = reader.features[VIDEO]["shape"][:2]
    if height % size[0] or width % size[1] or height // size[0] != width // size[1]:
        raise UserError(
            f"pictures of {width}x{height} cannot be brought to {size[1]}x{size[0]}: expected a whole multiple of it"
        )
    block = height // size[0]
    chosen = {name: reader.split(name)[:count] for name, count in clips.items()}
    of_motion = motion_columns(reader.skeleton, reader.motion_per_frame)
    extra = {
        name: Column(feature["dtype"], int(feature["shape"][0]))
        for name, feature in reader.features.items()
        if feature["dtype"] != "video" and name not in of_motion and name not in INDEX_COLUMNS
    }
    about = {name: reader.info["egotwin"][name] for name in ("generator", "codes") if name in reader.info["egotwin"]}
    writer = LeRobotWriter(
        out, size=size, camera=_scaled(reader.camera, block), skeleton=reader.skeleton, fps=reader.fps,
        motion_fps=reader.motion_fps, extra=extra, about=about,
    )  # fmt: skip
    total, done, splits = sum(len(episodes) for episodes in chosen.values()), 0, {}
    try:
        for name, episodes in chosen.items():
            splits[name] = range(done, done + len(episodes))
            for episode in episodes:
                rows = reader.columns(episode, [*of_motion, *extra])
                frames = _averaged(reader.frames(episode), block)
                video = encode_video(frames, reader.fps, ENCODINGS[VIDEO])
                writer.add(Episode(reader.text(episode), rows, {VIDEO: video}, histogram(frames)))
                done += 1
                if progress is not None:
                    progress(done, total)
    except BaseException:
        writer.abort()
        raise
    writer.close(splits)


def _averaged(frames: np.ndarray, block: int) -> np.ndarray:
    """Means over blocks of pixels, uint8 (T, H, W, 3)."""
    count, height, width, channels = frames.shape
    blocks = frames.reshape(count, height // block, block, width // block, block, channels)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def _scaled(camera: Camera, block: int) -> Camera:
    """Intrinsics in pixels that are `block` times as large; pixel centres lie at half-integers."""
    return Camera(camera.K / np.array([[block], [block], [1.0]]), camera.T_head_camera)
