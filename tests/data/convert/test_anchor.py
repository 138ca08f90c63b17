"""A body hung under a head."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data.convert.anchor import anchored
from egotwin_sim.errors import UserError
from egotwin_sim.motion.retarget import sole_heights
from egotwin_sim.motion.rotations import axis_angle_to_matrix, rotation_angle
from tests.data.convert.aria_files import Person

TIMES = np.arange(0.0, 5.0, 1.0 / 32.0)
PERSON = Person()


def test_the_head_is_where_it_is_known_to_be_and_the_body_under_it() -> None:
    truth = PERSON.motion(TIMES, 32.0)
    elsewhere = truth.transformed(2.2, (4.0, -7.0, 0.3))
    head = truth.T_world_head()
    hung = anchored(elsewhere, head)
    shift = hung.T_clip_world[2, 3]
    np.testing.assert_allclose(hung.motion.T_world_head()[:, :3, 3], head[:, :3, 3] + [0.0, 0.0, shift], atol=1e-5)
    assert rotation_angle(hung.motion.T_world_head()[:, :3, :3], head[:, :3, :3]).max() < 1e-4
    joints, true_joints = hung.motion.joint_transforms()[0], truth.joint_transforms()[0]
    np.testing.assert_allclose(joints - [0.0, 0.0, shift], true_joints, atol=2e-5)
    assert hung.disagreement < 1e-3
    assert abs(np.percentile(sole_heights(hung.motion).min(axis=1), 25)) < 0.02


def test_a_body_stays_upright_under_tilted_glasses() -> None:
    """Glasses that sit ten degrees askew turn the head, not the body."""
    truth = PERSON.motion(TIMES, 32.0)
    head = truth.T_world_head()
    head[:, :3, :3] = head[:, :3, :3] @ axis_angle_to_matrix(np.array([0.0, np.radians(10.0), 0.0]))
    hung = anchored(truth, head)
    assert rotation_angle(hung.motion.T_world_head()[:, :3, :3], head[:, :3, :3]).max() < 1e-4
    spine = truth.skeleton.index["spine3"]
    up = hung.motion.joint_transforms()[1][:, spine, 2, 2]
    np.testing.assert_allclose(up, truth.joint_transforms()[1][:, spine, 2, 2], atol=1e-4)
    assert hung.disagreement == pytest.approx(np.radians(10.0), abs=0.01)


def test_a_head_that_looks_elsewhere_is_refused() -> None:
    truth = PERSON.motion(TIMES, 32.0)
    head = truth.T_world_head()
    head[:, :3, :3] = head[:, :3, :3] @ axis_angle_to_matrix(np.array([0.0, np.radians(60.0), 0.0]))
    with pytest.raises(UserError, match="look 60 degrees away"):
        anchored(truth, head)
