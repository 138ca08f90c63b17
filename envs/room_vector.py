"""Rooms in processes of their own: the vector twin of `EgoTwin/Room-v0`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from egotwin_sim.errors import UserError

from .base import Observation, checked_actions
from .room import RoomEnv
from .start import ResetOptions
from .vector import read_autoreset_mode
from .vector_options import count_of_envs, own_options, own_seconds, own_seeds, reset_rows


class OwnOptions(gymnasium.Wrapper[Observation, np.ndarray, Observation, np.ndarray]):
    """Takes from reset options for many environments those of this one."""

    def __init__(self, env: RoomEnv, index: int, num_envs: int) -> None:
        super().__init__(env)
        self.index, self.num_envs = index, num_envs

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with this environment's own options."""
        return self.env.reset(seed=seed, options=own_options(options, self.index, self.num_envs))


@dataclass(frozen=True)
class RoomMaker:
    """Makes the room of one process; can be sent to it.

    Attributes:
        index: the environment's number.
        num_envs: of how many.
        arguments: of `RoomEnv`.
        home: the process that asked.
    """

    index: int
    num_envs: int
    arguments: dict[str, Any]
    home: int

    def __call__(self) -> OwnOptions:
        """The room."""
        if os.getpid() != self.home:
            import torch

            # There are as many processes as rooms already; threads in each would wait for one another.
            torch.set_num_threads(1)
        return OwnOptions(RoomEnv(**self.arguments), self.index, self.num_envs)


class RoomVectorEnv(AsyncVectorEnv):
    """Gymnasium's environments in processes, but a mistake that can be seen here is not sent to them.

    Gymnasium stops every process when one raises; what is refused here changes nothing.
    """

    def reset_async(
        self, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> None:
        """Send resets; see `DreamVectorEnv.reset`.

        Raises:
            UserError: an unknown option, or seeds, entries or a mask for another number of environments.
        """
        options = dict(options or {})
        for row in reset_rows(options.get("reset_mask"), self.num_envs):
            own = {name: value for name, value in options.items() if name != "reset_mask"}
            ResetOptions.read(own_options(own, row, self.num_envs))
        super().reset_async(seed=own_seeds(seed, self.num_envs), options=options)

    def step_async(self, actions: Any) -> None:
        """Send actions (N, 2, C).

        Raises:
            UserError: actions of another shape, not finite or out of bounds.
        """
        shape = self.action_space.shape
        assert shape is not None
        super().step_async(checked_actions(actions, shape))


def room_vector_env(
    num_envs: int = 1,
    model: str | Path = "nano",
    max_seconds: float | Sequence[float] = 30.0,
    render_mode: str | None = None,
    device: str = "cpu",
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
) -> RoomVectorEnv:
    """N rooms, each in a process, with the arguments and reset options of `DreamVectorEnv`.

    The processes are spawned: a forked one would inherit torch's threads and the renderer's context, and work with
    neither safely. So a script that makes one needs `if __name__ == "__main__":`. Actions are checked in all
    environments, also in those that are reset instead. An error in a process, such as a goal that no room fits, closes
    all of them.

    Args:
        num_envs: N.
        model: name of shipped weights, or a folder of weights; every process loads the motion VAE and the text encoder.
        max_seconds: length of an episode, or one for each environment.
        render_mode: "rgb_array" or "rgb_array_list".
        device: where the networks run.
        autoreset_mode: the mode, or its value.

    Raises:
        UserError: no such weights, a loaded pipeline, or an argument that does not fit.
    """
    num_envs = count_of_envs(num_envs)
    if not isinstance(model, (str, Path)):
        raise UserError("a loaded pipeline cannot be sent to other processes; give the name or folder of its weights")
    shared = {"model": model, "render_mode": render_mode, "device": device}
    seconds = [own_seconds(max_seconds, i, num_envs) for i in range(num_envs)]
    makers = [RoomMaker(i, num_envs, {**shared, "max_seconds": own}, os.getpid()) for i, own in enumerate(seconds)]
    return RoomVectorEnv(makers, context="spawn", autoreset_mode=read_autoreset_mode(autoreset_mode))
