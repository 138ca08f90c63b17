"""A recording with Aria glasses and a body, brought together: what any stretch of it looks like as a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.convert.anchor import anchored
from egotwin_sim.data.convert.cut import nearest_frames, picture_times, rate_note
from egotwin_sim.data.convert.fisheye import FisheyeCamera, Undistortion
from egotwin_sim.data.convert.frames import Frames
from egotwin_sim.data.convert.mps import Trajectory
from egotwin_sim.data.convert.source import ClipRef, SourceClip
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.timed import invert_poses

# Of a view, how much may be black because the lens does not see that far.
_MAX_BLIND = 0.05


@dataclass(frozen=True)
class ViewConfig:
    """The pinhole view that is made of fisheye pictures.

    Attributes:
        fov: field of view from edge to edge of the square view, degrees. The lens sees 110 at most.
        pixels: width and height of the view.

    Raises:
        UserError: a value is out of range.
    """

    fov: float = 90.0
    pixels: int = 512

    def __post_init__(self) -> None:
        """Check the values."""
        if not 10.0 <= self.fov <= 120.0:
            raise UserError(f"fov={self.fov:g}: give 10 to 120 degrees; the lens sees no more")
        if not 16 <= self.pixels <= 2048:
            raise UserError(f"pixels={self.pixels}: give 16 to 2048")


class View:
    """Fisheye pictures of one recording as upright pinhole pictures.

    Attributes:
        camera: intrinsics of the view; its pose is relative to the device frame.
        notes: what a user should know.
    """

    def __init__(self, frames: Frames, calibration: FisheyeCamera, config: ViewConfig) -> None:
        """Prepare the view.

        Raises:
            UserError: the pictures do not have the shape of the calibration, or the lens sees too little of the view.
        """
        height, width = frames.size[::-1] if frames.upright else frames.size
        lens = calibration.resized(width, height)
        view_focal = 0.5 * config.pixels / np.tan(np.radians(config.fov) / 2)
        # Pictures with much finer pixels than the view's are averaged down first, or their detail would flicker.
        self._reduction = max(int(lens.focal / view_focal), 1)
        while height % self._reduction or width % self._reduction:
            self._reduction -= 1
        lens = lens.resized(width // self._reduction, height // self._reduction)
        self._frames = frames
        self._undistortion = Undistortion(lens, np.radians(config.fov), config.pixels, frames.upright)
        self.notes: tuple[str, ...] = ()
        blind = self._undistortion.blind
        if blind > _MAX_BLIND:
            raise UserError(
                f"{100 * blind:.0f} % of a view of {config.fov:g} degrees lies outside the lens; give a smaller fov"
            )
        if blind > 0:
            self.notes = (f"{100 * blind:.2f} % of the view, in its corners, lies outside the lens and is black",)
        if note := rate_note(frames.times_s):
            self.notes = (*self.notes, note)
        self.camera = Camera(self._undistortion.K, self._undistortion.T_device_view)

    def pictures(self, start_s: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """The pictures of a clip, uint8 (T, H, W, 3), and their times (T,).

        Raises:
            UserError: there is no picture near a time at which one is due, or one cannot be decoded.
        """
        chosen = nearest_frames(self._frames.times_s, picture_times(start_s, seconds))
        stored = self._frames.read(chosen, self._reduction)
        return np.stack([self._undistortion.apply(each) for each in stored]), self._frames.times_s[chosen]


@dataclass(frozen=True, eq=False)
class Body:
    """An unbroken stretch of body motion.

    Attributes:
        start_s: time of the first frame, device clock, seconds.
        motion: in any world with z up.
    """

    start_s: float
    motion: Motion

    @property
    def end_s(self) -> float:
        """Time of the last frame."""
        return self.start_s + self.motion.duration

    def between(self, start_s: float, end_s: float) -> Body:
        """The frames from the last one before a time to the first one after another."""
        fps = self.motion.fps
        first = max(int(np.floor((start_s - self.start_s) * fps + 1e-6)), 0)
        last = min(int(np.ceil((end_s - self.start_s) * fps - 1e-6)), len(self.motion) - 1)
        return Body(self.start_s + first / fps, self.motion[first : last + 1])


def seen_together(
    trajectory: Trajectory, times_s: np.ndarray, T_other_head: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where glasses and head were, without the times at which the glasses were lost.

    Args:
        trajectory: of the glasses.
        times_s: (N,), evenly spaced.
        T_other_head: (N, 4, 4), the head at those times.

    Returns:
        For each unbroken stretch T_world_device (M, 4, 4) and T_other_head (M, 4, 4).
    """
    parts = [(times_s >= first) & (times_s <= last) for first, last in trajectory.spans]
    return [(trajectory.at(times_s[part]), T_other_head[part]) for part in parts if part.any()]


@dataclass(frozen=True, eq=False)
class AriaRecording:
    """Glasses, their pictures and the wearer's body, on one clock.

    Attributes:
        trajectory: of the glasses.
        view: their pictures.
        bodies: the body, in stretches.
        T_device_head: float64 (4, 4), how the glasses sit on the head.
        scale: factor from the recording's world to the clips', in which the wearer has our body's height. Pictures show
            directions alone, so they agree with the larger world as well.
        notes: what a user should know of every clip.
    """

    trajectory: Trajectory
    view: View
    bodies: tuple[Body, ...]
    T_device_head: np.ndarray
    scale: float
    notes: tuple[str, ...]

    def clip(self, ref: ClipRef) -> SourceClip:
        """A stretch of the recording.

        Raises:
            UserError: a part of it is missing there.
        """
        body = self._body(ref)
        times = body.start_s + np.arange(len(body.motion)) / body.motion.fps
        head = self.trajectory.at(times) @ self.T_device_head
        head[:, :3, 3] *= self.scale
        hung = anchored(body.motion, head)
        video, video_times = self.view.pictures(ref.start_s, ref.seconds)
        T_head_camera = invert_poses(self.T_device_head) @ self.view.camera.T_head_camera
        T_head_camera[:3, 3] *= self.scale
        camera = Camera(self.view.camera.K, T_head_camera)
        return SourceClip(video, video_times, camera, hung.motion, ref.text, list(self.notes), body.start_s)

    def _body(self, ref: ClipRef) -> Body:
        for body in self.bodies:
            slack = 1.0 / body.motion.fps
            if body.start_s - slack <= ref.start_s and ref.end_s <= body.end_s + slack:
                return body.between(ref.start_s, ref.end_s)
        raise UserError(
            f"no unbroken body motion from {ref.start_s:.3f} s to {ref.end_s:.3f} s; it was recorded "
            + ", ".join(f"from {body.start_s:.3f} s to {body.end_s:.3f} s" for body in self.bodies[:5])
        )
