"""All of a stream as one value: batch-first tensors that can be chosen, joined, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.errors import UserError
from egotwin_sim.files import replacing
from egotwin_sim.models.images import unit_to_image
from egotwin_sim.models.transformer_cache import RingCache
from egotwin_sim.models.video_vae import DecoderCache
from egotwin_sim.models.view_memory import ViewMemory
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.pipelines.body import BodyState

FORMAT = "egotwin dream state 1"


@dataclass(frozen=True)
class DreamState:
    """B dreams between two steps; a value. A row depends on no other row.

    Attributes:
        cache: keys and values of the text, the first chunk and the newest ones.
        memory: the views that are remembered, (B, 2, ...): the first one and the newest.
        decoder: the video decoder's memory.
        features: float32 (B, D), the newest body states, each in its own canonical frame.
        root_position: float32 (B, 3), and
        joint_quat_wxyz: float32 (B, J, 4), the same bodies in the frame of the episode's start.
        T_world_canonical: float64 (B, 4, 4), where the canonical frames lie in it.
        noise_key: int64 (B, 3): seed, episode, and the number of the newest chunk, 0 at the start.
        goals: B texts.
        model: fingerprint of the weights that dream them.
    """

    cache: RingCache
    memory: ViewMemory
    decoder: DecoderCache
    features: Tensor
    root_position: Tensor
    joint_quat_wxyz: Tensor
    T_world_canonical: Tensor
    noise_key: Tensor
    goals: tuple[str, ...]
    model: str

    def __len__(self) -> int:
        """B."""
        return len(self.goals)

    @property
    def chunk(self) -> Tensor:
        """int64 (B,): steps since the start."""
        return self.noise_key[:, 2]

    @property
    def newest_frame(self) -> Tensor:
        """uint8 (B, H, W, 3): the newest frame of each dream."""
        return unit_to_image(self.memory.frames[:, -1]).permute(0, 2, 3, 1)

    def body(self, row: int, skeleton: Skeleton, fps: float) -> BodyState:
        """The newest body state of a row."""
        parts = (self.root_position, self.joint_quat_wxyz, self.features, self.T_world_canonical)
        root, quat, features, frame = (part[row].cpu().numpy() for part in parts)
        return BodyState(features, Motion(root[None], quat[None], skeleton, fps), frame)

    def with_bodies(self, bodies: Sequence[BodyState]) -> DreamState:
        """The same with other body states, one a row."""
        tensors: dict[str, Any] = body_tensors(bodies, self.features.device)
        return replace(self, **tensors)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, batch first."""
        named = {f"cache.{name}": value for name, value in self.cache.tensors().items()}
        named |= {f"memory.{name}": getattr(self.memory, name) for name in ViewMemory.__dataclass_fields__}
        named |= {f"decoder.{i}": feature for i, feature in enumerate(self.decoder.features)}
        return named | {name: getattr(self, name) for name in (*_BODY, "noise_key")}

    @classmethod
    def from_tensors(cls, named: dict[str, Tensor], sink: int, goals: Sequence[str], model: str) -> DreamState:
        """The inverse of `tensors`."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value for name, value in named.items() if name.startswith(prefix)}

        decoder = part("decoder.")
        return cls(
            cache=RingCache.from_tensors(part("cache."), sink),
            memory=ViewMemory(**part("memory.")),
            decoder=DecoderCache([decoder[str(i)] for i in range(len(decoder))]),
            **{name: named[name] for name in (*_BODY, "noise_key")},
            goals=tuple(goals),
            model=model,
        )

    def rows(self, rows: Sequence[int]) -> DreamState:
        """Some rows, copied; a row that is named twice is forked.

        Raises:
            UserError: a row that is not there.
        """
        for row in rows:
            if not 0 <= row < len(self):
                raise UserError(f"there is no dream {row}; the state holds {len(self)}, numbered from 0")
        index = torch.tensor(list(rows), dtype=torch.long, device=self.noise_key.device)
        chosen = {name: value[index] for name, value in self.tensors().items()}
        return self.from_tensors(chosen, self.cache.sink, [self.goals[row] for row in rows], self.model)

    def put(self, rows: Sequence[int], other: DreamState) -> DreamState:
        """The state with some rows replaced by those of another one.

        Raises:
            UserError: rows that are not there, another number of rows, or a state of another model.
        """
        if len(rows) != len(other):
            raise UserError(f"{len(rows)} rows were named for {len(other)} dreams; expected as many")
        source = list(range(len(self)))
        for place, row in enumerate(rows):
            if not 0 <= row < len(self):
                raise UserError(f"there is no dream {row}; the state holds {len(self)}, numbered from 0")
            source[row] = len(self) + place
        return DreamState.join([self, other]).rows(source)

    @classmethod
    def join(cls, states: Sequence[DreamState]) -> DreamState:
        """All rows of some states as one batch.

        Raises:
            UserError: states of different models.
        """
        first = states[0]
        if any(state.model != first.model for state in states):
            raise UserError("the states are of different models; only dreams of one model share a batch")
        parts = [state.tensors() for state in states]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return cls.from_tensors(
            joined, first.cache.sink, [goal for state in states for goal in state.goals], first.model
        )

    def to(self, device: torch.device | str) -> DreamState:
        """The state with its tensors on another device."""
        moved = {name: value.to(device) for name, value in self.tensors().items()}
        return self.from_tensors(moved, self.cache.sink, self.goals, self.model)

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        path = Path(path)
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent} to save the state in")
        named = {name: value.detach().cpu().contiguous().clone() for name, value in self.tensors().items()}
        told = {
            "format": FORMAT,
            "model": self.model,
            "goals": json.dumps(self.goals),
            "sink": str(self.cache.sink),
        }
        with replacing(path) as partial:
            save_file(named, partial, metadata=told)

    @classmethod
    def load(cls, path: str | Path) -> DreamState:
        """Read what `save` wrote. Whether it fits a model is checked where it is given to one.

        Raises:
            UserError: no such file, or no state of this version.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no file {path}")
        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                if told.get("format") != FORMAT:
                    raise UserError(f"{path} holds no dream state of this version (expected {FORMAT!r})")
                named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls.from_tensors(named, int(told["sink"]), json.loads(told["goals"]), told["model"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no whole dream state: {error}") from error


_BODY = ("features", "root_position", "joint_quat_wxyz", "T_world_canonical")


def body_tensors(bodies: Sequence[BodyState], device: torch.device | str) -> dict[str, Tensor]:
    """The body states' fields of a `DreamState`."""
    arrays = {
        "features": np.stack([body.features for body in bodies]),
        "root_position": np.stack([body.motion.root_position[0] for body in bodies]),
        "joint_quat_wxyz": np.stack([body.motion.joint_quat_wxyz[0] for body in bodies]),
        "T_world_canonical": np.stack([body.T_world_canonical for body in bodies]),
    }
    return {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
