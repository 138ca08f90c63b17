"""`egotwin model`: a folder from a checkpoint on disk or in the hub's cache, and what a size costs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants as hub_settings

from egotwin_sim.cli.main import main
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.models.shards import stored_tensors
from tests.cogvideox import save_pipeline, write_config

REPOSITORY = "someone/tiny-video"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    return int(exit_info.value.code or 0)


def error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cogvideox") / "saved"
    save_pipeline(folder, sample_frames=49)
    return folder


@pytest.fixture(scope="module")
def cache(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's cache with the checkpoint in it: names that link to files called by their content."""
    root = tmp_path_factory.mktemp("hub")
    folder = root / f"models--{REPOSITORY.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    (folder / "blobs").mkdir()
    for number, file in enumerate(sorted(path for path in checkpoint.rglob("*") if path.is_file())):
        blob = folder / "blobs" / f"{number:064x}"
        shutil.copyfile(file, blob)
        link = folder / "snapshots" / REVISION / file.relative_to(checkpoint)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return root


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "tiny.yaml", sample_frames=49)


def made(folder: Path) -> EgoTwinTransformer3DModel:
    assert not any(file.is_symlink() for file in folder.rglob("*"))
    return EgoTwinTransformer3DModel.from_pretrained(folder / "transformer")


def dtypes(folder: Path) -> set[torch.dtype]:
    made(folder)
    return {stored.dtype for stored in stored_tensors(folder / "transformer").values()}


def test_init_from_a_folder(checkpoint: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    assert run("model", "init", "--config", config, "--from-cogvideox", checkpoint, "--out", out) == 0
    assert "new" in capsys.readouterr().out
    assert dtypes(out) == {torch.bfloat16}
    assert run("model", "init", "--config", config, "--from-cogvideox", checkpoint, "--out", out) == 2
    assert "empty folder" in error(capsys)


def test_init_from_the_folder_that_the_cache_keeps(cache: Path, config: Path, tmp_path: Path) -> None:
    kept = cache / f"models--{REPOSITORY.replace('/', '--')}"
    assert (
        run("model", "init", "--config", config, "--from-cogvideox", kept, "--out", tmp_path / "model", "--link") == 0
    )
    made(tmp_path / "model")


def test_init_from_a_hub_id_that_the_cache_has(
    cache: Path,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(hub_settings, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub_settings, "HF_HUB_OFFLINE", True)
    arguments = ["model", "init", "--config", config, "--dtype", "fp32", "--from-cogvideox"]
    assert run(*arguments, REPOSITORY, "--out", tmp_path / "model") == 0
    assert dtypes(tmp_path / "model") == {torch.float32}
    assert run(*arguments, "someone/else", "--out", tmp_path / "other") == 2
    assert "the hub does not give it" in error(capsys)
    assert not (tmp_path / "other").exists()


def test_init_from_nothing_or_with_the_parts_of_a_checkpoint(
    checkpoint: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("model", "init", "--config", config, "--out", tmp_path / "bare") == 0
    assert "--parts-from" in capsys.readouterr().out
    made(tmp_path / "bare")
    arguments = ("--config", config, "--parts-from", checkpoint)
    assert run("model", "init", *arguments, "--out", tmp_path / "model") == 0
    assert (tmp_path / "model" / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from-cogvideox", "/nowhere"], "there is no folder /nowhere"),
        (["--from-cogvideox", "nowhere"], "there is no folder nowhere"),
        (["--from-cogvideox", "{here}"], "model_index.json cannot be read"),
        (["--dtype", "fp16"], "expected bf16 or fp32"),
        (["--seed", "-1"], "not negative"),
        (["--config", "huge"], "unknown configuration 'huge'"),
        (["--config", "nano"], "published form"),
        (["--from-cogvideox", "{here}", "--parts-from", "{here}"], "give one of them"),
    ],
)
def test_init_refuses(arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [argument.format(here=tmp_path) for argument in arguments]
    assert run("model", "init", "--out", tmp_path / "model", *given) == 2
    assert says in error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_info_of_a_configuration_and_of_its_folder_agree(
    checkpoint: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("model", "init", "--config", config, "--from-cogvideox", checkpoint, "--out", tmp_path / "model")
    capsys.readouterr()
    reports = []
    for which in (config, tmp_path / "model"):
        assert run("model", "info", which, "--json", "--gpus", 2, "--frames", 9) == 0
        reports.append(json.loads(capsys.readouterr().out))
    of_config, of_folder = reports
    for name in ("transformer", "transformer: motion", "transformer: text and video"):
        assert of_config["parameters"][name] == of_folder["parameters"][name]
    assert of_config["parameters"]["transformer"] == sum(w.numel() for w in made(tmp_path / "model").parameters())
    assert of_folder["parameters"]["text_encoder"] > 0
    one_pass = of_folder["operations"]["a pass of the transformer"]
    assert one_pass == of_config["operations"]["a pass of the transformer"] > 0
    short_pass = of_folder["operations"]["a pass for the motion alone"]
    assert 0 < short_pass < one_pass
    assert of_folder["operations"]["a denoising step, t2vm (5 passes)"] == 3 * one_pass + 2 * short_pass
    assert of_folder["operations"]["a denoising step, tv2m (3 passes)"] == 3 * short_pass
    assert len(of_folder["training"]) == 4
    for memory in of_folder["training"].values():
        assert memory["total"] == sum(size for part, size in memory.items() if part != "total")


def test_info_of_the_shipped_model_for_a_reader(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("model", "info", "nano", "--batch", 2, "--frames", 9) == 0
    shown = capsys.readouterr().out
    assert "operations, 2 x 9 frames of 128x128" in shown
    assert "memory to train" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["huge"], "unknown configuration"),
        (["{here}"], "holds no transformer"),
        (["small", "--frames", "40"], "frames is 40"),
        (["small", "--batch", "0"], "batch is 0"),
        (["small", "--gpus", "0"], "--gpus is 0"),
    ],
)
def test_info_refuses(arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("model", "info", *(argument.format(here=tmp_path) for argument in arguments)) == 2
    assert says in error(capsys)
