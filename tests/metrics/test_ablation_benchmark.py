"""The ablation benchmark: who wins, and the whole of it at toy size."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from egotwin_sim.training.config import load_config

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("ablations_benchmark", BENCHMARKS / "ablations.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_who_wins(ablations: ModuleType) -> None:
    row = ablations.Row.of
    assert row([1.0, 3.0]) == ablations.Row(2.0, 1.0) and str(row([1.0, 3.0])) == "2.000 ± 1.000"
    assert row([1.0, None]) is None and row([]) is None
    assert ablations.winner(row([1.0, 1.2]), row([2.0, 2.2]), up=False) == "full"
    assert ablations.winner(row([1.0, 1.2]), row([2.0, 2.2]), up=True) == "it"
    assert ablations.winner(row([1.0, 2.0]), row([1.5, 2.5]), up=True) == "even"


def test_directions_beside_the_papers(ablations: ModuleType) -> None:
    assert all(
        ablations.paper_winner(name, column) == "full"
        for name in ("root-centric", "no-interaction", "shared-timestep", "vidmld")
        for column in ("i_fid", "r_prec", "rot_err", "hand_score")
    )
    assert ablations.paper_winner("separate-text", "i_fid") is None
    assert ablations.paper_winner("root-centric", "mm_dist") is None
    row = ablations.Row.of
    table = {
        "full": {"rot_err": row([0.4, 0.5]), "r_prec": row([0.6]), "i_fid": None},
        "root-centric": {"rot_err": row([1.1, 1.3]), "r_prec": row([0.7]), "i_fid": row([1.0])},
    }
    found = ablations.directions(table)["root-centric"]
    assert found["rot_err"] == {"here": "full", "paper": "full"}
    assert ablations.told_direction(found["rot_err"]) == "wins +"
    assert ablations.told_direction(found["r_prec"]) == "loses -"
    assert ablations.told_direction(found["i_fid"]) == "-"


@pytest.mark.slow
def test_the_whole_benchmark_and_again(tmp_path: Path) -> None:
    from egotwin_sim.data.room import generate_room_dataset

    data = generate_room_dataset(tmp_path / "data", 80, seed=3, workers=2, size=32)
    config = load_config("ablation")
    config["models"]["motion_vae"] |= {"latent_channels": 8, "width": 16, "blocks": 1}
    for name in ("transformer", "vidmld"):
        config["models"][name] |= {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}
        config["models"][name] |= {"motion_channels": 8}
    config["models"]["transformer"] |= {"motion_dim": 16}
    for stage in config["stages"].values():
        stage["trainer"] |= {"steps": 2, "batch_size": 2, "warmup_steps": 1, "validate_every": 2}
    config["stages"]["joint"]["clips"] = 8
    path, out = tmp_path / "tiny.yaml", tmp_path / "figures.json"
    path.write_text(yaml.safe_dump(config))
    command = [
        sys.executable, str(BENCHMARKS / "ablations.py"), "--data", str(data), "--out", str(tmp_path / "runs"),
        "--json", str(out), "--config", str(path), "--variants", "full", "vidmld", "--seeds", "2", "--clips", "8",
        "--sampling-steps", "1", "--steps", "2", "--recovery", str(tmp_path),
    ]  # fmt: skip
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        figures = json.loads(out.read_text())
        assert set(figures["table"]) == {"full", "vidmld"} and set(figures["references"]) >= {"true clips"}
        assert figures["table"]["full"]["i_fid"]["mean"] > 0 and len(figures["seeds"]["full"]) == 2
        assert figures["references"]["true clips"]["i_fid"] < 1e-6
        assert "camera recovered" in done.stdout and figures["table"]["full"]["motion_gain"] is not None
    logs = (tmp_path / "runs" / "full" / "seed-0.log").read_text()
    assert logs.count("full, seed 0: text, video and motion") == 1  # the second time nothing was trained
