"""A folder of one's own recordings: video, body motion and texts side by side."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from egotwin_sim.data.convert.camera_file import read_camera
from egotwin_sim.data.convert.captions import Caption, read_captions, read_object
from egotwin_sim.data.convert.cut import nearest_frames, picture_times, rate_note
from egotwin_sim.data.convert.recording import Recording, recording
from egotwin_sim.data.convert.source import ClipRef, SourceClip, SourceIndex
from egotwin_sim.data.plan import MOTION_FPS, VIDEO_FPS
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.bvh import read_bvh
from egotwin_sim.motion.retarget import floor_height, retarget
from egotwin_sim.motion.smpl import SMPLParameters

_VIDEO = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_MOTION = (".bvh", ".npz")
_TEXT = (".txt", ".json")
_CAMERA = "camera.json"
# Two recorders that are started and stopped together by hand differ by less, seconds.
_LENGTH_TOLERANCE_S = 0.25
# A rate is what the file says; 7.98 frames/s are 8.
_RATE_TOLERANCE = 0.02
_GAP = 1.5  # frame intervals


@dataclass(frozen=True)
class FolderSource:
    """Recordings in a folder and those below it, each a set of files of one name.

    `NAME.mp4` (or .mov, .mkv, .webm, .avi), `NAME.bvh` or `NAME.npz` (a motion that `Motion.save` wrote, or SMPL
    parameters in one of AMASS's layouts), and `NAME.txt` or `NAME.json` (`captions`). The camera is described by
    `NAME.camera.json`, or by `camera.json` in the same folder or one above it (`camera_file`). Video and motion begin
    together, unless `NAME.json` has `motion_start_s`, the time in the video at which the motion begins.

    Attributes:
        root: the folder.
        video: whether recordings have video; without it, the data set is one of motion alone.
        fovy_deg: vertical field of view where no file describes the camera, degrees.
    """

    root: Path
    video: bool = True
    fovy_deg: float = 60.0

    name = "folder"
    licence = ""

    @property
    def has_video(self) -> bool:
        """Whether clips have video."""
        return self.video

    def index(self) -> SourceIndex:
        """All recordings, in the order of their names.

        Raises:
            UserError: there is no recording.
        """
        index = SourceIndex([], [], [])
        for stem in self._stems():
            sequence = stem.relative_to(self.root).as_posix()
            index.take(sequence, partial(self._read, stem, sequence))
        if not index.clips and not index.skipped:
            raise UserError(
                f"{self.root} holds no recording: expected NAME.mp4, NAME.bvh or NAME.npz, and NAME.txt or NAME.json"
            )
        return index

    def load(self, ref: ClipRef) -> SourceClip:
        """Frames and motion of a clip.

        Raises:
            UserError: video or motion do not reach as far, or a file is damaged.
        """
        stem = self.root / ref.sequence
        motion, _ = _motion(_one_of(stem, _MOTION, "motion"))
        start = self._motion_start(stem) or 0.0
        if not self.video:
            return SourceClip(None, np.empty(0), None, motion, ref.text, [], start)
        film = recording(_one_of(stem, _VIDEO, "video"))
        chosen = nearest_frames(film.times_s, picture_times(ref.start_s, ref.seconds))
        frames = film.frames(chosen)
        camera, _ = read_camera(self._camera_file(stem), (frames.shape[1], frames.shape[2]), self.fovy_deg)
        return SourceClip(frames, film.times_s[chosen], camera, motion, ref.text, [], start)

    def _stems(self) -> list[Path]:
        """Paths without suffix of all that has a video or a motion."""
        found = {
            path.with_suffix("")
            for path in self.root.rglob("*")
            if path.suffix.lower() in _VIDEO + _MOTION and path.is_file() and not path.name.startswith(".")
        }
        return sorted(found)

    def _read(self, stem: Path, sequence: str) -> tuple[list[ClipRef], list[str]]:
        """The clips of one recording, and notes.

        Raises:
            UserError: it cannot be used.
        """
        motion, notes = _motion(_one_of(stem, _MOTION, "motion"))
        captions = read_captions(_one_of(stem, _TEXT, "text"))
        if motion.fps != MOTION_FPS:
            notes = [*notes, f"motion at {motion.fps:.4g} frames/s was resampled to {MOTION_FPS:g}"]
        given = self._motion_start(stem)
        begin = given or 0.0
        end = begin + motion.duration + 1.0 / motion.fps  # the last frame is held as long as it lasts
        begin = max(begin, 0.0)
        if self.video:
            film = recording(_one_of(stem, _VIDEO, "video"))
            video_end, found = _check_video(film)
            notes = [*notes, *found]
            if given is None and abs(video_end - end) > _LENGTH_TOLERANCE_S:
                raise UserError(
                    f"the video lasts {video_end:.2f} s, the motion {end:.2f} s: cut the longer one, or say in "
                    f"{stem.name}.json at which second of the video the motion begins (motion_start_s)"
                )
            end = min(end, film.duration + min(1.0 / film.fps, 0.5 / VIDEO_FPS))
            height, width = film.frames(np.array([0])).shape[1:3]
            notes = [*notes, *read_camera(self._camera_file(stem), (height, width), self.fovy_deg)[1]]
        refs, outside = _within(sequence, captions, begin, end)
        return refs, [*notes, *outside]

    def _motion_start(self, stem: Path) -> float | None:
        path = _beside(stem, ".json")
        value = read_object(path).get("motion_start_s") if path.is_file() else None
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise UserError(f"{path}: motion_start_s is {value!r}; expected seconds")
        return float(value)

    def _camera_file(self, stem: Path) -> Path | None:
        own = stem.with_name(f"{stem.name}.{_CAMERA}")
        folders = [stem.parent, *stem.parent.parents]
        shared = [folder / _CAMERA for folder in folders[: folders.index(self.root) + 1]]
        return next((path for path in (own, *shared) if path.is_file()), None)


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _one_of(stem: Path, suffixes: tuple[str, ...], what: str) -> Path:
    """The one file of a name with one of the suffixes."""
    found = [
        path for suffix in suffixes for path in (_beside(stem, suffix), _beside(stem, suffix.upper())) if path.is_file()
    ]
    if len(found) != 1:
        expected = " or ".join(f"{stem.name}{suffix}" for suffix in suffixes)
        has = "there is none" if not found else f"there are {' and '.join(path.name for path in found)}"
        raise UserError(f"{what}: expected one file, {expected}; {has}")
    return found[0]


def _check_video(film: Recording) -> tuple[float, list[str]]:
    """When a video ends, seconds, and what is strange about its times."""
    if film.fps < VIDEO_FPS * (1 - _RATE_TOLERANCE):
        raise UserError(f"video at {film.fps:.4g} frames/s; expected {VIDEO_FPS} or more")
    notes = []
    if note := rate_note(film.times_s):
        notes.append(note)
    steps = np.diff(film.times_s)
    gaps = steps > _GAP / film.fps
    if gaps.any():
        notes.append(f"{int(gaps.sum())} gaps in the video's timestamps, the longest {steps.max():.3f} s")
    return film.duration + 1.0 / film.fps, notes


def _within(sequence: str, captions: list[Caption], begin: float, end: float) -> tuple[list[ClipRef], list[str]]:
    """Clips of what lies between two times, and notes on texts that lie elsewhere."""
    refs, notes = [], []
    for caption in captions:
        first = begin if caption.start_s is None else max(caption.start_s, begin)
        last = end if caption.end_s is None else min(caption.end_s, end)
        if last <= first:
            notes.append(
                f"the text from {caption.start_s:g} s to {caption.end_s:g} s lies outside the recording "
                f"({begin:.2f} s to {end:.2f} s)"
            )
            continue
        refs.append(ClipRef(sequence, first, last, caption.text))
    return refs, notes


def _motion(path: Path) -> tuple[Motion, list[str]]:
    """The motion in a file at its own rate, read once a process as long as the file does not change."""
    status = path.stat()
    return _remembered(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _remembered(path: Path, changed_ns: int, size: int) -> tuple[Motion, list[str]]:
    if path.suffix.lower() == ".bvh":
        capture = read_bvh(path)
        imported = retarget(capture, fps=capture.fps)
        return imported.motion, list(imported.report.notes)
    if _holds_smpl(path):
        motion = SMPLParameters.load(path).motion()
        lift = np.array([0.0, 0.0, -floor_height(motion)], dtype=np.float32)
        motion = replace(motion, root_position=motion.root_position + lift)
        return motion, ["SMPL parameters: taken to our body's proportions, and set on the floor"]
    motion = Motion.load(path)
    if "head" not in motion.skeleton.index:
        raise UserError(
            f"{path.name} has no joint named head (it has {', '.join(motion.skeleton.names)}): give a motion of the "
            "whole body"
        )
    return motion, []


def _holds_smpl(path: Path) -> bool:
    """Whether an `.npz` file holds a translation as SMPL's files do, and no motion of ours."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return "root_position" not in data.files and any(name in data.files for name in ("trans", "transl"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return False  # Motion.load says what is wrong
