"""A body from the places of its joints: rotations that bring our skeleton's bones into line with them.

Places alone do not tell how a limb is twisted. The bend of an elbow or knee tells it; a straight limb is taken to be
twisted no more than its neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.motion import default_skeleton, forward_kinematics
from egotwin_sim.motion.rotations import matrix_to_quat, quat_to_matrix, slerp

_SIDES = ("left", "right")
_LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
FACE = ("left_eye", "right_eye", "left_ear", "right_ear")
NEEDED = (*(f"{side}_{name}" for side in _SIDES for name in _LIMBS), *FACE)
# Sine of the bend below which an elbow or knee says nothing about the twist, and above which it says all.
_STRAIGHT, _BENT = 0.1, 0.35


def head_poses(points: Mapping[str, np.ndarray]) -> np.ndarray:
    """Poses T_world_head (T, 4, 4) from eyes and ears: between the eyes, x from the ears to the eyes, y to the left.

    Args:
        points: by name, (T, 3), metres; `FACE` at least.
    """
    eyes = 0.5 * (points["left_eye"] + points["right_eye"])
    ears = 0.5 * (points["left_ear"] + points["right_ear"])
    poses = np.zeros((len(eyes), 4, 4))
    poses[:, :3, :3] = _frames(points["left_ear"] - points["right_ear"], eyes - ears, first=1, second=0)
    poses[:, :3, 3] = eyes
    poses[:, 3, 3] = 1.0
    return poses


def body_scale(points: Mapping[str, np.ndarray]) -> float:
    """Factor from the size of a body to that of ours: legs, trunk and head, stretched out."""

    def height(place: Mapping[str, np.ndarray]) -> float:
        def middle(name: str) -> np.ndarray:
            return 0.5 * (place[f"left_{name}"] + place[f"right_{name}"])

        legs = [
            np.linalg.norm(place[f"{side}_{a}"] - place[f"{side}_{b}"], axis=-1)
            for side in _SIDES
            for a, b in (("hip", "knee"), ("knee", "ankle"))
        ]
        trunk = np.linalg.norm(middle("shoulder") - middle("hip"), axis=-1)
        neck = np.linalg.norm(middle("eye") - middle("shoulder"), axis=-1)
        return float(np.median(sum(legs) / 2 + trunk + neck))

    skeleton = default_skeleton()
    rest, _ = forward_kinematics(np.zeros((1, 3)), np.tile(np.eye(3), (1, skeleton.num_joints, 1, 1)), skeleton)
    ours = {name: rest[:, joint] for joint, name in enumerate(skeleton.names)}
    eyes = rest[:, skeleton.index["head"]] + skeleton.head_offset
    return height({**ours, "left_eye": eyes, "right_eye": eyes}) / height(points)


def motion_from_keypoints(points: Mapping[str, np.ndarray], fps: float) -> Motion:
    """Our body in the posture of joints whose places are known.

    Args:
        points: by name, (T, 3), metres, in a world with z up: `NEEDED` at least. Where there are `<side>_hand_middle`,
            `<side>_hand_index` and `<side>_hand_little` (the fingers' first joints), the hands are turned as they say.
        fps: frames per second.

    Returns:
        The motion on the default skeleton, its hips where theirs are.

    Raises:
        UserError: a point is missing.
    """
    missing = [name for name in NEEDED if name not in points]
    if missing:
        raise UserError(f"the body lacks {', '.join(missing)}; expected the places of all limbs, eyes and ears")
    skeleton = default_skeleton()
    hips = 0.5 * (points["left_hip"] + points["right_hip"])
    up = 0.5 * (points["left_shoulder"] + points["right_shoulder"]) - hips
    pelvis = _frames(points["left_hip"] - points["right_hip"], up, first=1, second=2)
    chest = _frames(points["left_shoulder"] - points["right_shoulder"], up, first=1, second=2)
    head = head_poses(points)[:, :3, :3]
    turned = {"pelvis": pelvis, "spine3": chest, "head": head, "neck": _between(chest, head, 0.5)}
    turned["spine1"], turned["spine2"] = _between(pelvis, chest, 1 / 3), _between(pelvis, chest, 2 / 3)
    ahead = np.array([1.0, 0.0, 0.0])
    for side, outward in zip(_SIDES, (1.0, -1.0), strict=True):
        arm = np.array([0.0, outward, 0.0])
        joints = [points[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist")]
        upper, lower = _limb(joints, chest, arm, np.cross(arm, ahead))
        turned[f"{side}_collar"], turned[f"{side}_shoulder"], turned[f"{side}_elbow"] = chest, upper, lower
        turned[f"{side}_wrist"] = _hand(points, side, arm, lower)
        leg = np.array([0.0, 0.0, -1.0])
        joints = [points[f"{side}_{name}"] for name in ("hip", "knee", "ankle")]
        upper, lower = _limb(joints, pelvis, leg, np.cross(leg, -ahead))
        turned[f"{side}_hip"], turned[f"{side}_knee"] = upper, lower
        turned[f"{side}_ankle"] = turned[f"{side}_foot"] = _level(lower, pelvis)

    local = np.empty((len(hips), skeleton.num_joints, 3, 3))
    for joint, name in enumerate(skeleton.names):
        parent = skeleton.parents[joint]
        above = turned[skeleton.names[parent]] if parent >= 0 else np.eye(3)
        local[:, joint] = np.swapaxes(above, -1, -2) @ turned[name]
    offset = np.mean([skeleton.offsets[skeleton.index[f"{side}_hip"]] for side in _SIDES], axis=0)
    return Motion(hips - pelvis @ offset, matrix_to_quat(local), skeleton, fps)


def _limb(
    joints: list[np.ndarray], above: np.ndarray, rest: np.ndarray, hinge: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) of the two bones of a limb.

    Args:
        joints: places (T, 3) of shoulder, elbow and wrist, or of hip, knee and ankle.
        above: rotation (T, 3, 3) of what the limb hangs on.
        rest: (3,), where both bones point at rest.
        hinge: (3,), the axis about which the lower one bends at rest.
    """
    upper, lower = _unit(joints[1] - joints[0]), _unit(joints[2] - joints[1])
    bend = np.cross(upper, lower)
    sine = np.linalg.norm(bend, axis=-1, keepdims=True)
    sure = np.clip((sine - _STRAIGHT) / (_BENT - _STRAIGHT), 0.0, 1.0)
    axis = sure * bend / np.maximum(sine, 1e-9) + (1.0 - sure) * (above @ hinge)
    rotations = []
    for bone in (upper, lower):
        target = _frames(bone, axis, first=0, second=1)
        resting = _frames(rest[None], hinge[None], first=0, second=1)
        rotations.append(target @ np.swapaxes(resting, -1, -2))
    return rotations[0], rotations[1]


def _hand(points: Mapping[str, np.ndarray], side: str, arm: np.ndarray, forearm: np.ndarray) -> np.ndarray:
    """Rotation (T, 3, 3) of a hand: as its fingers say, or along the forearm."""
    fingers = [points.get(f"{side}_hand_{name}") for name in ("middle", "index", "little")]
    middle, index, little = fingers
    if middle is None or index is None or little is None:
        return forearm
    target = _frames(middle - points[f"{side}_wrist"], index - little, first=0, second=1)
    resting = _frames(arm[None], np.array([[1.0, 0.0, 0.0]]), first=0, second=1)
    return target @ np.swapaxes(resting, -1, -2)


def _level(shin: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    """Rotation (T, 3, 3) of a foot flat on the floor, its toes where the shin's front looks."""
    ahead = shin[..., 0] * [1.0, 1.0, 0.0] + 0.1 * pelvis[..., 0] * [1.0, 1.0, 0.0]
    return _frames(np.broadcast_to([0.0, 0.0, 1.0], ahead.shape), ahead, first=2, second=0)


def _frames(along: np.ndarray, towards: np.ndarray, first: int, second: int) -> np.ndarray:
    """Rotations (T, 3, 3) whose axis `first` points along a vector (T, 3), `second` as near to another as it can."""
    third = 3 - first - second
    sign = 1.0 if (second - first) % 3 == 1 else -1.0
    matrix = np.empty((*along.shape, 3))
    matrix[..., first] = _unit(along)
    matrix[..., third] = _unit(sign * np.cross(along, towards))
    matrix[..., second] = sign * np.cross(matrix[..., third], matrix[..., first])
    return matrix


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def _between(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    return quat_to_matrix(slerp(matrix_to_quat(a), matrix_to_quat(b), t))
