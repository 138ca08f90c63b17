"""What every retargeter does, and the one that fits a robot."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from egotwin_sim.body.retargeting.exact import ExactRetargeter
from egotwin_sim.body.retargeting.mink_retargeter import MinkRetargeter
from egotwin_sim.body.retargeting.table_robot import TableRobot
from egotwin_sim.body.robot import Robot
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import Motion


class Retargeter(Protocol):
    """Turns motions of our skeleton into trajectories of a robot.

    Attributes:
        robot: whose trajectories they are.
        joint_names: its hinges, in the order of the trajectories' columns.
    """

    robot: Robot
    joint_names: tuple[str, ...]

    def retarget(self, motion: Motion, previous: np.ndarray | None = None) -> RobotTrajectory:
        """The trajectory of a whole clip, or of a chunk that goes on one frame after the coordinates `previous`."""
        ...


def retargeter_for(robot: Robot) -> Retargeter:
    """The exact conversion for a robot with our skeleton, inverse kinematics for one with a table.

    Raises:
        UserError: the robot has neither, or its retargeter is not installed.
    """
    if robot.skeleton is not None:
        return ExactRetargeter(robot)
    if isinstance(robot, TableRobot):
        return MinkRetargeter(robot, robot.table)
    raise UserError(f"{robot.name} has neither a skeleton nor a retarget table; load it with find_robot")
