"""Checkpoints of the Hugging Face hub: a folder, the hub's cache, or a download."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from egotwin_sim.errors import UserError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def checkpoint_folder(path_or_id: str | Path, patterns: Sequence[str]) -> Path:
    """The folder of a checkpoint.

    Args:
        path_or_id: a folder, the folder that the hub's cache keeps for a repository (``models--OWNER--NAME``), or a hub
            id ``OWNER/NAME``, which is downloaded unless the cache has it.
        patterns: the files to download; of a cached repository no others are looked for.

    Raises:
        UserError: no such folder, no snapshot in the cache, or a download that fails.
    """
    path = Path(path_or_id)
    if path.is_dir():
        return _snapshot(path) if (path / "snapshots").is_dir() else path
    if not _HUB_ID.fullmatch(str(path_or_id)):
        raise UserError(f"there is no folder {path_or_id}; give a folder or a hub id such as zai-org/CogVideoX-5b")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path_or_id), allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:  # what the hub's client raises for names, gates, networks and full disks
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path_or_id} is no folder, and the hub does not give it ({reason}); check the name and the network, or "
            "download it elsewhere and give its folder"
        ) from error


def _snapshot(cached: Path) -> Path:
    """The snapshot of a repository in the hub's cache: that of ``main``, or the only one."""
    snapshots = sorted(folder for folder in (cached / "snapshots").iterdir() if folder.is_dir())
    main = cached / "refs" / "main"
    if main.is_file() and (cached / "snapshots" / main.read_text().strip()).is_dir():
        return cached / "snapshots" / main.read_text().strip()
    if len(snapshots) != 1:
        raise UserError(f"{cached} has {len(snapshots)} snapshots and none is marked as main; give one of them")
    return snapshots[0]
