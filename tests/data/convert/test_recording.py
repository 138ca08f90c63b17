"""Any frame of any video file by its true time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data.convert.recording import Recording, recording
from egotwin_sim.errors import UserError


def _numbers(film: Recording, frames: list[int], number_of: Callable[[np.ndarray], int]) -> list[int]:
    return [number_of(picture[::2, ::2]) for picture in film.frames(np.array(frames))]


@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_by_number(
    tmp_path: Path,
    write_video: Callable[..., Path],
    numbered: Callable[..., np.ndarray],
    number_of: Callable[[np.ndarray], int],
    b_frames: int,
    suffix: str,
) -> None:
    film = Recording(write_video(tmp_path / f"a{suffix}", numbered(90), 25.0, b_frames=b_frames))
    assert len(film) == 90 and film.fps == pytest.approx(25.0) and film.duration == pytest.approx(89 / 25)
    assert np.allclose(film.times_s, np.arange(90) / 25, atol=1e-3)
    for frames in ([0], [89], [3, 4, 50, 88], list(range(40, 60))):
        assert _numbers(film, frames, number_of) == frames


def test_times_are_those_of_the_file(
    tmp_path: Path,
    write_video: Callable[..., Path],
    numbered: Callable[..., np.ndarray],
    number_of: Callable[[np.ndarray], int],
) -> None:
    times = 0.5 + np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 60))
    film = Recording(write_video(tmp_path / "a.mp4", numbered(60), times=times))
    assert np.allclose(film.times_s, times - times[0], atol=1e-4)
    assert _numbers(film, [7, 31, 59], number_of) == [7, 31, 59]


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))])
def test_a_video_held_sideways_is_turned_upright(
    tmp_path: Path, write_video: Callable[..., Path], rotation: int, corner: tuple[int, int]
) -> None:
    """`rotation` is counter-clockwise, as FFmpeg counts: 90 brings the upper left corner to the lower left."""
    pictures = np.zeros((5, 64, 96, 3), dtype=np.uint8)
    pictures[:, :32, :32] = 250
    frames = Recording(write_video(tmp_path / "a.mp4", pictures, 25.0, rotation=rotation)).frames(np.array([2]))
    assert frames.shape[1:3] == ((64, 96) if rotation % 180 == 0 else (96, 64))
    bright = {(y, x) for y in (0, -1) for x in (0, -1) if frames[0, y, x, 0] > 200}
    assert bright == {corner}


def test_a_changed_file_is_read_anew(
    tmp_path: Path, write_video: Callable[..., Path], numbered: Callable[..., np.ndarray]
) -> None:
    assert len(recording(write_video(tmp_path / "a.mp4", numbered(9), 25.0))) == 9
    assert len(recording(write_video(tmp_path / "a.mp4", numbered(12), 25.0))) == 12


def test_what_is_no_video_is_refused(
    tmp_path: Path, write_video: Callable[..., Path], numbered: Callable[..., np.ndarray]
) -> None:
    with pytest.raises(UserError, match="no file"):
        recording(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(UserError, match="damaged or cut short"):
        recording(tmp_path / "a.mp4")
    whole = write_video(tmp_path / "b.mkv", numbered(60), 25.0)
    film = Recording(whole)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match="frame .* cannot be decoded|damaged"):
        film.frames(np.array([2, 58]))
