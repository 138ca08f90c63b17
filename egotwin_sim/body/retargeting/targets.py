"""Where the bodies of a robot should be for a motion of ours.

In the table's pose the robot stands as our skeleton does in its rest pose, so each body gets its place and orientation
from there. Written with p, R for our joints, b for the robot's bodies in that pose (soles on the floor, the middle
between its hips over the origin, facing x):

    legs:  leg_scale * p + R @ (b - leg_scale * p_rest), so that a foot that rests on the floor rests on the floor
    torso: from the pelvis up, by the robot's own segments under our rotations
    arms:  shoulder + arm_scale * (p - p_shoulder) + R @ (what is left in that pose)

The orientation of a body is R times its orientation in that pose. A motion in our rest pose gives the table's pose.
"""

from __future__ import annotations

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.feet import find_feet
from egotwin_sim.body.retargeting.table import SIDES, RetargetTable
from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import Motion
from egotwin_sim.motion.skeleton import Skeleton

LEAN = np.deg2rad(30.0)  # how far a limb of the table's pose may point away from where ours does
_LEG = ("hip", "knee", "ankle", "foot")
_ARM = ("shoulder", "elbow", "wrist")


class Targets:
    """Target poses of a table's bodies.

    Args:
        model: the robot alone.
        table: its table.

    Attributes:
        feet: what the robot stands on.
        standing: (nq,) the robot in the table's pose, soles on the floor, the middle between its hips over the origin.
        leg_length: metres from the hips to the floor in that pose.
        arm_length: metres from shoulder to wrist.
        joints: those of ours that it needs.

    Raises:
        UserError: the table does not fit the robot.
    """

    def __init__(self, model: mujoco.MjModel, table: RetargetTable) -> None:
        self.table = table
        table.check(model)
        self.standing = table.in_pose(model)
        data = mujoco.MjData(model)
        data.qpos[:] = self.standing
        mujoco.mj_kinematics(model, data)
        rotation = data.xmat.reshape(-1, 3, 3)
        hips = np.mean([data.body(table.legs[side][0]).xpos for side in SIDES], axis=0)
        self.feet = find_feet(model, self.standing, 1)
        lowest = min(float(foot.points(data)[:, 2].min()) for foot in self.feet)
        shift = -np.array([hips[0], hips[1], lowest])
        self.standing[:3] += shift
        self._position, self._rotation = data.xpos + shift, rotation.copy()
        self.leg_length = float(hips[2] + shift[2])
        self.arm_length = float(np.mean([_limb(data, table.arms[side])[0] for side in SIDES]))
        for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
            _check_direction(table, data, f"{side} leg", table.legs[side], (0.0, 0.0, -1.0))
            _check_direction(table, data, f"{side} arm", table.arms[side], (0.0, sign, 0.0))
        # Parents before children, as the torso is placed from the pelvis up.
        order = sorted(table.match, key=lambda match: model.body(match.body).id)
        self.match = tuple(order)
        scaled = {f"{side}_{joint}" for side in SIDES for joint in ("hip", "shoulder", "wrist")}
        self.joints = {match.joint for match in order} | scaled
        self.bodies = np.array([model.body(match.body).id for match in order])
        self._above = [self._follower(model, model.body_parentid[body]) for body in self.bodies]
        self._shoulders = {side: model.body(table.arms[side][0]).id for side in SIDES}
        self._shoulder_above = {
            side: self._follower(model, model.body_parentid[body]) for side, body in self._shoulders.items()
        }
        self._sole_bodies = np.concatenate([foot.body_of_point for foot in self.feet])
        self._sole_points = np.concatenate([foot.point for foot in self.feet])
        self._sole_radii = np.concatenate([foot.radius for foot in self.feet])
        self._sole_follower = np.array([self._follower(model, body) for body in self._sole_bodies])
        if order[0].joint != "pelvis" or self.bodies[0] != 1:
            raise UserError(
                f"{table.name}: the body with the free joint, {model.body(1).name!r}, must follow our pelvis; say so "
                "in `match`"
            )

    def _follower(self, model: mujoco.MjModel, body: int) -> int:
        """Index into `match` of a body or its nearest ancestor that follows a joint; the root always does."""
        while body > 0:
            found = np.flatnonzero(self.bodies == body)
            if len(found):
                return int(found[0])
            body = int(model.body_parentid[body])
        return 0

    def leg_scale(self, skeleton: Skeleton) -> float:
        """Factor on the legs and the travelled way."""
        if self.table.leg_scale is not None:
            return self.table.leg_scale
        return self.leg_length / float(_rest(skeleton)[skeleton.index["left_hip"], 2])

    def arm_scale(self, skeleton: Skeleton) -> float:
        """Factor on the arms."""
        if self.table.arm_scale is not None:
            return self.table.arm_scale
        rest = _rest(skeleton)
        return self.arm_length / float(
            np.linalg.norm(rest[skeleton.index["left_wrist"]] - rest[skeleton.index["left_shoulder"]])
        )

    def root_height(self, motion: Motion) -> np.ndarray:
        """(T,) target height of the root body, metres, as `poses` gives it without another one."""
        return self._pelvis(motion, *motion.joint_transforms())[:, 2]

    def _pelvis(self, motion: Motion, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        scale = self.leg_scale(motion.skeleton)
        rest = self._position[self.bodies[0]] - scale * _rest(motion.skeleton)[0]
        return scale * position[:, 0] + rotation[:, 0] @ rest

    def poses(
        self, motion: Motion, ground: float = 0.0, root_height: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """World positions (T, M, 3) in metres and orientations (T, M, 3, 3) of the bodies of `match`.

        Args:
            motion: T frames.
            ground: how far everything is lifted, metres.
            root_height: (T,) height of the root body before it is lifted, in place of the motion's.
        """
        skeleton = motion.skeleton
        position, rotation = motion.joint_transforms()
        rest = _rest(skeleton)
        leg, arm = self.leg_scale(skeleton), self.arm_scale(skeleton)
        index = [skeleton.index[match.joint] for match in self.match]
        place = np.empty((len(motion), len(self.match), 3))
        place[:, 0] = self._pelvis(motion, position, rotation)
        if root_height is not None:
            place[:, 0, 2] = root_height
        shoulder: dict[str, np.ndarray] = {}

        def carried(above: int, body: int) -> np.ndarray:
            offset = self._position[body] - self._position[self.bodies[above]]
            return place[:, above] + rotation[:, index[above]] @ offset

        for i, (match, body) in enumerate(zip(self.match[1:], self.bodies[1:], strict=True), start=1):
            side, _, kind = match.joint.partition("_")
            here = index[i]
            if kind in _LEG:
                left = self._position[body] - leg * rest[here]
                place[:, i] = leg * position[:, here] + rotation[:, here] @ left
            elif kind in _ARM:
                root = skeleton.index[f"{side}_shoulder"]
                if side not in shoulder:
                    shoulder[side] = carried(self._shoulder_above[side], self._shoulders[side])
                left = self._position[body] - self._position[self._shoulders[side]] - arm * (rest[here] - rest[root])
                place[:, i] = shoulder[side] + arm * (position[:, here] - position[:, root]) + rotation[:, here] @ left
            else:
                place[:, i] = carried(self._above[i], body)
        place[..., 2] += ground
        return place, rotation[:, index] @ self._rotation[self.bodies]

    def sole_heights(self, motion: Motion) -> np.ndarray:
        """(T,) height of the lowest point of the feet if every body were where `poses` puts it, metres."""
        place, turn = self.poses(motion)
        lead, bodies = self._sole_follower, self._sole_bodies
        # What follows no joint itself moves with its nearest ancestor that does, as in the table's pose.
        turned = turn[:, lead] @ np.swapaxes(self._rotation[self.bodies[lead]], -1, -2)
        offset = self._position[bodies] - self._position[self.bodies[lead]]
        offset += np.einsum("pij,pj->pi", self._rotation[bodies], self._sole_points)
        height = place[:, lead, 2] + np.einsum("tpj,pj->tp", turned[..., 2, :], offset)
        return (height - self._sole_radii).min(axis=1)


def _limb(data: mujoco.MjData, ends: tuple[str, str]) -> tuple[float, np.ndarray]:
    """Length of a limb between two bodies, metres, and its direction (3,)."""
    way = data.body(ends[1]).xpos - data.body(ends[0]).xpos
    length = float(np.linalg.norm(way))
    return length, way / max(length, 1e-9)


def _check_direction(
    table: RetargetTable, data: mujoco.MjData, limb: str, ends: tuple[str, str], expected: tuple[float, ...]
) -> None:
    direction = _limb(data, ends)[1]
    if direction @ np.array(expected) < np.cos(LEAN):
        raise UserError(
            f"{table.name}: in the table's pose the {limb}, {ends[0]} to {ends[1]}, points along {direction.round(2)} "
            f"(x forward, y left, z up); expected about {expected}, as in a T-pose: check `root`, `pose` and the names"
        )


def _rest(skeleton: Skeleton) -> np.ndarray:
    """(J, 3) joints of a skeleton that stands in its rest pose."""
    identity = np.zeros((1, skeleton.num_joints, 4))
    identity[..., 0] = 1.0
    return Motion(np.array([[0.0, 0.0, skeleton.rest_root_height]]), identity, skeleton).joint_transforms()[0][0]
