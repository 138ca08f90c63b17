"""Importing motion capture: recordings written by the tests come back as the motion they were written from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Imported, Motion, Skeleton, load_amc, load_bvh
from egotwin_sim.motion.joint_names import split_name
from egotwin_sim.motion.retarget import sole_heights
from egotwin_sim.motion.rotations import axis_angle_to_quat, axis_matrix, rotation_angle, yaw_of

SKELETON = Skeleton.default()
SIDES = ("left", "right")
# Where each of our axes lies in the source: columns are the source's directions for forward, left, up.
Y_UP = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=float)  # faces +z, left is +x
Z_UP_FACING_MINUS_Y = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], dtype=float)
OURS = np.eye(3)


def names(pattern: dict[str, str]) -> dict[str, str]:
    """A naming convention for our 22 joints; {s} and {S} stand for the side."""
    result = {}
    for ours in SKELETON.names:
        side, _, base = ours.partition("_")
        if side in SIDES:
            result[ours] = pattern[base].format(s=side, S=side.capitalize(), i=side[0], I=side[0].upper())
        else:
            result[ours] = pattern[ours]
    return result


CONVENTIONS = {
    "cgspeed": names(
        {
            **{"pelvis": "Hips", "spine1": "LowerBack", "spine2": "Spine", "spine3": "Spine1", "neck": "Neck"},
            **{"head": "Head", "hip": "{S}UpLeg", "knee": "{S}Leg", "ankle": "{S}Foot", "foot": "{S}ToeBase"},
            **{"collar": "{S}Shoulder", "shoulder": "{S}Arm", "elbow": "{S}ForeArm", "wrist": "{S}Hand"},
        }
    ),
    "mixamo": names(
        {
            **{"pelvis": "mixamorig:Hips", "spine1": "mixamorig:Spine", "spine2": "mixamorig:Spine1"},
            **{"spine3": "mixamorig:Spine2", "neck": "mixamorig:Neck", "head": "mixamorig:Head"},
            **{"hip": "mixamorig:{S}UpLeg", "knee": "mixamorig:{S}Leg", "ankle": "mixamorig:{S}Foot"},
            **{"foot": "mixamorig:{S}ToeBase", "collar": "mixamorig:{S}Shoulder", "shoulder": "mixamorig:{S}Arm"},
            **{"elbow": "mixamorig:{S}ForeArm", "wrist": "mixamorig:{S}Hand"},
        }
    ),
    "ours": {name: name for name in SKELETON.names},
    "poser": names(
        {
            **{"pelvis": "hip", "spine1": "abdomen", "spine2": "waist", "spine3": "chest", "neck": "neck"},
            **{"head": "head", "hip": "{i}Thigh", "knee": "{i}Shin", "ankle": "{i}Foot", "foot": "{i}Toe"},
            **{"collar": "{i}Collar", "shoulder": "{i}Shldr", "elbow": "{i}ForeArm", "wrist": "{i}Hand"},
        }
    ),
    "biped": names(
        {
            **{"pelvis": "Bip01 Pelvis", "spine1": "Bip01 Spine", "spine2": "Bip01 Spine1", "spine3": "Bip01 Spine2"},
            **{"neck": "Bip01 Neck", "head": "Bip01 Head", "hip": "Bip01 {I} Thigh", "knee": "Bip01 {I} Calf"},
            **{"ankle": "Bip01 {I} Foot", "foot": "Bip01 {I} Toe0", "collar": "Bip01 {I} Clavicle"},
            **{"shoulder": "Bip01 {I} UpperArm", "elbow": "Bip01 {I} Forearm", "wrist": "Bip01 {I} Hand"},
        }
    ),
    "suffix": names(
        {
            **{"pelvis": "pelvis", "spine1": "spine_01", "spine2": "spine_02", "spine3": "spine_03"},
            **{"neck": "neck_01", "head": "head", "hip": "thigh_{i}", "knee": "calf_{i}", "ankle": "foot_{i}"},
            **{"foot": "ball_{i}", "collar": "clavicle_{i}", "shoulder": "upperarm_{i}", "elbow": "lowerarm_{i}"},
            **{"wrist": "hand_{i}"},
        }
    ),
}


def arms_down_legs_apart(name: str) -> np.ndarray:
    """The turn of each joint from our rest pose to one with hanging arms and legs 20 degrees apart."""
    side, _, base = name.partition("_")
    sign = 1.0 if side == "left" else -1.0
    if base in ("shoulder", "elbow", "wrist"):
        return axis_matrix("x", np.array(-sign * np.pi / 2))
    if base in ("hip", "knee", "ankle", "foot"):
        return axis_matrix("x", np.array(sign * np.radians(20.0)))
    return np.eye(3)


def t_pose(name: str) -> np.ndarray:
    """Our rest pose."""
    return np.eye(3)


def write_bvh(path, motion, *, naming, axes=Y_UP, order="ZXY", unit=0.01, rest=t_pose, frames=None, drop=()) -> Path:
    """A BVH file of a motion, on its skeleton with other names, axes, unit, Euler order and rest pose.

    `frames` (J, 3, 3) are the axes of each joint in the rest pose, where they are not those of the file.
    """
    skeleton = motion.skeleton
    position, rotation = motion.joint_transforms()
    rests = np.stack([rest(name) for name in skeleton.names])
    frames = np.broadcast_to(np.eye(3), rests.shape) if frames is None else frames
    turned = axes @ rotation @ np.swapaxes(rests, -1, -2) @ axes.T @ frames
    lines = ["HIERARCHY"]
    kept = [joint for joint, name in enumerate(skeleton.names) if name not in drop]
    visited = []

    def block(joint: int, depth: int) -> None:
        visited.append(joint)
        tab, parent = "  " * depth, skeleton.parents[joint]
        offset = np.zeros(3)
        if parent >= 0:
            offset = frames[parent].T @ axes @ rests[parent] @ skeleton.offsets[joint] / unit
        channels = " ".join(f"{axis}rotation" for axis in order)
        lines.append(f"{tab}{'JOINT' if parent >= 0 else 'ROOT'} {naming[skeleton.names[joint]]}")
        lines.append(f"{tab}{{")
        lines.append(f"{tab}  OFFSET {offset[0]:.7f} {offset[1]:.7f} {offset[2]:.7f}")
        lines.append(f"{tab}  CHANNELS " + ("3 " if parent >= 0 else "6 Xposition Yposition Zposition ") + channels)
        children = [child for child in kept if skeleton.parents[child] == joint]
        for child in children:
            block(child, depth + 1)
        if not children:
            lines.extend([f"{tab}  End Site", f"{tab}  {{", f"{tab}    OFFSET 0 0 0", f"{tab}  }}"])
        lines.append(f"{tab}}}")

    block(0, 0)
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.8f}"]
    for frame in range(len(motion)):
        values = list(axes @ position[frame, 0] / unit)
        for joint in visited:
            parent = skeleton.parents[joint]
            local = turned[frame, joint] if parent < 0 else turned[frame, parent].T @ turned[frame, joint]
            values += list(Rotation.from_matrix(local).as_euler(order, degrees=True))
        lines.append(" ".join(f"{value:.7f}" for value in values))
    path.write_text("\n".join(lines) + "\n")
    return path


def assert_follows(imported: Imported, motion: Motion) -> None:
    """The imported motion is the given one, up to where it stands."""
    result = imported.motion
    assert len(result) == len(motion) and result.fps == motion.fps
    ours, theirs = result.joint_transforms(), motion.joint_transforms()
    assert rotation_angle(ours[1], theirs[1]).max() < 1e-4
    np.testing.assert_allclose(ours[0] - ours[0][:1, :1], theirs[0] - theirs[0][:1, :1], atol=1e-4)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bvh_of_every_convention_gives_the_motion_back(tmp_path, walking_motion, convention):
    motion = walking_motion(1, 20)
    path = write_bvh(tmp_path / "walk.bvh", motion, naming=CONVENTIONS[convention])
    imported = load_bvh(path)
    assert_follows(imported, motion)
    assert imported.report.mapped == CONVENTIONS[convention]
    assert imported.report.unmapped_source == imported.report.unmapped_target == ()


@pytest.mark.parametrize("rest", [t_pose, arms_down_legs_apart])
@pytest.mark.parametrize(("axes", "up"), [(Y_UP, "+y"), (Z_UP_FACING_MINUS_Y, "+z"), (OURS, "+z")])
@pytest.mark.parametrize(("order", "unit"), [("ZYX", 0.0254), ("XYZ", 1.0), ("YXZ", 0.01)])
def test_bvh_of_any_rest_pose_axes_order_and_unit(tmp_path, walking_motion, rest, axes, up, order, unit):
    motion = walking_motion(2, 20)
    naming = CONVENTIONS["cgspeed"]
    path = write_bvh(tmp_path / "a.bvh", motion, naming=naming, axes=axes, order=order, unit=unit, rest=rest)
    imported = load_bvh(path)
    assert_follows(imported, motion)
    assert imported.report.up_axis == up
    assert imported.report.metres_per_unit == pytest.approx(unit, rel=1e-5)


def test_a_walk_looks_and_goes_forward_on_the_floor(tmp_path, walking_motion):
    motion = walking_motion(3, 40)
    source = Motion(motion.root_position + np.array([0, 0, 7.0]), motion.joint_quat_wxyz)
    imported = load_bvh(write_bvh(tmp_path / "a.bvh", source, naming=CONVENTIONS["mixamo"]))
    result = imported.motion
    assert imported.report.ground_offset_m < -6.0
    assert abs(np.percentile(sole_heights(result).min(axis=1), 25)) < 0.05
    step = np.diff(result.root_position[:, :2], axis=0)
    heading = yaw_of(result.joint_transforms()[1][:-1, 0])
    ahead = np.cos(np.arctan2(step[:, 1], step[:, 0]) - heading)
    assert ahead.min() > 0.9
    assert result.T_world_head()[:, 2, 2].min() > 0.5


def test_other_rates_are_resampled(tmp_path, walking_motion):
    motion = walking_motion(4, 121)
    fast = Motion(motion.root_position, motion.joint_quat_wxyz, fps=120.0)
    imported = load_bvh(write_bvh(tmp_path / "a.bvh", fast, naming=CONVENTIONS["ours"]))
    assert len(imported.motion) == 17 and imported.motion.fps == 16.0
    assert imported.report.source_fps == pytest.approx(120.0, rel=1e-5) and imported.report.source_frames == 121
    assert_follows(imported, fast.resampled(16.0))


def test_a_taller_body_is_scaled_to_ours(tmp_path, walking_motion):
    motion = walking_motion(5, 20)
    tall = Motion(motion.root_position * 1.2, motion.joint_quat_wxyz, Skeleton.default(1.75 * 1.2))
    path = write_bvh(tmp_path / "a.bvh", tall, naming=CONVENTIONS["ours"])
    assert_follows(load_bvh(path), motion)
    way = load_bvh(path, scale=2.0).motion.root_position
    np.testing.assert_allclose(
        way[-1, :2] - way[0, :2], 2 * (motion.root_position[-1] - motion.root_position[0])[:2], atol=0.1
    )


def test_missing_joints_are_reported_and_follow_their_parent(tmp_path, walking_motion):
    motion = walking_motion(6, 10)
    gone = {f"{side}_{name}" for side in SIDES for name in ("wrist", "foot")} | {"neck"}
    quat = motion.joint_quat_wxyz.copy()
    quat[:, [SKELETON.index[name] for name in gone]] = [1.0, 0.0, 0.0, 0.0]
    motion = Motion(motion.root_position, quat)
    # with the neck gone, the head hangs on the chest
    parents = list(SKELETON.parents)
    parents[SKELETON.index["head"]] = SKELETON.index["spine3"]
    rewired = Skeleton(SKELETON.names, tuple(parents), SKELETON.offsets)
    path = write_bvh(
        tmp_path / "a.bvh", Motion(motion.root_position, quat, rewired), naming=CONVENTIONS["ours"], drop=gone
    )
    imported = load_bvh(path)
    assert set(imported.report.unmapped_target) == gone
    _, ours = imported.motion.joint_transforms()
    _, theirs = motion.joint_transforms()
    head, neck, chest = (SKELETON.index[name] for name in ("head", "neck", "spine3"))
    assert rotation_angle(ours[:, head], theirs[:, head]).max() < 1e-4
    half = 0.5 * rotation_angle(ours[:, chest], ours[:, head])
    np.testing.assert_allclose(rotation_angle(ours[:, chest], ours[:, neck]), half, atol=1e-4)
    for name in gone - {"neck"}:
        local = imported.motion.joint_quat_wxyz[:, SKELETON.index[name]]
        np.testing.assert_allclose(np.abs(local[:, 0]), 1.0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_spine_of_any_length_carries_the_chest(tmp_path, count):
    back = [f"back{i}" for i in range(1, count + 1)]
    others = [name for name in SKELETON.names[1:] if not name.startswith("spine")]
    joints = ["pelvis", *back, *others]
    above = {name: SKELETON.names[SKELETON.parents[SKELETON.index[name]]] for name in others}
    above |= dict(zip(back, ["pelvis", *back], strict=False))
    above = {name: back[-1] if parent == "spine3" else parent for name, parent in above.items()}
    skeleton = Skeleton(
        tuple(joints),
        (-1, *(joints.index(above[name]) for name in joints[1:])),
        np.array(
            [SKELETON.offsets[SKELETON.index[name]] if name in SKELETON.index else [0, 0, 0.1] for name in joints]
        ),
    )
    turn = np.zeros((4, len(joints), 3))
    turn[:, 1 : 1 + count] = np.random.default_rng(0).uniform(-0.3, 0.3, (4, count, 3))
    motion = Motion(np.zeros((4, 3)), axis_angle_to_quat(turn), skeleton)
    imported = load_bvh(write_bvh(tmp_path / "a.bvh", motion, naming={name: name for name in joints}))
    chest = imported.motion.joint_transforms()[1][:, SKELETON.index["spine3"]]
    assert rotation_angle(chest, motion.joint_transforms()[1][:, skeleton.index[back[-1]]]).max() < 1e-4
    assert imported.report.mapped["spine3"] == back[-1]
    waist = imported.motion.joint_transforms()[1][:, SKELETON.index["spine1"]]
    assert (rotation_angle(waist, np.eye(3)) < rotation_angle(chest, np.eye(3)) + 0.5).all()


def test_a_rest_pose_before_the_recording_is_dropped(tmp_path, walking_motion):
    motion = walking_motion(8, 12)
    quat = np.zeros((1, 22, 4))
    quat[..., 0] = 1.0
    posed = Motion.concatenate([Motion(np.zeros((1, 3)), quat), motion])
    imported = load_bvh(write_bvh(tmp_path / "a.bvh", posed, naming=CONVENTIONS["cgspeed"]))
    assert_follows(imported, motion)
    assert "dropped" in imported.report.notes[0]


def test_a_frame_can_serve_as_the_rest_pose(tmp_path, walking_motion):
    motion = walking_motion(9, 12)
    quat = np.zeros((1, 22, 4))
    quat[..., 0] = 1.0
    posed = Motion.concatenate([Motion(motion.root_position[:1], quat), motion])
    # every joint has its own axes, so that with all rotations zero the legs point sideways
    frames = np.stack([axis_matrix("z", np.array(1.5)) @ axis_matrix("y", np.array(0.1 * j)) for j in range(22)])
    frames[[1, 2, 4, 5]] = axis_matrix("x", np.array(np.pi / 2))
    path = write_bvh(tmp_path / "a.bvh", posed, naming=CONVENTIONS["cgspeed"], order="XYZ", frames=frames)
    with pytest.raises(UserError, match="rest_frame"):
        load_bvh(path)
    assert_follows(load_bvh(path, rest_frame=0), posed)
    with pytest.raises(UserError, match="frames 0 to 12"):
        load_bvh(path, rest_frame=13)


def test_a_joint_map_names_what_the_names_do_not_tell(tmp_path, walking_motion):
    motion = walking_motion(10, 8)
    path = write_bvh(tmp_path / "a.bvh", motion, naming=CONVENTIONS["ours"] | {"left_knee": "banana"})
    with pytest.raises(UserError, match="no joint for left_knee among .*banana.*joint_map"):
        load_bvh(path)
    assert_follows(load_bvh(path, joint_map={"left_knee": "banana"}), motion)
    with pytest.raises(UserError, match="'left_banana', which is no joint of ours"):
        load_bvh(path, joint_map={"left_banana": "banana"})
    with pytest.raises(UserError, match="'apple', which the file lacks"):
        load_bvh(path, joint_map={"left_knee": "apple"})
    with pytest.raises(UserError, match="scale"):
        load_bvh(path, joint_map={"left_knee": "banana"}, scale=0.0)


@pytest.mark.parametrize(
    "name",
    [
        "mixamorig:LeftUpLeg",
        "mixamorig_LeftUpLeg",
        "L_UpLeg",
        "upleg.l",
        "UpLeg_L",
        "Bip01 L UpLeg",
        "leftupleg",
        "lUpLeg",
    ],
)
def test_decorated_names_are_understood(name):
    assert split_name(name) == ("left", "upleg")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda lines: lines[1:], 1, "expected HIERARCHY"),
        (lambda lines: lines[:-1], -1, "the file ends where frame 3 of 4 was expected"),
        (lambda lines: lines[: lines.index("MOTION")], -1, "the file ends where the line MOTION"),
        (lambda lines: [*lines, lines[-1]], 0, "more frames than the 4"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(" ", 1)[0]], 0, "frame 3 has 68 values; expected 69"),
        (lambda lines: [*lines[:-1], "nan " + lines[-1].split(" ", 1)[1]], 0, "frame 3 has the value nan"),
        (lambda lines: [*lines[:-1], "a " + lines[-1].split(" ", 1)[1]], 0, "not a number: a "),
        (lambda lines: [lines[0], lines[1].replace("ROOT", "JOINT"), *lines[2:]], 2, "expected ROOT first"),
        (lambda lines: [*lines[:4], lines[4].replace("Zrot", "Wrot"), *lines[5:]], 5, "channels of pelvis are"),
        (lambda lines: [*lines[:4], lines[4].replace("6", "5"), *lines[5:]], 5, "channels of pelvis are"),
        (lambda lines: [*lines[:3], *lines[4:]], 5, "pelvis has no OFFSET"),
        (lambda lines: [*lines[:3], "OFFSET 0 0", *lines[4:]], 4, "OFFSET has 2 values"),
        (lambda lines: [*lines[:3], "OFSET 0 0 0", *lines[4:]], 4, "no line of a BVH hierarchy"),
        (lambda lines: [*lines[:-5], "Frame Time: 0", *lines[-4:]], -2, "one positive number after 'Frame Time:'"),
        (lambda lines: [line.replace("Frames: 4", "Frames: four") for line in lines], -2, "not a number: four"),
        (lambda lines: [line.replace("right_hip", "left_hip") for line in lines], -2, "'left_hip' is used twice"),
        (lambda lines: lines[: lines.index("MOTION") - 1] + lines[lines.index("MOTION") :], -2, "lacks }"),
    ],
)
def test_bad_bvh_files_are_refused_by_file_and_line(tmp_path, walking_motion, change, line, message):
    path = write_bvh(tmp_path / "bad.bvh", walking_motion(11, 4), naming=CONVENTIONS["ours"])
    lines = change(path.read_text().splitlines())
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as error:
        load_bvh(path)
    # line: counted from 1; 0 and -1 the last line, -2 somewhere
    where = "" if line == -2 else f"bad.bvh:{line if line > 0 else len(lines)}:"
    assert where in str(error.value) and "bad.bvh:" in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_missing_or_no_text_are_refused(tmp_path):
    with pytest.raises(UserError, match="absent.bvh cannot be read"):
        load_bvh(tmp_path / "absent.bvh")
    (tmp_path / "noise.bvh").write_bytes(np.random.default_rng(0).bytes(500))
    with pytest.raises(UserError, match="noise.bvh:1: expected HIERARCHY"):
        load_bvh(tmp_path / "noise.bvh")
    (tmp_path / "empty.bvh").write_text("")
    with pytest.raises(UserError, match="empty.bvh"):
        load_bvh(tmp_path / "empty.bvh")


def acclaim_bones() -> dict[str, tuple[str, str | None, tuple[float, float, float]]]:
    """Parent, our joint and vector in our rest pose of every bone of a skeleton in the CMU database's manner."""
    bones: dict[str, tuple[str, str | None, tuple[float, float, float]]] = {
        "lowerback": ("root", "spine1", (0, 0, 0.11)),
        "upperback": ("lowerback", "spine2", (0, 0, 0.13)),
        "thorax": ("upperback", "spine3", (0, 0, 0.10)),
        "lowerneck": ("thorax", "neck", (0, 0, 0.12)),
        "head": ("lowerneck", "head", (0, 0, 0.2)),
    }
    for side, sign in (("left", 1.0), ("right", -1.0)):
        s = side[0]
        bones |= {
            f"{s}hipjoint": ("root", None, tuple(SKELETON.offsets[SKELETON.index[f"{side}_hip"]])),
            f"{s}femur": (f"{s}hipjoint", f"{side}_hip", (0, 0, -0.415)),
            f"{s}tibia": (f"{s}femur", f"{side}_knee", (0, 0, -0.415)),
            f"{s}foot": (f"{s}tibia", f"{side}_ankle", (0.13, 0, -0.05)),
            f"{s}toes": (f"{s}foot", f"{side}_foot", (0.08, 0, 0)),
            f"{s}clavicle": ("thorax", f"{side}_collar", (0, sign * 0.18, 0.08)),
            f"{s}humerus": (f"{s}clavicle", f"{side}_shoulder", (0, sign * 0.29, 0)),
            f"{s}radius": (f"{s}humerus", f"{side}_elbow", (0, sign * 0.26, 0)),
            f"{s}hand": (f"{s}radius", f"{side}_wrist", (0, sign * 0.08, 0)),
        }
    return bones


def write_acclaim(folder, motion, *, axes=Y_UP, unit=0.0254 / 0.45, rest=t_pose) -> tuple[Path, Path]:
    """An AMC and an ASF file of a motion; every bone turns about axes of its own."""
    rng = np.random.default_rng(0)
    position, rotation = motion.joint_transforms()
    asf = [":version 1.10", ":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root"]
    asf += ["  order TX TY TZ RX RY RZ", "  axis XYZ", "  position 0 0 0", "  orientation 0 0 0", ":bonedata"]
    turned = {"root": axes @ rotation[:, 0] @ axes.T}
    angles = {"root": Rotation.from_matrix(turned["root"]).as_euler("xyz", degrees=True)}
    bones = acclaim_bones()
    ordered = list(bones)
    ordered.sort(key=lambda name: 0 if name.endswith("hipjoint") else 1)
    for name in ordered:
        parent, ours, vector = bones[name]
        alignment = rest(ours) if ours else np.eye(3)
        vector = axes @ alignment @ np.array(vector)
        length = np.linalg.norm(vector)
        axis = rng.uniform(-90, 90, 3) if ours else np.zeros(3)
        dof = ("rz rx ry" if name == "head" else "rx ry rz") if ours else ""
        asf += ["  begin", f"    name {name}", "    direction " + " ".join(f"{v:.9f}" for v in vector / length)]
        asf += [f"    length {length / unit:.9f}", "    axis " + " ".join(f"{v:.7f}" for v in axis) + " XYZ"]
        asf += [f"    dof {dof}", "    limits (-180 180)", "  end"] if dof else ["  end"]
        if not ours:
            turned[name] = turned[parent]
            continue
        turned[name] = axes @ rotation[:, SKELETON.index[ours]] @ alignment.T @ axes.T
        own = Rotation.from_euler("xyz", axis, degrees=True).as_matrix()
        local = own.T @ np.swapaxes(turned[parent], -1, -2) @ turned[name] @ own
        angles[name] = Rotation.from_matrix(local).as_euler(dof.replace("r", "").replace(" ", ""), degrees=True)
    asf += [":hierarchy", "  begin"]
    for parent in ["root", *bones]:
        children = [name for name in bones if bones[name][0] == parent]
        asf += [f"    {parent} {' '.join(children)}"] if children else []
    asf += ["  end"]
    amc = ["#!OML:ASF", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(len(motion)):
        amc.append(str(frame + 1))
        for name, table in angles.items():
            values = [*(axes @ position[frame, 0] / unit), *table[frame]] if name == "root" else table[frame]
            amc.append(f"{name} " + " ".join(f"{v:.9f}" for v in values))
    (folder / "a.asf").write_text("\n".join(asf))
    (folder / "a.amc").write_text("\n".join(amc))
    return folder / "a.amc", folder / "a.asf"


@pytest.mark.parametrize("rest", [t_pose, arms_down_legs_apart])
@pytest.mark.parametrize("axes", [Y_UP, Z_UP_FACING_MINUS_Y])
def test_acclaim_files_give_the_motion_back(tmp_path, walking_motion, rest, axes):
    motion = walking_motion(12, 20)
    imported = load_amc(*write_acclaim(tmp_path, motion, rest=rest, axes=axes), source_fps=16.0)
    assert_follows(imported, motion)
    assert imported.report.mapped["left_hip"] == "lfemur" and imported.report.mapped["pelvis"] == "root"
    assert imported.report.mapped["spine3"] == "thorax"
    assert imported.report.unmapped_source == ("lhipjoint", "rhipjoint") and not imported.report.unmapped_target


def test_acclaim_files_are_taken_as_120_frames_a_second(tmp_path, walking_motion):
    imported = load_amc(*write_acclaim(tmp_path, walking_motion(13, 61)))
    assert len(imported.motion) == 9
    with pytest.raises(UserError, match="source_fps"):
        load_amc(tmp_path / "a.amc", tmp_path / "a.asf", source_fps=0.0)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("amc", lambda text: text[: text.rindex("rhand")], "frame 3 has no values for"),
        ("amc", lambda text: text[: text.rindex(" ")], "rhand has 2 values; expected 3"),
        ("amc", lambda text: text.replace("\n2\n", "\n5\n"), ":27: frame 5 follows frame 1; expected 2"),
        ("amc", lambda text: text.replace("lfemur", "ltail"), ":11: 'ltail' is no moving bone"),
        ("amc", lambda text: text.replace("lfemur ", "lfemur nan"), "not a number"),
        ("amc", lambda text: text.replace("lfemur ", "lfemur 1e999 #", 1).replace("#", "", 1), "expected"),
        ("amc", lambda text: ":DEGREES", "no frames"),
        ("amc", lambda text: text.replace("\n1\n", "\n"), "number of the first frame"),
        ("asf", lambda text: text[: text.index(":hierarchy")], "no :hierarchy section"),
        ("asf", lambda text: text[: text.index(":root")], "no :root section"),
        ("asf", lambda text: text.replace("order TX", "order TW"), ":7: the root's order is"),
        ("asf", lambda text: text.replace("dof rx ry rz", "dof rx ry rw", 1), "the dof are 'rx ry rw'"),
        ("asf", lambda text: text.replace("name lfemur", "name lhipjoint"), "'lhipjoint' appears twice"),
        ("asf", lambda text: text.replace("root lowerback", "root"), "does not join"),
        ("asf", lambda text: text.replace("lfemur ltibia", "lfemur lbanana"), "'lbanana', which :bonedata does not"),
        ("asf", lambda text: text.replace(" XYZ\n    dof", "\n    dof", 1), "the axis is"),
        ("asf", lambda text: text.replace("    length", "    width", 2), "has no length"),
        ("asf", lambda text: text.replace("angle deg", "angle turns"), ":5: the unit of angle is 'turns'"),
        ("asf", lambda text: "hello", "is it another format than ASF"),
    ],
)
def test_bad_acclaim_files_are_refused_by_file_and_line(tmp_path, walking_motion, file, change, message):
    amc, asf = write_acclaim(tmp_path, walking_motion(14, 3))
    path = amc if file == "amc" else asf
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as error:
        load_amc(amc, asf)
    assert f"{path}:" in str(error.value) and message in str(error.value), str(error.value)
