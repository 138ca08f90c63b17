"""Nymeria and NymeriaPlus: Aria glasses, a body from XSens or SMPL, narrations.

Layout (Nymeria's own; groups of its download in brackets):

    <sequence>/body/xdata.npz                                    XSens [body]; Plus: also body/xdata_smpl_neutral.npz
    <sequence>/narration/{atomic_action,motion_narration,activity_summarization}.csv
    <sequence>/recording_head/mps/slam/closed_loop_trajectory.csv, online_calibration.jsonl
    <sequence>/recording_head/data/rgb.mp4 with rgb_timestamps.csv, or data.vrs, or an mp4 of Aria's converter
    <sequence>/recording_head/data/motion.vrs                    optional: the clocks, where only an mp4 is there

The module `frames` tells of the files with pictures. There are two clocks: trajectory, pictures and narrations count
device time, bodies count time code. Times of a `ClipRef` are device time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from egotwin_sim.data.convert.aria import AriaRecording, Body, View, ViewConfig, seen_together
from egotwin_sim.data.convert.clock import Clock, clock_from_pairs, clock_from_turning
from egotwin_sim.data.convert.frames import Frames, converted_frames, extracted_frames
from egotwin_sim.data.convert.hand_eye import solve_hand_eye
from egotwin_sim.data.convert.licence import licence_note
from egotwin_sim.data.convert.mps import RGB, Trajectory, read_closed_loop, read_online_calibration
from egotwin_sim.data.convert.narrations import LEVELS, Narration, aligned, read_narrations, stretches
from egotwin_sim.data.convert.smpl_track import SmplTrack, read_arrays
from egotwin_sim.data.convert.source import ClipRef, SequenceNote, SkippedSequence, SourceClip, SourceIndex
from egotwin_sim.data.convert.vrs import VrsFrames, clock_readings, has_reader
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.motion import default_skeleton, forward_kinematics
from egotwin_sim.motion.retarget import retarget
from egotwin_sim.motion.smpl_body import SMPLBody
from egotwin_sim.motion.xsens import HEAD, TRIM, XSensRecording, read_xsens

# Frames a second at which bodies are kept: twice what the models are trained with.
_FPS = 32.0
# Relative motions of glasses and head are compared over half a second.
_HAND_EYE_STEP = 16
# Clocks that turning shows to be off: told of, and not believed, seconds.
_LATE, _WRONG = 0.05, 0.3
_SLAM = "recording_head/mps/slam"
_LICENCE_WORDS = ("noncommercial",)
_XSENS, _SMPL = "body/xdata.npz", "body/xdata_smpl_neutral.npz"


class NymeriaSource:
    """Nymeria, with the body from XSens."""

    name = "nymeria"
    has_video = True
    licence = "Nymeria, (c) Meta, CC BY-NC 4.0: not for commercial use; read the LICENSE file of the sequences"
    smpl_model: Path | None = None
    _body_file = _XSENS

    def __init__(
        self,
        root: Path,
        *,
        text: Literal["auto", "atomic", "motion", "activity"] = "auto",
        window: float = 5.0,
        fov: float = 90.0,
        pixels: int = 512,
    ) -> None:
        """Check the options.

        Args:
            root: the folder that holds the sequences.
            text: level of narration: atomic, motion, activity; auto takes the first of them that a sequence has.
            window: seconds of a clip; shorter narrations are joined until they fill it.
            fov: field of view of the pinhole pictures, degrees from edge to edge.
            pixels: their width and height, before the pictures are fitted to the size of the data set.

        Raises:
            UserError: the folder is missing, or an option is out of range.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{root} is not a folder; expected the one that holds the sequences of Nymeria")
        if text not in ("auto", *LEVELS):
            raise UserError(f"text={text}: give auto, {', '.join(LEVELS)}")
        if not window > 0:
            raise UserError(f"window={window:g}: give a positive number of seconds")
        self.text, self.window, self.view = text, window, ViewConfig(fov, pixels)

    def index(self) -> SourceIndex:
        """All narrated stretches of the sequences that have what is needed."""
        clips: list[ClipRef] = []
        skipped: list[SkippedSequence] = []
        notes: list[SequenceNote] = []
        folders = [each for each in sorted(self.root.iterdir()) if _is_sequence(each)]
        if not folders:
            raise UserError(
                f"{self.root} holds no sequence; expected folders with body/, narration/ and recording_head/"
            )
        for folder in folders:
            try:
                narrated, told = self._narrated(folder)
            except UserError as error:
                skipped.append(SkippedSequence(folder.name, str(error)))
                continue
            notes += [SequenceNote(folder.name, note) for note in told]
            clips += [ClipRef(folder.name, each.start_s, each.end_s, each.text) for each in narrated]
        return SourceIndex(clips, skipped, notes)

    def load(self, ref: ClipRef) -> SourceClip:
        """Pictures and body of a stretch.

        Raises:
            UserError: the sequence or the stretch cannot be used.
        """
        recording = _recording(self.root / ref.sequence, self._body_file, self.smpl_model, self.view)
        if isinstance(recording, UserError):
            raise recording
        return recording.clip(ref)

    def _narrated(self, folder: Path) -> tuple[list[Narration], list[str]]:
        """The stretches that have a text, and notes.

        Raises:
            UserError: something that is needed is missing, or the narrations cannot be trusted.
        """
        _require(folder, self._body_file)
        narrations, notes = self._read_narrations(folder)
        if (licence := licence_note(folder / "LICENSE", _LICENCE_WORDS)) is not None:
            notes.append(licence)
        trajectory_span = _device_span(folder / _SLAM / "closed_loop_trajectory.csv")
        narrations, told = aligned(narrations, _recorded_span(folder, self._body_file) or trajectory_span)
        notes += told
        if not narrations:
            raise UserError("no narration lies within the recording of the body")
        narrated, told = stretches(narrations, self.window)
        return narrated, notes + told

    def _read_narrations(self, folder: Path) -> tuple[list[Narration], list[str]]:
        levels = LEVELS if self.text == "auto" else {self.text: LEVELS[self.text]}
        notes: list[str] = []
        for name, level in levels.items():
            path = folder / "narration" / level.file
            if path.is_file():
                narrations, told = read_narrations(path, level)
                notes += told
                if narrations:
                    if self.text == "auto" and name != next(iter(LEVELS)):
                        notes.append(f"texts are those of {level.file}: there are no finer ones")
                    return narrations, notes
        wanted = ", ".join(f"narration/{level.file}" for level in levels.values())
        raise UserError(f"no narrations: {wanted} missing or empty; download the group narration")


class NymeriaPlusSource(NymeriaSource):
    """NymeriaPlus: the same recordings, with the body from its SMPL fits."""

    name = "nymeria-plus"
    licence = "NymeriaPlus, (c) Meta, CC BY-NC 4.0: not for commercial use; read the LICENSE file of the sequences"
    _body_file = _SMPL

    def __init__(
        self,
        root: Path,
        *,
        text: Literal["auto", "atomic", "motion", "activity"] = "auto",
        window: float = 5.0,
        fov: float = 90.0,
        pixels: int = 512,
        smpl_model: Path | None = None,
    ) -> None:
        """Check the options.

        Args:
            root: as in `NymeriaSource`.
            text: as in `NymeriaSource`.
            window: as in `NymeriaSource`.
            fov: as in `NymeriaSource`.
            pixels: as in `NymeriaSource`.
            smpl_model: the licensed neutral SMPL model, for the wearer's own proportions; without it, the rotations
                of the joints are put on our body.

        Raises:
            UserError: as `NymeriaSource`, or the model cannot be read.
        """
        super().__init__(root, text=text, window=window, fov=fov, pixels=pixels)
        self.smpl_model = smpl_model
        if smpl_model is not None:
            SMPLBody(smpl_model, "smpl")


def _is_sequence(folder: Path) -> bool:
    return folder.is_dir() and any((folder / part).is_dir() for part in ("body", "recording_head", "narration"))


def _require(folder: Path, body_file: str) -> None:
    """Name all that is missing at once.

    Raises:
        UserError: something is.
    """
    needed = (body_file, f"{_SLAM}/closed_loop_trajectory.csv", f"{_SLAM}/online_calibration.jsonl")
    missing = [each for each in needed if not (folder / each).is_file()]
    if _video(folder) is None:
        missing.append("recording_head/data/rgb.mp4, data.vrs or an mp4 of Aria's converter")
    if missing:
        raise UserError(f"missing {'; '.join(missing)}: download the groups that hold them")


def _video(folder: Path) -> Path | None:
    """The file that holds the pictures."""
    data = folder / "recording_head" / "data"
    converted = [folder / "video_main_rgb.mp4", *sorted(folder.glob("video_main_rgb/*.mp4"))]
    converted += sorted(folder.glob("*preview_rgb.mp4"))
    vrs = [data / "data.vrs"]
    candidates = [data / "rgb.mp4", *(vrs + converted if has_reader() else converted + vrs)]
    return next((each for each in candidates if each.is_file()), None)


def _frames(folder: Path) -> Frames:
    video = _video(folder)
    assert video is not None
    if video.name == "rgb.mp4":
        return extracted_frames(video, video.with_name("rgb_timestamps.csv"))
    return VrsFrames(video) if video.suffix == ".vrs" else converted_frames(video)


def _device_span(path: Path) -> tuple[float, float]:
    """First and last time of a trajectory, from its first and last row alone.

    Raises:
        UserError: the rows are no rows of a trajectory.
    """
    with path.open("rb") as file:
        header = file.readline().decode("utf-8", "replace").strip().split(",")
        first = file.readline().decode("utf-8", "replace")
        file.seek(0, 2)
        file.seek(max(file.tell() - 4096, 0))
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    try:
        column = header.index("tracking_timestamp_us")
        return int(first.split(",")[column]) * 1e-6, int(lines[-1].split(",")[column]) * 1e-6
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{path} holds no trajectory; expected the column tracking_timestamp_us: download it again"
        ) from error


def _recorded_span(folder: Path, body_file: str) -> tuple[float, float] | None:
    """First and last time of the body, device clock, where a file tells both clocks; None where only turning could."""
    table = folder / "recording_head" / "data" / "rgb_timestamps.csv"
    video = _video(folder)
    if video is None or video.name != "rgb.mp4" or not table.is_file():
        return None
    frames = extracted_frames(video, table)
    if frames.timecode_s is None:
        return None
    clock = clock_from_pairs(frames.times_s, frames.timecode_s, table.name)
    key = "timestamps" if body_file == _SMPL else "timestamps_us"
    try:
        with np.load(folder / body_file, allow_pickle=False) as file:
            stamps = file[key].astype(np.float64) * 1e-6
        # The first and last stamps may be wrong, and are left out anyway.
        trim = round(TRIM / float(np.median(np.diff(stamps))))
        start, end = clock.device(stamps[[trim, -1 - trim]])
    except (KeyError, ValueError, OSError, EOFError, ArithmeticError, zipfile.BadZipFile, IndexError) as error:
        raise UserError(f"{folder / body_file} is no body motion ({error}); download it again") from error
    return float(start), float(end)


@dataclass(frozen=True, eq=False)
class _Tracked:
    """A body as it was recorded, in time code.

    Attributes:
        spans: first and last time of every unbroken stretch.
        times_s: float64 (T,), rising, over all stretches.
        head_quat_wxyz: float64 (T, 4), of a frame fixed to the head.
        sampled: our motion, and the poses (N, 4, 4) of our head frame in the recording's own world and size, at evenly
            spaced times (N,) within a stretch.
        scale: factor from the wearer's size to our body's.
        notes: what was mended.
    """

    spans: list[tuple[float, float]]
    times_s: np.ndarray
    head_quat_wxyz: np.ndarray
    sampled: Callable[[np.ndarray], tuple[Motion, np.ndarray]]
    scale: float
    notes: tuple[str, ...]


# Not a method: what is read of a sequence serves all its clips, in whatever order a worker is given them.
@lru_cache(maxsize=2)
def _recording(folder: Path, body_file: str, smpl_model: Path | None, view: ViewConfig) -> AriaRecording | UserError:
    """A whole sequence; the error, if it cannot be used, so that it is found only once."""
    try:
        return _read_recording(folder, body_file, smpl_model, view)
    except UserError as error:
        return error


def _read_recording(folder: Path, body_file: str, smpl_model: Path | None, view_config: ViewConfig) -> AriaRecording:
    trajectory = read_closed_loop(folder / _SLAM / "closed_loop_trajectory.csv")
    frames = _frames(folder)
    middle = 0.5 * (frames.times_s[0] + frames.times_s[-1])
    calibration = read_online_calibration(folder / _SLAM / "online_calibration.jsonl").camera(RGB, middle)
    view = View(frames, calibration, view_config)
    tracked = _xsens(read_xsens(folder / body_file)) if body_file == _XSENS else _smpl(folder, smpl_model)
    clock, clock_notes = _clock(folder, frames, trajectory, tracked)

    bodies, tracks = [], []
    for start, end in tracked.spans:
        first, last = clock.device(np.array([start, end]))
        first, last = max(first, trajectory.times_s[0]), min(last, trajectory.times_s[-1])
        times = first + np.arange(int((last - first) * _FPS) + 1) / _FPS
        # A last sample may miss the end by rounding alone.
        times = times[clock.timecode(times) <= end]
        if len(times) < 2 or not first < last:
            continue
        motion, head = tracked.sampled(np.maximum(clock.timecode(times), start))
        bodies.append(Body(float(first), motion))
        tracks += seen_together(trajectory, times, head)
    if not tracks:
        raise UserError("the glasses and the body were never recorded at the same time; do they belong together?")
    mount = solve_hand_eye(tracks, _HAND_EYE_STEP)
    notes = (*trajectory.notes, *tracked.notes, *clock_notes, *view.notes, f"glasses on the head: {mount}")
    if abs(tracked.scale - 1.0) > 1e-3:
        notes = (*notes, f"the world is scaled by {tracked.scale:.3f}, from the wearer's height to that of our body")
    return AriaRecording(trajectory, view, tuple(bodies), mount.T_a_b, tracked.scale, notes)


def _told_clock(folder: Path, frames: Frames, trajectory: Trajectory) -> tuple[Clock | None, list[str]]:
    """The clocks as a file tells them, if one does, and notes.

    Raises:
        UserError: a file tells of a clock that jumps.
    """
    if frames.timecode_s is not None:
        return clock_from_pairs(frames.times_s, frames.timecode_s, "the timestamps of the frames"), []
    data = folder / "recording_head" / "data"
    vrs = next((each for each in (data / "motion.vrs", data / "data.vrs") if each.is_file()), None)
    if vrs is None or not has_reader():
        return None, []
    try:
        readings = clock_readings(vrs, trajectory.times_s[[0, -1]])
    except UserError as error:
        return None, [str(error)]
    return clock_from_pairs(*readings, vrs.name), []


def _clock(folder: Path, frames: Frames, trajectory: Trajectory, tracked: _Tracked) -> tuple[Clock, list[str]]:
    """The clocks of a sequence, and notes.

    Raises:
        UserError: no clock is known, or the known one is contradicted by how head and glasses turn.
    """
    told, notes = _told_clock(folder, frames, trajectory)
    glasses = trajectory.times_s, trajectory.quat_wxyz
    try:
        seen, correlation = clock_from_turning(glasses, (tracked.times_s, tracked.head_quat_wxyz), "the clocks")
    except UserError as error:
        if told is None:
            raise
        return told, [*notes, f"whether the clocks agree could not be checked: {error}"]
    if told is None:
        notes.append(
            f"no file tells the time code of the glasses: the clocks were matched by how head and glasses turn "
            f"(correlation {correlation:.2f})"
        )
        return seen, notes
    middle = 0.5 * (tracked.times_s[0] + tracked.times_s[-1])
    late = float(told.device(np.array([middle]))[0] - seen.device(np.array([middle]))[0])
    if abs(late) > _WRONG:
        raise UserError(
            f"the head turns {late:+.2f} s from when the glasses do, by their time codes; the clocks are wrong: drop "
            "the sequence"
        )
    if abs(late) > _LATE:
        notes.append(f"the head turns {1000 * late:+.0f} ms from when the glasses do, by their time codes")
    return told, notes


def _xsens(recording: XSensRecording) -> _Tracked:
    skeleton = default_skeleton()
    scale = _head_above_ankles() / recording.head_above_ankles

    def sampled(times_s: np.ndarray) -> tuple[Motion, np.ndarray]:
        motion = retarget(recording.capture(times_s, _FPS), fps=_FPS, drop_rest_pose=False).motion
        head = motion.T_world_head()
        position, _ = recording.at(times_s)
        head[:, :3, 3] = position[:, HEAD] + head[:, :3, :3] @ skeleton.head_offset / scale
        return motion, head

    head_quat = recording.quat_wxyz[:, HEAD]
    return _Tracked(recording.spans(), recording.times_s, head_quat, sampled, scale, recording.notes)


def _smpl(folder: Path, model: Path | None) -> _Tracked:
    path = folder / _SMPL
    data = read_arrays(path, {"betas": 10, "body_pose": 63, "global_orient": 3, "transl": 3, "timestamps": 0})
    pose = np.concatenate((data["global_orient"], data["body_pose"]), axis=1)
    times = data["timestamps"].astype(np.float64) * 1e-6
    valid = (times >= times[:1] + TRIM) & (times <= times[-1:] - TRIM)
    track = SmplTrack.from_params(str(path), times, pose, data["transl"], data["betas"], valid, [])
    notes, scale, body = list(track.notes), 1.0, None
    if model is not None:
        body = SMPLBody(model, "smpl", betas=track.betas)  # its own size; the converter brings it to our body
    else:
        # How tall an SMPL body is takes the model; the T-pose of the suit tells it as well.
        try:
            scale = _head_above_ankles() / read_xsens(folder / _XSENS).head_above_ankles
        except UserError:
            notes.append(f"the wearer's height is not known without {_XSENS} or smpl_model: taken to be our body's")

    def sampled(times_s: np.ndarray) -> tuple[Motion, np.ndarray]:
        motion = track.motion(times_s, _FPS, body)
        head = motion.T_world_head()
        root = motion.root_position.astype(np.float64)
        head[:, :3, 3] = root + (head[:, :3, 3] - root) / scale
        return motion, head

    return _Tracked(track.spans(), track.times_s, track.head_quat_wxyz(), sampled, scale, tuple(notes))


def _head_above_ankles() -> float:
    """Height of our head joint above our ankles at rest, metres."""
    skeleton = default_skeleton()
    rest, _ = forward_kinematics(np.zeros(3), np.tile(np.eye(3), (skeleton.num_joints, 1, 1)), skeleton)
    return float(rest[skeleton.index["head"], 2] - rest[skeleton.index["left_ankle"], 2])
