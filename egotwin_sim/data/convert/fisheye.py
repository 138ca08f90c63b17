"""The lens of Aria glasses (FISHEYE624): where a ray falls, which ray a pixel sees, and the pinhole view of a picture.

The model is that of Project Aria's documentation ("Camera Intrinsic Models for Project Aria devices"): six radial, two
tangential and four thin-prism coefficients on the angle from the optical axis. Pixels are ours: centres lie at
half-integers, where Aria's lie at integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError

_PARAMETERS = 15  # f, cx, cy, k0..k5, p0, p1, s0..s3
# Sides of the square pictures that an RGB calibration of Aria may speak of, pixels. The sensor has 2880; the recorded
# 1408 are the middle 2816 of them, two to one.
_SENSOR, _MARGIN, _RECORDED = 2880, 32, 1408
_NEWTON_STEPS = 30
_CONVERGED = 1e-12
# A stored picture is turned by 90 degrees; turned back clockwise, right becomes down. Rows are upright axes in stored
# ones.
_UPRIGHT_FROM_STORED = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class FisheyeCamera:
    """A calibrated fisheye camera on a pair of glasses, in the orientation in which its pictures are stored.

    Attributes:
        focal: pixels per radian at the centre.
        centre: float64 (2,), pixels, where the optical axis falls.
        radial: float64 (6,), coefficients of angle^2, angle^4, ... on top of 1.
        tangential: float64 (2,).
        thin_prism: float64 (4,).
        width: pixels.
        height: pixels.
        T_device_camera: float64 (4, 4), optical frame (z forward, x right, y down as stored) to the device frame.
    """

    focal: float
    centre: np.ndarray
    radial: np.ndarray
    tangential: np.ndarray
    thin_prism: np.ndarray
    width: int
    height: int
    T_device_camera: np.ndarray

    @classmethod
    def from_aria(
        cls, params: Sequence[float], T_device_camera: np.ndarray, size: tuple[int, int] | None = None
    ) -> FisheyeCamera:
        """A camera from the 15 numbers of a calibration file.

        Args:
            params: f, cx, cy, k0 to k5, p0, p1, s0 to s3; pixel centres at integers.
            T_device_camera: (4, 4).
            size: width and height; without it, the square that has the principal point nearest to its middle, of
                those that Aria's RGB camera records.

        Raises:
            UserError: there are not 15 finite numbers, or a focal length is not positive.
        """
        values = np.asarray(params, dtype=np.float64)
        if values.shape != (_PARAMETERS,) or not np.isfinite(values).all() or not values[0] > 0:
            raise UserError(f"a camera has {values.size} parameters {values[:3]}...; expected 15 finite numbers, f > 0")
        centre = values[1:3] + 0.5
        if size is None:
            side = min((_RECORDED, _SENSOR), key=lambda each: abs(float(centre.mean()) - each / 2))
            size = side, side
        return cls(
            float(values[0]), centre, values[3:9], values[9:11], values[11:15], *size, np.asarray(T_device_camera)
        )

    def resized(self, width: int, height: int) -> FisheyeCamera:
        """The same camera for pictures of another size, as Aria's recorder and converters make them.

        Raises:
            UserError: the sides have another ratio.
        """
        camera = self
        if (self.width, self.height) == (_SENSOR, _SENSOR) and (width, height) != (_SENSOR, _SENSOR):
            side = _SENSOR - 2 * _MARGIN
            camera = replace(self, centre=self.centre - _MARGIN, width=side, height=side)
        if camera.width * height != camera.height * width:
            raise UserError(
                f"the video is {width}x{height}, the calibration speaks of {self.width}x{self.height}; expected the "
                "same shape: the video was cropped, or belongs to another camera"
            )
        factor = width / camera.width
        return replace(camera, focal=camera.focal * factor, centre=camera.centre * factor, width=width, height=height)

    @property
    def circle(self) -> float:
        """Radius, pixels, about the centre, of what the lens throws on the sensor: a picture's corners are black."""
        return 0.5 * max(self.width, self.height)

    @cached_property
    def max_angle(self) -> float:
        """The angle from the axis, radians, up to which the model is one to one: beyond it, it was never calibrated."""
        angles = np.linspace(0.0, np.pi / 2, 2049)[1:]
        falling = np.diff(self._radial_length(angles), prepend=0.0) <= 0
        return float(angles[np.argmax(falling) - 1]) if falling.any() else float(angles[-2])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3) in the camera's frame; NaN for what the lens does not see."""
        points = np.asarray(points, dtype=np.float64)
        across = np.linalg.norm(points[..., :2], axis=-1)
        angle = np.arctan2(across, points[..., 2])
        # The limit on the axis is 1: there the direction has no length, and any direction will do.
        length = self._radial_length(angle) / np.where(across > 0, across, 1.0)
        distorted = self._skewed(points[..., :2] * length[..., None])
        pixels = self.focal * distorted + self.centre
        seen = (angle <= self.max_angle) & (np.linalg.norm(pixels - self.centre, axis=-1) <= self.circle)
        return np.where(seen[..., None], pixels, np.nan)

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        """Unit rays (..., 3) in the camera's frame that fall on pixels (..., 2); NaN where no ray does.

        The inverse of `project`, by Newton's method in the plane and then along the radius.
        """
        pixels = np.asarray(pixels, dtype=np.float64)
        seen = np.linalg.norm(pixels - self.centre, axis=-1) <= self.circle
        wanted = (np.where(seen[..., None], pixels, self.centre) - self.centre) / self.focal
        plain = wanted.copy()
        for _ in range(_NEWTON_STEPS):
            step = _solve_2x2(self._skew_jacobian(plain), wanted - self._skewed(plain))
            plain = plain + step
            if np.abs(step).max(initial=0.0) < _CONVERGED:
                break
        radius = np.linalg.norm(plain, axis=-1)
        angle = np.minimum(radius, self.max_angle)
        for _ in range(_NEWTON_STEPS):
            change = (radius - self._radial_length(angle)) / self._radial_slope(angle)
            angle = np.clip(angle + change, 0.0, self.max_angle)
            if np.abs(change).max(initial=0.0) < _CONVERGED:
                break
        sideways = plain * (np.sin(angle) / np.where(radius > 0, radius, 1.0))[..., None]
        rays = np.concatenate((sideways, np.cos(angle)[..., None]), axis=-1)
        seen &= np.abs(self._radial_length(angle) - radius) < _CONVERGED * 1e3
        return np.where(seen[..., None], rays, np.nan)

    def _radial_length(self, angle: np.ndarray) -> np.ndarray:
        square = angle * angle
        return angle * (1.0 + square * np.polynomial.polynomial.polyval(square, self.radial))

    def _radial_slope(self, angle: np.ndarray) -> np.ndarray:
        square = angle * angle
        weights = self.radial * (2.0 * np.arange(len(self.radial)) + 3.0)
        return 1.0 + square * np.polynomial.polynomial.polyval(square, weights)

    def _skewed(self, plain: np.ndarray) -> np.ndarray:
        """Tangential and thin-prism distortion of points (..., 2)."""
        square = np.sum(plain * plain, axis=-1, keepdims=True)
        along = 2.0 * np.sum(plain * self.tangential, axis=-1, keepdims=True)
        prism = self.thin_prism.reshape(2, 2)
        return plain + along * plain + square * self.tangential + square * prism[:, 0] + square * square * prism[:, 1]

    def _skew_jacobian(self, plain: np.ndarray) -> np.ndarray:
        """The derivative (..., 2, 2) of `_skewed`."""
        square = np.sum(plain * plain, axis=-1)[..., None, None]
        along = 2.0 * np.sum(plain * self.tangential, axis=-1)[..., None, None]
        prism = self.thin_prism.reshape(2, 2)
        column, row = plain[..., :, None], plain[..., None, :]
        outward = self.tangential[:, None] + prism[:, :1] + 2.0 * square * prism[:, 1:]
        return (1.0 + along) * np.eye(2) + 2.0 * column * self.tangential + 2.0 * outward * row


def _solve_2x2(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The x (..., 2) with matrix (..., 2, 2) x = right (..., 2)."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    x = d * right[..., 0] - b * right[..., 1]
    y = a * right[..., 1] - c * right[..., 0]
    return np.stack((x, y), axis=-1) / (a * d - b * c)[..., None]


class Undistortion:
    """Turns fisheye pictures into upright pinhole ones, sampled bilinearly.

    Attributes:
        K: float64 (3, 3), intrinsics of the pinhole view, pixel centres at half-integers.
        T_device_view: float64 (4, 4), the optical frame of the upright view (z forward, x right, y down) to the
            device frame.
        blind: share of the view's pixels that no pixel of the picture falls on; they are black.
    """

    def __init__(self, camera: FisheyeCamera, fov: float, size: int, upright: bool) -> None:
        """Work out where each pixel of the view comes from.

        Args:
            camera: the calibration, for pictures in the orientation in which the glasses store them.
            fov: field of view of the square pinhole view from edge to edge, radians.
            size: its width and height, pixels.
            upright: whether the pictures given were turned upright before, as Aria's converter to mp4 does.

        Raises:
            UserError: the field of view is not one of a pinhole camera.
        """
        if not 0.1 < fov < np.radians(170.0):
            raise UserError(f"a field of view of {np.degrees(fov):g} degrees; expected 6 to 170 for a pinhole view")
        self.K = Camera.from_fovy(fov, size, size, np.eye(4)).K
        turn = np.eye(4)
        turn[:3, :3] = _UPRIGHT_FROM_STORED.T
        self.T_device_view = camera.T_device_camera @ turn

        centres = np.arange(size) + 0.5
        u, v = np.meshgrid(centres, centres)
        rays = np.stack(
            ((u - self.K[0, 2]) / self.K[0, 0], (v - self.K[1, 2]) / self.K[1, 1], np.ones_like(u)), axis=-1
        )
        pixels = camera.project(rays @ _UPRIGHT_FROM_STORED)
        width, height = camera.width, camera.height
        if upright:
            pixels = np.stack((camera.height - pixels[..., 1], pixels[..., 0]), axis=-1)
            width, height = height, width
        self._shape = height, width
        inside = (pixels[..., 0] >= 0) & (pixels[..., 0] <= width) & (pixels[..., 1] >= 0) & (pixels[..., 1] <= height)
        self.blind = float(1.0 - inside.mean())
        # A sample between the centre of a border pixel and the border has no neighbour there: it takes the border
        # pixel.
        x = np.clip(pixels[inside][:, 0] - 0.5, 0, width - 1)
        y = np.clip(pixels[inside][:, 1] - 0.5, 0, height - 1)
        left, top = np.minimum(x.astype(np.int64), width - 2), np.minimum(y.astype(np.int64), height - 2)
        right, down = x - left, y - top
        corner = top * width + left
        columns = np.stack((corner, corner + 1, corner + width, corner + width + 1), axis=-1)
        weights = np.stack(((1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down), axis=-1)
        starts = np.concatenate(([0], np.cumsum(4 * inside.reshape(-1))))
        self._sampling = csr_array(
            (weights.reshape(-1).astype(np.float32), columns.reshape(-1), starts), (size * size, width * height)
        )

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """The upright pinhole view, uint8 (size, size, 3), of a fisheye picture, uint8 (H, W, 3).

        Raises:
            UserError: the picture has another size than the camera.
        """
        if picture.shape[:2] != self._shape:
            raise UserError(f"a picture is {picture.shape[:2]}, the calibration was made for {self._shape}")
        view = self._sampling @ picture.reshape(-1, 3).astype(np.float32)
        size = int(2 * self.K[0, 2])
        return np.rint(view).astype(np.uint8).reshape(size, size, 3)
