"""Between the motions that are dreamt and the robot that carries them out: there, and back as measured."""

from __future__ import annotations

import numpy as np

from egotwin_sim.body.kinematics import BodyKinematics
from egotwin_sim.body.retargeting import MinkRetargeter, Retargeter, retargeter_for
from egotwin_sim.body.robot import Robot
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import quat_to_matrix, yaw_of


class Puppet:
    """Turns dreamt motions into a robot's trajectories, chunk after chunk, and its coordinates into motions.

    A robot of other proportions walks as many steps as the dream, and so another way: its way is the dream's, scaled,
    from the place where both began. What is measured of it is scaled back, so that the dream sees a world of its own
    size; its pose is taken to be the one that was asked for, for the way back from its hinges is not unique.

    Args:
        robot: the robot.
        start: one frame, where the dream and the robot begin.

    Attributes:
        start_qpos: (7 + n,), the robot as it begins.
        scale: metres that the robot travels for one metre of the dream.

    Raises:
        UserError: there is no retargeter for the robot, or it is not installed.
    """

    def __init__(self, robot: Robot, start: Motion) -> None:
        self._retargeter: Retargeter = retargeter_for(robot)
        self._exact: BodyKinematics | None = None
        self.scale = 1.0
        if robot.skeleton is not None:
            self._exact = BodyKinematics(robot.make_spec().compile(), robot.skeleton)
        elif isinstance(self._retargeter, MinkRetargeter):
            self.scale = self._retargeter.targets.leg_scale(start.skeleton)
        first = self._retargeter.retarget(start[-1:]).qpos[0]
        # The robot begins above the same place, wherever scaling would put it.
        self._offset = np.zeros(2) if self._exact else start.root_position[-1, :2] - first[:2]
        self._previous = first
        self.start_qpos = self._placed(first[None])[0]

    def trajectory(self, before: Motion, motion: Motion) -> RobotTrajectory:
        """The robot's trajectory for the frames that follow `before`, going on from the chunk before.

        Args:
            before: one frame.
            motion: T frames.
        """
        # The frame before is retargeted too, so that a dream that was moved meanwhile gives no wrong velocity.
        whole = self._retargeter.retarget(Motion.concatenate([before, motion]), self._previous)
        self._previous = whole.qpos[-1]
        moved = RobotTrajectory(self._placed(whole.qpos), whole.qvel, whole.fps, whole.joint_names, whole.report)
        return moved[1:]

    def measured(self, qpos: np.ndarray, wanted: np.ndarray, expected: Motion) -> Motion:
        """The body as a motion of one frame, in the world of the dream.

        Args:
            qpos: (7 + n,), as the robot is.
            wanted: (7 + n,), as it should be.
            expected: one frame, the motion that it should be as.
        """
        if self._exact is not None:
            return self._exact.motion_from_qpos(qpos[None], expected.fps)
        heading, intended = (float(yaw_of(quat_to_matrix(pose[3:7]))) for pose in (qpos, wanted))
        turned = expected.transformed(heading - intended)
        there = expected.root_position[0, :2] + (qpos[:2] - wanted[:2]) / self.scale
        return turned.transformed(0.0, [*(there - turned.root_position[0, :2]), 0.0])

    def motion(self, qpos: np.ndarray, fps: float) -> Motion | None:
        """Coordinates (T, 7 + n) as a motion; None for a robot of other proportions."""
        return None if self._exact is None else self._exact.motion_from_qpos(qpos, fps)

    def _placed(self, qpos: np.ndarray) -> np.ndarray:
        placed = qpos.copy()
        placed[:, :2] += self._offset
        return placed
