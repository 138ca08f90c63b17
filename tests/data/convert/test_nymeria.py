"""Nymeria and NymeriaPlus: what is converted is what was recorded, and every known defect is found and told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.convert.cut import CutConfig
from egotwin_sim.data.convert.nymeria import NymeriaPlusSource, NymeriaSource
from egotwin_sim.data.convert.runner import convert
from egotwin_sim.errors import UserError
from tests.data.convert.aria_files import (
    DEVICE_START,
    Person,
    Tolerance,
    assert_is_truth,
    narration_rows,
    write_narrations,
    write_nymeria,
    write_preview,
)

SEQUENCE = "20230607_s1_barbara_wheeler_act1_nkg6zo"
SLAM = Path("recording_head") / "mps" / "slam"
PERSON = Person()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A data set of one sound sequence, and the times of its pictures."""
    root = tmp_path_factory.mktemp("nymeria")
    (root / SEQUENCE).mkdir()
    return root, write_nymeria(root / SEQUENCE, PERSON)


@pytest.fixture
def damaged(recorded: tuple[Path, np.ndarray], tmp_path: Path) -> Path:
    """A copy to damage: its sequence's folder."""
    shutil.copytree(recorded[0] / SEQUENCE, tmp_path / SEQUENCE)
    return tmp_path / SEQUENCE


def source(root: Path, plus: bool = False) -> NymeriaSource:
    return (NymeriaPlusSource if plus else NymeriaSource)(root, pixels=64)


def change_body(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    arrays = dict(np.load(folder / "body" / "xdata.npz"))
    change(arrays)
    np.savez(folder / "body" / "xdata.npz", **arrays)


@pytest.mark.parametrize("plus", [False, True])
def test_clips_show_what_was_recorded(recorded: tuple[Path, np.ndarray], plus: bool) -> None:
    root, frame_times = recorded
    made = source(root, plus)
    index = made.index()
    assert not index.skipped and not index.notes
    assert [round(each.start_s - DEVICE_START, 6) for each in index.clips] == [1.2, 6.2]
    assert [each.text for each in index.clips] == [f"C walks and looks about, part {i}." for i in range(2)]
    for ref in index.clips:
        found = made.load(ref)
        assert found.text == ref.text
        assert_is_truth(found, PERSON, frame_times, Tolerance())
        assert any("glasses on the head: residuals" in note for note in found.notes)


def test_without_time_codes_the_clocks_are_matched_by_turning(damaged: Path) -> None:
    shutil.rmtree(damaged / "recording_head" / "data")
    frame_times = write_preview(damaged / "video_main_rgb.mp4", PERSON)
    made = source(damaged.parent)
    found = made.load(made.index().clips[1])
    assert_is_truth(found, PERSON, frame_times, Tolerance())
    assert any("matched by how head and glasses turn" in note for note in found.notes)


def test_a_smaller_wearer_becomes_as_tall_as_our_body(tmp_path: Path) -> None:
    small = Person(1.6)
    (tmp_path / SEQUENCE).mkdir()
    frame_times = write_nymeria(tmp_path / SEQUENCE, small)
    for plus in (False, True):
        made = source(tmp_path, plus)
        found = made.load(made.index().clips[0])
        assert_is_truth(found, small, frame_times, Tolerance(scale=1.75 / 1.6))
        assert any("scaled by 1.094" in note for note in found.notes)


def test_a_whole_data_set_is_converted(recorded: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    report = convert(source(recorded[0]), tmp_path / "out", CutConfig((64, 64)), workers=1)
    assert report.clips == 2 and not report.skipped
    reader = LeRobotReader(tmp_path / "out")
    clip = reader.clip(1)
    assert clip.video.shape == (41, 64, 64, 3) and len(clip.motion) == 81
    assert clip.text == "C walks and looks about, part 1."
    truth = PERSON.T_world_head(6.2 + np.arange(81) / 16.0)[:, :3, 3]
    head = clip.motion.T_world_head()[:, :3, 3]
    np.testing.assert_allclose(np.diff(head, axis=0), np.diff(truth, axis=0), atol=2e-3)


def _glitch(arrays: dict[str, np.ndarray]) -> None:
    arrays["timestamps_us"][1500:1503] += 40_000


def _hiccup(arrays: dict[str, np.ndarray]) -> None:
    for name in ("timestamps_us", "segment_tXYZ", "segment_qWXYZ"):
        arrays[name] = np.delete(arrays[name], slice(1500, 1512), axis=0)


def _zeros(arrays: dict[str, np.ndarray]) -> None:
    arrays["segment_qWXYZ"].reshape(-1, 23, 4)[1000:1010, [6, 9]] = 0.0


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_glitch, "3 timestamps strayed from 240 Hz and were put in line"),
        (_hiccup, "1 gaps of up to 0.1 s between timestamps (0.054 s) are interpolated"),
        (_zeros, "20 zero quaternions or missing positions in short runs were interpolated"),
    ],
)
def test_small_defects_of_the_body_are_mended(
    damaged: Path, recorded: tuple[Path, np.ndarray], damage: Callable, told: str
) -> None:
    change_body(damaged, damage)
    made = source(damaged.parent)
    for ref in made.index().clips:
        found = made.load(ref)
        assert told in found.notes
        assert_is_truth(found, PERSON, recorded[1], Tolerance(joints=0.02))


def _hole(arrays: dict[str, np.ndarray]) -> None:
    for name in ("timestamps_us", "segment_tXYZ", "segment_qWXYZ"):
        arrays[name] = np.delete(arrays[name], slice(600, 720), axis=0)


def _long_zeros(arrays: dict[str, np.ndarray]) -> None:
    arrays["segment_qWXYZ"].reshape(-1, 23, 4)[600:720, 4] = 0.0


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_hole, "1 longer gaps between timestamps (0.50 s) split the recording"),
        (_long_zeros, "120 frames with zero quaternions or missing positions in long runs are left out"),
    ],
)
def test_large_defects_of_the_body_cost_the_clips_that_they_lie_in(
    damaged: Path, recorded: tuple[Path, np.ndarray], damage: Callable, told: str
) -> None:
    change_body(damaged, damage)
    made = source(damaged.parent)
    lost, kept = made.index().clips
    with pytest.raises(UserError, match="no unbroken body motion"):
        made.load(lost)
    found = made.load(kept)
    assert told in found.notes
    assert_is_truth(found, PERSON, recorded[1], Tolerance())


@pytest.mark.parametrize("shift", [-1689.1, 6.0, -6.0])
def test_narrations_on_another_clock_are_found(damaged: Path, shift: float) -> None:
    write_narrations(damaged / "narration", narration_rows("Describe my atomic actions", first=1.2 + shift))
    index = source(damaged.parent).index()
    assert not index.clips
    assert [each.sequence for each in index.skipped] == [SEQUENCE]
    reason = index.skipped[0].reason
    assert "unaligned narrations" in reason and "off by about " in reason
    assert f"{shift:+.0f}"[0] == reason.split("off by about ")[1][0]


def test_single_narrations_outside_are_left_out(damaged: Path) -> None:
    rows = narration_rows("Describe my atomic actions", first=1.2, count=3)
    write_narrations(damaged / "narration", rows)
    index = source(damaged.parent).index()
    assert len(index.clips) == 2
    assert [each.note for each in index.notes] == [
        "1 of 3 narrations lie outside the body's recording and are left out"
    ]


@pytest.mark.parametrize(
    "missing",
    [
        "body/xdata.npz",
        "recording_head/mps/slam/closed_loop_trajectory.csv",
        "recording_head/mps/slam/online_calibration.jsonl",
        "recording_head/data/rgb.mp4",
        "narration/atomic_action.csv",
    ],
)
def test_a_missing_group_is_named(damaged: Path, missing: str) -> None:
    (damaged / missing).unlink()
    index = source(damaged.parent).index()
    assert not index.clips and missing in index.skipped[0].reason and "download" in index.skipped[0].reason


def test_coarser_narrations_serve_where_there_are_no_finer_ones(damaged: Path) -> None:
    (damaged / "narration" / "atomic_action.csv").unlink()
    rows = narration_rows("Describe my body posture", first=1.2)
    for row in rows:
        row["Describe my legs/feet motion"] = "the legs walk"
    write_narrations(damaged / "narration", rows, "motion_narration.csv")
    index = source(damaged.parent).index()
    assert index.clips[0].text == "C walks and looks about, part 0. the legs walk."
    assert "texts are those of motion_narration.csv" in index.notes[0].note
    with pytest.raises(UserError, match="text=words"):
        NymeriaSource(damaged.parent, text="words")  # type: ignore[arg-type]


def test_wrong_time_codes_are_found_by_turning(damaged: Path) -> None:
    path = damaged / "recording_head" / "data" / "rgb_timestamps.csv"
    table = pd.read_csv(path)
    made = source(damaged.parent)
    table["timecode_ns"] += 700_000_000
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match=r"turns [+-]0\.70 s from when the glasses do"):
        made.load(made.index().clips[0])


def test_the_body_of_someone_else_is_refused(damaged: Path) -> None:
    def other(arrays: dict[str, np.ndarray]) -> None:
        for name in ("segment_tXYZ", "segment_qWXYZ"):
            arrays[name] = arrays[name][::-1]

    change_body(damaged, other)
    made = source(damaged.parent)
    refs = made.index().clips
    for ref in refs:  # told again at each clip, found once
        with pytest.raises(UserError, match="do not move as one|looks? .*away|turns .* from when"):
            made.load(ref)


def test_a_recording_of_two_worlds_uses_the_larger(damaged: Path) -> None:
    path = damaged / SLAM / "closed_loop_trajectory.csv"
    table = pd.read_csv(path)
    table.loc[len(table) - 300 :, "graph_uid"] = "another"
    table.loc[len(table) - 300 :, "tx_world_device"] += 100.0
    table.to_csv(path, index=False)
    made = source(damaged.parent)
    found = made.load(made.index().clips[0])
    assert any("has 2 worlds; the largest is used, 300 of 4000 poses are not" in note for note in found.notes)


def test_a_gap_in_the_trajectory_costs_the_clip_that_it_lies_in(
    damaged: Path, recorded: tuple[Path, np.ndarray]
) -> None:
    path = damaged / SLAM / "closed_loop_trajectory.csv"
    table = pd.read_csv(path)
    table.drop(range(1000, 1050)).to_csv(path, index=False)  # 0.2 s, 3 s after the beginning
    made = source(damaged.parent)
    lost, kept = made.index().clips
    with pytest.raises(UserError, match="no poses all the way"):
        made.load(lost)
    assert_is_truth(made.load(kept), PERSON, recorded[1], Tolerance())


def test_a_calibration_without_the_camera_is_refused(damaged: Path) -> None:
    path = damaged / SLAM / "online_calibration.jsonl"
    lines = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        record["CameraCalibrations"] = record["CameraCalibrations"][:1]
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines))
    made = source(damaged.parent)
    with pytest.raises(UserError, match="no calibration of camera-rgb; it has camera-slam-left"):
        made.load(made.index().clips[0])


def test_another_licence_is_told(damaged: Path) -> None:
    (damaged / "LICENSE").write_text("All rights reserved")
    assert "wrong licence file" in source(damaged.parent).index().notes[0].note


def test_a_folder_without_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no sequence"):
        source(tmp_path).index()
    with pytest.raises(UserError, match="is not a folder"):
        source(tmp_path / "nowhere")
