"""What a caller gives to many environments at once, as what each of them gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from egotwin_sim.errors import UserError

RANKS = {"first_frame": 3, "initial_pose": 1}  # dimensions of one environment's array; other options are no arrays


def count_of_envs(num_envs: int) -> int:
    """How many environments are asked for.

    Raises:
        UserError: no whole number from 1 on.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
        raise UserError(f"num_envs is {num_envs!r}; expected a whole number from 1 on")
    return int(num_envs)


def own_options(options: dict[str, Any] | None, index: int, num_envs: int) -> dict[str, Any]:
    """The reset options of one environment of several.

    A text, a picture (H, W, 3) or a pose (D,) goes to all. A list or tuple of as many entries as there are
    environments, or an array with one more dimension, has one for each; None leaves the choice to that environment.

    Raises:
        UserError: another number of entries.
    """
    own = {}
    for name, value in (options or {}).items():
        several = isinstance(value, np.ndarray) and value.ndim == RANKS.get(name, 0) + 1
        if several or isinstance(value, (list, tuple)):
            if len(value) != num_envs:
                raise UserError(f"reset option {name} has {len(value)} entries; expected one for all, or {num_envs}")
            value = value[index]
        own[name] = value
    return own


def own_seconds(value: float | Sequence[float], index: int, num_envs: int) -> float:
    """One environment's length of an episode, from one for all or one for each.

    Raises:
        UserError: another number of entries.
    """
    if np.ndim(value) and len(value) != num_envs:  # type: ignore[arg-type]  # a sequence, where it has a dimension
        raise UserError(f"max_seconds has {np.size(value)} entries; expected one for all, or {num_envs}")
    return float(np.broadcast_to(np.asarray(value, dtype=np.float64), num_envs)[index])


def reset_rows(mask: Any, num_envs: int) -> list[int]:
    """The environments that `options["reset_mask"]` names; all of them without it.

    Raises:
        UserError: no bool array (N,), or one that names none.
    """
    if mask is None:
        return list(range(num_envs))
    mask = np.asarray(mask)
    if mask.shape != (num_envs,) or mask.dtype != np.bool_:
        raise UserError(f"reset option reset_mask is {mask.dtype} {mask.shape}; expected bool ({num_envs},)")
    if not mask.any():
        raise UserError("reset option reset_mask is False everywhere; name at least one environment to reset")
    return [int(row) for row in np.flatnonzero(mask)]


def own_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """A seed for each environment: None for all, seed + i from an int, or as given.

    Raises:
        UserError: another number of seeds, or one that is no whole number from 0 on.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        seeds: list[Any] = [int(seed) + i for i in range(num_envs)]
    else:
        seeds = list(seed)
    if len(seeds) != num_envs:
        raise UserError(f"{len(seeds)} seeds for {num_envs} environments; give one for each, or one int")
    for own in seeds:
        if own is not None and (not isinstance(own, (int, np.integer)) or own < 0):
            raise UserError(f"seed {own!r} is no whole number from 0 on")
    return [None if own is None else int(own) for own in seeds]


def own_rows(index: int | Sequence[int] | None, num_envs: int) -> list[int]:
    """The environments that an index or several name; all of them for None.

    Raises:
        UserError: one that is not there or named twice, or none.
    """
    if index is None:
        return list(range(num_envs))
    rows = [index] if isinstance(index, (int, np.integer)) else list(index)
    for row in rows:
        if isinstance(row, bool) or not isinstance(row, (int, np.integer)) or not 0 <= row < num_envs:
            raise UserError(f"there is no environment {row!r}; there are {num_envs}, numbered from 0")
    if not rows or len(set(rows)) != len(rows):
        raise UserError(f"environments {rows} were named; expected each once, and at least one")
    return [int(row) for row in rows]
