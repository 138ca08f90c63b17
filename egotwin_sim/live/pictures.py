"""Pictures in the size that the model sees."""

from __future__ import annotations

import numpy as np

from egotwin_sim.errors import UserError


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """A square picture, uint8 (S, S, 3), as uint8 (size, size, 3): made smaller by the mean of what a pixel covers.

    Raises:
        UserError: it is no square RGB picture.
    """
    from PIL import Image

    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[0] != picture.shape[1] or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise UserError(f"the picture is {picture.dtype} {picture.shape}; expected uint8 (S, S, 3), a square one")
    if len(picture) == size:
        return picture
    way = Image.Resampling.BOX if len(picture) > size else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(picture).resize((size, size), way))
