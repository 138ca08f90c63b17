"""The assist gives way to what is in its way, and comes back when it is free to."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.body import mujoco
from egotwin_sim.body.assist import FIRM_BW, MOST_BW
from egotwin_sim.body.robot import RobotModel, flat_scene, our_robot
from egotwin_sim.body.tracker import Tracker, TrackerConfig
from egotwin_sim.body.trajectory import RobotTrajectory, velocities


def led(robot_model: RobotModel, there: float, back: float) -> RobotTrajectory:
    """A standing body that is led along x at half a metre a second, and back."""
    x = np.concatenate([np.arange(0.0, there, 0.5 / 16), np.arange(there, back, -0.5 / 16)])
    qpos = np.tile(robot_model.standing, (len(x), 1))
    qpos[:, 0] = x
    return RobotTrajectory(qpos, velocities(robot_model.bare, qpos, 16.0), 16.0, robot_model.joint_names)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_it_slips_at_a_wall_and_returns_to_the_reference_behind_it(strength: float) -> None:
    scene = flat_scene()
    scene.worldbody.add_geom(
        name="wall",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0.45, 0.0, 1.0],
        size=[0.1, 2.0, 1.0],
        contype=0,
        conaffinity=1,
    )
    robot_model = RobotModel(our_robot(), scene)
    tracker = Tracker(robot_model, TrackerConfig(assist=strength))
    tracker.begin(led(robot_model, 0.7, 0.0))
    forces, farthest, slip = [], 0.0, 0.0
    for _ in range(round(3.6 / robot_model.timestep)):
        tracker.step()
        reading = tracker.state()
        forces.append(reading.assist_bw)
        farthest, slip = max(farthest, float(reading.qpos[0])), max(slip, reading.assist_slip_m)
    assert farthest < 0.42 and slip > 0.3, "the wall's face is at 0.35 m"
    assert np.median(forces) < 1.5 * MOST_BW
    assert tracker.state().assist_slip_m == 0.0
    np.testing.assert_allclose(tracker.state().qpos[:2], tracker.state().reference[:2], atol=0.05)


def test_it_does_not_slip_where_nothing_is_in_the_way() -> None:
    robot_model = RobotModel(our_robot())
    tracker = Tracker(robot_model, TrackerConfig(assist=1.0))
    tracker.begin(led(robot_model, 0.5, 0.2))
    for _ in range(400):
        tracker.step()
        assert tracker.state().assist_slip_m == 0.0


def test_it_yields_to_what_it_would_break_the_body_on() -> None:
    """A standing body is led half a metre into the floor, and out of it."""
    robot_model = RobotModel(our_robot())
    frames = 48
    qpos = np.tile(robot_model.standing, (frames, 1))
    qpos[:, 2] -= 0.5 * np.sin(np.linspace(0.0, np.pi, frames)) ** 2
    tracker = Tracker(robot_model, TrackerConfig(assist=1.0))
    tracker.begin(RobotTrajectory(qpos, velocities(robot_model.bare, qpos, 16.0), 16.0, robot_model.joint_names))
    forces, fastest = [], 0.0
    for _ in range(round(4.0 / robot_model.timestep)):
        tracker.step()
        forces.append(tracker.assist_force.force_n / robot_model.weight_n)
        fastest = max(fastest, float(np.abs(tracker.data.qvel).max()))
    assert max(forces) > FIRM_BW > np.quantile(forces, 0.9)
    assert fastest < 10.0
    np.testing.assert_allclose(tracker.state().qpos[:3], robot_model.standing[:3], atol=0.03)
