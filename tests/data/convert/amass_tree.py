"""Folders as AMASS and HumanML3D unpack, with known bodies in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply
from egotwin_sim.motion.smpl import SMPLBody, motion_to_smpl


def walker(seconds: float, fps: float, skeleton: Skeleton | None = None, seed: int = 0) -> Motion:
    """A body that walks in a curve, its feet now and then on the floor; the same motion at every rate."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * fps) + 1) / fps
    swing = 0.25 * np.sin(rng.uniform(1, 3, (1, 22, 3)) * time[:, None, None] + rng.uniform(0, 6, (1, 22, 3)))
    for name in ("pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"):
        swing[:, Skeleton.default().index[name]] *= 0.1
    quat = axis_angle_to_quat(swing)
    yaw = 0.4 * time + seed
    quat[:, 0] = quat_multiply(axis_angle_to_quat(np.stack((0 * yaw, 0 * yaw, yaw), axis=-1)), quat[:, 0])
    skeleton = skeleton or Skeleton.default()
    root = np.stack((0.3 * time, 0.1 * time, np.full_like(time, skeleton.rest_root_height)), axis=-1)
    return Motion(root, quat, skeleton, fps)


def write_recording(
    root: Path, name: str, motion: Motion, body: SMPLBody | None = None, **changes: np.ndarray | None
) -> Path:
    """A recording `<data set>/<subject>/<file>.npz`: SMPL-X if the name ends in _stageii, else SMPL-H.

    `changes` replaces arrays of the file, or takes one away (None).
    """
    path = root / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "smplx" if name.endswith("_stageii") else "smplh"
    motion_to_smpl(motion, kind, body=body).save(path)
    if changes:
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files} | changes
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path
