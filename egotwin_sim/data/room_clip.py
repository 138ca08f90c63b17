"""Makes the clips of one procedural room: motion, what the room makes of it, pictures, columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.clip import Clip
from egotwin_sim.data.columns import Column
from egotwin_sim.data.episode import Episode, encode_episode
from egotwin_sim.data.plan import MOTION_FPS, VIDEO_FPS, Plan
from egotwin_sim.motion import Motion

if TYPE_CHECKING:
    from egotwin_sim.room.synthesis import Segment
    from egotwin_sim.room.world import RoomWorld

SKILLS = ("idle", "walk", "turn", "look", "reach", "wave", "open", "crouch", "sit")
# Values at each video frame. `blocked`: something has stopped the body since the video frame before. `goal_kind`: the
# clip's main skill.
COLUMNS = {
    "room.seed": Column("int64", 1),
    "room.clip_seed": Column("int64", 1),
    "room.door_angle": Column("float32", 1),
    "room.blocked": Column("int64", 1),
    "room.skill": Column("int64", 1),
    "room.goal_kind": Column("int64", 1),
}
NOTES = ("goal_target", "segments")
_STEP = int(MOTION_FPS) // VIDEO_FPS


def codes() -> dict[str, list[str]]:
    """What the whole numbers in the columns `room.skill` and `room.goal_kind` stand for."""
    return {"room.skill": list(SKILLS), "room.goal_kind": list(SKILLS)}


def camera_of(plan: Plan) -> Camera:
    """The head camera of every room of a plan."""
    return _camera(_build(plan, 0))


def make_room(plan: Plan, room: int) -> Iterator[Episode]:
    """The clips of one room in order. They depend on the plan's seed and their own indices alone."""
    world = _build(plan, room)
    try:
        for clip in plan.clips_of(room):
            yield _make_clip(world, plan, clip)
    finally:
        world.close()


def _build(plan: Plan, room: int) -> RoomWorld:
    from egotwin_sim.room.layout import sample_layout
    from egotwin_sim.room.world import RoomWorld

    return RoomWorld(sample_layout(plan.room_seed(room)), size=plan.size)


def _camera(world: RoomWorld) -> Camera:
    return Camera(world.intrinsics, world.T_head_camera)


def _make_clip(world: RoomWorld, plan: Plan, clip: int) -> Episode:
    from egotwin_sim.room.synthesis import synthesise

    seed = plan.clip_seed(clip)
    wanted = synthesise(world.layout, seed, seconds=plan.seconds)
    world.reset(wanted.motion[0], door_angle=0.0)
    played = world.step(wanted.motion[1:])
    motion = Motion.concatenate((wanted.motion[0], played.motion))
    door_angle = np.concatenate(([0.0], played.door_angle))
    rgb, depth = world.record(motion, door_angle, every=_STEP)
    frames = len(rgb)
    blocked = played.blocked.reshape(frames - 1, _STEP).any(axis=1)
    values: dict[str, np.ndarray] = {
        "room.seed": np.full(frames, world.layout.seed, dtype=np.int64),
        "room.clip_seed": np.full(frames, seed, dtype=np.int64),
        "room.door_angle": door_angle[::_STEP].astype(np.float32),
        "room.blocked": np.concatenate(([0], blocked)).astype(np.int64),
        "room.skill": _skills(wanted.segments, frames),
        "room.goal_kind": np.full(frames, SKILLS.index(wanted.goal_kind), dtype=np.int64),
    }
    notes = {
        "goal_target": wanted.target or "",
        "segments": json.dumps([[each.kind, each.start, each.stop] for each in wanted.segments]),
    }
    return encode_episode(Clip(rgb, motion, wanted.text, _camera(world), depth, VIDEO_FPS), values, notes)


def _skills(segments: Sequence[Segment], frames: int) -> np.ndarray:
    """Code of the skill at each video frame, int64 (frames,): of segments that overlap, the one begun last."""
    skills = np.full(frames, SKILLS.index("idle"), dtype=np.int64)
    times = np.arange(frames) / VIDEO_FPS
    for segment in sorted(segments, key=lambda each: each.start):
        skills[(segment.start <= times) & (times <= segment.stop)] = SKILLS.index(segment.kind)
    return skills
