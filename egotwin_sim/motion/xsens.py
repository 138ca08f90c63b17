"""Reading XSens body motion from the `.npz` files of the Nymeria data set (`body/xdata.npz`).

A file holds, for each of 23 body segments, where its origin is and how it is turned, in a world with z up, 240 times a
second, and the time code of every frame.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.capture import Capture
from egotwin_sim.motion.retarget import Imported, retarget
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_conjugate, quat_multiply, quat_to_matrix, slerp
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.motion.timed import interpolated

SEGMENTS = (
    *("Pelvis", "L5", "L3", "T12", "T8", "Neck", "Head"),
    *("R_Shoulder", "R_UpperArm", "R_Forearm", "R_Hand", "L_Shoulder", "L_UpperArm", "L_Forearm", "L_Hand"),
    *("R_UpperLeg", "R_LowerLeg", "R_Foot", "R_Toe", "L_UpperLeg", "L_LowerLeg", "L_Foot", "L_Toe"),
)
PARENTS = (-1, 0, 1, 2, 3, 4, 5, 4, 7, 8, 9, 4, 11, 12, 13, 0, 15, 16, 17, 0, 19, 20, 21)
HEAD = SEGMENTS.index("Head")
_RATE = 240.0
# A step between two timestamps that differs more from the nominal one is bad, seconds.
_STEP_TOLERANCE = 1e-3
# Missing frames, or frames without a rotation, up to this long are interpolated; a longer stretch is left out, seconds.
_BRIDGE = 0.1
# Shorter quaternions are no rotation: the recorder writes zeros where it had none.
_NO_ROTATION = 0.1
# At both ends the recorder and the suit settle, seconds.
TRIM = 1.0
_SHORTEST = 1.0


@dataclass(frozen=True, eq=False)
class XSensRecording:
    """A recording after repair.

    Attributes:
        source: the file.
        times_s: float64 (T,), rising, time code.
        position: float64 (T, 23, 3), metres, origins of the segments in the recorder's world, z up.
        quat_wxyz: float64 (T, 23, 4), unit length, segment to world.
        rest_quat_wxyz: float64 (23, 4), the same in the T-pose.
        offsets: float64 (23, 3), metres, from the parent's origin in the parent's segment frame.
        stretches: (start, end) indices of frames without a gap between them.
        notes: what was mended or left out, one line each.
    """

    source: str
    times_s: np.ndarray
    position: np.ndarray
    quat_wxyz: np.ndarray
    rest_quat_wxyz: np.ndarray
    offsets: np.ndarray
    stretches: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]

    def spans(self) -> list[tuple[float, float]]:
        """First and last time of every stretch, seconds of time code."""
        return [(float(self.times_s[start]), float(self.times_s[end - 1])) for start, end in self.stretches]

    def at(self, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Segment positions (N, 23, 3) and rotations (N, 23, 4) at times (N,) within one stretch.

        Raises:
            UserError: the times are not within one stretch.
        """
        times_s = np.asarray(times_s, dtype=np.float64)
        for start, end in self.stretches:
            if self.times_s[start] <= times_s.min() and times_s.max() <= self.times_s[end - 1]:
                part = slice(start, end)
                return interpolated(self.times_s[part], self.position[part], self.quat_wxyz[part], times_s)
        raise UserError(
            f"{self.source} has no unbroken motion from {times_s.min():.3f} s to {times_s.max():.3f} s of time code"
        )

    @property
    def head_above_ankles(self) -> float:
        """Height of the head's origin above those of the feet in the T-pose, metres: the size of the wearer."""
        position = np.zeros((len(SEGMENTS), 3))
        for segment, parent in enumerate(PARENTS):
            if parent >= 0:
                position[segment] = (
                    position[parent] + quat_to_matrix(self.rest_quat_wxyz[parent]) @ self.offsets[segment]
                )
        feet = [SEGMENTS.index(name) for name in ("L_Foot", "R_Foot")]
        return float(position[HEAD, 2] - position[feet, 2].mean())

    def capture(self, times_s: np.ndarray, fps: float) -> Capture:
        """The motion at evenly spaced times (N,) within one stretch, in the recorder's world.

        The rest pose is the T-pose, turned about the vertical to face along x.

        Args:
            times_s: (N,), seconds of time code.
            fps: their number per second.

        Raises:
            UserError: the times are not within one stretch.
        """
        position, quat = self.at(times_s)
        rest = quat_multiply(self._to_front(), self.rest_quat_wxyz)
        turned = quat_multiply(quat, quat_conjugate(rest))
        parents = np.array(PARENTS[1:])
        local = turned.copy()
        local[:, 1:] = quat_multiply(quat_conjugate(turned[:, parents]), turned[:, 1:])
        offsets = np.zeros_like(self.offsets)
        offsets[1:] = (quat_to_matrix(rest[parents]) @ self.offsets[1:, :, None])[:, :, 0]
        return Capture(self.source, SEGMENTS, PARENTS, offsets, (), quat_to_matrix(local), {0: position[:, 0]}, fps)

    def _to_front(self) -> np.ndarray:
        """The turn (4,) about the vertical after which the T-pose faces along x: its left hip lies to the left."""
        hips = [SEGMENTS.index(name) for name in ("L_UpperLeg", "R_UpperLeg")]
        left = quat_to_matrix(self.rest_quat_wxyz[0]) @ (self.offsets[hips[0]] - self.offsets[hips[1]])
        return axis_angle_to_quat(np.array([0.0, 0.0, np.arctan2(left[0], left[1])]))


def load_xsens(
    path: str | os.PathLike[str],
    *,
    fps: float = 16.0,
    skeleton: Skeleton | None = None,
    scale: float = 1.0,
    joint_map: Mapping[str, str] | None = None,
) -> Imported:
    """Read the longest unbroken stretch of an XSens `.npz` file and retarget it to our skeleton.

    Args:
        path: the file.
        fps: frames per second of the result.
        skeleton: the body of the result; the default one without it.
        scale: factor on the travelled way, on top of the one that makes the source's legs as long as ours.
        joint_map: our joint names to segments, where the usual ones will not do.

    Returns:
        The motion, in our axes with its feet on the floor, and a report of what was mapped and mended.

    Raises:
        UserError: the file cannot be read, or too little of it is sound.
    """
    recording = read_xsens(path)
    start, end = max(recording.spans(), key=lambda span: span[1] - span[0])
    times = np.arange(start, end, 1.0 / _RATE)
    imported = retarget(recording.capture(times, _RATE), fps=fps, skeleton=skeleton, scale=scale, joint_map=joint_map)
    report = replace(imported.report, notes=(*recording.notes, *imported.report.notes))
    return Imported(imported.motion, report)


def read_xsens(path: str | os.PathLike[str]) -> XSensRecording:
    """Read an XSens `.npz` file and mend it.

    Timestamps that stray from 240 Hz and come back are put in line; gaps of up to 0.1 s are closed by interpolation,
    longer ones split the recording. Quaternions without length, and positions that are not finite, are interpolated
    over up to 0.1 s; a longer run is left out. One second at either end is left out. The notes say how much of each
    there was.

    Raises:
        UserError: the file is missing, is no such file, or too little of it is sound.
    """
    path = Path(path)
    data = _load(path)
    times, notes = _times(path, data["timestamps_us"])
    count = len(times)
    position = data["segment_tXYZ"].reshape(count, len(SEGMENTS), 3).astype(np.float64)
    quat = data["segment_qWXYZ"].reshape(count, len(SEGMENTS), 4).astype(np.float64)
    rest = np.tile([1.0, 0.0, 0.0, 0.0], (len(SEGMENTS), 1))
    if "tpose_segment_qWXYZ" in data:
        rest = data["tpose_segment_qWXYZ"].reshape(len(SEGMENTS), 4).astype(np.float64)
        length = np.linalg.norm(rest, axis=1, keepdims=True)
        if not (np.isfinite(rest).all() and (length > _NO_ROTATION).all()):
            raise UserError(
                f"{path}: the T-pose has a quaternion without length; the calibration is broken, drop the file"
            )
        rest = rest / length

    usable = _mend(times, position, quat, notes)
    breaks = np.flatnonzero(np.diff(times) > _BRIDGE + 1.0 / _RATE) + 1
    inside = (times >= times[0] + TRIM) & (times <= times[-1] - TRIM)
    stretches, short = [], 0
    for start, end in _runs(usable & inside, breaks):
        if times[end - 1] - times[start] >= _SHORTEST:
            stretches.append((start, end))
        else:
            short += end - start
    if short:
        notes.append(f"{short} frames lie in stretches shorter than {_SHORTEST:g} s and are left out")
    if not stretches:
        raise UserError(f"{path}: no second of its {times[-1] - times[0]:.1f} s is sound ({'; '.join(notes)}); drop it")
    offsets = _offsets(position, quat, stretches)
    return XSensRecording(str(path), times, position, quat, rest, offsets, tuple(stretches), tuple(notes))


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file that are used, of the right shapes."""
    if not path.is_file():
        raise UserError(f"{path} is missing; expected the XSens recording, download the group that holds the body")
    wanted = {"timestamps_us": 1, "segment_tXYZ": 3 * len(SEGMENTS), "segment_qWXYZ": 4 * len(SEGMENTS)}
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {name: file[name] for name in (*wanted, "tpose_segment_qWXYZ") if name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as .npz ({error}); download it again") from error
    missing = [name for name in wanted if name not in data]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; expected an XSens recording of {len(SEGMENTS)} segments")
    count = len(data["timestamps_us"])
    for name, width in wanted.items():
        if data[name].size != count * width:
            raise UserError(
                f"{path}: {name} has shape {data[name].shape}; expected {width} numbers for each of {count} frames"
            )
    if count < 2 * TRIM * _RATE:
        raise UserError(f"{path} has {count} frames; expected more than the {TRIM:g} s that are cut off at each end")
    return data


def _times(path: Path, timestamps_us: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Times (T,) in seconds, and notes of what was mended."""
    if not np.isfinite(timestamps_us).all():
        raise UserError(f"{path}: timestamps_us is not finite everywhere; drop the file")
    times = np.asarray(timestamps_us, dtype=np.float64).reshape(-1) * 1e-6
    step = 1.0 / _RATE
    bad = np.abs(np.diff(times) - step) > _STEP_TOLERANCE
    if not bad.any():
        return times, []
    starts = np.concatenate(([0], np.flatnonzero(bad) + 1))
    ends = np.concatenate((starts[1:], [len(times)]))
    even = ends - starts > _BRIDGE * _RATE
    if not even.any():
        raise UserError(f"{path}: its timestamps never keep {_RATE:g} Hz for {_BRIDGE:g} s; drop the file")
    # What lies between two long even runs is laid evenly if the second run goes on where the first would have got to,
    # or if its own times are nonsense; what lies before the first and after the last run is laid evenly too.
    notes, mended = [], 0
    first, last = starts[even][0], ends[even][-1] - 1
    laid = [(0, first, times[first] - first * step), (last + 1, len(times), times[last] + step)]
    for before, after in zip(ends[even][:-1] - 1, starts[even][1:], strict=True):
        goes_on = abs(times[after] - times[before] - (after - before) * step) <= _STEP_TOLERANCE
        nonsense = times[after] > times[before] and (np.diff(times[before : after + 1]) <= 0).any()
        if goes_on or nonsense:
            laid.append((before + 1, after, times[before] + step))
    for start, end, time in laid:
        place = time + np.arange(end - start) * step
        mended += int((np.abs(times[start:end] - place) > _STEP_TOLERANCE).sum())
        times[start:end] = place
    if mended:
        notes.append(f"{mended} timestamps strayed from {_RATE:g} Hz and were put in line")
    steps = np.diff(times)
    if (steps <= 0).any():
        frame = int(np.argmax(steps <= 0))
        raise UserError(
            f"{path}: the clock runs back by {1000 * -steps[frame]:.1f} ms after frame {frame}; the recorder was "
            "restarted: drop the file"
        )
    gaps = steps[np.abs(steps - step) > _STEP_TOLERANCE]
    small, large = gaps[gaps <= _BRIDGE + step], gaps[gaps > _BRIDGE + step]
    if len(small):
        notes.append(
            f"{len(small)} gaps of up to {_BRIDGE:g} s between timestamps ({small.sum():.3f} s) are interpolated"
        )
    if len(large):
        notes.append(f"{len(large)} longer gaps between timestamps ({large.sum():.2f} s) split the recording")
    return times, notes


def _mend(times: np.ndarray, position: np.ndarray, quat: np.ndarray, notes: list[str]) -> np.ndarray:
    """Interpolate short runs of missing segments in place.

    Returns:
        bool (T,), where every segment is known.
    """
    length = np.linalg.norm(quat, axis=-1)
    known = (length > _NO_ROTATION) & np.isfinite(quat).all(axis=-1) & np.isfinite(position).all(axis=-1)
    quat[:] = np.where(known[..., None], quat / np.where(known, length, 1.0)[..., None], [1.0, 0.0, 0.0, 0.0])
    usable = np.ones(len(times), dtype=bool)
    mended = 0
    for segment in np.flatnonzero(~known.all(axis=0)):
        for start, end in _runs(~known[:, segment], np.array([], dtype=int)):
            if start == 0 or end == len(times) or times[end] - times[start - 1] > _BRIDGE + 1.0 / _RATE:
                usable[start:end] = False
                continue
            before, after = start - 1, end
            fraction = (times[start:end] - times[before]) / (times[after] - times[before])
            quat[start:end, segment] = slerp(quat[before, segment], quat[after, segment], fraction)
            way = position[after, segment] - position[before, segment]
            position[start:end, segment] = position[before, segment] + fraction[:, None] * way
            mended += end - start
    if mended:
        notes.append(f"{mended} zero quaternions or missing positions in short runs were interpolated")
    if not usable.all():
        notes.append(
            f"{int((~usable).sum())} frames with zero quaternions or missing positions in long runs are left out"
        )
    return usable


def _runs(mask: np.ndarray, breaks: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of every run of True in a mask (T,); a run also ends at each of the breaks."""
    edges = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    runs = []
    for start, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        cuts = [start, *breaks[(breaks > start) & (breaks < end)], end]
        runs += [(int(a), int(b)) for a, b in zip(cuts, cuts[1:], strict=False)]
    return runs


def _offsets(position: np.ndarray, quat: np.ndarray, stretches: list[tuple[int, int]]) -> np.ndarray:
    """Offsets (23, 3) from each parent, in its segment frame: medians over the recording, in which they are fixed."""
    frames = np.concatenate([np.arange(start, end, 24) for start, end in stretches])
    offsets = np.zeros((len(SEGMENTS), 3))
    for segment, parent in enumerate(PARENTS):
        if parent >= 0:
            way = position[frames, segment] - position[frames, parent]
            rotation = quat_to_matrix(quat[frames, parent])
            offsets[segment] = np.median((np.swapaxes(rotation, -1, -2) @ way[:, :, None])[:, :, 0], axis=0)
    return offsets
