"""Plans: what fits is chosen by arithmetic that the tests redo, and what does not fit says what would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from egotwin_sim.cli.main import main
from egotwin_sim.errors import UserError
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.training.config import build, load_config, section
from egotwin_sim.training.lora import TARGETS, LoraConfig, add_adapters
from egotwin_sim.training.plan import STAGES, Planner, adapter_parameters, require_fit
from egotwin_sim.training.stages.motion_vae import MotionVAEStageConfig
from tests.cogvideox import MOTION, TRANSFORMER, write_config

GB = 1024**3


def config_of(tmp_path: Path, **trainer: Any) -> dict[str, Any]:
    """A tiny configuration, wide enough for adapters to be less than what they adapt."""
    path = write_config(tmp_path / "tiny.yaml", sample_frames=41, num_attention_heads=16)
    told = yaml.safe_load(path.read_text())
    told["stages"] = {name: {"trainer": {"batch_size": 8} | trainer} for name in ("joint", "text_motion")}
    path.write_text(yaml.safe_dump(told))
    return load_config(path)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    return Planner(config_of(tmp_path_factory.mktemp("plan")), frames=9)


def test_the_published_configurations_build() -> None:
    for name in ("small", "base"):
        config = load_config(name)
        for stage, kind in {**STAGES, "motion-vae": MotionVAEStageConfig}.items():
            built = build(kind, section(config, "stages", stage.replace("-", "_")), stage)
            assert built.trainer.batch_size % built.trainer.accumulate == 0
            assert built.trainer.precision == "bf16"
        assert "depth" not in config["models"]


def test_small_trains_as_configured_on_its_gpu() -> None:
    for stage in STAGES:
        planner = Planner(load_config("small"), stage)
        assert planner.plan(planner.own(1)).memory.total < 24 * GB


def test_the_fastest_settings_that_fit_are_chosen(planner: Planner) -> None:
    kept = planner.fitting(1, 1000 * GB)
    assert kept is not None and not kept.settings.checkpointing and kept.settings.accumulate == 1
    tighter = planner.fitting(1, kept.memory.total - 1)
    assert tighter is not None and (tighter.settings.accumulate, tighter.settings.checkpointing) == (2, False)
    settings = replace(kept.settings, accumulate=8)
    again = planner.fitting(1, planner.plan(settings).memory.total - 1)
    assert again is not None and again.settings.checkpointing and again.settings.lora is None
    least = planner.plan(replace(settings, checkpointing=True)).memory.total
    adapted = planner.fitting(1, least - 1)
    assert adapted is not None and adapted.settings.lora is not None
    smallest = planner.smallest(1)
    assert smallest.memory.total < least
    assert planner.fitting(1, smallest.memory.total) is not None
    assert planner.fitting(1, smallest.memory.total - 1) is None


def test_more_gpus_need_less_of_each(planner: Planner) -> None:
    alone, shared = planner.own(1), planner.own(4)
    assert planner.plan(shared).memory.weights < planner.plan(alone).memory.weights
    assert planner.plan(shared).flops == planner.plan(alone).flops
    assert planner.plan(replace(shared, shard=False)).memory.weights == planner.plan(alone).memory.weights
    assert shared.per_pass == 2


def test_what_would_do(planner: Planner) -> None:
    least = planner.smallest(1).memory.total
    more, larger = planner.remedies(1, least - 1)
    assert more.startswith("take 2 GPUs")
    assert larger == f"take a GPU of {-(-least // GB)} GB or more"
    assert planner.remedies(1, 1) == [larger], "no number of GPUs holds what is in every one of them"


def test_a_batch_that_cannot_be_dealt_out(planner: Planner) -> None:
    with pytest.raises(UserError, match="a batch of 8 cannot be dealt out to 3 GPUs; take a multiple of 3"):
        planner.fitting(3, GB)
    with pytest.raises(UserError, match="multiple of 16"):
        replace(planner.own(1), accumulate=16)


def test_text_to_motion_trains_the_motion_branch_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    joint, text = (Planner(config, stage, frames=9) for stage in ("joint", "text-motion"))
    assert text.plan(text.own(1)).memory.optimiser < 0.5 * joint.plan(joint.own(1)).memory.optimiser
    assert text.plan(text.own(1)).flops < joint.plan(joint.own(1)).flops
    assert text.fitting(1, 1) is None, "there is no branch that adapters could be for"


@pytest.mark.parametrize("targets", [TARGETS, ("ff.net.0.proj", "ff.net.2")])
def test_adapters_are_counted_as_they_are_made(planner: Planner, targets: tuple[str, ...]) -> None:
    config = LoraConfig(rank=2, targets=targets)
    model = EgoTwinTransformer3DModel(**TRANSFORMER, **MOTION)
    expected = adapter_parameters(model, config)
    add_adapters(model, config, "bf16")
    added = [weight for name, weight in model.named_parameters() if ".lora_" in name]
    assert expected == sum(weight.numel() for weight in added)

    memory = planner.plan(replace(planner.own(1), lora=config)).memory
    wide = EgoTwinTransformer3DModel(**TRANSFORMER | {"num_attention_heads": 16, "sample_frames": 41}, **MOTION)
    add_adapters(wide, config, "bf16")
    assert memory.weights == sum(weight.nbytes for weight in wide.parameters())
    assert memory.gradients == sum(4 * weight.numel() for weight in wide.parameters() if weight.requires_grad)


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="text-motion or joint"):
        Planner(config_of(tmp_path), "video-vae")
    with pytest.raises(UserError, match="published form"):
        Planner(load_config("nano"))


def test_a_processor_is_not_asked(tmp_path: Path) -> None:
    require_fit(config_of(tmp_path), "joint", 1, torch.device("cpu"))


class TestCommand:
    def run(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as exit_info:
            main(["train", "plan", *map(str, arguments)])
        return int(exit_info.value.code or 0)

    def test_what_fits_comes_with_settings_that_build(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config_of(tmp_path)
        assert (
            self.run("--config", tmp_path / "tiny.yaml", "--gpus", 2, "--memory", 80, "--batch", 4, "--frames", 9) == 0
        )
        shown = capsys.readouterr().out
        assert "2 x 80 GB: fits" in shown
        told = yaml.safe_load(shown[shown.index("stages:") :])
        stage = build(STAGES["joint"], told["stages"]["joint"], "joint")
        assert stage.trainer.batch_size == 4

    def test_what_does_not_fit_says_what_would(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config_of(tmp_path)
        assert self.run("--config", tmp_path / "tiny.yaml", "--gpus", 1, "--memory", 1, "--frames", 9) == 1
        shown = capsys.readouterr().out
        assert "1 x 1 GB: does not fit" in shown
        assert "what would do: take a GPU of 3 GB or more" in shown

    @pytest.mark.parametrize("arguments", [["--gpus", 0], ["--memory", 0], ["--memory", "nan"], ["--stage", "stream"]])
    def test_nonsense(self, arguments: list[object], capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(*arguments) == 2
        assert "egotwin: error" in capsys.readouterr().err


@pytest.mark.slow
def test_base() -> None:
    planner = Planner(load_config("base"))
    assert planner.plan(planner.own(8)).memory.total < 80 * GB
    whole, alone = planner.fitting(8, 80 * GB), planner.fitting(1, 80 * GB)
    assert whole is not None and whole.settings.lora is None and whole.settings.checkpointing
    assert alone is not None and alone.settings.lora is not None
    assert planner.fitting(1, 24 * GB) is None
