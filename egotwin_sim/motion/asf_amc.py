"""Reading Acclaim skeleton (.asf) and motion (.amc) files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.capture import Capture, Lines, euler_matrix
from egotwin_sim.motion.retarget import Imported, retarget
from egotwin_sim.motion.skeleton import Skeleton

_DOF = ("tx", "ty", "tz", "rx", "ry", "rz", "l")


def load_amc(
    amc: str | os.PathLike[str],
    asf: str | os.PathLike[str],
    *,
    fps: float = 16.0,
    source_fps: float = 120.0,
    skeleton: Skeleton | None = None,
    scale: float = 1.0,
    joint_map: Mapping[str, str] | None = None,
    rest_frame: int | None = None,
) -> Imported:
    """Read an AMC file on its ASF skeleton and retarget it to ours.

    Args:
        amc: the motion file.
        asf: the skeleton file.
        fps: frames per second of the result.
        source_fps: frames per second of the AMC file, which does not say; 120 is the CMU database's rate.
        skeleton: the body of the result; the default one without it.
        scale: factor on the travelled way, on top of the one that makes the source's legs as long as ours.
        joint_map: our joint names to the file's, where the names do not tell.
        rest_frame: the frame in which the body stands upright, facing forward; without it, the ASF rest pose.

    Returns:
        The motion, in our axes with its feet on the floor, and a report of what was mapped.

    Raises:
        UserError: a file cannot be read (it names file and line), or its body cannot be mapped.
    """
    return retarget(
        read_amc(amc, asf, source_fps),
        fps=fps,
        skeleton=skeleton,
        scale=scale,
        joint_map=joint_map,
        rest_frame=rest_frame,
    )


@dataclass
class _Bone:
    """A bone of an ASF file; its joint is where it starts."""

    vector: np.ndarray  # from start to end, in the file's world axes at rest
    frame: np.ndarray  # the axes that its degrees of freedom turn about
    dof: list[str]


def read_amc(amc: str | os.PathLike[str], asf: str | os.PathLike[str], source_fps: float = 120.0) -> Capture:
    """Read an AMC file on its own skeleton: one joint per bone, where the bone starts."""
    if not (np.isfinite(source_fps) and source_fps > 0):
        raise UserError(f"source_fps is {source_fps}; expected the positive rate that {amc} was recorded at")
    bones, parents = _read_asf(asf)
    names = list(bones)
    index = {name: i for i, name in enumerate(names)}
    offsets = np.zeros((len(names), 3))
    for name, parent in parents.items():
        offsets[index[name]] = bones[parent].vector
    with_children = set(parents.values())
    tips = tuple((index[name], bone.vector) for name, bone in bones.items() if name not in with_children)

    values, to_degrees = _read_amc(amc, bones)
    frames = len(values["root"])
    rotations = np.tile(np.eye(3), (frames, len(names), 1, 1))
    for name, table in values.items():
        bone = bones[name]
        turning = [i for i, channel in enumerate(bone.dof) if channel[0] == "r"]
        # Acclaim applies the listed rotations one after the other about fixed axes: the last one is outermost.
        axes = "".join(bone.dof[i][1] for i in turning)[::-1]
        turn = euler_matrix(table[:, turning[::-1]] * to_degrees, axes)
        rotations[:, index[name]] = bone.frame @ turn @ bone.frame.T
    moving = {channel: i for i, channel in enumerate(bones["root"].dof)}
    root = np.stack([values["root"][:, moving[f"t{axis}"]] for axis in "xyz"], axis=-1)
    return Capture(
        str(amc),
        tuple(names),
        tuple(-1 if name == "root" else index[parents[name]] for name in names),
        offsets,
        tips,
        rotations,
        {0: root},
        source_fps,
    )


def _read_asf(path: str | os.PathLike[str]) -> tuple[dict[str, _Bone], dict[str, str]]:
    """Bones, parents first, and the parent of each but the root."""
    lines = Lines(path)
    sections: dict[str, list[tuple[int, list[str]]]] = {}
    section = None
    for line in lines:
        if line.startswith("#"):
            continue
        if line.startswith(":"):
            section = line[1:].split()[0].lower() if len(line) > 1 else ""
            sections[section] = []
        elif section is None:
            raise lines.error("expected a section such as :root; is it another format than ASF?")
        else:
            sections[section].append((lines.number, line.split()))
    for name in ("root", "bonedata", "hierarchy"):
        if not sections.get(name):
            raise lines.error(f"the file has no :{name} section, or an empty one; it is cut short")

    def fail(number: int, message: str) -> Exception:
        lines.number = number
        return lines.error(message)

    degrees = 1.0
    for number, words in sections.get("units", []):
        if words[0].lower() == "angle":
            if words[1:] not in (["deg"], ["rad"]):
                raise fail(number, f"the unit of angle is '{' '.join(words[1:])}'; expected deg or rad")
            degrees = 1.0 if words[1] == "deg" else float(np.degrees(1.0))

    def frame(number: int, words: list[str], order: str) -> np.ndarray:
        lines.number = number
        angles = lines.numbers(words, "axis") * degrees
        if len(angles) != 3 or sorted(order.lower()) != ["x", "y", "z"]:
            raise fail(number, f"the axis is '{' '.join(words)} {order}'; expected three angles and an order as XYZ")
        return euler_matrix(angles[::-1], order.lower()[::-1])

    root = {words[0].lower(): (number, words[1:]) for number, words in sections["root"]}
    number, order = root.get("order", (sections["root"][0][0], []))
    dof = [word.lower() for word in order]
    if sorted(dof) != sorted(_DOF[:6]):
        raise fail(number, f"the root's order is '{' '.join(order)}'; expected TX TY TZ RX RY RZ in some order")
    number, angles = root.get("orientation", (number, ["0", "0", "0"]))
    axis = "".join(root.get("axis", (number, ["XYZ"]))[1])
    bones = {"root": _Bone(np.zeros(3), frame(number, angles, axis), dof)}

    block: dict[str, tuple[int, list[str]]] = {}
    inside = False
    for number, words in sections["bonedata"]:
        keyword = words[0].lower()
        if keyword == "begin":
            block, inside = {}, True
        elif keyword == "end":
            inside = False
            for key in ("name", "direction", "length", "axis"):
                if not block.get(key, (0, []))[1]:
                    raise fail(number, f"the bone that ends here has no {key}; expected one")
            name = block["name"][1][0]
            if name in bones:
                raise fail(block["name"][0], f"the bone '{name}' appears twice; expected each name once")
            lines.number = block["direction"][0]
            direction = lines.numbers(block["direction"][1], "direction")
            lines.number = block["length"][0]
            length = lines.numbers(block["length"][1], "length")
            if len(direction) != 3 or len(length) != 1 or not np.linalg.norm(direction) > 0:
                raise fail(block["direction"][0], f"the bone '{name}' needs a direction of 3 numbers and one length")
            dof = [word.lower() for word in block.get("dof", (0, []))[1]]
            if any(word not in _DOF for word in dof) or len(set(dof)) != len(dof):
                raise fail(block["dof"][0], f"the dof are '{' '.join(dof)}'; expected some of {' '.join(_DOF)}")
            vector = direction / np.linalg.norm(direction) * length[0]
            at, words = block["axis"]
            bones[name] = _Bone(vector, frame(at, words[:-1], words[-1]), dof)
        elif inside:
            block[keyword] = (number, words[1:])
    if inside:
        raise fail(sections["bonedata"][-1][0], "the last bone has no 'end'; the file is cut short")

    parents: dict[str, str] = {}
    for number, words in sections["hierarchy"]:
        if words[0].lower() in ("begin", "end"):
            continue
        for name in words:
            if name not in bones:
                raise fail(number, f"the hierarchy names the bone '{name}', which :bonedata does not have")
        for child in words[1:]:
            if child in parents or child == "root":
                raise fail(number, f"the bone '{child}' has two parents; expected one")
            parents[child] = words[0]
    ordered = ["root"]
    for name in ordered:
        ordered.extend(child for child, parent in parents.items() if parent == name)
    lost = [name for name in bones if name not in ordered]
    if lost:
        raise fail(sections["hierarchy"][-1][0], f"the hierarchy does not join {', '.join(lost)} to the root")
    return {name: bones[name] for name in ordered}, parents


def _read_amc(path: str | os.PathLike[str], bones: dict[str, _Bone]) -> tuple[dict[str, np.ndarray], float]:
    """A table (T, channels) per bone that moves, and the factor from the file's unit of angle to degrees."""
    lines = Lines(path)
    moving = [name for name, bone in bones.items() if bone.dof]
    rows: dict[str, list[np.ndarray]] = {name: [] for name in moving}
    factor, frame, number = 1.0, 0, 0

    def close_frame() -> None:
        missing = [name for name in moving if len(rows[name]) < frame]
        if missing:
            raise lines.error(f"frame {number} has no values for {', '.join(missing)}; the file is cut short")

    for line in lines:
        words = line.split()
        if line.startswith("#"):
            continue
        if line.startswith(":"):
            factor = float(np.degrees(1.0)) if line.lower() == ":radians" else factor
        elif len(words) == 1 and words[0].isdigit():
            close_frame()
            if frame > 0 and int(words[0]) != number + 1:
                raise lines.error(f"frame {words[0]} follows frame {number}; expected {number + 1}: frames are missing")
            frame, number = frame + 1, int(words[0])
        elif frame == 0:
            raise lines.error(f"expected the number of the first frame, found '{line[:60]}'; is it another format?")
        elif words[0] not in rows:
            raise lines.error(f"'{words[0][:40]}' is no moving bone of the skeleton file; use the .asf of this motion")
        else:
            expected = len(bones[words[0]].dof)
            if len(words) - 1 != expected:
                raise lines.error(f"{words[0]} has {len(words) - 1} values; expected {expected}")
            if len(rows[words[0]]) == frame:
                raise lines.error(f"{words[0]} appears twice in frame {number}; expected it once")
            rows[words[0]].append(lines.numbers(words[1:], words[0]))
    close_frame()
    if frame == 0:
        raise lines.error("the file has no frames")
    return {name: np.array(table) for name, table in rows.items()}, factor
