"""Footsteps under a path of the body, and the feet's motion between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.room.synthesis.ground import RATE
from egotwin_sim.room.synthesis.timing import minimum_jerk, quintic, wrap

HALF_WIDTH = 0.095  # metres, half the distance between the feet of a standing body
TOE_OUT = 0.10  # radians that each foot points outward
STEP_THRESHOLD = 0.055  # metres from its comfortable place beyond which a foot steps
ANGLE_WEIGHT = 0.22  # metres of error per radian that a foot is turned away
AIRBORNE = 0.012  # metres above its height on the floor from which the ball of a foot counts as in the air
LIFT = 0.085  # metres that the ball of the foot rises in a long step
HEEL_OFF = 0.48  # radians that the foot has pitched when it leaves the floor after a long step
HEEL_STRIKE = -0.12  # radians of pitch (toes up) before a long step lands


@dataclass(frozen=True)
class Placement:
    """A foot's pose: position (3,) of the ball joint, heading, and pitch (toes down is positive), radians."""

    ball: np.ndarray
    yaw: float
    pitch: float = 0.0


@dataclass(frozen=True)
class Step:
    """One swing of a foot.

    Attributes:
        foot: 0 left, 1 right.
        lift: seconds at which the ball leaves the floor.
        land: seconds at which it is down again.
        start: placement it leaves.
        stop: placement it reaches, flat on the floor.
        velocity: (3,) of the ball at `lift`, m/s; not zero when a plan begins in the middle of a swing.
        airborne: whether the foot is in the air already at `lift`.
    """

    foot: int
    lift: float
    land: float
    start: Placement
    stop: Placement
    velocity: np.ndarray
    airborne: bool = False


@dataclass(frozen=True)
class Feet:
    """Trajectories of both feet: index 0 left, 1 right.

    Attributes:
        ball: (T, 2, 3) world position of the ball joint.
        yaw: (T, 2) heading.
        pitch: (T, 2) pitch of the sole.
        planted: (T, 2) whether the ball stays where it is.
    """

    ball: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    planted: np.ndarray


def _comfortable(
    path: np.ndarray, foot: int, time: float, half_width: float, ball: np.ndarray
) -> tuple[np.ndarray, float]:
    """Ball position (3,) and heading of a foot that stands under the body as the path has it at `time`."""
    x, y, yaw = path[min(int(time * RATE), len(path) - 1)]
    side = 1.0 if foot == 0 else -1.0
    cos, sin = np.cos(yaw), np.sin(yaw)
    foot_yaw = yaw + side * TOE_OUT
    lateral = side * half_width
    # The ankle stands under the hip; the ball lies in front of it.
    ahead = ball[0]
    return np.array(
        [x - sin * lateral + ahead * np.cos(foot_yaw), y + cos * lateral + ahead * np.sin(foot_yaw), ball[2]]
    ), foot_yaw


def plan_steps(
    path: np.ndarray, start: tuple[Placement, Placement], velocity: np.ndarray, ball: np.ndarray, half_width: float
) -> list[Step]:
    """Footsteps that keep both feet under the body.

    A foot steps when its comfortable place, seen half a stance ahead, is too far away; feet alternate while both want
    to step. A foot that is in the air at the start lands first.

    Args:
        path: (N, 3) x, y, heading at `RATE`.
        start: placements of the left and right foot at time 0.
        velocity: (2, 3) of the balls at time 0, m/s.
        ball: (3,) from the point on the floor under the ankle to the ball joint of a flat foot, metres.
        half_width: metres from the body's middle to each ankle.
    """
    end = (len(path) - 1) / RATE
    feet = list(start)
    steps: list[Step] = []
    speeds = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1) * RATE
    time, last = 0.0, -1
    for foot in np.argsort([-feet[0].ball[2], -feet[1].ball[2]]).tolist():
        if feet[foot].ball[2] > ball[2] + AIRBORNE:
            place, yaw = _comfortable(path, foot, time + 0.55, half_width, ball)
            stop = Placement(place, feet[foot].yaw + float(wrap(yaw - feet[foot].yaw)))
            # A swing that began before the plan has a part of its usual time left.
            duration = float(np.clip(0.12 + 0.6 * np.linalg.norm(place - feet[foot].ball), 0.15, 0.38))
            steps.append(
                Step(
                    foot,
                    time,
                    time + duration,
                    feet[foot],
                    stop,
                    np.minimum(velocity[foot], [9.0, 9.0, 0.2]),
                    airborne=True,
                )
            )
            feet[foot], last = stop, foot
            time += duration + 0.06
    if last < 0:
        # A foot that has come down just now does not lift again first.
        landed = np.flatnonzero(velocity[:, 2] < -0.03)
        last = int(landed[0]) if len(landed) == 1 else -1
    while time < end:
        index = min(int((time + 0.2) * RATE), len(speeds) - 1)
        speed = float(speeds[index]) if len(speeds) else 0.0
        period = float(np.clip(0.80 - 0.30 * speed, 0.45, 0.68))
        swing = 0.74 * period
        errors, targets = [], []
        for foot in (0, 1):
            place, yaw = _comfortable(path, foot, time + swing + 0.62 * period, half_width, ball)
            turn = float(wrap(yaw - feet[foot].yaw))
            errors.append(float(np.linalg.norm(place - feet[foot].ball)) + ANGLE_WEIGHT * abs(turn))
            targets.append(Placement(place, feet[foot].yaw + turn))
        wants = [error > STEP_THRESHOLD for error in errors]
        if not any(wants):
            time += 1.0 / 32
            continue
        if all(wants):
            foot = 1 - last if last >= 0 else _leading_foot(path, time, feet)
        else:
            foot = int(wants[1])
        leaves = feet[foot] if time <= 0.5 else Placement(feet[foot].ball, feet[foot].yaw)
        steps.append(Step(foot, time, time + swing, leaves, targets[foot], np.zeros(3)))
        feet[foot], last = targets[foot], foot
        time += period
    return steps


def _leading_foot(path: np.ndarray, time: float, feet: list[Placement]) -> int:
    """The foot that opens a movement: one that trails far behind, else the one on the side of the turn."""
    now = path[min(int(time * RATE), len(path) - 1)]
    later = path[min(int((time + 0.6) * RATE), len(path) - 1)]
    forward = np.array([np.cos(now[2]), np.sin(now[2])])
    left, right = (float(foot.ball[:2] @ forward) for foot in feet)
    turn = later[2] - now[2]
    if abs(left - right) < 0.10 and abs(turn) > 0.08:
        return 0 if turn > 0 else 1
    return int(right < left)


def move_feet(times: np.ndarray, start: tuple[Placement, Placement], steps: list[Step]) -> Feet:
    """Trajectories of both feet at `times` (T,): fixed on the floor but for the swings of `steps`."""
    count = len(times)
    ball = np.empty((count, 2, 3))
    yaw, pitch = np.empty((count, 2)), np.zeros((count, 2))
    planted = np.ones((count, 2), dtype=bool)
    for foot in (0, 1):
        ball[:, foot], yaw[:, foot] = start[foot].ball, start[foot].yaw
        # A heel that is up at the start stays up until its foot steps, or comes down when it does not.
        lift = next((step.lift for step in steps if step.foot == foot), np.inf)
        if lift > 0.5:
            pitch[:, foot] = start[foot].pitch * (1.0 - minimum_jerk(times / 0.3))
        else:
            pitch[:, foot] = start[foot].pitch
    for step in steps:
        after = times >= step.land
        ball[after, step.foot], yaw[after, step.foot] = step.stop.ball, step.stop.yaw
        pitch[after, step.foot] = 0.0
        span = step.land - step.lift
        length = float(np.linalg.norm(step.stop.ball[:2] - step.start.ball[:2]))
        size = min(1.0, length / 0.5)
        # The heel rises while the ball still stands, and keeps the pitch through the first part of the swing.
        heel_time = 0.0 if step.airborne else 0.30 * span * size
        mask = (times > step.lift - heel_time) & (times < step.land)
        if not mask.any():
            continue
        u = (times[mask] - step.lift) / span
        swing = np.maximum(u, 0.0)
        place = quintic(swing[:, None], step.start.ball, step.stop.ball, step.velocity * span)
        raised = max(0.0, float(step.start.ball[2] - step.stop.ball[2]))
        apex = max(0.0, 0.030 + (LIFT - 0.030) * size - raised)
        place[:, 2] += apex * np.sin(np.pi * swing) ** 1.3
        ball[mask, step.foot] = place
        yaw[mask, step.foot] = quintic(swing, np.array(step.start.yaw), np.array(step.stop.yaw))
        off, strike = 0.0 if step.airborne else HEEL_OFF * size**1.5, HEEL_STRIKE * size
        rise = minimum_jerk((u * span + heel_time) / (heel_time + 0.18 * span))
        fall = minimum_jerk((swing - (0.0 if step.airborne else 0.18)) / 0.5)
        flat = minimum_jerk((swing - 0.80) / 0.20)
        lifted = step.start.pitch + max(off - step.start.pitch, 0.0) * rise
        pitch[mask, step.foot] = lifted * (1.0 - fall) + strike * fall * (1.0 - flat)
        planted[mask, step.foot] = u <= 0.0
    return Feet(ball, yaw, pitch, planted)
