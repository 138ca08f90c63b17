"""The nodes' parameters: one dataclass a node, whose fields are declared with descriptions and ranges.

Nothing here needs a ROS installation, so launch files and parameter files can be checked without one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from egotwin_sim.errors import UserError

Value = bool | int | float | str


@dataclass(frozen=True)
class Described:
    """What a parameter's descriptor says.

    Attributes:
        text: one line, with the unit.
        low, high: the range of a number, both ends included.
        choices: the words that a text may be; empty for any.
        changeable: whether it may be set while the node runs; others only at its start.
    """

    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    changeable: bool = False

    def refusal(self, name: str, value: Value) -> str | None:
        """Why a value of the right type is not taken, or None."""
        if isinstance(value, str):
            if self.choices and value not in self.choices:
                return f"{name} is {value!r}; expected one of {', '.join(self.choices)}"
        elif self.low is not None and self.high is not None and not self.low <= value <= self.high:
            return f"{name} is {value}; expected {self.low:g} to {self.high:g}"
        return None


def parameter(default: Value, text: str, **limits: Any) -> Any:
    """A dataclass field that is a parameter; the limits are those of `Described`."""
    return field(default=default, metadata={"described": Described(text, **limits)})


def described(config: type) -> dict[str, tuple[Value, Described]]:
    """Default and description of every parameter of a node's configuration, by name."""
    return {item.name: (item.default, item.metadata["described"]) for item in fields(config)}  # type: ignore[misc]


def checked(config: type, values: dict[str, Value]) -> Any:
    """The configuration of a node from values by name.

    Raises:
        UserError: one is out of range.
    """
    for name, (_, about) in described(config).items():
        if reason := about.refusal(name, values[name]):
            raise UserError(reason)
    return config(**values)


_AUTOSTART = "Configure and activate at once; otherwise wait for lifecycle transitions."
_BODY = "The humanoid: ours, g1, cmu, or the path of an MJCF file with its table beside it."
_IMAGE_QOS = "Delivery of the raw pictures."
_MODEL = "Weights: the name of shipped ones, or a folder."
_RELIABILITIES = ("reliable", "best_effort")


@dataclass(frozen=True)
class BridgeConfig:
    """Parameters of `mujoco_bridge`."""

    autostart: bool = parameter(False, _AUTOSTART)
    body: str = parameter("ours", _BODY)
    mode: str = parameter(
        "assisted", "How the body follows its reference.", choices=("kinematic", "assisted", "pd", "policy")
    )
    tracking_policy: str = parameter(
        "", "Folder of a tracking policy's weights, for the mode policy; empty for an untrained one."
    )
    assist: float = parameter(
        1.0, "Share of the assist in the mode assisted; it is measured and reported.", low=0.0, high=1.0
    )
    room_seed: int = parameter(
        0, "Seed of the room that the body stands in; -1 for an empty floor.", low=-1, high=2**31 - 1
    )
    image_size: int = parameter(256, "Width and height of the head camera's pictures, pixels.", low=16, high=640)
    camera_hz: float = parameter(
        30.0, "Pictures a second; 0 for none (headless machines without OpenGL).", low=0.0, high=120.0
    )
    publish_hz: float = parameter(100.0, "Joint states, poses and clock a second.", low=1.0, high=100.0)
    image_qos: str = parameter("reliable", _IMAGE_QOS, choices=_RELIABILITIES)
    jpeg_quality: int = parameter(
        85, "Of head_camera/image_raw/compressed, made while someone listens.", low=1, high=95, changeable=True
    )  # fmt: skip
    publish_clock: bool = parameter(False, "Own the time: publish /clock, and stamp with simulation time.")
    discovery_seconds: float = parameter(
        2.0, "How long to look for another bridge in this namespace before starting, seconds.", low=0.0, high=30.0
    )


@dataclass(frozen=True)
class WorldModelConfig:
    """Parameters of `world_model`."""

    autostart: bool = parameter(False, _AUTOSTART)
    model: str = parameter("nano", _MODEL)
    body: str = parameter("ours", _BODY)
    prompt: str = parameter("", "The goal text to begin with; empty to wait for the topic prompt.")
    seed: int = parameter(0, "Seed of the dream's noise.", low=0, high=2**31 - 1)
    start_from: str = parameter(
        "camera", "First frame and pose: the bridge's head camera, or a room of its own.", choices=("camera", "room")
    )
    room_seed: int = parameter(0, "Seed of that room, where start_from is room.", low=-1, high=2**31 - 1)
    body_from: str = parameter(
        "model",
        "Who moves the body: the model dreams it, or motion_tokens say it.",
        choices=("model", "tokens"),
    )
    horizon_seconds: float = parameter(
        0.6, "Motion that is left when the next step is begun, seconds.", low=0.0, high=5.0
    )
    token_seconds: float = parameter(
        1.0, "Time to answer a request for tokens, seconds; later ones are refused.", low=0.05, high=60.0
    )
    anchor_hz: float = parameter(
        0.5, "How often the dream goes on from a real frame and body; 0 for never.", low=0.0, high=2.0, changeable=True
    )
    image_qos: str = parameter("reliable", _IMAGE_QOS, choices=_RELIABILITIES)


@dataclass(frozen=True)
class PolicyConfig:
    """Parameters of `policy`."""

    autostart: bool = parameter(False, _AUTOSTART)
    prompt: str = parameter(
        "", "The goal text to begin with, as the world model's; empty to wait for the topic prompt."
    )
    policy: str = parameter("scripted", "Name of a policy of egotwin_sim.policies; empty for none.")
    model: str = parameter("nano", _MODEL)
    room_seed: int = parameter(0, "Seed of the room that the policy plans in: the bridge's.", low=-1, high=2**31 - 1)
    seed: int = parameter(0, "Seed of the policy.", low=0, high=2**31 - 1)
    image_qos: str = parameter("reliable", _IMAGE_QOS, choices=_RELIABILITIES)


CONFIGS: dict[str, type] = {"mujoco_bridge": BridgeConfig, "world_model": WorldModelConfig, "policy": PolicyConfig}
