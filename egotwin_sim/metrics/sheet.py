"""Contact sheets: rows of labelled pictures, for looking at what the figures say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN = 4  # pixels between pictures
LABEL = 15  # pixels of a line of text
FONT_SIZE = 11
BACKGROUND = (255, 255, 255)
INK = (20, 20, 20)


def contact_sheet(
    truth: np.ndarray, dream: np.ndarray | None, titles: Sequence[str], times: Sequence[str], columns: int = 2
) -> np.ndarray:
    """Clips in blocks, each with its title and times, the true pictures above the dreamt ones.

    Args:
        truth: uint8 (N, T, H, W, 3), T pictures of each of N clips.
        dream: uint8 of the same shape; None shows the truth alone.
        titles: N lines.
        times: T labels such as "0.5 s".
        columns: blocks side by side.

    Returns:
        uint8 (height, width, 3).
    """
    count, length, height, width = truth.shape[:4]
    side = 5 * FONT_SIZE  # the words "truth" and "dream" at the left
    block_width = side + length * (width + MARGIN) + 2 * MARGIN
    shown = [("truth", truth)] if dream is None else [("truth", truth), ("dream", dream)]
    block_height = 2 * LABEL + len(shown) * (height + MARGIN) + 2 * MARGIN
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * block_width, rows * block_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for n in range(count):
        x0, y0 = (n % columns) * block_width + MARGIN, (n // columns) * block_height + MARGIN
        draw.text((x0, y0), _fit(titles[n], block_width - 2 * MARGIN, font), INK, font)
        for row, (name, frames) in enumerate(shown):
            y = y0 + 2 * LABEL + row * (height + MARGIN)
            draw.text((x0, y + height // 2 - FONT_SIZE // 2), name, INK, font)
            for t in range(length):
                x = x0 + side + t * (width + MARGIN)
                if row == 0:
                    draw.text((x, y0 + LABEL), times[t], INK, font)
                sheet.paste(Image.fromarray(np.ascontiguousarray(frames[n, t])), (x, y))
    return np.asarray(sheet)


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, shortened with an ellipsis to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def save_sheet(path: str | Path, sheet: np.ndarray) -> None:
    """Write a sheet uint8 (H, W, 3) as PNG: beside its place first, then renamed, so no half file is left."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    Image.fromarray(sheet).save(part, format="PNG", optimize=True)
    part.replace(path)
