"""A source from the words of a command line: kind, path and `name=value`."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egotwin_sim.data.convert import source_class
from egotwin_sim.data.convert.source import ClipSource
from egotwin_sim.errors import UserError

_NAMES = {str: "text", Path: "path", int: "whole number", float: "number", bool: "yes or no", type(None): "none"}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def build_source(kind: str, root: Path, settings: Sequence[str] = ()) -> ClipSource:
    """Construct a source.

    Args:
        kind: as in `SOURCES`.
        root: the data set.
        settings: options as `name=value`, converted by the types in the class's signature.

    Raises:
        UserError: there is no such kind, folder or option, or a value is not of the option's type.
    """
    cls = source_class(kind)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: give the folder of the data set")
    kinds = options(cls)
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in kinds:
            known = ", ".join(f"{each} ({_named(wanted)})" for each, wanted in kinds.items()) or "none"
            raise UserError(f"--set {setting}: give name=value; {kind} has the options {known}")
        values[name] = _converted(setting, text, kinds[name])
    made: ClipSource = cls(root.resolve(), **values)
    return made


def options(cls: type) -> dict[str, Any]:
    """The types of a source's options by name, from its signature."""
    parameters = inspect.signature(cls, eval_str=True).parameters
    return {name: each.annotation for name, each in parameters.items() if name != "root"}


def _alternatives(wanted: Any) -> tuple[Any, ...]:
    if isinstance(wanted, types.UnionType) or typing.get_origin(wanted) is typing.Union:
        return typing.get_args(wanted)
    return (wanted,)


def _named(wanted: Any) -> str:
    if typing.get_origin(wanted) is typing.Literal:
        return " or ".join(typing.get_args(wanted))
    choices = _alternatives(wanted)
    return " or ".join(map(_named, choices)) if len(choices) > 1 else _NAMES.get(wanted, str(wanted))


def _converted(setting: str, text: str, wanted: Any) -> Any:
    choices = _alternatives(wanted)
    if type(None) in choices and text.lower() == "none":
        return None
    for choice in choices:
        if choice is bool and text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if typing.get_origin(choice) is typing.Literal and text in typing.get_args(choice):
            return text
        if choice in (str, Path):
            return choice(text)
        if choice in (int, float):
            try:
                return choice(text)
            except ValueError:
                continue
    raise UserError(f"--set {setting}: expected {_named(wanted)}")
