"""Retargeting to any humanoid by differential inverse kinematics (mink, the extra `ik`).

Two passes a frame, as GMR does it (github.com/YanjieZe/GMR): the first turns the limbs and brings pelvis and feet to
their places, the second moves hands and elbows as well. Each pass is warm-started and ends when the error hardly
decreases. The hinges' limits are constraints of the problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.retargeting.floor import floor_report
from egotwin_sim.body.retargeting.table import RetargetTable
from egotwin_sim.body.retargeting.targets import Targets
from egotwin_sim.body.trajectory import RetargetReport, RobotTrajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import Motion
from egotwin_sim.motion.rotations import matrix_to_quat

if TYPE_CHECKING:
    from egotwin_sim.body.robot import Robot

PASSES = 2
# Of the heights of the lower foot, the floor is a low one, but not the lowest: where a foot rolls off its toes, a stiff
# sole dips under the floor for a few frames, and lifting a clip by those would let it float in all others.
FLOOR_PERCENTILE = 25.0
AT_LIMIT = 1e-3  # radians from its limit at which a hinge sits at it
SMOOTHING_SECONDS = 1 / 16  # the root's height is averaged over this time before and after


@dataclass(frozen=True)
class SolverConfig:
    """When the inverse kinematics is content.

    Attributes:
        decrease: a pass ends when a step lowers the weighted error by less than this share.
        steps: or after this many steps.
        first_steps: the limit for the first frame of a clip, which starts from the robot at ease.
        largest_step: radians; a step that turns a hinge farther is shortened, or an arm would leap to where it cannot
            come back from.
        damping: of the steps, in the unit of a squared weight per radian.
        posture: weight of the table's rest pose, per radian: it leads hinges out of the corners between their limits,
            where an arm would else be caught for seconds.
    """

    decrease: float = 1e-2
    steps: int = 10
    first_steps: int = 100
    largest_step: float = 0.3
    damping: float = 0.5
    posture: float = 0.3


@dataclass(frozen=True)
class _Stream:
    """What chunks of one stream share.

    Attributes:
        ground: how far the first chunk was lifted, metres.
        root_height: (K,) targets of the last frames, metres, neither smoothed nor lifted.
    """

    ground: float
    root_height: np.ndarray


class MinkRetargeter:
    """Retargets motions of our skeleton to a robot by its table.

    Lengths are scaled by `Targets`. A clip is lifted as a whole until its lower foot stands on the floor, and the
    root's height is smoothed; a chunk that goes on from `previous` is lifted as the stream's first chunk was. A
    retargeter therefore serves one stream at a time.

    Args:
        robot: the robot.
        table: which body follows which joint.
        config: of the solver.

    Raises:
        UserError: mink or daqp is not installed, or the table does not fit the robot.
    """

    def __init__(self, robot: Robot, table: RetargetTable, config: SolverConfig | None = None) -> None:
        if any(find_spec(name) is None for name in ("mink", "daqp")):
            raise UserError(
                f"retargeting to {robot.name} needs mink and daqp, which are not installed; "
                "pip install 'egotwin_sim[ik]'"
            )
        import mink

        class FrameTask(mink.FrameTask):
            """Adds its own product to the problem: that of all rows at once is so large that BLAS wakes its threads."""

            def compute_qp_residual(self, configuration: Any) -> Any:
                return None

        class PostureTask(mink.PostureTask):
            """The same."""

            def compute_qp_residual(self, configuration: Any) -> Any:
                return None

        self.robot, self.table = robot, table
        self.config = SolverConfig() if config is None else config
        self.model = robot.make_spec().compile()
        self.targets = Targets(self.model, table)
        hinge = self.model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
        self.joint_names = tuple(self.model.joint(int(i)).name for i in np.flatnonzero(hinge))
        limited = self.model.jnt_limited[hinge].astype(bool)[:, None]
        self._range = np.where(limited, self.model.jnt_range[hinge], [[-np.inf, np.inf]])
        self._driven = self._hinges_that_move(self.targets.bodies)[np.flatnonzero(hinge)]
        self._stream: _Stream | None = None
        self._mink = mink
        self._configuration = mink.Configuration(self.model)
        self._limits = [mink.ConfigurationLimit(self.model)]
        self._posture = PostureTask(self.model, self.config.posture)
        self._posture.set_target(table.at_rest(self.model))
        self._passes: list[list[tuple[int, Any]]] = []
        for step in range(PASSES):
            tasks = []
            for i, match in enumerate(self.targets.match):
                if match.position[step] > 0.0 or match.rotation[step] > 0.0:
                    task = FrameTask(match.body, "body", match.position[step], match.rotation[step])
                    tasks.append((i, task))
            self._passes.append(tasks)

    def retarget(self, motion: Motion, previous: np.ndarray | None = None) -> RobotTrajectory:
        """The robot's trajectory for a motion.

        Args:
            motion: T frames of a skeleton with our joints.
            previous: (7 + n,) coordinates one frame before the first; None begins a new clip.

        Raises:
            UserError: the skeleton lacks a joint of the table, or `previous` has another shape or is not finite.
        """
        start = None if previous is None else self._checked(previous)
        place, turn, self._stream = self._aim(motion, None if previous is None else self._stream)
        if start is None:
            start = self._start(place[0, 0], turn[0, 0])
        self._configuration.update(start)
        qpos, error = self._follow(place, turn, self.config.first_steps if previous is None else self.config.steps)
        floor = floor_report(self.model, self.targets.feet, qpos, motion.fps)
        report = RetargetReport(
            ik_error_mm=1000.0 * error,
            limit_hits=self._limit_hits(qpos),
            foot_slide_m_s=floor.slide_m_s,
            penetration_mm=floor.penetration_mm,
            contacts=floor.contacts,
        )
        so_far = qpos if previous is None else np.concatenate([start[None], qpos])
        qvel = velocities(self.model, so_far, motion.fps)[-len(qpos) :]
        return RobotTrajectory(qpos, qvel, motion.fps, self.joint_names, report)

    def wanted(self, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
        """Where the bodies of `targets.match` should be in a clip: positions (T, M, 3), orientations (T, M, 3, 3)."""
        place, turn, _ = self._aim(motion, None)
        return place, turn

    def _aim(self, motion: Motion, stream: _Stream | None) -> tuple[np.ndarray, np.ndarray, _Stream]:
        """Target poses of the bodies, and what the next chunk needs to know."""
        missing = sorted(self.targets.joints - motion.skeleton.index.keys())
        if missing:
            raise UserError(
                f"{self.robot.name} follows {', '.join(missing)}, which the motion's skeleton lacks; it has "
                f"{', '.join(motion.skeleton.names)}"
            )
        ground = self._lift(motion) if stream is None else stream.ground
        before = np.zeros(0) if stream is None else stream.root_height
        height = self.targets.root_height(motion)
        radius = max(1, round(SMOOTHING_SECONDS * motion.fps))
        place, turn = self.targets.poses(motion, ground, _smoothed(height, before[-radius:], radius))
        return place, turn, _Stream(ground, np.concatenate([before, height])[-radius:])

    def _start(self, place: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """At ease (nq,), with the root where the first frame wants it."""
        qpos = self.table.at_rest(self.model)
        qpos[:3] = place
        mujoco.mju_mat2Quat(qpos[3:7], turn.ravel())
        return qpos

    def _checked(self, previous: np.ndarray) -> np.ndarray:
        qpos = np.array(previous, dtype=np.float64)
        length = np.linalg.norm(qpos[3:7]) if qpos.shape == (self.model.nq,) else 0.0
        if not (np.isfinite(qpos).all() and length > 0.5):
            raise UserError(
                f"the previous coordinates have shape {qpos.shape}; expected ({self.model.nq},), finite, with a unit "
                f"quaternion: those of {self.robot.name} one frame before the motion"
            )
        qpos[3:7] /= length
        return qpos

    def _lift(self, motion: Motion) -> float:
        """How far a clip must be lifted for its feet to stand on the floor, metres."""
        return -float(np.percentile(self.targets.sole_heights(motion), FLOOR_PERCENTILE))

    def _follow(self, place: np.ndarray, turn: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
        """Coordinates (T, nq), and the mean distance of the bodies from where they should be, metres."""
        targets = np.concatenate([matrix_to_quat(turn), place], axis=-1)
        positioned = [i for i, match in enumerate(self.targets.match) if match.position[-1] > 0.0]
        bodies = self.targets.bodies[positioned]
        qpos, errors = np.empty((len(place), self.model.nq)), np.empty(len(place))
        for t in range(len(place)):
            for tasks in self._passes:
                self._solve(tasks, targets[t], self.config.steps if t else steps)
            qpos[t] = self._configuration.q
            missed = self._configuration.data.xpos[bodies] - place[t, positioned]
            errors[t] = np.linalg.norm(missed, axis=1).mean()
        return qpos, float(errors.mean())

    def _solve(self, tasks: list[tuple[int, Any]], targets: np.ndarray, steps: int) -> None:
        """Moves the configuration towards the targets (M, 7), quaternion and position, until little is gained."""
        configuration = self._configuration
        for i, task in tasks:
            task.set_target(self._mink.SE3(targets[i]))
        moving = [*(task for _, task in tasks), self._posture]
        error = _weighted_error(moving, configuration)
        for _ in range(steps):
            before = configuration.q.copy()
            step = self._mink.solve_ik(
                configuration, moving, 1.0, "daqp", damping=self.config.damping, limits=self._limits
            )
            largest = float(np.abs(step[6:]).max(initial=0.0))
            configuration.integrate_inplace(step * min(1.0, self.config.largest_step / max(largest, 1e-12)), 1.0)
            last, error = error, _weighted_error(moving, configuration)
            if error > last:
                configuration.update(before)
            if error > (1.0 - self.config.decrease) * last:
                break

    def _hinges_that_move(self, bodies: np.ndarray) -> np.ndarray:
        """Bool (njnt,): whether a joint moves one of the bodies. Fingers that follow nothing stay as they are."""
        moving = np.zeros(self.model.nbody, dtype=bool)
        for body in bodies:
            while body > 0:
                moving[body] = True
                body = self.model.body_parentid[body]
        return moving[self.model.jnt_bodyid]

    def _limit_hits(self, qpos: np.ndarray) -> dict[str, float]:
        """Hinges that reach their limits, with the largest excess in radians."""
        angles = qpos[:, 7:]
        excess = np.maximum(self._range[:, 0] - angles, angles - self._range[:, 1]).max(axis=0)
        return {
            name: max(0.0, float(value))
            for name, value, driven in zip(self.joint_names, excess, self._driven, strict=True)
            if driven and value > -AT_LIMIT
        }


def _weighted_error(tasks: list[Any], configuration: Any) -> float:
    return float(np.linalg.norm(np.concatenate([task.cost * task.compute_error(configuration) for task in tasks])))


def _smoothed(height: np.ndarray, before: np.ndarray, radius: int) -> np.ndarray:
    """A low-pass of heights (T,) over `radius` frames to either side, `before` being those just before.

    Where a side has no frames, the curve is continued as its mirror image through the end point, which keeps its
    slope: neither end of a clip is pulled away.
    """
    window = np.hanning(2 * radius + 3)[1:-1]
    known = np.concatenate([before, height])
    padded = np.pad(known, (radius - len(before), radius), mode="reflect", reflect_type="odd")
    return np.convolve(padded, window / window.sum(), mode="valid")
