"""What recovers a camera's trajectory from a video: the protocol, and what all methods ask for first."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.trajectory import Trajectory


class CameraRecovery(Protocol):
    """Recovers where the camera was from what it saw. Nothing of the body's motion may be used.

    Attributes:
        name: of the method, with what identifies it; it stands in every report.
        metric: whether its trajectories are in metres; of a single camera without learning they are not.
    """

    name: str
    metric: bool

    def recover(self, frames: np.ndarray, camera: Camera, fps: float, clip: str = "") -> Trajectory:
        """The trajectory of the camera.

        Args:
            frames: uint8 (T, H, W, 3), RGB, of a pinhole camera.
            camera: its intrinsics are used; the pose in the head is not.
            fps: frames per second.
            clip: the clip's name, for methods that look up what another program recovered.

        Returns:
            T frames; those that could not be recovered are marked. A failure to recover is no error.

        Raises:
            UserError: no video, or what the method needs is not installed.
        """
        ...


def check_video(frames: np.ndarray, fps: float) -> np.ndarray:
    """The frames, if they are a video that can be recovered from.

    Raises:
        UserError: another type or shape, or no rate.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3 or len(frames) == 0:
        raise UserError(f"the video is {frames.dtype} {frames.shape}; expected uint8 (T, H, W, 3) with T at least 1")
    if not (np.isfinite(fps) and fps > 0):
        raise UserError(f"fps is {fps}; expected a positive number of frames per second")
    return frames


def import_tool(module: str, package: str, user: str) -> Any:
    """A library of the extra `eval`.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"{user} needs {package} ({error}): install it with `pip install -c constraints.txt '.[eval]'`"
        ) from error
