"""Two processes under torchrun against one: the same weights, the same curve after a kill, one's checkpoint for two."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from egotwin_sim.training.logging import read_log
from tests.training import together

# What another order of float32 sums makes of six steps. The same run with other noise is 1e-1 away.
WEIGHTS, CURVE = 2e-5, 1e-5


class Runs(NamedTuple):
    """The folder of all runs, the uninterrupted one of one process, and how the two processes ended."""

    folder: Path
    whole: Path
    ended: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs of one process, and then, in one go since their start takes longest, of two."""
    folder = tmp_path_factory.mktemp("together")
    together.transformer().save_pretrained(folder / "base")
    together.train(folder / "one")
    with pytest.raises(OSError, match="no such clip"):
        together.train(folder / "grown", fail_at=4)
    ended = together.start(
        2,
        [
            {"rows": folder / "rows"},
            {"out": folder / "two"},
            {"out": folder / "replicas", "shard": False, "accumulate": 2},
            {"out": folder / "bf16", "precision": "bf16"},
            {"out": folder / "adapters", "base": folder / "base", "rank": 2},
            {"out": folder / "grown", "resume": True, "accumulate": 2, "activation_checkpointing": True},
            {"out": folder / "stopped", "stop_at": 3, "checkpoint_steps": 100},
            {"out": folder / "killed", "kill_at": 4},
        ],
    )
    return Runs(folder, folder / "one", ended)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "transformer" / "diffusion_pytorch_model.safetensors")


def curve(run: Path) -> list[float]:
    told = [[record[name] for name in ("step", "loss", "grad_norm")] for record in read_log(run, "train")]
    return [number for record in told for number in record] + [record["loss"] for record in read_log(run, "val")]


def assert_same(run: Path, whole: Path) -> None:
    assert curve(run) == pytest.approx(curve(whole), rel=CURVE)
    expected = weights(whole)
    assert weights(run).keys() == expected.keys()
    for name, value in weights(run).items():
        torch.testing.assert_close(value, expected[name], atol=WEIGHTS, rtol=0, msg=name)


def test_processes_share_what_is_computed_once(runs: Runs) -> None:
    told = [json.loads((runs.folder / "rows" / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert [one["asked"] for one in told] == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9]]
    assert all(one["found"] == [100 + row for row in range(10)] for one in told)


@pytest.mark.parametrize("run", ["two", "replicas"])
def test_two_processes_reach_the_weights_of_one(runs: Runs, run: str) -> None:
    assert_same(runs.folder / run, runs.whole)
    config = json.loads((runs.folder / run / "transformer" / "config.json").read_text())
    assert config == json.loads((runs.whole / "transformer" / "config.json").read_text())


def test_bf16_differs_by_its_rounding_alone(runs: Runs, tmp_path: Path) -> None:
    together.train(tmp_path / "one", precision="bf16")
    two, one = weights(runs.folder / "bf16"), weights(tmp_path / "one")
    start = {name: value.detach() for name, value in together.transformer().named_parameters()}
    moved = torch.cat([(one[name] - start[name]).flatten() for name in start])
    apart = torch.cat([(two[name] - one[name]).flatten() for name in start])
    assert apart.norm() < 0.1 * moved.norm()


def test_adapters_beside_weights_that_are_read_in_pieces(runs: Runs, tmp_path: Path) -> None:
    together.train(tmp_path / "one", base=runs.folder / "base", rank=2)
    assert_same(runs.folder / "adapters", tmp_path / "one")


def test_run_of_one_process_goes_on_in_two(runs: Runs) -> None:
    assert_same(runs.folder / "grown", runs.whole)


def test_signal_to_one_process_stops_both_with_a_checkpoint(runs: Runs) -> None:
    stopped = runs.folder / "stopped"
    assert "is saved; go on with --resume" in runs.ended.stderr and not (stopped / "transformer").exists()
    together.train(stopped, resume=True)
    assert_same(stopped, runs.whole)


def test_killed_process_ends_the_other_and_the_run_goes_on_in_one(runs: Runs) -> None:
    assert runs.ended.returncode != 0
    assert "lost another one" in runs.ended.stderr and "--resume" in runs.ended.stderr
    killed = runs.folder / "killed"
    assert [path.name for path in (killed / "checkpoint").glob("step-*")] == ["step-00000003"]
    together.train(killed, resume=True)
    assert_same(killed, runs.whole)
