"""What a generated dataset will hold: rooms, their clips, seeds and splits, all from a few numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from egotwin_sim.errors import UserError

CLIPS_PER_ROOM = 4
VAL_SHARE = 0.1  # of the rooms, the last ones
VIDEO_FPS = 8
MOTION_FPS = 16.0
MIN_SIZE, MAX_SIZE, SIZE_STEP = 32, 1024, 16  # pixels; the video VAE halves a picture up to four times
_ROOM, _CLIP = 0, 1  # the two families of seeds


@dataclass(frozen=True)
class Plan:
    """The settings of a generation. Two equal plans give equal datasets.

    Attributes:
        clips: number of clips.
        seed: of all randomness.
        size: width and height of the pictures, pixels.
        seconds: length of a clip.
        same_rooms: number of rooms that all clips share, those of the validation split too; without it there is a new
            room for every ``CLIPS_PER_ROOM`` clips, and no validation room is trained on.

    Raises:
        UserError: a setting is out of range.
    """

    clips: int
    seed: int = 0
    size: int = 128
    seconds: float = 5.0
    same_rooms: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.clips < 1:
            raise UserError(f"--clips {self.clips}: give the number of clips to make, 1 or more")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: give a number from 0 to 2^63 - 1")
        if not MIN_SIZE <= self.size <= MAX_SIZE or self.size % SIZE_STEP:
            raise UserError(
                f"--size {self.size}: give a multiple of {SIZE_STEP} pixels from {MIN_SIZE} to {MAX_SIZE}, such as 128"
            )
        if self.same_rooms is not None and not 1 <= self.same_rooms <= self.clips // 2:
            raise UserError(f"--same-rooms {self.same_rooms}: give a number from 1 to half of the clips")
        steps = self.seconds * VIDEO_FPS
        if not steps >= 1 or not np.isfinite(steps) or steps != int(steps):
            raise UserError(f"--seconds {self.seconds:g}: give a positive multiple of 1/{VIDEO_FPS} s, such as 5")

    @property
    def rooms(self) -> int:
        """Number of rooms."""
        return self.same_rooms or -(-self.clips // CLIPS_PER_ROOM)

    def clips_of(self, room: int) -> range:
        """Clip indices of a room."""
        each = CLIPS_PER_ROOM if self.same_rooms is None else -(-self.clips // self.same_rooms)
        return range(room * each, min((room + 1) * each, self.clips))

    def room_seed(self, room: int) -> int:
        """Seed of a room's layout, below 2^53 so that every reader of JSON or doubles keeps it."""
        return self._derive(_ROOM, room)

    def clip_seed(self, clip: int) -> int:
        """Seed of a clip's motion and text, below 2^53."""
        return self._derive(_CLIP, clip)

    @property
    def splits(self) -> dict[str, range]:
        """Clip ranges: the last rooms are `val`, at least one if there are two; a room is never in both.

        With ``same_rooms`` the last clips are.
        """
        if self.same_rooms is not None:
            first = self.clips - max(1, round(VAL_SHARE * self.clips))
            return {"train": range(first), "val": range(first, self.clips)}
        if self.rooms < 2:
            return {"train": range(self.clips)}
        first = self.clips_of(self.rooms - max(1, round(VAL_SHARE * self.rooms))).start
        return {"train": range(first), "val": range(first, self.clips)}

    def to_json(self) -> str:
        """One line that tells this plan from every other."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"

    def _derive(self, family: int, index: int) -> int:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(family, index))
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(11))
