from __future__ import annotations

import mujoco
import numpy as np

from egotwin_sim.body.inverse_dynamics import InverseDynamics
from tests.body.motions import robot_model, walking


def floating():
    """The robot in the air, at rest in a stride, at the moment after `mj_step1`."""
    robot = robot_model()
    data = mujoco.MjData(robot.model)
    data.qpos[robot.qpos_index] = walking().qpos[20]
    data.qpos[2] += 3.0
    mujoco.mj_step1(robot.model, data)
    return robot, data


def accelerations(robot, data, torque: np.ndarray, on_root: np.ndarray) -> np.ndarray:
    """(6 + n,) accelerations under torques (n,) and a wrench (6,) on the root."""
    data.qfrc_applied[robot.qvel_index] = np.concatenate([on_root, torque])
    mujoco.mj_step2(robot.model, data)
    return data.qacc[robot.qvel_index]


def test_torques_give_the_accelerations_that_are_wanted():
    """Where the root gets what it needs, be it from the floor or from the assist."""
    robot, data = floating()
    wanted = np.random.default_rng(0).normal(scale=20.0, size=len(robot.qvel_index))
    torque = InverseDynamics(robot.model, robot.qvel_index).following(data, np.zeros(len(wanted)), wanted)
    needed = np.zeros(robot.model.nv)
    mujoco.mj_mulM(robot.model, data, needed, wanted)
    on_root = (needed + data.qfrc_bias)[:6]
    np.testing.assert_allclose(accelerations(robot, data, torque, on_root), wanted, rtol=1e-6, atol=1e-6)


def test_dampers_and_springs_of_the_model_are_made_up_for():
    robot, data = floating()
    dynamics, rest = InverseDynamics(robot.model, robot.qvel_index), np.zeros(len(robot.qvel_index))
    moving = np.linspace(-2.0, 2.0, len(rest))
    extra = dynamics.following(data, moving, rest) - dynamics.following(data, rest, rest)
    np.testing.assert_allclose(extra, robot.model.dof_damping[robot.qvel_index[6:]] * moving[6:], atol=1e-9)


def test_corrections_change_the_hinges_of_a_floating_body_by_as_much():
    wanted = np.linspace(-30.0, 30.0, len(robot_model().joint_names))
    robot, data = floating()
    correction = InverseDynamics(robot.model, robot.qvel_index).correcting(data, wanted)
    with_it = accelerations(robot, data, correction, np.zeros(6)).copy()
    robot, data = floating()
    without = accelerations(robot, data, np.zeros(len(wanted)), np.zeros(6))
    np.testing.assert_allclose((with_it - without)[6:], wanted, rtol=1e-6, atol=1e-6)
