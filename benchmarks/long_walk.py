"""Minutes of walking and turning in rooms that no training has seen, and what the eyes would truly see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from held_out import HELD_OUT_SEED

from egotwin_sim.data.plan import CLIPS_PER_ROOM, Plan
from egotwin_sim.motion import Motion, encode
from egotwin_sim.pipelines import DreamState, StreamPipeline
from egotwin_sim.pipelines.tokens import motion_tokens
from egotwin_sim.room.layout import RoomLayout, sample_layout
from egotwin_sim.room.synthesis import Synthesiser, synthesise
from egotwin_sim.room.world import RoomWorld

VERBS = ("walk to the", "turn to the")


@dataclass(frozen=True)
class LongWalk:
    """What a body does in a room.

    Attributes:
        layout: the room.
        motion: 1 + 16 * seconds frames in the room's coordinates, as the room let them happen.
        door_angle: (T,) radians at each motion frame.
        text: the first goal.
    """

    layout: RoomLayout
    motion: Motion
    door_angle: np.ndarray
    text: str

    @property
    def initial_pose(self) -> np.ndarray:
        """float32 (D,), the head-centric state of the first frame."""
        return encode(self.motion[:1])[0]

    def tokens(self, pipe: StreamPipeline) -> np.ndarray:
        """The motion as tokens float32 (K, 2, C), one pair a chunk."""
        tokens = motion_tokens(self.motion, pipe.motion_vae)[1:]
        return tokens.reshape(-1, 2, tokens.shape[-1]).astype(np.float32)

    def film(self, size: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The true pictures uint8 (1 + 8 * seconds, size, size, 3), or those from `start` to before `stop`."""
        world = RoomWorld(self.layout, self.motion.skeleton, size)
        shown = slice(2 * start, None if stop is None else 2 * stop)
        try:
            return world.record(self.motion[shown], self.door_angle[shown], every=2)[0]
        finally:
            world.close()


def held_out_seeds(count: int) -> list[int]:
    """Seeds of rooms of the held-out dataset's plan; no training set has them."""
    plan = Plan(count * CLIPS_PER_ROOM, HELD_OUT_SEED)
    return [plan.room_seed(room) for room in range(count)]


def long_walk(layout: RoomLayout, seed: int, seconds: float) -> LongWalk:
    """Walk to one thing, turn to another, walk on, ..., until the time is over.

    Each part is planned from where the one before has left the body, with its speed, and played in the room, which
    stops what runs into furniture: the motion has no seam and could have been filmed.

    Args:
        layout: the room.
        seed: of the body's style and of the order of the things.
        seconds: length, a multiple of 0.5.
    """
    rng = np.random.Generator(np.random.PCG64([seed, layout.seed]))
    names = [*(thing.name for thing in layout.objects), "table", "door"]
    planner = Synthesiser(layout, seed)
    played = synthesise(layout, seed, 0.5, goal=f"walk to the {names[0]}").motion[:1]
    world = RoomWorld(layout, size=16)
    angles = [np.zeros(1)]
    text, last, count = "", "", 1 + round(16 * seconds)
    while len(played) < count:
        verb = VERBS[int(rng.integers(2))]
        last = str(rng.choice([name for name in names if name != last]))
        text = text or f"{verb} {last}"
        plan = planner.plan(played[-2:], f"{verb} {last}", door_angle=world.door_angle)
        world.reset(played[-1:], world.door_angle)
        done = world.step(plan[1:])
        played = Motion.concatenate([played, done.motion])
        angles.append(done.door_angle)
    world.close()
    return LongWalk(layout, played[:count], np.concatenate(angles)[:count], text)


def long_walks(rooms: int, seconds: float, seed: int) -> list[LongWalk]:
    """One `long_walk` in each of some held-out rooms."""
    return [long_walk(sample_layout(room), seed, seconds) for room in held_out_seeds(rooms)]


def begin(pipe: StreamPipeline, walks: Sequence[LongWalk], first_frames: np.ndarray, seed: int) -> DreamState:
    """Dreams of some walks from their first frames uint8 (B, H, W, 3); the noise differs from row to row."""
    return pipe.start_batch(
        list(first_frames),
        [walk.initial_pose for walk in walks],
        [walk.text for walk in walks],
        seeds=[seed] * len(walks),
        episodes=[walk.layout.seed for walk in walks],
    )


def advance(pipe: StreamPipeline, state: DreamState, tokens: np.ndarray) -> tuple[DreamState, torch.Tensor]:
    """One chunk (B, 2, C) further: the state, and frames uint8 (B, 4, H, W, 3).

    Raises:
        FloatingPointError: a dream is no longer finite.
    """
    chunk = pipe.generate(state, tokens)
    if not bool(chunk.finite.all()):
        rows = [row for row, fine in enumerate(chunk.finite.tolist()) if not fine]
        raise FloatingPointError(f"chunk {int(state.chunk.max()) + 1} of dreams {rows} is not finite")
    return pipe.finalize(state, chunk), chunk.frames
