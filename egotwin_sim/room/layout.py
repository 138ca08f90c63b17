"""Procedural rooms as plain data: sizes, colours, furniture, objects and the door, all from one seed."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

Colour = tuple[float, float, float]
Shape = Literal["box", "cylinder", "ball"]
Wall = Literal["east", "north", "west", "south"]
Pattern = Literal["checker", "stripes", "noise"]

SHAPES: tuple[Shape, ...] = ("box", "cylinder", "ball")
WALLS: tuple[Wall, ...] = ("east", "north", "west", "south")

# Hues in degrees, far enough apart to be named from a 128-pixel view. Orange and pink are the door's.
COLOURS: dict[str, float] = {"red": 0.0, "yellow": 55.0, "green": 120.0, "cyan": 185.0, "blue": 225.0, "purple": 285.0}
DOOR_HUE = 33.0
VESTIBULE_HUE = 330.0

ROOM_HEIGHT = 2.6
WALL_THICKNESS = 0.08
VESTIBULE_DEPTH = 1.30  # metres behind the wall; the open leaf must fit
VESTIBULE_MARGIN = 0.30  # metres beyond either side of the door opening
BODY_RADIUS = 0.22  # metres, the cylinder that walls and furniture stop
WALKWAY = 0.62  # metres of free floor between any two things that a body may pass between
DOOR_APPROACH = 1.30  # metres in front of the door that stay empty
DOOR_MAX_ANGLE = np.deg2rad(100.0)


def _hsv(hue_deg: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue_deg / 360.0, saturation, value)


DOOR_COLOUR = _hsv(DOOR_HUE, 0.75, 0.92)
VESTIBULE_COLOUR = _hsv(VESTIBULE_HUE, 0.80, 1.0)


def object_colour(name: str) -> Colour:
    """RGB in 0..1 of a colour name of `COLOURS`."""
    return _hsv(COLOURS[name], 0.90, 0.95)


@dataclass(frozen=True)
class Footprint:
    """What a thing occupies on the floor: a circle, or a rectangle turned by `yaw`.

    Attributes:
        name: the thing's name, as in the segmentation.
        centre: (x, y), metres.
        half: half extents (x, y) of a rectangle; a circle has (0, 0).
        yaw: radians, rotation of the rectangle about z.
        radius: metres added all round: a circle's radius, 0 for a rectangle.
    """

    name: str
    centre: tuple[float, float]
    half: tuple[float, float] = (0.0, 0.0)
    yaw: float = 0.0
    radius: float = 0.0

    def _local(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        rotation = np.array([[cos, -sin], [sin, cos]])
        return (np.asarray(xy, dtype=np.float64) - self.centre) @ rotation, rotation

    def distance(self, xy: np.ndarray) -> np.ndarray:
        """Signed distance in metres from points (..., 2) to the border; negative inside."""
        local, _ = self._local(xy)
        q = np.abs(local) - self.half
        outside = np.linalg.norm(np.maximum(q, 0.0), axis=-1)
        return outside + np.minimum(q.max(axis=-1), 0.0) - self.radius

    def normal(self, xy: np.ndarray) -> np.ndarray:
        """Unit vector (2,) that leads from the thing to the point (2,) by the shortest way."""
        local, rotation = self._local(xy)
        q = np.abs(local) - self.half
        sign = np.where(local < 0.0, -1.0, 1.0)
        if q.max() > 0.0:
            away = np.maximum(q, 0.0) * sign
        else:
            away = np.where(np.arange(2) == int(q.argmax()), sign, 0.0)
        norm = float(np.linalg.norm(away))
        return rotation @ (away / norm if norm > 1e-12 else np.array([1.0, 0.0]))


@dataclass(frozen=True)
class RoomObject:
    """A coloured solid.

    Attributes:
        name: colour and shape, such as "red box"; unique in its room.
        position: centre, metres.
        size: full extents (x, y, z), metres; a cylinder's or ball's first two are its diameter.
        yaw: radians.
        on_table: whether it stands on the table instead of the floor.
    """

    name: str
    colour: str
    shape: Shape
    position: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float = 0.0
    on_table: bool = False

    @property
    def rgb(self) -> Colour:
        """RGB in 0..1."""
        return object_colour(self.colour)

    @property
    def footprint(self) -> Footprint:
        """Its outline on the floor."""
        xy = self.position[0], self.position[1]
        if self.shape == "box":
            return Footprint(self.name, xy, (self.size[0] / 2, self.size[1] / 2), self.yaw)
        return Footprint(self.name, xy, radius=self.size[0] / 2)


@dataclass(frozen=True)
class Table:
    """A four-legged table: `position` is the floor point under its middle, `size` its full extents, metres."""

    position: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    rgb: Colour

    @property
    def footprint(self) -> Footprint:
        """The outline of its top; a body cannot pass under it."""
        return Footprint(
            "table", (self.position[0], self.position[1]), (self.size[0] / 2, self.size[1] / 2), self.yaw
        )


@dataclass(frozen=True)
class Door:
    """A hinged door that swings out of the room into the vestibule.

    The leaf turns about a vertical line through `hinge`. At angle 0 it points along `along` and fills the opening; a
    growing angle turns it towards `outward`, away from whoever stands in the room.

    Attributes:
        wall: the wall that holds it.
        hinge: (x, y, 0), metres, on the outer face of the wall.
        hinge_side: side of the hinge for somebody in the room who faces the door.
        width, height, thickness: of the leaf, metres.
        handle_height: of the lever above the floor, metres.
    """

    wall: Wall
    hinge: tuple[float, float, float]
    hinge_side: Literal["left", "right"]
    width: float = 0.90
    height: float = 2.05
    thickness: float = 0.04
    handle_height: float = 1.02

    # The lever: its middle lies this far from the leaf's free edge and this far in front of the leaf's mid-plane.
    HANDLE_FROM_EDGE = 0.13
    HANDLE_STANDOFF = 0.075

    @property
    def outward(self) -> np.ndarray:
        """Unit vector (2,) out of the room."""
        angle = WALLS.index(self.wall) * np.pi / 2
        return np.array([round(np.cos(angle)), round(np.sin(angle))], dtype=np.float64)

    @property
    def along(self) -> np.ndarray:
        """Unit vector (2,) from the hinge to the free edge of the closed leaf."""
        x, y = self.outward
        right = np.array([y, -x])
        return right if self.hinge_side == "left" else -right

    @property
    def swing(self) -> float:
        """+1 when the leaf opens counter-clockwise seen from above, else -1."""
        return 1.0 if self.hinge_side == "left" else -1.0

    @property
    def centre(self) -> np.ndarray:
        """Middle (2,) of the opening, on the outer face of the wall, metres."""
        return np.array(self.hinge[:2]) + self.along * self.width / 2

    def leaf_axes(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (2,) along the leaf and out of its outer face, at a door angle in radians."""
        cos, sin = np.cos(angle), np.sin(angle)
        return cos * self.along + sin * self.outward, cos * self.outward - sin * self.along

    def handle_position(self, angle: float = 0.0) -> np.ndarray:
        """World position (3,) of the middle of the room-side lever at a door angle in radians."""
        leaf, normal = self.leaf_axes(angle)
        xy = np.array(self.hinge[:2]) + leaf * (self.width - self.HANDLE_FROM_EDGE) - normal * self.HANDLE_STANDOFF
        return np.array([xy[0], xy[1], self.handle_height])

    def footprint(self, angle: float = 0.0) -> Footprint:
        """The leaf's outline on the floor at a door angle in radians."""
        leaf, _ = self.leaf_axes(angle)
        centre = np.array(self.hinge[:2]) + leaf * self.width / 2
        yaw = float(np.arctan2(leaf[1], leaf[0]))
        return Footprint("door", (float(centre[0]), float(centre[1])), (self.width / 2, self.thickness / 2), yaw)


@dataclass(frozen=True)
class Surface:
    """Texture of a wall, floor or ceiling: two colours in a pattern whose period is `period` metres."""

    pattern: Pattern
    colour: Colour
    second: Colour
    period: float


@dataclass(frozen=True)
class RoomLayout:
    """A room: the origin is the middle of its floor, walls are parallel to the axes.

    Attributes:
        seed: what it was sampled from.
        size: inner (x, y) extents, metres.
        walls: surfaces in the order of `WALLS` (east +x, north +y, west -x, south -y).
        floor, ceiling: surfaces.
        objects: 4 to 6, of different colours.
        table, door: furniture.
        light: brightness factor of the lamps.
    """

    seed: int
    size: tuple[float, float]
    walls: tuple[Surface, ...]
    floor: Surface
    ceiling: Surface
    objects: tuple[RoomObject, ...]
    table: Table
    door: Door
    height: float = ROOM_HEIGHT
    light: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names that a goal may use: every object, the table and the door."""
        return (*(thing.name for thing in self.objects), "table", "door")

    def object(self, name: str) -> RoomObject:
        """The object of that name; KeyError when the room has none."""
        for thing in self.objects:
            if thing.name == name:
                return thing
        raise KeyError(name)

    def target_position(self, name: str, door_angle: float = 0.0) -> np.ndarray:
        """World position (3,) to look at or reach for: an object's centre, the table top's middle, the handle."""
        if name == "door":
            return self.door.handle_position(door_angle)
        if name == "table":
            return np.array([*self.table.position[:2], self.table.size[2]])
        return np.array(self.object(name).position)

    def target_footprint(self, name: str, door_angle: float = 0.0) -> Footprint:
        """Outline of an object, the table or the door on the floor."""
        if name == "door":
            return self.door.footprint(door_angle)
        return self.table.footprint if name == "table" else self.object(name).footprint

    @cached_property
    def wall_footprints(self) -> tuple[Footprint, ...]:
        """Walls of the room and of the vestibule, with the door's opening left free."""
        out: list[Footprint] = []
        t = WALL_THICKNESS
        for i, wall in enumerate(WALLS):
            normal = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]][i], dtype=np.float64)
            tangent = np.array([-normal[1], normal[0]])
            extent = self.size[1 - i % 2] / 2 + t
            centre = normal * (self.size[i % 2] / 2 + t / 2)
            if wall != self.door.wall:
                spans = [(-extent, extent)]
            else:
                middle, half = float(tangent @ self.door.centre), self.door.width / 2
                spans = [(-extent, middle - half), (middle + half, extent)]
            out += [_bar(wall, centre + tangent * (a + b) / 2, tangent, (b - a) / 2, t / 2) for a, b in spans]
        outward, along, centre = self.door.outward, self.door.along, self.door.centre
        half, depth = self.door.width / 2 + VESTIBULE_MARGIN, VESTIBULE_DEPTH
        out.append(_bar("vestibule", centre + outward * (depth + t / 2), along, half + t, t / 2))
        for side in (-1.0, 1.0):
            beside = centre + outward * depth / 2 + side * along * (half + t / 2)
            out.append(_bar("vestibule", beside, outward, depth / 2, t / 2))
        return tuple(out)

    @cached_property
    def furniture_footprints(self) -> tuple[Footprint, ...]:
        """The table and the objects on the floor."""
        return (self.table.footprint, *(thing.footprint for thing in self.objects if not thing.on_table))

    def obstacles(self, door_angle: float = 0.0) -> tuple[Footprint, ...]:
        """Everything that stops a body: walls, furniture, floor objects and the leaf at that door angle."""
        return (*self.wall_footprints, *self.furniture_footprints, self.door.footprint(door_angle))

    def clearance(self, xy: np.ndarray, door_angle: float = 0.0) -> np.ndarray:
        """Distance in metres from points (..., 2) to the nearest obstacle; negative inside one."""
        xy = np.asarray(xy, dtype=np.float64)
        return np.min([thing.distance(xy) for thing in self.obstacles(door_angle)], axis=0)

    def inside(self, xy: np.ndarray) -> np.ndarray:
        """Whether points (..., 2) lie within the four walls (the vestibule is outside)."""
        return np.all(np.abs(np.asarray(xy)) < np.array(self.size) / 2, axis=-1)

    def sample_spawn(self, rng: np.random.Generator, radius: float = 0.32) -> tuple[float, float, float]:
        """A free standing place (x, y) in metres and a heading in radians, uniform over the room's free floor."""
        half = np.array(self.size) / 2
        while True:
            xy = rng.uniform(-half, half)
            if self.clearance(xy) > radius:
                return float(xy[0]), float(xy[1]), float(rng.uniform(-np.pi, np.pi))


def _bar(name: str, centre: np.ndarray, direction: np.ndarray, half: float, half_thickness: float) -> Footprint:
    yaw = float(np.arctan2(direction[1], direction[0]))
    return Footprint(name, (float(centre[0]), float(centre[1])), (float(half), half_thickness), yaw)


def _surface(rng: np.random.Generator, value: float, saturation: float, patterns: tuple[Pattern, ...]) -> Surface:
    """A pale surface whose two tones differ enough for optical flow and too little to hide an object."""
    hue = float(rng.uniform(0.0, 360.0))
    tone = float(rng.uniform(0.5, 1.0)) * saturation
    contrast = float(rng.uniform(0.12, 0.20))
    pattern = patterns[int(rng.integers(len(patterns)))]
    period = float(rng.uniform(0.8, 1.4))
    return Surface(
        pattern=pattern,
        colour=_hsv(hue, tone, value),
        second=_hsv(hue + float(rng.uniform(-30.0, 30.0)), tone, value - contrast),
        # A stripe must be narrower than the stretches of wall beside the door, or they show one tone only.
        period=0.6 * period if pattern == "stripes" else period,
    )


def _sample_door(rng: np.random.Generator, size: tuple[float, float]) -> Door:
    index = int(rng.integers(4))
    side: Literal["left", "right"] = "left" if rng.random() < 0.5 else "right"
    width = Door.width
    normal = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]][index], dtype=np.float64)
    tangent = np.array([-normal[1], normal[0]])
    reach = size[1 - index % 2] / 2 - width / 2 - 0.55
    middle = normal * (size[index % 2] / 2 + WALL_THICKNESS) + tangent * float(rng.uniform(-reach, reach))
    left = tangent
    hinge = middle + (left if side == "left" else -left) * width / 2
    return Door(WALLS[index], (float(hinge[0]), float(hinge[1]), 0.0), side)


def _corners(thing: Footprint) -> np.ndarray:
    """(8, 2) points of the outline, enough to measure gaps between outlines of furniture size."""
    if thing.radius:
        angles = np.arange(8) * np.pi / 4
        return np.array(thing.centre) + thing.radius * np.stack([np.cos(angles), np.sin(angles)], -1)
    unit = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1], [1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float64)
    cos, sin = np.cos(thing.yaw), np.sin(thing.yaw)
    return np.array(thing.centre) + (unit * thing.half) @ np.array([[cos, sin], [-sin, cos]])


def _gap(a: Footprint, b: Footprint) -> float:
    return min(float(a.distance(_corners(b)).min()), float(b.distance(_corners(a)).min()))


def _against_wall(
    rng: np.random.Generator, size: tuple[float, float], half: tuple[float, float], walls: list[int]
) -> tuple[np.ndarray, float]:
    """A place with its back to one of the walls: centre (2,) and yaw. `half` is (along the wall, away from it)."""
    index = walls[int(rng.integers(len(walls)))]
    normal = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]][index], dtype=np.float64)
    tangent = np.array([-normal[1], normal[0]])
    room = size[1 - index % 2] / 2 - half[0] - 0.04
    centre = normal * (size[index % 2] / 2 - half[1] - 0.04) + tangent * float(rng.uniform(-room, room))
    return centre, float(np.arctan2(tangent[1], tangent[0]))


def _approach(door: Door) -> Footprint:
    centre = door.centre - door.outward * (WALL_THICKNESS + DOOR_APPROACH / 2)
    return _bar("approach", centre, door.along, door.width / 2 + 0.35, DOOR_APPROACH / 2)


def _sample_table(rng: np.random.Generator, size: tuple[float, float], door: Door) -> Table:
    approach = _approach(door)
    dims = float(rng.uniform(1.3, 1.6)), float(rng.uniform(0.65, 0.8)), float(rng.uniform(0.72, 0.78))
    walls = [i for i, wall in enumerate(WALLS) if wall != door.wall]
    while True:
        centre, yaw = _against_wall(rng, size, (dims[0] / 2, dims[1] / 2), walls)
        table = Table(
            position=(float(centre[0]), float(centre[1]), 0.0),
            size=dims,
            yaw=yaw,
            rgb=_hsv(float(rng.uniform(20, 50)), float(rng.uniform(0.08, 0.18)), float(rng.uniform(0.55, 0.8))),
        )
        if _gap(table.footprint, approach) > 0.05:
            return table


def _object_size(rng: np.random.Generator, shape: Shape, on_table: bool) -> tuple[float, float, float]:
    if shape == "ball":
        d = float(rng.uniform(0.32, 0.42) if on_table else rng.uniform(0.42, 0.62))
        return d, d, d
    if shape == "cylinder":
        d = float(rng.uniform(0.28, 0.36) if on_table else rng.uniform(0.38, 0.54))
        return d, d, float(rng.uniform(0.35, 0.50) if on_table else rng.uniform(0.50, 1.00))
    x, y = rng.uniform(0.30, 0.40, 2) if on_table else rng.uniform(0.40, 0.60, 2)
    return float(x), float(y), float(rng.uniform(0.30, 0.42) if on_table else rng.uniform(0.40, 0.85))


def _place_on_floor(
    rng: np.random.Generator, size: tuple[float, float], thing: RoomObject, others: list[Footprint]
) -> RoomObject | None:
    """The object at a free place, or None when the room is too full for it. Two of three stand at a wall."""
    extent = max(thing.size[:2]) / 2
    for _ in range(60):
        if rng.random() < 0.67:
            half = (thing.size[0] / 2, thing.size[1] / 2)
            xy, yaw = _against_wall(rng, size, half, [0, 1, 2, 3])
        else:
            room = np.array(size) / 2 - extent * 1.42 - WALKWAY
            xy, yaw = rng.uniform(-room, room), float(rng.uniform(0.0, np.pi / 2))
        placed = RoomObject(
            thing.name, thing.colour, thing.shape, (float(xy[0]), float(xy[1]), thing.size[2] / 2), thing.size, yaw
        )
        gaps = [_gap(placed.footprint, other) for other in others]
        # The first of the others is the approach of the door, which a thing may touch but not enter.
        if gaps[0] > 0.05 and min(gaps[1:]) > WALKWAY:
            return placed
    return None


def _sample_once(rng: np.random.Generator, seed: int) -> RoomLayout | None:
    size = float(rng.uniform(4.3, 5.6)), float(rng.uniform(4.3, 5.6))
    door = _sample_door(rng, size)
    table = _sample_table(rng, size, door)
    colours = [list(COLOURS)[i] for i in rng.permutation(len(COLOURS))]
    count = int(rng.integers(4, 7))
    on_table = int(rng.integers(1, 3)) if count > 4 else 1
    shapes = [SHAPES[int(i)] for i in rng.integers(len(SHAPES), size=count)]
    objects: list[RoomObject] = []
    cos, sin = np.cos(table.yaw), np.sin(table.yaw)
    # Two things share a table by halves, so they never overlap.
    side = 1.0 if rng.random() < 0.5 else -1.0
    for i in range(on_table):
        dims = _object_size(rng, shapes[i], on_table=True)
        along = (side if i == 0 else -side) * table.size[0] * float(rng.uniform(0.20, 0.27))
        across = float(rng.uniform(-0.1, 0.1))
        xy = table.position[0] + cos * along - sin * across, table.position[1] + sin * along + cos * across
        z = table.size[2] + dims[2] / 2
        yaw = table.yaw + float(rng.uniform(-0.3, 0.3))
        name = f"{colours[i]} {shapes[i]}"
        objects.append(RoomObject(name, colours[i], shapes[i], (float(xy[0]), float(xy[1]), z), dims, yaw, True))
    others = [_approach(door), table.footprint]
    for i in range(on_table, count):
        dims = _object_size(rng, shapes[i], on_table=False)
        name = f"{colours[i]} {shapes[i]}"
        placed = _place_on_floor(rng, size, RoomObject(name, colours[i], shapes[i], (0.0, 0.0, 0.0), dims), others)
        if placed is None:
            return None
        objects.append(placed)
        others.append(placed.footprint)
    return RoomLayout(
        seed=seed,
        size=size,
        walls=tuple(_surface(rng, 0.97, 0.16, ("checker", "stripes", "noise")) for _ in WALLS),
        floor=_surface(rng, 0.88, 0.18, ("checker", "noise", "stripes")),
        ceiling=_surface(rng, 0.97, 0.06, ("checker", "noise")),
        objects=tuple(objects),
        table=table,
        door=door,
        light=float(rng.uniform(0.9, 1.05)),
    )


def sample_layout(seed: int) -> RoomLayout:
    """A random room; the same seed always gives the same room.

    Objects on the floor keep a walkway of `WALKWAY` metres between each other (or stand at a wall), and nothing stands
    in front of the door.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        layout = _sample_once(rng, seed)
        if layout is not None:
            return layout
