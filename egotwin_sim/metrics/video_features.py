"""What seconds of video look like and how they change, in the latent space of the video VAE; for a Frechet distance.

The Frechet video distance (Unterthiner et al., "Towards Accurate Generative Models of Video", 2018) with the features
of `frechet.latent_features` in the place of a network of photographs: see there for why.
"""

from __future__ import annotations

import numpy as np

from egotwin_sim.metrics.frechet import latent_features
from egotwin_sim.models.video_vae import VideoVAE

WINDOW = 8  # frames; a second


def video_features(videos: np.ndarray, vae: VideoVAE) -> np.ndarray:
    """Features of the successive seconds of videos.

    Of each second: the mean over its frames of `latent_features`, and the mean absolute change of them from frame to
    frame. The one holds what is seen, the other how much and where it moves; frames in another order have the same
    first half, a video that stands still has a second half of zeros.

    Args:
        videos: uint8 (N, T, H, W, 3), T at least `WINDOW`; what is over at the end is left out.
        vae: the video VAE.

    Returns:
        float32 (N * (T // 8), 2 * D).

    Raises:
        ValueError: another shape, or shorter videos.
    """
    if videos.ndim != 5 or videos.shape[1] < WINDOW:
        raise ValueError(f"videos have shape {videos.shape}; expected (N, T, H, W, 3) with T at least {WINDOW}")
    count, seconds = len(videos), videos.shape[1] // WINDOW
    frames = videos[:, : seconds * WINDOW].reshape(-1, *videos.shape[2:])
    features = latent_features(frames, vae).reshape(count * seconds, WINDOW, -1)
    return np.concatenate([features.mean(axis=1), np.abs(np.diff(features, axis=1)).mean(axis=1)], axis=-1)
