"""Whether a dreamt body is one that could stand in a room, and how it is set upright where it is not.

A dream knows neither floor nor gravity. What it gets wrong in every chunk adds up: after half a minute of dreaming a
body may lean like nobody does, or tread air. Clips of bodies that move in rooms never do (`room.synthesis`: in every
half second an ankle is as high as it is in standing, to the millimetre; the trunk leans by 45 degrees at most).
"""

from __future__ import annotations

import numpy as np

from egotwin_sim.motion import Motion
from egotwin_sim.motion.head_centric import set_down
from egotwin_sim.motion.rotations import slerp

OFF_FLOOR = 0.10  # metres by which the lower ankle may be higher or lower than in standing, at its lowest of a chunk
LEAN = np.cos(np.deg2rad(55.0))  # least vertical part of the direction from pelvis to neck
LOWEST_HEAD = 0.45  # of its height in standing


class Balance:
    """Judges a body by how it stood.

    Args:
        standing: one frame, upright on the floor.
    """

    def __init__(self, standing: Motion) -> None:
        self._standing = standing
        self._ankle, _, self._head = (float(part.min()) for part in _read(standing))

    def lost(self, motion: Motion) -> str:
        """What is wrong with some frames of the same body, half a second or more; empty where nothing is."""
        ankle, upright, head = _read(motion)
        off = float(ankle.min()) - self._ankle
        if abs(off) > OFF_FLOOR:
            return f"its feet are {abs(off):.2f} m {'above' if off > 0 else 'below'} the floor"
        if upright.min() < LEAN:
            return f"it leans by {np.rad2deg(np.arccos(np.clip(upright.min(), -1.0, 1.0))):.0f} degrees"
        if head.min() < LOWEST_HEAD * self._head:
            return f"its head is {head.min():.2f} m above the floor"
        return ""

    def upright(self, body: Motion, frames: int) -> Motion:
        """The motion (frames + 1) from a pose, one frame, to standing with the head over the same point."""
        to = set_down(self._standing, of=self._standing, at=body)
        share = np.linspace(0.0, 1.0, frames + 1)
        share = share * share * (3.0 - 2.0 * share)
        root = body.root_position + share[:, None] * (to.root_position - body.root_position)
        quat = slerp(body.joint_quat_wxyz, to.joint_quat_wxyz, share[:, None])
        return Motion(root, quat, body.skeleton, body.fps)


def _read(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every frame, height of the lower ankle, vertical part of the trunk's direction, height of the head."""
    at, index = motion.joint_transforms()[0], motion.skeleton.index
    ankle = np.minimum(at[:, index["left_ankle"], 2], at[:, index["right_ankle"], 2])
    trunk = at[:, index["neck"]] - at[:, index["pelvis"]]
    return ankle, trunk[:, 2] / np.linalg.norm(trunk, axis=-1), motion.T_world_head()[:, 2, 3]
