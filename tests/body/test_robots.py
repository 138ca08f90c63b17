from __future__ import annotations

import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from egotwin_sim.body.humanoid import HEAD_CAMERA, HEAD_GROUP
from egotwin_sim.body.retargeting.table import load_table, table_names
from egotwin_sim.body.retargeting.table_robot import TableRobot
from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.robots import find_robot
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Skeleton
from tests.body.retargeting.imp import LEG, imp, installed, mjcf, table, write


def test_ours_is_built_from_the_skeleton() -> None:
    robot = find_robot("ours", Skeleton.default(1.6))
    assert robot.name == "ours"
    assert robot.skeleton is not None and robot.skeleton.rest_root_height < Skeleton.default().rest_root_height


def test_a_file_gives_the_humanoid_alone(tmp_path: Path) -> None:
    spec = imp(tmp_path).make_spec()
    assert [body.name for body in spec.worldbody.bodies] == ["hips"]
    assert not [*spec.worldbody.geoms, *spec.lights, *spec.actuators, *spec.sensors]
    assert [camera.name for camera in spec.cameras] == [HEAD_CAMERA]
    model = spec.compile()
    assert model.nq == 7 + 27 and model.nu == 0


def test_specs_are_fresh(tmp_path: Path) -> None:
    robot = imp(tmp_path)
    robot.make_spec().worldbody.add_geom(size=[0.1, 0, 0])
    assert not robot.make_spec().worldbody.geoms


def test_a_file_stands_upright_and_faces_x_in_a_scene(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    robot = imp(tmp_path)
    model = RobotModel(robot)
    assert robot.root_joint == "root"  # the file gives its free joint no name
    head = model.head_poses(model.standing[None])[0]
    np.testing.assert_allclose(head[:3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(head[:3, 3], [0.08, 0.0, LEG + 0.02 + 0.05 + 0.27 + 0.09], atol=1e-6)
    assert model.model.opt.gravity[2] == pytest.approx(-9.81)  # the file's options are not the scene's
    assert not recwarn.list


def test_the_camera_looks_along_the_heads_x_and_not_at_the_head(tmp_path: Path) -> None:
    model = RobotModel(imp(tmp_path)).model
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = data.camera(f"robot/{HEAD_CAMERA}")
    head = data.body("robot/skull")
    np.testing.assert_allclose(-camera.xmat.reshape(3, 3)[:, 2], head.xmat.reshape(3, 3)[:, 1], atol=1e-6)
    np.testing.assert_allclose(camera.xmat.reshape(3, 3)[:, 1], head.xmat.reshape(3, 3)[:, 0], atol=1e-6)
    assert model.geom("robot/face").group[0] == HEAD_GROUP
    helmet = model.geom("robot/helmet")  # of a group that viewers do not draw
    assert helmet.group[0] != HEAD_GROUP and helmet.rgba[3] == 0.0


def test_a_table_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path)
    moved = path.with_suffix(".yaml").rename(tmp_path / "other.yaml")
    with pytest.raises(UserError, match=r"no retarget table imp.yaml.*--table"):
        find_robot(path)
    assert find_robot(path, table=moved).name == "imp"


def test_meshes_are_found_from_any_scene(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    corners = [(0, 0, 0), (0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1)]
    faces = ["1 3 2", "1 2 4", "1 4 3", "2 3 4"]
    (tmp_path / "assets" / "wedge.obj").write_text(
        "".join("v {} {} {}\n".format(*corner) for corner in corners) + "".join(f"f {face}\n" for face in faces)
    )
    text = mjcf(head_camera='<geom type="mesh" mesh="wedge"/>')
    text = text.replace("<compiler ", '<compiler meshdir="assets" ')
    text = text.replace("<worldbody>", '<asset><mesh name="wedge" file="wedge.obj"/></asset><worldbody>')
    path = write(tmp_path)
    path.write_text(text)
    assert RobotModel(find_robot(path)).model.nmesh == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"free_joint": ""}, "no free joint; put <freejoint/>"),
        ({"extra": '<body name="ball"><freejoint/><geom size="0.1"/></body>'}, "2 free joints, on 'ball', 'hips'"),
        ({"waist": "ball"}, "'waist' of 'trunk' is neither free nor a hinge"),
        ({"head_camera": '<joint axis="0 1 0"/>'}, "hinge of the body 'skull' has no name"),
        ({"extra": "<nonsense/>"}, "no MJCF that MuJoCo can read"),
    ],
)
def test_files_that_are_no_humanoid_are_refused(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_robot(write(tmp_path, **parts))


def test_surroundings_and_a_camera_of_the_same_name_do_no_harm(tmp_path: Path) -> None:
    extra = '<body name="table" pos="2 0 0"><geom name="top" size="0.1"/></body>'
    path = write(tmp_path, extra=extra, head_camera=f'<camera name="{HEAD_CAMERA}"/>')
    path.write_text(
        path.read_text().replace("</mujoco>", '<contact><pair geom1="top" geom2="face"/></contact></mujoco>')
    )
    assert find_robot(path).make_spec().compile().ncam == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": {"body": "crown", "position": [0, 0, 0]}}, "head names the body 'crown', which the robot lacks"),
        ({"head": {"body": "skull", "position": [0, 0, 0], "hidden": ["hat"]}}, "hidden names 'hat'"),
        ({"pose": {"left_wing": 90}}, "pose names the hinge 'left_wing'"),
        ({"rest": {"left_knee_flex": -20}}, r"rest.left_knee_flex is -20 degrees.*limits, 0.0 to 150.0"),
        ({"legs": {"left": ["left_thigh", "left_hoof"], "right": ["right_thigh", "right_foot"]}}, "body 'left_hoof'"),
        ({"match": [*table()["match"], {"body": "tail", "joint": "neck"}]}, "match names the body 'tail'"),
    ],
)
def test_a_table_that_names_what_the_robot_lacks_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_robot(write(tmp_path, {**table(), **change}))


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(UserError, match="there is no body 'g2'; give ours, cmu, g1 or the path"):
        find_robot("g2")


@pytest.mark.parametrize(("name", "package"), [("g1", "mjlab"), ("cmu", "dm_control")])
def test_a_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install --no-deps {package}.*or give the path.*--table {name}"):
        find_robot(name)


def test_a_package_without_the_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mjlab").mkdir()
    (tmp_path / "mjlab" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(UserError, match="mjlab has no asset_zoo/.*another version"):
        find_robot("g1")


def test_every_packaged_table_says_where_its_robot_is() -> None:
    assert table_names() == ["cmu", "g1"]
    assert all(load_table(name).source is not None for name in table_names())


@pytest.mark.parametrize(("name", "package", "hinges"), [("g1", "mjlab", 29), ("cmu", "dm_control", 56)])
def test_shipped_robots_stand_with_their_heads_up(name: str, package: str, hinges: int) -> None:
    installed(package)
    robot = find_robot(name)
    assert isinstance(robot, TableRobot) and package not in sys.modules
    model = RobotModel(robot)
    assert len(model.joint_names) == hinges
    head = model.head_poses(model.standing[None])[0]
    np.testing.assert_allclose(head[:3, :3], np.eye(3), atol=1e-3)
    assert 1.2 < head[2, 3] < 1.6 and abs(head[1, 3]) < 0.01 and 0.0 < head[0, 3] < 0.15


def test_a_users_copy_of_a_shipped_robot_takes_the_shipped_table() -> None:
    path = installed("dm_control") / "suite" / "humanoid_CMU.xml"
    assert find_robot(path, table="cmu").name == "humanoid_CMU"
