"""From a plan to a pose of the whole body in every frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from egotwin_sim.motion.motion import Motion
from egotwin_sim.motion.rotations import (
    axis_angle_to_matrix,
    axis_matrix,
    matrix_to_axis_angle,
    matrix_to_quat,
    quat_to_matrix,
    slerp,
)
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.room.synthesis import ik
from egotwin_sim.room.synthesis.gait import HALF_WIDTH, TOE_OUT, Feet, Placement, move_feet, plan_steps
from egotwin_sim.room.synthesis.ground import RATE
from egotwin_sim.room.synthesis.timing import limit_rate, minimum_jerk, quintic, smooth, window, wrap

MOTION_FPS = 16
STAND_DROP = 0.012  # metres that a standing pelvis hangs below the height of straight legs
LEAN_AT_PELVIS = 0.40  # share of a forward lean that the pelvis makes; the spine makes the rest
TWIST_AT_SPINE = 0.30  # share of a turn of the gaze against the hips that the spine makes
NECK_SHARE = 0.45  # share of the head's rotation against the chest that the neck makes
GAZE_LEAD = 0.25  # seconds that the gaze is ahead of the hips in a turn
MAX_GAZE_YAW = np.deg2rad(72.0)  # of the gaze against the hips
MAX_GAZE_DOWN, MAX_GAZE_UP = np.deg2rad(48.0), np.deg2rad(30.0)
HAND_REACH = 0.09  # metres from the wrist to the middle of the palm, along the forearm
GAZE_BOUNDS = np.array([[-MAX_GAZE_YAW, -MAX_GAZE_UP], [MAX_GAZE_YAW, MAX_GAZE_DOWN]])
GAZE_RETURN_SECONDS = 1.4
BLEND_SECONDS = 0.5  # in which a plan takes over from the pose it began in
HEAD_RATE = np.deg2rad(74.0), np.deg2rad(50.0)  # per second, of the gaze's heading and pitch
HEAD_ACCELERATION = np.deg2rad(420.0)  # per second squared
LEGS = ("left", "right")

Times = tuple[float, float, float, float]


@dataclass(frozen=True)
class Style:
    """How one body carries itself: fixed over a clip.

    Attributes:
        speed: walking speed, m/s.
        gaze_down: radians that the gaze is lowered while nothing is looked at.
        arm_swing: radians of shoulder swing for half a metre between the feet.
        abduction: radians that the arms hang away from the body.
        elbow: radians of flexion of a hanging arm.
        bounce: radians of the head's nodding with each step.
        phase: radians, of breathing and idle sway.
    """

    speed: float = 0.8
    gaze_down: float = 0.2
    arm_swing: float = 0.5
    abduction: float = 0.14
    elbow: float = 0.3
    bounce: float = 0.01
    phase: float = 0.0

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Style:
        """A random style."""
        return cls(
            speed=float(rng.uniform(0.5, 1.1)),
            gaze_down=float(np.deg2rad(rng.uniform(7.0, 20.0))),
            arm_swing=float(rng.uniform(0.3, 0.7)),
            abduction=float(rng.uniform(0.10, 0.20)),
            elbow=float(rng.uniform(0.15, 0.5)),
            bounce=float(rng.uniform(0.0, 0.02)),
            phase=float(rng.uniform(0.0, 2 * np.pi)),
        )


@dataclass(frozen=True)
class Gaze:
    """The head looks somewhere within a window of time.

    Attributes:
        times: see `timing.window`.
        point: world position (3,), or None for a direction.
        yaw: radians against the hips, when there is no point.
        down: radians below the horizon, when there is no point.
        follow: (T,) -> (T, 3), a moving point.
    """

    times: Times
    point: np.ndarray | None = None
    yaw: float = 0.0
    down: float = 0.0
    follow: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Hand:
    """A hand is brought to a target within a window of time.

    Attributes:
        side: 0 left, 1 right.
        times: see `timing.window`; the hand is at its target between the second and the third.
        target: times (T,) and ground path (T, 3) of x, y, heading -> world positions (T, 3).
    """

    side: int
    times: Times
    target: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bend:
    """The body is lowered or bent within a window of time.

    Attributes:
        times: see `timing.window`.
        drop: metres that the pelvis sinks.
        lean: radians that the chest leans forward.
        back: metres that the pelvis moves backward.
        twist: radians that the chest turns to the left.
    """

    times: Times
    drop: float = 0.0
    lean: float = 0.0
    back: float = 0.0
    twist: float = 0.0


@dataclass
class Score:
    """What the body shall do: a path over the floor (N, 3 at `ground.RATE`) and events on top of it."""

    path: np.ndarray
    gazes: list[Gaze] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    bends: list[Bend] = field(default_factory=list)


@dataclass(frozen=True)
class State:
    """The pose and the velocities that a plan continues from.

    Attributes:
        ground: (3,) x, y, heading of the body.
        speed: forward, m/s.
        yaw_rate: rad/s.
        feet: placements of both feet.
        feet_velocity: (2, 3) of the balls of the feet, m/s.
        pelvis: (3,) position, metres.
        velocity: (3,) of the pelvis, m/s.
        rotations: (J, 3, 3) parent-relative.
        rates: (J, 3) rotation vectors per second of the parent-relative rotations.
        knee_yaw: (2,) heading of each knee's pole against its default.
        palms: (2, 3) positions of the palms.
        gaze: (2,) heading of the head, near the body's, and its pitch downward.
    """

    ground: np.ndarray
    speed: float
    yaw_rate: float
    feet: tuple[Placement, Placement]
    feet_velocity: np.ndarray
    pelvis: np.ndarray
    velocity: np.ndarray
    rotations: np.ndarray
    rates: np.ndarray
    knee_yaw: np.ndarray
    palms: np.ndarray
    gaze: np.ndarray


def _leg_pole_yaw(yaw: np.ndarray, foot_yaw: np.ndarray) -> np.ndarray:
    return yaw + 0.5 * wrap(foot_yaw - yaw)


def read_state(motion: Motion) -> State:
    """The state at the last frame of a motion; velocities come from the last two frames, zero if there is one."""
    skeleton = motion.skeleton
    index = skeleton.index
    last = motion[-2:] if len(motion) > 1 else motion
    positions, rotations = last.joint_transforms()
    local = quat_to_matrix(last.joint_quat_wxyz[-1].astype(np.float64))
    before = quat_to_matrix(last.joint_quat_wxyz[0].astype(np.float64))
    rates = matrix_to_axis_angle(np.swapaxes(before, -1, -2) @ local) * motion.fps
    pelvis, pelvis_rotation = positions[-1, 0], rotations[-1, 0]
    velocity = (positions[-1, 0] - positions[0, 0]) * motion.fps
    yaw = float(np.arctan2(pelvis_rotation[1, 0], pelvis_rotation[0, 0]))
    feet, knee_yaw = [], np.zeros(2)
    foot_velocity = np.zeros((2, 3))
    for i, side in enumerate(LEGS):
        ankle = rotations[-1, index[f"{side}_ankle"]]
        foot_yaw = float(np.arctan2(ankle[1, 0], ankle[0, 0]))
        pitch = float(np.arcsin(np.clip(-ankle[2, 0], -1.0, 1.0)))
        feet.append(Placement(positions[-1, index[f"{side}_foot"]], foot_yaw, pitch))
        foot_velocity[i] = (positions[-1, index[f"{side}_foot"]] - positions[0, index[f"{side}_foot"]]) * motion.fps
        hip, knee, foot = (positions[-1, index[f"{side}_{name}"]] for name in ("hip", "knee", "ankle"))
        line = ik.unit(foot - hip)
        pole = (knee - hip) - ((knee - hip) @ line) * line
        if np.linalg.norm(pole) > 0.02:
            default = _leg_pole_yaw(np.array(yaw), np.array(foot_yaw))
            knee_yaw[i] = np.clip(wrap(np.arctan2(pole[1], pole[0]) - default), -1.2, 1.2)
    wrists = [index[f"{side}_wrist"] for side in LEGS]
    palms = np.stack(
        [positions[-1, j] + rotations[-1, j, :, 1] * HAND_REACH * sign for j, sign in zip(wrists, (1, -1), strict=True)]
    )
    head = rotations[-1, index["head"]]
    head_yaw = np.arctan2(head[1, 0], head[0, 0])
    forward = np.array([np.cos(yaw), np.sin(yaw)])
    speed = float(velocity[:2] @ forward)
    middle = sum(rotations[-1, index[f"{side}_ankle"]] @ -skeleton.offsets[index[f"{side}_foot"]] for side in LEGS)
    ankles = (feet[0].ball + feet[1].ball + middle) / 2.0
    # A standing body's place is between its feet, wherever the hips lean; a walking one's is under its hips.
    xy = ankles[:2] if np.linalg.norm(velocity[:2]) < 0.15 else pelvis[:2] - 0.01 * forward
    return State(
        ground=np.array([*xy, yaw]),
        speed=max(speed, 0.0),
        yaw_rate=float(rates[0] @ pelvis_rotation[2]) if len(last) > 1 else 0.0,
        feet=(feet[0], feet[1]),
        feet_velocity=foot_velocity,
        pelvis=pelvis,
        velocity=velocity,
        rotations=local,
        rates=rates,
        knee_yaw=knee_yaw,
        palms=palms,
        gaze=np.array([yaw + wrap(head_yaw - yaw), np.arcsin(np.clip(-head[2, 0], -1.0, 1.0))]),
    )


def _carry(offset: np.ndarray, rate: np.ndarray, times: np.ndarray, seconds: float) -> np.ndarray:
    """An offset (K,) at time 0 with a rate (K,), faded to nothing in `seconds`: (T, K)."""
    return quintic((times / seconds)[:, None], offset, np.zeros_like(offset), rate * seconds)


class _Torso:
    """World rotations and positions from the pelvis to the chest."""

    def __init__(self, skeleton: Skeleton, pelvis: np.ndarray, local: dict[str, np.ndarray]):
        self.rotation = {"pelvis": local["pelvis"]}
        self.position = {"pelvis": pelvis}
        for name in ("spine1", "spine2", "spine3", "neck", "left_collar", "right_collar"):
            self.add(skeleton, name, local[name])

    def add(self, skeleton: Skeleton, name: str, local: np.ndarray) -> None:
        joint = skeleton.index[name]
        parent = skeleton.names[skeleton.parents[joint]]
        self.position[name] = self.position[parent] + self.rotation[parent] @ skeleton.offsets[joint]
        self.rotation[name] = self.rotation[parent] @ local


def _spine(yaw: np.ndarray, pelvis_twist: np.ndarray, twist: np.ndarray, lean: np.ndarray, breath: np.ndarray):
    """Local rotations of pelvis, spine, collars and neck for arrays (T,) of radians."""
    pelvis = axis_matrix("z", yaw + pelvis_twist) @ axis_matrix("y", LEAN_AT_PELVIS * lean)
    third = axis_matrix("z", (twist - pelvis_twist) / 3.0) @ axis_matrix("y", (1.0 - LEAN_AT_PELVIS) * lean / 3.0)
    still = np.broadcast_to(np.eye(3), third.shape)
    breathing = axis_matrix("y", breath)
    return {
        "pelvis": pelvis,
        "spine1": third,
        "spine2": third @ breathing,
        "spine3": third,
        "left_collar": still,
        "right_collar": still,
        "neck": still,
    }


def shoulder_position(skeleton: Skeleton, ground: np.ndarray, posture: np.ndarray, side: int) -> np.ndarray:
    """World positions (N, 3) of a shoulder over places (N, 3) or (3,) on the ground.

    `posture` (4, N) holds drop, lean, back and twist as in `Bend`.
    """
    drop, lean, back, twist = posture
    ground = np.broadcast_to(ground, (len(drop), 3))
    yaw = ground[:, 2]
    local = _spine(yaw, np.zeros_like(yaw), twist, lean, np.zeros_like(yaw))
    height = skeleton.rest_root_height - STAND_DROP - drop
    x, y = ground[:, 0] - back * np.cos(yaw), ground[:, 1] - back * np.sin(yaw)
    torso = _Torso(skeleton, np.stack([x, y, height], axis=-1), local)
    name = f"{LEGS[side]}_shoulder"
    torso.add(skeleton, name, np.broadcast_to(np.eye(3), (len(drop), 3, 3)))
    return torso.position[name]


def standing_feet(skeleton: Skeleton, ground: np.ndarray, spread: np.ndarray) -> tuple[Placement, Placement]:
    """Feet of a body that stands at ground (3,), each displaced by `spread` (2, 2) metres forward and sideways."""
    x, y, yaw = ground
    ball = skeleton.offsets[skeleton.index["left_foot"]]
    out = []
    for foot, side in enumerate((1.0, -1.0)):
        foot_yaw = yaw + side * TOE_OUT
        local = np.array([spread[foot, 0], side * HALF_WIDTH + spread[foot, 1]])
        ankle = np.array([x, y]) + np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) @ local
        toe = ankle + ball[0] * np.array([np.cos(foot_yaw), np.sin(foot_yaw)])
        out.append(Placement(np.array([*toe, skeleton.foot_height + ball[2]]), foot_yaw))
    return out[0], out[1]


def perform(
    score: Score, style: Style, count: int, skeleton: Skeleton, start: State | None, spread: np.ndarray | None = None
) -> tuple[Motion, Feet]:
    """The motion of `count` frames that plays a score.

    Args:
        score: the plan; its path may be longer or shorter than the motion.
        style: how the body moves.
        count: frames at 16 per second.
        skeleton: the body.
        start: the state that the motion continues from: frame 0 is that state. None: a body that stands.
        spread: (2, 2) displacement of the feet of a standing body, metres.

    Returns:
        The motion, and the trajectories of the feet.
    """
    index, offsets = skeleton.index, skeleton.offsets
    t = np.arange(count) / MOTION_FPS
    path = score.path
    rows = np.minimum((t * RATE).round().astype(int), len(path) - 1)
    ground = path[rows]
    yaw = ground[:, 2]

    ball_offset = offsets[index["left_foot"]]
    ball = np.array([ball_offset[0], 0.0, skeleton.foot_height + ball_offset[2]])
    if start is None:
        feet0 = standing_feet(skeleton, path[0], np.zeros((2, 2)) if spread is None else spread)
        velocity0 = np.zeros((2, 3))
    else:
        feet0, velocity0 = start.feet, start.feet_velocity
    steps = plan_steps(path, feet0, velocity0, ball, HALF_WIDTH)
    feet = move_feet(t, feet0, steps)

    # Feet and hips against each other drive the swing of arms and hips.
    cos, sin = np.cos(yaw), np.sin(yaw)
    forward = np.stack([cos, sin], axis=-1)
    gap = np.sum((feet.ball[:, 0, :2] - feet.ball[:, 1, :2]) * forward, axis=-1)
    speed = np.concatenate([[0.0], np.linalg.norm(np.diff(ground[:, :2], axis=0), axis=1) * MOTION_FPS])
    speed = smooth(speed, 2)
    stride = smooth(gap * np.clip(speed / 0.3, 0.0, 1.0), 1)
    support = smooth(feet.planted[:, 0].astype(np.float64) - feet.planted[:, 1], 2)

    posture = np.zeros((4, count))
    for bend in score.bends:
        posture += np.outer([bend.drop, bend.lean, bend.back, bend.twist], window(t, bend.times))
    drop, lean, back, twist = posture
    drop, lean = drop + STAND_DROP, lean + 0.02 + 0.05 * speed

    gaze = _Gazing(score, style, t, ground, start)
    twist = twist + TWIST_AT_SPINE * gaze.against_hips()

    breath = 0.008 * np.sin(2 * np.pi * 0.27 * t + style.phase)
    local = _spine(yaw, -0.16 * stride, twist + 0.10 * stride, lean, breath)
    local["pelvis"] = local["pelvis"] @ axis_matrix("x", -0.025 * support)
    sway = 0.020 * support + 0.004 * np.sin(2 * np.pi * 0.21 * t + style.phase)
    shift = 0.01 - back
    height = skeleton.rest_root_height - drop + 0.002 * np.sin(2 * np.pi * 0.27 * t + style.phase)
    pelvis = np.stack(
        [ground[:, 0] + shift * cos - sway * sin, ground[:, 1] + shift * sin + sway * cos, height], axis=-1
    )

    fade = BLEND_SECONDS
    if start is not None:
        fade = BLEND_SECONDS + 1.6 * max(0.0, abs(start.pelvis[2] - pelvis[0, 2]) - 0.08)
        rate0 = (pelvis[1] - pelvis[0]) * MOTION_FPS
        pelvis = pelvis + _carry(start.pelvis - pelvis[0], start.velocity - rate0, t, fade)
        for name in local:
            local[name] = _blend_from(start, index[name], local[name], t, fade)

    ankles = _ankles(feet, ball_offset)
    pelvis[:, 2] -= _lowering(skeleton, pelvis, local["pelvis"], ankles)
    torso = _Torso(skeleton, pelvis, local)

    # The head looks along the gaze from where the eyes are.
    eyes = torso.position["neck"] + np.stack([0.09 * cos, 0.09 * sin, np.full(count, 0.16)], axis=-1)
    gaze_yaw, gaze_down = gaze.from_eyes(eyes)
    nod = style.bounce * np.clip(speed, 0.0, 1.0) * np.cos(np.pi * np.cumsum(np.abs(np.diff(support, prepend=0.0))))
    head = axis_matrix("z", gaze_yaw) @ axis_matrix("y", gaze_down + nod) @ axis_matrix("x", 0.01 * support)
    relative = np.swapaxes(torso.rotation["spine3"], -1, -2) @ head
    neck = axis_angle_to_matrix(NECK_SHARE * matrix_to_axis_angle(relative))
    local["neck"], local["head"] = neck, np.swapaxes(neck, -1, -2) @ relative
    if start is not None:
        for name in ("neck", "head"):
            local[name] = _blend_from(start, index[name], local[name], t, fade)

    for side in (0, 1):
        _pose_arm(local, torso, skeleton, score, style, side, t, ground, stride, start, fade)
    for side in (0, 1):
        _pose_leg(local, torso, skeleton, side, ankles[:, side], feet, yaw, t, start, fade, drop)

    rotations = np.stack([np.broadcast_to(local[name], (count, 3, 3)) for name in skeleton.names], axis=1).copy()
    if start is not None:
        rotations[0], pelvis[0] = start.rotations, start.pelvis
    return Motion(pelvis, matrix_to_quat(rotations), skeleton, MOTION_FPS), feet


def _seen_from(yaw: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Headings (T,) of directions (x, y) that the head can turn to from hips at heading `yaw`.

    A direction behind the body keeps the side on which it was first: the head never swings from one shoulder to the
    other.
    """
    against = np.unwrap(wrap(np.arctan2(y, x) - yaw))
    return yaw + np.clip(against, -MAX_GAZE_YAW, MAX_GAZE_YAW)


class _Gazing:
    """Where the gaze goes in every frame: ahead of the body's turns, then each event on top of the ones before."""

    def __init__(self, score: Score, style: Style, t: np.ndarray, ground: np.ndarray, start: State | None) -> None:
        path = score.path
        ahead = path[np.minimum(((t + GAZE_LEAD) * RATE).round().astype(int), len(path) - 1), 2]
        self.events, self.ground = score.gazes, ground
        self.weights = [window(t, event.times) for event in score.gazes]
        self.points = [_gaze_point(event, t) for event in score.gazes]
        self.yaw = ahead + 0.02 * np.sin(0.9 * t + style.phase)
        self.down = np.full(len(t), style.gaze_down)
        if start is not None:
            # The gaze comes back from where it was slowly enough for a new one to take over on the way.
            bounds = GAZE_BOUNDS + np.array([[ground[0, 2], 0.0]])
            held = np.clip(start.gaze, *bounds) - [self.yaw[0], self.down[0]]
            relax = 1.0 - minimum_jerk(t / GAZE_RETURN_SECONDS)
            self.yaw, self.down = self.yaw + held[0] * relax, self.down + held[1] * relax

    def against_hips(self) -> np.ndarray:
        """Angle (T,) between the gaze and the hips, seen from the body's middle, radians."""
        gaze, hips = self.yaw, self.ground[:, 2]
        for event, w, point in zip(self.events, self.weights, self.points, strict=True):
            aim = hips + event.yaw
            if point is not None:
                aim = _seen_from(hips, point[:, 0] - self.ground[:, 0], point[:, 1] - self.ground[:, 1])
            gaze = gaze + w * (aim - gaze)
        gaze = limit_rate(gaze, MOTION_FPS, HEAD_RATE[0], HEAD_ACCELERATION)
        return np.clip(gaze - hips, -MAX_GAZE_YAW, MAX_GAZE_YAW)

    def from_eyes(self, eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heading and downward pitch (T,) of the gaze from eyes at (T, 3), radians."""
        yaw, down, hips = self.yaw, self.down, self.ground[:, 2]
        for event, w, point in zip(self.events, self.weights, self.points, strict=True):
            aim_yaw, aim_down = hips + event.yaw, np.full(len(hips), event.down)
            if point is not None:
                line = point - eyes
                aim_yaw = _seen_from(hips, line[:, 0], line[:, 1])
                aim_down = np.arctan2(-line[:, 2], np.hypot(line[:, 0], line[:, 1]))
            yaw = yaw + w * (aim_yaw - yaw)
            down = down + w * (np.clip(aim_down, -MAX_GAZE_UP, MAX_GAZE_DOWN) - down)
        return (
            limit_rate(yaw, MOTION_FPS, HEAD_RATE[0], HEAD_ACCELERATION),
            limit_rate(down, MOTION_FPS, HEAD_RATE[1], HEAD_ACCELERATION),
        )


def _gaze_point(event: Gaze, t: np.ndarray) -> np.ndarray | None:
    if event.follow is not None:
        return event.follow(t)
    return None if event.point is None else np.broadcast_to(event.point, (len(t), 3))


def _blend_from(start: State, joint: int, planned: np.ndarray, t: np.ndarray, seconds: float) -> np.ndarray:
    """Parent-relative rotations (T, 3, 3) that begin at the state's and reach the planned ones in `seconds`."""
    offset = matrix_to_axis_angle(planned[0].T @ start.rotations[joint])
    rate = matrix_to_axis_angle(planned[0].T @ planned[1]) * MOTION_FPS if len(planned) > 1 else np.zeros(3)
    return planned @ axis_angle_to_matrix(_carry(offset, start.rates[joint] - rate, t, seconds))


def _ankles(feet: Feet, ball_offset: np.ndarray) -> np.ndarray:
    rotation = axis_matrix("z", feet.yaw) @ axis_matrix("y", feet.pitch)
    return feet.ball - rotation @ ball_offset


def _lowering(skeleton: Skeleton, pelvis: np.ndarray, rotation: np.ndarray, ankles: np.ndarray) -> np.ndarray:
    """Metres (T,) that the hips come down so that no leg stretches too far; a little before and after as well."""
    excess = np.zeros(len(pelvis))
    for i, side in enumerate(LEGS):
        hip = pelvis + rotation @ skeleton.offsets[skeleton.index[f"{side}_hip"]]
        length = 0.99 * sum(_leg_lengths(skeleton, side))
        across = np.minimum(np.linalg.norm(hip[:, :2] - ankles[:, i, :2], axis=-1), 0.9 * length)
        excess = np.maximum(excess, hip[:, 2] - ankles[:, i, 2] - np.sqrt(length**2 - across**2))
    padded = np.pad(excess, 2, mode="edge")
    widest = np.max([padded[k : k + len(excess)] for k in range(5)], axis=0)
    return np.maximum(smooth(widest, 1), excess)


def _leg_lengths(skeleton: Skeleton, side: str) -> tuple[float, float]:
    """Metres from hip to knee and from knee to ankle."""
    thigh, shin = (skeleton.offsets[skeleton.index[f"{side}_{joint}"]] for joint in ("knee", "ankle"))
    return float(np.linalg.norm(thigh)), float(np.linalg.norm(shin))


def _pose_arm(
    local: dict[str, np.ndarray],
    torso: _Torso,
    skeleton: Skeleton,
    score: Score,
    style: Style,
    side: int,
    t: np.ndarray,
    ground: np.ndarray,
    stride: np.ndarray,
    start: State | None,
    fade: float,
) -> None:
    """Add the local rotations of one arm: hanging and swinging, or by IK where a hand has a target."""
    name, sign = LEGS[side], 1.0 if side == 0 else -1.0
    index, offsets = skeleton.index, skeleton.offsets
    swing = -sign * style.arm_swing * stride + 0.06
    hang = axis_matrix("y", -swing) @ axis_matrix("x", np.full(len(t), -sign * (np.pi / 2 - style.abduction)))
    upper_quat = matrix_to_quat(hang)
    flexion = style.elbow + 0.5 * np.maximum(swing, 0.0)
    upper = float(np.linalg.norm(offsets[index[f"{name}_elbow"]]))
    lower = float(np.linalg.norm(offsets[index[f"{name}_wrist"]])) + HAND_REACH
    collar = torso.rotation[f"{name}_collar"]
    shoulder = torso.position[f"{name}_collar"] + collar @ offsets[index[f"{name}_shoulder"]]
    pole_local = np.array([-0.35, sign * 0.55, -0.75])
    pole = axis_matrix("z", ground[:, 2]) @ pole_local
    for event in score.hands:
        if event.side != side:
            continue
        w = window(t, event.times)
        rotation, bend = ik.arm(shoulder, event.target(t, ground), pole, upper, lower, sign)
        quat = matrix_to_quat(np.swapaxes(collar, -1, -2) @ rotation)
        upper_quat = slerp(upper_quat, quat, w)
        flexion = flexion + w * (bend - flexion)
    arm = {
        f"{name}_shoulder": quat_to_matrix(upper_quat),
        f"{name}_elbow": axis_matrix("z", -sign * flexion),
        f"{name}_wrist": np.broadcast_to(np.eye(3), (len(t), 3, 3)),
    }
    for joint, planned in arm.items():
        local[joint] = planned if start is None else _blend_from(start, index[joint], planned, t, fade)


def _pose_leg(
    local: dict[str, np.ndarray],
    torso: _Torso,
    skeleton: Skeleton,
    side: int,
    ankle: np.ndarray,
    feet: Feet,
    yaw: np.ndarray,
    t: np.ndarray,
    start: State | None,
    fade: float,
    drop: np.ndarray,
) -> None:
    """Add the local rotations of one leg, by IK from the ankle."""
    name, sign = LEGS[side], 1.0 if side == 0 else -1.0
    index, offsets = skeleton.index, skeleton.offsets
    pelvis = torso.rotation["pelvis"]
    hip = torso.position["pelvis"] + pelvis @ offsets[index[f"{name}_hip"]]
    # Deep knees go a little outward.
    pole_yaw = _leg_pole_yaw(yaw, feet.yaw[:, side]) + sign * 0.35 * np.clip(drop / 0.45, 0.0, 1.0)
    if start is not None:
        pole_yaw = pole_yaw + _carry(start.knee_yaw[side : side + 1], np.zeros(1), t, fade)[:, 0]
    pole = np.stack([np.cos(pole_yaw), np.sin(pole_yaw), np.zeros_like(pole_yaw)], axis=-1)
    rotation, flexion = ik.leg(hip, ankle, pole, *_leg_lengths(skeleton, name))
    knee = axis_matrix("y", flexion)
    sole = axis_matrix("z", feet.yaw[:, side]) @ axis_matrix("y", feet.pitch[:, side])
    local[f"{name}_hip"] = np.swapaxes(pelvis, -1, -2) @ rotation
    local[f"{name}_knee"] = knee
    local[f"{name}_ankle"] = np.swapaxes(rotation @ knee, -1, -2) @ sole
    # The toes stay flat while the heel is up.
    local[f"{name}_foot"] = axis_matrix("y", -np.clip(feet.pitch[:, side], 0.0, 0.5))
