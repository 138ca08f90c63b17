"""The trainer: resuming after a kill, logs, schedules, refusals; the configuration loader."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from egotwin_sim.errors import UserError
from egotwin_sim.training.checkpoint import list_checkpoints
from egotwin_sim.training.config import build, load_config
from egotwin_sim.training.ema import EMA
from egotwin_sim.training.logging import read_log
from egotwin_sim.training.parts import Part, draw_normal
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices, learning_rate_at, step_generator

CONFIG = TrainerConfig(steps=12, batch_size=4, warmup_steps=3, log_every=2, validate_every=6, checkpoint_steps=5)


def make_trainer(
    out: Path, *, resume: bool = False, config: TrainerConfig = CONFIG, kill_at: int | None = None
) -> Trainer:
    """A regression whose loss depends on batch and generator; `kill_at` ends the process by SIGKILL."""
    torch.manual_seed(config.seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))
    data = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 3))).float()

    def batch(step: int, part: Part) -> dict[str, torch.Tensor]:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"x": data[batch_indices(len(data), config.batch_size, config.seed, step, part)]}

    def loss(
        batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x = batch["x"] + 0.1 * draw_normal(batch["x"].shape, generator)
        error = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return error, {"error": error}

    def validate() -> dict[str, float]:
        return {"error": float((model(data) - data.sum(1, keepdim=True)).square().mean())}

    return Trainer({"net": model}, loss, batch, config, out, validate=validate, resume=resume, device="cpu")


def curve(out: Path) -> list[tuple]:
    """What the log says, without the timings."""
    train = [(r["step"], r["loss"], r["grad_norm"], r["learning_rate"]) for r in read_log(out, "train")]
    return train + [(r["step"], r["error"]) for r in read_log(out, "val")]


def test_killed_run_resumes_to_the_same_curve_and_weights(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.fit()
    code = (
        "from pathlib import Path; from tests.training.test_trainer import make_trainer; "
        f"make_trainer(Path({str(tmp_path / 'cut')!r}), kill_at=8).fit()"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert list_checkpoints(tmp_path / "cut" / "checkpoint")[-1].name == "step-00000005"
    resumed = make_trainer(tmp_path / "cut", resume=True)
    assert resumed.step == 5
    resumed.fit()
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert [step for step, *_ in curve(tmp_path / "cut")] == [2, 4, 6, 8, 10, 12, 6, 12]
    for name, value in whole.ema.state.items():
        assert torch.equal(value, resumed.ema.state[name])


def test_training_learns_and_ema_differs_from_weights(tmp_path: Path) -> None:
    config = TrainerConfig(steps=150, batch_size=8, learning_rate=2e-2, warmup_steps=5, precision="fp32")
    trainer = make_trainer(tmp_path, config=config)
    before = trainer.evaluate()["error"]
    trainer.fit()
    assert trainer.evaluate()["error"] < 0.2 * before


def test_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    make_trainer(tmp_path).fit()
    with pytest.raises(UserError, match="--resume"):
        make_trainer(tmp_path)


def test_truncated_or_foreign_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    make_trainer(tmp_path).fit()
    (path,) = list_checkpoints(tmp_path / "checkpoint")[-1].glob("*.safetensors")
    with pytest.raises(UserError, match="another configuration"):
        other = {"other": nn.Linear(2, 2)}
        Trainer(other, lambda b, g: (b, {}), lambda s, p: 0, CONFIG, tmp_path, resume=True, device="cpu")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        make_trainer(tmp_path, resume=True)


def test_checkpoint_in_several_files_is_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egotwin_sim.training.checkpoint.FILE_BYTES", 150)
    written = make_trainer(tmp_path)
    written.fit()
    assert len(list(list_checkpoints(tmp_path / "checkpoint")[-1].glob("*.safetensors"))) > 3
    read = make_trainer(tmp_path, resume=True)
    assert read.step == CONFIG.steps
    for state in (lambda t: t.modules.state_dict(), lambda t: t.ema.state):
        for name, value in state(written).items():
            assert torch.equal(value, state(read)[name]), name
    for one, other in zip(written.modules.parameters(), read.modules.parameters(), strict=True):
        moments, found = written.optimizer.state[one], read.optimizer.state[other]
        assert all(torch.equal(moments[key], found[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_failed_write_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path)
    trainer.save()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.distributed.checkpoint.filesystem.FileSystem.create_stream", full)
    trainer.step = 3
    with pytest.raises(UserError, match="No space left"):
        trainer.save()
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-00000000"]


def test_unending_nan_stops_the_run(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    config = TrainerConfig(steps=100, checkpoint_steps=100)
    trainer = Trainer(
        {"net": model},
        lambda b, g: (model(b).sum() * float("nan"), {}),
        lambda s, p: torch.ones(1, 1),
        config,
        tmp_path,
        device="cpu",
    )
    before = model.weight.clone()
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer.fit()
    assert torch.equal(model.weight, before)


def test_frozen_weights_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    frozen, free = model[0].weight.clone(), model[1].weight.clone()
    config = TrainerConfig(steps=3)
    Trainer(
        {"net": model},
        lambda b, g: (model(b).square().mean(), {}),
        lambda s, p: torch.ones(4, 2),
        config,
        tmp_path,
        device="cpu",
    ).fit()
    assert torch.equal(model[0].weight, frozen)
    assert not torch.equal(model[1].weight, free)


def test_batches_cover_every_item_once_an_epoch() -> None:
    indices = np.concatenate([batch_indices(7, 3, seed=1, step=s) for s in range(7)])
    for epoch in range(3):
        assert sorted(indices[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert not np.array_equal(indices[:7], indices[7:14])


def test_step_generator_depends_on_seed_and_step() -> None:
    draws = {(s, t): torch.randn(2, generator=step_generator(s, t)).tolist() for s in (0, 1) for t in (0, 1)}
    assert len({tuple(draw) for draw in draws.values()}) == 4
    assert torch.randn(2, generator=step_generator(1, 1)).tolist() == draws[1, 1]


def test_learning_rate_schedule() -> None:
    config = TrainerConfig(steps=100, learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)
    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[-1] == pytest.approx(0.1, abs=2e-3)


def test_ema_follows_with_warmup_and_is_undone() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = EMA(module, decay=0.9)
    nn.init.ones_(module.weight)
    ema.update(0)
    assert ema.state["weight"].item() == pytest.approx(0.9)  # decay (1 + 0) / (10 + 0)
    with ema.applied():
        assert module.weight.item() == pytest.approx(0.9)
    assert module.weight.item() == 1.0


def test_config_maps_sections_and_refuses_unknown_keys() -> None:
    assert build(TrainerConfig, {"steps": 3, "learning_rate": "1e-4"}, "x").learning_rate == 1e-4
    with pytest.raises(UserError, match="unknown key 'stepz'"):
        build(TrainerConfig, {"stepz": 3}, "stages.x")
    with pytest.raises(UserError, match="x.steps: expected int, got 'many'"):
        build(TrainerConfig, {"steps": "many"}, "x")
    with pytest.raises(UserError, match="precision"):
        build(TrainerConfig, {"precision": "fp8"}, "x")


def test_load_config_by_name_and_path(tmp_path: Path) -> None:
    assert set(load_config("nano")) == {"models", "stages"}
    with pytest.raises(UserError, match="nano"):
        load_config("gigantic")
    path = tmp_path / "c.yaml"
    path.write_text("models: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(path)
    path.write_text(json.dumps({"models": {}}))
    with pytest.raises(UserError, match="models"):
        load_config(path)
