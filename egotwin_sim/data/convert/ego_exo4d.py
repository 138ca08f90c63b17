"""Ego-Exo4D: Aria glasses among fixed cameras, bodies from Ego-Exo4D-HM or annotated joints, timed descriptions.

Layout (Ego-Exo4D's own; `hm/` is where the files of Ego-Exo4D-HM are put):

    takes.json, captures/<capture>/timesync.csv
    takes/<take>/frame_aligned_videos/<aria>_214-1.mp4           30 frames/s, fisheye, stored turned by 90 degrees
    takes/<take>/trajectory/closed_loop_trajectory.csv, online_calibration.jsonl
    annotations/atomic_descriptions_{train,val}.json, splits.json
    annotations/ego_pose/<split>/{body,hand}/{annotation,automatic}/<take_uid>.json
    hm/<take>/points_triangulated_world_results_merged.npz       SMPL-H and joints, one row a frame of the take

Frame i of a take's videos and bodies was taken at row `timesync_start_idx` + i of its capture's table, which tells
the device time of the glasses. Times of a `ClipRef` are device time.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from egotwin_sim.data.convert.aria import AriaRecording, Body, View, ViewConfig, seen_together
from egotwin_sim.data.convert.frames import Mp4Frames, VideoHeader
from egotwin_sim.data.convert.hand_eye import mean_mount
from egotwin_sim.data.convert.keypoints import FACE, NEEDED, body_scale, head_poses, motion_from_keypoints
from egotwin_sim.data.convert.mps import RGB, read_closed_loop, read_online_calibration
from egotwin_sim.data.convert.smpl_track import SmplTrack, read_arrays
from egotwin_sim.data.convert.source import ClipRef, SequenceNote, SkippedSequence, SourceClip, SourceIndex
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion

_FPS = 30.0
_HM_FILE = "points_triangulated_world_results_merged.npz"
# OpenPose's 67 joints of Ego-Exo4D-HM: 25 of the body, 21 of the left hand, 21 of the right.
_OPENPOSE = {
    **{"right_shoulder": 2, "right_elbow": 3, "right_wrist": 4, "left_shoulder": 5, "left_elbow": 6, "left_wrist": 7},
    **{"right_hip": 9, "right_knee": 10, "right_ankle": 11, "left_hip": 12, "left_knee": 13, "left_ankle": 14},
    **{"right_eye": 15, "left_eye": 16, "right_ear": 17, "left_ear": 18},
}
# First joints of the fingers, by our names for them.
_FINGERS = {"middle": "middle_1", "index": "index_1", "little": "pinky_1"}
# Annotated joints that are missing for longer are not interpolated, seconds.
_MAX_MISSING = 0.5
_SHORTEST = 1.0
# A description's moment lies within 1 to 2 s of the action, so a window begins before its first.
_LEAD = 1.0
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Take:
    """What `takes.json` says of a take.

    Attributes:
        name: of its folder.
        uid: by which annotations name it.
        folder: relative to the root.
        capture: the capture that it is a part of.
        aria: which glasses the wearer had.
        rows: first row, and row after the last, in the capture's table of times.
    """

    name: str
    uid: str
    folder: str
    capture: str
    aria: str
    rows: tuple[int, int]

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Take:
        """From an entry of the list.

        Raises:
            UserError: something is missing.
        """
        try:
            name = str(entry["take_name"])
            cameras = [str(each["cam_id"]) for each in entry["capture"]["cameras"] if each.get("is_ego")]
            aria = [each for each in cameras if each.startswith("aria")] or ["aria01"]
            capture = entry["capture"].get("capture_name") or re.sub(r"_\d+$", "", name)
            rows = int(entry["timesync_start_idx"]), int(entry["timesync_end_idx"])
            return cls(
                name, str(entry["take_uid"]), str(entry.get("root_dir", f"takes/{name}")), capture, aria[0], rows
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"takes.json: an entry lacks {error}; download it again") from error

    @property
    def video(self) -> str:
        """Path of the RGB video, relative to the root."""
        return f"{self.folder}/frame_aligned_videos/{self.aria}_214-1.mp4"


class EgoExo4DSource:
    """Ego-Exo4D, with the wearer's body."""

    name = "ego-exo4d"
    has_video = True
    licence = "Ego-Exo4D: under its licence agreement, not to be passed on; Ego-Exo4D-HM adds SMPL-H parameters"

    def __init__(
        self,
        root: Path,
        *,
        body: Literal["auto", "hm", "joints"] = "auto",
        window: float = 5.0,
        fov: float = 90.0,
        pixels: int = 512,
    ) -> None:
        """Check the options.

        Args:
            root: the folder that holds `takes.json` and `takes`.
            body: hm (Ego-Exo4D-HM), joints (the annotated ones), or auto: hm where a take has it.
            window: seconds of a clip.
            fov: field of view of the pinhole pictures, degrees from edge to edge.
            pixels: their width and height, before the pictures are fitted to the size of the data set.

        Raises:
            UserError: the folder or its `takes.json` is missing, or an option is out of range.
        """
        self.root = Path(root)
        if not (self.root / "takes.json").is_file():
            raise UserError(f"{root} holds no takes.json; expected the root folder of Ego-Exo4D, with its metadata")
        if body not in ("auto", "hm", "joints"):
            raise UserError(f"body={body}: give auto, hm or joints")
        if not window > 0:
            raise UserError(f"window={window:g}: give a positive number of seconds")
        self.body, self.window, self.view = body, window, ViewConfig(fov, pixels)

    def index(self) -> SourceIndex:
        """All described stretches of the takes on disk that have what is needed."""
        descriptions = _descriptions(self.root)
        splits = _splits(self.root)
        clips: list[ClipRef] = []
        skipped: list[SkippedSequence] = []
        notes: list[SequenceNote] = []
        takes = [each for each in _takes(self.root).values() if (self.root / each.folder).is_dir()]
        if not takes:
            raise UserError(f"{self.root} has none of the takes in its takes.json; expected folders in takes/")
        for take in takes:
            try:
                _body_file(self.root, take, self.body)
                _require(self.root, take)
                if take.uid not in descriptions:
                    raise UserError("no atomic descriptions of it; download the annotations atomic_descriptions")
                times = _frame_times(self.root, take)
                narrated, told = _windows(descriptions[take.uid], self.window, len(times.times_s) / _FPS)
                if not narrated:
                    raise UserError("no description says what the wearer of the glasses does")
            except UserError as error:
                skipped.append(SkippedSequence(take.name, str(error)))
                continue
            notes += [SequenceNote(take.name, note) for note in (*times.notes, *told)]
            split = splits.get(take.uid, "")
            for start, text in narrated:
                at = float(np.interp(start * _FPS, np.arange(len(times.times_s)), times.times_s))
                clips.append(ClipRef(take.name, at, at + self.window, text, split))
        return SourceIndex(clips, skipped, notes)

    def load(self, ref: ClipRef) -> SourceClip:
        """Pictures and body of a stretch.

        Raises:
            UserError: the take or the stretch cannot be used.
        """
        recording = _recording(self.root, ref.sequence, self.body, self.view)
        if isinstance(recording, UserError):
            raise recording
        return recording.clip(ref)


@lru_cache(maxsize=2)
def _takes(root: Path) -> dict[str, Take]:
    entries = _json(root / "takes.json")
    if not isinstance(entries, list):
        raise UserError(f"{root / 'takes.json'} holds no list of takes; download it again")
    return {take.name: take for take in map(Take.from_json, entries)}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); download it again") from error


def _require(root: Path, take: Take) -> None:
    trajectory = f"{take.folder}/trajectory"
    needed = (
        take.video,
        f"{trajectory}/closed_loop_trajectory.csv",
        f"{trajectory}/online_calibration.jsonl",
        f"captures/{take.capture}/timesync.csv",
    )
    missing = [each for each in needed if not (root / each).is_file()]
    if missing:
        raise UserError(f"missing {', '.join(missing)}: download the parts that hold them")


def _body_file(root: Path, take: Take, wanted: str) -> Path:
    """The file of the body: of Ego-Exo4D-HM, or the annotated joints.

    Raises:
        UserError: there is none of the wanted kind.
    """
    candidates = []
    if wanted in ("auto", "hm"):
        candidates.append(root / "hm" / take.name / _HM_FILE)
    if wanted in ("auto", "joints"):
        candidates += [_pose_file(root, split, "body", take.uid, "annotation") for split in _SPLITS]
        candidates += [_pose_file(root, split, "body", take.uid, "automatic") for split in _SPLITS]
    found = next((each for each in candidates if each.is_file()), None)
    if found is None:
        raise UserError(f"no body: neither hm/{take.name}/{_HM_FILE} nor annotations/ego_pose/*/body of {take.uid}")
    return found


def _pose_file(root: Path, split: str, part: str, uid: str, made: str) -> Path:
    return root / "annotations" / "ego_pose" / split / part / made / f"{uid}.json"


def _splits(root: Path) -> dict[str, str]:
    """Split by take uid; empty where the file is missing."""
    path = root / "annotations" / "splits.json"
    if not path.is_file():
        return {}
    found = _json(path).get("take_uid_to_split", {})
    return {str(uid): str(split) for uid, split in found.items() if split in _SPLITS}


def _descriptions(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Descriptions by take uid, of the annotator who wrote most of them.

    Raises:
        UserError: there is no file of them, or it has another layout.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    paths = [root / "annotations" / f"atomic_descriptions_{split}.json" for split in ("train", "val")]
    for path in (each for each in paths if each.is_file()):
        try:
            for uid, annotators in _json(path)["annotations"].items():
                usable = [each["descriptions"] for each in annotators if not each.get("rejected", False)]
                if usable:
                    found[str(uid)] = max(usable, key=len)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} has another layout than atomic descriptions ({error!r}); download it again"
            ) from error
    if not found:
        raise UserError(f"{root} has no annotations/atomic_descriptions_*.json with texts; download those annotations")
    return found


def _windows(
    descriptions: list[dict[str, Any]], window: float, seconds: float
) -> tuple[list[tuple[float, str]], list[str]]:
    """Start (seconds of the take) and text of the windows that contain descriptions of the wearer.

    Each begins one second before the first description that is in no window yet, and its text joins all descriptions
    in it, in order. Descriptions of others, and those that the annotator was unsure of, count for nothing.
    """
    said, others = [], 0
    for each in descriptions:
        text = " ".join(str(each.get("text") or "").split())
        time = each.get("timestamp")
        if each.get("subject", "C") != "C" or each.get("unsure") or not text or not isinstance(time, int | float):
            others += 1
        elif 0.0 <= time <= seconds:
            said.append((float(time), _of_wearer(text)))
    said.sort()
    found: list[tuple[float, str]] = []
    end = 0.0
    while said:
        start = min(max(said[0][0] - _LEAD, end), seconds - window)
        # What lies before the window can only be the rest of a take that is too short for one more.
        texts = [text for time, text in said if start <= time < start + window]
        if start < end or not texts:
            break
        found.append((start, " ".join(dict.fromkeys(texts))))
        end = start + window
        said = [(time, text) for time, text in said if time >= end]
    notes = [f"{others} descriptions are of others, unsure or empty and are left out"] if others else []
    return found, notes


def _of_wearer(text: str) -> str:
    """A sentence; the annotators write C for the wearer of the camera."""
    text = re.sub(r"\bC\b", "the person", text)
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


@dataclass(frozen=True, eq=False)
class _FrameTimes:
    """When the frames of a take were taken, float64 (T,), device clock, seconds."""

    times_s: np.ndarray
    notes: tuple[str, ...]


def _frame_times(root: Path, take: Take) -> _FrameTimes:
    """The rows of the capture's table that belong to a take: as many as its video has frames.

    Descriptions of the layout disagree whether `timesync_end_idx` is the last row or the one behind it, so a video
    may have a frame more or less than the difference.

    Raises:
        UserError: the table lacks the glasses or the rows, does not fit to the video, or its times run back.
    """
    path = root / "captures" / take.capture / "timesync.csv"
    column = f"{take.aria}_214-1_capture_timestamp_ns"
    try:
        table = pd.read_csv(path, usecols=[column])[column].to_numpy(dtype=np.float64) * 1e-9
    except (ValueError, OSError) as error:
        raise UserError(f"{path} has no column {column} of numbers; is it of another capture?") from error
    start, end = take.rows
    frames = VideoHeader.read(root / take.video).frames
    if abs(frames - (end - start)) > 1:
        raise UserError(f"{take.video} has {frames} frames, takes.json speaks of {end - start}; download it again")
    end = start + frames
    if not 0 <= start < end <= len(table):
        raise UserError(f"{path} has {len(table)} rows; the take needs {start} to {end - 1}: it is cut short")
    times = table[start:end]
    known = np.isfinite(times)
    notes: tuple[str, ...] = ()
    if not known.any():
        raise UserError(f"{path} has no time for any frame of the take; drop it")
    if not known.all():
        numbers = np.arange(len(times))
        times = np.interp(numbers, numbers[known], times[known])
        notes = (f"{int((~known).sum())} frames without a time in timesync.csv: interpolated",)
    if (np.diff(times) < 0).any():
        raise UserError(f"{path}: the times of the take run back; its synchronisation failed, drop it")
    return _FrameTimes(times, notes)


@lru_cache(maxsize=2)
def _recording(root: Path, name: str, wanted: str, view: ViewConfig) -> AriaRecording | UserError:
    """A whole take; the error, if it cannot be used, so that it is found only once."""
    try:
        return _read_recording(root, _takes(root)[name], wanted, view)
    except UserError as error:
        return error


def _read_recording(root: Path, take: Take, wanted: str, view_config: ViewConfig) -> AriaRecording:
    _require(root, take)
    trajectory = read_closed_loop(root / take.folder / "trajectory" / "closed_loop_trajectory.csv")
    times = _frame_times(root, take)
    frames = Mp4Frames.timed(root / take.video, times.times_s, None, upright=False)
    middle = float(np.median(times.times_s))
    calibration = read_online_calibration(root / take.folder / "trajectory" / "online_calibration.jsonl")
    view = View(frames, calibration.camera(RGB, middle), view_config)
    path = _body_file(root, take, wanted)
    tracked = _hm(path, times.times_s) if path.suffix == ".npz" else _joints(root, path, take, times.times_s)
    bodies = [Body(start, motion) for start, motion, _ in tracked.parts]
    tracks = []
    for start, _, head in tracked.parts:
        tracks += seen_together(trajectory, start + np.arange(len(head)) / _FPS, head)
    if not tracks:
        raise UserError("the glasses were not localised while the body was seen; drop the take")
    mount = mean_mount(*(np.concatenate([each[side] for each in tracks]) for side in (0, 1)))
    notes = (*trajectory.notes, *tracked.notes, *view.notes, f"glasses on the head: {mount}")
    if abs(tracked.scale - 1.0) > 1e-3:
        notes = (*notes, f"the world is scaled by {tracked.scale:.3f}, from the wearer's height to that of our body")
    return AriaRecording(trajectory, view, tuple(bodies), mount.T_a_b, tracked.scale, notes)


@dataclass(frozen=True, eq=False)
class _Tracked:
    """A body in the world of the trajectory.

    Attributes:
        parts: for each unbroken stretch its start (device clock, seconds), our motion, and the measured poses (N, 4,
            4) of the head.
        scale: factor from the wearer's size to our body's.
        notes: what was mended.
    """

    parts: list[tuple[float, Motion, np.ndarray]]
    scale: float
    notes: tuple[str, ...]


def _hm(path: Path, frame_times: np.ndarray) -> _Tracked:
    """The body of Ego-Exo4D-HM: posture from SMPL-H, places of eyes and joints from its regressed joints."""
    widths = {"root_orient": 3, "pose_body": 63, "trans": 3, "betas_per_frame": 10, "valid": 0}
    data = read_arrays(path, widths)
    joints = _hm_joints(path, len(data["trans"]))
    count = min(len(frame_times), len(joints))
    notes = []
    if len(joints) != len(frame_times):
        notes.append(f"the body has {len(joints)} frames, the take {len(frame_times)}: the first {count} are used")
    valid = data["valid"][:count] == 1
    if not valid.all():
        notes.append(f"{int((~valid).sum())} frames that the fit marks as failed are left out")
    valid &= np.isfinite(joints[:count]).all(axis=(1, 2))
    times, fresh = frame_times[:count], np.diff(frame_times[:count], prepend=-1.0) > 0
    pose = np.concatenate((data["root_orient"], data["pose_body"]), axis=1)[:count]
    track = SmplTrack.from_params(
        str(path), times[fresh], pose[fresh], data["trans"][:count][fresh], data["betas_per_frame"][:count][fresh],
        valid[fresh], notes,
    )  # fmt: skip
    points = {name: joints[:count][valid, joint] for name, joint in _OPENPOSE.items()}
    parts = []
    for start, end in track.spans():
        at = start + np.arange(int((end - start) * _FPS + 1e-6) + 1) / _FPS
        at = at[at <= end]
        motion = track.motion(at, _FPS)
        head = motion.T_world_head()
        eyes = 0.5 * (points["left_eye"] + points["right_eye"])
        head[:, :3, 3] = _at(times[valid], eyes, at)
        parts.append((start, motion, head))
    return _Tracked(parts, body_scale(points), track.notes)


def _hm_joints(path: Path, count: int) -> np.ndarray:
    """Regressed joints (T, 67, 3), metres.

    Raises:
        UserError: they are missing or have another shape.
    """
    with np.load(path, allow_pickle=False) as file:
        joints = file["joints3d"] if "joints3d" in file.files else np.empty(0)
    if joints.ndim == 4 and len(joints) == 1:
        joints = joints[0]
    if joints.shape != (count, 67, 3):
        raise UserError(f"{path}: joints3d has shape {joints.shape}; expected (1, {count}, 67, 3)")
    return joints.astype(np.float64)


def _joints(root: Path, path: Path, take: Take, frame_times: np.ndarray) -> _Tracked:
    """The body from annotated joints, and the hands from theirs where there are any."""
    points = _annotated(path, len(frame_times), (*NEEDED,))
    made, split = path.parent.name, path.parents[2].name
    hand_file = _pose_file(root, split, "hand", take.uid, made)
    fingers = [f"{side}_{name}" for side in ("left", "right") for name in _FINGERS.values()]
    hands = _annotated(hand_file, len(frame_times), tuple(fingers)) if hand_file.is_file() else {}
    filled: dict[str, np.ndarray] = {}
    for name, each in points.items():
        filled[name] = _fill(frame_times, each)
    complete = np.all([np.isfinite(each).all(axis=1) for each in filled.values()], axis=0)
    notes = [f"joints of ego_pose/{split}/body/{made}: {int(complete.sum())} of {len(frame_times)} frames are known"]
    parts = []
    for first, last in _runs(complete & (np.diff(frame_times, prepend=-1.0) > 0)):
        start, end = frame_times[first], frame_times[last]
        if end - start < _SHORTEST:
            continue
        at = start + np.arange(int((end - start) * _FPS + 1e-6) + 1) / _FPS
        here = slice(first, last + 1)
        placed = {name: _at(frame_times[here], each[here], at) for name, each in filled.items()}
        for side in ("left", "right"):
            found = {name: hands.get(f"{side}_{joint}") for name, joint in _FINGERS.items()}
            known = {name: _fill(frame_times, each)[here] for name, each in found.items() if each is not None}
            if len(known) == len(_FINGERS) and all(np.isfinite(each).all() for each in known.values()):
                placed |= {f"{side}_hand_{name}": _at(frame_times[here], each, at) for name, each in known.items()}
        parts.append((float(start), motion_from_keypoints(placed, _FPS), head_poses(placed)))
    if not parts:
        raise UserError(f"{path} has no second in which all of {', '.join(NEEDED[:3])}... and {FACE[0]}... are known")
    whole = {name: each[complete] for name, each in filled.items()}
    return _Tracked(parts, body_scale(whole), tuple(notes))


def _annotated(path: Path, count: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Places (T, 3) of annotated joints, NaN where a frame has none.

    Raises:
        UserError: the file has another layout.
    """
    points = {name: np.full((count, 3), np.nan) for name in names}
    try:
        for key, people in _json(path).items():
            frame = int(key)
            if not people or not 0 <= frame < count:
                continue
            for joint, place in people[0].get("annotation3D", {}).items():
                name = joint.replace("-", "_")
                if name in points:
                    points[name][frame] = place["x"], place["y"], place["z"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} has another layout than ego_pose annotations ({error!r}); download it again"
        ) from error
    return points


def _fill(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (T, 3) with short runs of NaN interpolated in time."""
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if len(known) < 2:
        return values
    filled = _at(times[known], values[known], times)
    gap_after = np.diff(times[known])
    before = np.clip(np.searchsorted(known, np.arange(len(times)), side="right") - 1, 0, len(known) - 2)
    bridged = gap_after[before] <= _MAX_MISSING
    outside = (np.arange(len(times)) < known[0]) | (np.arange(len(times)) > known[-1])
    keep = np.isfinite(values).all(axis=1) | (bridged & ~outside)
    return np.where(keep[:, None], filled, np.nan)


def _at(times: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values (N, 3) at wanted times (N,), linearly between those (T, 3) at rising times (T,)."""
    return np.stack([np.interp(wanted, times, values[:, axis]) for axis in range(3)], axis=-1)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    edges = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    return [(int(a), int(b) - 1) for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)]
