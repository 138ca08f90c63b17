"""Launch and parameter files: against what is installed and declared, and, where ROS 2's launch is there, by it."""

from __future__ import annotations

import ast
import importlib.util
import re
import xml.etree.ElementTree as ElementTree
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from egotwin_sim.ros.configuration import CONFIGS, checked, described
from tests.test_packaging import ROOT, project_scripts

LAUNCH = sorted((ROOT / "ros" / "launch").glob("*.launch.py"))
CONFIG = ROOT / "ros" / "config"
EVERY_NODE = {"use_sim_time"}  # declared by rclpy itself


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Calls of a function in a launch file."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", None) == name]


def arguments(tree: ast.Module) -> dict[str, str]:
    """The table of launch arguments: name and description."""
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "ARGUMENTS"
    ]
    assert isinstance(table, ast.Tuple)
    return {ast.literal_eval(row.elts[0]): ast.literal_eval(row.elts[2]) for row in table.elts}  # type: ignore[attr-defined]


def texts(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.fixture(params=LAUNCH, ids=lambda path: path.name)
def tree(request: pytest.FixtureRequest) -> ast.Module:
    return ast.parse(request.param.read_text(), request.param.name)


def test_there_are_launch_files() -> None:
    assert [path.name for path in LAUNCH] == ["dream_only.launch.py", "live.launch.py"]


def test_every_argument_is_documented_and_used(tree: ast.Module) -> None:
    declared = arguments(tree)
    assert all(text.endswith(".") for text in declared.values())
    used = {ast.literal_eval(call.args[0]) for name in ("LaunchConfiguration", "value") for call in calls(tree, name)
            if call.args and isinstance(call.args[0], ast.Constant)}  # fmt: skip
    assert used == set(declared)


def test_every_executable_is_a_console_script_of_a_main(tree: ast.Module) -> None:
    scripts = project_scripts()
    named = {text for text in texts(tree) if text.endswith("_node")}
    assert named and named <= set(scripts)
    for name in named:
        module, _, function = scripts[name].partition(":")
        found = importlib.util.find_spec(module)
        assert found is not None and found.origin is not None
        defined = [
            node.name for node in ast.parse(Path(found.origin).read_text()).body if isinstance(node, ast.FunctionDef)
        ]
        assert function in defined


def test_every_parameter_that_is_set_is_declared_by_a_node(tree: ast.Module) -> None:
    known = EVERY_NODE.union(*(described(config) for config in CONFIGS.values()))
    keys = {
        ast.literal_eval(key)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if key is not None
    }
    assert keys and keys <= known


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_parameter_files_name_declared_parameters_and_values_that_fit(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert set(content) == {f"/**/{name}" for name in CONFIGS}
    for name, config in CONFIGS.items():
        given = content[f"/**/{name}"]["ros__parameters"]
        table = described(config)
        assert set(given) <= set(table) | EVERY_NODE
        defaults = {key: default for key, (default, _) in table.items()}
        assert all(type(given[key]) is type(defaults[key]) for key in given)
        checked(config, defaults | given)


def test_what_the_launch_files_name_in_the_share_folder_is_there() -> None:
    for path in LAUNCH:
        for name in re.findall(r'"config", "([^"]+)"', path.read_text()):
            assert (CONFIG / name).is_file(), name


def test_the_transport_profile_and_the_rviz_configuration_can_be_read() -> None:
    root = ElementTree.parse(CONFIG / "fastdds_large_images.xml").getroot()
    space = "{http://www.eprosima.com}"
    (segment,) = root.iter(f"{space}segment_size")
    assert int(segment.text or 0) >= 16 * 2**20
    displays = yaml.safe_load((CONFIG / "egotwin.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert {"/egotwin/head_camera/image_raw", "/egotwin/generated/image_raw", "/egotwin/motion"} <= topics


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.name)
def test_ros_makes_the_description(path: Path) -> None:
    pytest.importorskip("launch", reason="launch is part of a ROS 2 installation; it is not on PyPI")
    pytest.importorskip("launch_ros", reason="launch_ros is part of a ROS 2 installation; it is not on PyPI")
    spec = importlib.util.spec_from_file_location("launched", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entities = module.generate_launch_description().entities
    declared = import_module("launch.actions").DeclareLaunchArgument
    assert [entity.name for entity in entities if isinstance(entity, declared)] == [row[0] for row in module.ARGUMENTS]
