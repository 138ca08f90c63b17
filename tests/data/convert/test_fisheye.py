"""Aria's lens: the published formula, its inverse, and where the pixels of a picture end up."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data.convert.fisheye import FisheyeCamera, Undistortion
from egotwin_sim.errors import UserError
from tests.data.convert.aria_files import PARAMS, T_DEVICE_CAMERA

CAMERA = FisheyeCamera.from_aria(PARAMS, T_DEVICE_CAMERA)


def by_formula(point: np.ndarray) -> np.ndarray:
    """The pixel of a point (3,), term by term as the documentation has it; pixel centres at integers."""
    f, cx, cy, *rest = PARAMS
    k, p, s = rest[:6], rest[6:8], rest[8:]
    a, b = point[0] / point[2], point[1] / point[2]
    r = np.hypot(a, b)
    angle = np.arctan(r)
    length = angle + sum(k[i] * angle ** (2 * i + 3) for i in range(6))
    x, y = length * a / r, length * b / r
    square = x * x + y * y
    u = x + (2 * x * x + square) * p[0] + 2 * x * y * p[1] + s[0] * square + s[1] * square**2
    v = y + (2 * y * y + square) * p[1] + 2 * x * y * p[0] + s[2] * square + s[3] * square**2
    return np.array([f * u + cx, f * v + cy])


def rays(count: int, angle: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    theta, phi = angle * np.sqrt(rng.uniform(size=count)), rng.uniform(0, 2 * np.pi, count)
    return np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), axis=-1)


def test_projection_is_the_published_formula() -> None:
    points = rays(200, np.radians(50.0))
    expected = np.array([by_formula(point) for point in points])
    np.testing.assert_allclose(CAMERA.project(points * 3.0) - 0.5, expected, atol=1e-9)
    np.testing.assert_allclose(CAMERA.project(np.array([0.0, 0.0, 2.0])), np.array(PARAMS[1:3]) + 0.5)


def test_unprojection_is_its_inverse() -> None:
    points = rays(2000, np.radians(54.0))
    np.testing.assert_allclose(CAMERA.unproject(CAMERA.project(points)), points, atol=1e-9)
    np.testing.assert_allclose(CAMERA.unproject(CAMERA.centre), [0.0, 0.0, 1.0], atol=1e-12)


def test_what_the_lens_does_not_see_is_nan() -> None:
    beyond = np.array([[np.sin(a), 0.0, np.cos(a)] for a in (np.radians(62.0), 2.0, 3.0)])
    assert np.isnan(CAMERA.project(beyond)).all()
    assert np.isnan(CAMERA.unproject(np.array([[0.0, 0.0], [1400.0, 1390.0]]))).all()
    folded = FisheyeCamera.from_aria([*PARAMS[:3], -0.6, *[0.0] * 11], np.eye(4))
    assert folded.max_angle == pytest.approx(np.sqrt(1 / 1.8), abs=2e-3)  # where angle (1 - 0.6 angle^2) is largest
    assert np.isnan(folded.project(np.array([np.sin(0.8), 0.0, np.cos(0.8)]))).all()


def test_a_smaller_picture_shows_the_same() -> None:
    points = rays(50, 0.7)
    np.testing.assert_allclose(CAMERA.resized(176, 176).project(points), CAMERA.project(points) / 8.0, atol=1e-9)
    with pytest.raises(UserError, match="the video is 640x480, the calibration speaks of 1408x1408"):
        CAMERA.resized(640, 480)


def test_a_calibration_of_the_whole_sensor_serves_the_recorded_middle() -> None:
    # The recorder crops 32 pixels on each side, and averages two to one.
    full = [2 * PARAMS[0], 2 * (PARAMS[1] + 0.5) + 32 - 0.5, 2 * (PARAMS[2] + 0.5) + 32 - 0.5, *PARAMS[3:]]
    camera = FisheyeCamera.from_aria(full, T_DEVICE_CAMERA)
    assert (camera.width, camera.height) == (2880, 2880)
    points = rays(50, 0.7)
    np.testing.assert_allclose(camera.resized(1408, 1408).project(points), CAMERA.project(points), atol=1e-9)
    assert camera.resized(2880, 2880).focal == full[0]


@pytest.mark.parametrize("upright", [False, True])
def test_every_pixel_lands_at_its_place(upright: bool) -> None:
    """A picture whose red and green count its columns and rows: each pixel of the view says where it came from."""
    size = 256
    camera = CAMERA.resized(size, size)
    v, u = np.mgrid[0:size, 0:size]
    picture = np.stack((u, v, np.zeros_like(u)), axis=-1).astype(np.uint8)
    view = Undistortion(camera, np.radians(80.0), 64, upright)
    shown = view.apply(np.rot90(picture, -1) if upright else picture)
    assert view.blind == 0.0
    # Upright: x of the view is against the rows of the stored picture, y along its columns.
    centres = np.arange(64) + 0.5
    x, y = np.meshgrid((centres - view.K[0, 2]) / view.K[0, 0], (centres - view.K[1, 2]) / view.K[1, 1])
    stored = np.stack((y, -x, np.ones_like(x)), axis=-1)
    expected = camera.project(stored) - 0.5
    assert np.abs(shown[..., :2] - expected).max() <= 0.5 + 1e-6
    # The top of the view is the left of the stored picture, where the device frame has the view's -y.
    assert shown[0, 32, 0] < shown[-1, 32, 0] and shown[32, 0, 1] > shown[32, -1, 1]
    np.testing.assert_allclose(
        view.T_device_view[:3, :3] @ [0.0, -1.0, 0.0], T_DEVICE_CAMERA[:3, :3] @ [-1.0, 0.0, 0.0], atol=1e-12
    )


def test_a_point_of_the_world_stays_where_the_view_says() -> None:
    """A white dot painted by the fisheye projection is found at the pinhole projection of the view."""
    size = 352
    camera = CAMERA.resized(size, size)
    view = Undistortion(camera, np.radians(80.0), 160, upright=False)
    for point in np.array([[0.3, 0.2, 1.0], [-0.5, 0.1, 1.2], [0.1, -0.6, 1.0]]):
        u, v = camera.project(point)
        columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        dot = 255.0 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 3.0**2))
        shown = view.apply(np.repeat(dot[..., None], 3, axis=-1).astype(np.uint8))[..., 0].astype(float)
        centres = np.arange(160) + 0.5
        found = np.array([(shown.sum(axis=0) * centres).sum(), (shown.sum(axis=1) * centres).sum()]) / shown.sum()
        in_view = np.linalg.inv(view.T_device_view)[:3, :3] @ T_DEVICE_CAMERA[:3, :3] @ point
        expected = (view.K @ in_view)[:2] / in_view[2]
        np.testing.assert_allclose(found, expected, atol=0.35)


def test_wrong_numbers_and_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="expected 15 finite numbers"):
        FisheyeCamera.from_aria(PARAMS[:14], np.eye(4))
    with pytest.raises(UserError, match="a field of view of 175 degrees"):
        Undistortion(CAMERA, np.radians(175.0), 64, False)
    view = Undistortion(CAMERA.resized(176, 176), np.radians(60.0), 32, False)
    with pytest.raises(UserError, match="the calibration was made for"):
        view.apply(np.zeros((100, 100, 3), np.uint8))
    assert 0.0 < Undistortion(CAMERA.resized(176, 176), np.radians(110.0), 32, False).blind < 0.5
