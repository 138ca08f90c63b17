"""Meta's own reader agrees with ours on MPS files and on the camera; skipped where projectaria-tools is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data.convert.fisheye import FisheyeCamera, Undistortion
from egotwin_sim.data.convert.mps import RGB, read_closed_loop, read_online_calibration, read_open_loop
from egotwin_sim.motion.rotations import rotation_angle
from tests.data.convert.aria_files import PARAMS, T_DEVICE_CAMERA, Person, write_calibration, write_trajectory

core = pytest.importorskip("projectaria_tools.core")
pytest.importorskip("projectaria_tools.core.mps")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pandas as pd

    folder = tmp_path_factory.mktemp("slam")
    write_trajectory(folder / "closed_loop_trajectory.csv", Person(), 0.0, 2.0)
    write_calibration(folder / "online_calibration.jsonl")
    table = pd.read_csv(folder / "closed_loop_trajectory.csv")
    names = {name: name.replace("_world", "_odometry") for name in table.columns if "_world" in name}
    names |= {f"device_linear_velocity_{axis}_device": f"device_linear_velocity_{axis}_odometry" for axis in "xyz"}
    opened = table.rename(columns={**names, "graph_uid": "session_uid"})
    opened.to_csv(folder / "open_loop_trajectory.csv", index=False)
    return folder


def camera(params: list[float], size: int) -> object:
    from projectaria_tools.core import calibration, sophus

    pose = sophus.SE3.from_matrix(T_DEVICE_CAMERA)
    model = calibration.CameraModelType.FISHEYE624
    return calibration.CameraCalibration(RGB, model, np.array(params), pose, size, size, None, np.pi, "")


def test_trajectories_are_the_same(folder: Path) -> None:
    from projectaria_tools.core import mps

    for ours, theirs, pose in (
        (read_closed_loop(folder / "closed_loop_trajectory.csv"),
         mps.read_closed_loop_trajectory(str(folder / "closed_loop_trajectory.csv")), "transform_world_device"),
        (read_open_loop(folder / "open_loop_trajectory.csv"),
         mps.read_open_loop_trajectory(str(folder / "open_loop_trajectory.csv")), "transform_odometry_device"),
    ):  # fmt: skip
        assert len(ours) == len(theirs) == 500
        times = np.array([each.tracking_timestamp.total_seconds() for each in theirs])
        np.testing.assert_allclose(ours.times_s, times, atol=1e-6)
        matrices = np.array([getattr(each, pose).to_matrix() for each in theirs])
        found = ours.at(ours.times_s)
        np.testing.assert_allclose(found[:, :3, 3], matrices[:, :3, 3], atol=1e-9)
        assert rotation_angle(found[:, :3, :3], matrices[:, :3, :3]).max() < 1e-6


def test_calibrations_are_the_same(folder: Path) -> None:
    from projectaria_tools.core import mps

    theirs = mps.read_online_calibration(str(folder / "online_calibration.jsonl"))
    ours = read_online_calibration(folder / "online_calibration.jsonl")
    assert len(theirs) == len(ours.times_s)
    for record, time in zip(theirs, ours.times_s, strict=True):
        assert record.tracking_timestamp.total_seconds() == pytest.approx(time, abs=1e-6)
        calibration = record.get_camera_calib(RGB)
        found = ours.camera(RGB, time)
        np.testing.assert_allclose(
            calibration.get_transform_device_camera().to_matrix(), found.T_device_camera, atol=1e-9
        )
        point = np.array([0.3, -0.2, 1.0])
        np.testing.assert_allclose(calibration.project_no_checks(point) + 0.5, found.project(point), atol=1e-6)


def test_projection_and_its_inverse_are_the_same() -> None:
    from projectaria_tools.core import calibration

    theirs = calibration.CameraProjection(calibration.CameraModelType.FISHEYE624, np.array(PARAMS))
    ours = FisheyeCamera.from_aria(PARAMS, np.eye(4))
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.uniform(-1.0, 1.0, (500, 2)), np.ones((500, 1))), axis=1)
    pixels = np.array([theirs.project(point) for point in points]) + 0.5
    np.testing.assert_allclose(ours.project(points), pixels, atol=1e-9)
    rays = np.array([theirs.unproject(pixel - 0.5) for pixel in pixels])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    np.testing.assert_allclose(ours.unproject(pixels), rays, atol=1e-6)


@pytest.mark.parametrize("size", [1408, 704, 352])
def test_rescaling_is_the_same(size: int) -> None:
    full = [2 * PARAMS[0], 2 * PARAMS[1] + 33.0, 2 * PARAMS[2] + 33.0, *PARAMS[3:]]
    theirs = camera(full, 2880).rescale(np.array([size, size]), size / 2816, np.array([32.0, 32.0]))  # type: ignore[attr-defined]
    ours = FisheyeCamera.from_aria(full, T_DEVICE_CAMERA).resized(size, size)
    for point in np.array([[0.0, 0.0, 1.0], [0.5, 0.2, 1.0], [-0.3, 0.6, 1.0]]):
        np.testing.assert_allclose(theirs.project_no_checks(point) + 0.5, ours.project(point), atol=1e-9)


def test_the_undistorted_and_upright_picture_is_the_same() -> None:
    from projectaria_tools.core import calibration

    size, out = 352, 120
    ours = FisheyeCamera.from_aria(PARAMS, T_DEVICE_CAMERA).resized(size, size)
    scaled = [ours.focal, *(ours.centre - 0.5), *PARAMS[3:]]
    rows, columns = np.mgrid[0:size, 0:size]
    picture = np.stack((rows * 255 // size, columns * 255 // size, 128 + 100 * np.sin(rows / 9)), axis=-1).astype(
        np.uint8
    )
    focal = out / 2 / np.tan(np.radians(40.0))
    linear = calibration.get_linear_camera_calibration(out, out, focal)
    theirs = np.rot90(calibration.distort_by_calibration(picture, linear, camera(scaled, size)), -1)
    view = Undistortion(ours, np.radians(80.0), out, upright=False)
    assert view.K[0, 0] == pytest.approx(focal)
    # Theirs cuts the fraction off, ours rounds.
    assert np.abs(view.apply(picture).astype(int) - theirs).max() <= 1
    turned = calibration.rotate_camera_calib_cw90deg(
        calibration.get_linear_camera_calibration(
            out, out, focal, RGB, camera(scaled, size).get_transform_device_camera()
        )  # type: ignore[attr-defined]
    )
    np.testing.assert_allclose(turned.get_transform_device_camera().to_matrix(), view.T_device_view, atol=1e-6)
