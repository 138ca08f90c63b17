"""Exact conversion between a motion and the joint coordinates of the MuJoCo humanoid."""

from __future__ import annotations

import mujoco
import numpy as np

from egotwin_sim.body.humanoid import hinge_axes, hinge_names
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import matrix_to_quat, quat_to_matrix
from egotwin_sim.motion.skeleton import Skeleton

# cos of the middle angle below which the outer and inner hinge axes count as parallel.
_SINGULAR = 1e-7


class BodyKinematics:
    """Maps motions to `qpos` of a model that holds the humanoid, and back. Joints are matched by name.

    Args:
        model: a compiled model with the bodies and hinges of `build_humanoid`.
        skeleton: the skeleton that it was built from.

    Raises:
        UserError: the model has no humanoid of that skeleton.
    """

    def __init__(self, model: mujoco.MjModel, skeleton: Skeleton | None = None) -> None:
        self.skeleton = Skeleton.default() if skeleton is None else skeleton
        self.nq = model.nq
        self.qpos0 = model.qpos0.copy()
        self._root = self._address(model, "root")
        joints = self.skeleton.names[1:]
        self.hinges: tuple[str, ...] = tuple(hinge for joint in joints for hinge in hinge_names(joint))
        self._hinge = np.array([self._address(model, hinge) for hinge in self.hinges])
        self.limits = np.array([model.jnt_range[model.joint(hinge).id] for hinge in self.hinges])
        order = np.array([["xyz".index(axis) for axis in hinge_axes(joint)] for joint in joints])
        self._i, self._j, self._k = order.T
        # +1 for a cyclic order of the axes (xyz, yzx, zxy), -1 for the others.
        self._sign = np.where((self._j - self._i) % 3 == 1, 1.0, -1.0)

    @staticmethod
    def _address(model: mujoco.MjModel, joint: str) -> int:
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint)
        if index < 0:
            raise UserError(f"the MuJoCo model has no joint {joint!r}; expected a model made with build_humanoid")
        return int(model.jnt_qposadr[index])

    def qpos_from_motion(self, motion: Motion, previous: np.ndarray | None = None) -> np.ndarray:
        """Joint coordinates of every frame.

        Of the two hinge triples that give the same rotation, and their full turns, each frame takes the one nearest to
        the frame before, so a smooth motion has smooth angles; the first frame starts from `previous`, or from zero.

        Args:
            motion: T frames on this skeleton.
            previous: (nq,) coordinates before the first frame.

        Returns:
            float64 (T, nq): root position (metres), root quaternion (wxyz), hinge angles (radians). Other joints of
            the model keep `previous`, or their rest value.
        """
        if motion.skeleton.names != self.skeleton.names:
            raise UserError(
                f"the motion has the joints {motion.skeleton.names[:3]}..., the humanoid {self.skeleton.names[:3]}...; "
                "convert the motion to the humanoid's skeleton"
            )
        base = self.qpos0 if previous is None else np.asarray(previous, dtype=np.float64)
        qpos = np.tile(base, (len(motion), 1))
        qpos[:, self._root : self._root + 3] = motion.root_position
        quats = np.asarray(motion.joint_quat_wxyz, dtype=np.float64)
        qpos[:, self._root + 3 : self._root + 7] = quats[:, 0]
        angles = self._hinge_angles(quat_to_matrix(quats[:, 1:]))
        near = np.zeros_like(angles[0]) if previous is None else base[self._hinge].reshape(-1, 3)
        turn = 2.0 * np.pi
        for t in range(len(motion)):
            first = angles[t]
            second = np.stack([first[:, 0] + np.pi, np.pi - first[:, 1], first[:, 2] + np.pi], axis=-1)
            both = np.stack([first, second])
            both += turn * np.round((near - both) / turn)
            cost = np.abs(both - near).sum(axis=-1)
            near = np.where((cost[0] <= cost[1] + 1e-9)[:, None], both[0], both[1])
            angles[t] = near
        qpos[:, self._hinge] = angles.reshape(len(motion), -1)
        return qpos

    def _hinge_angles(self, matrix: np.ndarray) -> np.ndarray:
        """(T, J-1, 3) principal angles of R = R_i(a) R_j(b) R_k(c); c is 0 where a and c turn about one line."""
        joints = np.arange(matrix.shape[1])
        i, j, k, sign = self._i, self._j, self._k, self._sign

        def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
            return matrix[:, joints, row, column]

        cosine = np.hypot(at(i, i), at(i, j))
        b = np.arctan2(sign * at(i, k), cosine)
        singular = cosine < _SINGULAR
        a = np.where(
            singular, np.arctan2(sign * at(k, j), at(j, j)), np.arctan2(-sign * at(j, k), at(k, k))
        )
        c = np.where(singular, 0.0, np.arctan2(-sign * at(i, j), at(i, i)))
        return np.stack([a, b, c], axis=-1)

    def motion_from_qpos(self, qpos: np.ndarray, fps: float = 16.0) -> Motion:
        """The motion of joint coordinates (T, nq); the inverse of `qpos_from_motion`."""
        qpos = np.asarray(qpos, dtype=np.float64)
        if qpos.ndim != 2 or qpos.shape[1] != self.nq:
            raise UserError(f"qpos has shape {qpos.shape}; expected (T, {self.nq})")
        angles = qpos[:, self._hinge].reshape(len(qpos), -1, 3)
        half = angles / 2.0
        joints = np.arange(angles.shape[1])
        matrix = np.broadcast_to(np.eye(3), (*angles.shape[:2], 3, 3))
        for n, axis in enumerate((self._i, self._j, self._k)):
            quat = np.zeros((*angles.shape[:2], 4))
            quat[..., 0] = np.cos(half[..., n])
            quat[:, joints, 1 + axis] = np.sin(half[..., n])
            matrix = matrix @ quat_to_matrix(quat)
        quats = np.concatenate([qpos[:, None, self._root + 3 : self._root + 7], matrix_to_quat(matrix)], axis=1)
        quats /= np.linalg.norm(quats, axis=-1, keepdims=True)
        return Motion(
            root_position=qpos[:, self._root : self._root + 3].astype(np.float32),
            joint_quat_wxyz=quats.astype(np.float32),
            skeleton=self.skeleton,
            fps=fps,
        )

    def limit_excess(self, qpos: np.ndarray) -> dict[str, float]:
        """Hinges that leave their limits anywhere in qpos (T, nq), with the largest excess in radians."""
        angles = np.atleast_2d(qpos)[:, self._hinge]
        excess = np.maximum(self.limits[:, 0] - angles, angles - self.limits[:, 1]).max(axis=0)
        return {name: float(value) for name, value in zip(self.hinges, excess, strict=True) if value > 0.0}
