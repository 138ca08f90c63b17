from __future__ import annotations

import mujoco
import numpy as np
import pytest

from egotwin_sim.body.humanoid import HAND_LENGTH, build_humanoid, hinge_limits, hinge_names
from egotwin_sim.body.kinematics import BodyKinematics
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.motion.rotations import axis_angle_to_quat, quat_to_matrix

SKELETON = Skeleton.default()


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_humanoid().compile()


def random_motion(frames: int, spread: float, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    turns = rng.normal(scale=spread, size=(frames, SKELETON.num_joints, 3))
    return Motion(rng.normal(size=(frames, 3)), axis_angle_to_quat(turns))


def swing(joint: str, axis: str, start: float, stop: float, frames: int = 80) -> Motion:
    """One joint turns about one axis, degrees."""
    quat = np.zeros((frames, SKELETON.num_joints, 4))
    quat[..., 0] = 1.0
    turn = np.zeros((frames, 3))
    turn[:, "xyz".index(axis)] = np.deg2rad(np.linspace(start, stop, frames))
    quat[:, SKELETON.index[joint]] = axis_angle_to_quat(turn)
    return Motion(np.zeros((frames, 3)), quat)


@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
def test_qpos_round_trip_keeps_every_rotation(model: mujoco.MjModel, spread: float) -> None:
    motion = random_motion(40, spread)
    kinematics = BodyKinematics(model)
    back = kinematics.motion_from_qpos(kinematics.qpos_from_motion(motion))
    np.testing.assert_allclose(back.root_position, motion.root_position, atol=1e-6)
    np.testing.assert_allclose(quat_to_matrix(back.joint_quat_wxyz), quat_to_matrix(motion.joint_quat_wxyz), atol=2e-6)


def test_round_trip_at_the_singularity(model: mujoco.MjModel) -> None:
    motion = swing("left_shoulder", "z", -90.0, -90.0, frames=1)
    kinematics = BodyKinematics(model)
    back = kinematics.motion_from_qpos(kinematics.qpos_from_motion(motion))
    np.testing.assert_allclose(quat_to_matrix(back.joint_quat_wxyz), quat_to_matrix(motion.joint_quat_wxyz), atol=2e-6)


def test_mujoco_places_every_joint_where_the_skeleton_does(model: mujoco.MjModel) -> None:
    motion = random_motion(5, 0.7)
    positions, rotations = motion.joint_transforms()
    data = mujoco.MjData(model)
    for t, qpos in enumerate(BodyKinematics(model).qpos_from_motion(motion)):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        for j, name in enumerate(SKELETON.names):
            np.testing.assert_allclose(data.body(name).xpos, positions[t, j], atol=1e-5)
            np.testing.assert_allclose(data.body(name).xmat.reshape(3, 3), rotations[t, j], atol=1e-5)


@pytest.mark.parametrize(
    ("joint", "axis", "start", "stop"),
    [
        ("left_knee", "y", 0, 150),
        ("right_hip", "y", 30, -130),
        ("left_elbow", "z", 0, -150),
        ("right_elbow", "z", 0, 150),
        ("left_shoulder", "z", 60, -130),
        ("head", "z", -170, 170),
        ("left_shoulder", "x", -200, 200),
    ],
)
def test_angles_of_a_smooth_motion_do_not_jump(
    model: mujoco.MjModel, joint: str, axis: str, start: float, stop: float
) -> None:
    motion = swing(joint, axis, start, stop)
    qpos = BodyKinematics(model).qpos_from_motion(motion)
    step = np.deg2rad(abs(stop - start)) / (len(motion) - 1)
    assert np.abs(np.diff(qpos[:, 7:], axis=0)).max() < 1.01 * step + 1e-4


def test_frames_given_one_at_a_time_match_the_whole(model: mujoco.MjModel) -> None:
    motion = swing("left_shoulder", "x", -200, 200)
    kinematics = BodyKinematics(model)
    whole = kinematics.qpos_from_motion(motion)
    previous = None
    for t in range(len(motion)):
        previous = kinematics.qpos_from_motion(motion[t], previous)[0]
        np.testing.assert_allclose(previous, whole[t], atol=1e-9)


def test_limits_are_those_of_the_model_and_mirror(model: mujoco.MjModel) -> None:
    for joint in SKELETON.names[1:]:
        for hinge, limits in zip(hinge_names(joint), hinge_limits(joint), strict=True):
            assert model.joint(hinge).limited
            np.testing.assert_allclose(model.joint(hinge).range, limits)
    left, right = hinge_limits("left_hip"), hinge_limits("right_hip")
    np.testing.assert_allclose(left[0], right[0])
    np.testing.assert_allclose(left[1], -right[1, ::-1])


def test_limit_excess_names_the_hinge_that_bends_too_far(model: mujoco.MjModel) -> None:
    kinematics = BodyKinematics(model)
    assert kinematics.limit_excess(kinematics.qpos_from_motion(swing("left_knee", "y", 0, 120))) == {}
    excess = kinematics.limit_excess(kinematics.qpos_from_motion(swing("left_knee", "y", 0, -60)))
    assert set(excess) == {"left_knee_y"}
    assert excess["left_knee_y"] == pytest.approx(np.deg2rad(50), abs=1e-4)


def test_soles_touch_the_floor_in_the_rest_pose(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for name in ("left_leg/foot", "right_leg/toes"):
        geom = data.geom(name)
        assert geom.xpos[2] - model.geom(name).size[2] == pytest.approx(0.0, abs=1e-6)


def test_palms_lie_in_the_hands_and_scale_with_stature() -> None:
    for stature in (1.4, 1.75, 2.0):
        skeleton = Skeleton.default(stature)
        model = build_humanoid(skeleton).compile()
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        reach = data.site("left_palm").xpos - data.body("left_wrist").xpos
        assert 0.0 < reach[1] < HAND_LENGTH * stature / 1.75


def test_a_model_without_the_humanoid_is_refused() -> None:
    with pytest.raises(UserError, match="no joint 'root'"):
        BodyKinematics(mujoco.MjSpec().compile())


def test_qpos_of_a_wrong_width_is_refused(model: mujoco.MjModel) -> None:
    with pytest.raises(UserError, match="expected"):
        BodyKinematics(model).motion_from_qpos(np.zeros((2, 5)))


def test_exported_model_loads_again() -> None:
    spec = build_humanoid()
    model = spec.compile()
    again = mujoco.MjModel.from_xml_string(spec.to_xml())
    assert again.nq == model.nq == 7 + 3 * (SKELETON.num_joints - 1)
    np.testing.assert_allclose(again.jnt_range, model.jnt_range, atol=1e-5)
