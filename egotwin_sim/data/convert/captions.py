"""Texts beside a recording: one for all of it, or with times."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotwin_sim.errors import UserError

_FORM = 'expected {"start": seconds, "end": seconds, "text": words}'


@dataclass(frozen=True)
class Caption:
    """What the body does from `start_s` to `end_s`, seconds since the recording's beginning; None: all of it."""

    text: str
    start_s: float | None = None
    end_s: float | None = None


def read_captions(path: Path) -> list[Caption]:
    """Read a `.txt` or `.json` file.

    Text: one line for the whole recording, or lines `start end words` with times in seconds. JSON: an object with
    `text`, or with `captions`, a list of objects with `start`, `end` and `text`; or that list alone.

    Raises:
        UserError: the file is not of that form (it names the line or the entry), or holds no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}): expected UTF-8") from error
    captions = _from_json(path, text) if path.suffix == ".json" else _from_lines(path, text)
    if not captions:
        raise UserError(f"{path} holds no text: say what the body does")
    return captions


def read_object(path: Path) -> dict[str, Any]:
    """The object in a `.json` file; a list of captions becomes an object with `captions`.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if isinstance(value, list):
        return {"captions": value}
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}; expected an object")
    return value


def _from_json(path: Path, text: str) -> list[Caption]:
    value = read_object(path)
    if "captions" not in value:
        if not isinstance(value.get("text"), str) or not value["text"].strip():
            raise UserError(f"{path} has neither captions nor a text")
        return [Caption(value["text"])]
    if not isinstance(value["captions"], list):
        raise UserError(f"{path}: captions must be a list")
    captions = []
    for number, each in enumerate(value["captions"], 1):
        where = f"{path}, caption {number}"
        if not isinstance(each, dict) or not {"start", "end", "text"} <= each.keys():
            raise UserError(f"{where} is {json.dumps(each)[:60]}; {_FORM}")
        captions.append(_timed(where, each["start"], each["end"], str(each["text"])))
    return captions


def _from_lines(path: Path, text: str) -> list[Caption]:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) == 1 and not all(_is_number(word) for word in lines[0][1].split()[:2]):
        return [Caption(lines[0][1])]
    captions = []
    for number, line in lines:
        words = line.split(maxsplit=2)
        if len(words) < 3 or not _is_number(words[0]) or not _is_number(words[1]):
            raise UserError(
                f"{path}:{number}: '{line[:60]}'; expected `start end words` with times in seconds, or one line for "
                "the whole recording"
            )
        captions.append(_timed(f"{path}:{number}", words[0], words[1], words[2]))
    return captions


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _timed(where: str, start: Any, end: Any, text: str) -> Caption:
    try:
        begin, stop = float(start), float(end)
    except (TypeError, ValueError):
        raise UserError(f"{where}: the times are {start!r} and {end!r}; {_FORM}") from None
    if not (math.isfinite(begin) and math.isfinite(stop) and 0 <= begin < stop):
        raise UserError(
            f"{where} stands from {begin:g} s to {stop:g} s; expected an end behind a start that is not negative"
        )
    if not text.strip():
        raise UserError(f"{where} has no text")
    return Caption(text, begin, stop)
