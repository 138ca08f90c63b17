"""Hue segmentation on painted pictures, and counts by hand."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from egotwin_sim.metrics.hue import hsv
from egotwin_sim.metrics.objects import (
    NAMES,
    OBJECT_COLOURS,
    door_open,
    door_seen,
    f1,
    hand_present,
    mask_iou,
    objects_present,
    segment,
)
from egotwin_sim.room.layout import DOOR_COLOUR, VESTIBULE_COLOUR, object_colour

GREY = (0.8, 0.78, 0.75)


def picture(*patches: tuple[tuple[float, float, float], slice, slice], size: int = 64) -> np.ndarray:
    """A pale picture with patches of colour (RGB in 0..1) painted on it."""
    canvas = np.empty((size, size, 3))
    canvas[:] = GREY
    for colour, rows, columns in patches:
        canvas[rows, columns] = colour
    return (canvas * 255).round().astype(np.uint8)


def test_hsv_agrees_with_the_standard_library(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (200, 1, 3), dtype=np.uint8)
    pixels[:6, 0] = [[0, 0, 0], [255, 255, 255], [9, 9, 9], [255, 0, 0], [0, 255, 255], [200, 0, 199]]
    expected = np.array([colorsys.rgb_to_hsv(*(p / 255.0)) for p in pixels[:, 0]])
    hue, saturation, value = hsv(pixels)
    np.testing.assert_allclose(hue[:, 0], expected[:, 0] * 360.0, atol=1e-3)
    np.testing.assert_allclose(saturation[:, 0], expected[:, 1], atol=1e-6)
    np.testing.assert_allclose(value[:, 0], expected[:, 2], atol=1e-6)


@pytest.mark.parametrize("light", [0.35, 0.7, 1.0])
@pytest.mark.parametrize("colour", OBJECT_COLOURS)
def test_each_object_colour_is_named_in_any_light(colour: str, light: float) -> None:
    patch = tuple(light * c for c in object_colour(colour))
    masks = segment(picture((patch, slice(10, 20), slice(30, 50))))
    painted = np.zeros((64, 64), bool)
    painted[10:20, 30:50] = True
    for name, mask in zip(NAMES, masks, strict=True):
        assert np.array_equal(mask, painted if name == colour else np.zeros_like(painted)), name
    assert [c for c, seen in zip(OBJECT_COLOURS, objects_present(masks), strict=True) if seen] == [colour]


def test_the_blurred_edge_between_door_and_vestibule_is_no_red_box() -> None:
    rows = slice(0, 60)
    shaded = tuple(0.7 * c for c in DOOR_COLOUR)
    sharp = picture((shaded, rows, slice(0, 30)), (VESTIBULE_COLOUR, rows, slice(30, 64)))
    blurred = gaussian_filter(sharp.astype(float), (1, 1, 0)).round().astype(np.uint8)
    hue, saturation, _ = hsv(blurred[30])
    assert ((np.minimum(hue, 360 - hue) < 10) & (saturation > 0.6)).any()  # there are red pixels
    assert not objects_present(segment(blurred)).any()


def test_a_speck_is_not_an_object() -> None:
    masks = segment(picture((object_colour("blue"), slice(0, 3), slice(0, 4))))  # 12 of 4096 pixels: 0.29 %
    assert not objects_present(masks).any()


def test_the_door_is_open_when_the_vestibule_shows() -> None:
    rows = slice(0, 40)
    closed = segment(picture((DOOR_COLOUR, rows, slice(10, 30))))
    opened = segment(picture((DOOR_COLOUR, rows, slice(10, 14)), (VESTIBULE_COLOUR, rows, slice(14, 30))))
    elsewhere = segment(picture())
    assert [bool(door_seen(m)) for m in (closed, opened, elsewhere)] == [True, True, False]
    assert [bool(door_open(m)) for m in (closed, opened, elsewhere)] == [False, True, False]
    assert not objects_present(closed).any()
    assert not objects_present(opened).any()


def test_a_hand_is_skin_not_door_nor_box() -> None:
    skin = colorsys.hsv_to_rgb(20 / 360, 0.45, 0.9)
    hand = slice(40, 50), slice(20, 30)
    assert hand_present(segment(picture((skin, *hand))))
    assert not hand_present(segment(picture((DOOR_COLOUR, *hand))))
    assert not hand_present(segment(picture((object_colour("red"), *hand))))


def test_f1_by_hand() -> None:
    truth = np.array([[True, True, False], [True, False, False]])
    dream = np.array([[True, False, True], [True, True, False]])
    # 2 hits, 1 miss, 2 inventions.
    assert f1(truth, dream) == pytest.approx(4 / 7)
    # Without the last two columns of the first row: 2 hits, 1 invention.
    among = np.array([[True, False, False], [True, True, True]])
    assert f1(truth, dream, among) == pytest.approx(4 / 5)
    assert np.isnan(f1(np.zeros(3, bool), np.zeros(3, bool)))


def test_mask_iou_by_hand() -> None:
    truth, dream = np.zeros((3, 8, 8), bool), np.zeros((3, 8, 8), bool)
    truth[0, :4] = True
    dream[0, 2:6] = True  # 16 shared of 48
    truth[1, :4] = True  # lost: 0
    among = np.array([True, True, False])
    assert mask_iou(truth, dream, among) == pytest.approx((16 / 48 + 0) / 2)
    assert np.isnan(mask_iou(truth, dream, np.zeros(3, bool)))
