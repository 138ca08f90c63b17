"""Pictures with their times, from the files that hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from egotwin_sim.data.convert.frames import converted_frames, extracted_frames
from egotwin_sim.errors import UserError
from tests.data.convert.aria_files import Person, device_clock, frame_blue, time_code, write_preview, write_rgb

PERSON = Person()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    write_rgb(folder, PERSON, size=64)
    write_preview(folder / "preview.mp4", PERSON, size=64)
    return folder


def test_extracted_frames_have_both_clocks(folder: Path) -> None:
    frames = extracted_frames(folder / "rgb.mp4", folder / "rgb_timestamps.csv")
    times = np.arange(-0.5, 14.5, 1.0 / 15.0)
    np.testing.assert_allclose(frames.times_s, device_clock(times), atol=1e-6)
    assert frames.timecode_s is not None
    np.testing.assert_allclose(frames.timecode_s, time_code(times), atol=1e-6)
    assert frames.size == (64, 64) and not frames.upright
    numbers = np.array([3, 50, 51, 224])
    for picture, number in zip(frames.read(numbers, 2), numbers, strict=True):
        assert picture.shape == (32, 32, 3)
        assert abs(np.median(picture[8:24, 8:24, 2]) - frame_blue(number)) < 4


def test_copied_frames_of_a_preview_are_left_out(folder: Path) -> None:
    frames = converted_frames(folder / "preview.mp4")
    assert len(frames.times_s) == 224 and frames.upright and frames.timecode_s is None
    assert (np.diff(frames.times_s) > 0).all() and np.diff(frames.times_s).max() == pytest.approx(2 / 15, abs=1e-6)
    for i in (19, 20):  # the 20th was dropped: the next is the 21st
        assert abs(np.median(frames.read(np.array([i]), 1)[0, 16:48, 16:48, 2]) - frame_blue(i + (i > 19))) < 4


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no timestamps in its description tag"):
        converted_frames(folder / "rgb.mp4")
    with pytest.raises(UserError, match="nothing.csv is missing"):
        extracted_frames(folder / "rgb.mp4", tmp_path / "nothing.csv")
    table = pd.read_csv(folder / "rgb_timestamps.csv")
    table[:-3].to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match="has 225 frames and 222 timestamps"):
        extracted_frames(folder / "rgb.mp4", tmp_path / "a.csv")
    table.drop(columns="device_timestamp_ns").to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(UserError, match="no numbers in device_timestamp_ns"):
        extracted_frames(folder / "rgb.mp4", tmp_path / "b.csv")
    table.loc[9, "device_timestamp_ns"] = 0
    table.to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(UserError, match="missing or run back"):
        extracted_frames(folder / "rgb.mp4", tmp_path / "c.csv")
    (tmp_path / "broken.mp4").write_bytes((folder / "rgb.mp4").read_bytes()[:2000])
    with pytest.raises(UserError, match="cannot be read as a video"):
        converted_frames(tmp_path / "broken.mp4")
