"""A data set with smaller pictures is the same data set otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.room import generate_room_dataset
from egotwin_sim.data.smaller import smaller_dataset
from egotwin_sim.errors import UserError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> LeRobotReader:
    return LeRobotReader(generate_room_dataset(tmp_path_factory.mktemp("data") / "room", 8, 5, workers=1, size=64))


def test_pictures_are_averaged_and_all_else_is_kept(source: LeRobotReader, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    smaller_dataset(source, tmp_path / "small", (32, 32), {"train": 2, "val": 9}, lambda *now: counts.append(now))
    small = LeRobotReader(tmp_path / "small")
    first_val = source.split("val")[0]
    assert len(small.split("train")) == 2 and len(small.split("val")) == len(source.split("val"))
    assert counts[-1] == (len(small), len(small))
    for mine, theirs in ((1, 1), (2, first_val)):
        clip, original = small.clip(mine), source.clip(theirs)
        averaged = original.video.reshape(41, 32, 2, 32, 2, 3).mean((2, 4))
        assert np.abs(clip.video - averaged).mean() < 3  # the codec's loss
        assert clip.text == original.text
        np.testing.assert_array_equal(clip.motion.root_position, original.motion.root_position)
        columns = small.columns(mine)
        for name in ("room.seed", "room.goal_kind", "room.door_angle"):
            np.testing.assert_array_equal(columns[name], source.columns(theirs)[name])
    np.testing.assert_allclose(small.camera.K[:2], source.camera.K[:2] / 2)
    assert small.info["egotwin"]["codes"] == source.info["egotwin"]["codes"] and not small.has_depth


def test_sizes_that_do_not_divide_are_refused(source: LeRobotReader, tmp_path: Path) -> None:
    for size in ((48, 48), (32, 64)):
        with pytest.raises(UserError, match="whole multiple"):
            smaller_dataset(source, tmp_path / "small", size, {"train": 1})
    assert not (tmp_path / "small").exists()
