"""What annotators wrote about a Nymeria recording, and which stretch of it each text describes.

Columns and levels: the Nymeria data set's `narration/*.csv`. Start and end of a text are seconds of the device clock
of the head recording, the same as `tracking_timestamp_us` of its trajectory.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from egotwin_sim.errors import UserError


@dataclass(frozen=True)
class Level:
    """One of the three kinds of narration.

    Attributes:
        file: its name in the folder `narration`.
        columns: that hold text, in the order in which they are joined.
    """

    file: str
    columns: tuple[str, ...]


LEVELS = {
    "atomic": Level("atomic_action.csv", ("Describe my atomic actions",)),
    "motion": Level(
        "motion_narration.csv",
        (
            "Describe my body posture",
            "Describe my hands/arms motion",
            "Describe my legs/feet motion",
            "Describe my focus attention",
        ),
    ),
    "activity": Level("activity_summarization.csv", ("Describe my activity",)),
}
# Texts that begin at most this long after the end of the one before are read as one stretch, seconds.
_PAUSE = 0.5
# Of the shorter of two texts, how much the other must cover for both to describe one stretch.
_OVERLAP = 0.5
# Texts may begin before, and end after, the body was recorded by this much, seconds.
_EDGE = 2.0


@dataclass(frozen=True)
class Narration:
    """A text and the time that it describes.

    Attributes:
        start_s: seconds, device clock.
        end_s: seconds, device clock.
        text: one line.
    """

    start_s: float
    end_s: float
    text: str


def read_narrations(path: Path, level: Level) -> tuple[list[Narration], list[str]]:
    """Read one file of narrations.

    Returns:
        The narrations in order of time, and notes of rows that were left out.

    Raises:
        UserError: the file cannot be read, or lacks the times or every text column of its level.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); download it again") from error
    columns = [name for name in level.columns if name in header]
    if "start_time" not in header or "end_time" not in header or not columns:
        raise UserError(
            f"{path} has the columns {', '.join(header) or 'none'}; expected start_time, end_time and "
            f"{' or '.join(repr(name) for name in level.columns)}"
        )
    found, empty, timeless = [], 0, 0
    for row in rows:
        text = " ".join(_sentence(row[name]) for name in columns if (row[name] or "").strip())
        try:
            start, end = float(row["start_time"]), float(row["end_time"])
        except (TypeError, ValueError):
            timeless += 1
            continue
        if not text:
            empty += 1
        elif not 0.0 <= start < end < float("inf"):
            timeless += 1
        else:
            found.append(Narration(start, end, text))
    notes = []
    if empty:
        notes.append(f"{empty} rows of {path.name} have no text")
    if timeless:
        notes.append(f"{timeless} rows of {path.name} have no start before an end")
    return sorted(found, key=lambda each: (each.start_s, each.end_s)), notes


def _sentence(text: str) -> str:
    """One line that ends as a sentence."""
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else text + "."


def aligned(narrations: Sequence[Narration], recorded: tuple[float, float]) -> tuple[list[Narration], list[str]]:
    """The narrations that lie within the time in which the body was recorded.

    Annotators saw the whole recording and no more. So texts outside it, with about as long a silence at its other
    end, were written on another clock (known of a few recordings), and none of them can be trusted. Texts outside
    without such a silence say that the body's recording is shorter than the video: those are left out one by one.

    Args:
        narrations: in order of time.
        recorded: first and last time of the body, seconds, device clock.

    Returns:
        Those that can be used, and notes.

    Raises:
        UserError: the clock of the narrations is another one.
    """
    if not narrations:
        return [], []
    start, end = recorded
    first, last = narrations[0].start_s, max(each.end_s for each in narrations)
    early, late = max(start - first, 0.0), max(last - end, 0.0)
    shift = None
    if first > end or last < start:
        shift = first - start
    elif late > _EDGE and 0.5 < (first - start) / late < 2.0:
        shift = late
    elif early > _EDGE and 0.5 < (end - last) / early < 2.0:
        shift = -early
    if shift is not None:
        raise UserError(
            f"unaligned narrations: they lie from {first:.1f} s to {last:.1f} s, the body from {start:.1f} s to "
            f"{end:.1f} s of the device clock; their clock seems to be off by about {shift:+.0f} s or more, so no text "
            "can be trusted"
        )
    inside = [each for each in narrations if each.start_s >= start - _EDGE and each.end_s <= end + _EDGE]
    notes = []
    if len(inside) < len(narrations):
        notes.append(
            f"{len(narrations) - len(inside)} of {len(narrations)} narrations lie outside the body's recording and are "
            "left out"
        )
    clipped = [Narration(max(each.start_s, start), min(each.end_s, end), each.text) for each in inside]
    return [each for each in clipped if each.end_s > each.start_s], notes


def stretches(narrations: Sequence[Narration], window: float) -> tuple[list[Narration], list[str]]:
    """Join narrations into stretches that each fill a window, if they can.

    * Texts of the same time (each covers at least half of the shorter one) belong to one stretch, in order of their
      starts, each text once.
    * A stretch that is shorter than the window takes in the texts that follow without a pause, until it fills it.
    * A text that is longer than the window stays whole; whoever cuts it gives each part all of it.

    Args:
        narrations: in order of time.
        window: seconds.

    Returns:
        Stretches that do not begin before the one before ends, and a note of the time between them that nothing
        describes.
    """
    joined: list[Narration] = []
    texts: list[list[str]] = []
    for each in narrations:
        if joined:
            last = joined[-1]
            shared = min(last.end_s, each.end_s) - max(last.start_s, each.start_s)
            together = shared > _OVERLAP * min(last.end_s - last.start_s, each.end_s - each.start_s)
            follows = each.start_s - last.end_s <= _PAUSE and last.end_s - last.start_s < (1 - _OVERLAP) * window
            if together or follows:
                joined[-1] = Narration(last.start_s, max(last.end_s, each.end_s), "")
                if each.text not in texts[-1]:
                    texts[-1].append(each.text)
                continue
            each = Narration(max(each.start_s, last.end_s), each.end_s, each.text)
        joined.append(each)
        texts.append([each.text])
    result = [Narration(each.start_s, each.end_s, " ".join(lines)) for each, lines in zip(joined, texts, strict=True)]
    silent = sum(max(b.start_s - a.end_s, 0.0) for a, b in zip(result, result[1:], strict=False))
    notes = [f"{silent:.0f} s between the texts are described by none and are not used"] if silent >= window else []
    return result, notes
