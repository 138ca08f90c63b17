"""Finding a humanoid: ours, one that an installed package ships, or a user's own MJCF."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from egotwin_sim.body import mujoco
from egotwin_sim.body.humanoid import CAMERA_QUAT_WXYZ, FOVY, HEAD_CAMERA, HEAD_GROUP
from egotwin_sim.body.retargeting.table import RetargetTable, Source, load_table, table_names
from egotwin_sim.body.retargeting.table_robot import TableRobot
from egotwin_sim.body.robot import Robot, our_robot
from egotwin_sim.errors import UserError
from egotwin_sim.motion.skeleton import Skeleton

OURS = "ours"
_JOINT = mujoco.mjtJoint
# MuJoCo's viewers draw the groups 0 to 2; files keep shapes that only collide in the others.
_LAST_DRAWN = 2


def find_robot(name_or_path: str | Path, skeleton: Skeleton | None = None, table: str | Path | None = None) -> Robot:
    """A humanoid by name or by the path of its MJCF.

    Args:
        name_or_path: "ours"; "g1" (Unitree G1, from the package mjlab); "cmu" (from dm_control); or a file.
        skeleton: of "ours"; default `Skeleton.default()`.
        table: retarget table of a file, a path or "g1", "cmu"; default: beside the file, with the suffix .yaml.

    Raises:
        UserError: the package, the file or the table is missing; the file is no MJCF with exactly one free joint and
            otherwise hinges; the table names what the robot lacks.
    """
    name = str(name_or_path)
    if name == OURS:
        return our_robot(skeleton)
    if name in table_names():
        packaged = load_table(name)
        assert packaged.source is not None
        return _robot(name, _packaged(name, packaged.source), packaged if table is None else load_table(table))
    path = Path(name_or_path)
    if not path.is_file():
        raise UserError(
            f"there is no body {name!r}; give {', '.join([OURS, *table_names()])} or the path of an MJCF file"
        )
    if table is None:
        table = path.with_suffix(".yaml")
        if not table.is_file():
            raise UserError(
                f"{path.name} has no retarget table {table.name} beside it; write one (docs/retargeting.md), or name "
                "it with --table"
            )
    return _robot(path.stem, path, load_table(table))


def _packaged(name: str, source: Source) -> Path:
    """The MJCF in an installed package, which is not imported."""
    found = find_spec(source.package)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"the body {name!r} comes with the package {source.package}, which is not installed; pip install --no-deps "
            f"{source.pip} (only its files are read), or give the path of its MJCF and --table {name}"
        )
    path = Path(found.submodule_search_locations[0]) / source.file
    if not path.is_file():
        raise UserError(
            f"the package {source.package} has no {source.file}; install another version of {source.pip}, or give the "
            f"path of the MJCF and --table {name}"
        )
    return path


def _robot(name: str, path: Path, table: RetargetTable) -> TableRobot:
    spec = _read(path, table)
    try:
        model = spec.compile()
    except ValueError as error:
        raise UserError(f"the humanoid of {path} does not compile: {' '.join(str(error).split())}") from error
    table.check(model)
    data = mujoco.MjData(model)
    data.qpos[:] = table.in_pose(model)
    mujoco.mj_kinematics(model, data)
    # The robot stands as our skeleton rests and faces x, so the head frame has the axes of the world.
    T_body_head = np.eye(4)
    T_body_head[:3, :3] = data.body(table.head_body).xmat.reshape(3, 3).T
    T_body_head[:3, 3] = table.head_position
    _add_head(spec, table, T_body_head)
    rest = table.at_rest(model)
    hinges = np.flatnonzero(model.jnt_type == _JOINT.mjJNT_HINGE)
    return TableRobot(
        name=name,
        make_spec=lambda: _add_head(_read(path, table), table, T_body_head),
        root_joint=_free_joint(spec, path).name,
        head_body=table.head_body,
        T_body_head=T_body_head,
        head_camera=HEAD_CAMERA,
        skeleton=None,
        hidden_group=HEAD_GROUP,
        standing={model.joint(int(i)).name: float(rest[model.jnt_qposadr[i]]) for i in hinges},
        table=table,
    )


def _read(path: Path, table: RetargetTable) -> mujoco.MjSpec:
    """The humanoid of a file, alone: without surroundings, cameras, lamps and actuators, its root facing x."""
    try:
        spec = mujoco.MjSpec.from_file(str(path.resolve()))
    except ValueError as error:
        raise UserError(f"{path} is no MJCF that MuJoCo can read: {' '.join(str(error).split())}") from error
    free = _free_joint(spec, path)
    root = free.parent
    free.name, root.name = free.name or "root", root.name or "root"
    for joint in spec.joints:
        if joint.type not in (_JOINT.mjJNT_FREE, _JOINT.mjJNT_HINGE):
            raise UserError(
                f"{path.name}: the joint {joint.name!r} of {joint.parent.name!r} is neither free nor a hinge; replace "
                "a ball by three hinges, and leave slides away"
            )
        if not joint.name:
            raise UserError(f"{path.name}: a hinge of the body {joint.parent.name!r} has no name; name every hinge")
    # Deleting an element deletes what refers to it, so nothing may be listed before what refers to it is gone.
    for element in [*spec.sensors, *spec.actuators, *spec.keys, *spec.pairs, *spec.cameras, *spec.lights]:
        spec.delete(element)
    for element in [*spec.worldbody.geoms, *spec.worldbody.sites]:
        spec.delete(element)
    for body in [body for body in spec.worldbody.bodies if body.name != root.name]:
        spec.delete(body)
    for field in spec.hfields:
        spec.delete(field)
    # A spec that is attached to another one forgets where its file was.
    folder = path.resolve().parent
    for assets, place in ((spec.meshes, spec.meshdir), (spec.textures, spec.texturedir)):
        for asset in assets:
            if asset.file:
                asset.file = str(folder / place / asset.file)
    spec.meshdir = spec.texturedir = ""
    # The file's own clipping planes, lamps and options must not meet those of a scene.
    for wish in (name for name in dir(getattr(spec, "authored", None)) if not name.startswith("_")):
        setattr(spec.authored, wish, 0)
    root.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT  # or the file's own kind of orientation would win
    root.quat = table.root_quat_wxyz
    return spec


def _free_joint(spec: mujoco.MjSpec, path: Path) -> mujoco.MjsJoint:
    free = [joint for joint in spec.joints if joint.type == _JOINT.mjJNT_FREE]
    if not free:
        raise UserError(f"{path.name} has no free joint; put <freejoint/> into the root body of the humanoid")
    if len(free) > 1:
        names = ", ".join(repr(joint.parent.name) for joint in free)
        raise UserError(f"{path.name} has {len(free)} free joints, on {names}; leave only the humanoid in the file")
    return free[0]


def _add_head(spec: mujoco.MjSpec, table: RetargetTable, T_body_head: np.ndarray) -> mujoco.MjSpec:
    """Adds the head camera, and moves the geoms of the head to the group that this camera does not draw."""
    hidden = dict.fromkeys(table.hidden, False)
    for geom in spec.geoms:
        if geom.group > _LAST_DRAWN:
            geom.group, geom.rgba = _LAST_DRAWN + 1, [0.5, 0.5, 0.5, 0.0]
        for name in (geom.parent.name, geom.name, geom.meshname):
            if name in hidden:
                geom.group, hidden[name] = HEAD_GROUP, True
    unknown = [name for name, found in hidden.items() if not found]
    if unknown:
        raise UserError(
            f"{table.name}: head.hidden names {unknown[0]!r}; expected a geom, a mesh, or a body with geoms"
        )
    quat, camera = np.empty(4), np.empty(4)
    mujoco.mju_mat2Quat(quat, T_body_head[:3, :3].ravel())
    mujoco.mju_mulQuat(camera, quat, np.array(CAMERA_QUAT_WXYZ))
    spec.body(table.head_body).add_camera(name=HEAD_CAMERA, pos=T_body_head[:3, 3], quat=camera, fovy=FOVY)
    return spec
