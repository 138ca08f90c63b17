"""Pictures keep their brightness, and every pixel its ray."""

from __future__ import annotations

import numpy as np
import pytest

from egotwin_sim.data import Camera
from egotwin_sim.data.convert.pictures import Fit, resize_weights


def _dot(size: tuple[int, int], at: np.ndarray, radius: float) -> np.ndarray:
    """A soft bright dot whose centre is `at` (x, y), pixel centres at half-integers."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    light = 250.0 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * radius**2))
    return np.repeat(np.rint(light).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((360, 640), (128, 128)),
        ((1408, 1408), (256, 256)),
        ((241, 321), (64, 96)),
        ((480, 270), (64, 64)),
        ((96, 128), (192, 208)),
        ((480, 720), (480, 720)),
    ],
)
def test_a_point_is_where_the_new_intrinsics_say(source: tuple[int, int], target: tuple[int, int]) -> None:
    camera = Camera(
        np.array([[0.9 * source[1], 0, 0.52 * source[1]], [0, 0.92 * source[1], 0.47 * source[0]], [0, 0, 1]]),
        np.eye(4),
    )
    fit = Fit(source, target)
    after = fit.camera(camera)
    spread = 1.2 * max(source[0] / target[0], source[1] / target[1], 1.0) + 1.0
    for ray in ([0.0, 0.0, 1.0], [0.1, 0.12, 1.0], [-0.12, -0.1, 1.0]):
        seen = camera.K @ ray
        picture = _dot(source, seen[:2], spread)
        resized = fit.pictures(picture[None])[0, ..., 0].astype(float)
        resized[resized < 3] = 0
        y, x = np.mgrid[: target[0], : target[1]] + 0.5
        centre = np.array([(x * resized).sum(), (y * resized).sum()]) / resized.sum()
        assert np.abs(centre - (after.K @ ray)[:2]).max() < 0.06


def test_the_crop_is_the_largest_and_centred() -> None:
    fit = Fit((1080, 1920), (480, 720))
    assert fit.crop == (1080, 1620) and fit.corner == (0, 150)
    assert not fit.enlarges and Fit((200, 400), (256, 256)).enlarges


def test_shrinking_by_a_whole_number_is_the_mean_of_blocks() -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (2, 96, 160, 3)).astype(np.uint8)
    blocks = video[:, :, 32:128].reshape(2, 32, 3, 32, 3, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(Fit((96, 160), (32, 32)).pictures(video) - blocks).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("source", "target"), [(1408, 256), (100, 33), (7, 7), (5, 8), (1, 3)])
def test_every_target_pixel_has_weight_one_and_no_source_pixel_is_lost(source: int, target: int) -> None:
    weights = resize_weights(source, target).toarray()
    assert np.allclose(weights.sum(axis=1), 1.0, atol=1e-6) and (weights >= 0).all()
    if source >= target:
        assert np.allclose(weights.sum(axis=0), target / source, atol=1e-6)
