"""A small random body in the vendor's file formats, with the names, shapes and types that `smplx` reads."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from egotwin_sim.motion import Skeleton

JOINTS = {"smpl": 24, "smplh": 52, "smplx": 55}
SHAPES = {"smpl": 10, "smplh": 16, "smplx": 20}
VERTICES = 60
# The vendor's axes: y up, facing +z, the left at +x.
TO_VENDOR = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
ORIGIN = np.array([0.004, -0.31, 0.02])  # where the pelvis rests


def parents(kind: str) -> list[int]:
    """The tree: 22 body joints; SMPL's hands, or SMPL-X's jaw and eyes; five fingers of three joints on each wrist."""
    tree = list(Skeleton.default().parents)
    tree += {"smpl": [20, 21], "smplh": [], "smplx": [15, 15, 15]}[kind]
    for wrist in (20, 21) if kind != "smpl" else ():
        for _ in range(5):
            tree += [wrist, len(tree), len(tree) + 1]
    return tree


def model(kind: str, seed: int = 0) -> dict[str, Any]:
    """The arrays of a model file. The body is a thin one: some vertices around each joint, and soles under the feet."""
    rng = np.random.default_rng(seed)
    count, tree, ours = JOINTS[kind], parents(kind), Skeleton.default()
    at = np.zeros((count, 3))
    for joint, parent in enumerate(tree):
        if joint < 22:
            step = TO_VENDOR @ ours.offsets[joint] * rng.uniform(0.9, 1.1) + rng.normal(size=3) * 0.01
        else:
            step = rng.normal(size=3) * 0.03
        at[joint] = ORIGIN if parent < 0 else at[parent] + step
    owner = np.concatenate((np.arange(count), rng.integers(0, 22, VERTICES - count)))
    vertices = at[owner] + rng.normal(size=(VERTICES, 3)) * 0.005
    vertices[-1, 1] = vertices[:, 1].min() - 0.02  # a sole
    weights = rng.uniform(size=(VERTICES, count)) ** 8
    weights[np.arange(VERTICES), owner] += 3.0
    regressor = rng.uniform(size=(count, VERTICES)) * 0.001
    regressor[np.arange(count), np.arange(count)] += 1.0
    table = np.stack((np.array(tree, np.int64) % 2**32, np.arange(count))).astype(np.uint32)
    arrays: dict[str, Any] = {
        "v_template": vertices,
        "shapedirs": rng.normal(size=(VERTICES, 3, SHAPES[kind])) * 0.005,
        "posedirs": rng.normal(size=(VERTICES, 3, 9 * (count - 1))) * 0.002,
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "kintree_table": table,
        "f": rng.integers(0, VERTICES, (40, 3)).astype(np.uint32),
    }
    if kind != "smpl":
        for side in "lr":
            arrays[f"hands_components{side}"] = rng.normal(size=(45, 45))
            arrays[f"hands_mean{side}"] = rng.normal(size=45) * 0.1
            arrays[f"hands_coeffs{side}"] = rng.normal(size=(4, 45))
    if kind == "smplx":
        arrays["lmk_faces_idx"] = np.arange(5)
        arrays["lmk_bary_coords"] = np.full((5, 3), 1.0 / 3.0)
        # The vendor's file has objects too, which must stay untouched.
        arrays["joint2num"] = np.array({"Pelvis": 0}, dtype=object)
    return arrays


def write_npz(path: Path, arrays: dict[str, Any]) -> Path:
    """A `.npz` file of the vendor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def write_pkl(path: Path, arrays: dict[str, Any]) -> Path:
    """A `.pkl` file of the vendor: an old protocol, and a sparse regressor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = arrays | {"J_regressor": sparse.csc_matrix(arrays["J_regressor"]), "bs_type": "lrotmin"}
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=2)
    return path
