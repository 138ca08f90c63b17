"""A robot's trajectory as a `trajectory_msgs/JointTrajectory`, with the root as seven further joints.

Standard messages carry hinges only. The root, which has no other place in one message with them, is given as joints
whose names say what they are, so no order of a quaternion has to be agreed upon: `root_x` to `root_z` in metres and
`root_qw` to `root_qz`, in the frame of the header. A trajectory without them leaves the root where it is.
"""

from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Duration
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.trajectory import ROOT_QVEL, RobotTrajectory, timed_trajectory
from egotwin_sim.errors import UserError

from .messages import NANOSECONDS, stamp_ns, time_message

ROOT_JOINTS = ("root_x", "root_y", "root_z", "root_qw", "root_qx", "root_qy", "root_qz")
# Points that are not evenly spaced in time are resampled at this rate, frames per second.
RESAMPLED_FPS = 60.0
MAX_SECONDS = 600.0
_EVEN = 1e-4  # seconds by which even spacing may be missed


def trajectory_message(trajectory: RobotTrajectory, stamp: int, frame_id: str) -> JointTrajectory:
    """The message of a trajectory whose first frame is due at the stamp, nanoseconds; 0 means as soon as possible."""
    message = JointTrajectory(joint_names=[*ROOT_JOINTS, *trajectory.joint_names])
    message.header.stamp, message.header.frame_id = time_message(stamp), frame_id
    for frame, qpos in enumerate(trajectory.qpos):
        since = round(frame * NANOSECONDS / trajectory.fps)
        message.points.append(
            JointTrajectoryPoint(
                positions=array("d", qpos.tobytes()),
                time_from_start=Duration(sec=since // NANOSECONDS, nanosec=since % NANOSECONDS),
            )
        )
    return message


def trajectory_of(message: JointTrajectory, robot: RobotModel, root_now: np.ndarray) -> tuple[RobotTrajectory, float]:
    """What a message says, for this robot; velocities are computed from the positions.

    Args:
        message: hinges of the robot in any order, with the root or without it.
        robot: what it must fit.
        root_now: (7,) position and quaternion wxyz, for a message without the root.

    Returns:
        The trajectory at an even rate, and seconds from the message's stamp to its first frame.

    Raises:
        UserError: joints that the robot has not, or not all that it has, times that decrease, NaN, or no point.
    """
    names = list(message.joint_names)
    with_root = [name for name in ROOT_JOINTS if name in names]
    if with_root and len(with_root) < len(ROOT_JOINTS):
        raise UserError(f"the trajectory has only {', '.join(with_root)} of the root; give all of "
                        f"{', '.join(ROOT_JOINTS)}, or none")  # fmt: skip
    times, positions = _points(message, len(names))
    column = {name: positions[:, n] for n, name in enumerate(names)}
    root = [column[name] for name in ROOT_JOINTS] if with_root else list(np.tile(root_now, (len(times), 1)).T)
    hinges = tuple(name for name in names if name not in ROOT_JOINTS)
    qpos = np.stack([*root, *(positions[:, n] for n, name in enumerate(names) if name not in ROOT_JOINTS)], axis=1)
    still = np.zeros((len(qpos), ROOT_QVEL + len(hinges)))
    ordered = RobotTrajectory(qpos, still, RESAMPLED_FPS, hinges).for_joints(robot.joint_names).qpos
    last = np.append(np.diff(times) > 0, True)  # of points of one time, the last one holds
    trajectory = timed_trajectory(times[last], ordered[last], robot.joint_names, _rate(times[last]), robot.bare)
    return trajectory, float(times[0])


def _points(message: JointTrajectory, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds from the stamp (T,) and positions (T, width) of a message's points."""
    if not message.points:
        raise UserError("the trajectory has no points; give at least one")
    for n, point in enumerate(message.points):
        if len(point.positions) != width:
            raise UserError(f"point {n} has {len(point.positions)} positions; expected {width}, one a joint")
    positions = np.array([point.positions for point in message.points], dtype=np.float64)
    if not np.isfinite(positions).all():
        bad = int(np.argmin(np.isfinite(positions).all(axis=1)))
        raise UserError(f"point {bad} of the trajectory holds NaN or infinity; expected finite numbers")
    times = np.array([stamp_ns(point.time_from_start) / NANOSECONDS for point in message.points])
    if times[0] < 0 or (np.diff(times) < 0).any():
        bad = 0 if times[0] < 0 else int(np.argmax(np.diff(times) < 0)) + 1
        raise UserError(f"point {bad} of the trajectory comes before the one before it (time_from_start "
                        f"{times[bad]:.3f} s); expected times that do not decrease, from 0")  # fmt: skip
    if times[-1] > MAX_SECONDS:
        raise UserError(f"the trajectory lasts {times[-1]:g} s; expected at most {MAX_SECONDS:g}")
    return times, positions


def _rate(times: np.ndarray) -> float:
    """The points' own frames per second where they are evenly spaced, else `RESAMPLED_FPS`."""
    steps = np.diff(times)
    return 1.0 / float(steps.mean()) if len(steps) and np.ptp(steps) < _EVEN else RESAMPLED_FPS
