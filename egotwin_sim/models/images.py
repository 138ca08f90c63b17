"""Pictures as pixels, and as what networks see."""

from __future__ import annotations

from torch import Tensor


def image_to_unit(image: Tensor) -> Tensor:
    """Uint8 pixels, of any shape, to float32 in [-1, 1]."""
    return image.float() / 127.5 - 1


def unit_to_image(picture: Tensor) -> Tensor:
    """Float in [-1, 1], clamped to that, to the nearest uint8 pixels."""
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().byte()
