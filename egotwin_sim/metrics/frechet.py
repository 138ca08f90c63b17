"""The Frechet distance between two sets of pictures, in the latent space of the video VAE.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017), equation 6,
with the VAE's latents in place of a classifier's activations: the room is no photograph, so a network of photographs
has nothing to say of it, and the VAE's channels are exactly what the dream is made of.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.models.images import image_to_unit
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT, VideoVAE

# Cells per side in which a latent is summarised. Two keep "floor below, walls above" apart, which a fading dream loses.
# Four would make 16 numbers of each channel twice: more dimensions than 5 seconds of 32 rooms have separate views.
CELLS = 2
FRAMES_AT_ONCE = 64  # frames in one call of the encoder


class Gaussian(NamedTuple):
    """A normal distribution: mean float64 (D,) and covariance float64 (D, D)."""

    mean: np.ndarray
    covariance: np.ndarray


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """The normal distribution of a set of features.

    The covariance is shrunk towards the multiple of the identity that has the same trace, by the share that Ledoit and
    Wolf derive from the data ("A well-conditioned estimator for large-dimensional covariance matrices", 2004, equations
    14 to 20). With few rows against columns, a sample covariance has zero eigenvalues where there is variance and the
    others too large, and two sets of one distribution then look far apart. The share falls as 1 / N, so large sets are
    hardly touched. Rows are taken as independent.

    Args:
        features: (N, D), N at least 2.

    Raises:
        ValueError: another shape, fewer than two rows, or numbers that are not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features have shape {x.shape}; expected (N, D) with N at least 2")
    if not np.isfinite(x).all():
        raise ValueError("features hold NaN or infinity; expected finite numbers")
    count, width = x.shape
    mean = x.mean(axis=0)
    x = x - mean
    sample = x.T @ x / count
    size = np.trace(sample) / width
    distance = float(np.square(sample).sum() - width * size**2)  # squared, to the multiple of the identity
    # Mean squared distance of each row's own x x' from the sample covariance, over N: the estimate's error.
    error = float((np.square(np.square(x).sum(axis=1)).mean() - np.square(sample).sum()) / count)
    share = float(np.clip(error / distance, 0.0, 1.0)) if distance > 0 else 0.0
    unbiased = sample * (count / (count - 1))
    shrunk = (1 - share) * unbiased + share * size * (count / (count - 1)) * np.eye(width)
    return Gaussian(mean, shrunk)


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Frechet (2-Wasserstein) distance of two normal distributions.

    Dowson and Landau, "The Frechet distance between multivariate normal distributions" (1982), equation 4:
    ``|m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2))``. The trace of the root is the sum of the roots of the eigenvalues of
    the symmetric ``A^(1/2) B A^(1/2)``, which has those of ``A B``: two symmetric eigenvalue problems, and nothing
    complex or singular on the way.

    Raises:
        ValueError: different dimensions.
    """
    if a.mean.shape != b.mean.shape or a.covariance.shape != b.covariance.shape:
        raise ValueError(f"dimensions {a.mean.shape} and {b.mean.shape} differ; expected features of one kind")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    inner = root @ b.covariance @ root
    shared = np.sqrt(np.clip(np.linalg.eigvalsh((inner + inner.T) / 2), 0.0, None)).sum()
    apart = float(np.square(a.mean - b.mean).sum())
    # Rounding may leave a distance of 1e-15 below zero.
    return max(0.0, apart + float(np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """`gaussian_distance` of the normal distributions of two sets of features (N, D) and (M, D).

    It is 0 for equal sets. Of different samples of one distribution it is not: the fewer rows and the more columns, the
    larger. Compare distances of sets of equal size, and with the distance between two halves of the true ones.
    """
    return gaussian_distance(fit_gaussian(a), fit_gaussian(b))


@torch.inference_mode()
def latent_features(frames: np.ndarray, vae: VideoVAE) -> np.ndarray:
    """What pictures look like to the video VAE, in few enough numbers for a covariance.

    Each frame is coded by itself (a frame's channels do not depend on its neighbours), and its latent is summarised by
    the mean and the standard deviation of each channel in each of 2 x 2 cells. Means hold colour and brightness;
    spreads hold edges and texture: the channels are about those of a cosine transform, whose high ones fade with every
    blur. With 12 to 16 channels that is 96 to 128 numbers; 5 seconds of 32 rooms are 1,280 frames.

    Args:
        frames: uint8 (N, H, W, 3), H and W multiples of 16.
        vae: the video VAE, also a stream's with weights in bf16; latents are normalised by its statistics over the
            training data.

    Returns:
        float32 (N, 2 * channels of a frame * 4).

    Raises:
        ValueError: no uint8 pictures, or another size.
    """
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise ValueError(f"uint8 pictures (N, H, W, 3) expected, got {frames.dtype} {frames.shape}")
    if len(frames) == 0 or frames.shape[1] % (8 * CELLS) or frames.shape[2] % (8 * CELLS):
        raise ValueError(f"got {frames.shape[:3]}; expected pictures with sides that are multiples of {8 * CELLS}")
    parts = [_summaries(frames[i : i + FRAMES_AT_ONCE], vae) for i in range(0, len(frames), FRAMES_AT_ONCE)]
    return torch.cat(parts).cpu().numpy()


def _summaries(frames: np.ndarray, vae: VideoVAE) -> Tensor:
    # The encoder takes four frames a latent; the last ones are filled up, and what is made of the copies is dropped.
    missing = -len(frames) % FRAMES_PER_LATENT
    whole = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    pictures = image_to_unit(torch.from_numpy(whole).to(vae.device).permute(0, 3, 1, 2))
    chunks = pictures.unflatten(0, (-1, FRAMES_PER_LATENT)).transpose(1, 2)
    halved = any(weight.dtype == torch.bfloat16 for weight in vae.parameters())
    with torch.autocast(vae.device.type, torch.bfloat16, enabled=halved):
        coded = vae.encode_chunks(chunks).float()
    latents = coded.unflatten(1, (FRAMES_PER_LATENT, -1)).flatten(0, 1)[: len(frames)]
    size = latents.shape[-2] // CELLS, latents.shape[-1] // CELLS
    mean = F.avg_pool2d(latents, size)
    spread = (F.avg_pool2d(latents.square(), size) - mean.square()).clamp_min(0).sqrt()
    return torch.cat([mean, spread], dim=1).flatten(1)
