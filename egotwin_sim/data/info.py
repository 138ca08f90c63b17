"""Describes a dataset in a few lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from egotwin_sim.data.columns import VIDEO
from egotwin_sim.data.lerobot_reader import LeRobotReader

EXAMPLES = 5
_DOOR, _BLOCKED = "room.door_angle", "room.blocked"


def describe(root: Path | str) -> list[tuple[str, str]]:
    """Names and values of what a reader wants to know first.

    Raises:
        UserError: the folder is no dataset, or a file is missing or truncated.
    """
    reader = LeRobotReader(root)
    frames = sum(reader.length(episode) for episode in range(len(reader)))
    unit = "video frames" if reader.has_video else "rows"
    size = sum(path.stat().st_size for path in reader.root.rglob("*") if path.is_file())
    lines = [
        ("folder", str(reader.root)),
        ("format", f"LeRobot {reader.info['codebase_version']}, egotwin {reader.info['egotwin']['format_version']}"),
        ("clips", f"{len(reader)} ({frames} {unit}, {frames / reader.fps / 60:.1f} minutes)"),
        ("video", _video(reader)),
        ("motion", f"{reader.motion_fps:g} frames/s, {reader.skeleton.num_joints} joints"),
        ("splits", ", ".join(f"{name} {len(part)}" for name, part in reader.splits.items())),
        ("on disk", f"{size / 1e6:.1f} MB, {size / 1e3 / len(reader):.0f} kB a clip"),
        ("texts", f"{len(reader.tasks)} different"),
    ]
    if "room.seed" in reader.features:
        lines += _rooms(reader)
    lines += [("example", reader.text(episode)) for episode in range(min(EXAMPLES, len(reader)))]
    return lines


def _video(reader: LeRobotReader) -> str:
    if not reader.has_video:
        return f"none, motion alone, {reader.fps} rows/s"
    height, width = reader.features[VIDEO]["shape"][:2]
    return f"{width}x{height}, {reader.fps} frames/s" + (", with depth" if reader.has_depth else "")


def _rooms(reader: LeRobotReader) -> list[tuple[str, str]]:
    codes: dict[str, list[str]] = reader.info["egotwin"].get("codes", {})
    rooms: set[int] = set()
    opened = blocked = 0
    shares: dict[str, Counter[str]] = {name: Counter() for name in codes}
    for episode in range(len(reader)):
        rows = reader.columns(episode, ("room.seed", _DOOR, _BLOCKED, *codes))
        rooms.add(int(rows["room.seed"][0, 0]))
        opened += bool(np.ptp(rows[_DOOR]) > 0)
        blocked += bool(rows[_BLOCKED].any())
        for name, meanings in codes.items():
            shares[name].update({meanings[code] for code in np.unique(rows[name])})
    lines = [
        ("rooms", str(len(rooms))),
        ("door moves", f"in {opened} clips"),
        ("body blocked", f"in {blocked} clips"),
    ]
    for name, count in shares.items():
        lines.append((name.removeprefix("room."), ", ".join(f"{each} {n}" for each, n in count.most_common())))
    return lines
