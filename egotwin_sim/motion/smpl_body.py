"""A body with the proportions of a licensed SMPL model file, and its surface.

SMPL, SMPL-H and SMPL-X are licensed by the Max Planck Society for research that is not commercial. That holds for the
model files and for the `smplx` package, which computes the surface: it is an extra of its own, installed with
`pip install 'egotwin_sim[smplx]'` by those who have accepted its terms, and nothing else in this project needs it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import default_skeleton
from egotwin_sim.motion.rotations import quat_to_matrix
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.motion.smpl_file import GENDERS, KINDS, SMPLFile, find_smpl_file, read_smpl_file

BODY_JOINTS = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
"""The first 22 joints of all three models, in their order."""

BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
"""Their parents, by number."""

FROM_SMPL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""From the vendor's axes (y up, facing +z, the left at +x) to ours (x forward, y left, z up)."""

# SMPL-X has joints in its eyes, behind the jaw.
_EYES = (23, 24)
# Frames whose surface is computed at a time: 10,475 vertices with a 4x4 transform each are 21 MB for 32.
_BATCH = 32


class SMPLBody:
    """A body of one shape.

    Attributes:
        kind: "smpl", "smplh" or "smplx".
        gender: "neutral", "male" or "female".
        betas: float64 (B,), the shape; B as given.
        skeleton: its 22 joints with their rest offsets, in our axes. The point between the eyes is SMPL-X's own; for
            SMPL and SMPL-H, whose models have no eyes, it is that of our body, scaled by the height of the head.
        pelvis: float64 (3,), metres, the rest position of the pelvis in the vendor's axes. A body that SMPL moves by
            `transl` has its pelvis at `transl + pelvis`, however it is turned.
        faces: int32 (F, 3), triangles of vertices.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        kind: str = "smplx",
        gender: str = "neutral",
        betas: np.ndarray | Sequence[float] | None = None,
    ) -> None:
        """Read a model file.

        Args:
            model_path: the file, or a folder that holds it under a name of the vendor (`find_smpl_file`).
            kind: "smpl", "smplh" or "smplx".
            gender: "neutral", "male" or "female".
            betas: (B,), the shape; the mean body without it. The file may know more parameters than are given.

        Raises:
            UserError: kind or gender are unknown, there is no such file, it cannot be read, or there are more betas
                than it knows.
        """
        if kind not in KINDS:
            raise UserError(f"kind is {kind!r}; expected {', '.join(KINDS)}")
        self.kind, self.gender = kind, check_gender(gender)
        path = find_smpl_file(model_path, kind, gender)
        self._file = _remembered(path.resolve(), kind)
        if self._file.parents[: len(BODY_PARENTS)] != BODY_PARENTS:
            raise UserError(f"{path}: its joints do not hang together as those of {kind} do; it is another model")
        self._shape(np.zeros(0) if betas is None else betas)

    def shaped(self, betas: np.ndarray | Sequence[float]) -> SMPLBody:
        """The body of the same file with other betas (B,).

        Raises:
            UserError: there are more than the file knows, or one is not finite.
        """
        other = SMPLBody.__new__(SMPLBody)
        other.kind, other.gender, other._file = self.kind, self.gender, self._file
        other._shape(betas)
        return other

    def _shape(self, betas: np.ndarray | Sequence[float]) -> None:
        known = self._file.shapedirs.shape[-1]
        given = np.asarray(betas, dtype=np.float64)
        if given.ndim != 1 or not np.isfinite(given).all() or given[known:].any():
            raise UserError(
                f"betas have shape {given.shape}; expected (B,) finite numbers, all behind the first {known} zero: "
                f"{self._file.path.name} knows no more"
            )
        self.betas = given[:known]
        self._vertices = self._file.v_template + self._file.shapedirs[..., : len(self.betas)] @ self.betas
        self._joints = self._file.J_regressor @ self._vertices
        self.pelvis = self._joints[0]
        self.faces = self._file.faces
        self.skeleton = self._skeleton()

    def _skeleton(self) -> Skeleton:
        ours = default_skeleton()
        at = {name: FROM_SMPL @ self._joints[joint] for joint, name in enumerate(BODY_JOINTS)}
        offsets = np.array(
            [
                at[name] - (at[BODY_JOINTS[parent]] if parent >= 0 else at[name])
                for name, parent in zip(BODY_JOINTS, BODY_PARENTS, strict=True)
            ]
        )
        sole = float(self._vertices[:, 1].min())
        # From the ankle that `rest_root_height` goes by, so that this height is exact.
        foot_height = float(at["left_ankle"][2] - sole)
        skeleton = Skeleton(BODY_JOINTS, BODY_PARENTS, offsets, np.zeros(3), foot_height)
        if self.kind == "smplx":
            eyes = FROM_SMPL @ self._joints[list(_EYES)].mean(axis=0)
            return replace(skeleton, head_offset=eyes - at["head"])
        head = ours.rest_root_height + sum(ours.offsets[joint, 2] for joint in ours.head_chain)
        return replace(skeleton, head_offset=ours.head_offset * (at["head"][2] - sole) / head)

    def vertices(self, joint_quat_wxyz: np.ndarray, transl: np.ndarray) -> np.ndarray:
        """The surface, by `smplx`'s linear blend skinning.

        Args:
            joint_quat_wxyz: (T, J, 4), all joints of the kind in the vendor's order and axes, relative to their
                parents; the pelvis' to the world.
            transl: (T, 3), metres, SMPL's translation (see `pelvis`).

        Returns:
            float32 (T, V, 3), metres, in the world that pelvis and translation are in.

        Raises:
            UserError: `smplx` is not installed.
        """
        skin = _skinning()
        import torch

        file = self._file
        matrices = torch.from_numpy(quat_to_matrix(np.asarray(joint_quat_wxyz, dtype=np.float64))).float()
        rest, weights = torch.from_numpy(self._vertices).float(), torch.from_numpy(file.weights).float()
        regressor = torch.from_numpy(file.J_regressor).float()
        posedirs = torch.from_numpy(file.posedirs.reshape(-1, file.posedirs.shape[-1]).T)
        no_shape = torch.zeros(len(rest), 3, 1)  # the vertices are shaped already
        found = []
        for start in range(0, len(matrices), _BATCH):
            part = matrices[start : start + _BATCH]
            surface, _ = skin(
                torch.zeros(len(part), 1),
                part,
                rest,
                no_shape,
                posedirs,
                regressor,
                torch.tensor(file.parents),
                weights,
                pose2rot=False,
            )
            found.append(surface.numpy())
        return np.concatenate(found) + np.asarray(transl, dtype=np.float32)[:, None]


def check_gender(gender: str) -> str:
    """The gender, if it is one that the vendor's models know.

    Raises:
        UserError: it is not.
    """
    if gender not in GENDERS:
        raise UserError(f"gender is {gender!r}; expected {', '.join(GENDERS)}")
    return gender


@lru_cache(maxsize=3)
def _remembered(path: Path, kind: str) -> SMPLFile:
    """A model file; bodies of many shapes share it."""
    return read_smpl_file(path, kind)


def _skinning():
    """`smplx`'s linear blend skinning."""
    try:
        from smplx.lbs import lbs
    except ImportError as error:
        raise UserError(
            "the surface of an SMPL body needs the smplx package: read its licence, which allows research that is not "
            "commercial, and install it with pip install 'egotwin_sim[smplx]'"
        ) from error
    return lbs
