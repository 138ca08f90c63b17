"""Retarget tables: which body of a robot follows which joint of ours, read from YAML and checked."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from egotwin_sim.body import mujoco
from egotwin_sim.errors import UserError
from egotwin_sim.motion.skeleton import Skeleton

SIDES = ("left", "right")
_HELP = "docs/retargeting.md describes the table"


@dataclass(frozen=True)
class Source:
    """Where a packaged table's robot comes from.

    Attributes:
        package: import name of the package that ships the MJCF.
        pip: the package's name for pip.
        file: path of the MJCF in the package's folder.
    """

    package: str
    pip: str
    file: str


@dataclass(frozen=True)
class Match:
    """A body of the robot that follows a joint of ours.

    Attributes:
        body: the robot's body.
        joint: our joint.
        position: weights of the body's position in the first and the second pass, per metre.
        rotation: weights of its orientation in the two passes, per radian.
    """

    body: str
    joint: str
    position: tuple[float, float]
    rotation: tuple[float, float]


@dataclass(frozen=True)
class RetargetTable:
    """How a robot follows our skeleton. The names are those of the robot's MJCF.

    Attributes:
        name: for messages.
        source: the installed package that ships the robot, or None.
        forward: (3,) the robot's forward direction in its root body's frame.
        up: (3,) its upward direction there.
        head_body: the body that carries the head.
        head_position: (3,) metres, the point between the eyes in the head body's frame.
        hidden: bodies, geoms or meshes that the head camera does not draw.
        pose: hinge angles, radians, in which the robot would stand in our rest pose, the T-pose, its elbows and knees
            about to bend as ours do; 0 where not named. They may lie beyond the limits.
        rest: hinge angles, radians, in which it stands at ease; where not named, 0 or the limit nearest to it.
        legs: (hip, ankle) bodies of each side.
        arms: (shoulder, wrist) bodies of each side.
        leg_scale: factor on the legs and the travelled way; None: hip height of the robot over ours.
        arm_scale: factor on the arms; None: length of the robot's arm over ours.
        match: which body follows which joint.
    """

    name: str
    source: Source | None
    forward: tuple[float, ...]
    up: tuple[float, ...]
    head_body: str
    head_position: tuple[float, ...]
    hidden: tuple[str, ...]
    pose: dict[str, float]
    rest: dict[str, float]
    legs: dict[str, tuple[str, str]]
    arms: dict[str, tuple[str, str]]
    leg_scale: float | None
    arm_scale: float | None
    match: tuple[Match, ...]

    @property
    def root_quat_wxyz(self) -> np.ndarray:
        """(4,) orientation of the root body when the robot stands and faces the world's x axis."""
        x, z = np.array(self.forward), np.array(self.up)
        x, z = x / np.linalg.norm(x), z / np.linalg.norm(z)
        world_from_root = np.stack([x, np.cross(z, x), z])
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, world_from_root.ravel())
        return quat

    def in_pose(self, model: mujoco.MjModel) -> np.ndarray:
        """(nq,) the robot in `pose`, the root at the origin, facing the world's x axis."""
        return self._coordinates(model, self.pose)

    def at_rest(self, model: mujoco.MjModel) -> np.ndarray:
        """(nq,) the robot at `rest`, the root at the origin, facing the world's x axis."""
        qpos = self._coordinates(model, self.rest)
        for i in np.flatnonzero(model.jnt_limited):
            at = model.jnt_qposadr[i]
            qpos[at] = np.clip(qpos[at], *model.jnt_range[i])
        return qpos

    def _coordinates(self, model: mujoco.MjModel, angles: dict[str, float]) -> np.ndarray:
        qpos = np.zeros(model.nq)
        qpos[3:7] = self.root_quat_wxyz
        for name, angle in angles.items():
            qpos[model.joint(name).qposadr[0]] = angle
        return qpos

    def check(self, model: mujoco.MjModel) -> None:
        """Compare the names and angles with the robot's model.

        Args:
            model: the robot alone, a free joint and hinges.

        Raises:
            UserError: a body or a hinge of the table is not in the model, or an angle lies outside its limits.
        """
        hinges = {model.joint(i).name: i for i in range(model.njnt) if model.jnt_type[i] != mujoco.mjtJoint.mjJNT_FREE}
        _known(self.pose, hinges, f"{self.name}: pose", "hinge")
        _known(self.rest, hinges, f"{self.name}: rest", "hinge")
        for name, angle in self.rest.items():
            low, high = model.jnt_range[hinges[name]]
            if model.jnt_limited[hinges[name]] and not low <= angle <= high:
                raise UserError(
                    f"{self.name}: rest.{name} is {math.degrees(angle):g} degrees; expected it within the hinge's "
                    f"limits, {math.degrees(low):.1f} to {math.degrees(high):.1f}"
                )
        bodies = {model.body(i).name for i in range(1, model.nbody)}
        _known([self.head_body], bodies, f"{self.name}: head", "body")
        for part in (self.legs, self.arms):
            _known([body for side in part.values() for body in side], bodies, self.name, "body")
        _known([match.body for match in self.match], bodies, f"{self.name}: match", "body")


def table_names() -> list[str]:
    """Names of the tables in the package."""
    folder = resources.files("egotwin_sim.body.retargeting") / "tables"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_table(name: str | Path) -> RetargetTable:
    """Read a table by name ("g1") or path.

    Raises:
        UserError: no such table, no YAML, a key that is unknown or missing, a value of another kind, a joint that our
            skeleton does not have, or a weight that is no weight. Names of the robot's bodies and hinges are checked
            against its model by `RetargetTable.check`.
    """
    path = Path(name)
    if str(name) in table_names():
        text = (resources.files("egotwin_sim.body.retargeting") / "tables" / f"{name}.yaml").read_text()
    elif path.is_file():
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read ({error}); expected a retarget table in YAML; {_HELP}") from error
    else:
        raise UserError(f"there is no retarget table {name}; give a YAML file, or one of {', '.join(table_names())}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    return _Reader(str(name)).table(values)


def _known(names: Collection[str], known: Collection[str], where: str, kind: str) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{where} names the {kind} {name!r}, which the robot lacks; it has {', '.join(known)}")


class _Reader:
    """Turns what YAML gave into a table; every message says where."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, where: str, message: str) -> UserError:
        return UserError(f"{self.name}: {where} {message}; {_HELP}")

    def section(self, value: Any, where: str, needed: Collection[str], optional: Collection[str] = ()) -> dict:
        if not isinstance(value, dict):
            raise self.fail(where, f"is {value!r}; expected a section with {', '.join([*needed, *optional])}")
        for key in value:
            if key not in (*needed, *optional):
                raise self.fail(where, f"has the unknown key {key!r}; expected {', '.join([*needed, *optional])}")
        missing = [key for key in needed if key not in value]
        if missing:
            raise self.fail(where, f"lacks {', '.join(missing)}")
        return value

    def number(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(where, f"is {value!r}; expected a finite number")
        return float(value)

    def vector(self, value: Any, where: str) -> tuple[float, ...]:
        if not isinstance(value, list) or len(value) != 3:
            raise self.fail(where, f"is {value!r}; expected three numbers")
        return tuple(self.number(part, where) for part in value)

    def names(self, value: Any, where: str, count: int | None = None) -> tuple[str, ...]:
        good = isinstance(value, list) and all(isinstance(part, str) for part in value)
        if not good or (len(value) != count if count else False):
            raise self.fail(where, f"is {value!r}; expected a list of {count or 'any number of'} names")
        return tuple(value)

    def weights(self, value: Any, where: str) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            raise self.fail(where, f"is {value!r}; expected two weights, of the first and the second pass")
        first, second = (self.number(part, where) for part in value)
        if min(first, second) < 0.0:
            raise self.fail(where, f"is {value!r}; expected weights of 0 or more")
        return first, second

    def angles(self, values: dict, key: str) -> dict[str, float]:
        angles = values.get(key) or {}
        if not isinstance(angles, dict):
            raise self.fail(key, f"is {angles!r}; expected hinge names with angles in degrees")
        return {str(name): math.radians(self.number(angle, f"{key}.{name}")) for name, angle in angles.items()}

    def scale(self, values: dict, key: str) -> float | None:
        if values.get(key) is None:
            return None
        factor = self.number(values[key], f"scale.{key}")
        if factor <= 0.0:
            raise self.fail(f"scale.{key}", f"is {factor:g}; expected a positive factor")
        return factor

    def table(self, values: Any) -> RetargetTable:
        values = self.section(
            values, "the table", ("root", "head", "legs", "arms", "match"), ("source", "pose", "rest", "scale")
        )
        source = values.get("source")
        if source is not None:
            source = self.section(source, "source", ("package", "pip", "file"))
            source = Source(**{key: str(value) for key, value in source.items()})
        root = self.section(values["root"], "root", ("forward", "up"))
        forward, up = (self.vector(root[key], f"root.{key}") for key in ("forward", "up"))
        lengths = np.linalg.norm(forward) * np.linalg.norm(up)
        if lengths == 0.0 or abs(np.dot(forward, up)) > 1e-6 * lengths:
            raise self.fail("root", f"has forward {forward} and up {up}; expected two directions at a right angle")
        head = self.section(values["head"], "head", ("body", "position"), ("hidden",))
        sides = {key: self.section(values[key], key, SIDES) for key in ("legs", "arms")}
        scale = self.section(values.get("scale") or {}, "scale", (), ("legs", "arms"))
        return RetargetTable(
            name=self.name,
            source=source,
            forward=forward,
            up=up,
            head_body=str(head["body"]),
            head_position=self.vector(head["position"], "head.position"),
            hidden=self.names(head.get("hidden") or [], "head.hidden"),
            pose=self.angles(values, "pose"),
            rest=self.angles(values, "rest"),
            legs={side: self._pair(sides["legs"][side], f"legs.{side}") for side in SIDES},
            arms={side: self._pair(sides["arms"][side], f"arms.{side}") for side in SIDES},
            leg_scale=self.scale(scale, "legs"),
            arm_scale=self.scale(scale, "arms"),
            match=self._matches(values["match"]),
        )

    def _pair(self, value: Any, where: str) -> tuple[str, str]:
        first, second = self.names(value, where, 2)
        return first, second

    def _matches(self, values: Any) -> tuple[Match, ...]:
        if not isinstance(values, list):
            raise self.fail("match", f"is {values!r}; expected a list of body, joint, position, rotation")
        joints = Skeleton.default().names
        matches: dict[str, Match] = {}
        for i, value in enumerate(values):
            where = f"match[{i}]"
            entry = self.section(value, where, ("body", "joint"), ("position", "rotation"))
            body, joint = str(entry["body"]), entry["joint"]
            if joint not in joints:
                raise self.fail(where, f"names our joint {joint!r}; expected one of {', '.join(joints)}")
            if body in matches:
                raise self.fail(where, f"names the body {body!r} again; expected each body once")
            position = self.weights(entry.get("position", [0, 0]), f"{where}.position")
            rotation = self.weights(entry.get("rotation", [0, 0]), f"{where}.rotation")
            matches[body] = Match(body, joint, position, rotation)
        found = {match.joint for match in matches.values()}
        missing = [joint for joint in ("pelvis", "left_ankle", "right_ankle") if joint not in found]
        if missing:
            raise self.fail("match", f"has no body for {', '.join(missing)}, which every robot needs")
        return tuple(matches.values())
