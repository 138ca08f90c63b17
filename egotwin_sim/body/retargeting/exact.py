"""Retargeting to our own body: joint rotations become hinge angles, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.feet import find_feet
from egotwin_sim.body.kinematics import BodyKinematics
from egotwin_sim.body.retargeting.floor import floor_report
from egotwin_sim.body.trajectory import RetargetReport, RobotTrajectory, velocities
from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import Motion, same_skeleton

if TYPE_CHECKING:
    from egotwin_sim.body.robot import Robot


class ExactRetargeter:
    """Converts motions of the robot's own skeleton. Nothing is moved, clipped or smoothed; the report says what is off.

    Args:
        robot: a robot with a skeleton, such as `our_robot()`.

    Raises:
        UserError: the robot has no skeleton.
    """

    def __init__(self, robot: Robot) -> None:
        if robot.skeleton is None:
            raise UserError(
                f"{robot.name} has no skeleton of ours, so no motion converts exactly; use MinkRetargeter with a table"
            )
        self.robot, self.skeleton = robot, robot.skeleton
        self.model = robot.make_spec().compile()
        self._kinematics = BodyKinematics(self.model, self.skeleton)
        self._feet = find_feet(self.model, self.model.qpos0, 1)
        hinges = np.flatnonzero(self.model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE)
        self.joint_names = tuple(self.model.joint(int(hinge)).name for hinge in hinges)

    def retarget(self, motion: Motion, previous: np.ndarray | None = None) -> RobotTrajectory:
        """The robot's trajectory for a motion.

        Args:
            motion: T frames on the robot's skeleton.
            previous: (7 + n,) coordinates one frame before the first, whose turns and branches the angles continue.

        Raises:
            UserError: the motion belongs to another skeleton, or `previous` has another shape or is not finite.
        """
        if not same_skeleton(motion.skeleton, self.skeleton):
            raise UserError(
                "the motion belongs to another skeleton than the robot; make the robot from motion.skeleton, or give "
                "the importer the robot's skeleton"
            )
        if previous is not None:
            previous = np.asarray(previous, dtype=np.float64)
            if previous.shape != (self.model.nq,) or not np.isfinite(previous).all():
                raise UserError(
                    f"the previous coordinates have shape {previous.shape}; expected ({self.model.nq},), finite: those "
                    f"of {self.robot.name} one frame before the motion"
                )
        qpos = self._kinematics.qpos_from_motion(motion, previous)
        floor = floor_report(self.model, self._feet, qpos, motion.fps)
        report = RetargetReport(
            ik_error_mm=0.0,
            limit_hits=self._kinematics.limit_excess(qpos),
            foot_slide_m_s=floor.slide_m_s,
            penetration_mm=floor.penetration_mm,
            contacts=floor.contacts,
        )
        so_far = qpos if previous is None else np.concatenate([previous[None], qpos])
        qvel = velocities(self.model, so_far, motion.fps)[-len(qpos) :]
        return RobotTrajectory(qpos, qvel, motion.fps, self.joint_names, report)
