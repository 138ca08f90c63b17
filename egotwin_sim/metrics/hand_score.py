"""HandScore: whether the hands that the body puts before the eyes are the hands that the video shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.clip import motion_frames_per_video_frame
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion

SIDES = ("left", "right")
HAND_LENGTH = 0.18  # metres from the wrist to the tip of the middle finger; adults have 0.17 to 0.20
POINTS = 10  # of a hand, evenly from the wrist to the tip
# A hand is expected in view when this share of its length is. Against the room's renderer (hands of at least 0.15 % of
# the picture): F 0.99 of single hands; with half the length it is 0.98, and 0.95 with all of it.
LEAST_SHARE = 0.2
NEAREST = 0.05  # metres before the camera; what is nearer is beside or behind it


def hand_points(motion: Motion) -> np.ndarray:
    """Points along both hands in the world, metres: float64 (T, 2, POINTS, 3), left hand first.

    The skeleton ends at the wrist. A hand goes on from there in the direction of the forearm's rest offset, turned by
    the wrist: straight fingers.

    Raises:
        UserError: the skeleton has no wrists.
    """
    position, rotation = motion.joint_transforms()
    hands = []
    for side in SIDES:
        name = f"{side}_wrist"
        if name not in motion.skeleton.index:
            raise UserError(f"the motion's skeleton has no {name}; HandScore needs both wrists: retarget the motion")
        wrist = motion.skeleton.index[name]
        offset = motion.skeleton.offsets[wrist].astype(np.float64)
        reach = np.linspace(0.0, HAND_LENGTH, POINTS)[:, None] * (offset / np.linalg.norm(offset))
        hands.append(position[:, wrist, None] + reach @ rotation[:, wrist].swapaxes(-1, -2))
    return np.stack(hands, axis=1)


def hands_expected(motion: Motion, camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Which hands the head camera should see, by the body alone: bool (T, 2), left hand first.

    A hand counts when at least `LEAST_SHARE` of its length lies before the camera and within the picture. What hides
    behind furniture or the other arm is not known from the body, and counts as visible.

    Args:
        motion: T frames.
        camera: intrinsics and pose in the head.
        size: height and width of the pictures, pixels.
    """
    T_world_camera = motion.T_world_head() @ camera.T_head_camera
    points = hand_points(motion) - T_world_camera[:, None, None, :3, 3]
    seen = np.einsum("thpi,tij->thpj", points, T_world_camera[:, :3, :3])
    ahead = seen[..., 2] > NEAREST
    pixels = seen @ camera.K.T
    pixels = pixels[..., :2] / np.where(ahead, seen[..., 2], 1.0)[..., None]
    inside = ahead & (pixels >= 0).all(axis=-1) & (pixels < size[::-1]).all(axis=-1)
    return inside.mean(axis=-1) >= LEAST_SHARE


def at_video_rate(motion: Motion, frames: int, fps: float) -> Motion:
    """The motion at the moments of the video's frames.

    Raises:
        UserError: the motion's rate is no whole multiple of the video's, or it is shorter.
    """
    step = motion_frames_per_video_frame(motion.fps, fps)
    shown = motion[::step]
    if len(shown) < frames:
        raise UserError(
            f"the motion of {len(motion)} frames at {motion.fps:g}/s reaches {len(shown)} video frames, the video has "
            f"{frames}; give both of one clip"
        )
    return shown[:frames]


@dataclass(frozen=True)
class HandScore:
    """Agreement of hands expected from the motion with hands seen in the video, over all frames together.

    Attributes:
        frames: video frames.
        expected, seen: share of the frames in which a hand is expected, and in which one is seen.
        precision: share of the frames with a hand in view in which one is expected.
        recall: share of the frames with a hand expected in which one is seen.
        f: their harmonic mean.
        f_left, f_right: F of each hand by itself; None where the detector does not tell left from right.

    A figure is None where there is nothing to count: no hand is expected, or none is seen, anywhere.
    """

    frames: int
    expected: float
    seen: float
    precision: float | None
    recall: float | None
    f: float | None
    f_left: float | None = None
    f_right: float | None = None


def hand_score(expected: Sequence[np.ndarray], seen: Sequence[np.ndarray]) -> HandScore:
    """HandScore of a set of clips.

    Args:
        expected: bool (T, 2) of each clip, `hands_expected`.
        seen: of each clip bool (T, 2), left hand first; or (T,) by a detector that does not tell left from right.

    Raises:
        UserError: no clip, or lengths that differ.
    """
    if not expected or [len(each) for each in expected] != [len(each) for each in seen]:
        raise UserError("HandScore needs hands expected and hands seen of the same frames, of at least one clip")
    wanted, shown = np.concatenate(list(expected)).astype(bool), np.concatenate(list(seen)).astype(bool)
    sides = [_f(*_counts(wanted[:, i], shown[:, i])) for i in range(2)] if shown.ndim == 2 else [None, None]
    any_wanted: np.ndarray = np.any(wanted, axis=1)
    any_shown: np.ndarray = np.any(shown, axis=1) if shown.ndim == 2 else shown
    hits, extra, missed = _counts(any_wanted, any_shown)
    return HandScore(
        frames=len(wanted),
        expected=float(any_wanted.mean()),
        seen=float(any_shown.mean()),
        precision=hits / (hits + extra) if hits + extra else None,
        recall=hits / (hits + missed) if hits + missed else None,
        f=_f(hits, extra, missed),
        f_left=sides[0],
        f_right=sides[1],
    )


def _counts(wanted: np.ndarray, shown: np.ndarray) -> tuple[int, int, int]:
    """Hits, extra ones and missed ones."""
    return int((wanted & shown).sum()), int((~wanted & shown).sum()), int((wanted & ~shown).sum())


def _f(hits: int, extra: int, missed: int) -> float | None:
    return 2 * hits / (2 * hits + extra + missed) if hits + extra + missed else None
