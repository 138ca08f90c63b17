"""SMPL parameters there and back; bodies from synthetic model files against plain kinematics and against `smplx`."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_matrix, quat_to_matrix, rotation_angle
from egotwin_sim.motion.smpl import (
    SMPLBody,
    SMPLParameters,
    motion_to_mesh,
    motion_to_smpl,
    smpl_to_motion,
    write_smplx,
)
from tests.smpl_model import JOINTS, ORIGIN, SHAPES, TO_VENDOR, VERTICES, model, parents, write_npz, write_pkl

KINDS = ("smpl", "smplh", "smplx")
BODY_WIDTH = {"smpl": 69, "smplh": 63, "smplx": 63}
TOLERANCE = 1e-4  # metres, what is promised


@pytest.fixture
def smplx():
    return pytest.importorskip(
        "smplx", reason="the smplx package has a licence of its own; install it to run this test"
    )


def random_parameters(kind: str, frames: int = 6, up: str = "z", seed: int = 3) -> SMPLParameters:
    rng = np.random.default_rng(seed)
    pose = rng.normal(size=(frames, BODY_WIDTH[kind])) * 0.5
    orient, transl = rng.normal(size=(frames, 3)), rng.normal(size=(frames, 3)) * 3
    betas = rng.normal(size=10) * 2
    return SMPLParameters(kind, orient, pose, transl, 30.0, betas, "neutral", up)


def file_of(kind: str, folder: Path) -> Path:
    """The vendor's SMPL is pickled; the others are `.npz`."""
    name = f"{kind.upper()}_NEUTRAL"
    if kind == "smpl":
        return write_pkl(folder / f"{name}.pkl", model(kind))
    return write_npz(folder / f"{name}.npz", model(kind))


def plain_joints(kind: str, parameters: SMPLParameters) -> np.ndarray:
    """World positions (T, 22, 3) of the joints in the parameters' world, by the book."""
    arrays = model(kind)
    shaped = arrays["v_template"] + arrays["shapedirs"][..., :10] @ parameters.betas
    rest = arrays["J_regressor"] @ shaped
    found = np.empty((len(parameters), 22, 3))
    for frame in range(len(parameters)):
        vectors = np.concatenate((parameters.global_orient[frame], parameters.body_pose[frame])).reshape(-1, 3)
        turned = []
        for joint, parent in enumerate(parents(kind)[:22]):
            own = Rotation.from_rotvec(vectors[joint])
            if parent < 0:
                turned.append(own)
                found[frame, joint] = rest[joint] + parameters.transl[frame]
                continue
            found[frame, joint] = found[frame, parent] + turned[parent].apply(rest[joint] - rest[parent])
            turned.append(turned[parent] * own)
    return found


def to_ours(points: np.ndarray, up: str) -> np.ndarray:
    return points if up == "z" else points @ TO_VENDOR  # the transpose of the way back


@pytest.mark.parametrize("up", ["z", "y"])
@pytest.mark.parametrize("kind", KINDS)
def test_joints_of_a_body_are_where_plain_kinematics_put_them(kind, up, tmp_path):
    parameters = random_parameters(kind, up=up)
    motion = parameters.motion(SMPLBody(file_of(kind, tmp_path), kind))
    assert motion.skeleton.names == Skeleton.default().names and motion.fps == 30.0
    expected = to_ours(plain_joints(kind, parameters), up)
    np.testing.assert_allclose(motion.joint_transforms()[0], expected, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_joints_and_surface_agree_with_smplx(kind, tmp_path, smplx, monkeypatch):
    # The package draws landmarks from vertices with fixed numbers, which a small body does not have.
    for name in ("smplh", "smplx"):
        numbers = dict.fromkeys(smplx.body_models.VERTEX_IDS[name], 0)
        monkeypatch.setitem(smplx.body_models.VERTEX_IDS, name, numbers)
    import torch

    path, parameters = file_of(kind, tmp_path), random_parameters(kind)
    rest = {} if kind == "smpl" else {"flat_hand_mean": True, "use_pca": False, "ext": "npz"}
    frames = len(parameters)
    reference = smplx.create(str(path), kind, batch_size=frames, **rest)
    given = {"global_orient": parameters.global_orient, "body_pose": parameters.body_pose, "transl": parameters.transl}
    with torch.no_grad():
        output = reference(
            betas=torch.tensor(parameters.betas).float().expand(frames, -1),
            **{name: torch.tensor(value).float() for name, value in given.items()},
        )
    body = SMPLBody(path, kind).shaped(parameters.betas)
    motion = parameters.motion(body)
    joint_error = np.abs(motion.joint_transforms()[0] - output.joints[:, :22].numpy()).max()
    assert joint_error < TOLERANCE

    vertices, faces = motion_to_mesh(motion, body)
    assert vertices.shape == (frames, VERTICES, 3) and vertices.dtype == np.float32
    if kind == "smpl":  # its two hands turn with the wrists in a motion of ours
        parameters = motion_to_smpl(motion, kind, body=body)
        with torch.no_grad():
            output = reference(
                betas=torch.tensor(parameters.betas).float().expand(frames, -1),
                global_orient=torch.tensor(parameters.global_orient).float(),
                body_pose=torch.tensor(parameters.body_pose).float(),
                transl=torch.tensor(parameters.transl).float(),
            )
    assert np.abs(vertices - output.vertices.numpy()).max() < TOLERANCE
    np.testing.assert_array_equal(faces, reference.faces.astype(np.int32))


def test_a_long_motion_has_the_same_surface_as_its_parts(tmp_path, smplx, wild_motion):
    body, motion = SMPLBody(file_of("smplx", tmp_path)), wild_motion(0, 40)
    whole, _ = motion_to_mesh(motion, body)
    for frame in (0, 31, 32, 39):
        np.testing.assert_allclose(motion_to_mesh(motion[frame], body)[0][0], whole[frame], atol=1e-5)


def test_the_surface_stands_on_the_floor_where_the_skeleton_does(tmp_path, smplx):
    body = SMPLBody(file_of("smplx", tmp_path))
    quat = np.zeros((1, 22, 4))
    quat[..., 0] = 1.0
    height = body.skeleton.rest_root_height
    vertices, _ = motion_to_mesh(Motion(np.array([[1.0, 2.0, height]]), quat, body.skeleton), body)
    assert abs(vertices[..., 2].min()) < 1e-5


def test_the_point_between_the_eyes_is_the_models_or_ours_in_proportion(tmp_path):
    eyes = SMPLBody(file_of("smplx", tmp_path))
    arrays = model("smplx")
    joints = arrays["J_regressor"] @ arrays["v_template"]
    expected = TO_VENDOR.T @ (joints[[23, 24]].mean(axis=0) - joints[15])
    np.testing.assert_allclose(eyes.skeleton.head_offset, expected, atol=1e-12)
    ours = Skeleton.default().head_offset
    scaled = SMPLBody(file_of("smpl", tmp_path), "smpl").skeleton.head_offset
    assert 0.7 < np.linalg.norm(scaled) / np.linalg.norm(ours) < 1.3
    np.testing.assert_allclose(np.cross(scaled, ours), 0.0, atol=1e-12)


@pytest.mark.parametrize("up", ["z", "y"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_motion_comes_back_with_and_without_a_model(kind, up, tmp_path, wild_motion):
    motion = wild_motion(1, 9)
    parameters = motion_to_smpl(motion, kind, up=up)
    assert parameters.kind == kind and parameters.body_pose.shape == (9, BODY_WIDTH[kind]) and parameters.up == up
    back = parameters.motion()
    np.testing.assert_allclose(back.joint_transforms()[0], motion.joint_transforms()[0], atol=1e-5)

    body = SMPLBody(file_of(kind, tmp_path), kind, betas=[1.0, -2.0])
    motion = Motion(motion.root_position, motion.joint_quat_wxyz, body.skeleton, 30.0)
    parameters = motion_to_smpl(motion, kind, body=body, up=up)
    np.testing.assert_array_equal(parameters.betas, body.betas)
    again = parameters.motion(body)
    assert again.fps == 30.0
    np.testing.assert_allclose(again.joint_transforms()[0], motion.joint_transforms()[0], atol=1e-5)


def test_who_stands_in_smpl_stands_in_ours():
    """The identity in a y-up world, and AMASS's quarter turn in a z-up one, are a person who stands in a T-pose."""
    still, pose = np.zeros((1, 3)), np.zeros((1, 63))
    for up, orient in (("y", still), ("z", np.array([[np.pi / 2, 0.0, 0.0]]))):
        position, rotation = smpl_to_motion(None, orient, pose, still, 30.0, up).joint_transforms()
        index = Skeleton.default().index
        assert position[0, index["head"], 2] > 0.5 > -0.5 > position[0, index["left_ankle"], 2]
        if up == "y":
            np.testing.assert_allclose(rotation, np.broadcast_to(np.eye(3), rotation.shape), atol=1e-6)
            assert position[0, index["left_wrist"], 1] > 0.5
        else:  # AMASS's model faces -y there, so its left is at +x
            np.testing.assert_allclose(rotation[0, 0, :, 0], [0, -1, 0], atol=1e-6)
            assert position[0, index["left_wrist"], 0] > 0.5


def test_a_bend_of_the_knee_is_the_same_bend():
    pose = np.zeros((1, 21, 3))
    pose[0, 3] = [0.8, 0.0, 0.0]  # left knee; SMPL's x axis is our y axis
    motion = smpl_to_motion(None, np.zeros((1, 3)), pose.reshape(1, 63), np.zeros((1, 3)), 30.0, "y")
    knee = motion.skeleton.index["left_knee"]
    turned = quat_to_matrix(motion.joint_quat_wxyz[0].astype(np.float64))
    assert rotation_angle(turned[knee], axis_matrix("y", np.array(0.8))) < 1e-6
    assert rotation_angle(np.delete(turned, knee, axis=0), np.eye(3)).max() < 1e-6


def test_the_pelvis_is_at_transl_plus_its_rest_position_however_it_is_turned(tmp_path):
    body = SMPLBody(file_of("smplx", tmp_path))
    assert np.abs(body.pelvis - ORIGIN).max() < 0.1 and np.abs(body.pelvis).max() > 0.2
    rng = np.random.default_rng(0)
    orient, transl = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    for up, turn in (("z", np.eye(3)), ("y", TO_VENDOR)):
        motion = smpl_to_motion(None, orient, np.zeros((5, 63)), transl, 30.0, up, body)
        np.testing.assert_allclose(motion.root_position, (transl + body.pelvis) @ turn, atol=1e-6)
        without = smpl_to_motion(None, orient, np.zeros((5, 63)), transl, 30.0, up)
        shift = motion.root_position - without.root_position
        np.testing.assert_allclose(shift, np.tile(body.pelvis @ turn, (5, 1)), atol=1e-6)


def test_betas_shape_the_body_and_nothing_without_one(tmp_path):
    body = SMPLBody(file_of("smplh", tmp_path), "smplh")
    betas = np.linspace(-2, 2, 16)
    tall = body.shaped(betas)
    assert tall.betas.shape == (16,) and np.abs(tall.skeleton.offsets - body.skeleton.offsets).max() > 1e-3
    still = (np.zeros((1, 3)), np.zeros((1, 63)), np.zeros((1, 3)), 30.0)
    np.testing.assert_allclose(smpl_to_motion(betas, *still, body=body).skeleton.offsets, tall.skeleton.offsets)
    np.testing.assert_allclose(smpl_to_motion(None, *still, body=tall).skeleton.offsets, tall.skeleton.offsets)
    assert smpl_to_motion(betas, *still).skeleton.names == Skeleton.default().names
    assert body.shaped(np.concatenate((betas, np.zeros(9)))).betas.shape == (16,)
    with pytest.raises(UserError, match="behind the first 16 zero"):
        body.shaped(np.ones(17))
    with pytest.raises(UserError, match="finite"):
        body.shaped([np.nan])


def test_skeletons_of_other_sizes_and_joint_orders_keep_their_place(walking_motion):
    ours = walking_motion(2, 5)
    order = [0, 3, 6, 9, 12, 15, 13, 16, 18, 20, 14, 17, 19, 21, 1, 4, 7, 10, 2, 5, 8, 11]  # depth first
    tall = Skeleton.default(1.9)
    other = Skeleton(
        tuple(tall.names[i] for i in order),
        tuple(-1 if tall.parents[i] < 0 else order.index(tall.parents[i]) for i in order),
        tall.offsets[order],
    )
    motion = Motion(ours.root_position, ours.joint_quat_wxyz[:, order], other)
    a, b = motion_to_smpl(motion), motion_to_smpl(ours)
    np.testing.assert_allclose(a.body_pose, b.body_pose, atol=1e-7)
    back = a.motion(skeleton=other)
    assert back.skeleton is other
    np.testing.assert_allclose(back.joint_transforms()[0], motion.joint_transforms()[0], atol=1e-5)


# Files of parameters.


@pytest.mark.parametrize("kind", KINDS)
def test_saved_parameters_load_the_same(kind, tmp_path):
    rng = np.random.default_rng(0)
    made = random_parameters(kind)
    if kind != "smpl":
        made = SMPLParameters(
            *(kind, made.global_orient, made.body_pose, made.transl, 120.0, made.betas, "female", "z"),
            hand_pose=rng.normal(size=(6, 90)),
        )
    made.save(tmp_path / "walk.npz")
    loaded = SMPLParameters.load(tmp_path / "walk.npz")
    for name in ("kind", "fps", "gender", "up"):
        assert getattr(loaded, name) == getattr(made, name)
    for name in ("global_orient", "body_pose", "transl", "betas"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(made, name))
    if kind != "smpl":
        np.testing.assert_array_equal(loaded.hand_pose, made.hand_pose)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npz"]


def test_the_files_have_amass_names_and_shapes(tmp_path, walking_motion):
    motion = walking_motion(4, 7)
    write_smplx(tmp_path / "x.npz", motion)
    motion_to_smpl(motion, "smplh").save(tmp_path / "h.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
        assert str(file["surface_model_type"]) == "smplx" and str(file["gender"]) == "neutral"
        assert float(file["mocap_frame_rate"]) == 16.0
        np.testing.assert_array_equal(file["poses"][:, 3:66], file["pose_body"])
    assert shapes == {
        **{"gender": (), "surface_model_type": (), "mocap_frame_rate": (), "mocap_time_length": (), "num_betas": ()},
        **{"trans": (7, 3), "betas": (16,), "root_orient": (7, 3), "pose_body": (7, 63), "pose_hand": (7, 90)},
        **{"pose_jaw": (7, 3), "pose_eye": (7, 6), "poses": (7, 165)},
    }
    with np.load(tmp_path / "h.npz", allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
    assert shapes == {
        **{"gender": (), "mocap_framerate": (), "trans": (7, 3), "betas": (16,)},
        **{"poses": (7, 156), "dmpls": (7, 8)},
    }
    for name in ("x.npz", "h.npz"):
        back = SMPLParameters.load(tmp_path / name).motion()
        np.testing.assert_allclose(back.joint_transforms()[0], motion.joint_transforms()[0], atol=1e-5)


def test_names_of_the_smplx_package_and_old_ways_to_write_a_gender_are_read(tmp_path):
    given = random_parameters("smpl", up="y")
    np.savez(
        tmp_path / "a.npz",
        global_orient=given.global_orient.astype(np.float32),
        body_pose=given.body_pose,
        transl=given.transl,
        betas=given.betas[None],
        gender=np.array([b"male"]),
        mocap_framerate=np.array([60]),
        notes=np.array({"an": "object"}, dtype=object),  # never looked at
    )
    loaded = SMPLParameters.load(tmp_path / "a.npz", up="y")
    assert (loaded.kind, loaded.gender, loaded.fps, loaded.up) == ("smpl", "male", 60.0, "y")
    np.testing.assert_allclose(loaded.global_orient, given.global_orient, atol=1e-6)


GOOD = {
    "poses": np.zeros((4, 156)),
    "trans": np.zeros((4, 3)),
    "betas": np.zeros(16),
    "gender": np.array("male"),
    "mocap_framerate": np.array(120.0),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poses": None}, "no root_orient or global_orient"),
        ({"trans": None}, "no trans or transl"),
        ({"betas": None}, "no betas"),
        ({"gender": None}, "no gender"),
        ({"mocap_framerate": None}, "no frame rate"),
        ({"mocap_framerate": np.array(0.0)}, "the frame rate is 0.0"),
        ({"mocap_framerate": np.array("fast")}, "the frame rate is fast"),
        ({"gender": np.array("child")}, "gender is 'child'; expected neutral, male, female"),
        ({"poses": np.zeros((4, 150))}, r"poses has shape \(4, 150\)"),
        ({"poses": np.zeros(156)}, r"poses has shape \(156,\)"),
        ({"poses": np.zeros((3, 156))}, r"global_orient has shape \(3, 3\)"),
        ({"trans": np.zeros((4, 2))}, r"transl has shape \(4, 2\)"),
        ({"trans": np.zeros((0, 3)), "poses": np.zeros((0, 156))}, "at least one frame"),
        ({"trans": np.array(0.0)}, "at least one frame"),
        ({"betas": np.full(16, np.nan)}, "betas"),
        ({"betas": np.zeros((4, 16))}, "one shape for all frames"),
        ({"trans": np.array([[0, 0, 0], [0, 0, 0], [0, np.inf, 0], [0, 0, 0]])}, "transl is not finite at frame 2"),
        ({"poses": np.full((4, 156), np.nan)}, "global_orient is not finite at frame 0"),
        ({"poses": np.array([["a"] * 156] * 4)}, "expected .* numbers"),
        ({"trans": np.array([{}], dtype=object)}, "cannot be read"),
    ],
)
def test_bad_files_of_parameters_are_refused_by_name(change, message, tmp_path):
    np.savez(tmp_path / "bad.npz", **{name: value for name, value in (GOOD | change).items() if value is not None})
    with pytest.raises(UserError, match=message) as error:
        SMPLParameters.load(tmp_path / "bad.npz")
    assert "bad.npz" in str(error.value)


def test_damaged_and_missing_files_are_refused_by_name(tmp_path):
    np.savez_compressed(tmp_path / "cut.npz", **GOOD)
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    spoilt = bytearray(whole)
    spoilt[120:160] = b"\x00" * 40
    (tmp_path / "spoilt.npz").write_bytes(spoilt)
    for name in ("cut.npz", "spoilt.npz", "absent.npz"):
        with pytest.raises(UserError, match=name):
            SMPLParameters.load(tmp_path / name)


def test_bad_arguments_are_refused(tmp_path, walking_motion):
    orient, pose, transl = np.zeros((2, 3)), np.zeros((2, 63)), np.zeros((2, 3))
    for bad, message in (
        ((None, orient, pose, transl, 30.0, "x"), "up is 'x'"),
        ((None, orient, np.zeros((2, 66)), transl, 30.0), r"body_pose has shape \(2, 66\)"),
        ((None, orient[:1], pose, transl, 30.0), "global_orient"),
        ((None, orient, pose, transl, -1.0), "frame rate"),
        ((np.zeros((2, 10)), orient, pose, transl, 30.0), "betas"),
        ((None, orient[:0], pose[:0], transl[:0], 30.0), "at least one frame"),
    ):
        with pytest.raises(UserError, match=message):
            smpl_to_motion(*bad)
    motion = walking_motion(0, 3)
    body = SMPLBody(file_of("smplx", tmp_path))
    with pytest.raises(UserError, match="kind is 'mano'"):
        motion_to_smpl(motion, "mano")
    with pytest.raises(UserError, match="the body is of kind smplx"):
        motion_to_smpl(motion, "smpl", body=body)
    with pytest.raises(UserError, match="both a body and a skeleton"):
        smpl_to_motion(None, orient, pose, transl, 30.0, body=body, skeleton=Skeleton.default())
    with pytest.raises(UserError, match="female smplx body, the model is neutral smplx"):
        SMPLParameters("smplx", orient, pose, transl, 30.0, np.zeros(10), "female").motion(body)
    with pytest.raises(UserError, match="SMPL has no fingers"):
        SMPLParameters("smpl", orient, np.zeros((2, 69)), transl, 30.0, np.zeros(10), hand_pose=np.zeros((2, 90)))
    with pytest.raises(UserError, match="z up"):
        motion_to_smpl(motion, up="y").save(tmp_path / "x.npz")
    with pytest.raises(UserError, match="no is not a folder"):
        write_smplx(Path("no") / "x.npz", motion)


def test_skeletons_without_smpls_joints_are_refused():
    skeleton = Skeleton.default()
    quat = np.zeros((1, 22, 4))
    quat[..., 0] = 1.0
    names = tuple("skull" if name == "head" else name for name in skeleton.names)
    headless = Skeleton(names, skeleton.parents, skeleton.offsets)
    with pytest.raises(UserError, match="has no head"):
        motion_to_smpl(Motion(np.zeros((1, 3)), quat, headless))
    parents_ = list(skeleton.parents)
    parents_[skeleton.index["left_collar"]] = skeleton.index["neck"]
    other = Skeleton(skeleton.names, tuple(parents_), skeleton.offsets)
    with pytest.raises(UserError, match="left_collar hangs on neck; expected spine3"):
        motion_to_smpl(Motion(np.zeros((1, 3)), quat, other))
    longer = Skeleton((*skeleton.names, "tail"), (*skeleton.parents, 0), np.vstack((skeleton.offsets, [[-0.1, 0, 0]])))
    with pytest.raises(UserError, match="nothing of tail"):
        smpl_to_motion(None, np.zeros((1, 3)), np.zeros((1, 63)), np.zeros((1, 3)), 30.0, skeleton=longer)
    quat = np.concatenate((quat, quat[:, :1]), axis=1)
    assert len(motion_to_smpl(Motion(np.zeros((1, 3)), quat, longer))) == 1  # what SMPL lacks is dropped


# Model files.


def test_pickled_and_plain_files_give_the_same_body(tmp_path):
    a = SMPLBody(write_pkl(tmp_path / "a.pkl", model("smplx")), "smplx")
    b = SMPLBody(write_npz(tmp_path / "b.npz", model("smplx")), "smplx")
    np.testing.assert_array_equal(a.skeleton.offsets, b.skeleton.offsets)
    np.testing.assert_array_equal(a.faces, b.faces)


def test_files_are_found_under_the_vendors_names_but_pickles_only_by_their_own(tmp_path):
    for place in ("a/SMPLX_FEMALE.npz", "b/smplx/SMPLX_FEMALE.npz", "c/female/model.npz", "d/smplx/female/model.npz"):
        write_npz(tmp_path / place, model("smplx"))
        assert SMPLBody(tmp_path / place.split("/")[0], "smplx", "female").gender == "female"
    write_pkl(tmp_path / "e" / "SMPLX_FEMALE.pkl", model("smplx"))
    with pytest.raises(UserError, match="only when they are named themselves"):
        SMPLBody(tmp_path / "e", "smplx", "female")
    with pytest.raises(UserError, match="no smplx model of gender male"):
        SMPLBody(tmp_path / "a", "smplx", "male")
    with pytest.raises(UserError, match="gender is 'none'"):
        SMPLBody(tmp_path / "a", "smplx", "none")
    with pytest.raises(UserError, match="kind is 'flame'"):
        SMPLBody(tmp_path / "a", "flame")
    with pytest.raises(UserError, match="not a file"):
        SMPLBody(tmp_path / "absent.npz")


class Ch:
    """Stands for an array of chumpy, which the vendor's oldest files are pickled with."""


class Harm:
    """Something that would run when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_pickles_with_anything_but_arrays_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Ch, "__module__", "chumpy.ch")
    with pytest.MonkeyPatch.context() as patch:
        module = types.ModuleType("chumpy.ch")
        module.Ch = Ch
        patch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
        patch.setitem(sys.modules, "chumpy.ch", module)
        old = pickle.dumps(model("smpl") | {"shapedirs": Ch()}, protocol=2)
    (tmp_path / "old.pkl").write_bytes(old)
    with pytest.raises(UserError, match=r"old.pkl holds chumpy objects.*\.npz"):
        SMPLBody(tmp_path / "old.pkl", "smpl")
    (tmp_path / "harm.pkl").write_bytes(pickle.dumps({"v_template": Harm()}))
    with pytest.raises(UserError, match="asks for pathlib.* do not use it"):
        SMPLBody(tmp_path / "harm.pkl", "smpl")
    assert not (tmp_path / "harm").exists()
    (tmp_path / "noise.pkl").write_bytes(b"\x80\x02nonsense")
    with pytest.raises(UserError, match="noise.pkl cannot be read"):
        SMPLBody(tmp_path / "noise.pkl", "smpl")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="holds a list"):
        SMPLBody(tmp_path / "list.pkl", "smpl")


def test_a_plain_file_with_objects_where_numbers_belong_is_refused(tmp_path):
    with pytest.raises(UserError, match="bad.npz cannot be read"):
        SMPLBody(write_npz(tmp_path / "bad.npz", model("smplx") | {"weights": np.array({}, dtype=object)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("weights"), "lacks weights"),
        (lambda a: a.update(weights=a["weights"][:, :-1]), "weights has shape"),
        (lambda a: a.update(posedirs=a["posedirs"][..., :207]), "posedirs has shape"),
        (lambda a: a.update(v_template=a["v_template"] * np.nan), "v_template is not finite"),
        (lambda a: a.update(f=a["f"] + 60), "f names vertices that are not there"),
        (lambda a: a.update(J_regressor=np.array(["a"])), "J_regressor holds"),
        (lambda a: a.update(kintree_table=a["kintree_table"][:, ::-1]), "no tree"),
        (lambda a: a.update(kintree_table=a["kintree_table"][:, :30]), r"30 joints \(no kind that is known\)"),
        (lambda a: a["kintree_table"].__setitem__((0, 13), 12), "do not hang together"),
    ],
)
def test_bad_model_files_are_refused_by_name(change, message, tmp_path):
    arrays = model("smplx")
    change(arrays)
    with pytest.raises(UserError, match=message) as error:
        SMPLBody(write_npz(tmp_path / "bad.npz", arrays))
    assert "bad.npz" in str(error.value)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = write_npz(tmp_path / "h.npz", model("smplh"))
    with pytest.raises(UserError, match=r"52 joints \(smplh\); expected 55, those of smplx"):
        SMPLBody(path, "smplx")
    path.rename(tmp_path / "h.json")
    with pytest.raises(UserError, match="expected .npz or .pkl"):
        SMPLBody(tmp_path / "h.json", "smplh")


def test_the_shape_of_smplx_ends_where_its_expression_begins(tmp_path):
    body = SMPLBody(write_npz(tmp_path / "x.npz", model("smplx")))
    assert SHAPES["smplx"] == 20 and JOINTS["smplx"] == 55
    with pytest.raises(UserError, match="first 10 zero"):
        body.shaped(np.ones(11))


def test_the_surface_without_the_package_says_what_is_missing(tmp_path, monkeypatch, walking_motion):
    body = SMPLBody(write_npz(tmp_path / "x.npz", model("smplx")))
    monkeypatch.setitem(sys.modules, "smplx", None)
    monkeypatch.setitem(sys.modules, "smplx.lbs", None)
    with pytest.raises(UserError, match=r"needs the smplx package: read its licence.*egotwin_sim\[smplx\]"):
        motion_to_mesh(walking_motion(0, 2), body)
