"""The head camera: pinhole intrinsics and where it sits in the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError


@dataclass(frozen=True)
class Camera:
    """A pinhole camera fixed to the head.

    Attributes:
        K: float64 (3, 3), pixels; pixel centres lie at half-integers, so a centred principal point is (W/2, H/2).
        T_head_camera: float64 (4, 4), maps the optical frame (z forward, x right, y down) to the head frame
            (x forward, y left, z up), metres.
    """

    K: np.ndarray
    T_head_camera: np.ndarray

    def __post_init__(self) -> None:
        """Check shapes and numbers.

        Raises:
            UserError: wrong shape, a number that is not finite, or a matrix that is no rigid pose.
        """
        for name, shape in (("K", (3, 3)), ("T_head_camera", (4, 4))):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise UserError(f"camera {name} must be {shape} finite numbers, got shape {value.shape}: check it")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        rotation = self.T_head_camera[:3, :3]
        rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) and np.linalg.det(rotation) > 0
        if not rigid or not np.allclose(self.T_head_camera[3], (0, 0, 0, 1)):
            raise UserError("camera T_head_camera is not a rigid pose: its rotation must be orthonormal")

    @classmethod
    def from_fovy(cls, fovy: float, width: int, height: int, T_head_camera: np.ndarray) -> Camera:
        """Square pixels and a centred principal point, from the vertical field of view in radians."""
        focal = 0.5 * height / np.tan(0.5 * fovy)
        return cls(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), T_head_camera)

    def to_json(self) -> dict[str, list[list[float]]]:
        """Plain lists; `from_json` gives the same numbers back."""
        return {"K": self.K.tolist(), "T_head_camera": self.T_head_camera.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, list[list[float]]]) -> Camera:
        """The inverse of `to_json`."""
        return cls(np.array(value["K"]), np.array(value["T_head_camera"]))
