"""What is written is read back: every frame in its place, every motion to the last bit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from egotwin_sim.data import Camera, Clip, LeRobotReader, LeRobotWriter
from egotwin_sim.data.columns import Column
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Skeleton, encode

LENGTHS = (41, 1, 7, 2, 13, 1, 1, 20)


@pytest.fixture
def root(write_dataset: Callable[..., Path]) -> Path:
    return write_dataset(LENGTHS)


def test_every_frame_is_in_its_place(root: Path, number_of: Callable[[np.ndarray], int]) -> None:
    reader = LeRobotReader(root)
    numbers = [number_of(picture) for episode in range(len(reader)) for picture in reader.frames(episode)]
    assert numbers == list(range(sum(LENGTHS)))
    depth = [number_of(255.0 * (picture > 1.3)) for clip in reader for picture in clip.depth]
    assert depth == numbers


def test_a_window_is_the_same_as_the_part_of_the_whole(root: Path, make_clip: Callable[..., Clip]) -> None:
    reader, whole = LeRobotReader(root), make_clip(0, 41)
    rng = np.random.Generator(np.random.PCG64(0))
    pictures = reader.frames(0)
    for _ in range(20):
        start, stop = sorted(rng.choice(42, 2, replace=False).tolist())
        part = reader.clip(0, start, stop)
        assert np.array_equal(part.video, pictures[start:stop])
        assert np.array_equal(part.motion.root_position, whole.motion.root_position[2 * start : 2 * stop - 1])


def test_a_clip_comes_back(root: Path, make_clip: Callable[..., Clip]) -> None:
    reader, first = LeRobotReader(root), 0
    for episode, length in enumerate(LENGTHS):
        written, read = make_clip(first, length), reader.clip(episode)
        first += length
        assert read.text == f"text {episode % 3}"
        assert read.motion.root_position.tobytes() == written.motion.root_position.tobytes()
        assert read.motion.joint_quat_wxyz.tobytes() == written.motion.joint_quat_wxyz.tobytes()
        assert read.motion.fps == 16.0 and read.fps == 8.0
        assert np.array_equal(read.motion.skeleton.offsets, Skeleton.default(1.6).offsets)
        assert np.array_equal(read.camera.K, written.camera.K)
        assert np.array_equal(read.camera.T_head_camera, written.camera.T_head_camera)
        assert np.abs(read.video.astype(float) - written.video).mean() < 4.0
        assert np.median(np.abs(read.depth / written.depth - 1.0)) < 0.02


def test_state_and_action_are_head_centric(root: Path, make_clip: Callable[..., Clip]) -> None:
    rows, features = LeRobotReader(root).columns(0), encode(make_clip(0, 41).motion)
    assert np.array_equal(rows["observation.state"], features[::2])
    action = rows["action"].reshape(41, 2, 282)
    assert np.array_equal(action[:-1, 0], features[1:-1:2])
    assert np.array_equal(action[:-1, 1], features[2::2])
    assert np.array_equal(action[-1], features[[-1, -1]])


def test_the_layout_is_lerobot_3(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 8
    assert info["total_episodes"] == len(LENGTHS) and info["total_frames"] == sum(LENGTHS)
    assert info["total_tasks"] == 3 and info["splits"] == {"train": "0:7", "val": "7:8"}
    features = info["features"]
    assert features["observation.images.ego"]["dtype"] == "video"
    assert features["observation.images.ego"]["shape"] == [32, 32, 3]
    assert features["observation.state"]["shape"] == [282] and features["action"]["shape"] == [564]
    assert "depth.ego" not in features and info["egotwin"]["features"]["depth.ego"]["shape"] == [32, 32, 3]
    for name, feature in features.items():
        assert (
            feature["names"] is None or feature["dtype"] == "video" or len(feature["names"]) == feature["shape"][0]
        ), name
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert set(table.column_names) == {name for name, feature in features.items() if feature["dtype"] != "video"}
    assert str(table.schema.field("observation.state").type).startswith("fixed_size_list<")
    assert str(table.schema.field("timestamp").type) == "float"
    assert table.column("index").to_pylist() == list(range(sum(LENGTHS)))
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    ends = np.cumsum(LENGTHS)
    for i, row in enumerate(episodes):
        assert row["dataset_to_index"] == ends[i]
        assert row["videos/observation.images.ego/from_timestamp"] == (ends[i] - LENGTHS[i]) / 8
        assert row["videos/depth.ego/to_timestamp"] == ends[i] / 8
        assert row["meta/episodes/file_index"] == 0
    tasks = pq.read_table(root / "meta/tasks.parquet").to_pydict()
    assert tasks == {"task_index": [0, 1, 2], "task": ["text 0", "text 1", "text 2"]}


def test_statistics_cover_every_feature(root: Path) -> None:
    reader = LeRobotReader(root)
    stats = reader.stats()
    assert set(stats) == set(reader.info["features"])
    rows = np.concatenate([reader.columns(i, ("action",))["action"] for i in range(len(reader))]).astype(np.float64)
    assert np.allclose(stats["action"]["mean"], rows.mean(axis=0), atol=1e-9)
    assert np.allclose(stats["action"]["std"], rows.std(axis=0), atol=1e-9)
    assert np.allclose(stats["action"]["q10"], np.quantile(rows, 0.1, axis=0), atol=1e-6)
    picture = stats["observation.images.ego"]
    assert picture["mean"].shape == (3, 1, 1) and 0 <= picture["q01"].min() and picture["max"].max() <= 1


def test_full_files_are_followed_by_new_ones(write_dataset: Callable[..., Path], number_of: Callable) -> None:
    lengths = (41,) * 12
    root = write_dataset(lengths, data_file_mb=1, video_file_mb=1)
    assert len(list((root / "data/chunk-000").iterdir())) == 2  # 41 rows of 4.2 kB a clip
    reader = LeRobotReader(root)
    assert [number_of(reader.frames(i, 40)[0]) for i in (11, 0, 7)] == [12 * 41 - 1, 40, 8 * 41 - 1]
    assert reader.columns(11, ("index",))["index"][0, 0] == 11 * 41


def test_the_same_clips_give_the_same_bytes(write_dataset: Callable[..., Path]) -> None:
    first, second = write_dataset((9, 5), "first"), write_dataset((9, 5), "second")
    files = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert len(files) == 7
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_a_reader_can_be_pickled(root: Path, number_of: Callable[[np.ndarray], int]) -> None:
    reader = LeRobotReader(root)
    reader.clip(0)
    again = pickle.loads(pickle.dumps(reader))
    assert number_of(again.frames(2)[0]) == 42


def test_further_columns_and_notes(tmp_path: Path, camera: Camera, make_clip: Callable[..., Clip]) -> None:
    clip = make_clip(0, 5, depth=False)
    options = {"extra": {"room.door_angle": Column("float32", 1)}, "notes": ("place",)}
    with LeRobotWriter(
        tmp_path / "set", size=(32, 32), camera=camera, skeleton=clip.motion.skeleton, **options
    ) as writer:
        writer.add_clip(clip, {"room.door_angle": np.arange(5, dtype=np.float32)}, {"place": "kitchen"})
    reader = LeRobotReader(tmp_path / "set")
    assert reader.columns(0, ("room.door_angle",))["room.door_angle"].ravel().tolist() == [0, 1, 2, 3, 4]
    assert reader.note("place", 0) == "kitchen"
    assert reader.clip(0).depth is None
    with pytest.raises(UserError, match="no depth"):
        reader.depth(0)


def test_a_failed_writer_leaves_nothing(tmp_path: Path, camera: Camera, make_clip: Callable[..., Clip]) -> None:
    clip = make_clip(0, 5, depth=False)
    with pytest.raises(UserError, match="depth.ego"):
        with LeRobotWriter(
            tmp_path / "set", size=(32, 32), camera=camera, skeleton=clip.motion.skeleton, depth=True
        ) as writer:
            writer.add_clip(make_clip(0, 5))
            writer.add_clip(clip)
    assert not (tmp_path / "set").exists()
    with pytest.raises(UserError, match="no episode"):
        LeRobotWriter(tmp_path / "set", size=(32, 32), camera=camera, skeleton=clip.motion.skeleton).close()
    assert not (tmp_path / "set").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, camera: Camera) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty .*thesis.tex"):
        LeRobotWriter(tmp_path, size=(32, 32), camera=camera, skeleton=Skeleton.default())
    with pytest.raises(UserError, match="is a file"):
        LeRobotWriter(tmp_path / "thesis.tex", size=(32, 32), camera=camera, skeleton=Skeleton.default())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_clip_must_agree_with_itself(make_clip: Callable[..., Clip], camera: Camera) -> None:
    clip = make_clip(0, 5)
    with pytest.raises(UserError, match="4 video frames need 7 motion frames, got 9"):
        Clip(clip.video[:4], clip.motion, clip.text, camera)
    with pytest.raises(UserError, match="text is empty"):
        Clip(clip.video, clip.motion, " ", camera)
    with pytest.raises(UserError, match="uint8"):
        Clip(clip.video.astype(np.float32), clip.motion, clip.text, camera)
    with pytest.raises(UserError, match="depth"):
        Clip(clip.video, clip.motion, clip.text, camera, clip.depth[:-1])
    with pytest.raises(UserError, match="rigid"):
        Camera(camera.K, 2.0 * np.eye(4))
