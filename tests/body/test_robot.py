from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from egotwin_sim.body.actuation import Gains
from egotwin_sim.body.humanoid import build_humanoid
from egotwin_sim.body.robot import PREFIX, ROTOR_INERTIA, RobotModel, flat_scene, our_robot
from egotwin_sim.errors import UserError
from tests.body.motions import robot_model, walking

PENDULUM = """
<mujoco>
  <worldbody>
    <body name="trunk" pos="0 0 1">
      <freejoint name="root"/>
      <geom type="box" size=".1 .2 .2" mass="20"/>
      <camera name="eyes"/>
      <body name="left" pos="0 .1 -.3">
        <joint name="left_hip" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.6" size=".04" mass="3"/>
        <geom type="box" pos=".05 0 -.65" size=".1 .04 .02" mass=".5"/>
      </body>
      <body name="right" pos="0 -.1 -.3">
        <joint name="right_hip" axis="0 1 0" actuatorfrcrange="-7 7"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.6" size=".04" mass="3"/>
        <geom type="box" pos=".05 0 -.65" size=".1 .04 .02" mass=".5"/>
      </body>
      {more}
    </body>
  </worldbody>
</mujoco>
"""


def pendulum(more: str = "", **changes):
    def make_spec() -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(PENDULUM.format(more=more))

    robot = replace(our_robot(), name="pendulum", make_spec=make_spec, head_body="trunk", head_camera="eyes")
    return replace(robot, skeleton=None, standing={}, **changes)


def test_standing_soles_touch_the_floor_and_the_head_is_up():
    model = robot_model()
    soles = model.sole_points(model.standing[None])[0]
    np.testing.assert_allclose(soles[:, 2], 0.0, atol=1e-6)
    head = model.head_poses(model.standing[None])[0]
    assert 1.5 < head[2, 3] < 1.75
    np.testing.assert_allclose(head[:3, :3], np.eye(3), atol=1e-9)


def test_feet_are_ankle_and_toes_of_either_leg():
    model = robot_model()
    names = [[model.model.body(b).name.removeprefix(PREFIX) for b in foot.bodies] for foot in model.feet]
    assert names == [["left_ankle", "left_foot"], ["right_ankle", "right_foot"]]


def test_coordinates_map_into_a_scene_with_joints_of_its_own():
    scene = flat_scene()
    door = scene.worldbody.add_body(name="pelvis", pos=[3.0, 0.0, 1.0])  # a name that the robot has as well
    door.add_joint(name="door_hinge", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1])
    door.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.5, 0.02, 1.0])
    model = RobotModel(our_robot(), scene)
    assert (
        model.model.nq == model.bare.nq + 1
        and mujoco.mj_name2id(scene.compile(), mujoco.mjtObj.mjOBJ_BODY, PREFIX + "pelvis") == -1
    )  # the scene that was given is as it was
    qpos = walking().qpos[10]
    data = mujoco.MjData(model.model)
    data.qpos[model.qpos_index] = qpos
    mujoco.mj_kinematics(model.model, data)
    np.testing.assert_allclose(data.xpos[model.bodies], model.joint_positions(qpos[None])[0], atol=1e-12)
    np.testing.assert_allclose(model.T_world_head(data), model.head_poses(qpos[None])[0], atol=1e-12)
    assert abs(model.mass_kg - model.bare.body_mass.sum()) < 1e-9


def test_any_humanoid_gets_servos_from_its_own_masses():
    model = RobotModel(pendulum())
    assert model.joint_names == ("left_hip", "right_hip") and len(model.feet) == 2
    assert model.bare.dof_armature[6] == ROTOR_INERTIA
    servos, weight = model.servos, 27 * 9.81
    # Trunk and the other leg: as much hangs under the hip as stands over it, so there is little to topple.
    assert servos.support[0] < 0.1 * Gains().support * weight
    assert 50.0 < servos.torque_limit[0] < 3.0 * weight and servos.torque_limit[1] == 7.0
    heavier = RobotModel(pendulum('<geom type="sphere" size=".1" pos="0 0 1" mass="60"/>'))
    assert heavier.servos.support[0] > servos.support[0] + 100.0
    assert heavier.servos.torque_limit[0] > servos.torque_limit[0]


def test_supports_are_stiff_enough_to_stand_on():
    model = robot_model()
    ankles = [i for i, name in enumerate(model.joint_names) if name.endswith("ankle_y")]
    assert model.servos.support[ankles].sum() > 3.0 * model.weight_n * 0.9  # weight times height: what topples
    arms = [i for i, name in enumerate(model.joint_names) if "shoulder" in name or "wrist" in name]
    assert not model.servos.support[arms].any()


@pytest.mark.parametrize(
    ("robot", "complaint"),
    [
        (pendulum(head_body="skull"), "no body 'skull'"),
        (pendulum(head_camera="skull"), "no camera 'skull'"),
        (pendulum(root_joint="base"), "exactly one, 'base'"),
        (
            pendulum('<body><joint name="lift" type="slide"/><geom size=".1"/></body>'),
            "'lift' is neither free nor a hinge",
        ),
        (replace(pendulum(), make_spec=mujoco.MjSpec), "0 free joints"),
    ],
)
def test_what_is_no_humanoid_is_refused(robot, complaint):
    with pytest.raises(UserError, match=complaint):
        RobotModel(robot)


def test_robot_without_touching_geoms_is_refused():
    def make_spec() -> mujoco.MjSpec:
        spec = build_humanoid()
        for geom in spec.geoms:
            geom.contype = geom.conaffinity = 0
        return spec

    with pytest.raises(UserError, match="no geom that touches"):
        RobotModel(replace(our_robot(), make_spec=make_spec))


def test_numbers_out_of_range_are_refused():
    with pytest.raises(UserError, match="timestep"):
        RobotModel(our_robot(), timestep=0.1)
    with pytest.raises(UserError, match="strength"):
        Gains(strength=0.0)
    with pytest.raises(UserError, match="expected \\(T, 70\\)"):
        robot_model().head_poses(np.zeros((3, 7)))
