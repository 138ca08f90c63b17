"""Ego-Exo4D: what is converted is what was recorded; what is missing or broken is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from egotwin_sim.data.convert.ego_exo4d import EgoExo4DSource
from egotwin_sim.errors import UserError
from tests.data.convert.aria_files import (
    DEVICE_START,
    FIRST_ROW,
    TAKE,
    UID,
    Person,
    Tolerance,
    assert_is_truth,
    write_ego_exo,
    write_joints,
)

PERSON = Person()
HM = Path("hm") / TAKE / "points_triangulated_world_results_merged.npz"
TIMES = Path("captures") / "cmu_bike02" / "timesync.csv"
TEXTS = Path("annotations") / "atomic_descriptions_val.json"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A data set of one sound take, and the times of its frames."""
    root = tmp_path_factory.mktemp("ego-exo")
    return root, write_ego_exo(root, PERSON)


@pytest.fixture
def damaged(recorded: tuple[Path, np.ndarray], tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(recorded[0], tmp_path / "set")
    return tmp_path / "set"


def source(root: Path) -> EgoExo4DSource:
    return EgoExo4DSource(root, pixels=64)


def test_clips_show_what_was_recorded(recorded: tuple[Path, np.ndarray]) -> None:
    root, frame_times = recorded
    made = source(root)
    index = made.index()
    assert not index.skipped
    assert [each.note for each in index.notes] == ["2 descriptions are of others, unsure or empty and are left out"]
    assert [(each.sequence, round(each.start_s - DEVICE_START, 3), each.split) for each in index.clips] == [
        (TAKE, 1.4, "val"),
        (TAKE, 7.0, "val"),
    ]
    assert [each.text for each in index.clips] == [
        "The person walks ahead. The person looks to the left.",
        "The person turns around.",
    ]
    for ref in index.clips:
        # The bends of a walking body make it look 2 mm shorter.
        assert_is_truth(made.load(ref), PERSON, frame_times, Tolerance(head=0.008, joints=0.01, scale=1.002))


def test_annotated_joints_of_body_and_hands_make_a_body(damaged: Path, recorded: tuple[Path, np.ndarray]) -> None:
    shutil.rmtree(damaged / "hm")
    write_joints(damaged / "annotations" / "ego_pose" / "val", PERSON, recorded[1])
    made = source(damaged)
    found = made.load(made.index().clips[0])
    assert_is_truth(found, PERSON, recorded[1], Tolerance(head=0.01, joints=0.06, scale=1.002))
    assert "joints of ego_pose/val/body/annotation: 418 of 420 frames are known" in found.notes
    wrists = [found.motion.skeleton.index[f"{side}_wrist"] for side in ("left", "right")]
    truth = PERSON.motion(found.motion_start_s + np.arange(len(found.motion)) / found.motion.fps - DEVICE_START)
    np.testing.assert_allclose(
        np.abs(np.sum(found.motion.joint_quat_wxyz[:, wrists] * truth.joint_quat_wxyz[:, wrists], axis=-1)),
        1.0,
        atol=0.02,
    )


def test_failed_stretches_of_a_fit_cost_the_clips_that_they_lie_in(
    damaged: Path, recorded: tuple[Path, np.ndarray]
) -> None:
    arrays = dict(np.load(damaged / HM))
    arrays["valid"][0, 90:120] = 0
    np.savez(damaged / HM, **arrays)
    made = source(damaged)
    lost, kept = made.index().clips
    with pytest.raises(UserError, match="no unbroken body motion"):
        made.load(lost)
    found = made.load(kept)
    assert "30 frames that the fit marks as failed are left out" in found.notes
    assert_is_truth(found, PERSON, recorded[1], Tolerance(head=0.008, scale=1.002))


def test_frames_without_a_time_are_interpolated(damaged: Path, recorded: tuple[Path, np.ndarray]) -> None:
    table = pd.read_csv(damaged / TIMES).astype({"aria01_214-1_capture_timestamp_ns": float})
    table.loc[FIRST_ROW + 100 : FIRST_ROW + 101, "aria01_214-1_capture_timestamp_ns"] = np.nan
    table.to_csv(damaged / TIMES, index=False)
    made = source(damaged)
    index = made.index()
    assert index.notes[0].note == "2 frames without a time in timesync.csv: interpolated"
    assert_is_truth(made.load(index.clips[0]), PERSON, recorded[1], Tolerance(head=0.008, scale=1.002))


@pytest.mark.parametrize(
    "missing",
    [
        f"takes/{TAKE}/frame_aligned_videos/aria01_214-1.mp4",
        f"takes/{TAKE}/trajectory/closed_loop_trajectory.csv",
        f"takes/{TAKE}/trajectory/online_calibration.jsonl",
        str(TIMES),
        str(HM),
    ],
)
def test_a_missing_part_is_named(damaged: Path, missing: str) -> None:
    (damaged / missing).unlink()
    index = source(damaged).index()
    assert not index.clips and missing in index.skipped[0].reason


def test_without_descriptions_nothing_can_be_made(damaged: Path) -> None:
    content = json.loads((damaged / TEXTS).read_text())
    content["annotations"]["another-uid"] = content["annotations"].pop(UID)
    (damaged / TEXTS).write_text(json.dumps(content))
    assert "no atomic descriptions" in source(damaged).index().skipped[0].reason
    (damaged / TEXTS).write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        source(damaged).index()
    (damaged / TEXTS).unlink()
    with pytest.raises(UserError, match="atomic_descriptions"):
        source(damaged).index()


def test_a_video_of_another_length_is_refused(damaged: Path) -> None:
    takes = json.loads((damaged / "takes.json").read_text())
    takes[0]["timesync_end_idx"] -= 20
    (damaged / "takes.json").write_text(json.dumps(takes))
    assert "has 420 frames, takes.json speaks of 400" in source(damaged).index().skipped[0].reason


def test_a_folder_without_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no takes.json"):
        source(tmp_path)
    (tmp_path / "takes.json").write_text("[]")
    with pytest.raises(UserError, match="atomic_descriptions"):
        source(tmp_path).index()
    with pytest.raises(UserError, match="body=mesh"):
        EgoExo4DSource(tmp_path, body="mesh")  # type: ignore[arg-type]
