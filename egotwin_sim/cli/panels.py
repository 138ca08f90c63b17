"""Labelled panels side by side, frame by frame, as a video that every player shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL = 320  # pixels
BAR = 28  # pixels, the strip with the label
INK, PAPER = (235, 235, 235), (24, 24, 28)


def panel_video(panels: Mapping[str, np.ndarray], fps: int, title: str, columns: int = 2) -> tuple[bytes, np.ndarray]:
    """Lay labelled panels out in a grid.

    Args:
        panels: label to uint8 (T, H, W, 3); all of the same length.
        fps: frames per second.
        title: one line over the grid.
        columns: panels in a row.

    Returns:
        An mp4 file (H.264, yuv420p) and its frames, uint8 (T, H', W', 3).
    """
    grid = np.stack(list(panel_frames(panels, title, columns)))
    return mp4(grid, fps), grid


def panel_frames(
    panels: Mapping[str, Sequence[np.ndarray] | np.ndarray], title: str, columns: int = 2
) -> Iterator[np.ndarray]:
    """The frames of `panel_video` one by one; panels may be anything that gives pictures (H, W, 3) by number."""
    lengths = {len(frames) for frames in panels.values()}
    if len(lengths) != 1:
        raise ValueError(f"panels of different lengths {sorted(lengths)}")
    rows = [list(panels.items())[i : i + columns] for i in range(0, len(panels), columns)]
    for t in range(lengths.pop()):
        canvas = Image.new("RGB", (columns * PANEL, BAR + len(rows) * (PANEL + BAR)), PAPER)
        _write(canvas, title, 0, 0)
        for r, row in enumerate(rows):
            for c, (label, video) in enumerate(row):
                x, y = c * PANEL, BAR + r * (PANEL + BAR)
                picture = Image.fromarray(video[t]).resize((PANEL, PANEL), Image.Resampling.BICUBIC)
                _write(canvas, label, x, y)
                canvas.paste(picture, (x, y + BAR))
        yield np.asarray(canvas)


def _write(canvas: Image.Image, text: str, x: int, y: int) -> None:
    font = ImageFont.load_default(size=15)
    width = canvas.width if y == 0 else PANEL
    while text and font.getlength(text) > width - 12:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    ImageDraw.Draw(canvas).text((x + 6, y + 5), text, fill=INK, font=font)


def mp4(frames: Iterable[np.ndarray], fps: int) -> bytes:
    """Frames uint8 (H, W, 3), at least one, as an mp4 file (H.264, yuv420p)."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "veryfast"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, fps)
        for index, pixels in enumerate(frames):
            if index == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
