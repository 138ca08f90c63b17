"""Weights on disk one tensor at a time: what safetensors and diffusers write is read, and what is written they read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from egotwin_sim.errors import UserError
from egotwin_sim.models.shards import WEIGHTS_STEM, read_header, stored_tensors, write_shards

SHAPES = {"a": (3, 5), "b": (7,), "empty": (0, 2), "scalar": ()}


def values(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_reads_what_safetensors_wrote(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = values(dtype)
    save_file(saved, tmp_path / f"{WEIGHTS_STEM}.safetensors")
    found = stored_tensors(tmp_path)
    assert set(found) == set(saved)
    for name, tensor in saved.items():
        assert found[name].dtype == dtype
        torch.testing.assert_close(found[name].read(), tensor, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_safetensors_reads_what_is_written_in_one_file(tmp_path: Path, dtype: torch.dtype) -> None:
    (file,) = write_shards(tmp_path, SHAPES, iter(values().items()), dtype)
    assert file.name == f"{WEIGHTS_STEM}.safetensors"
    found = load_file(file)
    for name, tensor in values().items():
        torch.testing.assert_close(found[name], tensor.to(dtype), rtol=0, atol=0)


def test_shards_have_the_index_that_diffusers_writes(tmp_path: Path) -> None:
    files = write_shards(tmp_path, SHAPES, iter(values().items()), torch.float32, shard_bytes=60)
    assert [file.name for file in files] == [f"{WEIGHTS_STEM}-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    index = json.loads((tmp_path / f"{WEIGHTS_STEM}.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * (15 + 7 + 0 + 1)
    assert index["weight_map"] == {
        "a": files[0].name,
        "b": files[1].name,
        "empty": files[1].name,
        "scalar": files[1].name,
    }
    for name, tensor in values().items():
        torch.testing.assert_close(stored_tensors(tmp_path)[name].read(), tensor, rtol=0, atol=0)


def test_a_tensor_that_was_not_announced_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected b"):
        write_shards(tmp_path, {"b": (7,)}, iter([("a", torch.zeros(7))]), torch.float32)
    with pytest.raises(ValueError, match="more tensors"):
        write_shards(tmp_path, {"a": (7,)}, iter([("a", torch.zeros(7))] * 2), torch.float32)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b + b"x", lambda b: b"\xff" * 64]
)
def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(values(), file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        read_header(file)


def test_missing_shards_and_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pickled"):
        stored_tensors(tmp_path)
    files = write_shards(tmp_path, SHAPES, iter(values().items()), torch.float32, shard_bytes=60)
    index = tmp_path / f"{WEIGHTS_STEM}.safetensors.index.json"
    told = json.loads(index.read_text())
    index.write_text(json.dumps(told | {"weight_map": told["weight_map"] | {"c": files[0].name}}))
    with pytest.raises(UserError, match="first c"):
        stored_tensors(tmp_path)
    index.write_text(json.dumps(told))
    files[1].unlink()
    with pytest.raises(UserError, match=f"lacks 1 of 2 shards .first {files[1].name}"):
        stored_tensors(tmp_path)
    index.write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        stored_tensors(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    save_file(values(), tmp_path / "elsewhere.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    told = {"metadata": {}, "weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / f"{WEIGHTS_STEM}.safetensors.index.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="shards"):
        stored_tensors(folder)
