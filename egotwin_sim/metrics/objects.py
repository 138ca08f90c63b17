"""What is in view: coloured objects, the door's state and the hands, by hue segmentation of pictures.

The same segmentation is applied to true and dreamt pictures, so a score compares what a viewer would name in both.
How far the segmentation itself agrees with the renderer's is measured by `benchmarks/dream_quality.py`.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from egotwin_sim.metrics.hue import Paint, hsv
from egotwin_sim.room.layout import COLOURS, DOOR_HUE, VESTIBULE_HUE

OBJECT_COLOURS: tuple[str, ...] = tuple(COLOURS)
SKIN_HUE = 20.0  # degrees; of the humanoid's hands
DOOR, VESTIBULE, HAND = "door", "vestibule", "hand"
NAMES: tuple[str, ...] = (*OBJECT_COLOURS, DOOR, VESTIBULE, HAND)

# The room's renderer gives each paint one exact hue and saturation; the widths are for compression, blur and dreams.
# They keep the paints apart: red 0 | skin 20 | door 33 | yellow 55, and cyan 185 | blue 225. Skin lies between red
# objects and the door's leaf and is told from both by its low saturation.
PAINTS: dict[str, Paint] = {
    **{name: Paint(hue, half_width_deg=18.0, saturation=(0.55, 1.0)) for name, hue in COLOURS.items()},
    "red": Paint(COLOURS["red"], half_width_deg=14.0, saturation=(0.60, 1.0)),
    "yellow": Paint(COLOURS["yellow"], half_width_deg=11.0, saturation=(0.55, 1.0)),
    DOOR: Paint(DOOR_HUE, half_width_deg=10.0, saturation=(0.55, 1.0)),
    VESTIBULE: Paint(VESTIBULE_HUE, half_width_deg=15.0, saturation=(0.45, 1.0)),
    HAND: Paint(SKIN_HUE, half_width_deg=10.0, saturation=(0.25, 0.60), value=0.40),
}
# Where two paints meet, a blurred edge passes through the hues between them (door and vestibule through red, door and
# white wall through skin): what is thinner than this many pixels is an edge and no thing.
LEAST_THICKNESS = 3
# Hands are small and pale, so noise in their hue is averaged before it is judged; standard deviation in pixels.
HAND_SMOOTHING = 0.7

# Least share of the picture that counts as in view: 0.3 % is a 7 x 7 patch of a 128 x 128 picture. Hands are smaller
# than objects; an open door shows a strip of the vestibule before it shows a face of it.
PRESENT_SHARE = 0.003
HAND_SHARE = 0.0015
DOOR_OPEN_SHARE = 0.004


def segment(frames: np.ndarray) -> np.ndarray:
    """Masks of everything that has a paint.

    Args:
        frames: uint8 (..., H, W, 3).

    Returns:
        bool (..., P, H, W) in the order of `NAMES`: the object colours, the door's leaf, the vestibule, hands.
    """
    channels = hsv(frames)
    sigma = [0.0] * (frames.ndim - 3) + [HAND_SMOOTHING, HAND_SMOOTHING, 0.0]
    smooth = hsv(gaussian_filter(frames.astype(np.float32), sigma))
    masks = [PAINTS[name].mask(*(smooth if name == HAND else channels)) for name in NAMES]
    return _without_thin(np.stack(masks, axis=-3))


def _without_thin(masks: np.ndarray) -> np.ndarray:
    """Morphological opening of masks (..., H, W) by a square of `LEAST_THICKNESS` pixels."""
    window = [1] * (masks.ndim - 2) + [LEAST_THICKNESS] * 2
    return maximum_filter(minimum_filter(masks, size=window, mode="nearest"), size=window, mode="constant", cval=False)


def share(masks: np.ndarray) -> np.ndarray:
    """Share of the picture that each mask (..., H, W) covers, float64 (...) in [0, 1]."""
    return masks.mean(axis=(-2, -1), dtype=np.float64)


def objects_present(masks: np.ndarray) -> np.ndarray:
    """Which object colours are in view: bool (..., 6) in the order of `OBJECT_COLOURS`, from `segment`'s masks."""
    return share(masks[..., : len(OBJECT_COLOURS), :, :]) >= PRESENT_SHARE


def door_seen(masks: np.ndarray) -> np.ndarray:
    """Whether the door's leaf or the vestibule behind it is in view: bool (...), from `segment`'s masks."""
    return (share(masks[..., NAMES.index(DOOR), :, :]) >= PRESENT_SHARE) | door_open(masks)


def door_open(masks: np.ndarray) -> np.ndarray:
    """Whether the picture shows an open door, that is the vestibule: bool (...), from `segment`'s masks."""
    return share(masks[..., NAMES.index(VESTIBULE), :, :]) >= DOOR_OPEN_SHARE


def hand_present(masks: np.ndarray) -> np.ndarray:
    """Whether a hand is in view: bool (...), from `segment`'s masks."""
    return share(masks[..., NAMES.index(HAND), :, :]) >= HAND_SHARE


def f1(truth: np.ndarray, dream: np.ndarray, among: np.ndarray | None = None) -> float:
    """F1 of a yes-or-no answer, 2 TP / (2 TP + FP + FN), counted over all elements together.

    Args:
        truth: bool array.
        dream: bool array of the same shape.
        among: bool array; elements that are False are left out.

    Returns:
        [0, 1]; NaN when neither says yes anywhere.
    """
    counted = np.ones_like(truth) if among is None else among
    hits = int((truth & dream & counted).sum())
    wrong = int(((truth != dream) & counted).sum())
    return 2 * hits / (2 * hits + wrong) if hits + wrong else float("nan")


def mask_iou(truth: np.ndarray, dream: np.ndarray, among: np.ndarray) -> float:
    """Mean intersection over union of masks.

    Args:
        truth: bool (..., H, W).
        dream: bool (..., H, W).
        among: bool (...): which masks count. An empty union counts as 0.

    Returns:
        [0, 1]; NaN when no mask counts.
    """
    if not among.any():
        return float("nan")
    union = (truth | dream).sum(axis=(-2, -1))
    overlap = (truth & dream).sum(axis=(-2, -1))
    return float((overlap / np.maximum(union, 1))[among].mean())
