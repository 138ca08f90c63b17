"""The report of roll-outs whose faults are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.report import clip_report, copy_first, horizon_frames, picture_report
from egotwin_sim.room.layout import object_colour


def room(length: int, left: int) -> np.ndarray:
    """Frames (T, 64, 64, 3) with a red patch that moves right by a pixel a frame, and a blue one that stays."""
    frames = np.full((length, 64, 64, 3), 190, np.uint8)
    for t in range(length):
        frames[t, 10:30, left + t : left + t + 20] = np.round(255 * np.array(object_colour("red")))
        frames[t, 50:60, 5:25] = np.round(255 * np.array(object_colour("blue")))
    return frames


def test_horizons_are_frames_that_the_clip_has() -> None:
    assert horizon_frames(41, 8.0) == {0.5: 4, 1.0: 8, 2.0: 16, 4.0: 32}
    assert horizon_frames(17, 8.0) == {0.5: 4, 1.0: 8, 2.0: 16}


def test_a_perfect_dream_and_the_copy() -> None:
    truth = room(17, left=2)[None]
    perfect = picture_report(truth, truth)["1"]
    assert (perfect["object_f1"], perfect["object_iou"], perfect["sharpness"]) == (1.0, 1.0, 1.0)
    copy = picture_report(truth, copy_first(truth))["1"]
    assert copy["object_f1"] == 1.0
    # The red patch has moved by 8 of its 20 pixels, the blue one has not.
    assert copy["object_iou"] == pytest.approx((12 / 28 + 1) / 2)


def test_lost_and_late_objects() -> None:
    truth = room(5, left=2)
    dream = truth.copy()
    dream[4, 10:30] = 190  # the red patch is lost
    dream[4, 35:45, 40:60] = np.round(255 * np.array(object_colour("green")))  # was not in the first frame
    figures = picture_report(truth[None], dream[None])["0.5"]
    assert figures["object_f1"] == pytest.approx(2 / 3)  # one hit, one miss; green is not scored
    assert figures["object_iou"] == pytest.approx(0.5)


def test_clip_report_is_json_and_cuts_to_the_shorter() -> None:
    truth = room(17, left=2)
    report = clip_report(truth, truth[:9])
    assert set(report) == {"dream", "copy"}
    assert set(report["dream"]) == {"0.5", "1"}
    assert report["dream"]["1"]["hand_f1"] is None  # no hand anywhere
    json.loads(json.dumps(report, allow_nan=False))


def test_different_shapes_are_refused() -> None:
    frames = room(9, left=2)[None]
    with pytest.raises(UserError, match="same length"):
        picture_report(frames, frames[:, :8])
