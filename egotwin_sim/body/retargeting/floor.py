"""What a robot's feet do on the floor: contacts, slide, penetration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.feet import PLANTED, Foot


@dataclass(frozen=True, eq=False)
class FloorReport:
    """How feet meet the floor, the plane z = 0.

    Attributes:
        contacts: bool (T, feet), whether the lowest point of the foot is under `PLANTED`.
        slide_m_s: mean horizontal speed of the lowest point of a foot that stands in two frames in a row; 0 without.
        penetration_mm: the largest depth of any foot below the floor; 0 if there is none.
    """

    contacts: np.ndarray
    slide_m_s: float
    penetration_mm: float


def floor_report(model: mujoco.MjModel, feet: Sequence[Foot], qpos: np.ndarray, fps: float) -> FloorReport:
    """Contacts, slide and penetration of a trajectory.

    Args:
        model: the robot alone.
        feet: of that model, see `find_feet`.
        qpos: (T, nq).
        fps: frames per second.
    """
    data = mujoco.MjData(model)
    points: list[list[np.ndarray]] = [[] for _ in feet]
    for pose in qpos:
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        for foot, of_foot in zip(feet, points, strict=True):
            of_foot.append(foot.points(data))
    contacts = np.empty((len(qpos), len(feet)), dtype=bool)
    speeds, depth = [], 0.0
    for i, of_foot in enumerate(points):
        place = np.stack(of_foot)
        height = place[..., 2]
        contacts[:, i] = height.min(axis=1) < PLANTED
        depth = max(depth, -float(height.min()))
        both = contacts[1:, i] & contacts[:-1, i]
        # A foot that rolls from heel to toe has one point at rest: the one that is lowest over both frames.
        lowest = np.argmin(height[1:] + height[:-1], axis=1)[:, None, None]
        steps = np.take_along_axis(np.diff(place[..., :2], axis=0), lowest, axis=1)[:, 0]
        speeds.append(np.linalg.norm(steps[both], axis=-1) * fps)
    slid = np.concatenate(speeds)
    return FloorReport(contacts, float(slid.mean()) if len(slid) else 0.0, 1000.0 * depth)
