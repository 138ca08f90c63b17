"""Recordings as a user would have them: video files whose pictures are numbered, a moving body, texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from egotwin_sim.data import Clip
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import axis_angle_to_quat

TICKS = 90_000  # per second, as cameras count


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Writes a video file: pictures, and a rate or the time of each picture."""

    def write(
        path: Path,
        pictures: np.ndarray,
        fps: float | None = None,
        times: Sequence[float] | None = None,
        b_frames: int = 2,
        rotation: int = 0,
    ) -> Path:
        times = np.arange(len(pictures)) / fps if times is None else times
        options = {"crf": "4", "preset": "veryfast", "bf": str(b_frames), "g": "12"}
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps or 30).limit_denominator(1001), options=options)
            stream.height, stream.width = pictures.shape[1:3]
            stream.pix_fmt, stream.codec_context.time_base = "yuv444p", Fraction(1, TICKS)
            if rotation:
                stream.set_display_rotation(rotation)
            for picture, time in zip(pictures, times, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def numbered(make_clip: Callable[..., Clip]) -> Callable[..., np.ndarray]:
    """Pictures of 64x64 pixels that show the numbers from `first` on (`number_of` reads them at 32x32)."""

    def make(frames: int, first: int = 0) -> np.ndarray:
        return np.repeat(np.repeat(make_clip(first, frames, depth=False).video, 2, axis=1), 2, axis=2)

    return make


@pytest.fixture(scope="session")
def turning() -> Callable[..., Motion]:
    """A body that turns evenly and walks evenly: 0.5 rad/s about the vertical, 0.4 m/s along x."""

    def make(seconds: float, fps: float, **options: object) -> Motion:
        time = np.arange(round(seconds * fps) + 1) / fps
        quat = np.tile((1.0, 0.0, 0.0, 0.0), (len(time), 22, 1))
        quat[:, 0] = axis_angle_to_quat(np.stack((0 * time, 0 * time, 0.5 * time), axis=-1))
        root = np.stack((0.4 * time, 0 * time, np.full_like(time, 0.95)), axis=-1)
        return Motion(root, quat, fps=fps, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def record(
    write_video: Callable[..., Path], numbered: Callable[..., np.ndarray], turning: Callable[..., Motion]
) -> Callable[..., Path]:
    """Writes one recording of a folder: NAME.mp4, NAME.npz, NAME.txt; pictures count on from `first`."""

    def write(
        folder: Path,
        name: str,
        seconds: float = 2.0,
        fps: float = 16.0,
        motion_fps: float = 16.0,
        text: str = "walks on",
        first: int = 0,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{name}.mp4", numbered(round(seconds * fps) + 1, first), fps)
        turning(seconds, motion_fps).save(folder / f"{name}.npz")
        (folder / f"{name}.txt").write_text(text)
        return folder / name

    return write
