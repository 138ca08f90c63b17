"""XSens recordings: the motion comes back, and what is broken is mended, split or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.motion import load_xsens
from egotwin_sim.motion.rotations import rotation_angle, yaw_matrix
from egotwin_sim.motion.xsens import HEAD, read_xsens
from tests.data.convert.aria_files import SECONDS, TIMECODE_START, Person, xsens_arrays

PERSON = Person()
ARRAYS = xsens_arrays(PERSON)
FRAMES = ("timestamps_us", "segment_tXYZ", "segment_qWXYZ")


def written(path: Path, change: Callable[[dict[str, np.ndarray]], None] | None = None) -> Path:
    arrays = {name: array.copy() for name, array in ARRAYS.items()}
    if change is not None:
        change(arrays)
    np.savez(path / "xdata.npz", **arrays)
    return path / "xdata.npz"


def test_a_recording_is_retargeted_with_its_feet_on_the_floor(tmp_path: Path) -> None:
    imported = load_xsens(written(tmp_path), fps=16.0)
    assert imported.report.source_fps == 240.0 and imported.report.up_axis == "+z"
    assert imported.report.unmapped_target == () and set(imported.report.unmapped_source) == {"L5"}
    times = 1.0 + np.arange(len(imported.motion)) / 16.0 / (1 + 2e-5)
    truth = PERSON.motion(times)
    found, expected = imported.motion.joint_transforms(), truth.joint_transforms()
    # In its own world, which is turned by 2.1 rad and turns on by 0.05 degrees a second.
    assert np.degrees(rotation_angle(found[1][0], yaw_matrix(2.1 + np.radians(0.05)) @ expected[1][0]).max()) < 0.1
    from_pelvis = [np.swapaxes(rotation[:, :1], -1, -2) @ rotation for rotation in (found[1], expected[1])]
    assert np.degrees(rotation_angle(*from_pelvis).max()) < 0.1
    assert imported.report.metres_per_unit == pytest.approx(1.0, abs=1e-3)


def test_size_and_offsets_are_those_of_the_wearer(tmp_path: Path) -> None:
    recording = read_xsens(written(tmp_path))
    assert recording.head_above_ankles == pytest.approx(0.11 + 0.13 + 0.1 + 0.17 + 0.09 + 0.045 + 2 * 0.415, abs=1e-4)
    small = xsens_arrays(Person(1.5))
    np.savez(tmp_path / "small.npz", **small)
    ratio = read_xsens(tmp_path / "small.npz").head_above_ankles / recording.head_above_ankles
    assert ratio == pytest.approx(1.5 / 1.75, abs=1e-4)


def test_one_second_is_left_out_at_both_ends(tmp_path: Path) -> None:
    ((start, end),) = read_xsens(written(tmp_path)).spans()
    assert start == pytest.approx(TIMECODE_START + 1.0, abs=5e-3)
    assert end == pytest.approx(TIMECODE_START + SECONDS - 1.0, abs=1e-2)


def cut(arrays: dict[str, np.ndarray], start: int, stop: int) -> None:
    for name in FRAMES:
        arrays[name] = np.delete(arrays[name], slice(start, stop), axis=0)


def stray(arrays: dict[str, np.ndarray]) -> None:
    arrays["timestamps_us"][1200:1206] += 30_000
    arrays["timestamps_us"][2000] -= 3_000


def zeros(arrays: dict[str, np.ndarray]) -> None:
    arrays["segment_qWXYZ"].reshape(-1, 23, 4)[1200:1212, HEAD] = 0.0
    arrays["segment_tXYZ"].reshape(-1, 23, 3)[1800:1805, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (stray, "7 timestamps strayed from 240 Hz and were put in line"),
        (lambda arrays: cut(arrays, 1200, 1210), "1 gaps of up to 0.1 s between timestamps (0.046 s) are interpolated"),
        (zeros, "17 zero quaternions or missing positions in short runs were interpolated"),
    ],
)
def test_short_defects_are_mended(tmp_path: Path, change: Callable, note: str) -> None:
    recording = read_xsens(written(tmp_path, change))
    assert recording.notes == (note,) and len(recording.stretches) == 1
    sound = read_xsens(written(tmp_path))
    start, end = recording.spans()[0]
    times = np.arange(start, end, 0.01)
    position, quat = recording.at(times)
    expected = sound.at(times)
    assert np.abs(position - expected[0]).max() < 0.01
    assert (1.0 - np.abs(np.sum(quat * expected[1], axis=-1))).max() < 1e-4


def edges_stray(arrays: dict[str, np.ndarray]) -> None:
    arrays["timestamps_us"][:4] += 500_000
    arrays["timestamps_us"][-3:] = 0


def test_a_clock_may_run_at_its_own_rate_and_stray_at_its_ends(tmp_path: Path) -> None:
    def slow(arrays: dict[str, np.ndarray]) -> None:
        stamps = arrays["timestamps_us"]
        arrays["timestamps_us"] = np.rint(stamps[0] + (stamps - stamps[0]) * 1.0005).astype(np.int64)
        arrays["timestamps_us"][3000:3004] += 20_000
        edges_stray(arrays)

    recording = read_xsens(written(tmp_path, slow))
    assert recording.notes == ("11 timestamps strayed from 240 Hz and were put in line",)
    assert len(recording.stretches) == 1 and (np.diff(recording.times_s) > 0).all()


def long_zeros(arrays: dict[str, np.ndarray]) -> None:
    arrays["segment_qWXYZ"].reshape(-1, 23, 4)[1200:1260, 3] = 0.0


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda arrays: cut(arrays, 1200, 1260), "1 longer gaps between timestamps (0.25 s) split the recording"),
        (long_zeros, "60 frames with zero quaternions or missing positions in long runs are left out"),
    ],
)
def test_long_defects_split_the_recording(tmp_path: Path, change: Callable, note: str) -> None:
    recording = read_xsens(written(tmp_path, change))
    assert recording.notes == (note,)
    (_, first), (second, _) = recording.spans()
    assert first == pytest.approx(TIMECODE_START + 1199 / 240, abs=5e-3)
    assert second == pytest.approx(TIMECODE_START + 1260 / 240, abs=5e-3)
    with pytest.raises(UserError, match="no unbroken motion"):
        recording.at(np.array([first - 0.1, second + 0.1]))
    assert len(load_xsens(tmp_path / "xdata.npz").motion) > 7 * 16  # the longer stretch


def reset(arrays: dict[str, np.ndarray]) -> None:
    arrays["timestamps_us"][1500:] -= 2_000_000


def nowhere(arrays: dict[str, np.ndarray]) -> None:
    arrays["segment_qWXYZ"].reshape(-1, 23, 4)[:, 3] = 0.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (reset, "the clock runs back by 1995.8 ms after frame 1499"),
        (lambda arrays: arrays["timestamps_us"].__imul__(2), "never keep 240 Hz"),
        (nowhere, "no second of its 14.0 s is sound"),
        (lambda arrays: arrays.pop("segment_qWXYZ"), "lacks segment_qWXYZ"),
        (
            lambda arrays: arrays.update(segment_tXYZ=arrays["segment_tXYZ"][:, :60]),
            r"segment_tXYZ has shape \(3360, 60\)",
        ),
        (lambda arrays: cut(arrays, 400, 3360), "has 400 frames"),
        (lambda arrays: arrays.update(tpose_segment_qWXYZ=np.zeros(92)), "T-pose has a quaternion without length"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, change: Callable, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_xsens(written(tmp_path, change))


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        read_xsens(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match="cannot be read as .npz"):
        read_xsens(tmp_path / "text.npz")
    np.savez(tmp_path / "pickled.npz", timestamps_us=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="cannot be read as .npz"):
        read_xsens(tmp_path / "pickled.npz")
