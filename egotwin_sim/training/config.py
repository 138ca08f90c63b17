"""YAML configurations, mapped to the dataclasses and constructors that they configure."""

from __future__ import annotations

import dataclasses
import inspect
import types
from importlib import resources
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from egotwin_sim.errors import UserError

Section = dict[str, Any]


def config_names() -> list[str]:
    """Names of the configurations in the package."""
    folder = resources.files("egotwin_sim") / "configs"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_config(name: str | Path) -> Section:
    """Read a configuration by name ("nano") or path: `models: {name: ...}` and `stages: {name: ...}`.

    Raises:
        UserError: no such configuration, no YAML, or not of this form.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"there is no configuration file {path}")
        text = path.read_text()
    elif str(name) in config_names():
        text = (resources.files("egotwin_sim") / "configs" / f"{name}.yaml").read_text()
    else:
        raise UserError(f"unknown configuration {name!r}; expected {', '.join(config_names())} or a .yaml file")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or set(config) != {"models", "stages"}:
        raise UserError(f"configuration {name}: expected exactly the two sections `models` and `stages`")
    for part in ("models", "stages"):
        if not isinstance(config[part], dict) or not all(isinstance(value, dict) for value in config[part].values()):
            raise UserError(f"configuration {name}: `{part}` must map names to sections")
    return config


def section(config: Section, part: str, name: str) -> Section:
    """One section, e.g. `section(config, "stages", "joint")`. UserError if it is missing."""
    try:
        return config[part][name]
    except KeyError:
        known = ", ".join(sorted(config[part])) or "none"
        raise UserError(f"the configuration has no {part}.{name}; it has: {known}") from None


def build(target: Any, values: Section, where: str) -> Any:
    """Call a dataclass or a constructor with a section's values; a nested section becomes the nested dataclass.

    Args:
        target: a dataclass, or a callable whose keyword arguments are the keys (a `ModelMixin` class).
        values: the section.
        where: its name, for messages ("stages.motion_vae").

    Raises:
        UserError: a key that `target` does not have, a value of another type, or a missing one.
    """
    known = inspect.signature(target).parameters
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; expected one of {', '.join(known)}")
    missing = [key for key, parameter in known.items() if parameter.default is parameter.empty and key not in values]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}")
    hints = get_type_hints(target if dataclasses.is_dataclass(target) else target.__init__)
    return target(**{key: _convert(value, hints.get(key, Any), f"{where}.{key}") for key, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType) and isinstance(value, dict):
        hint = next((option for option in get_args(hint) if dataclasses.is_dataclass(option)), hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a section, got {value!r}")
        return build(hint, value, where)
    if hint is float and isinstance(value, str):
        try:  # YAML 1.1 reads 1e-4 as a string
            value = float(value)
        except ValueError:
            raise UserError(f"{where}: expected a number, got {value!r}") from None
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if not _fits(value, hint):
        expected = hint.__name__ if isinstance(hint, type) else str(hint)
        raise UserError(f"{where}: expected {expected}, got {value!r}")
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = origin or hint
    return isinstance(value, kind) if isinstance(kind, type) else True
