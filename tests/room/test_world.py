from __future__ import annotations

import colorsys

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_multiply
from egotwin_sim.room.layout import BODY_RADIUS, DOOR_MAX_ANGLE, WALL_THICKNESS, RoomLayout, sample_layout
from egotwin_sim.room.world import HEAD_RADIUS, RoomWorld

SKELETON = Skeleton.default()
LAYOUT = sample_layout(0)


def turn(axis: str, degrees: float) -> np.ndarray:
    return axis_angle_to_quat(np.deg2rad(degrees) * np.array([axis == a for a in "xyz"], dtype=float))


def posed(xy: np.ndarray, yaw: float, **joints: np.ndarray) -> Motion:
    """One frame, arms hanging, at floor point xy."""
    quat = np.zeros((1, SKELETON.num_joints, 4))
    quat[..., 0] = 1.0
    quat[0, 0] = turn("z", np.rad2deg(yaw))
    hanging = {"left_shoulder": turn("x", -78), "right_shoulder": turn("x", 78)}
    for name, rotation in (hanging | joints).items():
        quat[0, SKELETON.index[name]] = rotation
    return Motion(np.array([[xy[0], xy[1], SKELETON.rest_root_height]]), quat)


def moved(frame: Motion, offsets: np.ndarray) -> Motion:
    """The frame shifted by horizontal offsets (T, 2), metres."""
    shift = np.concatenate([offsets, np.zeros((len(offsets), 1))], axis=1)
    quat = np.repeat(frame.joint_quat_wxyz, len(offsets), axis=0)
    return Motion(frame.root_position + shift, quat, frame.skeleton, frame.fps)


def heading(direction: np.ndarray) -> float:
    return float(np.arctan2(direction[1], direction[0]))


def palm_to(world: RoomWorld, side: str, target: np.ndarray) -> np.ndarray:
    """Offset (2,) that brings a palm of the current frame to the floor point of a target."""
    return target[:2] - world.data.site(f"{side}_palm").xpos[:2]


@pytest.fixture(scope="module")
def world() -> RoomWorld:
    return RoomWorld(LAYOUT)


def reaching(layout: RoomLayout) -> tuple[str, Motion]:
    """A frame at arm's length before the door, the palm of one hand at the handle's height."""
    door = layout.door
    side = "right" if door.hinge_side == "left" else "left"
    sign = 1.0 if side == "right" else -1.0
    world = RoomWorld(layout)
    for pitch in np.arange(0.0, 60.0, 0.5):
        arm = quat_multiply(turn("y", pitch), turn("z", sign * 90.0))
        frame = posed(door.centre - door.outward * 1.2, heading(door.outward), **{f"{side}_shoulder": arm})
        world.reset(frame)
        if world.data.site(f"{side}_palm").xpos[2] < door.handle_height:
            return side, frame
    raise AssertionError("the arm does not reach down to the handle")


def arc(layout: RoomLayout, world: RoomWorld, side: str, frame: Motion, stop: float, count: int = 40) -> Motion:
    """The frame carried so that the palm goes to the handle and along its path up to an angle, radians."""
    world.reset(frame)
    handle = palm_to(world, side, layout.door.handle_position(0.0))
    approach = np.linspace(0.0, 1.0, 12)[1:, None] * handle
    path = [palm_to(world, side, layout.door.handle_position(angle)) for angle in np.linspace(0.0, stop, count)]
    return moved(frame, np.concatenate([approach, path]))


def test_same_layout_gives_the_same_pixels(world: RoomWorld) -> None:
    frame = posed(np.zeros(2), 0.7)
    other = RoomWorld(sample_layout(LAYOUT.seed))
    images = []
    for each in (world, other):
        each.reset(frame, 0.3)
        images.append(each.render_rgbd())
    np.testing.assert_array_equal(images[0][0], images[1][0])
    np.testing.assert_array_equal(images[0][1], images[1][1])
    np.testing.assert_array_equal(world.render(), images[0][0])


def test_worlds_can_be_rendered_in_turns(world: RoomWorld) -> None:
    world.reset(posed(np.zeros(2), 0.7))
    before = world.render()
    other = RoomWorld(sample_layout(1), size=96)
    assert other.render().shape == (96, 96, 3)
    assert world.third_person(size=200).shape == (200, 200, 3)
    seen = world.segmentation()
    other.close()
    assert world.segmentation().keys() == seen.keys()
    np.testing.assert_array_equal(world.render(), before)


def test_camera_is_at_the_head_pose(world: RoomWorld) -> None:
    rng = np.random.default_rng(0)
    quat = axis_angle_to_quat(rng.normal(scale=0.4, size=(1, SKELETON.num_joints, 3)))
    frame = Motion(np.array([[0.2, -0.1, 0.9]]), quat)
    world.reset(frame)
    T_world_camera = frame.T_world_head()[0] @ world.T_head_camera
    np.testing.assert_allclose(world.data.camera("head_camera").xpos, T_world_camera[:3, 3], atol=1e-6)
    # MuJoCo's cameras look along -z with y up; the optical frame looks along z with y down.
    flip = np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(
        world.data.camera("head_camera").xmat.reshape(3, 3) @ flip, T_world_camera[:3, :3], atol=1e-6
    )


def test_depth_puts_the_walls_and_floor_where_they_are(world: RoomWorld) -> None:
    door = LAYOUT.door
    yaw = heading(-door.outward)  # towards the wall opposite the door
    frame = posed(np.zeros(2), yaw, head=turn("y", 10.0))
    world.reset(frame)
    _, depth = world.render_rgbd()
    masks = world.segmentation()
    rows, columns = np.mgrid[: world.size, : world.size] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(world.intrinsics).T
    points = np.concatenate([rays * depth[..., None], np.ones((*depth.shape, 1))], axis=-1)
    points = points @ (frame.T_world_head()[0] @ world.T_head_camera).T
    assert np.abs(points[masks["floor"], 2]).max() < 0.01
    half = np.array(LAYOUT.size) / 2
    off_plane = np.abs(half - np.abs(points[masks["wall"]][:, :2])).min(axis=-1)
    assert np.quantile(off_plane, 0.99) < 0.01
    centre = depth[world.size // 2, world.size // 2]
    assert 0.5 < centre < max(LAYOUT.size) * 1.5
    assert depth.dtype == np.float32


@pytest.mark.parametrize("seed", range(4))
def test_segmentation_finds_objects_in_their_colour(seed: int) -> None:
    layout = sample_layout(seed)
    world = RoomWorld(layout)
    for thing in layout.objects:
        # Stand in the middle of the room, or beside it when the object is there, and look at the object.
        direction = np.array(thing.position[:2])
        distance = float(np.linalg.norm(direction))
        xy = np.zeros(2) if distance > 1.0 else direction - direction / distance * 1.5
        world.reset(posed(xy, heading(direction - xy), head=turn("y", 25.0)))
        mask = world.segmentation()[thing.name]
        assert mask.sum() > 60
        pixels = world.render()[mask] / 255.0
        hues = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels])
        wanted = colorsys.rgb_to_hsv(*thing.rgb)
        error = np.abs((hues[:, 0] - wanted[0] + 0.5) % 1.0 - 0.5) * 360.0
        assert np.median(error) < 8.0
        assert np.median(hues[:, 1]) > 0.7
        assert np.median(hues[:, 2]) > 0.5


def test_the_camera_sees_the_own_body_and_never_the_own_head(world: RoomWorld) -> None:
    forward = {"left_shoulder": turn("z", -80), "right_shoulder": turn("z", 80)}
    free = LAYOUT.door.centre - LAYOUT.door.outward * 1.2
    yaw = heading(LAYOUT.door.outward)
    world.reset(posed(free, yaw, **forward))
    seen = world.segmentation()
    for name in ("left_hand", "right_hand", "left_arm", "right_arm"):
        assert seen[name].sum() > 20, name
    world.reset(posed(free, yaw, neck=turn("y", 45), head=turn("y", 25)))
    seen = world.segmentation()
    for name in ("torso", "left_leg", "right_leg"):
        assert seen[name].sum() > 20, name
    rng = np.random.default_rng(0)
    for _ in range(20):
        neck, head = (axis_angle_to_quat(rng.normal(scale=0.5, size=3)) for _ in range(2))
        world.reset(posed(free, rng.uniform(-3, 3), neck=neck, head=head))
        assert "head" not in world.segmentation()


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2, np.pi, -np.pi / 2, 0.6])
def test_walls_and_furniture_stop_the_body(world: RoomWorld, yaw: float) -> None:
    xy = np.array(LAYOUT.sample_spawn(np.random.default_rng(3))[:2])
    frame = posed(xy, yaw)
    world.reset(frame)
    direction = np.array([np.cos(yaw), np.sin(yaw)])
    result = world.step(moved(frame, np.linspace(0.0, 8.0, 100)[1:, None] * direction))
    assert not result.blocked[0]
    assert result.blocked[-1]
    walked = result.motion.root_position[:, :2].astype(np.float64)
    assert LAYOUT.clearance(walked).min() > BODY_RADIUS - 1e-3
    assert LAYOUT.inside(walked).all()
    eyes = result.motion.T_world_head()[:, :2, 3]
    assert min(thing.distance(eyes).min() for thing in LAYOUT.wall_footprints) > HEAD_RADIUS - 1e-3
    np.testing.assert_array_equal(result.motion.joint_quat_wxyz[0], frame.joint_quat_wxyz[0])


def test_a_body_slides_along_a_wall_and_goes_on_freely(world: RoomWorld) -> None:
    door = LAYOUT.door
    tangent = np.array([-door.outward[1], door.outward[0]])
    # Obliquely into the closed door from its free approach.
    frame = posed(door.centre - door.outward * 0.5, heading(door.outward))
    world.reset(frame)
    path = np.linspace(0.0, 1.0, 20)[1:, None] * (door.outward * 0.6 + tangent * 0.2)
    result = world.step(moved(frame, path))
    travelled = result.motion.root_position[-1, :2] - frame.root_position[0, :2]
    assert result.blocked.any()
    assert travelled @ tangent == pytest.approx(0.2, abs=1e-3)
    assert travelled @ door.outward < 0.5 - BODY_RADIUS + 0.01
    back = world.step(moved(world.frame, np.linspace(0.0, -0.4, 10)[1:, None] * door.outward))
    assert not back.blocked.any()


def test_a_free_motion_is_returned_unchanged(world: RoomWorld) -> None:
    door = LAYOUT.door
    frame = posed(door.centre - door.outward * 0.6, heading(-door.outward))
    world.reset(frame)
    motion = moved(frame, np.linspace(0.0, 0.4, 10)[1:, None] * -door.outward)
    result = world.step(motion)
    assert not result.blocked.any()
    np.testing.assert_allclose(result.motion.root_position, motion.root_position, atol=1e-6)
    assert (result.door_angle == 0.0).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_hand_on_the_handle_opens_the_door_and_closes_it(seed: int) -> None:
    layout = sample_layout(seed)
    world = RoomWorld(layout)
    side, frame = reaching(layout)
    motion = arc(layout, world, side, frame, np.deg2rad(45.0))
    world.reset(frame)
    opened = world.step(motion)
    assert opened.door_angle[:9].max() == 0.0
    assert np.rad2deg(opened.door_angle[-1]) == pytest.approx(45.0, abs=4.0)
    assert np.diff(opened.door_angle).min() > -1e-6
    closed = world.step(Motion(motion.root_position[::-1][1:40], motion.joint_quat_wxyz[1:40]))
    assert np.rad2deg(closed.door_angle[-1]) < 5.0


def test_a_hand_on_the_leaf_pushes_it_and_does_not_pull_it(world: RoomWorld) -> None:
    door = LAYOUT.door
    side, frame = reaching(LAYOUT)
    world.reset(frame)
    leaf, _ = door.leaf_axes(0.0)
    spot = np.array(door.hinge[:2]) + leaf * door.width * 0.6 - door.outward * 0.1
    shift = palm_to(world, side, spot)
    push = np.linspace(0.0, 0.45, 20)[1:, None] * door.outward
    world.step(moved(frame, np.linspace(0.0, 1.0, 15)[1:, None] * shift))
    assert world.door_angle == 0.0
    pushed = world.step(moved(world.frame, push))
    assert np.rad2deg(pushed.door_angle[-1]) > 15.0
    away = world.step(moved(world.frame, -push))
    assert (away.door_angle == pushed.door_angle[-1]).all()


def test_nothing_but_a_hand_moves_the_door(world: RoomWorld) -> None:
    door = LAYOUT.door
    frame = posed(door.centre - door.outward * 0.8, heading(-door.outward))  # backwards, hands beside the body
    world.reset(frame)
    result = world.step(moved(frame, np.linspace(0.0, 1.5, 30)[1:, None] * door.outward))
    assert result.blocked[-1]
    assert (result.door_angle == 0.0).all()


def test_an_open_door_lets_the_body_through_and_shows_the_vestibule(world: RoomWorld) -> None:
    door = LAYOUT.door
    frame = posed(door.centre - door.outward * 1.0, heading(door.outward))
    path = moved(frame, np.linspace(0.0, 1.4, 40)[1:, None] * door.outward)
    world.reset(frame, 0.0)
    assert "vestibule" not in world.segmentation()
    world.step(path)
    assert LAYOUT.inside(world.frame.root_position[0, :2])
    world.reset(frame, float(DOOR_MAX_ANGLE))
    assert world.segmentation()["vestibule"].sum() > 500
    world.step(path)
    depth = (world.frame.root_position[0, :2] - door.centre) @ door.outward
    assert depth > BODY_RADIUS + WALL_THICKNESS


def test_state_can_be_saved_and_restored(world: RoomWorld) -> None:
    side, frame = reaching(LAYOUT)
    motion = arc(LAYOUT, world, side, frame, np.deg2rad(40.0))
    world.reset(frame)
    world.step(motion[:20])
    state = world.get_state()
    image = world.render()
    first = world.step(motion[20:])
    world.set_state(state)
    np.testing.assert_array_equal(world.render(), image)
    again = world.step(motion[20:])
    np.testing.assert_array_equal(first.door_angle, again.door_angle)
    np.testing.assert_array_equal(first.motion.root_position, again.motion.root_position)
    other = RoomWorld(LAYOUT)
    other.set_state(state)
    np.testing.assert_array_equal(other.step(motion[20:]).door_angle, again.door_angle)


def test_playing_in_pieces_equals_playing_at_once(world: RoomWorld) -> None:
    side, frame = reaching(LAYOUT)
    motion = arc(LAYOUT, world, side, frame, np.deg2rad(40.0))
    world.reset(frame)
    whole = world.step(motion)
    world.reset(frame)
    pieces = [world.step(motion[i : i + 8]) for i in range(0, len(motion), 8)]
    np.testing.assert_allclose(np.concatenate([p.door_angle for p in pieces]), whole.door_angle, atol=1e-5)


def test_record_films_what_was_played(world: RoomWorld) -> None:
    side, frame = reaching(LAYOUT)
    motion = arc(LAYOUT, world, side, frame, np.deg2rad(40.0))
    world.reset(frame)
    played = world.step(motion)
    rgb, depth = world.record(played.motion, played.door_angle, every=10)
    assert rgb.shape == (6, 128, 128, 3)
    assert depth.shape == (6, 128, 128)
    world.reset(played.motion[50], float(played.door_angle[50]))
    image, distance = world.render_rgbd()
    np.testing.assert_array_equal(rgb[5], image)
    np.testing.assert_array_equal(depth[5], distance)


def test_mistakes_are_named(world: RoomWorld) -> None:
    frame = posed(np.zeros(2), 0.0)
    with pytest.raises(UserError, match="one frame"):
        world.reset(moved(frame, np.zeros((2, 2))))
    with pytest.raises(UserError, match="door angle"):
        world.reset(frame, 3.0)
    with pytest.raises(UserError, match="image size"):
        RoomWorld(LAYOUT, size=4)
