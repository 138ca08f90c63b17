"""A data set made in parts: by many processes, put aside one by one, so that a killed run goes on where it stopped.

The parts lie in a folder of their own inside the data set's, until all are there and are joined.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import TypeVar

from egotwin_sim.data.disk import writing
from egotwin_sim.data.lerobot_reader import UNFINISHED
from egotwin_sim.data.lerobot_writer import CONTENT, INFO_PATH, STAGING, require_empty
from egotwin_sim.errors import UserError

Progress = Callable[[str, int, int], None]
Part = TypeVar("Part")
_FULL = "free some space and run the same command again; it goes on where it stopped"
# One thread per process: more would fight for the cores, and could change the last bit of a sum.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS"), "1")


@contextlib.contextmanager
def workshop(out: Path, settings: str) -> Iterator[Path]:
    """The folder for the parts of the data set `out`, held by this process alone; it is gone when the block ends well.

    A joining that was killed while it moved its files into place is undone; a finished data set (its `INFO_PATH` is
    there) is left alone, and the block has nothing to do. A mistake of the user that shows before anything was put
    aside leaves nothing behind, so that the next command may have other settings.

    Args:
        out: a folder that does not exist, is empty, or holds what an interrupted run with the same settings left.
        settings: one line that tells this data set from every other.

    Raises:
        UserError: `out` holds something else, another process writes it, or the disk is full.
    """
    work = out / UNFINISHED
    require_empty(out, ignore=(UNFINISHED, STAGING, *CONTENT) if work.is_dir() else ())
    new = not out.exists()
    with writing(out, _FULL):
        work.mkdir(parents=True, exist_ok=True)
        with _only_one(work):
            _claim(work, settings, out)
            if not (out / INFO_PATH).is_file():
                for name in (STAGING, *CONTENT):
                    _remove(out / name)
            try:
                yield work
            except UserError:
                if not any(path.is_dir() for path in work.iterdir()):
                    shutil.rmtree(out if new else work)
                raise
            shutil.rmtree(work)


def make_parts(make: Callable[[Part], None], parts: Sequence[Part], workers: int, done: Callable[[Part], None]) -> None:
    """Call `make` on every part, in processes of their own.

    Args:
        make: picklable; it puts the part aside (`put_aside`).
        parts: what is missing.
        workers: processes.
        done: called in this process when a part is there.

    Raises:
        UserError: a process was killed.
    """
    if not parts:
        return
    with (
        _environment(_ONE_THREAD),
        ProcessPoolExecutor(
            min(workers, len(parts)), mp_context=get_context("spawn"), initializer=begin_worker
        ) as pool,
    ):  # spawn: OpenGL does not survive a fork
        try:
            futures = {pool.submit(make, part): part for part in parts}
            for future in as_completed(futures):
                future.result()
                done(futures[future])
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for want of memory: run the same command again, "
                "with fewer --workers; it goes on where it stopped"
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextlib.contextmanager
def put_aside(target: Path) -> Iterator[Path]:
    """A folder beside `target` to fill; it becomes `target` if the block ends well, and is gone otherwise."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def missing_parts(work: Path, parts: Sequence[Part], folder: Callable[[Part], Path]) -> list[Part]:
    """The parts that are not there yet; what killed processes left half done is removed."""
    for remainder in work.glob(".*"):
        shutil.rmtree(remainder, ignore_errors=True)
    return [part for part in parts if not folder(part).is_dir()]


def processes(workers: int | None) -> int:
    """The number of processes: as given, or one for each usable core.

    Raises:
        UserError: it is less than one.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise UserError(f"--workers {workers}: give the number of processes, 1 or more")
    return workers


@contextlib.contextmanager
def _only_one(work: Path) -> Iterator[None]:
    """Hold the folder's lock; it goes with the process, however that ends."""
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{work.parent} is being written by another process: wait for it, or end it") from error
        yield


def _claim(work: Path, settings: str, out: Path) -> None:
    path = work / "settings.json"
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(settings)
        temporary.replace(path)
    elif path.read_text() != settings:
        raise UserError(
            f"{out} holds an interrupted run with other settings ({path.read_text().strip()}): "
            "give the same ones, or a new folder"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def begin_worker() -> None:
    """In a worker process: leave Ctrl-C to the parent, and end when the parent ends, however that is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


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
