"""The skills: each extends a plan by one action of the body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.room.layout import RoomLayout, RoomObject
from egotwin_sim.room.synthesis.body import HAND_REACH, LEGS, Bend, Gaze, Hand, Score, Style, shoulder_position
from egotwin_sim.room.synthesis.ground import Ground
from egotwin_sim.room.synthesis.ik import unit
from egotwin_sim.room.synthesis.navigation import MARGIN, find_route
from egotwin_sim.room.synthesis.texts import phrase
from egotwin_sim.room.synthesis.timing import duration_for, minimum_jerk, wrap

HEAD_TURN_RATE = np.deg2rad(85.0)
STOP_DISTANCE = 0.42  # metres between the body's middle and the thing that it has walked to
REACH_DISTANCE = 0.34  # metres, when it is going to touch the thing
ARM_USE = 0.955  # share of the arm's length that a reach uses: the elbow stays a little bent
TOUCH_GAP = 0.03  # metres between a touched surface and the middle of the palm
HANDLE_GRIP_SECONDS = 0.25  # the hand rests on the handle this long before the door moves
REACH_LENGTH = 0.75  # metres that a hand travels from hanging to the handle, about
STILL = float("inf")


@dataclass(frozen=True)
class Segment:
    """One skill in a motion.

    Attributes:
        kind: idle, walk, turn, look, reach, wave, open, crouch, sit.
        start: seconds.
        stop: seconds.
        args: what it was about: `target` (a name), `point` (3,), `side` ("left", "right"), `angle` (radians),
            `hold` (the seconds from and to which the hand is at its target, or the body down), `moves` (those in which
            the door turns), `blocked` (planned through an obstacle).
    """

    kind: str
    start: float
    stop: float
    args: dict = field(default_factory=dict)


class Plan:
    """A growing sequence of skills in a room.

    Args:
        layout: the room.
        rng: source of all choices.
        style: how the body moves.
        ground: the path to extend.
        skeleton: the body.
        door_angle: radians, at the start of the plan.
        palms: (2, 3) where the palms are at the start; None: hanging.
    """

    def __init__(
        self,
        layout: RoomLayout,
        rng: np.random.Generator,
        style: Style,
        ground: Ground,
        skeleton: Skeleton,
        door_angle: float = 0.0,
        palms: np.ndarray | None = None,
    ) -> None:
        self.layout, self.rng, self.style = layout, rng, style
        self.ground, self.skeleton, self.door_angle = ground, skeleton, door_angle
        self._palms = palms
        self.gazes: list[Gaze] = []
        self.hands: list[Hand] = []
        self.bends: list[Bend] = []
        self.segments: list[Segment] = []
        self.phrases: list[tuple[float, str]] = []

    @property
    def time(self) -> float:
        """Seconds planned so far."""
        return self.ground.time

    @property
    def xy(self) -> np.ndarray:
        """Where the body stands at the end of the plan, (2,) metres."""
        return np.array([self.ground.x, self.ground.y])

    def score(self) -> Score:
        """The plan as a score to perform."""
        return Score(self.ground.samples(), self.gazes, self.hands, self.bends)

    def _add(self, kind: str, start: float, text: str | None, **args: object) -> None:
        self.segments.append(Segment(kind, start, self.time, dict(args)))
        if text is not None:
            self.phrases.append((start, text))

    def bearing(self, point: np.ndarray) -> float:
        """Angle of a point against the heading at the end of the plan, radians."""
        line = np.asarray(point)[:2] - self.xy
        return float(wrap(np.arctan2(line[1], line[0]) - self.ground.yaw))

    # -- standing, turning, looking ---------------------------------------------------------------------------------

    def idle(self, seconds: float, silent: bool = False) -> None:
        """Stand."""
        start = self.time
        self.ground.hold(seconds)
        self._add("idle", start, None if silent else phrase(self.rng, "idle"))

    def turn(self, angle: float, silent: bool = False) -> None:
        """Turn on the spot, radians, positive to the left."""
        start = self.time
        self._release_gaze()
        self.ground.turn(angle, np.deg2rad(self.rng.uniform(50.0, 68.0)))
        key = "turn_around" if abs(angle) > 2.6 else "turn_left" if angle > 0 else "turn_right"
        self._add("turn", start, None if silent else phrase(self.rng, key), angle=angle)

    def turn_to(self, name: str, silent: bool = False) -> None:
        """Turn on the spot until the body faces a thing, and look at it."""
        start = self.time
        self._release_gaze()
        point = self.layout.target_position(name, self.door_angle)
        angle = self.bearing(point)
        self.ground.turn(angle, np.deg2rad(self.rng.uniform(52.0, 68.0)))
        arrive = self.time
        seconds = duration_for(0.5, HEAD_TURN_RATE, 0.6)
        self.gazes.append(Gaze((max(start, arrive - seconds), arrive + 0.1, STILL, STILL), point))
        self._add("turn", start, None if silent else phrase(self.rng, "turn_to", target=name), target=name, angle=angle)

    def look_at(self, name: str, seconds: float) -> None:
        """Look at a thing; the body turns as well when the head alone cannot."""
        start = self.time
        self._release_gaze()
        point = self.layout.target_position(name, self.door_angle)
        angle = self.bearing(point)
        if abs(angle) > 1.1:
            self.ground.turn(float(np.sign(angle)) * (abs(angle) - 0.5), np.deg2rad(60.0))
        move = duration_for(self.bearing(point), HEAD_TURN_RATE, 0.6)
        now = self.time
        self.gazes.append(Gaze((now, now + move, now + move + seconds, now + 2 * move + seconds), point))
        self.ground.hold(move + seconds)
        self._add("look", start, phrase(self.rng, "look_at", target=name), target=name)

    def look_around(self) -> None:
        """Look to one side, then to the other."""
        start = self.time
        first = 1.0 if self.rng.random() < 0.5 else -1.0
        yaws = first * np.deg2rad(self.rng.uniform(35.0, 60.0)), -first * np.deg2rad(self.rng.uniform(30.0, 60.0))
        now, last = start, 0.0
        for yaw in yaws:
            move = duration_for(yaw - last, HEAD_TURN_RATE, 0.6)
            down = self.style.gaze_down + float(self.rng.uniform(-0.05, 0.15))
            self.gazes.append(Gaze((now, now + move, STILL, STILL), yaw=float(yaw), down=down))
            now, last = now + move + float(self.rng.uniform(0.1, 0.4)), yaw
        back = duration_for(last, HEAD_TURN_RATE, 0.6)
        self.gazes.append(Gaze((now, now + back, STILL, STILL), yaw=0.0, down=self.style.gaze_down))
        self.ground.hold(now + back - start)
        self._release_gaze()
        self._add("look", start, phrase(self.rng, "look_around"))

    def look_aside(self) -> None:
        """Look left, right, up or down for a moment."""
        start = self.time
        key = ("look_left", "look_right", "look_down", "look_up")[int(self.rng.choice(4, p=[0.4, 0.4, 0.1, 0.1]))]
        yaw, down = 0.0, self.style.gaze_down
        if key in ("look_left", "look_right"):
            yaw = float(np.deg2rad(self.rng.uniform(35.0, 65.0))) * (1.0 if key == "look_left" else -1.0)
        else:
            down = float(self.rng.uniform(0.6, 0.75)) if key == "look_down" else -float(self.rng.uniform(0.15, 0.4))
        move = duration_for(max(abs(yaw), abs(down - self.style.gaze_down)), HEAD_TURN_RATE, 0.6)
        rest = float(self.rng.uniform(0.4, 1.0))
        times = (start, start + move, start + move + rest, start + 2 * move + rest)
        self.gazes.append(Gaze(times, yaw=yaw, down=down))
        self.ground.hold(2 * move + rest)
        self._add("look", start, phrase(self.rng, key), angle=yaw)

    def _release_gaze(self) -> None:
        """End the gazes that have no end: the head follows the body again."""
        now = self.time
        self.gazes = [
            gaze
            if np.isfinite(gaze.times[2])
            else Gaze((*gaze.times[:2], now, now + 0.8), gaze.point, gaze.yaw, gaze.down)
            for gaze in self.gazes
        ]

    # -- walking ----------------------------------------------------------------------------------------------------

    def stand_points(self, name: str, distance: float) -> np.ndarray:
        """Points (K, 2) at a distance around a thing's outline, for the door in front of it."""
        if name == "door":
            door = self.layout.door
            return (door.centre - door.outward * (distance + 0.15))[None]
        thing = self.layout.target_footprint(name)
        angles = np.arange(24) * 2 * np.pi / 24
        around = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        centre = np.array(thing.centre)
        # What stands on the table is approached as near as the table lets.
        on_table = name != "table" and self.layout.object(name).on_table
        out = []
        for away in (distance, 0.62, 0.78) if on_table else (distance,):
            points = centre + around * (np.hypot(*thing.half) + thing.radius + away)
            # Every ray is shortened until its end is at the wanted distance from the outline.
            for _ in range(6):
                points = points - around * (thing.distance(points) - away)[:, None]
            out.append(points)
        return np.concatenate(out)

    def _doorway(self) -> np.ndarray:
        """Where (2,) a way across the room begins: here, or inside the door for a body that is out of the room."""
        if self.layout.inside(self.xy):
            return self.xy
        door = self.layout.door
        return door.centre - door.outward * 0.55

    def walk_to(self, name: str, distance: float = STOP_DISTANCE, silent: bool = False, face: bool = True) -> bool:
        """Walk up to a thing; False, and nothing planned, when there is no way."""
        start = self.time
        self._release_gaze()
        footprint = self.layout.target_footprint(name, self.door_angle)
        point = self.layout.target_position(name, self.door_angle)
        route = None
        if name == "door" or float(footprint.distance(self.xy)) > distance + 0.08:
            route = find_route(self.layout, self._doorway(), self.stand_points(name, distance))
            if route is None:
                return False
            if not self.layout.inside(self.xy):
                route = np.concatenate([self.xy[None], route])
            self.ground.follow(route, self.style.speed)
        arrive = self.time
        if face and abs(self.bearing(point)) > 0.12:
            self.ground.turn(self.bearing(point), np.deg2rad(60.0))
        settle = 0.7
        self.gazes.append(Gaze((max(start, arrive - settle), arrive + 0.3, STILL, STILL), point))
        key = "walk_slow" if self.style.speed < 0.62 else "walk_fast" if self.style.speed > 1.0 else "walk_to"
        if self.rng.random() < 0.5:
            key = "walk_to"
        self._add("walk", start, None if silent else phrase(self.rng, key, target=name), target=name)
        return True

    def walk_free(self, metres: float) -> bool:
        """Walk to a free place about so far away, rather ahead than behind."""
        start = self.time
        self._release_gaze()
        half = np.array(self.layout.size) / 2 - MARGIN
        angle = self.ground.yaw + self.rng.uniform(-1.3, 1.3, size=24)
        far = metres * self.rng.uniform(0.6, 1.1, size=24)
        points = self.xy + far[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        points = points[np.all(np.abs(points) < half, axis=1)]
        for point in points[:6]:
            route = find_route(self.layout, self.xy, point[None])
            if route is not None:
                self.ground.follow(route, self.style.speed)
                self._add("walk", start, phrase(self.rng, "walk"), point=point)
                return True
        return False

    def walk_into(self, name: str, point: np.ndarray, seconds: float) -> None:
        """Walk straight at a point for some seconds, whatever is in the way."""
        start = self.time
        line = np.asarray(point) - self.xy
        line = line / np.linalg.norm(line)
        end = self.xy + line * 12.0
        self.ground.follow(np.stack([self.xy, end]), self.style.speed, seconds)
        self._add("walk", start, phrase(self.rng, "bump", target=name), target=name, blocked=True)

    # -- hands ------------------------------------------------------------------------------------------------------

    def _bend_for(self, points: np.ndarray, side: int, ground: np.ndarray) -> tuple[float, float, float, float, float]:
        """The least drop, lean, back and twist with which a hand gets to points, and the metres that are missing.

        Args:
            points: (K, 3) or (3,), all to be reached with the same bending.
            side: 0 left, 1 right.
            ground: (K, 3) or (3,), where the body stands for each of them.
        """
        effort = np.linspace(0.0, 1.0, 41)
        points = np.atleast_2d(points)
        count = len(points)
        sign = 1.0 if side == 0 else -1.0
        lean = 1.15 * effort
        drop = 0.42 * np.maximum(effort - 0.25, 0.0) / 0.75
        back = 0.16 * effort
        twist = -sign * (0.12 + 0.25 * np.minimum(effort * 2, 1.0))
        places = np.tile(np.broadcast_to(ground, (count, 3)), (len(effort), 1))
        posture = np.repeat(np.stack([drop, lean + 0.02, back, twist]), count, axis=1)
        shoulder = shoulder_position(self.skeleton, places, posture, side).reshape(len(effort), count, 3)
        offsets, index = self.skeleton.offsets, self.skeleton.index
        arm = sum(float(np.linalg.norm(offsets[index[f"{LEGS[side]}_{part}"]])) for part in ("elbow", "wrist"))
        missing = np.linalg.norm(shoulder - points, axis=-1).max(axis=1) - ARM_USE * (arm + HAND_REACH)
        k = int(np.argmax(missing <= 0.0)) if (missing <= 0.0).any() else int(np.argmin(missing))
        return float(drop[k]), float(lean[k]), float(back[k]), float(twist[k]), max(0.0, float(missing[k]))

    def touch_point(self, name: str) -> np.ndarray:
        """Point (3,) just off a thing's surface, on the side of the body that the plan ends with."""
        if name in ("table", "door"):
            footprint = self.layout.target_footprint(name)
            top = self.layout.target_position(name)[2]
            edge = self.xy - footprint.normal(self.xy) * (float(footprint.distance(self.xy)) + 0.06)
            return np.array([*edge, top + TOUCH_GAP])
        eye = np.array([*self.xy, 1.15])
        return _surface_point(self.layout.object(name), eye)

    def reach(self, name: str | None, side: int | None = None, hold: float | None = None) -> bool:
        """Reach for a thing, or forward when there is none; False, nothing planned, when it is out of reach."""
        start = self.time
        rng = self.rng
        if name is None:
            side = int(rng.integers(2)) if side is None else side
            sign = 1.0 if side == 0 else -1.0
            local = np.array([rng.uniform(0.42, 0.58), sign * rng.uniform(0.0, 0.22), rng.uniform(0.95, 1.40)])
            point = _from_body(local, np.array([[*self.xy, self.ground.yaw]]))[0]
        else:
            target = self.layout.target_position(name)
            angle = self.bearing(target)
            if side is None:
                side = int(rng.integers(2)) if abs(angle) < 0.15 else 0 if angle > 0 else 1
            point = self.touch_point(name)
            if self._bend_for(point, side, np.array([*self.xy, self.ground.yaw + angle]))[4] > 0.0:
                return False
            if abs(angle) > 0.45:
                self.ground.turn(angle, np.deg2rad(60.0))
                point = self.touch_point(name)
        ground = np.array([*self.xy, self.ground.yaw])
        drop, lean, back, twist, missing = self._bend_for(point, side, ground)
        if missing > 0.0:
            return False
        begin = self.time
        out = float(rng.uniform(0.75, 1.05)) + 0.5 * lean
        rest = float(rng.uniform(0.5, 1.1)) if hold is None else hold
        times = (begin + 0.1, begin + 0.1 + out, begin + 0.1 + out + rest, begin + 0.1 + 2 * out + rest)
        look = (begin, begin + 0.1 + 0.8 * out, times[2] + 0.15, times[3] + 0.1)
        self._release_gaze()
        self.hands.append(Hand(side, times, _fixed(point)))
        self.bends.append(Bend(times, drop, lean, back, twist))
        self.gazes.append(Gaze(look, point))
        self.ground.hold(times[3] - begin)
        words = {"side": LEGS[side]} if name is None else {"side": LEGS[side], "target": name}
        text = phrase(rng, "reach" if name is None else "reach_to", **words)
        self._add("reach", start, text, target=name, point=point, side=LEGS[side], hold=(times[1], times[2]))
        return True

    def wave(self, side: int | None = None) -> None:
        """Raise a hand in front of the face and wave it."""
        start, rng = self.time, self.rng
        side = int(rng.integers(2)) if side is None else side
        sign = 1.0 if side == 0 else -1.0
        centre = np.array([rng.uniform(0.44, 0.52), sign * rng.uniform(0.16, 0.22), rng.uniform(1.42, 1.52)])
        swing, rate = float(rng.uniform(0.07, 0.11)), float(rng.uniform(1.2, 1.7))
        up, rest = float(rng.uniform(0.7, 0.9)), float(rng.uniform(1.2, 2.2))
        times = (start, start + up, start + up + rest, start + 2 * up + rest)

        def target(t: np.ndarray, ground: np.ndarray) -> np.ndarray:
            local = np.tile(centre, (len(t), 1))
            local[:, 1] += swing * np.sin(2 * np.pi * rate * (t - start))
            return _from_body(local, ground)

        self.hands.append(Hand(side, times, target))
        look = (start, start + up, times[2], times[3])
        self.gazes.append(Gaze(look, yaw=sign * 0.12, down=float(rng.uniform(0.02, 0.12))))
        self.ground.hold(times[3] - start)
        self._add("wave", start, phrase(rng, "wave", side=LEGS[side]), side=LEGS[side], hold=(times[1], times[2]))

    # -- the door ---------------------------------------------------------------------------------------------------

    def door_stand(self, angle: float) -> tuple[np.ndarray, float]:
        """Where (2,) and with what heading the body stands to hold the handle at a door angle in radians.

        The shoulder on the hinge's side is behind the handle, and the body clear of the leaf and the posts.
        """
        door = self.layout.door
        hinge = np.array(door.hinge[:2])
        handle = door.handle_position(angle)[:2] - hinge
        along = float(np.clip(handle @ door.along + 0.30, 0.48, 0.645))
        # A body that follows a wide door needs to come less near than one in front of a closed one.
        outward = float(handle @ door.outward) - 0.425 - 0.045 * min(1.0, angle)
        yaw = float(np.arctan2(door.outward[1], door.outward[0])) + 0.12 * door.swing * min(1.0, angle)
        return hinge + door.along * along + door.outward * outward, yaw

    def walk_to_door(self) -> bool:
        """Walk to where the handle is in reach and face the door; False when there is no way."""
        start = self.time
        stand, facing = self.door_stand(self.door_angle)
        far = float(np.linalg.norm(stand - self.xy))
        turn = float(wrap(facing - self.ground.yaw))
        if far < 0.10 and abs(turn) < 0.25:
            return True
        self._release_gaze()
        if far < 0.35 or not self.layout.inside(self.xy):
            if abs(turn) > 0.9:
                self.ground.turn(turn, np.deg2rad(60.0))
            self.ground.slide(stand, facing, max(0.8, far / 0.35, duration_for(min(abs(turn), 0.9), np.deg2rad(60.0))))
        else:
            route = find_route(self.layout, self.xy, stand[None])
            if route is None:
                return False
            self.ground.follow(route, max(self.style.speed, 0.7))
            self.ground.turn(float(wrap(facing - self.ground.yaw)), np.deg2rad(60.0))
        text = phrase(self.rng, "walk_to", target="door") if far > 0.5 else None
        self._add("walk", start, text, target="door")
        return True

    def _progress(self, side: int, target: np.ndarray) -> float:
        """How far (0..1, in time) a hand is on its way to a target already, when the plan begins with its reach."""
        if self._palms is None or self.time > 0.0:
            return 0.0
        near = 1.0 - float(np.linalg.norm(self._palms[side] - target)) / REACH_LENGTH
        share = np.linspace(0.0, 1.0, 101)
        return float(np.interp(np.clip(near, 0.0, 1.0), minimum_jerk(share), share)) if near < 0.93 else 1.0

    def open_door(self, angle: float | None = None) -> bool:
        """Grip the handle, push the door open and let go; the body stands in front of the handle already.

        The hand follows the handle's circle, and the body steps after it into the doorway. False, nothing planned, when
        the door is open that far or the handle is out of reach.
        """
        start, rng, door = self.time, self.rng, self.layout.door
        angle = float(np.deg2rad(rng.uniform(62.0, 82.0))) if angle is None else angle
        first = self.door_angle
        if angle - first < np.deg2rad(5.0):
            return False
        side = 0 if door.hinge_side == "left" else 1
        hinge = np.array(door.hinge[:2])
        share = np.linspace(0.0, 1.0, 13)
        handles = np.array([door.handle_position(first + (angle - first) * s) for s in share])
        stop, stop_yaw = self.door_stand(angle)
        stop_yaw = self.ground.yaw + float(wrap(stop_yaw - self.ground.yaw))
        from_ground = np.array([*self.xy, self.ground.yaw])
        ground = from_ground + share[:, None] * (np.array([*stop, stop_yaw]) - from_ground)
        drop, lean, back, twist, missing = self._bend_for(handles, side, ground)
        if missing > 0.01:
            return False
        out = float(rng.uniform(0.7, 0.95))
        done = self._progress(side, handles[0])
        push = duration_for((angle - first) * (door.width - door.HANDLE_FROM_EDGE), float(rng.uniform(0.75, 0.95)))
        begin = start - done * out
        grip = begin + out
        move = max(start, grip + HANDLE_GRIP_SECONDS * (1.0 - done))
        leave = move + push + 0.15
        end = leave + 0.8

        def handle(t: np.ndarray) -> np.ndarray:
            theta = first + (angle - first) * minimum_jerk((t - move) / push)
            leaf = np.cos(theta)[:, None] * door.along + np.sin(theta)[:, None] * door.outward
            normal = np.cos(theta)[:, None] * door.outward - np.sin(theta)[:, None] * door.along
            xy = hinge + leaf * (door.width - door.HANDLE_FROM_EDGE) - normal * door.HANDLE_STANDOFF
            return np.concatenate([xy, np.full((len(t), 1), door.handle_height)], axis=1)

        self._release_gaze()
        self.hands.append(Hand(side, (begin, grip, leave, end), lambda t, ground: handle(t)))
        self.bends.append(Bend((begin, grip, leave, end), drop, lean, back, twist))
        raise_gaze = np.array([0.0, 0.0, float(rng.uniform(0.05, 0.25))])
        look = (start - 0.2, start + 0.6, leave, end)
        self.gazes.append(Gaze(look, follow=lambda t: handle(t) + raise_gaze))
        self.ground.hold(move - start)
        self.ground.slide(stop, stop_yaw, push)
        self.ground.hold(end - self.time)
        self.door_angle = angle
        text = phrase(rng, "open", side=LEGS[side])
        hold, moves = (max(start, grip), leave), (move, move + push)
        self._add("open", start, text, target="door", side=LEGS[side], angle=angle, hold=hold, moves=moves)
        return True

    # -- the whole body ---------------------------------------------------------------------------------------------

    def crouch(self, rest: float | None = None) -> None:
        """Go down on bent knees and up again."""
        start, rng = self.time, self.rng
        down = float(rng.uniform(0.9, 1.3))
        rest = float(rng.uniform(0.5, 1.3)) if rest is None else rest
        times = (start, start + down, start + down + rest, start + 2 * down + rest)
        self.bends.append(
            Bend(times, drop=float(rng.uniform(0.28, 0.44)), lean=float(rng.uniform(0.35, 0.65)), back=0.14)
        )
        self.ground.hold(times[3] - start)
        text = phrase(rng, "crouch")
        if rng.random() < 0.4:
            text += " and " + phrase(rng, "stand_up")
        self._add("crouch", start, text, hold=(times[1], times[2]))

    def sit(self, rest: float | None = None) -> None:
        """Sit down low with the hands on the knees; stays down to the end."""
        start, rng = self.time, self.rng
        down = float(rng.uniform(1.2, 1.6))
        drop = float(rng.uniform(0.40, 0.47))
        times = (start, start + down, STILL, STILL)
        self.bends.append(Bend(times, drop=drop, lean=0.30, back=0.17))
        for side, sign in enumerate((1.0, -1.0)):
            knee = np.array([0.22, sign * 0.20, 0.98 - drop])
            self.hands.append(Hand(side, (start + 0.3 * down, start + down, STILL, STILL), _at_body(knee)))
        self.ground.hold(down + (float(rng.uniform(0.6, 2.0)) if rest is None else rest))
        self._add("sit", start, phrase(rng, "sit"))


def _from_body(local: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """World points (T, 3) of points (T, 3) or (3,) at (forward, left, up) metres from the body's place on the floor."""
    local = np.broadcast_to(local, (len(ground), 3))
    cos, sin = np.cos(ground[:, 2]), np.sin(ground[:, 2])
    x = ground[:, 0] + cos * local[:, 0] - sin * local[:, 1]
    y = ground[:, 1] + sin * local[:, 0] + cos * local[:, 1]
    return np.stack([x, y, local[:, 2]], axis=-1)


def _at_body(local: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def target(t: np.ndarray, ground: np.ndarray) -> np.ndarray:
        return _from_body(local, ground)

    return target


def _fixed(point: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def target(t: np.ndarray, ground: np.ndarray) -> np.ndarray:
        return np.broadcast_to(point, (len(t), 3))

    return target


def _surface_point(thing: RoomObject, eye: np.ndarray) -> np.ndarray:
    """The point (3,) of an object's surface that is nearest to `eye`, moved off it by the palm's thickness."""
    centre, half = np.array(thing.position), np.array(thing.size) / 2
    if thing.shape == "ball":
        return centre + unit(eye - centre) * (half[0] + TOUCH_GAP)
    cos, sin = np.cos(thing.yaw), np.sin(thing.yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    local = turn.T @ (eye - centre)
    # From above, a hand lies on the top near its edge; from the side, on the border.
    share = 0.8 if local[2] >= half[2] else 1.0
    if thing.shape == "cylinder":
        flat = local[:2] * min(1.0, half[0] * share / max(float(np.linalg.norm(local[:2])), 1e-9))
    else:
        flat = np.clip(local[:2], -half[:2] * share, half[:2] * share)
    near = np.array([*flat, min(local[2], half[2])])
    away = np.array([0.0, 0.0, 1.0]) if local[2] >= half[2] else unit(np.array([*(local[:2] - flat), 0.0]))
    return centre + turn @ (near + away * TOUCH_GAP)
