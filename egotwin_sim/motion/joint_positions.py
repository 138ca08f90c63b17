"""A motion from joint positions alone, by fitting a body to them.

Positions say where bones point, and how pelvis and chest are turned, which carry three bones each. They do not say how
a bone is turned about itself: thighs and upper arms are turned so that knees and elbows bend as hinges, the turn of the
spine is spread from pelvis to chest, and the head, hands and toes follow what carries them. So the direction of the
head, in particular, is that of the neck and the chest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import Motion, default_skeleton
from egotwin_sim.motion.rotations import axis_angle_to_matrix, matrix_to_quat, quat_to_matrix, shortest_turn, slerp
from egotwin_sim.motion.skeleton import Skeleton

# Joints that carry three rigid bones, which tell all of their rotation.
_RIGID = {"pelvis": ("left_hip", "right_hip", "spine1"), "spine3": ("neck", "left_collar", "right_collar")}
_SPINE = (("spine1", "spine2", 1.0 / 3.0), ("spine2", "spine3", 2.0 / 3.0))
# Upper bone of a limb, what carries it, the joints at its end and at the lower bone's end, and about which axis of the
# upper bone the lower one bends: knees backward, elbows forward. A thigh never turns by a quarter, so a knee that
# bends the wrong way is overstretched; an upper arm does, so its elbow tells which way it is turned.
_LIMBS = (
    ("left_hip", "pelvis", "left_knee", "left_ankle", (0.0, 1.0, 0.0)),
    ("right_hip", "pelvis", "right_knee", "right_ankle", (0.0, 1.0, 0.0)),
    ("left_shoulder", "left_collar", "left_elbow", "left_wrist", (0.0, 0.0, -1.0)),
    ("right_shoulder", "right_collar", "right_elbow", "right_wrist", (0.0, 0.0, 1.0)),
)
# Joints with one bone, which follow what carries them as far as the bone allows; in order from the trunk outwards.
_SINGLE = (
    *(("neck", "head"), ("left_collar", "left_shoulder"), ("right_collar", "right_shoulder")),
    *(("left_knee", "left_ankle"), ("right_knee", "right_ankle"), ("left_elbow", "left_wrist")),
    *(("right_elbow", "right_wrist"), ("left_ankle", "left_foot"), ("right_ankle", "right_foot")),
)
# A limb bent by less than about this tells little of its hinge, radians.
_STRAIGHT = 0.15
_SHORTEST_BONE = 1e-3  # metres


@dataclass(frozen=True, eq=False)
class PositionFit:
    """A body fitted to joint positions.

    Attributes:
        motion: on a skeleton with the bones' median lengths.
        error_m: float64 (T, 22), distance of each of its joints to where it was given, metres.
    """

    motion: Motion
    error_m: np.ndarray


def fit_positions(position: np.ndarray, fps: float) -> PositionFit:
    """Fit a body to the positions of its joints.

    Args:
        position: (T, 22, 3), metres, in our axes and the order of our joints (SMPL's).
        fps: frames per second.

    Raises:
        UserError: the shape is another, there is no frame, a number is not finite, or a bone has no length.
    """
    ours = default_skeleton()
    position = np.asarray(position, dtype=np.float64)
    if position.ndim != 3 or position.shape[1:] != (ours.num_joints, 3) or not len(position):
        raise UserError(f"joint positions have shape {position.shape}; expected (T, {ours.num_joints}, 3) with T >= 1")
    if not np.isfinite(position).all():
        frame = int(np.argmin(np.isfinite(position).all(axis=(1, 2))))
        raise UserError(f"joint positions are not finite at frame {frame}; repair or cut the motion there")
    bones = position - position[:, [max(parent, 0) for parent in ours.parents]]
    skeleton = _skeleton(bones)
    rotation = _rotations(bones, skeleton)
    local = rotation.copy()
    above = list(skeleton.parents[1:])
    local[:, 1:] = np.swapaxes(rotation[:, above], -1, -2) @ rotation[:, 1:]
    motion = Motion(position[:, 0], matrix_to_quat(local), skeleton, fps)
    return PositionFit(motion, np.linalg.norm(motion.joint_transforms()[0] - position, axis=-1))


def _skeleton(bones: np.ndarray) -> Skeleton:
    """A body in our T-pose with the bones (T, J, 3) of a motion: their median lengths, and the angles in its trunk."""
    ours = default_skeleton()
    lengths = np.median(np.linalg.norm(bones, axis=-1), axis=0)
    short = [name for name, length in zip(ours.names[1:], lengths[1:], strict=True) if length < _SHORTEST_BONE]
    if short:
        raise UserError(
            f"the bone that ends in {', '.join(short)} has no length; expected positions of a body in metres"
        )
    offsets = ours.offsets * (lengths / np.maximum(np.linalg.norm(ours.offsets, axis=-1), _SHORTEST_BONE))[:, None]
    for children in _RIGID.values():
        at = [ours.index[name] for name in children]
        shape = _mean_shape(bones[:, at])
        shape = shape @ _best_turn(shape[None], offsets[at])[0].T
        offsets[at] = shape * (lengths[at] / np.linalg.norm(shape, axis=-1))[:, None]
    legs = [ours.index[f"{side}_{name}"] for side in ("left", "right") for name in ("knee", "ankle")]
    scale = float(lengths[legs].sum() / np.linalg.norm(ours.offsets[legs], axis=-1).sum())
    return Skeleton(ours.names, ours.parents, offsets, ours.head_offset * scale, ours.foot_height * scale)


def _mean_shape(vectors: np.ndarray) -> np.ndarray:
    """The shape (N, 3) of vectors (T, N, 3) that turn together."""
    shape = vectors[len(vectors) // 2]
    for _ in range(2):
        back = np.swapaxes(_best_turn(np.broadcast_to(shape, vectors.shape), vectors), -1, -2)
        shape = (vectors @ np.swapaxes(back, -1, -2)).mean(axis=0)
    return shape


def _best_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) that take the directions a (T, N, 3) nearest to those of b (T, N, 3) or (N, 3) (Kabsch)."""
    a, b = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (a, b))
    u, _, vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    sign = np.ones((len(a), 3))
    sign[:, 2] = np.linalg.det(u @ vt)
    return np.swapaxes(vt, -1, -2) @ (sign[:, :, None] * np.swapaxes(u, -1, -2))


def _rotations(bones: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """World rotations (T, J, 3, 3) of all joints."""
    index, offsets = skeleton.index, skeleton.offsets
    found: dict[str, np.ndarray] = {}
    for name, children in _RIGID.items():
        at = [index[child] for child in children]
        found[name] = _best_turn(np.broadcast_to(offsets[at], (len(bones), 3, 3)), bones[:, at])
    ends = matrix_to_quat(found["pelvis"]), matrix_to_quat(found["spine3"])
    for name, child, share in _SPINE:
        found[name] = _onto(quat_to_matrix(slerp(*ends, share)), offsets[index[child]], bones[:, index[child]])
    for name, child in _SINGLE[:3]:
        found[name] = _onto(found["spine3"], offsets[index[child]], bones[:, index[child]])
    for name, base, middle, end, hinge in _LIMBS:
        upper, lower = bones[:, index[middle]], bones[:, index[end]]
        turned = _onto(found[base], offsets[index[middle]], upper)
        found[name] = _hinged(turned, upper, lower, np.array(hinge), overstretches=end.endswith("ankle"))
    for name, child in _SINGLE[3:]:
        base = skeleton.names[skeleton.parents[index[name]]]
        found[name] = _onto(found[base], offsets[index[child]], bones[:, index[child]])
    for name in skeleton.names:
        if name not in found:
            found[name] = found[skeleton.names[skeleton.parents[index[name]]]]
    return np.stack([found[name] for name in skeleton.names], axis=1)


def _onto(base: np.ndarray, rest: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3): those of the base, turned on as little as brings a bone that rests at (3,) to (T, 3)."""
    return shortest_turn(base @ rest, bone) @ base


def _hinged(
    rotation: np.ndarray, upper: np.ndarray, lower: np.ndarray, hinge: np.ndarray, *, overstretches: bool
) -> np.ndarray:
    """Turn an upper bone about itself until the lower one bends about its hinge.

    Args:
        rotation: (T, 3, 3), of the upper bone, right but for that turn.
        upper: (T, 3), the bone.
        lower: (T, 3), the bone that bends.
        hinge: (3,), the axis that it bends about, in the upper bone's rest frame, across it.
        overstretches: whether a bend the wrong way is one, or else tells that the upper bone is turned.
    """
    along = upper / np.linalg.norm(upper, axis=-1, keepdims=True)
    bend = np.cross(along, lower / np.linalg.norm(lower, axis=-1, keepdims=True))
    now = rotation @ hinge
    if overstretches:
        bend = bend * np.where(np.sum(bend * now, axis=-1) < 0, -1.0, 1.0)[:, None]
    wanted = bend + _STRAIGHT * now
    angle = np.arctan2(np.sum(along * np.cross(now, wanted), axis=-1), np.sum(now * wanted, axis=-1))
    return axis_angle_to_matrix(along * angle[:, None]) @ rotation
