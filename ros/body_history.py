"""The body at the moment of a picture, from joint states and root poses that come at other moments."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState

from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import slerp

from .messages import NANOSECONDS, pose_matrix, quat_wxyz, stamp_ns

KEPT = 200  # readings: two seconds at 100 Hz
UNPAIRED = 20  # messages that may wait for the other one of their stamp
LONGEST_GAP_NS = NANOSECONDS // 10  # between two readings that a moment is interpolated in


class BodyHistory:
    """Pairs joint states and root poses by stamp, and tells the body's coordinates at any recent moment.

    Args:
        joint_names: hinges, in the order of the coordinates.
    """

    def __init__(self, joint_names: tuple[str, ...]) -> None:
        self._names = joint_names
        self._stamps: deque[int] = deque(maxlen=KEPT)
        self._qpos: deque[np.ndarray] = deque(maxlen=KEPT)
        self._roots: dict[int, np.ndarray] = {}
        self._joints: dict[int, np.ndarray] = {}

    @property
    def newest(self) -> int | None:
        """Stamp of the newest reading, nanoseconds."""
        return self._stamps[-1] if self._stamps else None

    def add_root(self, message: PoseStamped) -> int | None:
        """Take a root pose in; the stamp, if the reading of its moment is whole now.

        Raises:
            UserError: a pose that is none.
        """
        pose_matrix(message.pose)  # checks
        position = message.pose.position
        root = np.array([position.x, position.y, position.z, *quat_wxyz(message.pose.orientation)])
        return self._add(self._roots, root, stamp_ns(message.header.stamp))

    def add_joints(self, message: JointState) -> int | None:
        """Take joint states in; the stamp, if the reading of its moment is whole now.

        Raises:
            UserError: other hinges than the body's, or a number that is not finite.
        """
        if tuple(message.name) != self._names:
            at = {name: n for n, name in enumerate(message.name)}
            if set(at) != set(self._names):
                raise UserError(
                    f"the joint states are of another body: {len(at)} such as {', '.join(list(at)[:3])}; expected "
                    f"{len(self._names)} such as {', '.join(self._names[:3])}: give both nodes the same body"
                )
            positions = np.array([message.position[at[name]] for name in self._names])
        else:
            positions = np.array(message.position)
        if not np.isfinite(positions).all():
            raise UserError("the joint states hold NaN or infinity")
        return self._add(self._joints, positions, stamp_ns(message.header.stamp))

    def _add(self, kind: dict[int, np.ndarray], values: np.ndarray, stamp: int) -> int | None:
        kind[stamp] = values
        if stamp not in self._roots or stamp not in self._joints:
            while len(kind) > UNPAIRED:
                kind.pop(next(iter(kind)))
            return None
        if self._stamps and stamp <= self._stamps[-1]:
            self.clear_readings()
        self._stamps.append(stamp)
        self._qpos.append(np.concatenate([self._roots.pop(stamp), self._joints.pop(stamp)]))
        return stamp

    def clear_readings(self) -> None:
        """Forget what was before: the clock has gone back."""
        self._stamps.clear()
        self._qpos.clear()

    def at(self, stamp: int) -> np.ndarray | None:
        """The body's coordinates (7 + n,) at a moment; None where no readings lie around it (yet)."""
        stamps = list(self._stamps)
        after = bisect_left(stamps, stamp)
        if after == len(stamps):
            return None
        if stamps[after] == stamp:
            return self._qpos[after]
        if after == 0 or stamps[after] - stamps[after - 1] > LONGEST_GAP_NS:
            return None
        first, second = self._qpos[after - 1], self._qpos[after]
        share = (stamp - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        between = first + share * (second - first)
        between[3:7] = slerp(first[3:7], second[3:7], share)
        return between
