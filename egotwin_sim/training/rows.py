"""Rows of arrays that are computed once and kept on disk, in shards that several processes share out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from egotwin_sim.errors import UserError
from egotwin_sim.training.processes import processes

ROWS_PER_SHARD = 512
SAVED_EVERY = 50
"""Rows that a kill costs at most."""

TOLD = "rows.json"

Compute = Callable[[range], Mapping[str, np.ndarray]]


class Shards:
    """An array whose rows lie in several files, mapped from disk; read like a NumPy array by rows.

    Args:
        parts: equally long but for the last.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts, self._each = list(parts), len(parts[0])
        self.dtype = parts[0].dtype
        self.shape: tuple[int, ...] = (sum(len(part) for part in parts), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """One row by its number; several by an array of numbers, or by ``np.ix_(rows, columns)``."""
        if isinstance(index, int | np.integer):
            shard, row = divmod(int(index) % len(self), self._each)
            return self._parts[shard][row]
        rows, columns = (index[0].ravel(), index[1].ravel()) if isinstance(index, tuple) else (np.asarray(index), None)
        width = self.shape[1:] if columns is None else (len(columns), *self.shape[2:])
        found = np.empty((len(rows), *width), self.dtype)
        for shard in np.unique(rows // self._each):
            here = np.flatnonzero(rows // self._each == shard)
            own = rows[here] % self._each
            found[here] = self._parts[shard][own if columns is None else np.ix_(own, columns)]
        return found


def computed_rows(
    folder: Path, identity: dict[str, Any], count: int, compute: Compute, *, at_once: int = 1, title: str
) -> dict[str, Shards]:
    """Open the arrays in a folder, computing them first if need be; goes on after a kill.

    Shards are dealt out to the processes, and each waits for the others at the end.

    Args:
        folder: where the arrays are kept.
        identity: what they are of, JSON-serialisable.
        count: rows, at least one.
        compute: from row numbers to named arrays, their rows.
        at_once: rows that ``compute`` is asked for at most.
        title: of the progress bar.

    Raises:
        UserError: the folder holds rows of something else.
    """
    here, told = processes(), folder / TOLD
    wanted = {"identity": identity, "rows": count}
    if told.exists():
        found = json.loads(told.read_text())
        if {name: found[name] for name in wanted} != wanted:
            if found["whole"]:
                raise UserError(
                    f"{folder} holds {title} of another data set or model; remove it, or use another --init or --out"
                )
            here.wait()
            if here.main:
                shutil.rmtree(folder)
    here.wait()
    if not told.exists() and here.main:
        folder.mkdir(parents=True, exist_ok=True)
        _tell(told, wanted | {"whole": False})
    here.wait()
    starts = range(0, count, ROWS_PER_SHARD)
    shards = [folder / f"shard-{i:05d}" for i in range(len(starts))]
    if not json.loads(told.read_text())["whole"]:
        for i, shard in enumerate(shards):
            if i % here.count == here.rank and not shard.exists():
                rows = range(starts[i], min(count, starts[i] + ROWS_PER_SHARD))
                _compute(shard, rows, compute, at_once, f"{title}, {i + 1} of {len(shards)}")
        here.wait()
        if here.main:
            _tell(told, wanted | {"whole": True})
    names = sorted(file.stem for file in shards[0].glob("*.npy"))
    return {name: Shards([np.load(shard / f"{name}.npy", mmap_mode="r") for shard in shards]) for name in names}


def _tell(path: Path, content: dict[str, Any] | int) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content))
    partial.rename(path)


def _compute(shard: Path, rows: range, compute: Compute, at_once: int, title: str) -> None:
    partial = shard.with_name(f".{shard.name}.partial")
    partial.mkdir(exist_ok=True)
    progress = partial / "done.json"
    done = json.loads(progress.read_text()) if progress.exists() else 0
    maps: dict[str, np.ndarray] = {}
    saved = done
    for first in track(range(done, len(rows), at_once), description=title, disable=not processes().main):
        last = min(len(rows), first + at_once)
        for name, values in compute(rows[first:last]).items():
            if name not in maps:
                path, shape = partial / f"{name}.npy", (len(rows), *values.shape[1:])
                mode = "r+" if first else "w+"
                maps[name] = np.lib.format.open_memmap(path, mode=mode, dtype=values.dtype, shape=shape)  # type: ignore[no-untyped-call]
            maps[name][first:last] = values
        if last - saved >= SAVED_EVERY or last == len(rows):
            for array in maps.values():
                array.flush()  # type: ignore[attr-defined]
            _tell(progress, last)
            saved = last
    progress.unlink()
    partial.rename(shard)
