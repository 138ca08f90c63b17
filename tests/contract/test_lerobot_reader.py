"""The real LeRobot reader reads our datasets frame by frame; skipped where lerobot is not installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.room import generate_room_dataset

lerobot_dataset = pytest.importorskip("lerobot.datasets.lerobot_dataset")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_room_dataset(tmp_path_factory.mktemp("data") / "set", 5, seed=1, workers=1, size=64, seconds=1.0)


def test_every_row_and_picture_is_ours(root: Path) -> None:
    theirs = lerobot_dataset.LeRobotDataset("local/egotwin", root=root, video_backend="pyav")
    ours = LeRobotReader(root)
    assert theirs.num_episodes == 5 and len(theirs) == 5 * 9
    index = 0
    for episode in range(5):
        pictures, rows = ours.frames(episode), ours.columns(episode)
        for frame in range(ours.length(episode)):
            item = theirs[index]
            index += 1
            assert item["task"] == ours.text(episode)
            assert float(item["timestamp"]) == frame / 8
            picture = item["observation.images.ego"].numpy().transpose(1, 2, 0) * 255.0
            assert np.abs(picture - pictures[frame]).max() <= 2.0
            for name in ("observation.state", "action", "motion.root_position"):
                assert np.array_equal(item[name].numpy(), rows[name][frame])
            assert int(item["room.seed"]) == rows["room.seed"][frame, 0]


def test_a_policy_sees_the_picture_the_state_and_the_action(root: Path) -> None:
    from lerobot.datasets.utils import dataset_to_policy_features

    theirs = lerobot_dataset.LeRobotDatasetMetadata("local/egotwin", root=root)
    features = dataset_to_policy_features(theirs.features)
    assert set(features) == {"observation.images.ego", "observation.state", "action"}
    assert theirs.stats["observation.images.ego"]["mean"].shape == (3, 1, 1)


def test_edited_datasets_keep_our_columns(root: Path, tmp_path: Path) -> None:
    from lerobot.datasets.dataset_tools import delete_episodes

    theirs = lerobot_dataset.LeRobotDataset("local/egotwin", root=root, video_backend="pyav")
    kept = delete_episodes(theirs, [1], output_dir=tmp_path / "kept", repo_id="local/kept")
    assert kept.num_episodes == 4
    ours = LeRobotReader(root)
    again = kept[9]  # the first frame of what was episode 2
    assert np.array_equal(again["motion.root_position"].numpy(), ours.columns(2)["motion.root_position"][0])
    picture = again["observation.images.ego"].numpy().transpose(1, 2, 0) * 255.0
    assert np.abs(picture - ours.frames(2)[0]).mean() < 6.0  # encoded once more
