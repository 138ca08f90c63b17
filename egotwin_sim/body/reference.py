"""The reference: where the joints shall be at any time, growing while it is followed."""

from __future__ import annotations

from bisect import bisect_right

import mujoco
import numpy as np

from egotwin_sim.body.trajectory import ROOT_QPOS, RobotTrajectory
from egotwin_sim.errors import UserError

SEAM_SPEED = 1.5, 4.0  # m/s and rad/s at which a large jump may fade out, in the mean
LONGEST_SEAM = 1.0  # seconds
_SAME_TIME = 1e-6  # seconds


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The step (6 + n,) from coordinates a to b (7 + n,), in the tangent space at a."""
    step = np.empty(len(a) - 1)
    step[:3] = b[:3] - a[:3]
    mujoco.mju_subQuat(step[3:6], b[3:7], a[3:7])
    step[6:] = b[7:] - a[7:]
    return step


def moved(a: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Coordinates (7 + n,) after a step (6 + n,) from a."""
    out = np.empty(len(a))
    out[:3] = a[:3] + step[:3]
    out[3:7] = a[3:7]
    mujoco.mju_quatIntegrate(out[3:7], step[3:6], 1.0)
    out[7:] = a[7:] + step[6:]
    return out


class Reference:
    """Joint coordinates over the simulation's time.

    Between two frames it is the cubic that has the frames' coordinates and velocities, in the tangent space of the
    earlier frame: at constant velocity that is linear for hinges and position, and slerp for the rotation. Beyond its
    end it holds the last pose. It belongs to one thread.

    Args:
        joint_names: the n hinges of the body.
        qpos: (7 + n,), held until there is more.
        blend_seconds: in which a jump between what was there and what is appended fades out; a large one takes longer,
            up to a second if there is as much of it, so that no body is thrown.
        time_s: the present.
    """

    def __init__(
        self, joint_names: tuple[str, ...], qpos: np.ndarray, blend_seconds: float, time_s: float = 0.0
    ) -> None:
        self.joint_names, self._blend = joint_names, blend_seconds
        self._times: list[float] = []
        self._qpos: list[np.ndarray] = []
        self._qvel: list[np.ndarray] = []
        self._steps: list[np.ndarray | None] = []  # from each knot to the next, once it was needed
        self.clear(qpos, time_s)

    def clear(self, qpos: np.ndarray, t: float) -> None:
        """Forgets everything and holds a pose (7 + n,) from time t on."""
        held = np.array(qpos, dtype=np.float64)
        expected = ROOT_QPOS + len(self.joint_names)
        if held.shape != (expected,) or not np.isfinite(held).all():
            raise UserError(f"the pose to hold has shape {held.shape}; expected ({expected},), all finite")
        self._present = float(t)
        self._times, self._qpos = [float(t)], [held]
        self._qvel, self._steps = [np.zeros(expected - 1)], [None]
        self._latest: tuple[float, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None

    @property
    def present(self) -> float:
        """The latest time that was asked for."""
        return self._present

    @property
    def end_time(self) -> float:
        """Time of the last frame."""
        return self._times[-1]

    def underrun(self, t: float) -> bool:
        """Whether the reference has nothing more to say at time t."""
        return t > self.end_time + _SAME_TIME

    def append(self, trajectory: RobotTrajectory, at: float | None = None) -> None:
        """Adds a trajectory; what was there from its first frame on is replaced.

        A jump, in coordinates or in velocity, between the reference so far and the trajectory is spread over the
        trajectory's first `blend_seconds`. Where there is a gap of that length at least, it is bridged instead.

        Args:
            trajectory: of this body; joints are matched by name.
            at: time of its first frame. None: one frame after the end, or the present, if that is later.

        Raises:
            UserError: the trajectory belongs to another body, or begins before the present.
        """
        trajectory = trajectory.for_joints(self.joint_names)
        if at is None:
            at = max(self.end_time + 1.0 / trajectory.fps, self._present)
        if not np.isfinite(at) or at < self._present - _SAME_TIME:
            raise UserError(
                f"the trajectory begins at {at:.3f} s, and it is {self._present:.3f} s already; give a later time, or "
                "leave out the frames that are past"
            )
        blend = self._blend
        times = at + np.arange(len(trajectory)) / trajectory.fps
        qpos, qvel = trajectory.qpos.copy(), trajectory.qvel.copy()
        if self.underrun(self._present):  # it has stood still since
            self._add(self._present, self._qpos[-1], np.zeros_like(self._qvel[-1]))
        before = self._at(min(at, self.end_time))
        gap = max(0.0, at - self.end_time)
        if gap < blend:
            if gap < _SAME_TIME:
                offset, rate = difference(qpos[0], before[0]), before[1] - qvel[0]
            else:
                # Frames a step apart differ by about the steps on either side, the less so the more those differ from
                # one another. What is beyond that is the jump.
                last, coming = self._last_step(), qvel[0] if len(qpos) < 2 else difference(*qpos[:2]) * trajectory.fps
                offset = difference(qpos[0], moved(before[0], gap * 0.5 * (last + coming)))
                offset -= np.clip(offset, -gap * np.abs(coming - last), gap * np.abs(coming - last))
                rate = np.zeros_like(offset)
            metres, radians = np.abs(offset[:3]).max(), np.abs(offset[3:]).max()
            longest = max(blend, min(LONGEST_SEAM, trajectory.duration))
            blend = min(max(blend, metres / SEAM_SPEED[0], radians / SEAM_SPEED[1]), longest)
            for i, time in enumerate(times):
                if time - at >= blend:
                    break
                s = (time - at) / blend
                value, slope = (1 - s) ** 2 * (1 + 2 * s), blend * s * (1 - s) ** 2
                rise, turn = -6 * s * (1 - s) / blend, (1 - s) * (1 - 3 * s)
                qpos[i] = moved(qpos[i], value * offset + slope * rate)
                qvel[i] += rise * offset + turn * rate
            if gap >= _SAME_TIME:  # alone, the trajectory does not know how its first frame was reached
                qvel[0] = 0.5 * (qvel[0] + difference(before[0], qpos[0]) / gap)
        self._cut(at)
        for time, pose, velocity in zip(times, qpos, qvel, strict=True):
            self._add(float(time), pose, velocity)
        self._forget()
        self._latest = None

    def sample(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """The reference at a time: qpos (7 + n,) and qvel (6 + n,). The time becomes the present.

        Raises:
            UserError: the time is before what is still known.
        """
        return self.sample_with_acceleration(t)[:2]

    def sample_with_acceleration(self, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `sample`, and qacc (6 + n,), which jumps at the frames."""
        if t < self._times[0] - _SAME_TIME:
            raise UserError(f"the reference is known from {self._times[0]:.3f} s on; {t:.3f} s was asked")
        self._present = max(self._present, t)
        if self._latest is None or self._latest[0] != t:
            self._latest = t, self._at(t)
        return self._latest[1]

    def _at(self, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        last = len(self._times) - 1
        if t >= self._times[last]:
            rest = np.zeros_like(self._qvel[last])
            still = t > self._times[last] + _SAME_TIME
            return self._qpos[last].copy(), rest if still else self._qvel[last].copy(), rest
        i = max(0, bisect_right(self._times, t) - 1)
        step = self._steps[i]
        if step is None:
            step = self._steps[i] = difference(self._qpos[i], self._qpos[i + 1])
        h = self._times[i + 1] - self._times[i]
        s = (t - self._times[i]) / h
        first, second = self._qvel[i], self._qvel[i + 1]
        way = (s * s * (3 - 2 * s)) * step + (h * s * (1 - s) ** 2) * first - (h * s * s * (1 - s)) * second
        rate = (6 * s * (1 - s) / h) * step + ((1 - s) * (1 - 3 * s)) * first + (s * (3 * s - 2)) * second
        change = ((6 - 12 * s) / h**2) * step + ((6 * s - 4) / h) * first + ((6 * s - 2) / h) * second
        return moved(self._qpos[i], way), rate, change

    def _last_step(self) -> np.ndarray:
        """The velocity (6 + n,) of the step to the last frame."""
        if len(self._times) < 2:
            return self._qvel[-1]
        return difference(self._qpos[-2], self._qpos[-1]) / (self._times[-1] - self._times[-2])

    def _add(self, time: float, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self._times.append(time)
        self._qpos.append(qpos)
        self._qvel.append(qvel)
        self._steps.append(None)

    def _cut(self, at: float) -> None:
        """Ends the reference just before a time."""
        keep = bisect_right(self._times, at - _SAME_TIME)
        del self._times[keep:], self._qpos[keep:], self._qvel[keep:], self._steps[keep:]
        if self._steps:
            self._steps[-1] = None

    def _forget(self) -> None:
        """Drops what lies before the present, up to the last frame before it."""
        past = bisect_right(self._times, self._present) - 1
        if past > 0:
            del self._times[:past], self._qpos[:past], self._qvel[:past], self._steps[:past]
