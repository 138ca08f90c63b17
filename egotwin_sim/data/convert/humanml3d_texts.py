"""Text files in the manner of HumanML3D."""

from __future__ import annotations

import math
from pathlib import Path

from egotwin_sim.data.convert.captions import Caption
from egotwin_sim.errors import UserError

_FORM = "caption#token/POS token/POS ...#start#end"


def read_texts(path: Path) -> tuple[list[Caption], list[str]]:
    """Read lines `caption#token/POS ...#start#end`, with times in seconds; 0.0 and 0.0 (or nan) is the whole clip.

    Returns:
        The captions, and notes of lines that cannot be used.

    Raises:
        UserError: the file is missing or no text, or no line can be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"there is no text {path.name} ({error.strerror}): expected lines {_FORM}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is no text in UTF-8 ({error}): expected lines {_FORM}") from error
    captions, notes = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        caption = _caption(line)
        if caption is None:
            notes.append(f"{path.name}:{number} is left out: '{line.strip()[:60]}' is not {_FORM}")
        else:
            captions.append(caption)
    if not captions:
        raise UserError(f"{path.name} holds no text that can be used: {notes[0] if notes else 'it is empty'}")
    return captions, notes


def _caption(line: str) -> Caption | None:
    """The caption of a line; None if it is of another form."""
    words = line.strip().split("#")
    if len(words) != 4 or not words[0].strip():
        return None
    try:
        start, end = (0.0 if math.isnan(float(word)) else float(word) for word in words[2:])
    except ValueError:
        return None
    if start == end == 0.0:
        return Caption(words[0].strip())
    return Caption(words[0].strip(), start, end) if 0.0 <= start < end < math.inf else None
