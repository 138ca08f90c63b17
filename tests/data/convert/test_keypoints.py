"""A body from the places of its joints."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data.convert.keypoints import NEEDED, body_scale, head_poses, motion_from_keypoints
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.rotations import rotation_angle
from tests.data.convert.aria_files import Person, joint_places

TIMES = np.arange(0.0, 6.0, 1.0 / 30.0)


@pytest.mark.parametrize("stature", [1.75, 1.5])
def test_posture_and_size_are_found(stature: float) -> None:
    person = Person(stature)
    points = {name: place for name, place in joint_places(person, TIMES).items() if name in NEEDED}
    found = motion_from_keypoints(points, 30.0)
    truth = person.motion(TIMES)
    ours = Motion(found.root_position, truth.joint_quat_wxyz, fps=30.0)
    off = np.linalg.norm(found.joint_transforms()[0] - ours.joint_transforms()[0], axis=-1)
    assert off.max() < 0.06 and off.mean() < 0.02
    turned = rotation_angle(found.joint_transforms()[1], ours.joint_transforms()[1])
    limbs = [found.skeleton.index[f"left_{name}"] for name in ("hip", "knee", "shoulder", "elbow")]
    assert np.degrees(turned[:, limbs].max()) < 8.0
    assert body_scale(points) == pytest.approx(1.75 / stature, rel=0.01)
    assert rotation_angle(head_poses(points)[:, :3, :3], truth.T_world_head()[:, :3, :3]).max() < 1e-4


def test_a_missing_limb_is_named() -> None:
    points = joint_places(Person(), TIMES)
    del points["left_wrist"]
    with pytest.raises(UserError, match="lacks left_wrist"):
        motion_from_keypoints(points, 30.0)
