"""The room as a scene of physics: it looks as the room does, and meets a body as the room does."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.body import mujoco
from egotwin_sim.body.rendering import Canvas
from egotwin_sim.body.retargeting import retargeter_for
from egotwin_sim.body.robot import RobotModel, our_robot
from egotwin_sim.body.tracker import Tracker, TrackerConfig
from egotwin_sim.motion import Motion
from egotwin_sim.room.layout import DOOR_MAX_ANGLE, RoomLayout, sample_layout
from egotwin_sim.room.physics import room_scene
from egotwin_sim.room.synthesis import synthesise
from egotwin_sim.room.world import RoomWorld

SIZE = 96
RADIUS = 0.2  # of the balls that are thrown about, metres
LAYOUT = sample_layout(3)


def in_room(motion: Motion, layout: RoomLayout) -> tuple[RobotModel, np.ndarray]:
    robot = our_robot()
    return RobotModel(robot, room_scene(layout, SIZE)), retargeter_for(robot).retarget(motion).qpos


@pytest.mark.parametrize("seed", [3, 8])
def test_the_head_camera_sees_what_it_sees_in_the_room(seed: int) -> None:
    layout = sample_layout(seed)
    motion = synthesise(layout, seed, 4.0).motion[::16]
    robot_model, qpos = in_room(motion, layout)
    data = mujoco.MjData(robot_model.model)
    canvas = Canvas(robot_model.model, robot_model.robot.hidden_group)
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, robot_model.head_camera
    world = RoomWorld(layout, size=SIZE)
    for frame, door in enumerate(np.linspace(0.0, DOOR_MAX_ANGLE, len(motion))):
        world.reset(motion[frame], float(door))
        data.qpos[robot_model.qpos_index] = qpos[frame]
        data.qpos[robot_model.model.joint("door_hinge").qposadr[0]] = door
        mujoco.mj_kinematics(robot_model.model, data)
        mujoco.mj_camlight(robot_model.model, data)
        canvas.draw(data, camera, SIZE, SIZE)
        difference = np.abs(canvas.read_rgb().astype(int) - world.render())
        # Where an edge falls on a pixel's border, rounding may decide.
        assert (difference.max(axis=-1) > 2).mean() < 0.002 and difference.mean() < 0.1
    canvas.close()
    world.close()


def with_ball(
    xyz: np.ndarray, velocity: np.ndarray, layout: RoomLayout = LAYOUT
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The room with a ball of 5 kg that is thrown; it meets what a robot meets."""
    spec = room_scene(layout, SIZE)
    ball = spec.worldbody.add_body(name="ball", pos=xyz)
    ball.add_freejoint(name="ball")
    ball.add_geom(
        name="ball", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[RADIUS, 0, 0], mass=5.0, contype=1, conaffinity=0
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qvel[model.joint("ball").dofadr[0] :][:3] = velocity
    return model, data


def run(model: mujoco.MjModel, data: mujoco.MjData, seconds: float) -> np.ndarray:
    """The ball's ways, (T, 3)."""
    path = []
    for _ in range(round(seconds / model.opt.timestep)):
        mujoco.mj_step(model, data)
        path.append(data.body("ball").xpos.copy())
    return np.stack(path)


def test_the_room_is_hollow_and_its_floor_carries() -> None:
    x, y, _ = LAYOUT.sample_spawn(np.random.default_rng(0))
    model, data = with_ball(np.array([x, y, RADIUS + 0.3]), np.zeros(3))
    mujoco.mj_forward(model, data)
    assert data.ncon == 0, "neither wall nor vestibule reaches into the room"
    end = run(model, data, 2.0)[-1]
    np.testing.assert_allclose(end, [x, y, RADIUS], atol=0.02)


@pytest.mark.parametrize("wall", range(4))
def test_walls_stop_what_is_thrown_at_them(wall: int) -> None:
    direction = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]][wall], dtype=float)
    model, data = with_ball(np.array([0.0, 0.0, 1.9]), 6.0 * direction + [0.0, 0.0, 1.0])
    path = run(model, data, 1.0)
    half = np.array(LAYOUT.size) / 2
    assert (path @ direction).max() > half[wall % 2] - RADIUS - 0.1, "it got there"
    assert (np.abs(path[:, :2]) < half + 0.05).all()


def test_furniture_stops_what_falls_on_it() -> None:
    table = LAYOUT.table
    standing = [thing for thing in LAYOUT.objects if thing.on_table]
    along = np.array([np.cos(table.yaw), np.sin(table.yaw)])
    # On the half of the table where nothing stands, or on what stands there.
    side = -np.sign((np.array(standing[0].position[:2]) - table.position[:2]) @ along) if len(standing) == 1 else 0.0
    xy = np.array(table.position[:2]) + side * 0.25 * table.size[0] * along
    model, data = with_ball(np.array([*xy, 1.6]), np.zeros(3))
    lowest = run(model, data, 0.8)[:, 2].min()
    assert lowest > table.size[2] + RADIUS - 0.05
    thing = next(thing for thing in LAYOUT.objects if not thing.on_table)
    x, y, z = thing.position
    model, data = with_ball(np.array([x, y, 2 * z + RADIUS + 0.05]), np.zeros(3))
    assert run(model, data, 0.3)[:, 2].min() > 2 * z + RADIUS - 0.05


def test_the_door_gives_way_to_what_pushes_it_and_to_nothing_else() -> None:
    door = LAYOUT.door
    spot = np.array([*(door.centre + door.along * 0.2 - door.outward * 0.8), 1.0])
    model, data = with_ball(spot, np.zeros(3))
    hinge = model.joint("door_hinge")
    run(model, data, 1.0)
    assert abs(data.qpos[hinge.qposadr[0]]) < 1e-3, "left alone it stays shut"
    mujoco.mj_resetData(model, data)
    data.qvel[model.joint("ball").dofadr[0] :][:3] = [*(3.0 * door.outward), 1.5]
    path = run(model, data, 3.0)
    opened = float(data.qpos[hinge.qposadr[0]])
    assert np.rad2deg(opened) > 5.0
    assert abs(float(data.qvel[hinge.dofadr[0]])) < 0.05, "it comes to rest"
    assert ((path[:, :2] - door.centre) @ door.outward).max() < 1.6, "and the vestibule ends"
    run(model, data, 1.0)
    assert float(data.qpos[hinge.qposadr[0]]) == pytest.approx(opened, abs=0.1), "where it was left, it stays"


def test_a_body_stands_in_it() -> None:
    motion = synthesise(LAYOUT, 0, 0.5, goal=f"turn to the {LAYOUT.names[0]}").motion[:1]
    robot_model, qpos = in_room(motion, LAYOUT)
    tracker = Tracker(robot_model, TrackerConfig(mode="assisted"))
    tracker.reset(qpos[0])
    for _ in range(200):
        tracker.step()
    reading = tracker.state()
    assert np.linalg.norm(reading.qpos[:3] - qpos[0, :3]) < 0.02
    assert reading.contacts > 0 and reading.penetration_mm < 10.0
