"""Hands that the room's renderer itself draws: the truth of HandScore, where the room of a clip is known."""

from __future__ import annotations

import numpy as np

from egotwin_sim.metrics.hand_score import SIDES
from egotwin_sim.metrics.objects import HAND_SHARE
from egotwin_sim.motion import Motion
from egotwin_sim.room.world import RoomWorld


def hands_rendered(world: RoomWorld, motion: Motion, door_angle: np.ndarray) -> np.ndarray:
    """Which hands the head camera sees, by the segmentation render: bool (T, 2), left hand first.

    What is hidden by furniture or by the other arm is not seen, unlike in `hand_score.hands_expected`.

    Args:
        world: the clip's room.
        motion: T frames in the room's world.
        door_angle: (T,), radians.
    """
    seen = np.zeros((len(motion), len(SIDES)), dtype=bool)
    for t in range(len(motion)):
        world.reset(motion[t], float(np.clip(door_angle[t], 0.0, None)))
        masks = world.segmentation()
        for i, side in enumerate(SIDES):
            if f"{side}_hand" in masks:
                seen[t, i] = masks[f"{side}_hand"].mean() >= HAND_SHARE
    return seen
