"""Motions for rooms: random clips for data, and plans that pursue a goal from any state."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.motion import Motion
from egotwin_sim.motion.skeleton import Skeleton
from egotwin_sim.room.goals import Goal, parse_goal
from egotwin_sim.room.layout import RoomLayout
from egotwin_sim.room.synthesis.body import MOTION_FPS, Style, perform, read_state
from egotwin_sim.room.synthesis.ground import Ground
from egotwin_sim.room.synthesis.skills import REACH_DISTANCE, Plan, Segment
from egotwin_sim.room.synthesis.texts import sentence
from egotwin_sim.room.synthesis.timing import wrap

START_CLEARANCE = 0.33  # metres between a clip's first place and any obstacle
OPEN_TO = np.deg2rad(75.0)  # door angle that the goal to open the door aims at
LONGEST_PLAN = 60.0  # seconds
TAIL = 1.4  # seconds that a plan goes on beyond the motion, so that its last steps know where they lead

# Share of the clips by what they are about. Walking, turning and looking also follow one another within a clip.
THEMES: dict[str, float] = {
    "walk": 0.215,
    "stroll": 0.045,
    "bump": 0.08,
    "turn": 0.13,
    "look": 0.10,
    "touch": 0.09,
    "reach": 0.035,
    "wave": 0.055,
    "door": 0.18,
    "crouch": 0.02,
    "sit": 0.015,
    "idle": 0.01,
}


@dataclass(frozen=True)
class Synthesis:
    """A synthesised clip.

    Attributes:
        motion: 1 + 16 * seconds frames, world coordinates, as planned (the room's world may still stop it).
        text: what happens, in free words.
        segments: the skills in time; times in seconds, possibly beyond the end of the motion.
        goal_kind: "walk", "turn", "open", ...: the goal's, or that of the clip's most particular skill.
        target: name of the thing that it is about, or None.
        planted: bool (T, 2), whether the left and right foot stand.
    """

    motion: Motion
    text: str
    segments: tuple[Segment, ...]
    goal_kind: str
    target: str | None
    planted: np.ndarray


def _frames(seconds: float) -> int:
    if not (np.isfinite(seconds) and seconds > 0):
        raise UserError(f"seconds is {seconds}; expected a positive number")
    return 1 + round(MOTION_FPS * seconds)


def synthesise(layout: RoomLayout, seed: int, seconds: float = 5.0, goal: str | None = None) -> Synthesis:
    """A clip's motion and text in a room; the same arguments always give the same clip.

    Args:
        layout: the room.
        seed: of all choices.
        seconds: length; the motion has 1 + 16 * seconds frames.
        goal: what the motion shall pursue, such as "walk to the red box"; None for a random theme.

    Raises:
        UserError: the seconds are not positive, or the room has nothing of what the goal names.
    """
    count = _frames(seconds)
    rng = np.random.Generator(np.random.PCG64([seed, layout.seed]))
    style = Style.sample(rng)
    skeleton = Skeleton.default()
    if goal is not None:
        parsed = parse_goal(goal, layout)
        plan = _Theme(layout, rng, style, skeleton, seconds).pursue(parsed)
        made = _finish(plan, count, 0.0, skeleton)
        return replace(made, goal_kind=parsed.kind, target=parsed.target)
    theme = str(rng.choice(list(THEMES), p=np.array(list(THEMES.values())) / sum(THEMES.values())))
    # Some walks are under way when the clip begins.
    lead = (
        float(rng.integers(6, 20)) / MOTION_FPS if theme in ("walk", "stroll", "bump") and rng.random() < 0.3 else 0.0
    )
    while True:
        tried = _Theme(layout, rng, style, skeleton, seconds + lead).play(theme)
        if tried is not None:
            return _finish(tried, count, lead, skeleton)
        theme = str(rng.choice(["walk", "turn", "look", "reach"]))


def _finish(plan: Plan, count: int, lead: float, skeleton: Skeleton) -> Synthesis:
    rng = plan.rng
    skip = round(lead * MOTION_FPS)
    end = (count - 1 + skip) / MOTION_FPS
    plan.ground.hold(max(0.0, end + TAIL - plan.time))
    motion, feet = perform(
        plan.score(), plan.style, count + skip, skeleton, None, rng.normal(0.0, [[0.02, 0.01], [0.02, 0.01]])
    )
    phrases = [text for start, text in plan.phrases if start < end - 0.6]
    segments = tuple(_shifted(segment, lead) for segment in plan.segments if segment.start < end)
    rare = [segment for segment in segments if segment.kind in ("open", "reach", "wave", "sit", "crouch")]
    main = next(iter([*rare, *(segment for segment in segments if segment.kind != "idle"), *segments]))
    return Synthesis(
        motion=motion[skip:],
        text=sentence(rng, phrases or ["stands still"]),
        segments=segments,
        goal_kind=main.kind,
        target=main.args.get("target"),
        planted=feet.planted[skip:],
    )


def _shifted(segment: Segment, lead: float) -> Segment:
    args = dict(segment.args)
    for key in ("hold", "moves"):
        if key in args:
            args[key] = tuple(value - lead for value in args[key])
    return Segment(segment.kind, max(0.0, segment.start - lead), segment.stop - lead, args)


def pursue(plan: Plan, goal: Goal) -> None:
    """Extend a plan by what reaches a goal, as far as there is a way."""
    if goal.kind == "turn":
        plan.turn_to(goal.target)
    elif goal.kind == "walk":
        if not plan.walk_to(goal.target):
            plan.turn_to(goal.target)
    elif plan.door_angle < OPEN_TO - np.deg2rad(5.0):
        plan.walk_to_door()
        plan.open_door(OPEN_TO)
    if not plan.segments:
        plan.idle(0.5)


class Synthesiser:
    """Plans motions that pursue goals in one room, from whatever state the body is in.

    Args:
        layout: the room.
        seed: of the body's style and of small choices.
    """

    def __init__(self, layout: RoomLayout, seed: int) -> None:
        self.layout = layout
        self._rng = np.random.Generator(np.random.PCG64([seed, layout.seed]))
        self._style = Style.sample(self._rng)

    def plan(self, state: Motion, goal_text: str, seconds: float | None = None, door_angle: float = 0.0) -> Motion:
        """A motion that continues from a state and pursues a goal.

        Args:
            state: the last frames of the body in world coordinates, 16 per second. Frame 0 of the plan is the last of
                them; two or more give the velocity that the plan takes over.
            goal_text: such as "open the door".
            seconds: length of the plan; None: until the goal should be reached, and half a second more.
            door_angle: radians, as it is now.

        Returns:
            1 + 16 * seconds frames in world coordinates; the first one is the state.

        Raises:
            UserError: the goal's words do not fit the room, or the seconds are not positive.
        """
        goal = parse_goal(goal_text, self.layout)
        count = None if seconds is None else _frames(seconds)
        start = read_state(state)
        limit = LONGEST_PLAN if seconds is None else seconds + TAIL
        ground = Ground(start.ground[:2], start.ground[2], start.speed, start.yaw_rate, limit)
        plan = Plan(self.layout, self._rng, self._style, ground, state.skeleton, door_angle, start.palms)
        pursue(plan, goal)
        if count is None:
            count = _frames(min(plan.time + 0.5, LONGEST_PLAN))
        ground.hold(max(0.0, (count - 1) / MOTION_FPS + TAIL - plan.time))
        return perform(plan.score(), self._style, count, state.skeleton, start)[0]


class _Theme:
    """Chooses a start and a sequence of skills for a clip."""

    def __init__(self, layout: RoomLayout, rng: np.random.Generator, style: Style, skeleton: Skeleton, seconds: float):
        self.layout, self.rng, self.style, self.skeleton, self.seconds = layout, rng, style, skeleton, seconds

    def play(self, theme: str) -> Plan | None:
        """The plan of a theme, or None when this try did not work out."""
        plan: Plan | None = getattr(self, f"_{theme}")()
        if plan is None:
            return None
        self._fill(plan)
        return plan

    def pursue(self, goal: Goal) -> Plan:
        """A plan for a goal from a free place where it is not reached yet."""
        near, far, facing = {"walk": (1.1, 3.6, 1.0), "turn": (0.5, 4.0, np.pi), "open": (0.5, 1.5, 0.7)}[goal.kind]
        for _ in range(60):
            start = self._start(goal.target, near, far, facing)
            if start is None:
                near, far = near * 0.9, far * 1.1
                continue
            plan = self._plan(start)
            angle = abs(plan.bearing(self.layout.target_position(goal.target)))
            if goal.kind == "turn" and not 0.5 < angle < 2.4:
                continue
            pursue(plan, goal)
            if plan.segments[-1].kind == goal.kind:
                break
        self._fill(plan)
        return plan

    def _plan(self, start: np.ndarray) -> Plan:
        ground = Ground(start[:2], start[2], limit=self.seconds + TAIL)
        return Plan(self.layout, self.rng, self.style, ground, self.skeleton)

    def _names(self) -> list[str]:
        names = [thing.name for thing in self.layout.objects]
        return [names[i] for i in self.rng.permutation(len(names))]

    def _start(
        self, target: str | None = None, near: float = 0.0, far: float = 9.0, facing: float = 0.6
    ) -> np.ndarray | None:
        """A free place (x, y, heading) with several things in view; None when there is none at that distance.

        Args:
            target: a thing whose distance and bearing are bounded.
            near: least metres from the body's middle to the target's outline.
            far: most metres.
            facing: most radians between the heading and the target's bearing.
        """
        rng, layout = self.rng, self.layout
        count = 64
        half = np.array(layout.size) / 2 - START_CLEARANCE
        xy = rng.uniform(-half, half, size=(count, 2))
        things = np.array([thing.position[:2] for thing in layout.objects] + [list(layout.door.centre)])
        if target is None:
            # Mostly towards some thing, with a wide spread.
            aim = things[rng.integers(len(things), size=count)] - xy
            yaw = np.arctan2(aim[:, 1], aim[:, 0]) + rng.normal(0.0, 0.45, size=count)
            good = np.ones(count, dtype=bool)
        else:
            aim = layout.target_position(target)[:2] - xy
            yaw = np.arctan2(aim[:, 1], aim[:, 0]) + rng.uniform(-facing, facing, size=count)
            distance = layout.target_footprint(target).distance(xy)
            good = (distance > near) & (distance < far)
        good &= np.min([f.distance(xy) for f in layout.furniture_footprints], axis=0) > START_CLEARANCE
        if not good.any():
            return None
        line = things[None] - xy[:, None]
        bearing = np.abs(wrap(np.arctan2(line[..., 1], line[..., 0]) - yaw[:, None]))
        distance = np.linalg.norm(line, axis=-1)
        seen = ((bearing < 0.7) & (distance > 0.8)).sum(axis=1)
        score = np.where(good, np.minimum(seen, 3) + rng.uniform(0.0, 1.6, size=count), -1.0)
        best = int(np.argmax(score))
        return np.array([*xy[best], yaw[best]])

    def _fill(self, plan: Plan) -> None:
        """Add further skills until the time is used, three in all at most."""
        rng = self.rng
        if any(segment.kind == "sit" for segment in plan.segments):
            if self.seconds - plan.time > 1.0 and rng.random() < 0.7:
                plan.look_aside()
            return
        for _ in range(3 - len(plan.segments)):
            left = self.seconds - plan.time
            if left < 1.3 or rng.random() < 0.12:
                return
            choices = {"look_aside": 0.22, "look_at": 0.18, "look_around": 0.12 if left > 2.5 else 0.0, "turn": 0.16}
            choices |= {"turn_to": 0.16, "wave": 0.04, "reach": 0.05, "walk": 0.2 if left > 2.0 else 0.0, "idle": 0.08}
            key = str(rng.choice(list(choices), p=np.array(list(choices.values())) / sum(choices.values())))
            if plan.segments and plan.segments[-1].kind == "open" and key in ("turn", "walk"):
                key = "look_aside"
            if key == "look_aside":
                plan.look_aside()
            elif key == "look_at":
                plan.look_at(self._names()[0], float(rng.uniform(0.4, 1.0)))
            elif key == "look_around":
                plan.look_around()
            elif key == "turn":
                plan.turn(self._angle())
            elif key == "turn_to":
                plan.turn_to(self._names()[0])
            elif key == "wave":
                plan.wave()
            elif key == "reach":
                plan.reach(None)
            elif key == "walk":
                plan.walk_free(float(rng.uniform(1.0, 2.0)))
            else:
                plan.idle(float(rng.uniform(0.8, 1.6)))

    def _angle(self) -> float:
        sign = 1.0 if self.rng.random() < 0.5 else -1.0
        if self.rng.random() < 0.08:
            return sign * np.pi * 0.95
        return sign * float(np.deg2rad(self.rng.uniform(35.0, 120.0)))

    def _walk(self) -> Plan | None:
        for name in [*self._names()[:3], "door" if self.rng.random() < 0.3 else "table"]:
            start = self._start(name, 0.9, 3.6, facing=0.9)
            if start is None:
                continue
            plan = self._plan(start)
            if self.rng.random() < 0.15:
                plan.idle(float(self.rng.uniform(0.3, 0.8)), silent=True)
            reach = name not in ("door", "table") and self.rng.random() < 0.25
            if plan.walk_to(name, REACH_DISTANCE if reach else float(self.rng.uniform(0.36, 0.7))):
                if reach and plan.time < self.seconds - 1.6:
                    plan.reach(name)
                return plan
        return None

    def _stroll(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        return plan if plan.walk_free(float(self.rng.uniform(1.5, 3.0))) else None

    def _bump(self) -> Plan | None:
        rng = self.rng
        if rng.random() < 0.5:
            name = next(n for n in [*self._names(), "table"] if n == "table" or not self.layout.object(n).on_table)
            start = self._start(name, 0.5, 2.2, facing=0.3)
            if start is None:
                return None
            plan = self._plan(start)
            aim = self.layout.target_position(name)[:2] + rng.normal(0.0, 0.06, size=2)
            plan.walk_into(name, aim, self.seconds - float(rng.uniform(0.0, 1.2)))
            return plan
        start = self._start()
        if start is None:
            return None
        wall = int(rng.integers(4))
        normal = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]][wall], dtype=np.float64)
        half = np.array(self.layout.size) / 2
        aim = start[:2] + normal * (half @ np.abs(normal) - start[:2] @ normal)
        line = aim - start[:2]
        if not 0.5 < np.linalg.norm(line) < 2.4:
            return None
        start[2] = np.arctan2(line[1], line[0]) + rng.uniform(-0.5, 0.5)
        aim = aim + np.array([-normal[1], normal[0]]) * rng.uniform(-0.4, 0.4)
        plan = self._plan(start)
        plan.walk_into("wall", aim, self.seconds - float(rng.uniform(0.0, 1.2)))
        return plan

    def _turn(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        if self.rng.random() < 0.5:
            plan.turn_to(self._names()[0])
        else:
            plan.turn(self._angle())
        return plan

    def _look(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        choice = self.rng.random()
        if choice < 0.4:
            plan.look_around()
        elif choice < 0.7:
            plan.look_at(self._names()[0], float(self.rng.uniform(0.5, 1.2)))
        else:
            plan.look_aside()
        return plan

    def _touch(self) -> Plan | None:
        for name in self._names():
            start = self._start(name if not self.layout.object(name).on_table else "table", 0.27, 0.55, facing=0.5)
            if start is None:
                continue
            target = self.layout.target_position(name)[:2] - start[:2]
            start[2] = np.arctan2(target[1], target[0]) + self.rng.uniform(-0.7, 0.7)
            plan = self._plan(start)
            if self.rng.random() < 0.4:
                plan.idle(float(self.rng.uniform(0.2, 0.7)), silent=True)
            if plan.reach(name):
                return plan
        return None

    def _reach(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        if self.rng.random() < 0.3:
            plan.turn_to(self._names()[0])
        return plan if plan.reach(None) else None

    def _wave(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        if self.rng.random() < 0.3:
            plan.turn_to(self._names()[0])
        plan.wave()
        return plan

    def _door(self) -> Plan | None:
        rng, door = self.rng, self.layout.door
        stand, facing = self._plan(np.zeros(3)).door_stand(0.0)
        back, aside = float(rng.uniform(0.0, 0.8)), float(rng.uniform(-0.3, 0.3))
        if rng.random() < 0.25:
            back, aside = float(rng.uniform(0.0, 0.08)), 0.0
        start = np.array([*(stand - door.outward * back + door.along * aside * min(1.0, back)), 0.0])
        line = stand - start[:2]
        start[2] = facing if back < 0.1 else np.arctan2(line[1], line[0])
        start[2] += float(rng.uniform(-0.2, 0.2))
        if np.min([f.distance(start[:2]) for f in self.layout.furniture_footprints]) < 0.25:
            return None
        plan = self._plan(start)
        if not plan.walk_to_door():
            return None
        return plan if plan.open_door() else None

    def _crouch(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        plan.crouch()
        return plan

    def _sit(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        if self.rng.random() < 0.5:
            plan.turn_to(self._names()[0])
        plan.sit()
        return plan

    def _idle(self) -> Plan | None:
        start = self._start()
        if start is None:
            return None
        plan = self._plan(start)
        plan.idle(float(self.rng.uniform(1.5, 3.0)))
        return plan
