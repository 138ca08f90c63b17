"""The Frechet distance against closed forms, and that it grows with what goes wrong in a picture."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter

from egotwin_sim.metrics.frechet import Gaussian, fit_gaussian, frechet_distance, gaussian_distance, latent_features
from egotwin_sim.models import VideoVAE
from egotwin_sim.pipelines.pipeline import cast_products
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise
from egotwin_sim.room.world import RoomWorld

SIZE = 64


def random_covariance(rng: np.random.Generator, width: int) -> np.ndarray:
    root = rng.normal(size=(width, 2 * width))
    return root @ root.T / width


def test_spheres_have_their_closed_form() -> None:
    a = Gaussian(np.zeros(5), 4.0 * np.eye(5))
    b = Gaussian(np.full(5, 3.0), 9.0 * np.eye(5))
    assert gaussian_distance(a, b) == pytest.approx(5 * 3.0**2 + 5 * (2.0 - 3.0) ** 2)


def test_covariances_that_do_not_commute_agree_with_the_matrix_root(rng: np.random.Generator) -> None:
    a, b = (Gaussian(rng.normal(size=6), random_covariance(rng, 6)) for _ in range(2))
    root = sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert gaussian_distance(a, b) == pytest.approx(expected)
    assert gaussian_distance(b, a) == pytest.approx(expected)


def test_flat_directions_are_no_trouble() -> None:
    a = Gaussian(np.zeros(3), np.diag([1.0, 0.0, 0.0]))
    b = Gaussian(np.zeros(3), np.diag([0.0, 4.0, 0.0]))
    assert gaussian_distance(a, b) == pytest.approx(1.0 + 4.0)
    assert gaussian_distance(a, a) == pytest.approx(0.0, abs=1e-12)


def test_a_large_sample_has_the_distance_of_its_distribution(rng: np.random.Generator) -> None:
    true = [Gaussian(rng.normal(size=4), random_covariance(rng, 4)) for _ in range(2)]
    samples = [rng.multivariate_normal(each.mean, each.covariance, size=40_000) for each in true]
    assert frechet_distance(*samples) == pytest.approx(gaussian_distance(*true), rel=0.03)


def test_the_same_set_has_no_distance(rng: np.random.Generator) -> None:
    for rows in (5, 200):  # also with fewer rows than columns
        features = rng.normal(size=(rows, 20))
        assert frechet_distance(features, features[::-1]) == pytest.approx(0.0, abs=1e-9)


def test_shrinkage_makes_a_covariance_of_few_rows_and_leaves_many_alone(rng: np.random.Generator) -> None:
    truth = np.diag(np.linspace(0.2, 3.0, 40))
    few = rng.multivariate_normal(np.zeros(40), truth, size=30)
    many = rng.multivariate_normal(np.zeros(40), truth, size=20_000)
    plain = np.cov(few, rowvar=False)
    shrunk = fit_gaussian(few).covariance
    assert np.linalg.eigvalsh(plain)[0] == pytest.approx(0.0, abs=1e-9)
    assert np.linalg.eigvalsh(shrunk)[0] > 0.1
    assert np.trace(shrunk) == pytest.approx(np.trace(plain))
    assert np.linalg.norm(shrunk - truth) < 0.7 * np.linalg.norm(plain - truth)
    np.testing.assert_allclose(fit_gaussian(many).covariance, np.cov(many, rowvar=False), atol=0.02)


@pytest.mark.parametrize("features", [np.zeros((1, 3)), np.zeros(4), np.full((3, 2), np.nan)])
def test_no_set_of_features_is_refused(features: np.ndarray) -> None:
    with pytest.raises(ValueError, match="features"):
        fit_gaussian(features)


@pytest.fixture(scope="module")
def views() -> np.ndarray:
    """Frames uint8 (N, 64, 64, 3) of eight rooms."""
    parts = []
    for seed in range(8):
        layout = sample_layout(seed)
        motion = synthesise(layout, seed, 3.0).motion
        world = RoomWorld(layout, size=SIZE)
        parts.append(world.record(motion, np.zeros(len(motion)), every=4)[0])
        world.close()
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    """As it is before training, when its latents are a cosine transform."""
    torch.manual_seed(0)
    return VideoVAE(latent_channels=48).eval()


def blurred(frames: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return gaussian_filter(frames.astype(np.float32), (0, amount, amount, 0)).round().astype(np.uint8)


def noisy(frames: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(frames + rng.normal(0, 20 * amount, frames.shape), 0, 255).round().astype(np.uint8)


def reddened(frames: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(frames + amount * np.array([20.0, -10.0, -10.0]), 0, 255).round().astype(np.uint8)


def greyed(frames: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    grey = frames.mean(axis=-1, keepdims=True)
    return (grey + (frames - grey) * (1 - 0.4 * amount)).round().astype(np.uint8)


@pytest.mark.parametrize("spoil", [blurred, noisy, reddened, greyed])
def test_the_distance_grows_with_what_goes_wrong(spoil, views: np.ndarray, vae: VideoVAE, rng) -> None:
    truth = latent_features(views, vae)
    distances = [frechet_distance(truth, latent_features(spoil(views, x, rng), vae)) for x in (0.0, 0.5, 1.0, 2.0)]
    assert distances[0] == pytest.approx(0.0, abs=1e-6)
    assert all(more > 1.2 * less for less, more in zip(distances, distances[1:], strict=False))


def test_a_frames_features_depend_on_no_other_frame(views: np.ndarray, vae: VideoVAE) -> None:
    together = latent_features(views[:7], vae)
    assert together.shape == (7, 2 * 12 * 4)
    alone = np.concatenate([latent_features(views[i : i + 1], vae) for i in range(7)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_streams_vae_in_bf16_sees_the_same(views: np.ndarray, vae: VideoVAE) -> None:
    halved = copy.deepcopy(vae)
    cast_products(halved)
    full, half = (latent_features(views, each) for each in (vae, halved))
    red = latent_features(reddened(views, 0.5, np.random.default_rng(0)), vae)
    assert frechet_distance(full, half) < 0.01 * frechet_distance(full, red)


def test_pictures_of_another_kind_are_refused(vae: VideoVAE) -> None:
    with pytest.raises(ValueError, match="uint8"):
        latent_features(np.zeros((2, 64, 64, 3), np.float32), vae)
    with pytest.raises(ValueError, match="multiples"):
        latent_features(np.zeros((2, 60, 64, 3), np.uint8), vae)
