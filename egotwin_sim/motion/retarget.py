"""From a recording on any skeleton to a motion of ours.

Each of our joints takes the global rotation, relative to the rest pose, of the source joint that it is mapped to. The
rest poses are matched limb by limb, so a source may rest with its arms out or hanging. Our proportions are kept; the
travelled way is scaled by the length of the legs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.capture import Capture
from egotwin_sim.motion.joint_names import map_joints
from egotwin_sim.motion.motion import Motion, default_skeleton, forward_kinematics
from egotwin_sim.motion.rotations import matrix_to_quat, quat_to_matrix, shortest_turn, slerp, yaw_matrix
from egotwin_sim.motion.skeleton import Skeleton

_SIDES = ("left", "right")
_REQUIRED = ("pelvis", "head", *(f"{side}_{name}" for side in _SIDES for name in ("hip", "knee", "ankle", "shoulder")))
_SPINE = ("spine1", "spine2", "spine3")
# A sole that moves slower than this stands on something, m/s.
_PLANTED = 0.2
# Of the heights at which a sole stands, the floor is a low one: steps and chairs are higher, a few noisy frames lower.
_FLOOR_PERCENTILE = 25.0
# A rest pose that faces within 15 degrees of an axis faces along that axis.
_SNAP = np.cos(np.radians(15.0))


@dataclass(frozen=True)
class ImportReport:
    """What an importer did.

    Attributes:
        source: the file.
        source_fps: its frames per second.
        source_frames: its number of frames.
        mapped: our joint names to the source's.
        unmapped_source: the source's joints that nothing of ours follows.
        unmapped_target: our joints without a source; they follow their parent, or lie between their neighbours.
        up_axis: the source's vertical axis, such as "+y".
        metres_per_unit: factor from the source's unit of length to metres.
        ground_offset_m: how far the motion was lifted to stand on the floor, metres.
        notes: what else the user should know, one line each.
    """

    source: str
    source_fps: float
    source_frames: int
    mapped: dict[str, str]
    unmapped_source: tuple[str, ...]
    unmapped_target: tuple[str, ...]
    up_axis: str
    metres_per_unit: float
    ground_offset_m: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """An imported motion with its report."""

    motion: Motion
    report: ImportReport


def retarget(
    capture: Capture,
    *,
    fps: float = 16.0,
    skeleton: Skeleton | None = None,
    scale: float = 1.0,
    joint_map: Mapping[str, str] | None = None,
    rest_frame: int | None = None,
    drop_rest_pose: bool = True,
) -> Imported:
    """Move a recording to our skeleton, our axes and our rate, with the feet on the floor.

    Args:
        capture: the recording.
        fps: frames per second of the result.
        skeleton: the body of the result; the default one without it.
        scale: factor on the travelled way, on top of the one that makes the source's legs as long as ours.
        joint_map: our joint names to the source's, where the names do not tell.
        rest_frame: the frame in which the source stands upright, facing forward; without it, all rotations zero.
        drop_rest_pose: drop a first frame in the rest pose, which tools put before a recording.

    Raises:
        UserError: a joint that is needed was not found, or the rest pose is not that of someone who stands.
    """
    skeleton = skeleton or default_skeleton()
    if not (np.isfinite(scale) and scale > 0):
        raise UserError(f"scale is {scale}; expected a positive factor, 1 to keep the way in proportion to the legs")
    notes: list[str] = []
    position, rotation = capture.transforms()
    if rest_frame is None:
        rest_position, rest_rotation = capture.rest_pose()
    elif 0 <= rest_frame < len(capture):
        rest_position, rest_rotation = position[rest_frame], rotation[rest_frame]
    else:
        raise UserError(f"rest_frame is {rest_frame}; {capture.source} has the frames 0 to {len(capture) - 1}")

    source = {name: i for i, name in enumerate(capture.names)}
    mapped = map_joints(capture.names, skeleton.names, joint_map)
    if "pelvis" not in mapped and {"left_hip", "right_hip", "head"} <= mapped.keys():
        chains = [_ancestors(capture, mapped[name]) for name in ("left_hip", "right_hip", "head")]
        shared = [name for name in chains[0] if name in chains[1] and name in chains[2]]
        if shared:
            mapped["pelvis"] = shared[-1]
    missing = [name for name in _REQUIRED if name not in mapped]
    if missing:
        raise UserError(
            f"{capture.source}: found no joint for {', '.join(missing)} among {', '.join(capture.names)}; "
            "name them with joint_map"
        )
    at = {ours: source[theirs] for ours, theirs in mapped.items()}
    axes, up_axis = _axes(capture.source, rest_position, at)
    rest_position = rest_position @ axes.T

    if rest_frame is None and drop_rest_pose and _starts_in_rest_pose(capture):
        notes.append("the first frame is the rest pose and was dropped")
        position, rotation = position[1:], rotation[1:]

    def turned(joint: int) -> np.ndarray:
        """Global rotations (T, 3, 3) of a source joint since its rest pose, in our axes."""
        return axes @ rotation[:, joint] @ rest_rotation[joint].T @ axes.T

    ours = {name: turned(joint) for name, joint in at.items() if name not in _SPINE}
    _spine(ours, mapped, capture, turned)
    for side in _SIDES:
        arm = [f"{side}_{name}" for name in ("shoulder", "elbow", "wrist")]
        alignment = _limb(ours, at, rest_position, skeleton, arm)
        _hand(ours, arm[-1], alignment, at, rest_position, capture, skeleton)
        leg = [f"{side}_{name}" for name in ("hip", "knee", "ankle")]
        alignment = _limb(ours, at, rest_position, skeleton, leg)
        _foot(ours, at, rest_position, alignment, leg[-1], f"{side}_foot")
    if "neck" not in ours:
        ours["neck"] = _between(ours["spine3"], ours["head"], 0.5)

    local = np.empty((len(rotation), skeleton.num_joints, 3, 3))
    for joint, name in enumerate(skeleton.names):
        parent = skeleton.parents[joint]
        above = ours[skeleton.names[parent]] if parent >= 0 else np.eye(3)
        ours.setdefault(name, np.broadcast_to(above, (len(rotation), 3, 3)))
        local[:, joint] = np.swapaxes(above, -1, -2) @ ours[name]

    our_rest, _ = forward_kinematics(np.zeros(3), np.tile(np.eye(3), (skeleton.num_joints, 1, 1)), skeleton)
    metres = scale * _leg_length(our_rest, skeleton.index) / _leg_length(rest_position, at)
    # The hips are the same place on every body; what a tool calls the root lies above, below or behind them.
    between_hips = 0.5 * (position[:, at["left_hip"]] + position[:, at["right_hip"]]) @ axes.T * metres
    hip_offset = np.mean([skeleton.offsets[skeleton.index[f"{side}_hip"]] for side in _SIDES], axis=0)
    root = between_hips - ours["pelvis"] @ hip_offset
    motion = Motion(root, matrix_to_quat(local), skeleton, capture.fps).resampled(fps)
    lift = -floor_height(motion)
    motion = replace(motion, root_position=motion.root_position + np.array([0.0, 0.0, lift], dtype=np.float32))

    used = set(mapped.values())
    report = ImportReport(
        source=capture.source,
        source_fps=capture.fps,
        source_frames=len(capture),
        mapped={name: mapped[name] for name in skeleton.names if name in mapped},
        unmapped_source=tuple(name for name in capture.names if name not in used),
        unmapped_target=tuple(name for name in skeleton.names if name not in mapped),
        up_axis=up_axis,
        metres_per_unit=metres,
        ground_offset_m=lift,
        notes=tuple(notes),
    )
    return Imported(motion, report)


def sole_heights(motion: Motion) -> np.ndarray:
    """Heights (T, 4) in metres of the soles under the ankles and the balls of the feet, left before right."""
    skeleton = motion.skeleton
    position, rotation = motion.joint_transforms()
    heights = []
    for side in _SIDES:
        ankle, foot = skeleton.index[f"{side}_ankle"], skeleton.index[f"{side}_foot"]
        under_foot = skeleton.foot_height + skeleton.offsets[foot, 2]
        for joint, thickness in ((ankle, skeleton.foot_height), (foot, under_foot)):
            heights.append(position[:, joint, 2] - thickness * rotation[:, joint, 2, 2])
    return np.stack(heights, axis=-1)


def floor_height(motion: Motion) -> float:
    """Height in metres of the floor under a motion, from where its soles stand."""
    heights = sole_heights(motion)
    lowest = heights.min(axis=1)
    if len(motion) > 1:
        position, _ = motion.joint_transforms()
        joints = [motion.skeleton.index[f"{side}_{name}"] for side in _SIDES for name in ("ankle", "foot")]
        speed = np.linalg.norm(np.gradient(position[:, joints], axis=0), axis=-1) * motion.fps
        moving = np.take_along_axis(speed, heights.argmin(axis=1)[:, None], axis=1)[:, 0]
        if (moving < _PLANTED).any():
            lowest = lowest[moving < _PLANTED]
    return float(np.percentile(lowest, _FLOOR_PERCENTILE))


def _axes(source: str, rest: np.ndarray, at: Mapping[str, int]) -> tuple[np.ndarray, str]:
    """Rotation from the source's axes to ours (3, 3), and the name of its vertical axis, from its rest pose."""
    hips = 0.5 * (rest[at["left_hip"]] + rest[at["right_hip"]])
    ankles = 0.5 * (rest[at["left_ankle"]] + rest[at["right_ankle"]])
    above, below = rest[at["head"]] - hips, ankles - hips
    left = rest[at["left_hip"]] - rest[at["right_hip"]]
    lengths = np.linalg.norm(above) * np.linalg.norm(below)
    if not (lengths > 0 and above @ below < -0.5 * lengths and np.linalg.norm(left) > 0):
        raise UserError(
            f"{source}: with all rotations zero the body does not stand upright; give the number of a frame in which "
            "it does as rest_frame"
        )
    axis = int(np.argmax(np.abs(above - below)))
    up = np.zeros(3)
    up[axis] = np.sign((above - below)[axis])
    left = left - (left @ up) * up
    if not np.linalg.norm(left) > 0.5 * np.linalg.norm(rest[at["left_hip"]] - rest[at["right_hip"]]):
        raise UserError(f"{source}: in the rest pose one hip lies above the other; give a standing frame as rest_frame")
    left = left / np.linalg.norm(left)
    nearest = np.argmax(np.abs(left))
    if abs(left[nearest]) > _SNAP:
        left = np.eye(3)[nearest] * np.sign(left[nearest])
    return np.stack((np.cross(left, up), left, up)), f"{'+' if up[axis] > 0 else '-'}{'xyz'[axis]}"


def _starts_in_rest_pose(capture: Capture) -> bool:
    """Whether a tool put its rest pose before the recording: all but the root unturned in frame 0 and never again."""
    angle_free = np.isclose(np.trace(capture.rotations[:2, 1:], axis1=-2, axis2=-1), 3.0, atol=1e-9).all(axis=1)
    return len(capture) > 2 and bool(angle_free[0]) and not angle_free[1]


def _spine(
    ours: dict[str, np.ndarray], mapped: dict[str, str], capture: Capture, turned: Callable[[int], np.ndarray]
) -> None:
    """Spread the source's spine, of any number of joints, over our three."""
    ancestors = [_ancestors(capture, mapped[name]) for name in ("head", "left_shoulder", "right_shoulder")]
    shared = [name for name in ancestors[0] if all(name in others for others in ancestors[1:])]
    used = set(mapped.values())
    below = set(_ancestors(capture, mapped["pelvis"])) | {mapped["pelvis"]}
    chain = [name for name in shared if name not in below and name not in used]
    index = {name: i for i, name in enumerate(capture.names)}
    given = {name: mapped[name] for name in _SPINE if name in mapped}
    if not given and chain:
        # The topmost carries the shoulders, so it is our topmost as well.
        wanted = {1: ("spine3",), 2: ("spine1", "spine3")}.get(len(chain), _SPINE)
        picks = np.ceil(np.arange(1, len(wanted) + 1) * len(chain) / len(wanted)).astype(int) - 1
        given = {name: chain[pick] for name, pick in zip(wanted, picks, strict=True)}
    mapped.update(given)
    for name, theirs in given.items():
        ours[name] = turned(index[theirs])
    rungs = ("pelvis", *_SPINE)
    for i, name in enumerate(rungs):
        if name not in ours:
            low = max(k for k in range(i) if rungs[k] in ours)
            high = next((k for k in range(i, len(rungs)) if rungs[k] in ours), low)
            ours[name] = _between(ours[rungs[low]], ours[rungs[high]], (i - low) / max(high - low, 1))


def _ancestors(capture: Capture, name: str) -> list[str]:
    """Names of the joints above one, the root first."""
    above, joint = [], capture.parents[capture.names.index(name)]
    while joint >= 0:
        above.append(capture.names[joint])
        joint = capture.parents[joint]
    return above[::-1]


def _limb(
    ours: dict[str, np.ndarray], at: Mapping[str, int], rest: np.ndarray, skeleton: Skeleton, joints: list[str]
) -> np.ndarray:
    """Turn the bones of a limb from where they rest with us to where they rest in the source.

    Returns:
        The turn (3, 3) that the last bone hands on to the hand or foot.
    """
    alignment = np.eye(3)
    for name, child in zip(joints, joints[1:], strict=False):
        if name not in at:
            break
        if child in at:
            # Each bone is turned on from where its parent's turn leaves it, so that the twist carries over.
            bone = alignment @ skeleton.offsets[skeleton.index[child]]
            alignment = shortest_turn(bone, rest[at[child]] - rest[at[name]]) @ alignment
        ours[name] = ours[name] @ alignment
    return alignment


def _hand(
    ours: dict[str, np.ndarray],
    wrist: str,
    alignment: np.ndarray,
    at: Mapping[str, int],
    rest: np.ndarray,
    capture: Capture,
    skeleton: Skeleton,
) -> None:
    """Turn a hand, which rests along the forearm with us, to where the source's fingers point at rest."""
    if wrist not in at:
        return
    for joint in range(at[wrist] + 1, len(capture.names)):
        fingers = capture.parents[joint] == at[wrist] and "thumb" not in capture.names[joint].lower()
        if fingers and np.linalg.norm(capture.offsets[joint]) > 0:
            bone = alignment @ skeleton.offsets[skeleton.index[wrist]]
            alignment = shortest_turn(bone, rest[joint] - rest[at[wrist]]) @ alignment
            break
    ours[wrist] = ours[wrist] @ alignment


def _foot(
    ours: dict[str, np.ndarray], at: Mapping[str, int], rest: np.ndarray, shin: np.ndarray, ankle: str, foot: str
) -> None:
    """Choose how a foot rests: level, or square to a shin that is splayed; the bones do not tell which.

    A foot rolls least over a whole recording with the right choice.

    Args:
        ours: global rotations by joint; those of the ankle and the foot are turned in place.
        at: the source's joints by our names.
        rest: their rest positions, in our axes.
        shin: (3, 3), the alignment of the shin.
        ankle: our name of the ankle.
        foot: our name of the ball of the foot.
    """
    toes = rest[at[foot]] - rest[at[ankle]] if foot in at else np.array([1.0, 0.0, 0.0])
    choices = []
    for base in (shin, np.eye(3)):
        ahead = base.T @ toes
        # A foot whose bone points down says nothing about where its toes point.
        yaw = np.arctan2(ahead[1], ahead[0]) if np.hypot(ahead[0], ahead[1]) > 0.5 * np.linalg.norm(ahead) else 0.0
        choices.append(base @ yaw_matrix(yaw))
    best = min(choices, key=lambda choice: float(np.median(np.abs((ours[ankle] @ choice)[:, 2, 1]))))
    for name in (ankle, foot):
        if name in ours:
            ours[name] = ours[name] @ best


def _between(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Rotations (T, 3, 3) a fraction t of the way from a to b."""
    return quat_to_matrix(slerp(matrix_to_quat(a), matrix_to_quat(b), t))


def _leg_length(position: np.ndarray, at: Mapping[str, int]) -> float:
    """Mean length of thigh and shin together, in the unit of the joint positions (N, 3)."""
    leg = 0.0
    for side in _SIDES:
        hip, knee, ankle = (position[at[f"{side}_{name}"]] for name in ("hip", "knee", "ankle"))
        leg += 0.5 * float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))
    return leg
