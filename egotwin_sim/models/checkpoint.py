"""Loading of weights that accepts a whole checkpoint of the right kind and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from torch import nn

from egotwin_sim.errors import UserError

Model = TypeVar("Model", bound=ModelMixin)


def load_whole(kind: type[Model], folder: str | Path, **options: Any) -> Model:
    """Load a diffusers folder (``config.json`` beside safetensors) and check that every weight came from it.

    Args:
        kind: the class that the config must name.
        folder: a local folder.
        **options: passed to diffusers' `from_pretrained`, for example `torch_dtype`.

    Raises:
        UserError: no such folder, another class, weights that are missing, left over, truncated or of another shape.
            diffusers itself only warns of most of these, and fills missing weights with random numbers. Pickled weights
            are never read.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no config.json there; expected the folder of a saved {kind.__name__}")
    try:
        config = kind.load_config(folder)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}/config.json cannot be read ({_first_line(error)}); save or download it again"
        ) from error
    named = config.get("_class_name") if isinstance(config, dict) else None
    if named != kind.__name__:
        raise UserError(f"{folder} holds a {named}, expected a {kind.__name__}; give the folder of the right model")
    options.setdefault("low_cpu_mem_usage", False)  # without accelerate diffusers can do no other, and warns at length
    options |= {"output_loading_info": True, "use_safetensors": True, "local_files_only": True}
    try:
        # The base class's method, so that a class may call this from its own `from_pretrained`.
        model, report = ModelMixin.from_pretrained.__func__(kind, folder, **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"{folder}: the weights do not load ({_first_line(error)}); they are missing, damaged or of another config"
        ) from error
    for problem, names in (("lacks", report["missing_keys"]), ("has unknown", report["unexpected_keys"])):
        if names:
            raise UserError(
                f"{folder} {problem} weights ({len(names)}, first {sorted(names)[0]}); "
                "use weights that were saved with this config"
            )
    return model


class WholeModelMixin(ModelMixin):
    """A diffusers model that is loaded from a local folder by `load_whole`, alone or as part of a pipeline.

    A pipeline of diffusers finds out how to load a part by the name ``ModelMixin`` in the part's module: name it among
    the class's bases as well.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """Load a folder of `save_pretrained`; see `load_whole` for what is refused."""
        subfolder = options.pop("subfolder", None)
        folder = Path(pretrained_model_name_or_path)
        return load_whole(cls, folder / subfolder if subfolder else folder, **options)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def fingerprint(modules: Mapping[str, nn.Module], *told: str) -> str:
    """A short digest of the weights of some modules, and of what else makes them what they are."""
    digest = hashlib.sha256("\n".join(told).encode())
    for part, module in sorted(modules.items()):
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{part}.{name}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
