"""A camera's trajectory, and its exchange with SLAM programs as a TUM file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.files import replacing
from egotwin_sim.motion.rotations import matrix_to_quat, quat_to_matrix

_RIGID_TOLERANCE = 1e-3
_TUM_COLUMNS = "timestamp tx ty tz qx qy qz qw"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of a camera over the frames of a video, as far as they could be recovered.

    Attributes:
        times_s: float64 (T,), seconds, increasing.
        T_world_camera: float64 (T, 4, 4), optical frame (z forward, x right, y down) to a world that the method chose;
            NaN where nothing was recovered. The unit is the metre only where the method knows it.
        recovered: bool (T,), the frames whose pose is known.
        inliers: share of the evidence that agrees with the poses, 0 to 1; None where the method has no such number.

    Raises:
        UserError: shapes do not belong together, times do not increase, or a recovered pose is no rigid pose.
    """

    times_s: np.ndarray
    T_world_camera: np.ndarray
    recovered: np.ndarray
    inliers: float | None = None

    def __post_init__(self) -> None:
        """Convert and check; poses that are not recovered become NaN, so that nobody computes with them."""
        times = np.array(self.times_s, dtype=np.float64)
        poses = np.array(self.T_world_camera, dtype=np.float64)
        recovered = np.array(self.recovered, dtype=bool)
        if times.ndim != 1 or poses.shape != (len(times), 4, 4) or recovered.shape != times.shape:
            raise UserError(
                f"a trajectory of times {times.shape}, poses {poses.shape} and recovered {recovered.shape}; expected "
                "(T,), (T, 4, 4) and (T,)"
            )
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise UserError("the times of a trajectory must be finite and increase; sort them and drop repeated ones")
        rotation = poses[recovered, :3, :3]
        rigid = np.abs(rotation @ rotation.swapaxes(-1, -2) - np.eye(3)).max(axis=(-2, -1), initial=0.0)
        whole = np.isfinite(poses[recovered]).all(axis=(-2, -1)) & (rigid < _RIGID_TOLERANCE)
        whole &= np.linalg.det(np.where(whole[:, None, None], rotation, np.eye(3))) > 0
        if not whole.all():
            frame = int(np.flatnonzero(recovered)[np.argmin(whole)])
            raise UserError(f"the pose of frame {frame} is no rigid pose; expected a rotation and a finite position")
        poses[~recovered] = np.nan
        for name, value in (("times_s", times), ("T_world_camera", poses), ("recovered", recovered)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.times_s)

    @classmethod
    def of(cls, T_world_camera: np.ndarray, fps: float) -> Trajectory:
        """A trajectory that is known at every frame, from its poses (T, 4, 4)."""
        count = len(T_world_camera)
        return cls(np.arange(count) / fps, T_world_camera, np.ones(count, dtype=bool))

    @classmethod
    def lost(cls, count: int, fps: float) -> Trajectory:
        """A trajectory of `count` frames of which nothing could be recovered."""
        return cls(np.arange(count) / fps, np.full((count, 4, 4), np.nan), np.zeros(count, dtype=bool))

    def at(self, times_s: np.ndarray) -> Trajectory:
        """The poses at other times (N,): of the nearest frame that is at most half a step of those times away.

        Nothing is interpolated: a time without a frame of its own is not recovered.
        """
        wanted = np.asarray(times_s, dtype=np.float64)
        reach = 0.5 * float(np.diff(wanted).min()) if len(wanted) > 1 else np.inf
        poses, recovered = np.full((len(wanted), 4, 4), np.nan), np.zeros(len(wanted), dtype=bool)
        for i, time in enumerate(wanted if len(self) else ()):
            nearest = int(np.argmin(np.abs(self.times_s - time)))
            if self.recovered[nearest] and abs(self.times_s[nearest] - time) < reach:
                poses[i], recovered[i] = self.T_world_camera[nearest], True
        return Trajectory(wanted, poses, recovered, self.inliers)


def write_tum(trajectory: Trajectory, path: str | Path) -> None:
    """Write the recovered poses as a TUM file (`timestamp tx ty tz qx qy qz qw`, camera to world, one line a frame).

    The format of the TUM RGB-D benchmark (Sturm et al. 2012), read by evo and written by most SLAM programs.

    Raises:
        UserError: the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is not a folder; create it before writing {path.name} there")
    rows = [f"# {_TUM_COLUMNS}"]
    for time, pose in zip(
        trajectory.times_s[trajectory.recovered], trajectory.T_world_camera[trajectory.recovered], strict=True
    ):
        w, x, y, z = matrix_to_quat(pose[:3, :3])
        rows.append(" ".join(f"{value:.9f}" for value in (time, *pose[:3, 3], x, y, z, w)))
    with replacing(path) as partial:
        partial.write_text("\n".join(rows) + "\n")


def read_tum(path: str | Path) -> Trajectory:
    """Read a TUM file; every line is a recovered frame. A file without lines is a trajectory of no frame.

    Raises:
        UserError: no such file, a line without eight numbers, a quaternion whose length is not 1 (KITTI and
            COLMAP files, which look alike, fail here), or times that do not increase.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); give a TUM file ({_TUM_COLUMNS})") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.replace(",", " ").split()
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 8 or not np.isfinite(row).all():
            raise UserError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not a pose; expected eight numbers ({_TUM_COLUMNS})"
            )
        if abs(np.linalg.norm(row[4:]) - 1) > 1e-2:
            raise UserError(
                f"{path}, line {number}: the quaternion (columns 5 to 8, qx qy qz qw) has length "
                f"{np.linalg.norm(row[4:]):.3f}, expected 1; check the order of the columns"
            )
        if rows and row[0] <= rows[-1][0]:
            raise UserError(
                f"{path}, line {number}: time {row[0]:g} does not come after {rows[-1][0]:g}; sort the file"
            )
        rows.append(row)
    values = np.array(rows, dtype=np.float64).reshape(-1, 8)
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3, 3] = values[:, 1:4]
    quat_wxyz = values[:, [7, 4, 5, 6]]
    poses[:, :3, :3] = quat_to_matrix(quat_wxyz / np.linalg.norm(quat_wxyz, axis=-1, keepdims=True))
    return Trajectory(values[:, 0], poses, np.ones(len(values), dtype=bool))
