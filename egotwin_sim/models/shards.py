"""Weights on disk one tensor at a time: reading a diffusers folder's safetensors, and writing one.

safetensors maps a whole file into memory, and writes a file from tensors that are all in memory. A checkpoint of twelve
gigabytes is rewritten here with one tensor in memory at once. The format is eight bytes with the header's length, the
header (JSON: type, shape and place of each tensor), and the tensors.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egotwin_sim.errors import UserError

WEIGHTS_STEM = "diffusion_pytorch_model"  # diffusers' name; transformers' is "model"
SHARD_BYTES = 5 * 10**9  # of a file at most, as public checkpoints have it

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        file: the safetensors file.
        dtype: its type.
        shape: its shape.
        start: its first byte in the file.
    """

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor itself."""
        data = bytearray(self.nbytes)
        with self.file.open("rb") as file:
            file.seek(self.start)
            if file.readinto(data) != len(data):
                raise UserError(f"{self.file} ends before its weights do; download or copy it again")
        if not data:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(data, dtype=self.dtype).reshape(self.shape)


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, without reading them.

    Raises:
        UserError: no such file, damaged or truncated.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(size, _LONGEST_HEADER):
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
        tensors, end = {}, 8 + length
        for name, told in header.items():
            if name == "__metadata__":
                continue
            start, stop = told["data_offsets"]
            tensor = StoredTensor(file, _DTYPES[told["dtype"]], tuple(told["shape"]), 8 + length + start)
            if tensor.nbytes != stop - start:
                raise ValueError(f"{name} has {stop - start} bytes for {tensor.nbytes}")
            tensors[name], end = tensor, max(end, 8 + length + stop)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; download or copy it again") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{file} is no whole safetensors file ({error}); download or copy it again") from error
    if end != size:
        raise UserError(f"{file} has {size} bytes and should have {end}; download or copy it again")
    return tensors


def stored_tensors(folder: Path, stem: str = WEIGHTS_STEM) -> dict[str, StoredTensor]:
    """All tensors of a saved network, in one file or in shards with an index; only headers are read.

    Args:
        folder: the network's folder.
        stem: what its files are called before ``.safetensors``.

    Raises:
        UserError: no safetensors, a shard or a tensor of the index that is missing, or a truncated file.
    """
    index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
    if not index.is_file():
        if not single.is_file():
            raise UserError(
                f"{folder} holds neither {single.name} nor {index.name}; give a checkpoint in safetensors (pickled "
                "weights are never read)"
            )
        return read_header(single)
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        files = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} cannot be read ({error}); download or copy it again") from error
    missing = [name for name in files if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of {len(files)} shards (first {missing[0]}); download or copy them again"
        )
    headers = {name: read_header(folder / name) for name in files}
    lost = sorted(name for name, file in places.items() if name not in headers[file])
    if lost:
        raise UserError(
            f"{folder}: {len(lost)} weights are not in the shards that {index.name} names (first {lost[0]}); "
            "download or copy them again"
        )
    return {name: headers[file][name] for name, file in places.items()}


def write_shards(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write a network's weights as diffusers does, each tensor as it comes.

    Args:
        folder: the network's folder; it exists.
        shapes: of all tensors, in the order in which they will come.
        tensors: their names and values; what they hold besides is brought to ``dtype``.
        dtype: of the weights on disk.
        shard_bytes: of a file at most; a larger tensor has a file of its own.

    Returns:
        The files. More than one have an index beside them.

    Raises:
        ValueError: other tensors than announced.
    """
    groups: list[dict[str, tuple[int, ...]]] = [{}]
    room = shard_bytes
    for name, shape in shapes.items():
        size = math.prod(shape) * dtype.itemsize
        if size > room and groups[-1]:
            groups.append({})
            room = shard_bytes
        groups[-1][name] = shape
        room -= size
    if len(groups) == 1:
        names = [f"{WEIGHTS_STEM}.safetensors"]
    else:
        names = [f"{WEIGHTS_STEM}-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    coming = iter(tensors)
    for name, group in zip(names, groups, strict=True):
        _write_file(folder / name, group, coming, dtype)
    if next(coming, None) is not None:
        raise ValueError("more tensors came than were announced")
    if len(groups) > 1:
        total = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
        places = {tensor: name for name, group in zip(names, groups, strict=True) for tensor in group}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / f"{WEIGHTS_STEM}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return [folder / name for name in names]


def _write_file(
    path: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterator[tuple[str, Tensor]], dtype: torch.dtype
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        for expected, shape in shapes.items():
            name, tensor = next(tensors)
            if name != expected or tuple(tensor.shape) != shape:
                raise ValueError(f"{name} of shape {tuple(tensor.shape)} came, expected {expected} of shape {shape}")
            values = tensor.detach().to(dtype).contiguous()
            file.write(values.flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
