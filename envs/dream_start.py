"""What a dream begins from: drawn in a procedural room, or given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.pipelines.body import BodyState

from .model import Model
from .start import ResetOptions, Start, sample_start

# A noise key is an int64; a seed that Gymnasium draws itself has 128 bits.
SEED_BITS = (1 << 63) - 1


@dataclass(frozen=True)
class DreamStart:
    """What the model is given.

    Attributes:
        room: where it was drawn; None for a given first frame.
        text: the goal.
        pose: (D,), a head-centric state.
        first_frame: uint8 (H, W, 3) RGB.
    """

    room: Start | None
    text: str
    pose: np.ndarray
    first_frame: np.ndarray


def draw_dream(model: Model, rng: np.random.Generator, asked: ResetOptions) -> DreamStart:
    """A beginning as asked for, the rest of it drawn.

    Args:
        model: for the sizes of body and picture.
        rng: source of all choices.
        asked: what is not left to chance.

    Raises:
        UserError: a first frame without a goal, or a pose that is none.
    """
    if asked.first_frame is None:
        room = sample_start(rng, asked.goal, free_text=True)
        pose = room.pose if asked.initial_pose is None else asked.initial_pose
        return DreamStart(room, room.text, pose, _look(model, room, pose))
    if asked.goal is None:
        raise UserError("reset option first_frame comes without goal; give a text as well")
    pose = sample_start(np.random.default_rng(0)).pose if asked.initial_pose is None else asked.initial_pose
    return DreamStart(None, asked.goal, pose, np.asarray(asked.first_frame))


def noise_seed(np_random_seed: int) -> int:
    """The seed of a dream's noise, from that of the environment's generator.

    A seed that is not known (-1: a generator was set from outside) leaves the noise to the episode's number.
    """
    return max(np_random_seed, 0) & SEED_BITS


def _look(model: Model, room: Start, pose: np.ndarray) -> np.ndarray:
    """What a body in that pose sees at the start, uint8 (H, W, 3)."""
    from egotwin_sim.room.world import RoomWorld

    body = BodyState.from_pose(pose, model.skeleton, model.config.motion_fps, room.T_room_start)
    world = RoomWorld(room.layout, model.skeleton, model.config.image_size)
    try:
        world.reset(body.motion)
        return world.render()
    finally:
        world.close()
