"""Where Aria glasses were and how their cameras are calibrated: the SLAM output of Project Aria's MPS.

Layout of the files: Project Aria's documentation, "MPS output - Trajectory" and "MPS output - Calibration". Times are
those of the glasses' own clock (`tracking_timestamp_us`, the device clock), in seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from egotwin_sim.data.convert.fisheye import FisheyeCamera
from egotwin_sim.errors import UserError
from egotwin_sim.motion.timed import interpolated, pose_matrices

RGB = "camera-rgb"
_UNIT_TOLERANCE = 1e-2
# Between two poses that are further apart the way is not known well enough to interpolate, seconds. MPS writes 1000 a
# second.
_MAX_GAP = 0.1
# Gravity that leans more from the world's vertical is that of another kind of world, cosine of 5 degrees.
_LEVEL = np.cos(np.radians(5.0))
_CAMERA_MODEL = "FisheyeRadTanThinPrism"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of a pair of glasses in one world, z up.

    Attributes:
        source: the file, for messages.
        times_s: float64 (T,), rising, device clock.
        position: float64 (T, 3), metres, of the device frame's origin in the world.
        quat_wxyz: float64 (T, 4), device to world.
        notes: what was mended.
    """

    source: str
    times_s: np.ndarray
    position: np.ndarray
    quat_wxyz: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """T."""
        return len(self.times_s)

    @cached_property
    def spans(self) -> list[tuple[float, float]]:
        """First and last time of every stretch in which the glasses were never lost."""
        breaks = np.flatnonzero(np.diff(self.times_s) > _MAX_GAP)
        starts, ends = np.concatenate(([0], breaks + 1)), np.concatenate((breaks, [len(self) - 1]))
        return [(float(self.times_s[a]), float(self.times_s[b])) for a, b in zip(starts, ends, strict=True)]

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Poses T_world_device (N, 4, 4) at any times (N,): positions linearly, rotations by slerp.

        Raises:
            UserError: a time lies outside the recording, or in a stretch without poses.
        """
        times_s = np.asarray(times_s, dtype=np.float64)
        start, end = float(times_s.min()), float(times_s.max())
        if not any(first <= start and end <= last for first, last in self.spans):
            raise UserError(
                f"{self.source} has no poses all the way from {start:.3f} s to {end:.3f} s; it has them from "
                f"{self.times_s[0]:.3f} s to {self.times_s[-1]:.3f} s, with {len(self.spans) - 1} gaps"
            )
        position, quat = interpolated(self.times_s, self.position, self.quat_wxyz, times_s)
        return pose_matrices(position, quat)


@dataclass(frozen=True, eq=False)
class OnlineCalibration:
    """Camera calibrations over time, as MPS estimated them.

    Attributes:
        source: the file, for messages.
        times_s: float64 (N,), rising, device clock.
        cameras: for each time, the cameras by label.
    """

    source: str
    times_s: np.ndarray
    cameras: tuple[dict[str, FisheyeCamera], ...]

    def camera(self, label: str, time_s: float) -> FisheyeCamera:
        """The calibration of a camera nearest in time.

        Raises:
            UserError: there is none of that label.
        """
        known = [i for i, cameras in enumerate(self.cameras) if label in cameras]
        if not known:
            labels = sorted({name for cameras in self.cameras for name in cameras})
            raise UserError(f"{self.source} has no calibration of {label}; it has {', '.join(labels) or 'none at all'}")
        nearest = min(known, key=lambda i: abs(self.times_s[i] - time_s))
        return self.cameras[nearest][label]


def read_closed_loop(path: Path) -> Trajectory:
    """Read `closed_loop_trajectory.csv`: the poses that loop closure made consistent over the whole recording.

    A recording that was lost and found again has several worlds (`graph_uid`), with nothing to tie one to another:
    the one with the most poses is used, and a note says what was left out.

    Raises:
        UserError: the file is missing, lacks a column, or holds something that is no trajectory (it names file and
            row).
    """
    return _read_trajectory(path, "graph_uid", "world")


def read_open_loop(path: Path) -> Trajectory:
    """Read `open_loop_trajectory.csv`: odometry, smooth but with drift, in a world of its own (`session_uid`).

    Raises:
        UserError: as `read_closed_loop`.
    """
    return _read_trajectory(path, "session_uid", "odometry")


def _read_trajectory(path: Path, group: str, world: str) -> Trajectory:
    path = Path(path)
    position = [f"t{axis}_{world}_device" for axis in "xyz"]
    quat = [f"q{axis}_{world}_device" for axis in "wxyz"]
    gravity = [f"gravity_{axis}_{world}" for axis in "xyz"]
    needed = ["tracking_timestamp_us", *position, *quat]
    if not path.is_file():
        raise UserError(f"{path} is missing; expected the SLAM output of MPS, download the group that holds it")
    try:
        table = pd.read_csv(path, usecols=lambda name: name in (*needed, group, *gravity), dtype={group: "string"})
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as a trajectory ({error}); download it again") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; is it another file of MPS?")
    if len(table) < 2:
        raise UserError(f"{path} has {len(table)} poses; expected at least 2: the recording was not localised")
    notes: list[str] = []
    if group in table:
        sizes = table[group].value_counts()
        if len(sizes) > 1:
            table = table[table[group] == sizes.index[0]]
            notes.append(
                f"{Path(path).name} has {len(sizes)} worlds; the largest is used, {int(sizes.iloc[1:].sum())} of "
                f"{int(sizes.sum())} poses are not"
            )
    _require_finite(path, table[needed])
    times = table[needed[0]].to_numpy(dtype=np.float64) * 1e-6
    if (np.diff(times) <= 0).any():
        row = int(np.argmax(np.diff(times) <= 0))
        raise UserError(
            f"{path}: the timestamp {table[needed[0]].iloc[row + 1]} follows {table[needed[0]].iloc[row]}; expected "
            "rising ones: the recording's clock was reset, drop the sequence"
        )
    rotation = table[quat].to_numpy(dtype=np.float64)
    length = np.linalg.norm(rotation, axis=1)
    if (np.abs(length - 1.0) > _UNIT_TOLERANCE).any():
        row = int(np.argmax(np.abs(length - 1.0)))
        raise UserError(f"{path}: the quaternion at {times[row]:.6f} s has the length {length[row]:.3g}; expected 1")
    if all(name in table for name in gravity):
        down = np.median(table[gravity].to_numpy(dtype=np.float64), axis=0)
        if not -down[2] >= _LEVEL * np.linalg.norm(down) > 0:
            raise UserError(f"{path}: gravity is {down.round(2).tolist()}; expected a world whose z axis points up")
    return Trajectory(
        str(path), times, table[position].to_numpy(dtype=np.float64), rotation / length[:, None], tuple(notes)
    )


def _require_finite(path: Path, table: pd.DataFrame) -> None:
    good = np.isfinite(table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64))
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise UserError(
            f"{path}: {table.columns[column]} in row {row + 1} is {table.iloc[row, column]}; expected a finite number"
        )


def read_online_calibration(path: Path) -> OnlineCalibration:
    """Read `online_calibration.jsonl`: one JSON record a line, with the calibration of every camera.

    Raises:
        UserError: the file is missing, a line is no such record (it names the line), or the times do not rise.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is missing; expected the calibration that MPS writes beside the trajectory")
    times, cameras = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            times.append(int(record["tracking_timestamp_us"]) * 1e-6)
            cameras.append(_cameras(record))
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{path}:{number} is no calibration record ({error!r}); download the file again") from error
    if not times:
        raise UserError(f"{path} is empty; expected one record a line")
    if (np.diff(times) <= 0).any():
        raise UserError(f"{path}: the timestamps of its records do not rise; download the file again")
    return OnlineCalibration(str(path), np.array(times), tuple(cameras))


def _cameras(record: dict) -> dict[str, FisheyeCamera]:
    """The cameras of a record whose model is known, by label."""
    found = {}
    entries = record["CameraCalibrations"]
    sizes = record.get("ImageSizes") or []
    for i, entry in enumerate(entries):
        if entry["Projection"]["Name"] != _CAMERA_MODEL:
            continue
        pose = entry["T_Device_Camera"]
        w, (x, y, z) = pose["UnitQuaternion"]
        T_device_camera = pose_matrices(
            np.array([pose["Translation"]], dtype=np.float64), np.array([[w, x, y, z]], dtype=np.float64)
        )[0]
        size = None
        if len(sizes) == len(entries):
            width, height = sizes[i]
            size = int(width), int(height)
        found[str(entry["Label"])] = FisheyeCamera.from_aria(entry["Projection"]["Params"], T_device_camera, size)
    return found
