"""A small humanoid of other proportions and other axes than ours, written as MJCF, with its retarget table.

In every body x is up, y forward and z left. Its arms hang at zero angles; it has no toes and one hinge in the wrist.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from egotwin_sim.body.retargeting.table_robot import TableRobot
from egotwin_sim.body.robots import find_robot

THIGH, SHIN, UPPER_ARM, FOREARM, ANKLE_HEIGHT = 0.24, 0.20, 0.14, 0.17, 0.05
LEG = THIGH + SHIN + ANKLE_HEIGHT
ARM = UPPER_ARM + FOREARM
UP, FORWARD, LEFT = "1 0 0", "0 1 0", "0 0 1"
BALL = ((LEFT, "flex"), (FORWARD, "lean"), (UP, "turn"))


def _hinges(part: str, ranges: dict[str, tuple[float, float]]) -> str:
    axes = {name: axis for axis, name in BALL}
    return "".join(
        f'<joint name="{part}_{name}" axis="{axes[name]}" range="{low} {high}"/>'
        for name, (low, high) in ranges.items()
    )


def _leg(side: str, sign: int) -> str:
    lean = (-30, 60) if sign > 0 else (-60, 30)
    return f"""
    <body name="{side}_thigh" pos="-0.02 0 {0.07 * sign}">
      {_hinges(f"{side}_hip", {"flex": (-130, 50), "lean": lean, "turn": (-60, 60)})}
      <geom type="capsule" fromto="0 0 0 {-THIGH} 0 0" size="0.04"/>
      <body name="{side}_shin" pos="{-THIGH} 0 0">
        {_hinges(f"{side}_knee", {"flex": (0, 150)})}
        <geom type="capsule" fromto="0 0 0 {-SHIN} 0 0" size="0.035"/>
        <body name="{side}_foot" pos="{-SHIN} 0 0">
          {_hinges(f"{side}_ankle", {"flex": (-60, 60), "lean": (-40, 40)})}
          <geom name="{side}_sole" type="box" pos="{-ANKLE_HEIGHT + 0.02} 0.04 0" size="0.02 0.09 0.035"/>
        </body>
      </body>
    </body>"""


def _arm(side: str, sign: int) -> str:
    return f"""
    <body name="{side}_upper_arm" pos="0.2 0 {0.12 * sign}">
      {
        _hinges(
            f"{side}_shoulder",
            {"flex": (-180, 90), "lean": (-20, 170) if sign > 0 else (-170, 20), "turn": (-120, 120)},
        )
    }
      <geom type="capsule" fromto="0 0 0 {-UPPER_ARM} 0 0" size="0.025"/>
      <body name="{side}_forearm" pos="{-UPPER_ARM} 0 0">
        {_hinges(f"{side}_elbow", {"flex": (-150, 0)})}
        <geom type="capsule" fromto="0 0 0 {-FOREARM} 0 0" size="0.02"/>
        <body name="{side}_hand" pos="{-FOREARM} 0 0">
          {_hinges(f"{side}_wrist", {"turn": (-150, 150)})}
          <geom type="box" pos="-0.04 0 0" size="0.04 0.03 0.01"/>
        </body>
      </body>
    </body>"""


def mjcf(free_joint: str = "<freejoint/>", extra: str = "", waist: str = "hinge", head_camera: str = "") -> str:
    """The file: the humanoid on a floor, with a lamp, motors, a sensor and a keyframe.

    Args:
        free_joint: of the root.
        extra: elements of the world.
        waist: type of the joint between pelvis and trunk.
        head_camera: element of the head.
    """
    middle = (
        _hinges("waist", {"flex": (-30, 60), "lean": (-30, 30), "turn": (-60, 60)})
        if waist == "hinge"
        else f'<joint name="waist" type="{waist}"/>'
    )
    return f"""<mujoco model="imp">
  <compiler autolimits="true"/>
  <option timestep="0.001" gravity="0 0 -3"/>
  <visual><map znear="0.5"/></visual>
  <worldbody>
    <geom name="ground" type="plane" size="5 5 0.1"/>
    <light pos="0 0 3"/>
    <camera name="aside" pos="0 -3 1"/>
    {extra}
    <body name="hips" pos="0 0 0.6" euler="0 -90 30">
      {free_joint}
      <geom type="box" size="0.05 0.06 0.1"/>
      {_leg("left", 1)}{_leg("right", -1)}
      <body name="trunk" pos="0.05 0 0">
        {middle}
        <geom type="box" pos="0.12 0 0" size="0.1 0.06 0.1"/>
        {_arm("left", 1)}{_arm("right", -1)}
        <body name="skull" pos="0.27 0 0">
          {_hinges("neck", {"flex": (-40, 50), "turn": (-80, 80)})}
          {head_camera}
          <geom name="face" type="sphere" pos="0.08 0 0" size="0.08"/>
          <geom name="helmet" type="sphere" pos="0.08 0 0" size="0.09" group="4"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="left_knee_flex"/></actuator>
  <sensor><jointpos joint="left_knee_flex"/></sensor>
</mujoco>"""


def table() -> dict:
    """Its retarget table."""
    match = [
        {"body": "hips", "joint": "pelvis", "position": [100, 100], "rotation": [10, 10]},
        {"body": "trunk", "joint": "spine3", "rotation": [10, 10]},
        {"body": "skull", "joint": "head", "rotation": [10, 10]},
    ]
    for side in ("left", "right"):
        match += [
            {"body": f"{side}_thigh", "joint": f"{side}_hip", "rotation": [10, 2]},
            {"body": f"{side}_shin", "joint": f"{side}_knee", "rotation": [10, 2]},
            {"body": f"{side}_foot", "joint": f"{side}_ankle", "position": [100, 100], "rotation": [10, 30]},
            {"body": f"{side}_upper_arm", "joint": f"{side}_shoulder", "rotation": [10, 2]},
            {"body": f"{side}_forearm", "joint": f"{side}_elbow", "position": [0, 20], "rotation": [10, 2]},
            {"body": f"{side}_hand", "joint": f"{side}_wrist", "position": [0, 20], "rotation": [5, 1]},
        ]
    return {
        "root": {"forward": [0, 1, 0], "up": [1, 0, 0]},
        "head": {"body": "skull", "position": [0.09, 0.08, 0], "hidden": ["face"]},
        "pose": {"left_shoulder_lean": 90, "right_shoulder_lean": -90},
        "rest": {"left_shoulder_lean": 5, "right_shoulder_lean": -5, "left_elbow_flex": -10, "right_elbow_flex": -10},
        "legs": {side: [f"{side}_thigh", f"{side}_foot"] for side in ("left", "right")},
        "arms": {side: [f"{side}_upper_arm", f"{side}_hand"] for side in ("left", "right")},
        "match": match,
    }


def write(folder: Path, values: dict | None = None, **parts: str) -> Path:
    """Write imp.xml and imp.yaml to a folder; returns the path of the MJCF."""
    path = folder / "imp.xml"
    path.write_text(mjcf(**parts))
    path.with_suffix(".yaml").write_text(yaml.safe_dump(table() if values is None else values))
    return path


def imp(folder: Path, values: dict | None = None) -> TableRobot:
    """The robot."""
    robot = find_robot(write(folder, values))
    assert isinstance(robot, TableRobot)
    return robot


def installed(package: str) -> Path:
    """The folder of an installed package, without importing it; skips the test where it is missing."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(found.submodule_search_locations[0])
