"""The picture figures of a roll-out at the horizons, for one clip or many, beside copying the first frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.image import psnr, ssim
from egotwin_sim.metrics.objects import (
    OBJECT_COLOURS,
    door_open,
    door_seen,
    f1,
    hand_present,
    mask_iou,
    objects_present,
    segment,
)
from egotwin_sim.metrics.sharpness import sharpness_ratio

HORIZONS_S: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)


def horizon_frames(length: int, fps: float, horizons: Sequence[float] = HORIZONS_S) -> dict[float, int]:
    """Frame index of each horizon (seconds after the first frame) that a clip of `length` frames reaches."""
    frames = {horizon: round(horizon * fps) for horizon in horizons}
    return {horizon: index for horizon, index in frames.items() if index < length}


def frame_figures(truth: np.ndarray, dream: np.ndarray, first: np.ndarray) -> dict[str, float]:
    """Figures of N pictures of one horizon.

    Args:
        truth: uint8 (N, H, W, 3).
        dream: uint8 (N, H, W, 3).
        first: uint8 (N, H, W, 3), the true first frames: only object colours in view there are scored, for a dream
            cannot know the others.

    Returns:
        psnr_db, ssim (means over pictures); object_f1 (all pictures and colours together); object_iou (mean over
        colours in view in either picture); door_state (share of the true pictures with a door in view whose state,
        open or closed, the dream shows too); hand_f1; sharpness (ratio to the truth). NaN where nothing is to score.
    """
    masks, dreamt, known = segment(truth), segment(dream), objects_present(segment(first))
    count = len(OBJECT_COLOURS)
    present, present_dream = objects_present(masks), objects_present(dreamt)
    door = door_seen(masks)
    right = (door_open(masks) == door_open(dreamt)) & door_seen(dreamt)
    return {
        "psnr_db": float(psnr(truth, dream).mean()),
        "ssim": float(ssim(truth, dream).mean()),
        "object_f1": f1(present, present_dream, known),
        "object_iou": mask_iou(masks[:, :count], dreamt[:, :count], known & (present | present_dream)),
        "door_state": float(right[door].mean()) if door.any() else float("nan"),
        "hand_f1": f1(hand_present(masks), hand_present(dreamt)),
        "sharpness": sharpness_ratio(truth, dream),
    }


def picture_report(
    truth: np.ndarray, dream: np.ndarray, fps: float = 8.0, horizons: Sequence[float] = HORIZONS_S
) -> dict[str, dict[str, float]]:
    """`frame_figures` of N roll-outs at each horizon.

    Args:
        truth: uint8 (N, T, H, W, 3); frame 0 was given to the dream.
        dream: uint8 (N, T, H, W, 3), time-aligned with the truth.
        fps: frames per second.
        horizons: seconds after the first frame.

    Returns:
        {"0.5": figures, ...}, the horizons beyond the clips' end left out.

    Raises:
        UserError: shapes differ.
    """
    if truth.shape != dream.shape or truth.ndim != 5:
        raise UserError(
            f"true and dreamt frames must both be (clips, frames, height, width, 3), got {truth.shape} and "
            f"{dream.shape}: cut both to the same length"
        )
    return {
        f"{horizon:g}": frame_figures(truth[:, index], dream[:, index], truth[:, 0])
        for horizon, index in horizon_frames(truth.shape[1], fps, horizons).items()
    }


def copy_first(truth: np.ndarray) -> np.ndarray:
    """The baseline that shows the first frame for ever: (N, T, H, W, 3) with every frame replaced by frame 0."""
    return np.broadcast_to(truth[:, :1], truth.shape)


def clip_report(
    truth_frames: np.ndarray, dream_frames: np.ndarray, fps: float = 8.0, horizons: Sequence[float] = HORIZONS_S
) -> dict[str, dict[str, dict[str, float | None]]]:
    """The figures of one clip, ready for JSON: NaN (nothing to score) becomes None.

    Args:
        truth_frames: uint8 (T, H, W, 3), the first of them given to the dream.
        dream_frames: uint8 (T', H, W, 3); the longer of both is cut.
        fps: frames per second.
        horizons: seconds after the first frame.

    Returns:
        {"dream": {"0.5": figures, ...}, "copy": {...}} with the figures of `frame_figures`.
    """
    length = min(len(truth_frames), len(dream_frames))
    truth, dream = truth_frames[None, :length], dream_frames[None, :length]
    rows = {"dream": dream, "copy": copy_first(truth)}
    return {
        name: {
            horizon: {key: None if np.isnan(value) else value for key, value in figures.items()}
            for horizon, figures in picture_report(truth, frames, fps, horizons).items()
        }
        for name, frames in rows.items()
    }
