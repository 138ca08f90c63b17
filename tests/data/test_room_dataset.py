"""The generator: the same bytes whatever the workers and the interruptions; nothing half-written."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from egotwin_sim.cli.data import app
from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.plan import CLIPS_PER_ROOM, Plan
from egotwin_sim.data.room import generate_room_dataset
from egotwin_sim.data.verify import verify
from egotwin_sim.errors import UserError
from egotwin_sim.motion import encode

SETTINGS = {"clips": 6, "seed": 11, "size": 32, "seconds": 1.0}  # two rooms, the second one incomplete

# Runs the generator in a process of its own: (folder, file size limit or 0, stage and clip at which to be killed).
SCRIPT = f"""
import os, resource, signal, sys
from egotwin_sim.data.room import generate_room_dataset
from egotwin_sim.errors import UserError
out, limit, fatal_stage, fatal_clip = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
def progress(stage, done, total):
    if stage == fatal_stage and done >= fatal_clip:
        os.kill(os.getpid(), signal.SIGKILL)
try:
    generate_room_dataset(out, workers=1, progress=progress, **{SETTINGS!r})
except UserError as error:
    sys.exit(f"UserError: {{error}}")
"""


def _run(out: Path, limit: int = 0, stage: str = "never", clip: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SCRIPT, str(out), str(limit), stage, str(clip)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def _contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made without interruption by two workers."""
    return generate_room_dataset(tmp_path_factory.mktemp("data") / "set", workers=2, **SETTINGS)


def test_it_is_sound(dataset: Path) -> None:
    report = verify(dataset)
    assert report.problems == ()
    assert report.episodes == 6 and report.frames == 6 * 9
    assert not (dataset / ".generation").exists()


def test_clips_hold_what_the_room_showed(dataset: Path) -> None:
    reader = LeRobotReader(dataset)
    assert reader.split("train") == range(CLIPS_PER_ROOM) and reader.split("val") == range(CLIPS_PER_ROOM, 6)
    assert np.allclose(reader.camera.K, [[16, 0, 16], [0, 16, 16], [0, 0, 1]])
    plan = Plan(**SETTINGS)
    for i, clip in enumerate(reader):
        assert clip.video.shape == (9, 32, 32, 3) and len(clip.motion) == 17
        assert clip.text and clip.depth is not None and 0.1 <= clip.depth.min() < clip.depth.max() <= 10.0
        assert clip.video.std() > 5
        rows = reader.columns(i)
        assert np.array_equal(rows["observation.state"], encode(clip.motion)[::2])
        assert set(rows["room.seed"].ravel()) == {plan.room_seed(i // CLIPS_PER_ROOM)}
        assert set(rows["room.clip_seed"].ravel()) == {plan.clip_seed(i)}
        assert rows["room.door_angle"].min() >= 0 and set(rows["room.blocked"].ravel()) <= {0, 1}
        skills = reader.info["egotwin"]["codes"]["room.skill"]
        assert rows["room.skill"].min() >= 0 and rows["room.skill"].max() < len(skills)


def test_pictures_are_those_of_the_motion_frames(dataset: Path) -> None:
    """The stored frame i is the room at motion frame 2i: no frame early or late."""
    from egotwin_sim.room.layout import sample_layout
    from egotwin_sim.room.world import RoomWorld

    reader, plan = LeRobotReader(dataset), Plan(**SETTINGS)
    world = RoomWorld(sample_layout(plan.room_seed(0)), size=32)
    for episode in range(CLIPS_PER_ROOM):
        clip, angle = reader.clip(episode), reader.columns(episode, ("room.door_angle",))["room.door_angle"]
        rendered = []
        for i in range(len(clip)):
            world.reset(clip.motion[2 * i], float(angle[i, 0]))
            rendered.append(world.render())
        error = ((clip.video[:, None].astype(float) - np.stack(rendered)[None]) ** 2).mean(axis=(2, 3, 4))
        assert np.diag(error).max() < 20.0  # at least 35 dB
        assert all(error[i, i] <= error[i].min() + 1.0 for i in range(len(clip)))
    world.close()


def test_one_worker_makes_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    other = generate_room_dataset(tmp_path / "set", workers=1, progress=lambda *args: seen.append(args), **SETTINGS)
    assert _contents(other) == _contents(dataset)
    assert seen[0] == ("rendering", 0, 6) and ("rendering", 6, 6) in seen and seen[-1] == ("joining", 6, 6)


def test_killed_twice_it_goes_on_to_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert _run(out, stage="rendering", clip=1).returncode == -signal.SIGKILL
    made = {path.name: path.stat().st_mtime_ns for path in (out / ".generation").glob("room-*")}
    assert len(made) == 1
    with pytest.raises(UserError, match="unfinished dataset"):
        LeRobotReader(out)
    with pytest.raises(UserError, match="other settings"):
        generate_room_dataset(out, workers=1, **(SETTINGS | {"seed": 12}))
    assert _run(out, stage="joining", clip=5).returncode == -signal.SIGKILL
    assert {name: (out / ".generation" / name).stat().st_mtime_ns for name in made} == made
    with pytest.raises(UserError, match="unfinished dataset"):
        LeRobotReader(out)
    generate_room_dataset(out, workers=1, **SETTINGS)
    assert _contents(out) == _contents(dataset)


@pytest.mark.parametrize(("limit", "where"), [(30_000, "rendering"), (150_000, "joining")])
def test_a_full_disk_is_one_line_and_leaves_no_dataset(dataset: Path, tmp_path: Path, limit: int, where: str) -> None:
    out = tmp_path / "set"
    result = _run(out, limit=limit)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("UserError: the disk is full while writing"), result.stderr
    assert [path.name for path in out.iterdir()] == [".generation"]
    rooms = len(list((out / ".generation").glob("room-*")))
    assert rooms == (0 if where == "rendering" else 2)


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    work = tmp_path / ".generation"
    work.mkdir()
    with (work / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            generate_room_dataset(tmp_path, workers=1, **SETTINGS)


def test_a_finished_or_foreign_folder_is_refused(dataset: Path, tmp_path: Path) -> None:
    before = _contents(dataset)
    with pytest.raises(UserError, match="not empty"):
        generate_room_dataset(dataset, workers=1, **SETTINGS)
    assert _contents(dataset) == before
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="not empty .*notes.txt"):
        generate_room_dataset(tmp_path, workers=1, **SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 0}, "--clips 0"),
        ({"clips": -3}, "--clips -3"),
        ({"seed": -1}, "--seed -1"),
        ({"size": 100}, "--size 100"),
        ({"size": 16}, "--size 16"),
        ({"size": 2048}, "--size 2048"),
        ({"seconds": 0.0}, "--seconds 0"),
        ({"seconds": 0.3}, "--seconds 0.3"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate_room_dataset(tmp_path / "set", **({"workers": 1} | SETTINGS | change))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("clips", [1, 4, 5, 8, 41, 80, 400])
def test_a_plan_covers_its_clips_and_keeps_rooms_whole(clips: int) -> None:
    plan = Plan(clips, 7)
    assert [clip for room in range(plan.rooms) for clip in plan.clips_of(room)] == list(range(clips))
    assert [clip for part in plan.splits.values() for clip in part] == list(range(clips))
    if plan.rooms > 1:
        assert plan.splits["val"].start % CLIPS_PER_ROOM == 0 and len(plan.splits["val"]) >= 1
        assert abs(len(plan.splits["val"]) - 0.1 * clips) <= 2 * CLIPS_PER_ROOM
    seeds = [plan.room_seed(i) for i in range(plan.rooms)] + [plan.clip_seed(i) for i in range(clips)]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 2**53
    assert Plan(clips + 100, 7).clip_seed(clips - 1) == plan.clip_seed(clips - 1)
    assert Plan(clips, 8).room_seed(0) != plan.room_seed(0)


def test_the_command_line(dataset: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(
        app, ["room", "--clips", "2", "--seed", "5", "--size", "32", "--seconds", "0.5", "--workers", "1",
              "--out", str(tmp_path / "set")]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2 clips" in result.stdout
    shown = runner.invoke(app, ["info", str(tmp_path / "set")])
    assert shown.exit_code == 0 and "train 2" in shown.stdout and "32x32" in shown.stdout
    sound = runner.invoke(app, ["verify", str(tmp_path / "set")])
    assert sound.exit_code == 0 and "sound" in sound.stdout
    stats = tmp_path / "set/meta/stats.json"
    stats.write_text(stats.read_text().replace("0", "1", 1))
    broken = runner.invoke(app, ["verify", str(tmp_path / "set")])
    assert broken.exit_code == 1 and "checksum" in broken.stderr
    refused = runner.invoke(app, ["room", "--clips", "2", "--out", str(tmp_path / "set")])
    assert isinstance(refused.exception, UserError)


def test_rooms_that_all_clips_share():
    plan = Plan(20, 7, same_rooms=2)
    assert plan.rooms == 2
    assert [plan.clips_of(room) for room in range(2)] == [range(10), range(10, 20)]
    assert plan.splits == {"train": range(18), "val": range(18, 20)}
    with pytest.raises(UserError, match="--same-rooms 11"):
        Plan(20, 7, same_rooms=11)
