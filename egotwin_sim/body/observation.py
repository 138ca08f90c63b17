"""What a tracking policy sees, and what it must give."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from egotwin_sim.motion.rotations import quat_to_matrix

# (observation (21 + 4 n,) float64) -> corrections (n,) of the servos' targets, radians.
Policy = Callable[[np.ndarray], np.ndarray]

_ROOT_WIDTH = 21


def observation_width(num_joints: int) -> int:
    """O, the numbers of an observation of a robot with n hinges."""
    return _ROOT_WIDTH + 4 * num_joints


def observe(qpos: np.ndarray, qvel: np.ndarray, reference: np.ndarray, reference_velocity: np.ndarray) -> np.ndarray:
    """What a policy sees of a body and of its reference at the same time.

    All directions are in the root's axes, so that neither place nor heading matters:

    ==========  ====================================================================
    numbers     what
    ==========  ====================================================================
    3           direction of gravity
    3, 3        velocity of the root (m/s), its angular velocity (rad/s)
    3, 3        from the root to its reference: position (m), rotation vector (rad)
    3, 3        velocity of the reference's root (m/s), its angular velocity (rad/s)
    n, n        angles of the hinges (rad), their velocities (rad/s)
    n, n        from the hinges to their reference (rad), velocities of the reference (rad/s)
    ==========  ====================================================================

    Args:
        qpos: (7 + n,) of the body.
        qvel: (6 + n,) of the body.
        reference: (7 + n,).
        reference_velocity: (6 + n,).

    Returns:
        float64 (21 + 4 n,).
    """
    to_root, from_reference = quat_to_matrix(qpos[3:7]).T, quat_to_matrix(reference[3:7])
    turn = np.empty(3)
    mujoco.mju_subQuat(turn, reference[3:7], qpos[3:7])
    return np.concatenate(
        [
            -to_root[:, 2],
            to_root @ qvel[:3],
            qvel[3:6],
            to_root @ (reference[:3] - qpos[:3]),
            turn,
            to_root @ reference_velocity[:3],
            to_root @ from_reference @ reference_velocity[3:6],
            qpos[7:],
            qvel[6:],
            reference[7:] - qpos[7:],
            reference_velocity[6:],
        ]
    )
