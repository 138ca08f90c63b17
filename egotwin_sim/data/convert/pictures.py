"""Cropping and resizing pictures so that every pixel's ray is still known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from egotwin_sim.data.camera import Camera


@dataclass(frozen=True)
class Fit:
    """The largest centred crop of a picture that has the wanted shape, and its resizing.

    Attributes:
        source: (H, W) of the picture, pixels.
        target: (H, W) wanted.
    """

    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def crop(self) -> tuple[int, int]:
        """(H, W) of the crop, whole pixels."""
        (height, width), (target_height, target_width) = self.source, self.target
        scale = min(height / target_height, width / target_width)
        return min(round(target_height * scale), height), min(round(target_width * scale), width)

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the crop's first pixel."""
        return (self.source[0] - self.crop[0]) // 2, (self.source[1] - self.crop[1]) // 2

    @property
    def enlarges(self) -> bool:
        """Whether the source has fewer pixels than wanted."""
        return self.crop[0] < self.target[0] or self.crop[1] < self.target[1]

    def pictures(self, video: np.ndarray) -> np.ndarray:
        """Crop and resize uint8 (T, H, W, 3): area averages when shrinking, linearly when enlarging."""
        (top, left), (height, width) = self.corner, self.crop
        rows, columns = resize_weights(height, self.target[0]), resize_weights(width, self.target[1])
        resized = np.empty((len(video), *self.target, 3), dtype=np.uint8)
        for i, picture in enumerate(video):
            part = picture[top : top + height, left : left + width].astype(np.float32)
            # Rows, then columns: one sparse product for each.
            lower = (rows @ part.reshape(height, -1)).reshape(self.target[0], width, 3)
            narrow = columns @ lower.transpose(1, 0, 2).reshape(width, -1)
            resized[i] = np.rint(narrow.reshape(self.target[1], self.target[0], 3).transpose(1, 0, 2))
        return resized

    def camera(self, camera: Camera) -> Camera:
        """The camera of the result.

        With pixel centres at half-integers the picture's border lies at 0 and W: cropping moves the principal point,
        resizing multiplies a row of K, and nothing else changes.
        """
        (top, left), (height, width) = self.corner, self.crop
        to_crop = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])
        to_target = np.diag((self.target[1] / width, self.target[0] / height, 1.0))
        return Camera(to_target @ to_crop @ camera.K, camera.T_head_camera)


def resize_weights(source: int, target: int) -> sparse.csr_matrix:
    """How much of each source pixel is in each target pixel, along one axis.

    Args:
        source: pixels there are.
        target: pixels wanted.

    Returns:
        float32 (target, source), rows that sum to 1: the covered lengths when shrinking, linear interpolation between
        pixel centres when enlarging, the border pixels reaching to the border.
    """
    scale = source / target
    if scale >= 1:
        first, last = np.arange(target) * scale, np.arange(1, target + 1) * scale
        taps = int(np.ceil(scale)) + 1
        pixels = first.astype(int)[:, None] + np.arange(taps)
        lengths = np.minimum(pixels + 1, last[:, None]) - np.maximum(pixels, first[:, None])
        weights = np.maximum(lengths, 0.0) / scale
    else:
        centre = np.clip((np.arange(target) + 0.5) * scale - 0.5, 0, source - 1)
        before = np.minimum(centre.astype(int), max(source - 2, 0))
        pixels = before[:, None] + np.arange(2)
        weights = np.stack((1.0 - (centre - before), centre - before), axis=1)
    inside = (pixels < source) & (weights > 0)
    rows = np.broadcast_to(np.arange(target)[:, None], pixels.shape)
    entries = weights[inside].astype(np.float32), (rows[inside], pixels[inside])
    return sparse.csr_matrix(entries, shape=(target, source))
