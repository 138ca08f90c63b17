"""A room as a scene of physics, without the humanoid: things that a body meets, and a door that gives way."""

from __future__ import annotations

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.room.layout import Footprint, RoomLayout
from egotwin_sim.room.world import furnish

LEAF_MASS = 20.0  # kg, a hollow interior door
FRICTION = (1.0, 0.005, 0.0001)  # sliding, torsional, rolling: shoes on a floor
# What only decorates another geom, or would make a body stumble that does not know of it.
_DECORATION = ("frame/threshold", "_panel0", "_panel1", "_plate")


def room_scene(layout: RoomLayout, size: int = 256) -> mujoco.MjSpec:
    """The MuJoCo spec of a room to put a robot into, see `egotwin_sim.body.robot.RobotModel`.

    It looks as `RoomWorld` does. A body meets the floor, walls as thick as the layout says (a wall's picture is a
    plane, and to collisions a plane is a half space), the furniture, the objects, the door's frame and its leaf.
    Nothing but what touches it moves the leaf; its hinge is `door_hinge`, 0 when closed.

    Args:
        layout: the room.
        size: width and height of the largest image to draw, pixels.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.compiler.autolimits = True
    furnish(spec, layout, size)
    for geom in spec.geoms:
        # The room's things meet robots, not one another: the leaf overlaps its frame.
        geom.contype, geom.conaffinity = 0, int(_is_solid(geom))
        geom.friction = FRICTION
    for geom in spec.body("door").geoms:
        geom.mass = LEAF_MASS if geom.name == "door/leaf" else 0.0
    for i, wall in enumerate(layout.wall_footprints):
        _add_wall(spec, f"{wall.name}/solid{i}", wall, layout.height)
    return spec


def _is_solid(geom: mujoco.MjsGeom) -> bool:
    if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
        return geom.name == "floor/plane"
    return not geom.name.endswith(_DECORATION)


def _add_wall(spec: mujoco.MjSpec, name: str, wall: Footprint, height: float) -> None:
    """An invisible box over a wall's outline."""
    spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[*wall.centre, height / 2],
        quat=[np.cos(wall.yaw / 2), 0.0, 0.0, np.sin(wall.yaw / 2)],
        size=[*wall.half, height / 2],
        rgba=[0.0, 0.0, 0.0, 0.0],
        contype=0,
        conaffinity=1,
        friction=FRICTION,
    )
