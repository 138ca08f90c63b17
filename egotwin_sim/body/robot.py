"""A humanoid that can be tracked: what is known about it, and its model in a scene with servos and the assist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import mujoco
import numpy as np

from egotwin_sim.body.actuation import Gains, add_motor, servos_for
from egotwin_sim.body.assist import add_assist
from egotwin_sim.body.feet import Foot, find_feet
from egotwin_sim.body.humanoid import HEAD_CAMERA, HEAD_GROUP, build_humanoid
from egotwin_sim.body.rendering import tune_for_speed
from egotwin_sim.errors import UserError
from egotwin_sim.motion.skeleton import Skeleton

TIMESTEP = 1.0 / 300.0  # seconds
PREFIX = "robot/"  # of the robot's names in a scene, so that they never meet the scene's
ROTOR_INERTIA = 0.01  # kg m^2, of a hinge whose model has none; without it, a foot is too light for a stiff servo
IMAGE_SIZE = 640  # pixels, the largest picture that can be drawn
HANGING = np.deg2rad(78.0)  # from the T-pose's arms to hanging ones


@dataclass(frozen=True, eq=False)
class Robot:
    """A humanoid.

    Attributes:
        name: "ours", "g1", "cmu", or the stem of a file.
        make_spec: makes a spec of the humanoid alone: one free joint and hinges, no floor, no actuators.
        root_joint: name of the free joint.
        head_body: name of the body that carries the head.
        T_body_head: float64 (4, 4), the head frame (x forward, y left, z up, between the eyes) in the head body's.
        head_camera: name of the camera that looks along the head's x axis.
        skeleton: of motions that convert exactly; None for a body of other proportions.
        hidden_group: geom group that the head camera does not draw.
        gains: of the servos.
        standing: angles of hinges in radians, where standing differs from the model's own pose.
    """

    name: str
    make_spec: Callable[[], mujoco.MjSpec]
    root_joint: str
    head_body: str
    T_body_head: np.ndarray
    head_camera: str
    skeleton: Skeleton | None
    hidden_group: int
    gains: Gains = field(default_factory=Gains)
    standing: Mapping[str, float] = field(default_factory=dict)


def our_robot(skeleton: Skeleton | None = None) -> Robot:
    """The humanoid of a skeleton (default `Skeleton.default()`), see `build_humanoid`."""
    body = Skeleton.default() if skeleton is None else skeleton
    T_body_head = np.eye(4)
    T_body_head[:3, 3] = body.head_offset
    return Robot(
        name="ours",
        make_spec=lambda: build_humanoid(body),
        root_joint="root",
        head_body="head",
        T_body_head=T_body_head,
        head_camera=HEAD_CAMERA,
        skeleton=body,
        hidden_group=HEAD_GROUP,
        standing={"left_shoulder_x": -HANGING, "right_shoulder_x": HANGING},
    )


def flat_scene() -> mujoco.MjSpec:
    """An endless chequered floor at z = 0, a lamp and a sky."""
    spec = mujoco.MjSpec()
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.46, 0.50, 0.54],
        rgb2=[0.40, 0.44, 0.48],
        width=64,
        height=64,
    )
    floor = spec.add_material(name="floor", texuniform=True, texrepeat=[1.0, 1.0], specular=0.0)
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.92, 0.94, 0.97],
        rgb2=[0.70, 0.74, 0.80],
        width=16,
        height=96,
    )
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 1.0], material="floor")
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0.0, 0.0, 4.0], dir=[0.3, 0.2, -1.0], castshadow=False
    )
    # The clipping planes, multiples of the extent.
    spec.stat.extent = 1.0
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 50.0
    return spec


def _prepared(robot: Robot) -> mujoco.MjSpec:
    """The humanoid alone, with rotors, and meeting the scene but not itself: neighbouring parts overlap by design."""
    spec = robot.make_spec()
    for geom in spec.geoms:
        if geom.contype or geom.conaffinity:
            geom.contype, geom.conaffinity = 1, 0
    for joint in spec.joints:
        if joint.type == mujoco.mjtJoint.mjJNT_HINGE and joint.armature == 0.0:
            joint.armature = ROTOR_INERTIA
    return spec


def _agree(settings: Any, others: Any) -> None:
    """Sets all settings as the others are, so that a robot's file has no say in the scene that it comes into."""
    for name in dir(others):
        if name.startswith("_"):
            continue
        value = getattr(others, name)
        if isinstance(value, (int, float)):
            setattr(settings, name, value)
        elif isinstance(value, np.ndarray):
            getattr(settings, name)[:] = value
        else:
            _agree(getattr(settings, name), value)


class RobotModel:
    """A robot in a scene, compiled, with a motor on every hinge and the assist.

    Within the scene's model, names of the robot begin with `PREFIX`. Coordinates of the robot alone (qpos: 7 + n, qvel:
    6 + n, see `RobotTrajectory`) are mapped to the scene's, which may have joints of its own.

    Args:
        robot: the humanoid.
        scene: what surrounds it, without a humanoid; default `flat_scene()`. It is not changed.
        timestep: seconds.

    Attributes:
        robot, timestep: as given.
        bare: the compiled robot alone, nq = 7 + n.
        model: the compiled scene.
        joint_names: the n hinges.
        qpos_index, qvel_index: (7 + n,), (6 + n,), where the robot's coordinates are in the scene's.
        bodies: (B,) ids of the robot's bodies in the scene, root first; `body_names` theirs.
        actuators: (n,) ids of the hinges' motors in the scene; `servos` what moves them.
        head_camera: id of the head camera in the scene.
        feet: in the scene.
        standing: (7 + n,), upright on a floor at z = 0, at the origin.
        mass_kg, weight_n: of the robot.

    Raises:
        UserError: the robot has no free joint, joints other than hinges, no head, or it does not fit into the scene.
    """

    def __init__(self, robot: Robot, scene: mujoco.MjSpec | None = None, timestep: float = TIMESTEP) -> None:
        if not (np.isfinite(timestep) and 0 < timestep <= 0.02):
            raise UserError(f"timestep {timestep} s; expected more than 0 and at most 0.02, such as 1/300")
        self.robot, self.timestep = robot, timestep
        self.bare = self._compiled(_prepared(robot), robot)
        self._check(self.bare)
        hinges = np.flatnonzero(self.bare.jnt_type == mujoco.mjtJoint.mjJNT_HINGE)
        self.joint_names: tuple[str, ...] = tuple(self.bare.joint(int(j)).name for j in hinges)
        root = int(self.bare.jnt_bodyid[self.bare.joint(robot.root_joint).id])
        self.standing = self._standing(root)
        self._bare_feet = find_feet(self.bare, self.standing, root)
        self.servos = servos_for(self.bare, self.standing, hinges, self._bare_feet, robot.gains, timestep)
        self._head = self.bare.body(robot.head_body).id

        self.model = self._compiled(self._scene(scene), robot)
        self._map(hinges)
        self.mass_kg = float(self.model.body_mass[self.bodies].sum())
        self.weight_n = self.mass_kg * float(np.linalg.norm(self.model.opt.gravity))

    @staticmethod
    def _compiled(spec: mujoco.MjSpec, robot: Robot) -> mujoco.MjModel:
        try:
            return spec.compile()
        except ValueError as error:
            raise UserError(f"the model of {robot.name} does not compile: {error}") from error

    def _check(self, model: mujoco.MjModel) -> None:
        robot, types = self.robot, mujoco.mjtJoint
        free = np.flatnonzero(model.jnt_type == types.mjJNT_FREE)
        if len(free) != 1 or model.joint(int(free[0])).name != robot.root_joint:
            raise UserError(
                f"{robot.name} has {len(free)} free joints; expected exactly one, {robot.root_joint!r}, on its root"
            )
        known = (model.jnt_type == types.mjJNT_FREE) | (model.jnt_type == types.mjJNT_HINGE)
        if not known.all():
            other = model.joint(int(np.argmin(known))).name
            raise UserError(f"{robot.name}: joint {other!r} is neither free nor a hinge; replace it by hinges")
        if model.jnt_qposadr[free[0]] != 0 or (model.body_rootid[1:] != 1).any():
            raise UserError(f"{robot.name} has bodies that do not hang from its root; leave only the humanoid")
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, robot.head_body) < 0:
            raise UserError(f"{robot.name} has no body {robot.head_body!r}; name the body that carries the head")
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, robot.head_camera) < 0:
            raise UserError(f"{robot.name} has no camera {robot.head_camera!r}; add one to its head")

    def _standing(self, root: int) -> np.ndarray:
        qpos = self.bare.qpos0.copy()
        for name, angle in self.robot.standing.items():
            qpos[self.bare.joint(name).qposadr[0]] = angle
        qpos[:2] = 0.0
        data = mujoco.MjData(self.bare)
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self.bare, data)
        lowest = min(foot.points(data)[:, 2].min() for foot in find_feet(self.bare, qpos, root))
        qpos[2] -= lowest
        return qpos

    def _scene(self, scene: mujoco.MjSpec | None) -> mujoco.MjSpec:
        spec = flat_scene() if scene is None else scene.copy()
        body = _prepared(self.robot)
        for part in ("option", "stat", "visual"):
            _agree(getattr(body, part), getattr(spec, part))
        spec.attach(body, prefix=PREFIX, frame=spec.worldbody.add_frame())
        root = self.bare.body(int(self.bare.jnt_bodyid[0])).name
        for name, limit in zip(self.joint_names, self.servos.torque_limit, strict=True):
            add_motor(spec, PREFIX + name, PREFIX + name, float(limit))
        add_assist(spec, PREFIX + root)
        spec.option.timestep = self.timestep
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        # A state that is no longer finite is an error to report, not a reason to begin again.
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        tune_for_speed(spec, IMAGE_SIZE, IMAGE_SIZE)
        return spec

    def _map(self, hinges: np.ndarray) -> None:
        model = self.model
        joints = [model.joint(PREFIX + name).id for name in self.joint_names]
        root = model.joint(PREFIX + self.robot.root_joint).id
        qpos, qvel = model.jnt_qposadr[root], model.jnt_dofadr[root]
        self.qpos_index = np.concatenate([qpos + np.arange(7), model.jnt_qposadr[joints]])
        self.qvel_index = np.concatenate([qvel + np.arange(6), model.jnt_dofadr[joints]])
        self.root_body = int(model.jnt_bodyid[root])
        # Both models list the robot's bodies depth first.
        self.bodies = np.flatnonzero(model.body_rootid == self.root_body)
        self.body_names = tuple(model.body(int(b)).name.removeprefix(PREFIX) for b in self.bodies)
        shift = int(self.bodies[0]) - 1
        self.feet: tuple[Foot, ...] = tuple(
            replace(foot, bodies=tuple(b + shift for b in foot.bodies), body_of_point=foot.body_of_point + shift)
            for foot in self._bare_feet
        )
        self.actuators = np.array([model.actuator(PREFIX + name).id for name in self.joint_names])
        self.head_camera = model.camera(PREFIX + self.robot.head_camera).id
        self.head_body = model.body(PREFIX + self.robot.head_body).id
        self.robot_geoms = np.isin(model.geom_bodyid, self.bodies)

    def T_world_head(self, data: mujoco.MjData) -> np.ndarray:
        """The head's pose (4, 4), float64; the data needs up-to-date kinematics of the scene's model."""
        return self._pose(data, self.head_body)

    def _pose(self, data: mujoco.MjData, body: int) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = data.xmat[body].reshape(3, 3), data.xpos[body]
        return pose @ self.robot.T_body_head

    def joint_positions(self, qpos: np.ndarray) -> np.ndarray:
        """World positions (T, B, 3) of the robot's bodies in metres, for coordinates (T, 7 + n)."""
        return self._swept(qpos, lambda data: data.xpos[1:])

    def head_poses(self, qpos: np.ndarray) -> np.ndarray:
        """Head poses (T, 4, 4) for coordinates (T, 7 + n)."""
        return self._swept(qpos, lambda data: self._pose(data, self._head))

    def sole_points(self, qpos: np.ndarray) -> np.ndarray:
        """World positions (T, P, 3) of the points of all soles, metres, for coordinates (T, 7 + n)."""
        return self._swept(qpos, lambda data: np.concatenate([foot.points(data) for foot in self._bare_feet]))

    def _swept(self, qpos: np.ndarray, read: Callable[[mujoco.MjData], np.ndarray]) -> np.ndarray:
        qpos = np.asarray(qpos, dtype=np.float64)
        if qpos.ndim != 2 or qpos.shape[1] != self.bare.nq:
            raise UserError(f"qpos has shape {qpos.shape}; expected (T, {self.bare.nq}) for {self.robot.name}")
        data, out = mujoco.MjData(self.bare), []
        for row in qpos:
            data.qpos[:] = row
            mujoco.mj_kinematics(self.bare, data)
            out.append(read(data).copy())
        return np.stack(out)
