"""A conversion: the same bytes whatever the workers and the interruptions, and a report of what was left out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from egotwin_sim.cli.data import app
from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.convert.cut import CutConfig
from egotwin_sim.data.convert.folder import FolderSource
from egotwin_sim.data.convert.runner import convert
from egotwin_sim.data.verify import verify
from egotwin_sim.errors import UserError

CONFIG = CutConfig((32, 32), 1.0)

# Runs a conversion in a process of its own: (source, folder, stage and clip at which to be killed).
SCRIPT = """
import os, signal, sys
from pathlib import Path
from egotwin_sim.data.convert.cut import CutConfig
from egotwin_sim.data.convert.folder import FolderSource
from egotwin_sim.data.convert.runner import convert
root, out, fatal_stage, fatal_clip = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
def progress(stage, done, total):
    if stage == fatal_stage and done >= fatal_clip:
        os.kill(os.getpid(), signal.SIGKILL)
convert(FolderSource(Path(root)), out, CutConfig((32, 32), 1.0), workers=1, progress=progress)
"""


def _killed(root: Path, out: Path, stage: str, clip: int) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", SCRIPT, str(root), str(out), stage, str(clip)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def _contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Four that can be used, one of them not everywhere; three that cannot."""
    root = tmp_path_factory.mktemp("recordings")
    write_video, numbered = request.getfixturevalue("write_video"), request.getfixturevalue("numbered")
    turning = request.getfixturevalue("turning")
    for i, name in enumerate(("a", "b", "c", "d", "headless", "short", "speechless")):
        write_video(root / f"{name}.mp4", numbered(91, 100 * i), 30.0)
        turning(3.0 if name != "short" else 2.0, 20.0).save(root / f"{name}.npz")
        (root / f"{name}.txt").write_text(f"text {name}")
    whole = turning(3.0, 20.0)
    names = tuple("skull" if name == "head" else name for name in whole.skeleton.names)
    replace(whole, skeleton=replace(whole.skeleton, names=names)).save(root / "headless.npz")
    (root / "speechless.txt").unlink()
    (root / "c.txt").write_text("0 1 walks\n1 2 turns\n2 2.3 nods\n")
    times = np.delete(np.arange(91) / 30, slice(35, 45))
    write_video(root / "d.mp4", np.delete(numbered(91, 300), slice(35, 45), axis=0), times=times)
    return root


@pytest.fixture(scope="module")
def dataset(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made without interruption by two workers."""
    out = tmp_path_factory.mktemp("data") / "set"
    convert(FolderSource(recordings), out, CONFIG, workers=2)
    return out


def test_it_is_sound_and_complete(dataset: Path, number_of: Callable[[np.ndarray], int]) -> None:
    checked = verify(dataset)
    assert checked.problems == () and checked.episodes == 10
    reader = LeRobotReader(dataset)
    assert not (dataset / ".generation").exists() and reader.motion_fps == 16.0 and reader.fps == 8
    found = {(reader.note("sequence", i), float(reader.note("start_s", i)), reader.text(i)) for i in range(10)}
    expected = {(name, float(i), f"text {name}") for name in "ab" for i in range(3)}
    expected |= {("c", 0.0, "walks"), ("c", 1.0, "turns"), ("d", 0.0, "text d"), ("d", 2.0, "text d")}
    assert found == expected
    for episode in range(10):
        clip = reader.clip(episode)
        sequence, start = reader.note("sequence", episode), float(reader.note("start_s", episode))
        first = 100 * "abcd".index(sequence)
        shown = np.array([number_of(picture) for picture in clip.video])
        assert np.abs((shown - first) / 30 - (start + np.arange(9) / 8)).max() <= 0.5 / 30 + 1e-3
        assert np.allclose(clip.motion.root_position[:, 0], 0.4 * (start + np.arange(17) / 16), atol=1e-4)


def test_the_report_says_what_became_of_everything(dataset: Path) -> None:
    report = json.loads((dataset / "report.json").read_text())
    assert (report["clips"], report["clips_skipped"], report["hours"]) == (10, 2, 10 / 3600)
    sequences = report["sequences"]
    assert {name: each["clips"] for name, each in sequences.items() if each["clips"]} == {
        "a": 3,
        "b": 3,
        "c": 2,
        "d": 2,
    }
    assert "no joint named head" in sequences["headless"]["reason"]
    assert "the video lasts 3.03 s, the motion 2.05 s" in sequences["short"]["reason"]
    assert "text: expected one file" in sequences["speechless"]["reason"]
    assert sequences["c"]["skipped"] == [
        {"start_s": 2.0, "reason": "its text covers 0.3 s; a clip needs 1 s: give a smaller --seconds"}
    ]
    assert [each["start_s"] for each in sequences["d"]["skipped"]] == [1.0]
    assert "no video frame within 63 ms of 1.250 s" in sequences["d"]["skipped"][0]["reason"]
    assert "motion at 20 frames/s was resampled to 16" in sequences["a"]["notes"]


def test_no_recording_is_in_two_splits(dataset: Path) -> None:
    reader = LeRobotReader(dataset)
    held_out = {reader.note("sequence", episode) for episode in reader.split("val")}
    assert len(held_out) == 1 and len(reader.split("train")) + len(reader.split("val")) == 10
    assert held_out.isdisjoint(reader.note("sequence", episode) for episode in reader.split("train"))


def test_one_worker_makes_the_same_bytes(recordings: Path, dataset: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    report = convert(
        FolderSource(recordings), tmp_path / "set", CONFIG, workers=1, progress=lambda *args: seen.append(args)
    )
    assert _contents(tmp_path / "set") == _contents(dataset)
    assert report.clips == 10 and seen[0] == ("converting", 0, 11) and seen[-1] == ("joining", 10, 10)


def test_killed_twice_it_goes_on_to_the_same_bytes(recordings: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    _killed(recordings, out, "converting", 5)
    made = {path.name: path.stat().st_mtime_ns for path in (out / ".generation").glob("part-*")}
    assert 1 <= len(made) < 4
    with pytest.raises(UserError, match="unfinished dataset"):
        LeRobotReader(out)
    with pytest.raises(UserError, match="other settings"):
        convert(FolderSource(recordings), out, CutConfig((64, 64), 1.0), workers=1)
    _killed(recordings, out, "joining", 7)
    assert {name: (out / ".generation" / name).stat().st_mtime_ns for name in made} == made
    convert(FolderSource(recordings), out, CONFIG, workers=1)
    assert _contents(out) == _contents(dataset)


def test_clips_of_one_dataset_may_have_different_cameras(
    tmp_path: Path, record: Callable[..., Path], recordings: Path
) -> None:
    for name, fovy in (("a", 60), ("b", 80)):
        record(tmp_path / "in", name, seconds=1.0)
        (tmp_path / "in" / f"{name}.camera.json").write_text(json.dumps({"fovy_deg": fovy}))
    convert(FolderSource(tmp_path / "in"), tmp_path / "set", CONFIG, workers=1)
    reader = LeRobotReader(tmp_path / "set")
    found = {reader.note("sequence", i): np.degrees(2 * np.arctan(16 / reader.clip(i).camera.K[1, 1])) for i in (0, 1)}
    assert found == {"a": pytest.approx(60), "b": pytest.approx(80)}


def test_motion_alone(tmp_path: Path, recordings: Path) -> None:
    report = convert(FolderSource(recordings, video=False), tmp_path / "set", CONFIG, workers=2, limit=4)
    reader = LeRobotReader(tmp_path / "set")
    assert report.clips == len(reader) == 4 and not reader.has_video and verify(tmp_path / "set").problems == ()
    assert len(reader.motion(0)) == 17


def test_when_nothing_can_be_used_nothing_is_left(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "in", "a", seconds=0.5)
    with pytest.raises(UserError, match="no clip of folder can be used: 1 x its text covers 0.6 s"):
        convert(FolderSource(tmp_path / "in"), tmp_path / "set", CONFIG, workers=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no recording"):
        convert(FolderSource(tmp_path / "empty"), tmp_path / "set", CutConfig((64, 64)), workers=1)
    assert not (tmp_path / "set").exists() or not any((tmp_path / "set").iterdir())


def test_the_command_line(recordings: Path, dataset: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(
        app, ["convert", "folder", str(recordings), "--out", str(tmp_path / "set"), "--size", "32", "--seconds", "1"]
    )
    assert done.exit_code == 0, done.output
    assert _contents(tmp_path / "set") == _contents(dataset)
    text = " ".join(done.output.split())
    assert "10 clips (train" in text and "of 1 s, 0.00 hours, from 4 sequences" in text
    assert "3 sequences skipped:" in text and "2 clips skipped:" in text and "headless: " in text
    for words, message in (
        (["convert", "nymria", str(recordings)], "no kind of data set 'nymria': give one of nymeria"),
        (["convert", "folder", str(tmp_path / "no")], "there is no folder"),
        (["convert", "folder", str(recordings), "--set", "fov=3"], "video .*fovy_deg"),
        (["convert", "folder", str(recordings), "--limit", "0"], "--limit 0"),
        (["convert", "folder", str(recordings), "--workers", "0"], "--workers 0"),
    ):
        failed = runner.invoke(app, [*words, "--out", str(tmp_path / "other")])
        with pytest.raises(UserError, match=message):
            raise failed.exception or AssertionError(failed.output)
    assert not (tmp_path / "other").exists()
    listed = runner.invoke(app, ["convert", "--help"]).output
    assert all(kind in listed for kind in ("nymeria-plus", "ego-exo4d", "amass", "humanml3d", "folder"))
