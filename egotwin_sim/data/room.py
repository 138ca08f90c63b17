"""Generates a dataset from procedural rooms with a pool of processes; it may be killed and started again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from egotwin_sim.data.episode import Episode
from egotwin_sim.data.lerobot_reader import UNFINISHED, LeRobotReader
from egotwin_sim.data.lerobot_writer import INFO_PATH, LeRobotWriter
from egotwin_sim.data.parts import Progress, make_parts, missing_parts, processes, put_aside, workshop
from egotwin_sim.data.plan import MOTION_FPS, VIDEO_FPS, Plan
from egotwin_sim.data.room_clip import COLUMNS, NOTES, camera_of, codes, make_room
from egotwin_sim.motion import Skeleton


def generate_room_dataset(
    out: Path | str,
    clips: int,
    seed: int = 0,
    workers: int | None = None,
    size: int = 128,
    seconds: float = 5.0,
    progress: Progress | None = None,
    same_rooms: int | None = None,
) -> Path:
    """Write a LeRobot v3.0 dataset of clips in procedural rooms, with depth.

    Each room's clips are made by one process and put aside in `out/.generation`; when all are there, they are joined
    without being encoded again. Killed at any time and called again with the same settings, it goes on, and the
    result has the same bytes; they do not depend on `workers` either.

    Args:
        out: a folder that does not exist, is empty, or holds an interrupted generation with the same settings.
        clips: number of clips.
        seed: of all randomness.
        workers: processes; the number of usable cores when None.
        size: width and height of the pictures, pixels, a multiple of 16.
        seconds: length of a clip.
        progress: called with ("rendering" or "joining", clips done, all clips).
        same_rooms: number of rooms that all clips share, see ``Plan``.

    Returns:
        The folder.

    Raises:
        UserError: a setting is out of range, `out` holds something else, the disk is full, or there is no OpenGL.
    """
    plan, out = Plan(clips, seed, size, seconds, same_rooms), Path(out)
    workers = processes(workers)
    report = progress or (lambda stage, done, total: None)
    with workshop(out, plan.to_json()) as work:
        if not (out / INFO_PATH).is_file():
            _make_rooms(work, plan, workers, report)
            _join(work, plan, out, report)
            LeRobotReader(out)  # checks that what was written can be opened and that its counts agree
    return out


def _room_folder(work: Path, room: int) -> Path:
    return work / f"room-{room:06d}"


def _make_rooms(work: Path, plan: Plan, workers: int, report: Progress) -> None:
    missing = missing_parts(work, range(plan.rooms), partial(_room_folder, work))
    made = plan.clips - sum(len(plan.clips_of(room)) for room in missing)
    report("rendering", made, plan.clips)

    def count(room: int) -> None:
        nonlocal made
        made += len(plan.clips_of(room))
        report("rendering", made, plan.clips)

    make_parts(partial(_make_room, work, plan), missing, workers, count)


def _make_room(work: Path, plan: Plan, room: int) -> None:
    """Make the clips of one room and put them aside as a whole."""
    with put_aside(_room_folder(work, room)) as folder:
        for clip, episode in zip(plan.clips_of(room), make_room(plan, room), strict=True):
            episode.save(folder / f"clip-{clip:08d}.npz")


def _join(work: Path, plan: Plan, out: Path, report: Progress) -> None:
    writer = LeRobotWriter(
        out,
        size=(plan.size, plan.size),
        camera=camera_of(plan),
        skeleton=Skeleton.default(),
        fps=VIDEO_FPS,
        motion_fps=MOTION_FPS,
        depth=True,
        extra=COLUMNS,
        notes=NOTES,
        about={"generator": {"seed": plan.seed, "clips": plan.clips, "seconds": plan.seconds}, "codes": codes()},
        ignore=(UNFINISHED,),
    )
    try:
        for room in range(plan.rooms):
            for clip in plan.clips_of(room):
                writer.add(Episode.load(_room_folder(work, room) / f"clip-{clip:08d}.npz"))
                report("joining", clip + 1, plan.clips)
    except BaseException:
        writer.abort()
        raise
    writer.close(plan.splits)
