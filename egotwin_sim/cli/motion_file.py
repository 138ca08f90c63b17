"""Motions in the files that people have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from egotwin_sim.errors import UserError

if TYPE_CHECKING:
    from egotwin_sim.motion import Motion, Skeleton

BVH_FPS = 60.0  # a recording's own rate is often more than a body's movements need


def read_motion(path: Path, skeleton: Skeleton, notes: list[str], fps: float | None = None) -> Motion:
    """The motion in a file, on a skeleton of the default proportions.

    Args:
        path: `.npz` as `Motion.save` writes it, or `.bvh`.
        skeleton: the default one, as an importer shall make it.
        notes: gets a line on whatever had to be changed.
        fps: frames per second of the result. None: an `.npz` file's own, `BVH_FPS` of a `.bvh` file.

    Raises:
        UserError: a file that is missing, damaged or of another kind, or a motion without a head.
    """
    from egotwin_sim.data.convert.cut import on_default_body
    from egotwin_sim.motion import Motion
    from egotwin_sim.motion.bvh import load_bvh

    if path.suffix.lower() == ".bvh":
        imported = load_bvh(path, fps=BVH_FPS if fps is None else fps, skeleton=skeleton)
        notes.extend(f"{path.name}: {note}" for note in imported.report.notes)
        return imported.motion
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: expected a motion as .npz (as `egotwin generate` writes it) or .bvh")
    motion, _ = on_default_body(Motion.load(path), keep_head=False)
    if fps is not None and motion.fps != fps:
        notes.append(f"{path.name}: motion resampled from {motion.fps:g} to {fps:g} frames/s")
        motion = motion.resampled(fps)
    return motion
