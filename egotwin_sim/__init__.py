"""First-person video and the body motion that causes it, generated together (EgoTwin, arXiv 2508.13013).

Importing this package registers the environments `EgoTwin/Dream-v0` and `EgoTwin/Room-v0` with Gymnasium and loads
nothing heavy: sub-packages such as `egotwin_sim.models` are imported when they are first used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import gymnasium

__version__ = "0.1.0"

# In a checkout, or a symlinked colcon build of one, envs/, policies/ and ros/ lie beside this folder; an installed
# package has them inside.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "package.xml").is_file() and (_checkout / "envs" / "__init__.py").is_file():
    __path__.append(str(_checkout))

_SUBPACKAGES = (
    "body",
    "cli",
    "data",
    "diffusion",
    "envs",
    "errors",
    "metrics",
    "models",
    "motion",
    "pipelines",
    "policies",
    "room",
    "ros",
    "training",
)

gymnasium.register(
    id="EgoTwin/Dream-v0",
    entry_point="egotwin_sim.envs.dream:DreamEnv",
    vector_entry_point="egotwin_sim.envs.vector:DreamVectorEnv",
)
gymnasium.register(
    id="EgoTwin/Room-v0",
    entry_point="egotwin_sim.envs.room:RoomEnv",
    vector_entry_point="egotwin_sim.envs.room_vector:room_vector_env",
)


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES})
