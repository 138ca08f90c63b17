"""Ctrl-C and SIGTERM: the run ends with a checkpoint and goes on as if nothing had been."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from egotwin_sim.training.checkpoint import list_checkpoints
from egotwin_sim.training.logging import read_log
from tests.training import together


@pytest.mark.parametrize(("number", "leaves"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_signal_ends_the_run_with_a_checkpoint(
    number: int, leaves: type[BaseException], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(leaves) as left:
        together.train(tmp_path / "cut", stop_at=3, stop_with=number, checkpoint_steps=100)
    assert number != signal.SIGTERM or left.value.code == 143  # type: ignore[attr-defined]
    (checkpoint,) = list_checkpoints(tmp_path / "cut" / "checkpoint")
    step = int(checkpoint.name.removeprefix("step-"))
    assert 0 < step < together.CONFIG.steps
    assert f"after step {step}, which is saved" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    together.train(tmp_path / "cut", resume=True, checkpoint_steps=100)
    together.train(tmp_path / "whole")
    for kind in ("train", "val"):
        cut, whole = ([(r["step"], r["loss"]) for r in read_log(tmp_path / run, kind)] for run in ("cut", "whole"))
        assert cut == whole
