"""Both benchmark scripts run through and report every figure that has a target."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from egotwin_sim.data.room import generate_room_dataset
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
    done = run(
        "dream_quality.py", "--data", data, "--clips", "4", "--weights", weights, "--out", out, "--sheet", sheet
    )
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


def test_dream_speed(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    done = run("dream_speed.py", "--weights", weights, "--steps", "3", "--threads", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert set(figures["steps"]) == {"env.step", "stream.step, body dreamt too"}
    assert all(row["median_ms"] <= row["p99_ms"] for row in figures["steps"].values())
    assert {"transformer", "video decode", "motion decode"} < set(figures["parts_ms"])
