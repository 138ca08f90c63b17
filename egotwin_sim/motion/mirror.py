"""The motion that a mirror shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from egotwin_sim.motion.motion import Motion
from egotwin_sim.motion.skeleton import Skeleton

_LEFT, _RIGHT = "left_", "right_"
_FLIP = np.array([1.0, -1.0, 1.0])


def mirrored(motion: Motion) -> Motion:
    """Left and right exchanged in the world's x-z plane, the body's sides along with it.

    The skeleton is mirrored too, so that joints lie exactly where the mirror shows them; mirrored twice is the motion.
    """
    skeleton = motion.skeleton
    other = [skeleton.index[_other_side(name)] for name in skeleton.names]
    seen = Skeleton(
        skeleton.names,
        skeleton.parents,
        skeleton.offsets[other] * _FLIP,
        skeleton.head_offset * _FLIP,
        skeleton.foot_height,
    )
    # A rotation seen in a mirror turns the other way about the axis that the mirror shows.
    quat = motion.joint_quat_wxyz[:, other] * np.array([1.0, -1.0, 1.0, -1.0])
    return replace(motion, root_position=motion.root_position * _FLIP, joint_quat_wxyz=quat, skeleton=seen)


def _other_side(name: str) -> str:
    for side, other in ((_LEFT, _RIGHT), (_RIGHT, _LEFT)):
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name
