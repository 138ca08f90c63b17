"""Servos for every hinge of a robot, with gains that follow from what each hinge has to move and to carry."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from egotwin_sim.body.feet import Foot
from egotwin_sim.errors import UserError

QUICKEST = 1000.0  # rad/s^2 that a servo can at least give what it moves, about what limbs reach in quick movements


@dataclass(frozen=True)
class Gains:
    """How stiff and how strong a robot's servos are.

    Every hinge has a position servo. Its angle answers to a target as a spring with a damper does, of one natural
    frequency f and one damping ratio z for all hinges, be it a hip or a wrist: an error e is to be mended with the
    acceleration (2 pi f)^2 e + 4 pi z f de/dt. The torques for that take into account that every limb moves the others
    (`InverseDynamics.correcting`), so that no gain needs to be tuned to a body. Two more numbers of each hinge are
    taken from the robot as it stands, J being the inertia that a torque at the hinge meets while all others are free:

    * A hinge between the root and a foot has to keep the rest of the body from toppling: it has a spring of `support`
      times what gravity topples it with, weight times height over the hinge, shared among the feet; but no more than
      J / dt^2, what a time step dt can follow.
    * Its torque limit is `strength` times the torque that holds up what the hinge carries, stretched out level; for a
      support no more than `strength` times the weight, shared among the feet, on the far end of the foot; and at least
      J `QUICKEST`. A joint's own `actuatorfrcrange` is the limit where the model has one.

    Attributes:
        frequency_hz: f.
        damping_ratio: z; 1 is critical.
        support: see above.
        strength: see above.

    Raises:
        UserError: one of them is not positive.
    """

    frequency_hz: float = 10.0
    damping_ratio: float = 1.0
    support: float = 16.0
    strength: float = 3.0

    def __post_init__(self) -> None:
        """Check."""
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value > 0):
                raise UserError(f"gain {name} is {value}; expected a positive number")

    @property
    def stiffness(self) -> float:
        """rad/s^2 for each radian of error."""
        return (2.0 * np.pi * self.frequency_hz) ** 2

    @property
    def damping(self) -> float:
        """rad/s^2 for each rad/s of error."""
        return 4.0 * np.pi * self.damping_ratio * self.frequency_hz


@dataclass(frozen=True, eq=False)
class Servos:
    """What differs between the servos of n hinges, arrays (n,).

    Attributes:
        support: N m/rad, the spring that keeps the body from toppling; 0 for a hinge that carries no weight.
        torque_limit: N m.
    """

    support: np.ndarray
    torque_limit: np.ndarray


def servos_for(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    hinges: np.ndarray,
    feet: tuple[Foot, ...],
    gains: Gains,
    timestep: float,
) -> Servos:
    """The servos of a robot by the rule of `Gains`.

    Args:
        model: the robot alone.
        qpos: (nq,), standing.
        hinges: (n,) joint ids.
        feet: see `find_feet`.
        gains: how stiff and strong.
        timestep: seconds.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    dofs = model.jnt_dofadr[hinges]
    inverse = np.empty((model.nv, model.nv))
    mujoco.mj_solveM(model, data, inverse, np.eye(model.nv))
    inertia = 1.0 / inverse[dofs, dofs]
    weight = float(np.linalg.norm(model.opt.gravity)) * model.body_mass
    soles = [foot.points(data) for foot in feet]
    below = _descendants(model)
    support, limit = np.zeros(len(hinges)), np.empty(len(hinges))
    for i, joint in enumerate(hinges):
        anchor, body = data.xanchor[joint], int(model.jnt_bodyid[joint])
        standing = [n for n, foot in enumerate(feet) if any(below[body, part] for part in foot.bodies)]
        moved = ~below[body] if standing else below[body]
        arm = data.xipos - anchor
        limit[i] = weight[moved] @ np.linalg.norm(arm[moved], axis=1)
        if standing:
            share = len(standing) / len(feet)
            support[i] = gains.support * share * max(0.0, float(weight[moved] @ arm[moved, 2]))
            far = max(float(np.linalg.norm(soles[n] - anchor, axis=1).max()) for n in standing)
            limit[i] = share * min(limit[i], float(weight.sum()) * far)
    limit = np.maximum(gains.strength * limit, QUICKEST * inertia)
    own = np.abs(model.jnt_actfrcrange[hinges]).max(axis=1)
    limit = np.where(model.jnt_actfrclimited[hinges] != 0, own, limit)
    return Servos(np.minimum(support, inertia / timestep**2), limit)


def _descendants(model: mujoco.MjModel) -> np.ndarray:
    """Bool (nbody, nbody): whether the second body hangs from the first, or is the first."""
    below = np.eye(model.nbody, dtype=bool)
    for body in range(model.nbody - 1, 0, -1):
        below[model.body_parentid[body]] |= below[body]
    return below


def add_motor(spec: mujoco.MjSpec, name: str, joint: str, limit: float) -> None:
    """Adds what moves a hinge to a spec; its control is the torque, N m."""
    spec.add_actuator(
        name=name,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_NONE,
        gainprm=[1.0] + [0.0] * 9,
        forcelimited=True,
        forcerange=[-limit, limit],
        ctrllimited=False,
    )
