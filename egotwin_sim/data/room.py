"""Generates a dataset from procedural rooms with a pool of processes; it may be killed and started again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from egotwin_sim.data.disk import writing
from egotwin_sim.data.episode import Episode
from egotwin_sim.data.lerobot_reader import UNFINISHED, LeRobotReader
from egotwin_sim.data.lerobot_writer import INFO_PATH, STAGING, LeRobotWriter, require_empty
from egotwin_sim.data.plan import MOTION_FPS, VIDEO_FPS, Plan
from egotwin_sim.data.room_clip import COLUMNS, NOTES, camera_of, codes, make_room
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Skeleton

Progress = Callable[[str, int, int], None]
_FULL = "free some space and run the same command again; it goes on where it stopped"
# One thread per process: more would fight for the cores, and could change the last bit of a sum.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS"), "1")


def generate_room_dataset(
    out: Path | str,
    clips: int,
    seed: int = 0,
    workers: int | None = None,
    size: int = 128,
    seconds: float = 5.0,
    progress: Progress | None = None,
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

    Returns:
        The folder.

    Raises:
        UserError: a setting is out of range, `out` holds something else, the disk is full, or there is no OpenGL.
    """
    plan, out = Plan(clips, seed, size, seconds), Path(out)
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise UserError(f"--workers {workers}: give the number of processes, 1 or more")
    report = progress or (lambda stage, done, total: None)
    work = out / UNFINISHED
    require_empty(out, ignore=(UNFINISHED, STAGING, "data", "videos", "meta") if work.is_dir() else ())
    with writing(out, _FULL):
        work.mkdir(parents=True, exist_ok=True)
        with _only_one(work):
            _claim(work, plan, out)
            if not (out / INFO_PATH).is_file():
                for name in (STAGING, "data", "videos", "meta"):  # of a joining that was killed while it moved them
                    shutil.rmtree(out / name, ignore_errors=True)
                _make_rooms(work, plan, workers, report)
                _join(work, plan, out, report)
                LeRobotReader(out)  # checks that what was written can be opened and that its counts agree
            shutil.rmtree(work)
    return out


@contextlib.contextmanager
def _only_one(work: Path) -> Iterator[None]:
    """Hold the folder's lock; it goes with the process, however that ends."""
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{work.parent} is being written by another process: wait for it, or end it") from error
        yield


def _claim(work: Path, plan: Plan, out: Path) -> None:
    settings = work / "settings.json"
    if not settings.exists():
        temporary = settings.with_suffix(".tmp")
        temporary.write_text(plan.to_json())
        temporary.replace(settings)
    elif settings.read_text() != plan.to_json():
        raise UserError(
            f"{out} holds an interrupted generation with other settings ({settings.read_text().strip()}): "
            "give the same ones, or a new folder"
        )


def _room_folder(work: Path, room: int) -> Path:
    return work / f"room-{room:06d}"


def _make_rooms(work: Path, plan: Plan, workers: int, report: Progress) -> None:
    missing = [room for room in range(plan.rooms) if not _room_folder(work, room).is_dir()]
    for remainder in work.glob(".room-*"):  # of processes that were killed
        shutil.rmtree(remainder, ignore_errors=True)
    done = plan.clips - sum(len(plan.clips_of(room)) for room in missing)
    report("rendering", done, plan.clips)
    if not missing:
        return
    with (
        _environment(_ONE_THREAD),
        ProcessPoolExecutor(
            min(workers, len(missing)), mp_context=get_context("spawn"), initializer=_begin_worker
        ) as pool,
    ):  # spawn: OpenGL does not survive a fork
        try:
            futures = {pool.submit(_make_room, work, plan, room): room for room in missing}
            for future in as_completed(futures):
                future.result()
                done += len(plan.clips_of(futures[future]))
                report("rendering", done, plan.clips)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for want of memory: run the same command again, "
                "with fewer --workers; it goes on where it stopped"
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _make_room(work: Path, plan: Plan, room: int) -> None:
    """Make the clips of one room and put them aside as a whole."""
    target = _room_folder(work, room)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=work))
    try:
        for clip, episode in zip(plan.clips_of(room), make_room(plan, room), strict=True):
            episode.save(temporary / f"clip-{clip:08d}.npz")
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


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


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
