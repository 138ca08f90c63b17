"""`egotwin live` from end to end on small random weights: what it writes, how it ends, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import av
import pytest

from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.cli.main import main
from egotwin_sim.motion import Motion
from tests.tiny import tiny_pipeline

FILES = ["live.mp4", "motion.npz", "report.json", "trajectory.npz"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny_pipeline().save_pretrained(folder)
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(["live", *arguments])
    return int(exit_info.value.code or 0)


def check_files(out: Path) -> dict:
    assert sorted(path.name for path in out.iterdir()) == FILES
    with av.open(str(out / "live.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert frames and frames[0].shape[2] == 3
    assert len(Motion.load(out / "motion.npz")) == len(RobotTrajectory.load(out / "trajectory.npz"))
    return json.loads((out / "report.json").read_text())


@pytest.mark.parametrize("policy", ["dream", "scripted"])
def test_writes_video_motion_and_report(
    policy: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "live"
    told = ["--goal", "turn to the blue ball", "--seconds", "1.5", "--mode", "kinematic", "--size", "64"]
    assert run(*told, "--policy", policy, "--out", str(out), "--weights", str(weights)) == 0
    said = capsys.readouterr().out
    assert all(str(out / name) in said for name in FILES) and "blue ball" in said
    report = check_files(out)
    assert report["goal"] == "turn to the blue ball" and report["simulated_s"] >= 1.5 and not report["interrupted"]
    assert report["simulation"]["mode"] == "kinematic" and report["policy"] == policy
    assert report["dreamer"]["failures"] == 0 == report["dreamer"]["listener_errors"]
    assert report["simulation"]["listener_errors"] == 0 == report["camera"]["listener_errors"]
    for name in ("real_time_factor", "jitter_ms_p99", "dropped_views", "underruns", "assist_bw"):
        assert name in report["simulation"]
    for name in ("head_m", "head_deg", "psnr_db"):
        assert name in report["dream_against_simulation"]
    assert not {"simulation", "head_camera", "dreamer"} & {thread.name for thread in threading.enumerate()}


def test_ctrl_c_ends_it_and_the_files_are_whole(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "live"
    over = threading.Event()

    def interrupt() -> None:
        said = ""
        while "the body moves" not in said and not over.wait(0.05):
            said += capsys.readouterr().out
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        told = ["--goal", "wave", "--seconds", "100", "--size", "64", "--mode", "kinematic"]
        assert run(*told, "--out", str(out), "--weights", str(weights)) == 0
    finally:
        over.set()
        watcher.join()
    report = check_files(out)
    assert report["interrupted"] and report["simulated_s"] < 100
    assert report["prompt_to_first_movement_s"] > 0 and report["dreamer"]["chunks"] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--seconds", "1000"], "at most 120"),
        (["--seed", "-1"], "negative"),
        (["--goal", " "], "empty"),
        (["--goal", "fly to the moon", "--policy", "scripted"], "unknown word"),
        (["--policy", "magic"], "--policy 'magic'"),
        (["--weights", "pico"], "no stream weights"),
        (["--body", "nobody"], "no body 'nobody'"),
        (["--mode", "fly"], "tracking mode 'fly'"),
        (["--assist", "2"], "assist"),
        (["--size", "4"], "image size"),
        (["--anchor-every", "-1"], "anchor_every"),
        (["--tracker", "somewhere"], "--tracker was given"),
    ],
)
def test_refuses_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "live"
    assert run("--out", str(out), *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not out.exists()


def test_a_viewer_needs_a_display(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run("--viewer", "--out", str(tmp_path / "live")) == 2
    assert "--viewer needs a display" in capsys.readouterr().err


def test_out_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "live").write_text("mine")
    assert run("--out", str(tmp_path / "live")) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "live").read_text() == "mine"
