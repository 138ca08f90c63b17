"""AMASS: body motion as SMPL-H or SMPL-X parameters, with texts from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from egotwin_sim.data.convert.amass_files import (
    LICENCE,
    check_models,
    find_recordings,
    is_smplx_release,
    load_recording,
    recording_key,
)
from egotwin_sim.data.convert.babel import Annotation, read_babel
from egotwin_sim.data.convert.captions import Caption
from egotwin_sim.data.convert.humanml3d_texts import read_texts
from egotwin_sim.data.convert.source import ClipRef, SourceClip, SourceIndex
from egotwin_sim.errors import UserError
from egotwin_sim.motion.smpl import SMPLParameters
from egotwin_sim.motion.smpl_file import find_smpl_file

_NAME = "{name}"
# BABEL rounds a recording's length; what is further off is another frame rate.
_LENGTH_TOLERANCE = 0.02


@dataclass(frozen=True)
class AmassSource:
    """Recordings `<data set>/<subject>/<name>_poses.npz` (SMPL-H) or `..._stageii.npz` (SMPL-X), motion alone.

    Where a recording is there in both releases, that of SMPL-H is used.

    Attributes:
        root: the folder that holds the data sets.
        texts: BABEL's annotations, a `.json` file or a folder of them, which also say how long a recording is and so
            what its frame rate is; or a folder of text files in HumanML3D's manner, `<data set>/<subject>/<name>.txt`
            or `<name>.txt`, with the file's full name.
        text: one text for every recording instead; `{name}` in it is the recording's name in words.
        models: the vendor's model files, for the proportions of each person; without them they are not known
            (`amass_files.on_our_body`).
    """

    root: Path
    texts: Path | None = None
    text: str | None = None
    models: Path | None = None

    name = "amass"
    has_video = False
    licence = LICENCE

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UserError: there is no text or two kinds of it, or a path does not exist.
        """
        if (self.texts is None) == (self.text is None):
            raise UserError(
                "AMASS has no texts of its own: give texts=PATH (BABEL's .json files, or a folder of .txt files), or "
                "text=WORDS for all recordings, in which {name} is the name of the recording; one of them"
            )
        if self.texts is not None and not self.texts.exists():
            raise UserError(f"texts={self.texts} does not exist: give BABEL's .json files or a folder of .txt files")
        if self.text is not None and not self.text.strip():
            raise UserError("text is empty: say what the body does")
        check_models(self.models)

    def index(self) -> SourceIndex:
        """All recordings with a text.

        Raises:
            UserError: there is no recording, or the texts are of neither form.
        """
        index = SourceIndex([], [], [])
        seen = _Seen()
        for path in find_recordings(self.root):
            sequence = path.relative_to(self.root).with_suffix("").as_posix()
            index.take(sequence, partial(self._read, path, sequence, seen))
        if not index.clips and not index.skipped:
            raise UserError(f"{self.root} holds no recording: expected <data set>/<subject>/*.npz, as AMASS unpacks")
        return index

    def load(self, ref: ClipRef) -> SourceClip:
        """The motion of a clip.

        Raises:
            UserError: the file is damaged, or its model is missing.
        """
        path = self.root / f"{ref.sequence}.npz"
        motion, notes = load_recording(path, self.models)
        annotation, _ = self._annotation(path)
        motion = replace(motion, fps=_true_rate(motion.fps, len(motion), annotation.seconds))
        return SourceClip(None, np.empty(0), None, motion, ref.text, notes, 0.0)

    def _read(self, path: Path, sequence: str, seen: _Seen) -> tuple[list[ClipRef], list[str]]:
        """The clips of a recording, and notes.

        Raises:
            UserError: it cannot be used.
        """
        parameters = SMPLParameters.load(path)
        seen.add(sequence, parameters)
        if self.models is not None:
            find_smpl_file(self.models, parameters.kind, parameters.gender)
        annotation, notes = self._annotation(path)
        fps = _true_rate(parameters.fps, len(parameters), annotation.seconds)
        if fps != parameters.fps:
            notes.append(
                f"the frame rate is given as {parameters.fps:g}; BABEL's {annotation.seconds:g} s make it {fps:.4g}"
            )
        elif is_smplx_release(path) and annotation.seconds is None:
            notes.append(
                f"the frame rate, {fps:g}, is that of the SMPL-X release, in which many are wrong: the SMPL-H release "
                "or BABEL's annotations would tell"
            )
        end = (len(parameters) - 1) / fps
        refs = []
        for caption in annotation.captions:
            start_s = 0.0 if caption.start_s is None else max(caption.start_s, 0.0)
            end_s = end if caption.end_s is None else min(caption.end_s, end)
            if not end_s > start_s:
                notes.append(f"the text '{caption.text[:40]}' lies outside of the recording's {end:.2f} s")
                continue
            refs.append(ClipRef(sequence, start_s, end_s, caption.text, annotation.split))
        if not refs:
            raise UserError(f"no text can be used: {notes[-1]}" if notes else "there is no text for it")
        return refs, notes

    def _annotation(self, path: Path) -> tuple[Annotation, list[str]]:
        """What is said of a recording, and notes.

        Raises:
            UserError: nothing is.
        """
        if self.texts is None:
            words = recording_key(path).rpartition("/")[2].replace("_", " ").strip()
            return Annotation((Caption((self.text or "").replace(_NAME, words)),)), []
        files = sorted(self.texts.glob("*.json")) if self.texts.is_dir() else [self.texts]
        if files:
            found = _babel(tuple((file, file.stat().st_mtime_ns) for file in files)).get(recording_key(path))
            if found is None:
                raise UserError("BABEL has no annotation of it: there is no text")
            return found, []
        name = path.relative_to(self.root).with_suffix(".txt")
        text = self.texts / name
        captions, notes = read_texts(text if text.is_file() else self.texts / name.name)
        return Annotation(tuple(captions)), notes


@dataclass
class _Seen:
    """Recordings that were read, to know one that comes again."""

    by_key: dict[str, str] = field(default_factory=dict)
    by_numbers: dict[bytes, str] = field(default_factory=dict)

    def add(self, sequence: str, parameters: SMPLParameters) -> None:
        """Remember a recording.

        Raises:
            UserError: it is there already, in another release or under another name.
        """
        digest = hashlib.sha256()
        for numbers in (parameters.transl, parameters.global_orient, parameters.body_pose):
            digest.update(numbers.tobytes())
        before = self.by_key.setdefault(recording_key(sequence), sequence)
        same = self.by_numbers.setdefault(digest.digest(), sequence)
        if before != sequence:
            raise UserError(f"it is there already as {before}")
        if same != sequence:
            raise UserError(f"it holds the same numbers as {same}")


def _true_rate(fps: float, frames: int, seconds: float | None) -> float:
    """The frame rate that makes a recording as long as it is said to be; its own if that fits."""
    if not seconds or abs(frames / fps - seconds) <= _LENGTH_TOLERANCE * seconds:
        return fps
    return frames / seconds


@lru_cache(maxsize=2)
def _babel(files: tuple[tuple[Path, int], ...]) -> dict[str, Annotation]:
    """BABEL's annotations, read once as long as no file changes."""
    return read_babel([path for path, _ in files])
