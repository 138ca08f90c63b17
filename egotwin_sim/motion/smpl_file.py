"""Reading the vendor's SMPL, SMPL-H and SMPL-X model files.

The files are licensed by the Max Planck Society, for research that is not commercial; none comes with this project.
"""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from egotwin_sim.errors import UserError

KINDS = {"smpl": 24, "smplh": 52, "smplx": 55}
"""The number of joints of each kind of body."""

GENDERS = ("neutral", "male", "female")

_ARRAYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")
# The shape comes first in `shapedirs` of SMPL-X and the face's expression behind it: 300 and 100, or 10 and 10.
_SMPLX_SHAPES, _SMPLX_ALL, _SMPLX_FEW = 300, 400, 10
# What pickled arrays are made of; nothing else in a file is given a chance to run. The second module is where numpy 2
# and today's scipy have moved it.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): "numpy._core.multiarray",
    ("numpy._core.multiarray", "_reconstruct"): "numpy._core.multiarray",
    ("numpy.core.multiarray", "scalar"): "numpy._core.multiarray",
    ("numpy._core.multiarray", "scalar"): "numpy._core.multiarray",
    ("numpy", "ndarray"): "numpy",
    ("numpy", "dtype"): "numpy",
    ("_codecs", "encode"): "_codecs",
    ("copy_reg", "_reconstructor"): "copyreg",
    ("copyreg", "_reconstructor"): "copyreg",
    ("__builtin__", "object"): "builtins",
    ("builtins", "object"): "builtins",
}
_SPARSE = ("csc_matrix", "csr_matrix", "coo_matrix")


@dataclass(frozen=True, eq=False)
class SMPLFile:
    """What a model file says, in the vendor's axes: y up, facing +z, the left at +x; metres.

    Attributes:
        path: the file.
        v_template: float64 (V, 3), vertices of the mean body in its rest pose.
        shapedirs: float64 (V, 3, B), how each shape parameter moves them.
        posedirs: float32 (V, 3, 9 (J - 1)), how the rotations of the joints move them.
        J_regressor: float64 (J, V), joints from vertices.
        weights: float64 (V, J), of the joints in each vertex' motion.
        parents: (J,), -1 for the pelvis.
        faces: int32 (F, 3).
    """

    path: Path
    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    weights: np.ndarray
    parents: tuple[int, ...]
    faces: np.ndarray


def find_smpl_file(path: str | os.PathLike[str], kind: str, gender: str) -> Path:
    """The model file of a kind and gender.

    Args:
        path: the file itself, or a folder with the vendor's names in it: `SMPLX_NEUTRAL.npz`, `neutral/model.npz`,
            or one of them in a folder of the kind's name.
        kind: "smpl", "smplh" or "smplx".
        gender: "neutral", "male" or "female".

    Raises:
        UserError: there is none. A `.pkl` in a folder is not taken: only one that is named itself is unpickled.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    stem = f"{kind.upper()}_{gender.upper()}"
    names = [f"{stem}.npz", f"{kind}/{stem}.npz", f"{gender}/model.npz", f"{kind}/{gender}/model.npz"]
    for name in names:
        if (path / name).is_file():
            return path / name
    for name in (f"{stem}.pkl", f"{kind}/{stem}.pkl"):
        if (path / name).is_file():
            raise UserError(
                f"{path} has {name} but no .npz: pickled files are read only when they are named themselves: give the "
                "path of the file, or better the vendor's .npz"
            )
    raise UserError(f"{path} has no {kind} model of gender {gender}: expected {names[0]}, {names[1]} or {names[3]}")


def read_smpl_file(path: str | os.PathLike[str], kind: str) -> SMPLFile:
    """Read a model file.

    A `.pkl` is read by an unpickler that knows numpy and scipy arrays and nothing else.

    Args:
        path: a `.npz` or `.pkl` file of the vendor.
        kind: "smpl", "smplh" or "smplx".

    Raises:
        UserError: the file is missing or damaged, lacks an array, belongs to another kind of body, or needs chumpy.
    """
    path = Path(path)
    if kind not in KINDS:
        raise UserError(f"kind is {kind!r}; expected {', '.join(KINDS)}")
    if not path.is_file():
        raise UserError(
            f"{path} is not a file; expected the vendor's {kind} model, which comes with its licence from its site"
        )
    if path.suffix == ".npz":
        arrays = _from_npz(path)
    elif path.suffix == ".pkl":
        arrays = _from_pkl(path)
    else:
        raise UserError(f"{path} is no SMPL model file; expected .npz or .pkl")
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; expected an SMPL model file, as the vendor gives it")
    return _checked(path, kind, {name: _dense(path, name, arrays[name]) for name in _ARRAYS})


def _from_npz(path: Path) -> Mapping[str, Any]:
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in _ARRAYS:
                if name in file.files:
                    arrays[name] = file[name]
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"{path} cannot be read as a model file ({error}); get it again from its site") from error
    return arrays


def _from_pkl(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            value = _ArrayUnpickler(path, file).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} cannot be read as a model file ({error}); get it again from its site") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}; expected the dictionary of an SMPL model file")
    return value


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays, and what they stand in; everything else is refused."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")  # the vendor's files were written by Python 2
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of an array."""
        if module.split(".")[0] == "chumpy":
            raise UserError(
                f"{self._path} holds chumpy objects, which no current Python can read: use the vendor's .npz (for "
                "SMPL-H and SMPL-X), or save the arrays of this file as .npz once, where chumpy still runs"
            )
        if module.startswith("scipy.sparse") and name in _SPARSE:
            return getattr(importlib.import_module("scipy.sparse"), name)
        if (module, name) not in _ALLOWED:
            raise UserError(
                f"{self._path} asks for {module}.{name}, which has no place in an SMPL model file; do not use it"
            )
        try:
            return getattr(importlib.import_module(_ALLOWED[module, name]), name)
        except ImportError:  # numpy 1
            return getattr(importlib.import_module(module), name)


def _dense(path: Path, name: str, value: Any) -> np.ndarray:
    """A plain array of numbers."""
    array = np.asarray(value.todense() if hasattr(value, "todense") else value)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} holds {array.dtype}; expected numbers")
    return array


def _checked(path: Path, kind: str, arrays: dict[str, np.ndarray]) -> SMPLFile:
    """The arrays, of shapes that fit together."""
    joints = KINDS[kind]
    found = arrays["kintree_table"].shape[-1] if arrays["kintree_table"].ndim == 2 else 0
    if found != joints:
        other = next((name for name, count in KINDS.items() if count == found), "no kind that is known")
        raise UserError(
            f"{path} has {found} joints ({other}); expected {joints}, those of {kind}: give kind or file anew"
        )
    vertices = len(arrays["v_template"])
    shapes = arrays["shapedirs"].shape[-1]
    expected = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, shapes),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices),
        "weights": (vertices, joints),
        "kintree_table": (2, joints),
        "f": (len(arrays["f"]), 3),
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise UserError(f"{path}: {name} has shape {arrays[name].shape}; expected {shape}")
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name} is not finite everywhere; get the file again from its site")
    if kind == "smplx":
        shapes = _SMPLX_SHAPES if shapes >= _SMPLX_ALL else min(shapes, _SMPLX_FEW)
    parents = arrays["kintree_table"][0].astype(np.int64)
    parents[0] = -1  # the vendor writes the largest uint32
    if not all(0 <= parent < joint for joint, parent in enumerate(parents) if joint):
        raise UserError(f"{path}: kintree_table is no tree with parents before children; it is another model's")
    faces = arrays["f"].astype(np.int32)
    if faces.size and not 0 <= faces.min() <= faces.max() < vertices:
        raise UserError(f"{path}: f names vertices that are not there; the file is damaged")
    return SMPLFile(
        path,
        v_template=arrays["v_template"].astype(np.float64),
        shapedirs=arrays["shapedirs"][..., :shapes].astype(np.float64),
        posedirs=arrays["posedirs"].astype(np.float32),  # the largest array by far, with the smallest effect
        J_regressor=arrays["J_regressor"].astype(np.float64),
        weights=arrays["weights"].astype(np.float64),
        parents=tuple(int(parent) for parent in parents),
        faces=faces,
    )
