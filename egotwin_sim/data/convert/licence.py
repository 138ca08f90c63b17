"""Whether a data set comes with the licence that its terms are known from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def licence_note(path: Path, expected: Sequence[str]) -> str | None:
    """What a user should know of a licence file; None if it is the expected one.

    Args:
        path: the file.
        expected: words that the expected text holds, whatever their case and line breaks.
    """
    title = " ".join(expected)
    if not path.is_file():
        return f"there is no {path.name} file: check that the data may be used (expected: {title})"
    text = " ".join(path.read_text(encoding="utf-8", errors="replace").lower().split())
    if missing := [words for words in expected if words.lower() not in text]:
        return (
            f"wrong licence file: {path.name} does not speak of {', '.join(missing)}; check under which terms it came"
        )
    return None
