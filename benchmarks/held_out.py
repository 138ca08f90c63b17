"""Clips that no training has seen, and the clips that the benchmark's own small regressors are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import console
from rich.progress import Progress

from egotwin_sim.data import Clip, LeRobotReader
from egotwin_sim.data.room import generate_room_dataset

# A dataset made here: its seed differs from every training set's, so all its rooms are new to the model.
HELD_OUT_SEED = 900_001
HELD_OUT_CLIPS = 480
HELD_OUT_SHARE = 0.5  # of its clips are scored, the others train the regressors; both in whole rooms
MADE_HERE = Path("outputs/benchmark_rooms")

DOOR_MOVED = 0.1  # radians; a door that turns less has not been opened


@dataclass(frozen=True)
class Sample:
    """A held-out clip with what the room knows about it.

    Attributes:
        episode: its index in the dataset.
        clip: pictures, motion, text.
        kind: what the clip's goal is.
        room_seed: the seed of its layout.
        door_angle: (T,) radians at each video frame.
    """

    episode: int
    clip: Clip
    kind: str
    room_seed: int
    door_angle: np.ndarray

    @property
    def door_moves(self) -> bool:
        """Whether the door turns in this clip."""
        return float(np.ptp(self.door_angle)) > DOOR_MOVED


@dataclass(frozen=True)
class HeldOut:
    """A dataset and its two parts.

    Attributes:
        reader: the dataset.
        scored: episodes that are scored.
        training: episodes of other rooms, for the benchmark's regressors.
    """

    reader: LeRobotReader
    scored: Sequence[int]
    training: Sequence[int]

    @classmethod
    def open(cls, data: Path | None) -> HeldOut:
        """The `val` and `train` split of a dataset; without one, a dataset of new rooms is made, once.

        Raises:
            UserError: the folder is no dataset, or has no `val` split.
        """
        if data is not None:
            reader = LeRobotReader(data)
            return cls(reader, reader.split("val"), reader.split("train"))
        if not (MADE_HERE / "meta" / "info.json").is_file():
            console.print(f"making {HELD_OUT_CLIPS} held-out clips in {MADE_HERE} (seed {HELD_OUT_SEED})")
            with Progress(console=console) as progress:
                task = progress.add_task("rendering", total=HELD_OUT_CLIPS)
                generate_room_dataset(
                    MADE_HERE,
                    HELD_OUT_CLIPS,
                    HELD_OUT_SEED,
                    progress=lambda stage, done, total: progress.update(task, description=stage, completed=done),
                )
        reader = LeRobotReader(MADE_HERE)
        first = round(len(reader) * (1 - HELD_OUT_SHARE))
        seeds = [int(reader.columns(i, ("room.seed",))["room.seed"][0, 0]) for i in range(len(reader))]
        while seeds[first] == seeds[first - 1]:
            first += 1
        return cls(reader, range(first, len(reader)), range(first))

    def kind(self, episode: int) -> str:
        """What the goal of an episode is: walk, turn, open, ..."""
        code = int(self.reader.columns(episode, ("room.goal_kind",))["room.goal_kind"][0, 0])
        return str(self.reader.info["egotwin"]["codes"]["room.goal_kind"][code])

    def sample(self, episode: int) -> Sample:
        """Everything about one episode."""
        columns = self.reader.columns(episode, ("room.seed", "room.door_angle"))
        return Sample(
            episode=episode,
            clip=self.reader.clip(episode, depth=False),
            kind=self.kind(episode),
            room_seed=int(columns["room.seed"][0, 0]),
            door_angle=columns["room.door_angle"][:, 0].astype(np.float64),
        )

    def choose(self, count: int, door_clips: int) -> tuple[list[Sample], list[Sample]]:
        """`count` scored clips spread evenly over the rooms, and further clips whose door moves.

        Args:
            count: clips for all figures; all there are, when there are fewer.
            door_clips: clips whose door moves that both lists together should hold.
        """
        picked = np.unique(np.linspace(0, len(self.scored) - 1, count).round().astype(int))
        samples = [self.sample(self.scored[i]) for i in picked]
        missing = door_clips - sum(sample.door_moves for sample in samples)
        extra: list[Sample] = []
        for episode in sorted(set(self.scored) - {sample.episode for sample in samples}):
            if len(extra) >= missing:
                break
            angle = self.reader.columns(episode, ("room.door_angle",))["room.door_angle"]
            if float(np.ptp(angle)) > DOOR_MOVED:
                extra.append(self.sample(episode))
        return samples, extra
