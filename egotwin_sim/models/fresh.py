"""Weights of a newly made transformer, a part at a time: a model of any size can start where its weights do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from egotwin_sim.models.transformer import EgoTwinTransformer3DModel


def parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The pieces that weights are made in: the children, and each entry of those that are lists."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            yield from ((f"{name}.{i}", entry) for i, entry in enumerate(child))
        else:
            yield name, child


def fresh_weights(model: EgoTwinTransformer3DModel, part: str, seed: int) -> dict[str, Tensor]:
    """The weights that a part of a model starts training with, float32, by their names in the model.

    They depend on the seed and the part alone: the motion branch is the same beside any video branch.

    Args:
        model: on the meta device; it is there again afterwards.
        part: a name that ``parts`` gives.
        seed: of the draw.
    """
    module = model.get_submodule(part)
    module.to_empty(device="cpu")
    draw = np.random.SeedSequence((seed, crc32(part.encode()))).generate_state(1, np.uint64)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draw >> 1))
        for child in module.modules():
            if hasattr(child, "reset_parameters"):
                child.reset_parameters()
        model.initialise()
    for buffer in module.buffers():
        buffer.zero_()  # learnt positions (CogVideoX-5b-I2V) start at zero: the rotary ones are there beside them
    weights = {f"{part}.{name}": value.detach() for name, value in module.state_dict().items()}
    module.to("meta")
    return weights
