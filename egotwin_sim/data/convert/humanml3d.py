"""HumanML3D: short motions with texts, from joint positions or, where AMASS is there, from its rotations."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from egotwin_sim.data.convert.amass_files import LICENCE, check_models, find_recordings, load_recording, recording_key
from egotwin_sim.data.convert.cut import on_default_body
from egotwin_sim.data.convert.humanml3d_texts import read_texts
from egotwin_sim.data.convert.source import ClipRef, SequenceNote, SourceClip, SourceIndex
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.joint_positions import fit_positions
from egotwin_sim.motion.mirror import mirrored
from egotwin_sim.motion.smpl_body import FROM_SMPL

FPS = 20.0
"""Frames a second of its motions, nominally."""

JOINTS = 22
FEATURES = 263
"""Numbers a frame in `new_joint_vecs`."""

_SPLITS = ("train", "val", "test")
_MIRRORED = "M"
_COLUMNS = ("source_path", "start_frame", "end_frame", "new_name")
# Seconds that HumanML3D leaves out at the beginning of recordings in which actors take up a pose; by AMASS's folders.
_LEFT_OUT_S = {
    "Eyes_Japan_Dataset": 3.0,
    "MPI_HDM05": 3.0,
    "TotalCapture": 1.0,
    "MPI_Limits": 1.0,
    "Transitions_mocap": 0.5,
}
# Positions that no body of fixed bones comes nearer to than this on average are none of a body, metres.
_MOST_ERROR = 0.05


@dataclass(frozen=True)
class HumanML3DSource:
    """Motions `new_joints/NAME.npy` or `new_joint_vecs/NAME.npy`, texts `texts/NAME.txt`, names in `train.txt` etc.

    Names that begin with M are mirror images. Every line of a text file is a clip of its own. Joint positions do not
    say where the head looks (`motion.joint_positions`); AMASS's rotations do.

    Attributes:
        root: the folder of the data set.
        amass: AMASS's folder, from which motions are then taken, as far as they are there; needs `index.csv` in the
            data set's folder or the one above it. Of its releases HumanML3D was made from, and fits, that of SMPL-H.
        models: the vendor's model files, for the proportions of AMASS's people (`AmassSource`).
    """

    root: Path
    amass: Path | None = None
    models: Path | None = None

    name = "humanml3d"
    has_video = False
    licence = f"HumanML3D's texts are free to use for research; its motions are made from AMASS. {LICENCE}"

    def __post_init__(self) -> None:
        """Check the layout and the options.

        Raises:
            UserError: there are no texts or no splits, or a path does not exist.
        """
        if not (self.root / "texts").is_dir():
            raise UserError(f"{self.root} has no folder texts: expected HumanML3D, with texts.zip unpacked in it")
        if not any((self.root / f"{split}.txt").is_file() for split in _SPLITS):
            raise UserError(f"{self.root} has none of train.txt, val.txt and test.txt: expected HumanML3D")
        if self.amass is not None and not self.amass.is_dir():
            raise UserError(f"amass={self.amass} is no folder: give that which holds AMASS's data sets")
        if self.amass is not None and self._table() is None:
            raise UserError(
                f"there is no index.csv in {self.root} or above: it says which motion is in which recording"
            )
        if self.models is not None and self.amass is None:
            raise UserError("models are of use for AMASS's rotations alone: give amass=FOLDER as well")
        check_models(self.models)

    def index(self) -> SourceIndex:
        """All motions with a text, in the order of the splits.

        Raises:
            UserError: the splits name no motion, or `index.csv` is of another form.
        """
        index = SourceIndex([], [], [])
        splits: dict[str, str] = {}
        for split in _SPLITS:
            path = self.root / f"{split}.txt"
            names = path.read_text(encoding="utf-8").split() if path.is_file() else []
            for name in names:
                if splits.setdefault(name, split) != split:
                    note = f"it is in {splits[name]}.txt and in {split}.txt; the first counts"
                    index.notes.append(SequenceNote(name, note))
        if not splits:
            raise UserError(f"train.txt, val.txt and test.txt of {self.root} name no motion")
        self._segments()
        for name, split in splits.items():
            index.take(name, partial(self._read, name, split))
        return index

    def load(self, ref: ClipRef) -> SourceClip:
        """The motion of a clip.

        Raises:
            UserError: the file is damaged, or no body fits to its positions.
        """
        segment = self._segment(ref.sequence)
        if segment is not None:
            motion, start, notes = segment.motion(ref, self.models)
            if ref.sequence.startswith(_MIRRORED):
                motion = mirrored(motion)
            return SourceClip(None, np.empty(0), None, motion, ref.text, notes, start)
        path = self._positions_file(ref.sequence)
        motion, notes = _fitted(path, path.stat().st_mtime_ns)
        return SourceClip(None, np.empty(0), None, motion, ref.text, notes, 0.0)

    def _read(self, name: str, split: str) -> tuple[list[ClipRef], list[str]]:
        """The clips of a motion, and notes.

        Raises:
            UserError: it cannot be used.
        """
        captions, notes = read_texts(self.root / "texts" / f"{name}.txt")
        segment = self._segment(name)
        if segment is not None:
            seconds, frame_s = segment.seconds, segment.frame_s
        else:
            seconds, frame_s = (len(_positions(self._positions_file(name))) - 1) / FPS, 1.0 / FPS
            if self.amass is not None:
                notes.append("AMASS's recording of it is not there: rotations are fitted to joint positions")
        refs = []
        for caption in captions:
            # Times in the texts count frames at the nominal rate.
            start_s = 0.0 if caption.start_s is None else int(caption.start_s * FPS) * frame_s
            end_s = seconds if caption.end_s is None else min(int(caption.end_s * FPS) * frame_s, seconds)
            if not end_s > start_s:
                notes.append(f"the text '{caption.text[:40]}' lies outside of the motion's {seconds:.2f} s")
                continue
            refs.append(ClipRef(name, start_s, end_s, caption.text, split))
        if not refs:
            raise UserError(f"no text can be used: {notes[-1]}")
        return refs, notes

    def _positions_file(self, name: str) -> Path:
        for folder in ("new_joints", "new_joint_vecs"):
            path = self.root / folder / f"{name}.npy"
            if path.is_file():
                return path
        raise UserError(f"there is neither new_joints/{name}.npy nor new_joint_vecs/{name}.npy")

    def _table(self) -> Path | None:
        """The file that says which motion is in which recording of AMASS."""
        return next(
            (path for path in (self.root / "index.csv", self.root.parent / "index.csv") if path.is_file()), None
        )

    def _segments(self) -> dict[str, Segment]:
        """Where AMASS has the motions."""
        table = self._table()
        if self.amass is None or table is None:
            return {}
        return _read_table(table, table.stat().st_mtime_ns, self.amass)

    def _segment(self, name: str) -> Segment | None:
        """Where AMASS has a motion; None if it has not, or not all of it."""
        segment = self._segments().get(name.removeprefix(_MIRRORED))
        return segment if segment is not None and segment.seconds > 0 else None


@dataclass(frozen=True)
class Segment:
    """A part of a recording of AMASS.

    Attributes:
        path: the file.
        left_out_s: seconds that are cut off its beginning before frames are counted, at the nominal rate.
        first: the first frame, at 20 frames/s nominally.
        last: the frame behind the last one.
    """

    path: Path
    left_out_s: float
    first: int
    last: int

    @property
    def frame_s(self) -> float:
        """True seconds between frames: whole frames were left out, so the rate is 20 only nearly."""
        return _clock(self.path, self.path.stat().st_mtime_ns)[0]

    @property
    def start_s(self) -> float:
        """When it begins in the recording, true seconds."""
        return (int(self.left_out_s * FPS) + self.first) * self.frame_s

    @property
    def seconds(self) -> float:
        """Its true length; zero or less if the recording does not reach as far."""
        frame_s, recorded_s = _clock(self.path, self.path.stat().st_mtime_ns)
        seconds, left_s = (self.last - 1 - self.first) * frame_s, recorded_s - self.start_s
        return min(seconds, left_s) if seconds <= left_s + frame_s else 0.0

    def motion(self, ref: ClipRef, models: Path | None) -> tuple[Motion, float, list[str]]:
        """The motion around a clip, when it begins in the segment's time, and notes."""
        whole, notes = load_recording(self.path, models)
        first = max(int((self.start_s + ref.start_s) * whole.fps) - 1, 0)
        last = int((self.start_s + min(ref.end_s, self.seconds)) * whole.fps) + 2
        return whole[first:last], first / whole.fps - self.start_s, notes


@lru_cache(maxsize=2)
def _read_table(table: Path, changed_ns: int, amass: Path) -> dict[str, Segment]:
    """The motions whose recordings are there, by name.

    Raises:
        UserError: the table is of another form.
    """
    recordings: dict[str, Path] = {}
    for path in find_recordings(amass):
        recordings.setdefault(recording_key(path), path)
    found = {}
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or [])]
        if missing:
            raise UserError(f"{table} has no column {', '.join(missing)}; expected HumanML3D's index.csv")
        for row in rows:
            recording = recordings.get(recording_key(row["source_path"]))
            if recording is None:
                continue
            left_out = next((s for name, s in _LEFT_OUT_S.items() if name in row["source_path"]), 0.0)
            try:
                first, last = int(row["start_frame"]), int(row["end_frame"])
            except ValueError:
                raise UserError(f"{table}:{rows.line_num}: start_frame and end_frame must be whole numbers") from None
            found[row["new_name"].removesuffix(".npy")] = Segment(recording, left_out, first, last)
    return found


@lru_cache(maxsize=32)
def _clock(path: Path, changed_ns: int) -> tuple[float, float]:
    """Seconds between two frames at 20 frames/s nominally, and the recording's length; zeros if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            rate = "mocap_framerate" if "mocap_framerate" in file.files else "mocap_frame_rate"
            fps, frames = float(file[rate].item()), len(file["trans"])
    except Exception:  # a damaged archive can raise anything; the joint positions serve instead
        return 0.0, 0.0
    return max(int(fps / FPS), 1) / fps, (frames - 1) / fps


@lru_cache(maxsize=4)
def _fitted(path: Path, changed_ns: int) -> tuple[Motion, list[str]]:
    """A motion on our body fitted to a file of joint positions, and what a user should know of it.

    Raises:
        UserError: the file cannot be used, or no body fits.
    """
    fit = fit_positions(_positions(path) @ FROM_SMPL.T, FPS)
    mean, most = float(fit.error_m.mean()), float(fit.error_m.max())
    if mean > _MOST_ERROR:
        raise UserError(
            f"a body of fixed bones comes no nearer to the joint positions than {1000 * mean:.0f} mm on average: they "
            "are none of a body in metres"
        )
    note = (
        f"rotations are fitted to joint positions, {1000 * mean:.1f} mm off on average, {1000 * most:.1f} mm at most; "
        "the head is turned as the neck is"
    )
    return on_default_body(fit.motion, keep_head=False)[0], [note]


def _positions(path: Path) -> np.ndarray:
    """Joint positions float64 (T, 22, 3), metres, y up, of a file of positions or of features.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{name} cannot be read ({error}); make it again") from error
    wanted = (FEATURES,) if path.parent.name == "new_joint_vecs" else (JOINTS, 3)
    if values.shape[1:] != wanted or not len(values) or values.dtype.kind != "f":
        raise UserError(
            f"{name} has shape {values.shape} of {values.dtype}; expected (T, {', '.join(map(str, wanted))})"
        )
    if not np.isfinite(values).all():
        frame = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
        raise UserError(f"{name} is not finite at frame {frame}")
    values = values.astype(np.float64)
    return values if wanted == (JOINTS, 3) else positions_of_features(values)


def positions_of_features(features: np.ndarray) -> np.ndarray:
    """Joint positions (T, 22, 3) of HumanML3D's features (T, 263), y up.

    Of the features, these are read: half the turn of the root about the vertical to the next frame, its step to the
    next frame in its heading there, its height, and the other joints' positions around the place under it, in its
    heading.
    """
    count = len(features)
    turned = np.concatenate(([0.0], np.cumsum(2.0 * features[:-1, 0])))
    # The root's heading is undone by the turn, so it is turned back by as much.
    cosine, sine = np.cos(turned), np.sin(turned)

    def to_world(points: np.ndarray) -> np.ndarray:
        """Turn (T, N, 3) from the heading into the world."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        c, s = cosine[:, None], sine[:, None]
        return np.stack((c * x - s * z, y, s * x + c * z), axis=-1)

    steps = np.zeros((count, 1, 3))
    steps[1:, 0, [0, 2]] = features[:-1, 1:3]
    root = np.cumsum(to_world(steps), axis=0)
    around = to_world(features[:, 4 : 4 + 3 * (JOINTS - 1)].reshape(count, JOINTS - 1, 3))
    found = np.concatenate((root, around + root), axis=1)
    found[:, 0, 1] = features[:, 3]
    return found
