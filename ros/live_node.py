"""The bridge, the world model and the policy in one process."""

from __future__ import annotations

from typing import NoReturn

from .mujoco_bridge_node import MujocoBridgeNode
from .policy_node import PolicyNode
from .running import run
from .world_model_node import WorldModelNode


def main(arguments: list[str] | None = None) -> NoReturn:
    """The executable `live_node`; parameters given to it go to every node that has them."""
    run([MujocoBridgeNode, WorldModelNode, PolicyNode], arguments)


if __name__ == "__main__":
    main()
