"""Declaring a node's parameters, reading them, and refusing what does not fit with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from egotwin_sim.errors import UserError

from .configuration import Described, Value, checked, described


def descriptor(name: str, default: Value, about: Described) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    words = ParameterDescriptor(name=name, description=about.text, read_only=not about.changeable)
    if about.choices:
        words.additional_constraints = f"one of {', '.join(about.choices)}"
    if about.low is not None and about.high is not None:
        if isinstance(default, int):
            words.integer_range = [IntegerRange(from_value=int(about.low), to_value=int(about.high), step=1)]
        else:
            words.floating_point_range = [FloatingPointRange(from_value=float(about.low), to_value=float(about.high))]
    return words


def declare(node: Node, config: type) -> None:
    """Declare every parameter of a configuration, and refuse changes that do not fit it.

    Raises:
        UserError: a value given at the start has another type or is out of range.
    """
    table = described(config)
    for name, (default, about) in table.items():
        try:
            node.declare_parameter(name, default, descriptor(name, default, about))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise UserError(f"parameter {name}: {error}; expected {_expected(default, about)}") from error
    read(node, config)

    def refuse(changes: Sequence[Parameter]) -> SetParametersResult:
        for change in changes:
            if change.name in table and (reason := table[change.name][1].refusal(change.name, change.value)):
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(refuse)


def read(node: Node, config: type) -> Any:
    """The configuration as the node's parameters are now.

    Raises:
        UserError: a value is out of range.
    """
    return checked(config, {name: node.get_parameter(name).value for name in described(config)})


def _expected(default: Value, about: Described) -> str:
    if about.choices:
        return f"one of {', '.join(about.choices)}"
    kind = {bool: "true or false", int: "a whole number", float: "a number with a point", str: "a text"}[type(default)]
    return kind if about.low is None else f"{kind} from {about.low:g} to {about.high:g}"
