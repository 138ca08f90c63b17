"""The MuJoCo world of a room: a humanoid that walls and furniture stop, and a door that only its hands move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.humanoid import FOVY, HEAD_CAMERA, HEAD_GROUP, build_humanoid
from egotwin_sim.body.kinematics import BodyKinematics
from egotwin_sim.body.rendering import Canvas, tune_for_speed
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.motion import head_transform
from egotwin_sim.room.layout import (
    BODY_RADIUS,
    DOOR_COLOUR,
    DOOR_MAX_ANGLE,
    VESTIBULE_COLOUR,
    VESTIBULE_DEPTH,
    VESTIBULE_MARGIN,
    WALL_THICKNESS,
    WALLS,
    RoomLayout,
    Surface,
)

HEAD_RADIUS = 0.13  # metres round the point between the eyes; also keeps the near plane out of the walls
GRIP_DISTANCE = 0.06  # metres between palm and handle within which the hand takes it
GRIP_SLACK = 0.09  # metres from the handle's path at which a hand lets go
PALM_THICKNESS = 0.03  # metres from the palm point to the surface that the hand presses
NEAR, FAR = 0.02, 30.0  # metres, clipping planes
HINGE_DAMPING = 6.0  # N m s/rad; a leaf of 20 kg that was pushed slows down within a second
HINGE_FRICTION = 0.5  # N m; the leaf stays where it was left
TEXTURE_SIZE = 64  # pixels per side; one period of a pattern
SUBSTEP = 0.05  # metres, the longest move that is checked at once: far below HEAD_RADIUS, so nothing is jumped over
HANGING = np.deg2rad(78.0)  # from the T-pose's arms to hanging ones
_TOUCH = 1e-4  # metres of correction that count as blocked


@dataclass(frozen=True)
class StepResult:
    """What became of a motion that was played in the room.

    Attributes:
        motion: T frames as they happened, world coordinates.
        blocked: bool (T,), whether something stopped the body on the way to that frame.
        door_angle: float64 (T,), radians, after that frame.
    """

    motion: Motion
    blocked: np.ndarray
    door_angle: np.ndarray


@dataclass(frozen=True)
class RoomState:
    """All that changes in a room: the body's frame (a motion of one frame) and the door's angle in radians."""

    frame: Motion
    door_angle: float


@cache
def _pattern(name: str) -> np.ndarray:
    """Weights (S, S) in 0..1 of a surface's second colour over one period of its pattern."""
    grid = np.arange(TEXTURE_SIZE)
    half = grid >= TEXTURE_SIZE // 2
    if name == "checker":
        return (half[:, None] ^ half[None, :]).astype(np.float64)
    if name == "stripes":
        return np.tile(half.astype(np.float64), (TEXTURE_SIZE, 1))
    # A fixed, periodic cloud: white noise through a Gaussian low-pass.
    noise = np.fft.fft2(np.random.Generator(np.random.PCG64(0)).standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)))
    frequency = np.fft.fftfreq(TEXTURE_SIZE) * TEXTURE_SIZE
    cloud = np.fft.ifft2(noise * np.exp(-(frequency[:, None] ** 2 + frequency[None, :] ** 2) / 30.0)).real
    return np.clip(0.5 + cloud / cloud.std() * 0.45, 0.0, 1.0)


def _material(spec: mujoco.MjSpec, name: str, surface: Surface, emission: float = 0.0) -> str:
    weight = _pattern(surface.pattern)[..., None]
    pixels = np.array(surface.colour) * (1.0 - weight) + np.array(surface.second) * weight
    texture = spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=TEXTURE_SIZE,
        height=TEXTURE_SIZE,
        nchannel=3,
    )
    texture.data = np.round(pixels * 255).astype(np.uint8).tobytes()
    material = spec.add_material(
        name=name, specular=0.0, shininess=0.0, emission=emission, texuniform=True, texrepeat=[1 / surface.period] * 2
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return name


def _yaw_quat(yaw: float) -> list[float]:
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


class _Builder:
    """Turns a layout into geoms. Names are `label/part`; the label is what the segmentation reports."""

    def __init__(self, spec: mujoco.MjSpec, layout: RoomLayout) -> None:
        self.spec, self.layout, self.world = spec, layout, spec.worldbody

    def build(self) -> None:
        self._shell()
        self._vestibule()
        self._door()
        self._table()
        self._objects()
        self._lamps()

    def _plane(
        self, name: str, centre: np.ndarray, normal: np.ndarray, half: tuple[float, float], material: str
    ) -> None:
        """A one-sided rectangle; `half` is (horizontal, vertical) for an upright one, (x, y) for a level one."""
        u = np.array([1.0, 0.0, 0.0]) if abs(normal[2]) > 0.5 else np.cross([0.0, 0.0, 1.0], normal)
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, np.column_stack([u, np.cross(normal, u), normal]).ravel())
        self.world.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            pos=centre,
            quat=quat,
            size=[half[0], half[1], 1.0],
            material=material,
        )

    def _upright(
        self, name: str, foot: np.ndarray, normal: np.ndarray, half: float, z: tuple[float, float], material: str
    ) -> None:
        centre = np.array([foot[0], foot[1], (z[0] + z[1]) / 2])
        self._plane(name, centre, np.array([*normal, 0.0]), (half, (z[1] - z[0]) / 2), material)

    def _shell(self) -> None:
        layout, height = self.layout, self.layout.height
        half = np.array(layout.size) / 2
        floor = _material(self.spec, "floor", layout.floor)
        ceiling = _material(self.spec, "ceiling", layout.ceiling)
        self._plane("floor/plane", np.zeros(3), np.array([0.0, 0.0, 1.0]), (half[0], half[1]), floor)
        up = np.array([0.0, 0.0, height])
        self._plane("ceiling/plane", up, np.array([0.0, 0.0, -1.0]), (half[0], half[1]), ceiling)
        door = layout.door
        for i, wall in enumerate(WALLS):
            material = _material(self.spec, wall, layout.walls[i])
            outward = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]][i], dtype=np.float64)
            tangent = np.array([-outward[1], outward[0]])
            foot, extent = outward * half[i % 2], half[1 - i % 2]
            if wall != door.wall:
                self._upright("wall/" + wall, foot, -outward, extent, (0.0, height), material)
                continue
            middle = float(tangent @ door.centre)
            left, right = middle - door.width / 2, middle + door.width / 2
            for part, a, b, z in (
                ("a", -extent, left, (0.0, height)),
                ("b", right, extent, (0.0, height)),
                ("lintel", left, right, (door.height + 0.01, height)),
            ):
                self._upright(f"wall/{part}", foot + tangent * (a + b) / 2, -outward, (b - a) / 2, z, material)

    def _vestibule(self) -> None:
        door = self.layout.door
        red, green, blue = (0.78 * c for c in VESTIBULE_COLOUR)
        surface = Surface("checker", VESTIBULE_COLOUR, (red, green, blue), 0.5)
        pink = _material(self.spec, "vestibule", surface, emission=0.35)
        outward, along, depth, height = door.outward, door.along, VESTIBULE_DEPTH, door.height + 0.25
        half = door.width / 2 + VESTIBULE_MARGIN
        z = (0.0, height)
        self._upright("vestibule/back", door.centre + outward * depth, -outward, half, z, pink)
        for name, side in (("near", -1.0), ("far", 1.0)):
            foot = door.centre + outward * depth / 2 + side * along * half
            self._upright(f"vestibule/{name}", foot, -side * along, depth / 2, z, pink)
        # What somebody in the vestibule sees round the opening.
        strip = VESTIBULE_MARGIN / 2
        for name, side in (("hinge_side", -1.0), ("latch_side", 1.0)):
            foot = door.centre + side * along * (door.width / 2 + strip)
            self._upright(f"vestibule/{name}", foot, outward, strip, z, pink)
        self._upright("vestibule/lintel", door.centre, outward, door.width / 2, (door.height, height), pink)
        # Level planes take (x, y) half extents; they reach under the leaf, up to the threshold.
        reach = depth + 0.03
        size = np.abs(outward) * reach / 2 + np.abs(along) * half
        middle = door.centre + outward * (depth - 0.03) / 2
        for name, level, up in (("floor", 0.0, 1.0), ("ceiling", height, -1.0)):
            self._plane(f"vestibule/{name}", np.array([*middle, level]), np.array([0.0, 0.0, up]), tuple(size), pink)

    def _door(self) -> None:
        door = self.layout.door
        # The frame lines the opening, stands out a little into the room, and overlaps the closed leaf on the room's
        # side, so that nothing of the vestibule shows round the edge.
        yaw = float(np.arctan2(door.along[1], door.along[0]))
        inner, outer = -WALL_THICKNESS - 0.02, -door.thickness / 2
        middle = door.centre + door.outward * (inner + outer) / 2
        depth, width, overlap = (outer - inner) / 2, 0.04, 0.012
        white = (0.95, 0.95, 0.92)
        for part, offset, half, low, high, rgb in (
            ("hinge_post", overlap - width - door.width / 2, width, 0.0, door.height + 2 * width - overlap, white),
            ("latch_post", door.width / 2 + width - overlap, width, 0.0, door.height + 2 * width - overlap, white),
            ("lintel", 0.0, door.width / 2, door.height - overlap, door.height + 2 * width - overlap, white),
            ("threshold", 0.0, door.width / 2, 0.0, 0.012, (0.5, 0.5, 0.5)),
        ):
            self.world.add_geom(
                name=f"frame/{part}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[*(middle + door.along * offset), (low + high) / 2],
                quat=_yaw_quat(yaw),
                size=[half, depth, (high - low) / 2],
                rgba=[*rgb, 1.0],
            )
        leaf = self.world.add_body(name="door", pos=door.hinge, quat=_yaw_quat(yaw))
        leaf.add_joint(
            name="door_hinge",
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0.0, 0.0, door.swing],
            range=[0.0, DOOR_MAX_ANGLE],
            damping=HINGE_DAMPING,
            frictionloss=HINGE_FRICTION,
        )
        gap = 0.004
        leaf.add_geom(
            name="door/leaf",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[door.width / 2, 0.0, door.height / 2],
            size=[door.width / 2 - gap, door.thickness / 2, door.height / 2 - gap],
            rgba=[*DOOR_COLOUR, 1.0],
        )
        groove = [0.88 * c for c in DOOR_COLOUR]
        for face in (-1.0, 1.0):
            side = "room" if face * door.swing < 0 else "outer"
            for i, level in enumerate((0.52, 1.52)):
                leaf.add_geom(
                    name=f"door/{side}_panel{i}",
                    type=mujoco.mjtGeom.mjGEOM_BOX,
                    pos=[door.width / 2, face * door.thickness / 2, level],
                    size=[door.width * 0.28, 0.004, 0.32],
                    rgba=[*groove, 1.0],
                )
            middle_of_lever = door.width - door.HANDLE_FROM_EDGE
            base, tip, out = middle_of_lever + 0.06, middle_of_lever - 0.06, face * door.HANDLE_STANDOFF
            leaf.add_geom(
                name=f"handle/{side}_plate",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[base, face * (door.thickness / 2 + 0.004), door.handle_height],
                size=[0.028, 0.006, 0.13],
                rgba=[0.10, 0.10, 0.12, 1.0],
            )
            for piece, start, stop in (
                ("neck", [base, face * door.thickness / 2], [base, out]),
                ("lever", [base, out], [tip, out]),
            ):
                leaf.add_geom(
                    name=f"handle/{side}_{piece}",
                    type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                    fromto=[*start, door.handle_height, *stop, door.handle_height],
                    size=[0.019, 0, 0],
                    rgba=[0.97, 0.97, 1.0, 1.0],
                )

    def _table(self) -> None:
        table = self.layout.table
        body = self.world.add_body(name="table", pos=table.position, quat=_yaw_quat(table.yaw))
        x, y, z = table.size
        rgba = [*table.rgb, 1.0]
        body.add_geom(
            name="table/top",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[0.0, 0.0, z - 0.02],
            size=[x / 2, y / 2, 0.02],
            rgba=rgba,
        )
        for i, (sx, sy) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
            body.add_geom(
                name=f"table/leg{i}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[sx * (x / 2 - 0.05), sy * (y / 2 - 0.05), (z - 0.04) / 2],
                size=[0.03, 0.03, (z - 0.04) / 2],
                rgba=[0.8 * c for c in table.rgb] + [1.0],
            )

    def _objects(self) -> None:
        kinds = {
            "box": mujoco.mjtGeom.mjGEOM_BOX,
            "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
            "ball": mujoco.mjtGeom.mjGEOM_SPHERE,
        }
        for thing in self.layout.objects:
            x, y, z = (0.5 * extent for extent in thing.size)
            self.world.add_geom(
                name=f"{thing.name}/solid",
                type=kinds[thing.shape],
                pos=thing.position,
                quat=_yaw_quat(thing.yaw),
                size=[x, y, z] if thing.shape == "box" else [x, z, 0.0],
                rgba=[*thing.rgb, 1.0],
            )

    def _lamps(self) -> None:
        light = self.layout.light
        headlight = self.spec.visual.headlight
        headlight.ambient = [0.70 * light] * 3
        headlight.diffuse = [0.0] * 3
        headlight.specular = [0.0] * 3
        # Four directional lamps of unequal strength: every face is lit, and neighbouring faces differ.
        for direction, strength in (
            ([0.6, 0.25, -0.6], 0.19),
            ([-0.5, 0.45, -0.5], 0.16),
            ([-0.25, -0.65, -0.5], 0.13),
            ([0.4, -0.5, 0.75], 0.16),
        ):
            self.world.add_light(
                type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
                pos=[0.0, 0.0, 2.4],
                dir=direction,
                diffuse=[strength * light] * 3,
                specular=[0.0] * 3,
                castshadow=False,
            )


def build_room(layout: RoomLayout, skeleton: Skeleton | None = None, size: int = 128) -> mujoco.MjSpec:
    """The MuJoCo spec of a room with the humanoid in it, ready to compile, for square images of `size` pixels."""
    spec = mujoco.MjSpec()
    build_humanoid(skeleton, spec)
    furnish(spec, layout, size)
    return spec


def furnish(spec: mujoco.MjSpec, layout: RoomLayout, size: int) -> None:
    """Adds a room's walls, furniture, door, lamps and sky to a spec in radians, for images of `size` pixels."""
    spec.modelname = f"room_{layout.seed}"
    _Builder(spec, layout).build()
    tune_for_speed(spec, size, size)
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.92, 0.94, 0.97],
        rgb2=[0.70, 0.74, 0.80],
        width=16,
        height=96,
    )
    # The clipping planes are multiples of the extent.
    spec.stat.extent = 1.0
    spec.visual.map.znear, spec.visual.map.zfar = NEAR, FAR


class _Barriers:
    """Footprints as arrays, so that one call measures the distance of a point to all of them; the leaf is the last."""

    def __init__(self, layout: RoomLayout) -> None:
        self.layout = layout
        table_top = layout.table.size[2]
        tall = [(thing, 0.0, np.inf) for thing in layout.wall_footprints]
        low = [(layout.table.footprint, 0.0, table_top)]
        for thing in layout.objects:
            bottom = thing.position[2] - thing.size[2] / 2
            low.append((thing.footprint, bottom, bottom + thing.size[2]))
        things = [*tall, *low, (layout.door.footprint(0.0), 0.0, layout.door.height)]
        self.footprints = [thing for thing, _, _ in things]
        self.bottom = np.array([bottom for _, bottom, _ in things])
        self.top = np.array([top for _, _, top in things])
        self.centre = np.array([thing.centre for thing in self.footprints])
        self.half = np.array([thing.half for thing in self.footprints])
        self.radius = np.array([thing.radius for thing in self.footprints])
        yaw = np.array([thing.yaw for thing in self.footprints])
        self.axes = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)

    def set_door(self, angle: float) -> None:
        """Moves the leaf."""
        leaf = self.layout.door.footprint(angle)
        self.footprints[-1] = leaf
        self.centre[-1] = leaf.centre
        self.axes[-1] = np.cos(leaf.yaw), np.sin(leaf.yaw)

    def distance(self, x: float, y: float) -> np.ndarray:
        """(N,) signed distances in metres from a point to all footprints."""
        dx, dy = x - self.centre[:, 0], y - self.centre[:, 1]
        cos, sin = self.axes[:, 0], self.axes[:, 1]
        qx = np.abs(dx * cos + dy * sin) - self.half[:, 0]
        qy = np.abs(dy * cos - dx * sin) - self.half[:, 1]
        return np.hypot(np.maximum(qx, 0.0), np.maximum(qy, 0.0)) + np.minimum(np.maximum(qx, qy), 0.0) - self.radius


class RoomWorld:
    """A room with a humanoid, played kinematically: no dynamics, the same input always gives the same output.

    A world belongs to the thread that made it once it has rendered; worlds of one thread share one OpenGL context.

    Args:
        layout: the room.
        skeleton: the body; default `Skeleton.default()`.
        size: image width and height, pixels.

    Attributes:
        layout, skeleton, size: as given.
        model: the compiled `mujoco.MjModel`; `data` its state.
        intrinsics: float64 (3, 3), pixels; the optical axis passes between the four middle pixels.
        T_head_camera: float64 (4, 4), maps the camera's optical frame (z forward, x right, y down) to the head frame.
    """

    def __init__(self, layout: RoomLayout, skeleton: Skeleton | None = None, size: int = 128) -> None:
        if size < 16 or size > 1024:
            raise UserError(f"image size {size}; expected 16 to 1024 pixels")
        self.layout, self.size = layout, size
        self.skeleton = Skeleton.default() if skeleton is None else skeleton
        self.model = build_room(layout, self.skeleton, size).compile()
        self.data = mujoco.MjData(self.model)
        self.kinematics = BodyKinematics(self.model, self.skeleton)
        focal = size / 2 / np.tan(np.deg2rad(FOVY) / 2)
        self.intrinsics = np.array([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
        self.T_head_camera = np.eye(4)
        self.T_head_camera[:3, :3] = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]
        self._door_address = int(self.model.jnt_qposadr[self.model.joint("door_hinge").id])
        self._barriers = _Barriers(layout)
        self._canvas: Canvas | None = None
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = self.model.camera(HEAD_CAMERA).id
        self._labels = [self.model.geom(i).name.split("/")[0] for i in range(self.model.ngeom)]
        self._palm = [
            (self.skeleton.index[f"{side}_wrist"], self.model.site(f"{side}_palm").pos.copy())
            for side in ("left", "right")
        ]
        self.reset(self._standing())

    def _standing(self) -> Motion:
        """Standing upright with hanging arms somewhere on the free floor."""
        x, y, yaw = self.layout.sample_spawn(np.random.Generator(np.random.PCG64(self.layout.seed)))
        quat = np.zeros((1, self.skeleton.num_joints, 4))
        quat[..., 0] = 1.0
        quat[0, 0] = _yaw_quat(yaw)
        for side, sign in (("left", -1.0), ("right", 1.0)):
            quat[0, self.skeleton.index[f"{side}_shoulder"], :2] = np.cos(HANGING / 2), sign * np.sin(HANGING / 2)
        return Motion(np.array([[x, y, self.skeleton.rest_root_height]]), quat, self.skeleton)

    @property
    def frame(self) -> Motion:
        """The body as it is: a motion of one frame."""
        return self._frame

    @property
    def door_angle(self) -> float:
        """Radians, 0 when closed."""
        return self._door_angle

    def reset(self, frame: Motion, door_angle: float = 0.0) -> None:
        """Puts the body and the door somewhere, without looking for collisions.

        Args:
            frame: a motion of one frame, world coordinates.
            door_angle: radians, 0 to `DOOR_MAX_ANGLE`.
        """
        if len(frame) != 1:
            raise UserError(f"reset takes a motion of one frame, not {len(frame)}; give motion[i:i+1]")
        if not 0.0 <= door_angle <= DOOR_MAX_ANGLE + 1e-9:
            raise UserError(f"door angle {door_angle:.3f} rad; expected 0 to {DOOR_MAX_ANGLE:.3f}")
        self._frame, self._door_angle = frame, float(door_angle)
        # Without the angles before it, so that the picture of a state does not depend on how it was reached.
        self.data.qpos[:] = self.kinematics.qpos_from_motion(frame)[0]
        self.data.qpos[self._door_address] = self._door_angle
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def get_state(self) -> RoomState:
        """The state, to be given to `set_state` of any world of the same layout."""
        return RoomState(self._frame, self._door_angle)

    def set_state(self, state: RoomState) -> None:
        """Returns to a state of `get_state`."""
        self.reset(state.frame, state.door_angle)

    def step(self, motion: Motion) -> StepResult:
        """Plays a motion from the current state.

        The body makes the motion's displacements, starting with the one from where it is to the first frame. What
        leads into a wall, furniture or the door's leaf is taken out, so that the body slides along; later frames are
        shifted by what was taken out. The leaf follows a hand that holds the handle or presses its surface.

        Args:
            motion: T frames in world coordinates, the first one following the current state.

        Returns:
            The frames as they happened.
        """
        positions, rotations = motion.joint_transforms()
        heads = head_transform(positions, rotations, motion.skeleton)[:, :3, 3] - positions[:, 0]
        palms = np.stack(
            [positions[:, j] + rotations[:, j] @ local - positions[:, 0] for j, local in self._palm], axis=1
        )
        before_position, before_rotation = self._frame.joint_transforms()
        hands = np.stack([before_position[0, j] + before_rotation[0, j] @ local for j, local in self._palm])
        wanted = before_position[0, 0]
        body = wanted.copy()
        angle = self._door_angle
        roots = np.empty((len(motion), 3))
        blocked = np.zeros(len(motion), dtype=bool)
        angles = np.empty(len(motion))
        self._barriers.set_door(angle)
        for t in range(len(motion)):
            body, blocked[t] = self._move(body, positions[t, 0] - wanted, heads[t])
            wanted = positions[t, 0]
            new_hands = body + palms[t]
            angle = self._move_door(angle, hands, new_hands, body, body + heads[t])
            hands, roots[t], angles[t] = new_hands, body, angle
        actual = Motion(roots, motion.joint_quat_wxyz, motion.skeleton, motion.fps)
        self.reset(actual[len(actual) - 1 :], angle)
        return StepResult(actual, blocked, angles)

    def _push(self, body: np.ndarray, head: np.ndarray) -> np.ndarray:
        """The shift (2,) that takes the body out of its deepest overlap; zero when it touches nothing."""
        barriers = self._barriers
        legs = barriers.distance(body[0], body[1]) - BODY_RADIUS
        legs[barriers.bottom > 0.0] = np.inf  # what stands on the table is out of the legs' way
        eyes = barriers.distance(head[0], head[1]) - HEAD_RADIUS
        eyes[(head[2] + HEAD_RADIUS < barriers.bottom) | (head[2] - HEAD_RADIUS > barriers.top)] = np.inf
        deepest, point = (legs, body) if legs.min() <= eyes.min() else (eyes, head)
        i = int(deepest.argmin())
        if deepest[i] >= -1e-9:
            return np.zeros(2)
        return -deepest[i] * barriers.footprints[i].normal(point[:2])

    def _move(self, body: np.ndarray, displacement: np.ndarray, head: np.ndarray) -> tuple[np.ndarray, bool]:
        """Moves the root (3,) by a displacement (3,); `head` is the eyes' offset from it after the move."""
        count = max(1, int(np.ceil(np.linalg.norm(displacement[:2]) / SUBSTEP)))
        blocked = False
        for _ in range(count):
            start = body
            body = body + displacement / count
            for _ in range(6):
                push = self._push(body, body + head)
                if not push.any():
                    break
                blocked = blocked or float(np.hypot(*push)) > _TOUCH
                body = body + np.array([*push, 0.0])
            else:
                # Wedged: no way out by pushing, so the body stays where it was and only its height changes.
                body = np.array([start[0], start[1], body[2]])
        return body, blocked

    def _move_door(
        self, angle: float, before: np.ndarray, after: np.ndarray, body: np.ndarray, head: np.ndarray
    ) -> float:
        """The door's angle once the palms (2, 3) have moved from `before` to `after`."""
        new = angle
        for hand_before, hand_after in zip(before, after, strict=True):
            new = self._follow(new, hand_before, hand_after)
        if new == angle:
            return angle
        room = self._leaf_clearance(body, head)
        self._barriers.set_door(new)
        if self._leaf_clearance(body, head) < min(room, -0.02):
            # The leaf stops at the body.
            self._barriers.set_door(angle)
            return angle
        return new

    def _leaf_clearance(self, body: np.ndarray, head: np.ndarray) -> float:
        legs = self._barriers.distance(body[0], body[1])[-1] - BODY_RADIUS
        return float(min(legs, self._barriers.distance(head[0], head[1])[-1] - HEAD_RADIUS))

    def _follow(self, angle: float, before: np.ndarray, after: np.ndarray) -> float:
        door = self.layout.door
        hinge = np.array(door.hinge[:2])
        offset = after[:2] - hinge
        reach = float(np.hypot(*offset))
        if reach < 1e-6:
            return angle
        polar = float(np.arctan2(offset @ door.outward, offset @ door.along))
        # 1. A hand that holds the lever takes it along.
        lever = door.handle_position(angle)
        if min(np.linalg.norm(before - lever), np.linalg.norm(after - lever)) < GRIP_DISTANCE:
            lag = float(np.arctan2(door.HANDLE_STANDOFF, door.width - door.HANDLE_FROM_EDGE))
            held = float(np.clip(polar + lag, 0.0, DOOR_MAX_ANGLE))
            if np.linalg.norm(after - door.handle_position(held)) < GRIP_SLACK:
                return held
        # 2. A hand that comes to the leaf's surface pushes it ahead, from either side.
        leaf, normal = door.leaf_axes(angle)
        side = -1.0 if float((before[:2] - hinge) @ normal) < 0.0 else 1.0
        surface = door.thickness / 2 + PALM_THICKNESS
        along, depth = float(offset @ leaf), float(offset @ normal) * side
        if depth >= surface or not (0.15 < along < door.width + 0.02 and 0.0 < after[2] < door.height):
            return angle
        pushed = polar - side * float(np.arcsin(min(1.0, surface / reach)))
        limited = float(np.clip(pushed, 0.0, DOOR_MAX_ANGLE))
        return max(angle, limited) if side < 0.0 else min(angle, limited)

    def _drawn(self) -> Canvas:
        if self._canvas is None:
            self._canvas = Canvas(self.model, HEAD_GROUP)
        return self._canvas

    def render(self) -> np.ndarray:
        """What the head camera sees, uint8 (H, W, 3)."""
        canvas = self._drawn()
        canvas.draw(self.data, self._camera, self.size, self.size)
        return canvas.read_rgb()

    def render_rgbd(self) -> tuple[np.ndarray, np.ndarray]:
        """What the head camera sees, uint8 (H, W, 3), and its depth along the optical axis, float32 (H, W), metres."""
        canvas = self._drawn()
        canvas.draw(self.data, self._camera, self.size, self.size)
        return canvas.read_rgbd()

    def record(self, motion: Motion, door_angle: np.ndarray, every: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Films frames 0, every, 2 * every, ... of a motion that has been played; the last one shown stays.

        Args:
            motion: T frames in world coordinates, shown as they are.
            door_angle: (T,) radians.
            every: motion frames per video frame.

        Returns:
            uint8 (N, H, W, 3) and depth float32 (N, H, W), metres.
        """
        shown = range(0, len(motion), every)
        rgb = np.empty((len(shown), self.size, self.size, 3), dtype=np.uint8)
        depth = np.empty(rgb.shape[:3], dtype=np.float32)
        for n, t in enumerate(shown):
            self.reset(motion[t], float(door_angle[t]))
            rgb[n], depth[n] = self.render_rgbd()
        return rgb, depth

    def segmentation(self) -> dict[str, np.ndarray]:
        """What the head camera sees, by name: bool masks (H, W) of everything in view.

        Names: the objects', `table`, `door`, `handle`, `frame`, `wall`, `floor`, `ceiling`, `vestibule`, `torso`, and
        `left_` or `right_` with `arm`, `hand`, `leg`.
        """
        geoms = self._drawn().read_geoms(self.data, self._camera, self.size, self.size)
        masks: dict[str, np.ndarray] = {}
        for geom in np.unique(geoms):
            if geom >= 0:
                label = self._labels[geom]
                masks[label] = masks.get(label, False) | (geoms == geom)
        return masks

    def third_person(
        self, *, azimuth: float = 135.0, elevation: float = -35.0, distance: float = 4.0, size: int = 256
    ) -> np.ndarray:
        """The body from outside, uint8 (size, size, 3); walls and ceiling do not hide it.

        Args:
            azimuth: degrees, the heading in which the camera looks, 0 along x, counter-clockwise.
            elevation: degrees, negative when it looks down.
            distance: metres from the pelvis.
            size: width and height, pixels.
        """
        canvas = self._drawn()
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = self._frame.root_position[0]
        camera.azimuth, camera.elevation, camera.distance = azimuth, elevation, distance
        canvas.resize(size, size)
        try:
            canvas.draw(self.data, camera, size, size, everything=True)
            return canvas.read_rgb()
        finally:
            canvas.resize(self.size, self.size)

    def close(self) -> None:
        """Frees the images' memory on the graphics side; the world can still be stepped."""
        if self._canvas is not None:
            self._canvas.close()
            self._canvas = None
