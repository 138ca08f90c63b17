"""The assist: an outside force that leads the root along the reference, and how strong it is."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

TARGET = "assist_target"
MOST_BW = 2.0  # body weights of level force beyond which the assist gives way; walking and turning need less than one
SLIP_SPEED = 0.5  # m/s by which the target comes closer to the reference where nothing is in the way
SLIP_BACK = 1.0  # m/s by which it goes back from what is in the way, at most
SLIP_END = 0.005  # metres from the reference at which it has returned
FORCE_SECONDS = 0.01  # over which the force is averaged: one blow is no wall
FIRM_BW, FIRM_BWM = 8.0, 4.0  # force (body weights) and torque (body weight times a metre) beyond which it yields
SOFTEST = 0.1  # share of the strength that is left then, at least
SOFTER, FIRMER = 0.7, 1.05  # factors of that share in every step, beyond these forces and below them
TIME_CONSTANT = 0.02  # seconds, of the full assist; the root is led critically damped
_MOST = 0.9999  # MuJoCo's largest impedance
_LEAST = 1e-3  # impedance below which the assist is off


@dataclass(frozen=True)
class AssistForce:
    """What the assist does to the root: force in newtons and torque about the root's origin in newton metres."""

    force_n: float
    torque_nm: float


def add_assist(spec: mujoco.MjSpec, root: str) -> None:
    """Adds the assist to a spec, switched off: a massless body that leads, and the weld that ties the root to it."""
    spec.worldbody.add_body(name=TARGET, mocap=True)
    weld = spec.add_equality(
        name=TARGET,
        type=mujoco.mjtEq.mjEQ_WELD,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1=TARGET,
        name2=root,
        active=False,
    )
    # The default ties a point a metre away in the pose of the rest: anchor (3), position (3), quaternion (4), scale.
    weld.data[:] = 0.0
    weld.data[[6, 10]] = 1.0


class Assist:
    """Leads the root of a robot along its reference with one strength from 0 to 1.

    It is a constraint of MuJoCo, which is solved implicitly and so is stable at every strength. With strength s, the
    constraint's impedance is s: of the root's own acceleration (gravity, contacts, servos) the share 1 - s stays, and a
    critically damped spring of the stiffness s / tau^2 (per unit of the root's effective mass) pulls it to the
    reference. Its damper acts against the velocity of the reference, by a target that runs ahead of it, so that the
    root does not lag behind a steady motion. At 0 there is no force; at 1 the root follows as if it were hung up. How
    much it carries is measured, see `force`: it is help from outside, no balance.

    Something in the way, such as a wall, cannot be led through: while more than `MOST_BW` body weights of level force
    are needed, the assist slips. The target stays behind the reference then, and returns to it when it is free to.
    And whatever makes force or torque leap (`FIRM_BW`, `FIRM_BWM`; a body that moves freely needs 1.3 and 0.2), such as
    limbs that are turned into a wall, is met with less strength, step by step, until they are below: a rigid hand
    between a wall and a body would break the simulation.

    Args:
        model: a model with `add_assist`.
        strength: 0 to 1.
        root_qvel: first of the root's six velocities in the model.

    Attributes:
        on: whether it acts at all.
        slip: (3,), level metres by which the target is off the reference.
    """

    def __init__(self, model: mujoco.MjModel, strength: float, root_qvel: int) -> None:
        self._model, self._root = model, root_qvel
        self._weld = model.equality(TARGET).id
        self._mocap = int(model.body_mocapid[model.body(TARGET).id])
        self.on = strength >= _LEAST
        self._strength = strength
        self._share = 1.0  # of the strength that acts
        root = int(model.jnt_bodyid[model.dof_jntid[root_qvel]])
        self._weight = float(np.linalg.norm(model.opt.gravity) * model.body_subtreemass[root])
        self._most = MOST_BW * self._weight
        self.slip, self._level = np.zeros(3), np.zeros(3)

    def switch(self, data: mujoco.MjData) -> None:
        """Switches the constraint on or off, as the strength says; to be called after every reset of the data."""
        data.eq_active[self._weld] = self.on
        self._share = 1.0
        self.slip, self._level = np.zeros(3), np.zeros(3)

    def aim(self, data: mujoco.MjData, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Leads towards a reference: root position and quaternion (7,), and its velocity (6,) as in MuJoCo."""
        if not self.on:
            return
        impedance = min(max(self._strength * self._share, _LEAST), _MOST)
        stiffness, damping = impedance / TIME_CONSTANT**2, 2.0 * np.sqrt(impedance) / TIME_CONSTANT
        lead = damping / stiffness
        # Anew every time, as another tracker may use the same model with another strength. Negative numbers are
        # stiffness and damping of the constraint, as an acceleration per metre and per m/s.
        self._model.eq_solref[self._weld] = -stiffness, -damping
        self._model.eq_solimp[self._weld] = impedance, impedance, 0.001, 0.5, 2.0
        drift = self._drift(qvel[:3])
        self.slip = self.slip + drift * self._model.opt.timestep
        data.mocap_pos[self._mocap] = qpos[:3] + self.slip + lead * (qvel[:3] + drift)
        ahead = qpos[3:7].copy()
        mujoco.mju_quatIntegrate(ahead, qvel[3:6], lead)
        data.mocap_quat[self._mocap] = ahead

    def _drift(self, velocity: np.ndarray) -> np.ndarray:
        """How fast the slip changes (3,), m/s, while the reference moves at a velocity (3,).

        A target that has slipped goes the way of the reference, and closer to it, the slower the more force that needs;
        it stands still at `MOST_BW`, and goes back beyond.
        """
        force, off = float(np.linalg.norm(self._level)), float(np.linalg.norm(self.slip))
        if off < SLIP_END and force < self._most:
            return -self.slip / self._model.opt.timestep
        way = -self.slip / off if off >= SLIP_END else self._level / force
        ahead = float(velocity @ way)
        speed = (max(ahead, 0.0) + SLIP_SPEED) * (1.0 - float(self._level @ way) / self._most)
        return way * (max(speed, -SLIP_BACK) - ahead)

    def force(self, data: mujoco.MjData) -> AssistForce:
        """The constraint's force in the step that has just been computed."""
        if not self.on or data.ne == 0:
            return AssistForce(0.0, 0.0)
        rows = np.flatnonzero(data.efc_id[: data.ne] == self._weld)
        if len(rows) == 0:
            return AssistForce(0.0, 0.0)
        only = np.zeros(data.nefc)
        only[rows] = data.efc_force[rows]
        generalised = np.zeros(self._model.nv)
        mujoco.mj_mulJacTVec(self._model, data, generalised, only)
        root = generalised[self._root : self._root + 6]
        share = min(1.0, self._model.opt.timestep / FORCE_SECONDS)
        self._level = self._level + share * (np.array([root[0], root[1], 0.0]) - self._level)
        told = AssistForce(float(np.linalg.norm(root[:3])), float(np.linalg.norm(root[3:])))
        firm = told.force_n <= FIRM_BW * self._weight and told.torque_nm <= FIRM_BWM * self._weight
        self._share = min(1.0, self._share * FIRMER) if firm else max(SOFTEST, self._share * SOFTER)
        return told
