"""From what a source gives to a clip of ours: one length, one rate, one picture size, one body."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.clip import Clip
from egotwin_sim.data.convert.pictures import Fit
from egotwin_sim.data.convert.source import ClipRef, SourceClip
from egotwin_sim.data.plan import MAX_SIZE, MIN_SIZE, MOTION_FPS, SIZE_STEP, VIDEO_FPS
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion
from egotwin_sim.motion.capture import Capture
from egotwin_sim.motion.motion import default_skeleton, same_skeleton
from egotwin_sim.motion.retarget import retarget
from egotwin_sim.motion.rotations import quat_to_matrix

# A text that covers less of a clip does not describe it.
LEAST_COVERED = 0.6
# A picture stands for the moment that is at most half a frame away; a little more, for clocks that jitter.
_EARLY_OR_LATE_S = 0.505 / VIDEO_FPS
_TIME_TOLERANCE_S = 1e-6


@dataclass(frozen=True)
class CutConfig:
    """The clips that are wanted.

    Attributes:
        size: (H, W) of the pictures, pixels.
        seconds: length of a clip.

    Raises:
        UserError: a value is out of range.
    """

    size: tuple[int, int] = (256, 256)
    seconds: float = 5.0

    def __post_init__(self) -> None:
        """Check the values."""
        for side in self.size:
            if not MIN_SIZE <= side <= MAX_SIZE or side % SIZE_STEP:
                raise UserError(
                    f"--size {self.size[0]}x{self.size[1]}: give multiples of {SIZE_STEP} pixels from {MIN_SIZE} to "
                    f"{MAX_SIZE}, such as 256 or 480x720"
                )
        steps = self.seconds * VIDEO_FPS
        if not steps >= 1 or not np.isfinite(steps) or steps != int(steps):
            raise UserError(f"--seconds {self.seconds:g}: give a positive multiple of 1/{VIDEO_FPS} s, such as 5")

    @property
    def frames(self) -> int:
        """Video frames of a clip."""
        return int(self.seconds * VIDEO_FPS) + 1


def parse_size(text: str) -> tuple[int, int]:
    """(H, W) from "256" or "480x720" (height x width).

    Raises:
        UserError: it is neither.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if match is None:
        raise UserError(f"--size {text}: give one number of pixels, or height x width, such as 256 or 480x720")
    height = int(match[1])
    return height, int(match[2] or height)


def pieces(ref: ClipRef, seconds: float) -> list[ClipRef]:
    """Cut a described stretch into clips of one length.

    Returns:
        Whole clips one behind the other, what is left over dropped; where there is room for none, one that reaches
        beyond the stretch's end, if the text covers `LEAST_COVERED` of it; else nothing.
    """
    count = int(ref.seconds / seconds + _TIME_TOLERANCE_S)
    if count == 0 and ref.seconds >= LEAST_COVERED * seconds:
        count = 1
    starts = [ref.start_s + i * seconds for i in range(count)]
    return [replace(ref, start_s=start, end_s=start + seconds) for start in starts]


def picture_times(start_s: float, seconds: float) -> np.ndarray:
    """When a clip's pictures are due, float64 (T,).

    A source may decode only the frames nearest to these times (`nearest_frames`) and leave the others out.
    """
    return start_s + np.arange(int(seconds * VIDEO_FPS + _TIME_TOLERANCE_S) + 1) / VIDEO_FPS


def nearest_frames(times_s: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """The number of the frame that was seen nearest to each wanted time, int64 (N,).

    Args:
        times_s: (T,), rising, when frames were seen.
        wanted_s: (N,), rising.

    Raises:
        UserError: no frame is near enough, or one would have to serve twice.
    """
    after = np.clip(np.searchsorted(times_s, wanted_s), 1, max(len(times_s) - 1, 1))
    after = np.minimum(after, len(times_s) - 1)
    before = np.maximum(after - 1, 0)
    chosen = np.where(wanted_s - times_s[before] <= times_s[after] - wanted_s, before, after)
    distance = np.abs(times_s[chosen] - wanted_s)
    if (distance > _EARLY_OR_LATE_S).any():
        first = int(np.argmax(distance > _EARLY_OR_LATE_S))
        raise UserError(
            f"no video frame within {1000 * _EARLY_OR_LATE_S:.0f} ms of {wanted_s[first]:.3f} s (the nearest is "
            f"{1000 * distance[first]:.0f} ms away): frames were dropped, the video is too short, or it has less than "
            f"{VIDEO_FPS} frames/s"
        )
    if (np.diff(chosen) == 0).any():
        first = int(np.argmax(np.diff(chosen) == 0))
        raise UserError(
            f"one video frame would have to serve at {wanted_s[first]:.3f} s and at {wanted_s[first + 1]:.3f} s: "
            f"the video needs {VIDEO_FPS} frames/s or more"
        )
    return chosen


def rate_note(times_s: np.ndarray) -> str | None:
    """What resampling does to a video with frames at these times; None where every frame falls on a picture's time."""
    if len(times_s) < 2:
        return None
    fps = 1.0 / float(np.median(np.diff(times_s)))
    ratio = fps / VIDEO_FPS
    if abs(ratio - round(ratio)) < 1e-3 * ratio:
        return None
    return (
        f"video at {fps:.4g} frames/s is no whole multiple of {VIDEO_FPS}: a picture is the nearest frame, up to "
        f"{500 / fps:.0f} ms early or late"
    )


def motion_between(motion: Motion, motion_start_s: float, start_s: float, seconds: float) -> Motion:
    """The motion from `start_s` on at `MOTION_FPS`: rotations by slerp, positions linearly.

    Args:
        motion: at its own rate.
        motion_start_s: when its first frame was.
        start_s: when the result begins.
        seconds: its length; both its ends are frames.

    Raises:
        UserError: the motion ends more than one of its frames early (so long the border frame is held).
    """
    count = int(seconds * MOTION_FPS + _TIME_TOLERANCE_S) + 1
    at = (start_s - motion_start_s + np.arange(count) / MOTION_FPS) * motion.fps
    slack = 1.0 + _TIME_TOLERANCE_S
    if at[0] < -slack or at[-1] > len(motion) - 1 + slack:
        raise UserError(
            f"the motion lies from {motion_start_s:.3f} s to {motion_start_s + motion.duration:.3f} s, the clip from "
            f"{start_s:.3f} s to {start_s + seconds:.3f} s: cut the text's times, or record longer"
        )
    return motion.sampled(np.clip(at, 0, len(motion) - 1), MOTION_FPS)


def on_default_body(motion: Motion, *, keep_head: bool) -> tuple[Motion, float]:
    """Move a motion to the default body.

    Args:
        motion: of any skeleton of ours.
        keep_head: whether the head's path shall be the source's to the millimetre, as a video that was seen from it
            asks for; the feet may then slide by what the bodies' proportions differ. Otherwise the feet stay planted.

    Returns:
        The motion with its feet on the floor, and the one factor by which its world has become larger: that of the
        bodies' legs. A video tells directions alone, so it agrees with the larger world as well as with the true one.

    Raises:
        UserError: it has no head, or lacks another joint that is needed.
    """
    ours, theirs = default_skeleton(), motion.skeleton
    if same_skeleton(theirs, ours):
        return motion, 1.0
    if "head" not in theirs.index:
        raise UserError(
            f"the motion has no joint named head (it has {', '.join(theirs.names)}): nothing says where the eyes are; "
            "give a motion of the whole body"
        )
    capture = Capture(
        source="the motion",
        names=theirs.names,
        parents=theirs.parents,
        offsets=theirs.offsets,
        tips=(),
        rotations=quat_to_matrix(motion.joint_quat_wxyz.astype(np.float64)),
        translations={0: motion.root_position.astype(np.float64)},
        fps=motion.fps,
    )
    same = {name: name for name in ours.names if name in theirs.index}
    imported = retarget(capture, fps=motion.fps, skeleton=ours, joint_map=same, drop_rest_pose=False)
    result, scale = imported.motion, imported.report.metres_per_unit
    if keep_head:
        off = scale * motion.T_world_head()[:, :3, 3] - result.T_world_head()[:, :3, 3]
        off[:, 2] -= np.median(off[:, 2])  # the height of the eyes is the default body's
        result = replace(result, root_position=result.root_position + off.astype(np.float32))
    return result, scale


@dataclass(frozen=True, eq=False)
class Cut:
    """A clip of the wanted form.

    Attributes:
        clip: with video; None from a source of motion alone.
        motion: its motion.
        text: what the body does.
        notes: what a user should know of it.
    """

    clip: Clip | None
    motion: Motion
    text: str
    notes: list[str]


def cut(found: SourceClip, ref: ClipRef, config: CutConfig) -> Cut:
    """Resample, crop, resize, retarget.

    Args:
        found: what the source gave for `ref`.
        ref: of `config.seconds`.
        config: what is wanted.

    Raises:
        UserError: video or motion do not cover the clip, the body has no head, or the text is empty.
    """
    text, notes = " ".join(found.text.split()), list(found.notes)
    if not text:
        raise UserError("the text is empty: say what the body does")
    start = ref.start_s if found.motion_start_s is None else found.motion_start_s
    motion = motion_between(found.motion, start, ref.start_s, config.seconds)
    motion, scale = on_default_body(motion, keep_head=found.video is not None)
    if found.video is None or found.camera is None:
        return Cut(None, motion, text, notes)
    chosen = nearest_frames(found.video_times_s, picture_times(ref.start_s, config.seconds))
    fit = Fit((found.video.shape[1], found.video.shape[2]), config.size)
    if fit.enlarges:
        notes.append(
            f"pictures of {fit.source[0]}x{fit.source[1]} are enlarged to {fit.target[0]}x{fit.target[1]}: "
            "give a smaller --size"
        )
    camera = fit.camera(found.camera)
    pose = camera.T_head_camera.copy()
    pose[:3, 3] *= scale
    clip = Clip(fit.pictures(found.video[chosen]), motion, text, Camera(camera.K, pose), fps=float(VIDEO_FPS))
    return Cut(clip, motion, text, notes)
