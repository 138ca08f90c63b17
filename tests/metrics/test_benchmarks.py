"""The benchmark scripts run through and report every figure that has a target."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from egotwin_sim.data.room import generate_room_dataset
from egotwin_sim.pipelines import EgoTwinPipeline, StreamPipeline
from tests.tiny import SIZE, tiny_pipeline

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_dream_quality(weights: Path, tmp_path: Path) -> None:
    data = generate_room_dataset(tmp_path / "data", 16, seed=3, workers=1, size=SIZE)
    out, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    done = run("dream_quality.py", "--data", data, "--clips", "4", "--weights", weights, "--out", out, "--sheet", sheet)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert sheet.is_file()
    assert figures["run"]["clips"] == 4
    assert set(figures["pictures"]) == {"dream", "copy", "wrong motion", "video VAE (upper bound)"}
    assert set(figures["pictures"]["dream"]) == {"0.5", "1", "2", "4"}
    told = " ".join(target["figure"] for target in figures["targets"])
    for word in ("video VAE", "motion VAE", "copy", "wrong motion", "F1", "IoU", "door", "hand", "turn", "text"):
        assert word in told
    # Random weights meet the target of no picture.
    pictures = [t["met"] for t in figures["targets"] if t["figure"].startswith(("video VAE", "PSNR", "object F1 at"))]
    assert pictures and not any(pictures)


def test_dream_quality_refuses_more_clips_than_there_are(weights: Path, tmp_path: Path) -> None:
    data = generate_room_dataset(tmp_path / "data", 8, seed=3, workers=1, size=SIZE)
    done = run("dream_quality.py", "--data", data, "--clips", "5", "--weights", weights)
    assert done.returncode == 2
    assert "only 4 held-out clips" in done.stderr


def test_consistency(weights: Path, tmp_path: Path) -> None:
    EgoTwinPipeline.of_stream(StreamPipeline.from_pretrained(weights)).save_index(weights)
    data = generate_room_dataset(tmp_path / "data", 16, seed=3, workers=1, size=SIZE)
    out = tmp_path / "consistency.json"
    done = run("consistency.py", "--data", data, "--clips", "4", "--weights", weights, "--out", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures["run"]["clips"] == 4 and "ego-motion head" in figures["run"]["recovery"]
    reports = figures["reports"]
    assert list(reports) == ["true clips", "another clip's motion", "T2VM"]
    for report in reports.values():
        assert report["clips"] == 4 and 0 <= report["recovered_share"] <= 1 and report["hands"]["frames"] == 4 * 41
    true, wrong = reports["true clips"], reports["another clip's motion"]
    assert true["recovered_share"] == wrong["recovered_share"]  # of the same videos
    assert true["rot_err"]["mean"] < wrong["rot_err"]["mean"]
    assert set(figures["hands_of_the_room"]) == {"projection against the renderer", "detector against the renderer"}
    refused = run("consistency.py", "--data", data, "--weights", weights, "--recovery", tmp_path)
    assert refused.returncode == 2 and "no TUM file" in refused.stderr


def test_dream_speed(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    tables = ("env", "batch", "recompute", "parts", "body", "memory")  # all but the one that compiles
    done = run(
        "dream_speed.py", "--weights", weights, "--steps", "2", "--threads", "1", "--out", out, "--only", *tables
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert len(figures["batch"]) == 15 and set(figures["goals_met"]) == {"batch 1", "batch 8"}
    rows = [figures["env"], *figures["batch"].values(), *figures["recompute"].values(), *figures["body"].values()]
    assert all(0 < row["until_frames_ms"] and row["median_ms"] <= row["p99_ms"] for row in rows)
    parts = figures["parts"]["batch 8"]
    assert {"transformer, steps", "video decoder", "motion decoder"} < set(parts["ms"])
    assert 0 < parts["decoder_share"] < 1
    assert all(value >= 0 for value in parts["ms"].values())
    assert figures["memory_mb"]["state of one dream"] > 0


def test_dream_drift(weights: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "drift.json", tmp_path / "strips.png"
    done = run(
        "dream_drift.py", "--weights", weights, "--rooms", "3", "--batch", "2", "--seconds", "10", "--out", out,
        "--sheet", sheet,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert list(figures["segments"]) == ["0 to 5 s", "5 to 10 s"]
    for row in figures["segments"].values():
        # Random weights dream no room, but they dream something.
        assert row["frechet"] > row["frechet_video_vae"] > 0 and row["frechet_halves_of_truth"] > 0
        assert len(row["colours"]["mean_rgb"]) == 3 and 0 < row["true_colours"]["saturation"] < 1
    rows = list(figures["segments"].values())
    assert figures["last_over_first"] == pytest.approx(rows[1]["frechet"] / rows[0]["frechet"])
    assert "goal" in done.stdout and sheet.is_file()


def test_soak(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    done = run("dream_drift.py", "--weights", weights, "--soak", "250", "--out", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())["soak"]
    assert figures["resident_mb"]["early"] > 0 and set(figures["goals_met"]) == {"memory", "time"}
    refused = run("dream_drift.py", "--weights", weights, "--soak", "20")
    assert refused.returncode == 2 and "at least 250 chunks" in refused.stderr


def test_dream_steps(weights: Path, tmp_path: Path) -> None:
    data = generate_room_dataset(tmp_path / "data", 8, seed=3, workers=1, size=SIZE)
    out = tmp_path / "steps.json"
    done = run("dream_steps.py", "--data", data, "--clips", "2", "--weights", weights, "--out", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert list(figures["pictures"]) == list(figures["frames_per_second"]) == ["1", "2", "4", "16"]
    few, many = (figures["pictures"][n]["4"]["psnr_db"] for n in ("2", "16"))
    assert figures["lost_db"]["4"] == pytest.approx(many - few)
    assert figures["goal_met"] == (max(figures["lost_db"].values()) <= 0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_gpu_speed_says_that_there_is_no_gpu() -> None:
    done = run("gpu_speed.py")
    assert done.returncode == 2 and "no CUDA GPU" in done.stderr and "Traceback" not in done.stderr


def test_live(weights: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "live.json", tmp_path / "drift.png"
    arguments = ("--weights", weights, "--seconds", "2", "--rooms", "1", "--out", out, "--plot", plot)
    done = run("live.py", "loop", "drift", *arguments)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures["loop"]["states_hz"] > 0 and {"simulation", "dreamer", "head_camera"} <= set(
        figures["loop"]["cores"]
    )
    assert set(figures["drift"]["rows"]) == {"without anchors", "an anchor every 1 s"} and plot.is_file()
    done = run("live.py", "lop")
    assert done.returncode == 1 and "part 'lop' is unknown" in done.stderr


def test_tracking(tmp_path: Path) -> None:
    out = tmp_path / "tracking.json"
    done = run("tracking.py", "--each", "1", "--bodies", "--out", out)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 9 and all(row["success"] for row in rows if row["mode"] != "pd" or row["clip"] != "walk")
