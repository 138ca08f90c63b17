"""A clip: a synchronised text, video and motion triplet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion


@dataclass(frozen=True)
class Clip:
    """First-person video, the body motion that caused it, and the text that describes it.

    Video frame i is seen at motion frame `motion_per_frame * i`.

    Attributes:
        video: uint8 (T_v, H, W, 3) RGB.
        motion: 1 + motion_per_frame (T_v - 1) frames.
        text: what the body does.
        camera: the head camera.
        depth: float32 (T_v, H, W) metres along the optical axis, or None.
        fps: video frames per second.
    """

    video: np.ndarray
    motion: Motion
    text: str
    camera: Camera
    depth: np.ndarray | None = None
    fps: float = 8.0

    def __post_init__(self) -> None:
        """Check that video, depth and motion belong together.

        Raises:
            UserError: a wrong type or shape, empty text, or lengths that do not agree.
        """
        if self.video.dtype != np.uint8 or self.video.ndim != 4 or self.video.shape[-1] != 3 or not len(self.video):
            raise UserError(f"video must be uint8 (T,H,W,3), got {self.video.dtype} {self.video.shape}: convert it")
        if self.depth is not None and self.depth.shape != self.video.shape[:3]:
            raise UserError(f"depth must have the video's shape {self.video.shape[:3]}, got {self.depth.shape}")
        if not self.text.strip():
            raise UserError("the clip's text is empty: say what the body does")
        expected = self.motion_per_frame * (len(self.video) - 1) + 1
        if len(self.motion) != expected:
            raise UserError(
                f"{len(self.video)} video frames need {expected} motion frames, got {len(self.motion)}: "
                "cut or resample the motion"
            )

    def __len__(self) -> int:
        """T_v."""
        return len(self.video)

    @property
    def motion_per_frame(self) -> int:
        """Motion frames per video frame."""
        return motion_frames_per_video_frame(self.motion.fps, self.fps)


def motion_frames_per_video_frame(motion_fps: float, video_fps: float) -> int:
    """The whole number of motion frames in one video frame.

    Raises:
        UserError: the motion rate is no whole multiple of the video rate.
    """
    ratio = round(motion_fps / video_fps)
    if ratio < 1 or abs(ratio * video_fps - motion_fps) > 1e-6:
        raise UserError(
            f"motion at {motion_fps:g}/s is no whole multiple of video at {video_fps:g}/s: resample the motion"
        )
    return ratio
