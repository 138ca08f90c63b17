"""What a conversion made of a data set: clips, what was skipped and why, what was found on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class SequenceReport:
    """One recording.

    Attributes:
        split: the part of the data that its clips are in; empty without clips.
        clips: clips written.
        notes: what was found, with the number of clips that it was said of; 0 for what was said of the recording.
        skipped: clips that were not written: when they begin, seconds, and why.
        reason: why nothing of the recording is used; empty otherwise.
    """

    split: str = ""
    clips: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""

    def note(self, text: str, clips: int) -> None:
        """Add a note, said of the recording (0 clips) or of one clip more."""
        self.notes[text] = self.notes.get(text, 0) + clips


@dataclass
class Report:
    """A whole conversion.

    Attributes:
        source: kind, path and options.
        seconds: length of a clip.
        licence: what the user is reminded of; empty where there is nothing to say.
        sequences: by name.
    """

    source: dict[str, Any]
    seconds: float
    licence: str = ""
    sequences: dict[str, SequenceReport] = field(default_factory=dict)

    def of(self, sequence: str) -> SequenceReport:
        """The report of a recording, begun where there is none."""
        return self.sequences.setdefault(sequence, SequenceReport())

    @property
    def clips(self) -> int:
        """Clips written."""
        return sum(each.clips for each in self.sequences.values())

    @property
    def skipped(self) -> int:
        """Clips not written."""
        return sum(len(each.skipped) for each in self.sequences.values())

    @property
    def hours(self) -> float:
        """Length of all clips."""
        return self.clips * self.seconds / 3600.0

    def unused(self) -> list[str]:
        """Names of the sequences that cannot be used, with the reasons."""
        return [f"{name}: {each.reason}" for name, each in self.sequences.items() if each.reason]

    def reasons(self) -> list[str]:
        """Why clips were skipped: how many for each reason, the commonest first; numbers as n."""
        skipped = [each["reason"] for one in self.sequences.values() for each in one.skipped]
        first: dict[str, str] = {}
        for reason in skipped:
            first.setdefault(_without_numbers(reason), reason)
        counts = Counter(_without_numbers(reason) for reason in skipped).most_common()
        return [f"{count} x {reason if count > 1 else first[reason]}" for reason, count in counts]

    def to_json(self) -> dict[str, Any]:
        """Plain values, totals first."""
        return {
            "source": self.source,
            "licence": self.licence,
            "seconds_per_clip": self.seconds,
            "clips": self.clips,
            "hours": self.hours,
            "clips_skipped": self.skipped,
            "sequences": {name: asdict(each) for name, each in self.sequences.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Report:
        """The inverse of `to_json`."""
        sequences = {name: SequenceReport(**each) for name, each in value["sequences"].items()}
        return cls(value["source"], value["seconds_per_clip"], value["licence"], sequences)

    def lines(self, sequences: int = 20) -> Iterator[str]:
        """A summary to print.

        Args:
            sequences: recordings that are told of one by one; of more, only totals are.
        """
        used = {name: each for name, each in self.sequences.items() if each.clips}
        splits: Counter[str] = Counter()
        for each in used.values():
            splits[each.split] += each.clips
        parts = ", ".join(f"{name} {count}" for name, count in splits.items())
        yield f"{self.clips} clips ({parts}) of {self.seconds:g} s, {self.hours:.2f} hours, from {len(used)} sequences:"
        yield from _few([f"  {name}: {each.clips} ({each.split})" for name, each in used.items()], sequences)
        if unused := self.unused():
            yield f"{len(unused)} sequences skipped:"
            yield from _few([f"  {line}" for line in unused], sequences)
        if self.skipped:
            yield f"{self.skipped} clips skipped:"
            yield from _few([f"  {line}" for line in self.reasons()], sequences)
        notes = [
            f"  {name}: {note}" + (f" ({count} clips)" if count else "")
            for name, each in self.sequences.items()
            for note, count in each.notes.items()
        ]
        if notes:
            yield "notes:"
            yield from _few(notes, sequences)
        if self.licence:
            yield f"terms of the data: {self.licence}"


def _few(lines: list[str], count: int) -> list[str]:
    rest = len(lines) - count
    return lines[:count] + ([f"  ... and {rest} more: see report.json"] if rest > 0 else [])


def _without_numbers(text: str) -> str:
    """The same words for the same kind of reason, whatever the times in it."""
    words = []
    for word in text.split():
        bare = word.strip("(),:;")
        try:
            float(bare)
        except ValueError:
            words.append(word)
        else:
            words.append(word.replace(bare, "n"))
    return " ".join(words)
