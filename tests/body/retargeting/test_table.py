from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from egotwin_sim.body.retargeting import load_table, table_names
from egotwin_sim.errors import UserError
from tests.body.retargeting.imp import imp, table


def saved(folder: Path, values: Any) -> Path:
    path = folder / "robot.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def test_angles_are_degrees_in_the_file_and_radians_in_the_table(tmp_path: Path) -> None:
    read = load_table(saved(tmp_path, table()))
    assert read.pose["left_shoulder_lean"] == pytest.approx(np.pi / 2)
    assert read.leg_scale is None and read.source is None
    assert [match.body for match in read.match][:2] == ["hips", "trunk"]


@pytest.mark.parametrize("name", ["g1", "cmu"])
def test_packaged_tables_are_symmetric(name: str) -> None:
    read = load_table(name)
    weights = {match.joint: (match.position, match.rotation) for match in read.match}
    for joint, mine in weights.items():
        assert weights[joint.replace("left_", "right_")] == mine
    assert name in table_names()


def test_rest_keeps_within_limits_where_the_table_says_nothing(tmp_path: Path) -> None:
    robot = imp(tmp_path)
    spec = robot.make_spec()
    for joint in spec.joints:
        if joint.name == "left_knee_flex":
            joint.range = [np.deg2rad(15.0), np.deg2rad(150.0)]
    spec.compiler.degree = False
    model = spec.compile()
    assert model.jnt_range[model.joint("left_knee_flex").id, 0] > 0.0
    qpos = robot.table.at_rest(model)
    at = model.joint("left_knee_flex").qposadr[0]
    assert qpos[at] == pytest.approx(model.jnt_range[model.joint("left_knee_flex").id, 0])


def changed(**parts: Any) -> dict:
    return {**table(), **parts}


def without(key: str) -> dict:
    return {name: value for name, value in table().items() if name != key}


def matched(**parts: Any) -> dict:
    first, *others = table()["match"]
    return changed(match=[{**first, **parts}, *others])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("3", "the table is 3; expected a section"),
        (changed(legz={}), "unknown key 'legz'"),
        (without("head"), "the table lacks head"),
        (changed(root={"forward": [1, 0], "up": [0, 0, 1]}), r"root.forward is \[1, 0\]; expected three numbers"),
        (changed(root={"forward": [1, 0, 0], "up": [1, 0, 0]}), "at a right angle"),
        (changed(root={"forward": [0, 0, 0], "up": [0, 0, 1]}), "at a right angle"),
        (
            changed(head={"body": "skull", "position": [0, 0, "high"]}),
            "head.position is 'high'",
        ),
        (changed(head={"body": "skull", "position": [0, 0, float("nan")]}), "expected a finite number"),
        (changed(head={"body": "skull", "position": [0, 0, 0], "hidden": "face"}), "head.hidden is 'face'"),
        (changed(pose=[1]), r"pose is \[1\]; expected hinge names with angles"),
        (changed(pose={"left_elbow_flex": True}), "pose.left_elbow_flex is True"),
        (changed(legs={"left": ["a", "b"]}), "legs lacks right"),
        (changed(legs={"left": ["a"], "right": ["a", "b"]}), "expected a list of 2 names"),
        (changed(scale={"legs": -1}), "scale.legs is -1; expected a positive factor"),
        (changed(scale={"arms": "long"}), "scale.arms is 'long'"),
        (changed(source={"package": "x"}), "source lacks pip, file"),
        (changed(match={}), "match is {}; expected a list"),
        (changed(match=table()["match"][1:]), "has no body for pelvis"),
        (matched(joint="tail"), "names our joint 'tail'; expected one of pelvis"),
        (matched(position=[1]), r"match\[0\].position is \[1\]; expected two weights"),
        (matched(rotation=[1, -2]), "expected weights of 0 or more"),
        (matched(body="trunk"), "names the body 'trunk' again"),
        (matched(weight=3), "unknown key 'weight'"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_table(saved(tmp_path, values))


def test_a_missing_table_tells_the_packaged_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no retarget table .*nothing.yaml; give a YAML file, or one of cmu, g1"):
        load_table(tmp_path / "nothing.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="cannot be read"):
        load_table(path)
