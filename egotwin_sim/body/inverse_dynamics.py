"""Torques at the hinges that give the body the accelerations which are wanted."""

from __future__ import annotations

import mujoco
import numpy as np


class InverseDynamics:
    """Inverse dynamics of a robot in a scene.

    Args:
        model: the scene.
        qvel_index: (6 + n,), where the robot's velocities are in the scene's: the free joint's, then the hinges'.
    """

    def __init__(self, model: mujoco.MjModel, qvel_index: np.ndarray) -> None:
        self._model = model
        self._all, self._root, self._hinges = qvel_index, qvel_index[:6], qvel_index[6:]
        self._joints = model.dof_jntid[self._hinges]
        self._bodies = model.jnt_bodyid[self._joints]
        self._subtree_mass = model.body_subtreemass[self._bodies]
        self._damping = model.dof_damping[self._hinges]
        self._units = np.zeros((6, model.nv))
        self._units[np.arange(6), self._root] = 1.0
        self._wanted, self._torque = np.zeros(model.nv), np.zeros(model.nv)
        self._columns = np.zeros((6, model.nv))

    def following(self, data: mujoco.MjData, qvel: np.ndarray, qacc: np.ndarray) -> np.ndarray:
        """Torques (n,) at the hinges for what a reference does, N m.

        They make up for gravity, for springs and dampers of the model, and for inertia; not for centrifugal forces:
        made up for as they are measured, those feed themselves in a body that flails. Whatever the root needs beyond
        the hinges' reaction must come from elsewhere: the floor, or the assist.

        Args:
            data: needs what `mj_step1` computes.
            qvel: (6 + n,) of the reference, as MuJoCo has it.
            qacc: (6 + n,) of the reference.
        """
        self._wanted[self._all] = qacc
        mujoco.mj_mulM(self._model, data, self._torque, self._wanted)
        inertia = self._torque[self._hinges]
        arm = data.subtree_com[self._bodies] - data.xanchor[self._joints]
        weight = self._subtree_mass[:, None] * self._model.opt.gravity
        gravity = np.sum(data.xaxis[self._joints] * np.cross(arm, weight), axis=1)
        return inertia - gravity - data.qfrc_spring[self._hinges] + self._damping * qvel[6:]

    def correcting(self, data: mujoco.MjData, acceleration: np.ndarray) -> np.ndarray:
        """Torques (n,) that change the hinges' accelerations by (n,), if nothing holds the root, N m.

        The inertia is that of a body that floats, the least that the hinges can meet: what stands or hangs answers no
        faster than asked, so that gains which are stable in the air are stable anywhere.
        """
        self._wanted[self._root] = 0.0
        self._wanted[self._hinges] = acceleration
        mujoco.mj_mulM(self._model, data, self._torque, self._wanted)
        for unit, column in zip(self._units, self._columns, strict=True):
            mujoco.mj_mulM(self._model, data, column, unit)
        swing = np.linalg.solve(self._columns[:, self._root], self._torque[self._root])
        return self._torque[self._hinges] - swing @ self._columns[:, self._hinges]
