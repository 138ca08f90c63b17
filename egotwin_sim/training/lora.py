"""Low-rank adapters (arXiv 2106.09685) of the weights that text and video share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from egotwin_sim.errors import UserError
from egotwin_sim.training.processes import processes
from egotwin_sim.training.sharding import set_whole, whole

BLOCKS = "transformer_blocks"
MOTION_FILE = "motion_branch.safetensors"

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of the joint attention."""


@dataclass(frozen=True)
class LoraConfig:
    """Which weights get an adapter, and how large it is.

    Attributes:
        rank: of the change that an adapter can make to a weight.
        alpha: the change is scaled by ``alpha / rank``.
        targets: ends of the names of linear layers in the blocks of text and video, for example ``ff.net.0.proj``.
    """

    rank: int = 64
    alpha: int = 64
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        """Refuse what is no adapter."""
        if self.rank < 1 or self.alpha <= 0 or not self.targets:
            raise UserError(
                f"lora has rank {self.rank}, alpha {self.alpha} and {len(self.targets)} targets; "
                "expected a rank of at least 1, an alpha above 0 and at least one target"
            )

    def peft_config(self) -> Any:
        """The same in peft's terms.

        Raises:
            UserError: peft is not installed.
        """
        try:
            from peft import LoraConfig as PeftConfig
        except ImportError as error:
            raise UserError("adapters need peft: pip install -c constraints.txt '.[lora]'") from error
        ends = "|".join(re.escape(target) for target in self.targets)
        return PeftConfig(r=self.rank, lora_alpha=self.alpha, target_modules=rf"{BLOCKS}\.\d+\.(.*\.)?({ends})")


def is_new(name: str) -> bool:
    """Whether a weight is not CogVideoX's: the motion branch, and what carries timesteps across."""
    return "motion" in name


def add_adapters(transformer: nn.Module, config: LoraConfig, precision: str) -> None:
    """Freeze the weights of text and video, and put adapters beside those that the config names.

    The adapters' values are set by ``start_adapters``. What is frozen is kept in the precision that it is used in.

    Args:
        transformer: on any device, "meta" included.
        config: the adapters.
        precision: "bf16" or "fp32".

    Raises:
        UserError: peft is not installed, or no weight has such a name.
    """
    told = config.peft_config()
    from peft import inject_adapter_in_model

    try:
        inject_adapter_in_model(told, transformer)
    except ValueError as error:
        raise UserError(
            f"no linear layer in {BLOCKS} has a name that ends in {' or '.join(config.targets)} (lora.targets)"
        ) from error
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(is_new(name) or ".lora_" in name)
        if not parameter.requires_grad and precision == "bf16":
            parameter.data = parameter.data.to(torch.bfloat16)


def adapted_layers(module: nn.Module) -> dict[str, Any]:
    """The layers with an adapter beside their weight, by name."""
    return {name: layer for name, layer in module.named_modules() if hasattr(layer, "lora_A")}


def start_adapters(module: nn.Module, seed: int) -> None:
    """Give adapters the values they start with: A as a linear layer, B zero; the same however they are spread."""
    for name, layer in adapted_layers(module).items():
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        state = np.random.SeedSequence((seed, crc32(name.encode()))).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state >> 1))
        bound = down.shape[1] ** -0.5
        set_whole(down, (2 * torch.rand(down.shape, generator=generator) - 1) * bound)
        set_whole(up, torch.zeros(up.shape))


def base_weights(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights without adapters, by the names that they have without them."""
    state = module.state_dict()
    return {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}


def merged_weight(module: nn.Module) -> Callable[[str], Tensor]:
    """From a name of ``base_weights`` to the weight with its adapter added, float32; all processes ask alike."""
    weights, layers = base_weights(module), adapted_layers(module)

    def value(name: str) -> Tensor:
        weight = whole(weights[name])
        layer = layers.get(name.removesuffix(".weight"))
        if layer is None or not name.endswith(".weight"):
            return weight
        down, up = (whole(part["default"].weight).float() for part in (layer.lora_A, layer.lora_B))
        return weight.float() + layer.scaling["default"] * (up @ down)

    return value


def save_adapters(module: Any, folder: Path) -> None:
    """Write the adapters as peft does, and beside them the motion branch, which was trained whole.

    All processes have to call this; the main one writes.

    Args:
        module: the transformer, sharded or not.
        folder: to write to; it exists.
    """
    adapters, motion = {}, {}
    for name, value in module.state_dict().items():
        if ".lora_" in name:
            adapters[f"base_model.model.{name.replace('.default.', '.')}"] = whole(value).float().cpu().contiguous()
        elif is_new(name):
            motion[name] = whole(value).float().cpu().contiguous()
    if processes().main:
        module.peft_config["default"].save_pretrained(str(folder))
        save_file(adapters, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        save_file(motion, folder / MOTION_FILE, metadata={"format": "pt"})


def merge_adapters(transformer: nn.Module, folder: Path) -> None:
    """Add the adapters in a folder to the weights that they were trained beside, and put the motion branch in place.

    Args:
        transformer: with the weights that the training began with.
        folder: as ``save_adapters`` writes it.

    Raises:
        UserError: no such folder, or adapters of another model.
    """
    try:
        told = json.loads((folder / "adapter_config.json").read_text())
        adapters, motion = load_file(folder / "adapter_model.safetensors"), load_file(folder / MOTION_FILE)
        scale = told["lora_alpha"] / told["r"]
        weights: dict[str, Tensor] = dict(transformer.named_parameters())
        with torch.no_grad():
            for name, down in adapters.items():
                if not name.endswith(".lora_A.weight"):
                    continue
                up = adapters[name.replace(".lora_A.", ".lora_B.")]
                weight = weights[name.removeprefix("base_model.model.").replace(".lora_A.", ".")]
                weight += (scale * (up @ down)).to(weight)
            for name, value in motion.items():
                weights[name].copy_(value)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder} holds no adapters of this model ({error}); give those that were trained on it"
        ) from error
