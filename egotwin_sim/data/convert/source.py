"""What a data set that is to be converted looks like to the converter: an index of clips, and a way to load one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion


@dataclass(frozen=True)
class ClipRef:
    """A stretch of a sequence that one text describes.

    A stretch that is longer than the clips asked for is cut into several, one behind the other, all with its text; one
    that is a little shorter is lengthened at its end (`cut.pieces`). `load` is asked for the resulting times.

    Attributes:
        sequence: the name of the recording, unique within the source.
        start_s: where it begins, seconds in the sequence's own time.
        end_s: where it ends.
        text: what the body does.
        split: the part of the data that it belongs to ("train", "val", "test"); empty where the source has no say, and
            the runner then divides the sequences. All clips of a sequence share it.
    """

    sequence: str
    start_s: float
    end_s: float
    text: str
    split: str = ""

    def __post_init__(self) -> None:
        """Check the times.

        Raises:
            UserError: a time is not finite, or the end is not behind the start.
        """
        if not (np.isfinite(self.start_s) and np.isfinite(self.end_s) and self.end_s > self.start_s):
            raise UserError(
                f"{self.sequence}: a text stands from {self.start_s:g} s to {self.end_s:g} s; expected an end behind "
                "the start"
            )

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class SkippedSequence:
    """A recording of which nothing is used, and why: what was found, what was expected."""

    sequence: str
    reason: str


@dataclass(frozen=True)
class SequenceNote:
    """What a user should know of a recording that is used: a defect that was mended, an assumption."""

    sequence: str
    note: str


@dataclass(frozen=True)
class SourceIndex:
    """All that a source holds, in an order that does not change from call to call.

    Attributes:
        clips: the described stretches.
        skipped: recordings that cannot be used.
        notes: of recordings that are used.
    """

    clips: list[ClipRef]
    skipped: list[SkippedSequence]
    notes: list[SequenceNote]

    def take(self, sequence: str, read: Callable[[], tuple[Sequence[ClipRef], Sequence[str]]]) -> None:
        """Read one recording's clips and notes; a `UserError` on the way makes it one that is skipped."""
        try:
            refs, notes = read()
        except UserError as error:
            self.skipped.append(SkippedSequence(sequence, str(error)))
            return
        self.clips.extend(refs)
        self.notes.extend(SequenceNote(sequence, note) for note in notes)


@dataclass(frozen=True, eq=False)
class SourceClip:
    """What a source found for a `ClipRef`, at its own rates. A frame may be missing at either end.

    Attributes:
        video: uint8 (T, H, W, 3) RGB, undistorted and upright; None from a source without video.
        video_times_s: float64 (T,), rising, when each frame was seen, seconds in the sequence's own time; empty without
            video. True times, not frame numbers divided by a rate.
        camera: the pinhole camera of `video`; None without video.
        motion: our 22 joints, or another `Skeleton` of ours with a head, in our axes (z up, metres), at any rate.
        text: what the body does.
        notes: what a user should know of this clip.
        motion_start_s: when the first motion frame was, seconds in the sequence's own time; the `start_s` of the
            `ClipRef` when None.
    """

    video: np.ndarray | None
    video_times_s: np.ndarray
    camera: Camera | None
    motion: Motion
    text: str
    notes: list[str]
    motion_start_s: float | None = None

    def __post_init__(self) -> None:
        """Check that frames, times and camera belong together.

        Raises:
            UserError: a wrong type or shape, or times that do not rise.
        """
        if self.video is None:
            return
        if self.video.dtype != np.uint8 or self.video.ndim != 4 or self.video.shape[-1] != 3 or not len(self.video):
            raise UserError(f"video is {self.video.dtype} {self.video.shape}; expected uint8 (T, H, W, 3) with T >= 1")
        if self.camera is None:
            raise UserError("there is video but no camera; expected the pinhole camera that sees it")
        times = np.asarray(self.video_times_s, dtype=np.float64)
        object.__setattr__(self, "video_times_s", times)
        if times.shape != (len(self.video),):
            raise UserError(f"{len(self.video)} video frames have times of shape {times.shape}; expected one a frame")
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise UserError("the times of the video frames do not rise; repair the timestamps, or drop the sequence")


class ClipSource(Protocol):
    """A data set on disk in its own layout.

    Constructed as `Source(root: Path, **options)`, options with types and defaults in the signature (`str`, `bool`,
    `int`, `float`, `Path`, each perhaps `| None`), which is where the command line takes them from. Constructing checks
    only that `root` can be such a data set; `index` does the reading. Instances go to worker processes: they must be
    picklable, and are best kept small (what is read from a sequence may be cached in a module-level `lru_cache`: a
    worker is given the clips of a sequence in the order of time).
    """

    @property
    def name(self) -> str:
        """The kind, as in `SOURCES`."""
        ...

    @property
    def has_video(self) -> bool:
        """Whether clips have video; all of a data set alike."""
        ...

    @property
    def licence(self) -> str:
        """A sentence on the terms of the data that the user is reminded of; empty where there is nothing to say."""
        ...

    def index(self) -> SourceIndex:
        """All described stretches; a recording that cannot be used is listed as skipped and raises nothing.

        Raises:
            UserError: there is nothing at all of the expected layout.
        """
        ...

    def load(self, ref: ClipRef) -> SourceClip:
        """Frames and motion from `ref.start_s` to `ref.end_s`.

        The times lie within a stretch of the index, or reach a little beyond its end.

        Raises:
            UserError: the clip cannot be used; the message becomes the reason in the report.
        """
        ...
