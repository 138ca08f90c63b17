"""What a robot's joints shall do: coordinates and velocities at a fixed rate, with a report of where they came from."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.files import replacing
from egotwin_sim.motion.rotations import slerp

ROOT_QPOS, ROOT_QVEL = 7, 6  # numbers of a free joint: position and quaternion; linear and angular velocity
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class RetargetReport:
    """What retargeting could not keep.

    Attributes:
        ik_error_mm: mean distance of the robot's bodies from where the motion wants them; 0 for an exact conversion.
        limit_hits: hinges that leave their limits, with the largest excess in radians; inverse kinematics keeps them,
            and names those that reach one, with 0.
        foot_slide_m_s: mean horizontal speed of planted feet.
        penetration_mm: how deep the feet get under the floor at most.
        contacts: bool (T, feet), whether each foot is planted; None where nobody looked.
    """

    ik_error_mm: float = 0.0
    limit_hits: dict[str, float] | None = None
    foot_slide_m_s: float = 0.0
    penetration_mm: float = 0.0
    contacts: np.ndarray | None = None


@dataclass(frozen=True, eq=False, repr=False)
class RobotTrajectory:
    """Joint coordinates of one robot over time.

    Attributes:
        qpos: float64 (T, 7 + n): root position (metres), root quaternion (wxyz), hinge angles (radians).
        qvel: float64 (T, 6 + n): root velocity (m/s, world axes), its angular velocity (rad/s, body axes), hinges.
        fps: frames per second.
        joint_names: n hinges, in the order of the columns.
        report: of the retargeting that made it, if one did.

    Raises:
        UserError: a width does not fit, a value is not finite, or a quaternion is not of unit length.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    fps: float
    joint_names: tuple[str, ...]
    report: RetargetReport | None = None

    def __post_init__(self) -> None:
        """Convert to float64 and check."""
        qpos, qvel = np.asarray(self.qpos, dtype=np.float64), np.asarray(self.qvel, dtype=np.float64)
        names = tuple(str(name) for name in self.joint_names)
        for name, value in (("qpos", qpos), ("qvel", qvel), ("fps", float(self.fps)), ("joint_names", names)):
            object.__setattr__(self, name, value)
        count = len(names)
        if len(set(names)) != count:
            raise UserError("a trajectory names a joint twice; give every joint one column")
        if qpos.ndim != 2 or len(qpos) == 0 or qpos.shape[1] != ROOT_QPOS + count:
            raise UserError(
                f"qpos has shape {qpos.shape}; expected (T, {ROOT_QPOS + count}) for {count} joints, T >= 1"
            )
        if qvel.shape != (len(qpos), ROOT_QVEL + count):
            raise UserError(f"qvel has shape {qvel.shape}; expected ({len(qpos)}, {ROOT_QVEL + count})")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise UserError(f"fps is {self.fps}; expected a positive number of frames per second")
        for name, value in (("qpos", qpos), ("qvel", qvel)):
            if not np.isfinite(value).all():
                frame = int(np.argmin(np.isfinite(value).all(axis=1)))
                raise UserError(f"{name} of the trajectory is not finite at frame {frame}; repair or cut it there")
        length = np.linalg.norm(qpos[:, 3:7], axis=1)
        if (np.abs(length - 1.0) > _UNIT_TOLERANCE).any():
            frame = int(np.argmax(np.abs(length - 1.0)))
            raise UserError(f"the root's quaternion at frame {frame} has length {length[frame]:.4g}; expected 1 (wxyz)")

    def __repr__(self) -> str:
        """The size, not the numbers."""
        return f"RobotTrajectory({len(self)} frames, {len(self.joint_names)} joints, {self.fps:g} frames/s)"

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.qpos)

    def __getitem__(self, item: slice) -> RobotTrajectory:
        """A part of the trajectory, without the report."""
        return replace(self, qpos=self.qpos[item], qvel=self.qvel[item], report=None)

    @property
    def duration(self) -> float:
        """Seconds between the first and the last frame."""
        return (len(self) - 1) / self.fps

    def for_joints(self, names: Sequence[str]) -> RobotTrajectory:
        """The trajectory with its columns in another order.

        Raises:
            UserError: the trajectory belongs to another body: joints are missing, or it has others.
        """
        names = tuple(names)
        if names == self.joint_names:
            return self
        missing = [name for name in names if name not in self.joint_names]
        unknown = [name for name in self.joint_names if name not in names]
        if missing or unknown:
            told = [f"has no {', '.join(missing[:3])}" * bool(missing), f"has {', '.join(unknown[:3])}" * bool(unknown)]
            raise UserError(
                f"the trajectory belongs to another body: it {' and '.join(part for part in told if part)} "
                f"({len(self.joint_names)} joints, the body {len(names)}); retarget the motion to this body"
            )
        columns = np.array([self.joint_names.index(name) for name in names], dtype=int)
        order = [np.concatenate([np.arange(root), root + columns]) for root in (ROOT_QPOS, ROOT_QVEL)]
        return replace(self, qpos=self.qpos[:, order[0]], qvel=self.qvel[:, order[1]], joint_names=names)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` file: beside the target first, then renamed, so a reader never sees half a file."""
        path = Path(path)
        if not path.parent.is_dir():
            raise UserError(f"{path.parent} is not a folder; create it before saving {path.name} there")
        told: dict[str, np.ndarray] = {}
        if self.report is not None:
            hits = self.report.limit_hits or {}
            told = {
                "report": np.array(
                    [self.report.ik_error_mm, self.report.foot_slide_m_s, self.report.penetration_mm], dtype=np.float64
                ),
                "limit_names": np.array(list(hits), dtype=np.str_),
                "limit_excess": np.array(list(hits.values()), dtype=np.float64),
            }
            if self.report.contacts is not None:
                told["contacts"] = self.report.contacts
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                qpos=self.qpos,
                qvel=self.qvel,
                fps=np.array(self.fps),
                joint_names=np.array(self.joint_names, dtype=np.str_),
                **told,
            )

    @staticmethod
    def load(path: str | os.PathLike[str]) -> RobotTrajectory:
        """Read what `save` wrote. Nothing is unpickled.

        Raises:
            UserError: the file is missing, is no `.npz` file, or holds no trajectory.
        """
        if not Path(path).is_file():
            raise UserError(f"{path} is not a file; expected a trajectory saved as .npz")
        try:
            with np.load(path, allow_pickle=False) as data:
                report = None
                if "report" in data:
                    error, slide, depth = (float(value) for value in data["report"])
                    hits = zip(data["limit_names"], data["limit_excess"], strict=True)
                    contacts = np.asarray(data["contacts"]) if "contacts" in data else None
                    report = RetargetReport(error, {str(k): float(v) for k, v in hits}, slide, depth, contacts)
                names = tuple(str(name) for name in data["joint_names"])
                return RobotTrajectory(data["qpos"], data["qvel"], float(data["fps"]), names, report)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (KeyError, ValueError, TypeError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} holds no trajectory ({error}); expected a file of RobotTrajectory.save") from error


def velocities(model: mujoco.MjModel, qpos: np.ndarray, fps: float) -> np.ndarray:
    """Velocities of joint coordinates, the mean of the steps before and after each frame.

    Args:
        model: the robot alone, nq = 7 + n.
        qpos: (T, 7 + n).
        fps: frames per second.

    Returns:
        float64 (T, 6 + n), as MuJoCo has them; zero if there is one frame. The first and the last frame have the
        velocity of their only step.
    """
    qpos = np.asarray(qpos, dtype=np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != model.nq:
        raise UserError(f"qpos has shape {qpos.shape}; expected (T, {model.nq})")
    count = len(qpos)
    steps = np.zeros((2, count, model.nv))
    for t in range(count - 1):
        mujoco.mj_differentiatePos(model, steps[0, t], 1.0 / fps, qpos[t], qpos[t + 1])
        mujoco.mj_differentiatePos(model, steps[1, t + 1], -1.0 / fps, qpos[t + 1], qpos[t])
    if count > 1:
        steps[1, 0], steps[0, -1] = steps[0, 0], steps[1, -1]
    return steps.mean(axis=0)


def timed_trajectory(
    times_s: np.ndarray, qpos: np.ndarray, joint_names: Sequence[str], fps: float, model: mujoco.MjModel
) -> RobotTrajectory:
    """A trajectory at a fixed rate of points at any times: hinges and position linearly, rotations by slerp.

    Args:
        times_s: (T,), seconds, increasing.
        qpos: (T, 7 + n) at those times.
        joint_names: n hinges, in the order of the columns.
        fps: of the result, whose first frame is the first point; the last one is no later than the last point.
        model: the robot alone.

    Raises:
        UserError: the times do not increase, or something is not finite or of another shape.
    """
    times = np.asarray(times_s, dtype=np.float64)
    points = RobotTrajectory(qpos, np.zeros((len(qpos), ROOT_QVEL + len(joint_names))), fps, tuple(joint_names))
    if times.shape != (len(points),):
        raise UserError(f"{times.shape} times for {len(points)} points; give one time for each")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise UserError("the times of a trajectory must be finite and increase; sort the points, drop repeated ones")
    due = times[0] + np.arange(int((times[-1] - times[0]) * fps + 1e-6) + 1) / fps
    before = np.clip(np.searchsorted(times, due, side="right") - 1, 0, max(len(times) - 2, 0))
    after = np.minimum(before + 1, len(times) - 1)
    share = np.clip((due - times[before]) / np.where(after > before, times[after] - times[before], 1.0), 0.0, 1.0)
    out = points.qpos[before] + share[:, None] * (points.qpos[after] - points.qpos[before])
    out[:, 3:7] = slerp(points.qpos[before, 3:7], points.qpos[after, 3:7], share)
    ordered = RobotTrajectory(out, np.zeros((len(out), ROOT_QVEL + len(joint_names))), fps, points.joint_names)
    return replace(ordered, qvel=velocities(model, out, fps))
