"""What a user gives for whole clips, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.pipelines.body import BodyState

MODES = ("t2vm", "tm2v", "tv2m")


@dataclass(frozen=True)
class ClipShape:
    """What the clips of a model look like.

    Attributes:
        height, width: of the frames, pixels.
        video_fps, motion_fps: frames per second.
        skeleton: the body.
        motion_frames: motion frames in a chunk.
    """

    height: int
    width: int
    video_fps: float
    motion_fps: float
    skeleton: Skeleton
    motion_frames: int


@dataclass(frozen=True)
class ClipInput:
    """One clip to generate, of K chunks.

    Attributes:
        mode: "t2vm", "tm2v" or "tv2m".
        first_frame: uint8 (H, W, 3).
        body: the initial pose.
        chunks: K.
        video: uint8 (1 + 4K, H, W, 3) for "tv2m".
        motion: 1 + 8K frames for "tm2v".
    """

    mode: str
    first_frame: np.ndarray
    body: BodyState
    chunks: int
    video: np.ndarray | None = None
    motion: Motion | None = None


def clip_input(
    mode: str,
    shape: ClipShape,
    num_frames: int,
    first_frame: Any = None,
    initial_pose: np.ndarray | Motion | None = None,
    video: Any = None,
    motion: Motion | None = None,
) -> ClipInput:
    """Check one clip's inputs.

    Args:
        mode: what is generated from what.
        shape: what the model makes.
        num_frames: 1 + 4K, for "t2vm"; elsewhere what is given says how long the clip is.
        first_frame: a PIL image or uint8 (H, W, 3) RGB; that of the video for "tv2m".
        initial_pose: (D,) head-centric state, or a motion whose last frame is the pose; for "tm2v" the motion's first
            frame.
        video: uint8 (1 + 4K, H, W, 3) RGB at the model's rate, or a sequence of PIL images.
        motion: 1 + 8K frames at the model's rate.

    Raises:
        UserError: an unknown mode, something missing or too much for the mode, or of another size, length, rate or
            skeleton than the model's.
    """
    if mode not in MODES:
        raise UserError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    if (motion is not None) != (mode == "tm2v"):
        raise UserError(f"mode {mode} {'needs a motion' if mode == 'tm2v' else 'generates the motion: give none'}")
    if (video is not None) != (mode == "tv2m"):
        raise UserError(f"mode {mode} {'needs a video' if mode == 'tv2m' else 'generates the video: give none'}")
    if video is not None:
        video = _check_video(video, shape)
        if first_frame is not None:
            raise UserError("mode tv2m takes its first frame from the video: give no first frame")
        frame = video[0]
    elif first_frame is None:
        raise UserError(f"mode {mode} needs a first frame: an image of {shape.width} x {shape.height}")
    else:
        frame = _check_frame(first_frame, shape)
    if motion is not None:
        if initial_pose is not None:
            raise UserError("mode tm2v starts from the motion's first frame: give no initial pose")
        chunks = _check_motion(motion, shape)
        return ClipInput(mode, frame, BodyState.of(motion[:1]), chunks, motion=motion)
    if initial_pose is None:
        raise UserError(f"mode {mode} needs an initial pose: a motion, or the head-centric state of one frame")
    frames = num_frames if video is None else len(video)
    chunks, rest = divmod(frames - 1, FRAMES_PER_LATENT)
    if rest or chunks < 1:
        raise UserError(
            f"{frames} video frames cannot be coded; expected 1 + {FRAMES_PER_LATENT} K, for example "
            f"{1 + FRAMES_PER_LATENT * max(1, chunks)}"
        )
    return ClipInput(mode, frame, _body(initial_pose, shape), chunks, video=video)


def _body(pose: np.ndarray | Motion, shape: ClipShape) -> BodyState:
    if not isinstance(pose, Motion):
        return BodyState.from_pose(pose, shape.skeleton, shape.motion_fps)
    _check_body(pose, shape)
    return BodyState.of(pose)


def _check_body(motion: Motion, shape: ClipShape) -> None:
    if motion.fps != shape.motion_fps:
        raise UserError(f"the motion has {motion.fps:g} frames/s; expected {shape.motion_fps:g}: resample it")
    if motion.skeleton.names != shape.skeleton.names:
        raise UserError("the motion belongs to another skeleton than the model's; retarget it first")


def _check_motion(motion: Motion, shape: ClipShape) -> int:
    """K of a motion of 1 + 8K frames."""
    _check_body(motion, shape)
    chunks, rest = divmod(len(motion) - 1, shape.motion_frames)
    if rest or chunks < 1:
        raise UserError(
            f"the motion has {len(motion)} frames; expected 1 + {shape.motion_frames} K: cut it to "
            f"{1 + shape.motion_frames * max(1, chunks)}"
        )
    return chunks


def _check_frame(frame: Any, shape: ClipShape) -> np.ndarray:
    frame = np.asarray(frame)
    if frame.shape != (shape.height, shape.width, 3) or frame.dtype != np.uint8:
        raise UserError(
            f"first frame is {frame.dtype} {frame.shape}; expected uint8 ({shape.height}, {shape.width}, 3): resize it"
        )
    return frame


def _check_video(video: Any, shape: ClipShape) -> np.ndarray:
    video = np.stack([np.asarray(frame) for frame in video]) if isinstance(video, Sequence) else np.asarray(video)
    if video.shape[1:] != (shape.height, shape.width, 3) or video.dtype != np.uint8:
        raise UserError(
            f"video is {video.dtype} {video.shape}; expected uint8 (1 + {FRAMES_PER_LATENT} K, {shape.height}, "
            f"{shape.width}, 3) at {shape.video_fps:g} frames/s: resize it"
        )
    return video
