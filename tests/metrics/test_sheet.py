"""The contact sheet holds the pictures it was given, truth above dream."""

from __future__ import annotations

import numpy as np
from PIL import Image

from egotwin_sim.metrics.sheet import contact_sheet, save_sheet


def test_every_picture_is_on_the_sheet_truth_above_dream(tmp_path) -> None:
    colours = np.arange(1, 13, dtype=np.uint8).reshape(2, 3, 2) * 20  # [truth or dream, clip, time]
    pictures = np.repeat(np.broadcast_to(colours[..., None, None, None], (2, 3, 2, 32, 32, 1)), 3, axis=-1)
    sheet = contact_sheet(pictures[0], pictures[1], ["a", "b", "c" * 200], ["0 s", "1 s"], columns=2)
    for clip in range(3):
        for t in range(2):
            places = [np.argwhere((sheet == value).all(axis=-1)) for value in colours[:, clip, t]]
            assert [len(place) >= 32 * 32 for place in places] == [True, True]
            assert np.median(places[0][:, 0]) < np.median(places[1][:, 0])
    save_sheet(tmp_path / "docs" / "sheet.png", sheet)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "docs" / "sheet.png")), sheet)
    assert [p.name for p in (tmp_path / "docs").iterdir()] == ["sheet.png"]
