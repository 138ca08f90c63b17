"""Dreamt motions become trajectories, and what is measured becomes motion again."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.body.robot import Robot, our_robot
from egotwin_sim.body.robots import find_robot
from egotwin_sim.errors import UserError
from egotwin_sim.live.puppet import Puppet
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import quat_to_matrix, yaw_of
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise


def walk() -> Motion:
    return synthesise(sample_layout(0), 0, 1.5, goal="walk to the table").motion


def test_our_body_does_what_is_dreamt_and_is_measured_as_it_is() -> None:
    motion = walk()
    puppet = Puppet(our_robot(), motion[:1])
    assert puppet.scale == 1.0
    np.testing.assert_allclose(puppet.start_qpos[:3], motion.root_position[0], atol=1e-6)
    first = puppet.trajectory(motion[:1], motion[1:9])
    second = puppet.trajectory(motion[8:9], motion[9:17])
    qpos = np.concatenate([first.qpos, second.qpos])
    assert qpos.shape == (16, 70) and first.fps == 16.0
    assert np.abs(np.diff(qpos[:, 7:], axis=0)).max() < 0.5, "angles go on from chunk to chunk"
    back = puppet.motion(qpos, 16.0)
    assert back is not None
    np.testing.assert_allclose(back.T_world_head(), motion[1:17].T_world_head(), atol=1e-4)
    one = puppet.measured(first.qpos[3], second.qpos[0], motion[9:10])
    np.testing.assert_allclose(one.T_world_head(), motion[4:5].T_world_head(), atol=1e-4)


def test_a_dream_that_was_moved_gives_no_velocity_of_the_jump() -> None:
    motion = walk()
    puppet = Puppet(our_robot(), motion[:1])
    puppet.trajectory(motion[:1], motion[1:9])
    moved = motion.transformed(0.0, [0.5, 0.0, 0.0])
    after = puppet.trajectory(moved[8:9], moved[9:17])
    assert np.linalg.norm(after.qvel[:, :3], axis=1).max() < 2.0


def other_robot() -> Robot:
    try:
        return find_robot("g1")
    except UserError as error:
        pytest.skip(str(error))


def test_another_body_goes_its_own_way_and_is_measured_in_the_dreams_world() -> None:
    robot = other_robot()
    motion = walk()
    try:
        puppet = Puppet(robot, motion[:1])
    except UserError as error:
        pytest.skip(str(error))
    assert 0.5 < puppet.scale < 0.95
    np.testing.assert_allclose(puppet.start_qpos[:2], motion.root_position[0, :2], atol=1e-6)
    chunk = puppet.trajectory(motion[:1], motion[1:17])
    way = chunk.qpos[-1, :2] - puppet.start_qpos[:2]
    dreamt = motion.root_position[16, :2] - motion.root_position[0, :2]
    np.testing.assert_allclose(way, puppet.scale * dreamt, atol=0.05)
    assert puppet.motion(chunk.qpos, 16.0) is None
    # As it should be, it is measured as it was dreamt; off by a turn and a shift, so is what is measured.
    same = puppet.measured(chunk.qpos[7], chunk.qpos[7], motion[8:9])
    np.testing.assert_allclose(same.root_position, motion[8:9].root_position, atol=1e-5)
    off = chunk.qpos[7].copy()
    off[:2] += puppet.scale * np.array([0.3, -0.1])
    off[3:7] = [np.cos(0.1), 0.0, 0.0, np.sin(0.1)]
    wanted = chunk.qpos[7].copy()
    wanted[3:7] = [1.0, 0.0, 0.0, 0.0]
    found = puppet.measured(off, wanted, motion[8:9])
    np.testing.assert_allclose(found.root_position[0, :2], motion.root_position[8, :2] + [0.3, -0.1], atol=1e-5)
    turned = [yaw_of(quat_to_matrix(m.joint_quat_wxyz[0, 0].astype(float))) for m in (motion[8:9], found)]
    assert turned[1] - turned[0] == pytest.approx(0.2, abs=1e-4)
