"""To and from the parameters of SMPL, SMPL-H and SMPL-X.

The three models share 22 body joints, which are ours by name, and their tree. Without a model file the rotations
carry over and the proportions do not: they are licensed. With one (`SMPLBody`), the body has the vendor's proportions,
and our forward kinematics agree with those of the `smplx` package.

Axes. The vendor's body rests in a T-pose with y up, facing +z, the left at +x; ours with z up, facing +x, the left at
+y. The world of the parameters is said by `up`: "z" as in AMASS, whose world is kept as it is, or "y", which is turned
so that +z becomes our +x.

Translation. SMPL turns a body about its pelvis, where that rests in the model, and then shifts it: the pelvis is at
`transl + pelvis`, the rest position `pelvis` not being turned. That position depends on the body and is known from its
file alone; without a body it is taken as zero. The motion as a whole then lies off by it, for an adult by 0.2 m to
0.4 m along the world's y axis: sideways where z is up, too high where y is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.files import replacing
from egotwin_sim.motion.motion import Motion, default_skeleton
from egotwin_sim.motion.rotations import (
    axis_angle_to_quat,
    matrix_to_quat,
    quat_conjugate,
    quat_multiply,
    quat_to_axis_angle,
)
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.motion.smpl_body import BODY_JOINTS, BODY_PARENTS, FROM_SMPL, SMPLBody, check_gender
from egotwin_sim.motion.smpl_file import KINDS

__all__ = ["SMPLBody", "SMPLParameters", "motion_to_mesh", "motion_to_smpl", "smpl_to_motion", "write_smplx"]

Up = Literal["z", "y"]

# Numbers a frame: SMPL has two joints for the hands, the others leave the hands to `hand_pose`.
_BODY = {"smpl": 69, "smplh": 63, "smplx": 63}
_HANDS = 90
# AMASS gives 16 betas and 8 soft-tissue parameters with every sequence.
_BETAS, _DMPLS = 16, 8
_RATES = ("mocap_frame_rate", "mocap_framerate")


@dataclass(frozen=True, eq=False)
class SMPLParameters:
    """A motion as the vendor's models take it.

    Attributes:
        kind: "smpl", "smplh" or "smplx".
        global_orient: float64 (T, 3), rotation vectors of the pelvis in the world, radians.
        body_pose: float64 (T, 69) for SMPL, (T, 63) for the others: rotation vectors of the other joints.
        transl: float64 (T, 3), metres; the module says what it is.
        fps: frames per second.
        betas: float64 (B,), the shape.
        gender: "neutral", "male" or "female".
        up: the vertical axis of the world, "z" or "y".
        hand_pose: float64 (T, 90), rotation vectors of the fingers, left before right, from the flat hand; None for
            flat hands, and for SMPL, which has no fingers.

    Raises:
        UserError: a shape does not fit, there is no frame, a number is not finite, or kind, gender, rate or axis are
            unknown.
    """

    kind: str
    global_orient: np.ndarray
    body_pose: np.ndarray
    transl: np.ndarray
    fps: float
    betas: np.ndarray
    gender: str = "neutral"
    up: Up = "z"
    hand_pose: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Convert to float64 and check."""
        if self.kind not in KINDS:
            raise UserError(f"kind is {self.kind!r}; expected {', '.join(KINDS)}")
        check_gender(self.gender)
        _check_up(self.up)
        object.__setattr__(self, "fps", _rate(self.fps))
        frames = len(self.transl) if np.ndim(self.transl) else 0
        if frames == 0:
            raise UserError(f"transl has shape {np.shape(self.transl)}; expected (T, 3) with at least one frame")
        if self.kind == "smpl" and self.hand_pose is not None:
            raise UserError("there is a hand_pose, but SMPL has no fingers; leave it out, or give kind smplh")
        widths = {"global_orient": 3, "body_pose": _BODY[self.kind], "transl": 3, "hand_pose": _HANDS}
        for name, width in widths.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _table(name, getattr(self, name), frames, width))
        object.__setattr__(self, "betas", _shape(self.betas))

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.transl)

    def motion(self, body: SMPLBody | None = None, skeleton: Skeleton | None = None) -> Motion:
        """The motion in our axes; see `smpl_to_motion`.

        Raises:
            UserError: the body is of another kind or gender.
        """
        if body is not None and (body.kind, body.gender) != (self.kind, self.gender):
            raise UserError(
                f"the parameters belong to a {self.gender} {self.kind} body, the model is {body.gender} {body.kind}: "
                "give the model they were made with"
            )
        return smpl_to_motion(
            self.betas, self.global_orient, self.body_pose, self.transl, self.fps, self.up, body, skeleton=skeleton
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` file as AMASS does, whole or not at all.

        SMPL-X in the layout of its newer files (`root_orient`, `pose_body`, `pose_hand`, `pose_jaw`, `pose_eye`,
        `trans`, `mocap_frame_rate`, ...), SMPL-H and SMPL in that of the older ones (`poses`, `trans`,
        `mocap_framerate`, `dmpls`, ...).

        Raises:
            UserError: the folder does not exist, or the world's y axis is up, which AMASS's never is.
        """
        path = Path(path)
        if self.up != "z":
            raise UserError(
                f"{path.name}: files in AMASS's layout have z up, these parameters y; make them with up='z'"
            )
        if not path.parent.is_dir():
            raise UserError(f"{path.parent} is not a folder; create it before saving {path.name} there")
        face = np.zeros((len(self), 9))  # jaw and eyes
        hands = np.zeros((len(self), 0 if self.kind == "smpl" else _HANDS))
        if self.hand_pose is not None:
            hands = self.hand_pose
        arrays: dict[str, Any] = {"gender": np.array(self.gender), "trans": self.transl, "betas": self.betas}
        if self.kind == "smplx":
            arrays |= {
                "surface_model_type": np.array("smplx"),
                "mocap_frame_rate": np.array(self.fps),
                "mocap_time_length": np.array(len(self) / self.fps),
                "num_betas": np.array(len(self.betas)),
                "root_orient": self.global_orient,
                "pose_body": self.body_pose,
                "pose_hand": hands,
                "pose_jaw": face[:, :3],
                "pose_eye": face[:, 3:],
                "poses": np.concatenate((self.global_orient, self.body_pose, face, hands), axis=1),
            }
        else:
            arrays |= {
                "mocap_framerate": np.array(self.fps),
                "poses": np.concatenate((self.global_orient, self.body_pose, hands), axis=1),
                "dmpls": np.zeros((len(self), _DMPLS)),
            }
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    @staticmethod
    def load(path: str | os.PathLike[str], up: Up = "z") -> SMPLParameters:
        """Read an `.npz` file in one of AMASS's layouts, or with the names that the `smplx` package uses.

        Nothing is unpickled, and soft tissue, face and markers are not read.

        Args:
            path: the file.
            up: the vertical axis of its world; "z" in AMASS.

        Raises:
            UserError: the file is missing or damaged, an array is missing or of a wrong shape, there is no frame, no
                frame rate, a number that is not finite, or an unknown gender.
        """
        if not Path(path).is_file():
            raise UserError(f"{path} is not a file; expected SMPL parameters saved as .npz")
        try:
            with np.load(path, allow_pickle=False) as data:
                return SMPLParameters(**_fields(data), up=up)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except Exception as error:  # a damaged archive can raise anything
            raise UserError(f"{path} cannot be read as SMPL parameters ({error}); get the file again") from error


def smpl_to_motion(
    betas: np.ndarray | Sequence[float] | None,
    global_orient: np.ndarray,
    body_pose: np.ndarray,
    transl: np.ndarray,
    fps: float,
    up: Up = "z",
    body: SMPLBody | None = None,
    *,
    skeleton: Skeleton | None = None,
) -> Motion:
    """A motion of our 22 joints from SMPL parameters.

    Args:
        betas: (B,), the shape, which needs a body to have an effect; the body's own when None.
        global_orient: (T, 3), rotation vectors of the pelvis, radians.
        body_pose: (T, 63), or (T, 69) with SMPL's two hands, which are dropped.
        transl: (T, 3), metres.
        fps: frames per second.
        up: the vertical axis of the parameters' world.
        body: the model; with it the motion has that body's skeleton, and its joints are where `smplx` puts them.
        skeleton: the body of the motion without a model; the default one without either. It must rest in our T-pose.

    Returns:
        The motion in our axes, at the same rate.

    Raises:
        UserError: a shape does not fit, there is no frame, a number is not finite, the axis is unknown, body and
            skeleton are both given, or the skeleton's joints are not SMPL's.
    """
    _check_up(up)
    shape = None if betas is None else _shape(betas)
    frames = len(transl) if np.ndim(transl) else 0
    orient, way = _table("global_orient", global_orient, frames, 3), _table("transl", transl, frames, 3)
    width = np.shape(body_pose)[1] if np.ndim(body_pose) == 2 else 0
    pose = _table("body_pose", body_pose, frames, width if width in _BODY.values() else _BODY["smplx"])
    if body is not None:
        if skeleton is not None:
            raise UserError("both a body and a skeleton are given; expected one: a body brings its own skeleton")
        body = body if shape is None else body.shaped(shape)
        skeleton = body.skeleton
        way = way + body.pelvis
    skeleton = skeleton or default_skeleton()
    joints = _joints_of(skeleton)
    if len(joints) != skeleton.num_joints:
        more = sorted(set(skeleton.names) - set(BODY_JOINTS))
        raise UserError(f"SMPL says nothing of {', '.join(more)}; give a skeleton of the 22 body joints")

    count = len(BODY_JOINTS) - 1
    to_world = FROM_SMPL if up == "y" else np.eye(3)
    root = quat_multiply(_quat(up), quat_multiply(axis_angle_to_quat(orient), quat_conjugate(_quat("y"))))
    limbs = axis_angle_to_quat(pose[:, : 3 * count].reshape(frames, count, 3) @ FROM_SMPL.T)
    quat = np.empty((frames, skeleton.num_joints, 4))
    quat[:, joints] = np.concatenate((root[:, None], limbs), axis=1)
    return Motion(way @ to_world.T, quat, skeleton, _rate(fps))


def motion_to_smpl(
    motion: Motion, kind: str = "smplx", *, body: SMPLBody | None = None, up: Up = "z"
) -> SMPLParameters:
    """SMPL parameters of a motion; hands are flat, since our body has none.

    The pelvis is where the motion's is. Where the motion's skeleton is not the body's own, all else follows from the
    rotations: a body with longer legs stands deeper.

    Args:
        motion: of a skeleton with SMPL's 22 joints, whatever else it has.
        kind: "smpl", "smplh" or "smplx".
        body: the model that the parameters are for. Without it they are those of the neutral mean body, and its pelvis
            is taken to rest in the model's origin.
        up: the vertical axis of the parameters' world.

    Raises:
        UserError: kind or axis are unknown, the body is of another kind, or the skeleton's joints are not SMPL's.
    """
    if kind not in KINDS:
        raise UserError(f"kind is {kind!r}; expected {', '.join(KINDS)}")
    if body is not None and body.kind != kind:
        raise UserError(f"kind is {kind}, but the body is of kind {body.kind}; give one of one kind")
    _check_up(up)
    quat = motion.joint_quat_wxyz[:, _joints_of(motion.skeleton)].astype(np.float64)
    orient = quat_multiply(quat_conjugate(_quat(up)), quat_multiply(quat[:, 0], _quat("y")))
    limbs = (quat_to_axis_angle(quat[:, 1:]) @ FROM_SMPL).reshape(len(motion), -1)
    pose = np.zeros((len(motion), _BODY[kind]))
    pose[:, : limbs.shape[1]] = limbs
    transl = motion.root_position.astype(np.float64) @ (FROM_SMPL if up == "y" else np.eye(3))
    betas = np.zeros(_BETAS)
    if body is not None:
        transl, betas = transl - body.pelvis, body.betas
    gender = "neutral" if body is None else body.gender
    return SMPLParameters(kind, quat_to_axis_angle(orient), pose, transl, motion.fps, betas, gender, up)


def motion_to_mesh(motion: Motion, body: SMPLBody) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a body in motion, in our axes.

    The hands are flat and the face is at rest. The pelvis is where the motion's is (`motion_to_smpl`).

    Returns:
        Vertices float32 (T, V, 3), metres, and triangles int32 (F, 3).

    Raises:
        UserError: the `smplx` package is not installed, or the skeleton's joints are not SMPL's.
    """
    parameters = motion_to_smpl(motion, body.kind, body=body)
    vectors = np.zeros((len(motion), KINDS[body.kind], 3))
    vectors[:, 0] = parameters.global_orient
    given = parameters.body_pose.reshape(len(motion), -1, 3)
    vectors[:, 1 : 1 + given.shape[1]] = given
    return body.vertices(axis_angle_to_quat(vectors), parameters.transl), body.faces


def write_smplx(path: str | os.PathLike[str], motion: Motion, *, body: SMPLBody | None = None) -> None:
    """Write a motion as SMPL-X parameters, in the layout of AMASS's SMPL-X files and with z up.

    `SMPLParameters.load(path).motion()` gives the motion back, on the default skeleton; with a body, its
    `motion(body)` gives it on that body's.

    Args:
        path: the `.npz` file.
        motion: of a skeleton with SMPL's 22 joints.
        body: the model that the parameters are for (`motion_to_smpl`).

    Raises:
        UserError: the folder does not exist, or the skeleton's joints are not SMPL's.
    """
    motion_to_smpl(motion, "smplx", body=body).save(path)


@cache
def _quat(up: Up) -> np.ndarray:
    """The turn from the parameters' world to ours: none where z is up, and from the vendor's axes where y is."""
    return matrix_to_quat(FROM_SMPL if up == "y" else np.eye(3))


def _joints_of(skeleton: Skeleton) -> list[int]:
    """The numbers of SMPL's 22 joints in a skeleton."""
    missing = [name for name in BODY_JOINTS if name not in skeleton.index]
    if missing:
        raise UserError(f"the skeleton has no {', '.join(missing)}; expected SMPL's 22 body joints: retarget it first")
    for name, parent in zip(BODY_JOINTS[1:], BODY_PARENTS[1:], strict=True):
        theirs = skeleton.names[skeleton.parents[skeleton.index[name]]]
        if theirs != BODY_JOINTS[parent]:
            raise UserError(f"{name} hangs on {theirs}; expected {BODY_JOINTS[parent]}, as in SMPL: retarget it first")
    return [skeleton.index[name] for name in BODY_JOINTS]


def _check_up(up: str) -> None:
    if up not in ("z", "y"):
        raise UserError(f"up is {up!r}; expected 'z' or 'y', the vertical axis of the parameters' world")


def _rate(fps: Any) -> float:
    value = np.asarray(fps)
    if value.size != 1 or value.dtype.kind not in "fiu" or not (np.isfinite(value).all() and value.item() > 0):
        raise UserError(f"the frame rate is {fps}; expected one positive number of frames per second")
    return float(value.item())


def _shape(betas: Any) -> np.ndarray:
    """Betas (B,), float64; a leading axis of one body is dropped."""
    value = np.asarray(betas)
    value = value[0] if value.ndim == 2 and len(value) == 1 else value
    if value.ndim != 1 or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
        raise UserError(f"betas have shape {value.shape}; expected (B,) finite numbers, one shape for all frames")
    return value.astype(np.float64)


def _table(name: str, value: Any, frames: int, width: int) -> np.ndarray:
    """Finite numbers (T, width), float64, T at least 1."""
    array = np.asarray(value)
    if array.shape != (frames, width) or frames == 0 or array.dtype.kind not in "fiu":
        raise UserError(
            f"{name} has shape {array.shape} of {array.dtype}; expected ({frames or 'T'}, {width}) numbers"
            + ("" if frames else " with at least one frame")
        )
    if not np.isfinite(array).all():
        frame = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise UserError(f"{name} is not finite at frame {frame}; repair or cut the motion there")
    return array.astype(np.float64)


def _fields(data: Any) -> dict[str, Any]:
    """What `SMPLParameters` needs, from the arrays of an opened `.npz` file."""
    rate = next((name for name in _RATES if name in data.files), None)
    if rate is None:
        raise UserError(f"there is no frame rate ({' or '.join(_RATES)}); a file without it cannot be used")
    trans = _first(data, "trans", "transl")
    fields: dict[str, Any] = {
        "fps": data[rate],
        "transl": trans,
        "betas": _first(data, "betas"),
        "gender": _gender(data),
    }
    if "poses" in data.files and "root_orient" not in data.files:
        return fields | _from_poses(data["poses"])
    fields["global_orient"] = _first(data, "root_orient", "global_orient")
    fields["body_pose"] = _first(data, "pose_body", "body_pose")
    if np.ndim(fields["body_pose"]) == 2 and fields["body_pose"].shape[1] == _BODY["smpl"]:
        return fields | {"kind": "smpl"}
    model = str(data["surface_model_type"]) if "surface_model_type" in data.files else ""
    kind = "smplh" if model.startswith("smplh") else "smplx"
    return fields | {"kind": kind, "hand_pose": data["pose_hand"] if "pose_hand" in data.files else None}


def _from_poses(poses: np.ndarray) -> dict[str, Any]:
    """Kind and rotations from AMASS's one table of all joints."""
    kind = {3 * joints: name for name, joints in KINDS.items()}.get(poses.shape[1] if poses.ndim == 2 else 0)
    if kind is None:
        raise UserError(
            f"poses has shape {poses.shape}; expected (T, N) with N = "
            + ", ".join(f"{3 * joints} ({name})" for name, joints in KINDS.items())
        )
    hands = None if kind == "smpl" else poses[:, -_HANDS:]
    return {
        "kind": kind,
        "global_orient": poses[:, :3],
        "body_pose": poses[:, 3 : 3 + _BODY[kind]],
        "hand_pose": hands,
    }


def _first(data: Any, *names: str) -> np.ndarray:
    """The first of some arrays that is there."""
    for name in names:
        if name in data.files:
            return data[name]
    raise UserError(f"there is no {' or '.join(names)}; expected SMPL parameters as AMASS gives them")


def _gender(data: Any) -> str:
    """The gender; some files have it as bytes."""
    if "gender" not in data.files:
        raise UserError("there is no gender; expected neutral, male or female")
    value = data["gender"].reshape(-1)
    word = value[0] if len(value) == 1 else ""
    return word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
