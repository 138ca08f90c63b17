"""Trajectories and calibrations of MPS: read as written, interpolated, and refused where they are broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from egotwin_sim.data.convert.mps import RGB, read_closed_loop, read_online_calibration, read_open_loop
from egotwin_sim.errors import UserError
from egotwin_sim.motion.rotations import rotation_angle
from tests.data.convert.aria_files import (
    DEVICE_START,
    PARAMS,
    T_DEVICE_CAMERA,
    T_HEAD_DEVICE,
    Person,
    write_calibration,
    write_trajectory,
)

PERSON = Person()


@pytest.fixture
def trajectory(tmp_path: Path) -> Path:
    write_trajectory(tmp_path / "closed_loop_trajectory.csv", PERSON, 0.0, 2.0)
    return tmp_path / "closed_loop_trajectory.csv"


def changed(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    change(pd.read_csv(path)).to_csv(path, index=False)
    return path


def test_poses_between_poses(trajectory: Path) -> None:
    found = read_closed_loop(trajectory)
    assert len(found) == 500 and not found.notes
    times = np.array([0.0021, 0.5, 1.2345, 1.995])
    truth = PERSON.T_world_head(times) @ T_HEAD_DEVICE
    poses = found.at(DEVICE_START + times)
    assert np.abs(poses[:, :3, 3] - truth[:, :3, 3]).max() < 1e-5
    assert rotation_angle(poses[:, :3, :3], truth[:, :3, :3]).max() < 1e-4


def test_no_pose_is_made_up(trajectory: Path) -> None:
    found = read_closed_loop(changed(trajectory, lambda table: table.drop(range(100, 150))))
    np.testing.assert_allclose(np.array(found.spans) - DEVICE_START, [(0.0, 0.396), (0.6, 1.996)], atol=1e-6)
    found.at(DEVICE_START + np.array([0.0, 0.39]))
    for times in ([0.39, 0.45], [-0.1, 0.1], [1.9, 2.1]):
        with pytest.raises(UserError, match="no poses all the way"):
            found.at(DEVICE_START + np.array(times))


def test_the_open_loop_has_other_names_for_the_same(trajectory: Path) -> None:
    table = pd.read_csv(trajectory)
    names = {name: name.replace("_world", "_odometry") for name in table.columns if "_world" in name}
    table.rename(columns={**names, "graph_uid": "session_uid"}).to_csv(trajectory.with_name("open.csv"), index=False)
    assert np.array_equal(
        read_open_loop(trajectory.with_name("open.csv")).position, read_closed_loop(trajectory).position
    )
    with pytest.raises(UserError, match="lacks the columns tx_odometry_device"):
        read_open_loop(trajectory)


def spoil(row: int, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (spoil(7, "qw_world_device", 3.0), "the quaternion at 5831.028000 s has the length"),
        (spoil(7, "tx_world_device", np.nan), "tx_world_device in row 8 is nan; expected a finite number"),
        (spoil(7, "tx_world_device", "left"), "tx_world_device in row 8 is left; expected a finite number"),
        (spoil(7, "tracking_timestamp_us", 5), "the timestamp 5 follows 5831024000; expected rising ones"),
        (lambda table: table.drop(columns="ty_world_device"), "lacks the columns ty_world_device"),
        (lambda table: table.drop(range(1, 500)), "has 1 poses; expected at least 2"),
        (lambda table: table.assign(gravity_y_world=-9.81), "expected a world whose z axis points up"),
    ],
)
def test_a_broken_trajectory_is_refused(trajectory: Path, change: Callable, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_closed_loop(changed(trajectory, change))


def test_what_is_no_trajectory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        read_closed_loop(tmp_path / "nothing.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read as a trajectory"):
        read_closed_loop(tmp_path / "empty.csv")


def test_the_calibration_nearest_in_time(tmp_path: Path) -> None:
    path = tmp_path / "online_calibration.jsonl"
    write_calibration(path)
    lines = path.read_text().splitlines()
    record = json.loads(lines[4])
    record["CameraCalibrations"][1]["Projection"]["Params"][0] = 600.0
    path.write_text("\n".join([*lines[:4], json.dumps(record), *lines[5:]]))
    found = read_online_calibration(path)
    assert found.camera(RGB, DEVICE_START + 3.3).focal == 600.0
    camera = found.camera(RGB, DEVICE_START + 8.0)
    assert camera.focal == PARAMS[0] and (camera.width, camera.height) == (1408, 1408)
    np.testing.assert_allclose(camera.centre, np.array(PARAMS[1:3]) + 0.5)
    np.testing.assert_allclose(camera.T_device_camera, T_DEVICE_CAMERA, atol=1e-12)
    with pytest.raises(UserError, match="no calibration of camera-et; it has camera-rgb, camera-slam-left"):
        found.camera("camera-et", DEVICE_START)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("{", ":1 is no calibration record"),
        ('{"tracking_timestamp_us": 1}', ":1 is no calibration record"),
    ],
)
def test_a_broken_calibration_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError, match=told):
        read_online_calibration(tmp_path / "a.jsonl")


def test_calibrations_that_go_back_in_time_are_refused(tmp_path: Path) -> None:
    write_calibration(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join(lines[::-1]))
    with pytest.raises(UserError, match="do not rise"):
        read_online_calibration(tmp_path / "a.jsonl")
    write_calibration(tmp_path / "b.jsonl", [-1.0, *PARAMS[1:]])
    with pytest.raises(UserError, match=r"b.jsonl:1: a camera has 15 parameters"):
        read_online_calibration(tmp_path / "b.jsonl")
