"""A contact sheet of the room's data, one clip for each skill: room_sheet.py --data DIR --out docs/room.png."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from egotwin_sim.data import LeRobotReader
from egotwin_sim.metrics.sheet import contact_sheet, save_sheet

EVERY = 5  # frames


def main() -> None:
    """Find the first clip of every skill and lay their frames out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    reader = LeRobotReader(arguments.data)
    skills = reader.info["egotwin"]["codes"]["room.goal_kind"]
    first: dict[str, int] = {}
    for clip in range(len(reader)):
        code = int(reader.columns(clip, ("room.goal_kind",))["room.goal_kind"][0, 0])
        first.setdefault(skills[code], clip)
        if len(first) == len(skills):
            break
    chosen = [first[skill] for skill in skills if skill in first]
    frames = np.stack([reader.frames(clip)[::EVERY] for clip in chosen])
    times = [f"{i / reader.fps:.2f} s" for i in range(0, reader.length(chosen[0]), EVERY)]
    save_sheet(arguments.out, contact_sheet(frames, None, [reader.text(clip) for clip in chosen], times, columns=1))


if __name__ == "__main__":
    main()
