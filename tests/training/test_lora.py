"""Adapters of the weights of text and video: what is trained, what is written, and that it is the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from egotwin_sim.errors import UserError
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.training.lora import LoraConfig, adapted_layers, add_adapters, merge_adapters, start_adapters
from egotwin_sim.training.trainer import Trainer
from tests.training import together

RANK = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    together.transformer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return together.train(tmp_path_factory.mktemp("run"), base=base, rank=RANK)


def predict(transformer: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    video, text, motion = (
        torch.randn(shape, generator=generator) for shape in ((1, 3, 4, 6, 4), (1, 5, 12), (1, 5, 6))
    )
    with torch.no_grad():
        output = transformer.eval()(video, text, torch.tensor([300.0]), motion, torch.tensor([700.0]))
    return output.video, output.motion


def test_adapters_and_the_motion_branch_are_trained_and_nothing_else(run: Trainer, base: Path) -> None:
    before, after = load_file(base / "diffusion_pytorch_model.safetensors"), run.modules["transformer"].state_dict()
    for name, value in after.items():
        if ".lora_" in name:
            assert value.any(), name
        elif "motion" in name:
            assert not torch.equal(value, before[name]), name
        else:
            assert torch.equal(value, before[name.replace(".base_layer.", ".")]), name
    layers = adapted_layers(run.modules["transformer"])
    ends = {name.partition(".")[2].partition(".")[2] for name in layers}
    assert len(layers) == 6 and ends == {"attn1.to_q", "ff.net.2"}, "those of text and video, in all three layers"


def test_written_weights_are_those_of_the_adapted_model(run: Trainer) -> None:
    merged = EgoTwinTransformer3DModel.from_pretrained(run.out / "transformer")
    with run.ema.applied():
        expected = predict(run.modules["transformer"])
    for found, wanted in zip(predict(merged), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_adapter_folder_makes_the_same_weights_of_the_base(run: Trainer, base: Path) -> None:
    transformer = EgoTwinTransformer3DModel.from_pretrained(base)
    merge_adapters(transformer, run.out / "transformer-adapters")
    written = load_file(run.out / "transformer" / "diffusion_pytorch_model.safetensors")
    for name, value in transformer.state_dict().items():
        torch.testing.assert_close(value, written[name], atol=1e-6, rtol=0, msg=name)


def test_peft_reads_the_adapter_folder(run: Trainer, base: Path) -> None:
    from peft import PeftModel

    transformer = EgoTwinTransformer3DModel.from_pretrained(base)
    folder = run.out / "transformer-adapters"
    adapted = PeftModel.from_pretrained(transformer, str(folder))
    transformer.load_state_dict(load_file(folder / "motion_branch.safetensors"), strict=False)
    merged = EgoTwinTransformer3DModel.from_pretrained(run.out / "transformer")
    for found, wanted in zip(predict(adapted.base_model.model), predict(merged), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_run_with_adapters_goes_on_after_a_stop(run: Trainer, base: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such clip"):
        together.train(tmp_path, base=base, rank=RANK, fail_at=4)
    resumed = together.train(tmp_path, base=base, rank=RANK, resume=True)
    for name, value in run.ema.state.items():
        assert torch.equal(value, resumed.ema.state[name]), name


def test_run_does_not_go_on_beside_other_weights(run: Trainer, base: Path, tmp_path: Path) -> None:
    other = EgoTwinTransformer3DModel.from_pretrained(base)
    torch.nn.init.ones_(other.proj_out.weight)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="not those that the run in .* began with"):
        together.train(run.out, base=tmp_path / "other", rank=RANK, resume=True)


def test_adapters_do_nothing_at_first_and_frozen_weights_take_half_the_memory(base: Path) -> None:
    plain, adapted = (EgoTwinTransformer3DModel.from_pretrained(base) for _ in range(2))
    add_adapters(adapted, LoraConfig(rank=RANK), "fp32")
    start_adapters(adapted, seed=0)
    for found, wanted in zip(predict(adapted), predict(plain), strict=True):
        torch.testing.assert_close(found, wanted)
    add_adapters(plain, LoraConfig(rank=RANK), "bf16")
    assert {p.dtype for p in plain.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in plain.parameters() if p.requires_grad} == {torch.float32}


def test_unknown_targets_and_foreign_folders_are_refused(base: Path) -> None:
    transformer = EgoTwinTransformer3DModel.from_pretrained(base)
    with pytest.raises(UserError, match="to_z"):
        add_adapters(transformer, LoraConfig(targets=("to_z",)), "fp32")
    with pytest.raises(UserError, match="no adapters of this model"):
        merge_adapters(transformer, base)
    with pytest.raises(UserError, match="rank"):
        LoraConfig(rank=0)
