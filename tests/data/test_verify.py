"""`verify` passes a sound dataset and names what is wrong with a damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from egotwin_sim.data import LeRobotReader
from egotwin_sim.data.info import describe
from egotwin_sim.data.verify import verify
from egotwin_sim.data.video_file import encode_video
from egotwin_sim.errors import UserError

DATA, VIDEO = "data/chunk-000/file-000.parquet", "videos/observation.images.ego/chunk-000/file-000.mp4"


@pytest.fixture
def root(write_dataset: Callable[..., Path]) -> Path:
    return write_dataset((9, 1, 14))


def _resign(root: Path) -> None:
    """Make the sizes and checksums in info.json those of the files as they are, as a careless tool would."""
    from egotwin_sim.data.lerobot_writer import sha256

    info = json.loads((root / "meta/info.json").read_text())
    for name in info["egotwin"]["files"]:
        info["egotwin"]["files"][name] = {"bytes": (root / name).stat().st_size, "sha256": sha256(root / name)}
    (root / "meta/info.json").write_text(json.dumps(info))


def _change_column(root: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    file = pq.ParquetFile(root / DATA)
    groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    with pq.ParquetWriter(root / DATA, groups[0].schema) as writer:
        for table in groups:
            column = table.column(name).combine_chunks()
            wide = pa.types.is_fixed_size_list(column.type)
            flat = change((column.flatten() if wide else column).to_numpy().copy())
            array = pa.FixedSizeListArray.from_arrays(pa.array(flat), column.type.list_size) if wide else pa.array(flat)
            writer.write_table(table.set_column(table.column_names.index(name), table.schema.field(name), array))
    _resign(root)


def test_a_sound_dataset_passes(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(root, lambda done, total: seen.append((done, total)))
    assert report.problems == ()
    assert (report.episodes, report.frames, report.decoded) == (3, 24, 48)
    assert report.sought == 2 * 7  # first, middle, last of each clip, in both videos; one clip is a single frame
    assert seen[-1] == (48, 48)


def test_it_describes_itself(root: Path) -> None:
    lines = dict(describe(root))
    assert lines["clips"].startswith("3 (24 video frames")
    assert lines["splits"] == "train 2, val 1"
    assert lines["video"] == "32x32, 8 frames/s, with depth"


def test_a_flipped_byte_is_found(root: Path) -> None:
    content = bytearray((root / VIDEO).read_bytes())
    content[len(content) // 3] ^= 0xFF
    (root / VIDEO).write_bytes(content)
    assert any("checksum" in problem and VIDEO in problem for problem in verify(root).problems)


def test_a_flipped_byte_in_a_table_is_found_without_a_checksum(root: Path) -> None:
    content = bytearray((root / DATA).read_bytes())
    content[len(content) // 3] ^= 0xFF
    (root / DATA).write_bytes(content)
    _resign(root)
    assert verify(root).problems


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("timestamp", lambda t: t + np.float32(1e-3), "timestamp is wrong"),
        ("frame_index", lambda i: i[::-1].copy(), "frame_index is wrong"),
        ("index", lambda i: i * 0, "index is wrong"),
        ("task_index", lambda i: (i + 1) % 3, "does not lead to its text"),
        ("action", lambda a: a * np.float32(np.nan), "action is not finite"),
        ("action", lambda a: a + np.float32(0.01), "action does not follow from its motion"),
        ("motion.joint_quat_wxyz", lambda q: q * 2, "quaternion"),
    ],
)
def test_a_wrong_table_is_found(root: Path, name: str, change: Callable, message: str) -> None:
    _change_column(root, name, change)
    assert any(message in problem for problem in verify(root).problems)


@pytest.mark.parametrize("fault", ["dropped", "shifted", "swapped"])
def test_a_wrong_video_is_found(root: Path, fault: str) -> None:
    pictures = np.concatenate([LeRobotReader(root).frames(i) for i in range(3)])
    data = encode_video(pictures[:-1] if fault == "dropped" else pictures, 8)
    with av.open(BytesIO(data), "r") as source, av.open(str(root / VIDEO), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is None:
                continue
            if fault == "shifted":  # a real-clock drift of a thousandth of a frame per frame
                packet.pts = packet.dts = packet.pts + packet.pts // 1000
            if fault == "swapped" and packet.pts * packet.time_base * 8 >= 12:  # a gap of one frame
                packet.pts = packet.dts = packet.pts + int(1 / (packet.time_base * 8))
            packet.stream = stream
            target.mux(packet)
    _resign(root)
    assert any(VIDEO in problem for problem in verify(root).problems)


def test_splits_must_hold_every_clip_once(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["splits"] = {"train": "0:2", "val": "1:3"}
    (root / "meta/info.json").write_text(json.dumps(info))
    assert any("splits" in problem for problem in verify(root).problems)


def test_statistics_must_be_finite(root: Path) -> None:
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["mean"][3] = float("nan")
    path.write_text(json.dumps(stats))
    _resign(root)
    assert any("action is not finite" in problem for problem in verify(root).problems)


def test_what_cannot_be_opened_is_one_line(root: Path, tmp_path: Path) -> None:
    def fails(message: str) -> None:
        with pytest.raises(UserError, match=message) as error:
            LeRobotReader(broken)
        assert "\n" not in str(error.value)

    with pytest.raises(UserError, match="no folder"):
        LeRobotReader(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no dataset"):
        verify(tmp_path / "empty")
    broken = tmp_path / "broken"

    shutil.copytree(root, broken)
    with (broken / DATA).open("r+b") as file:
        file.truncate(1000)
    fails("truncated")
    _resign(broken)
    fails("damaged")

    (broken / DATA).unlink()
    fails("missing")

    info = json.loads((root / "meta/info.json").read_text())
    for change, message in (
        ({"codebase_version": "v2.1"}, "version v2.1: only v3.0"),
        ({"egotwin": None}, "another program"),
        ({"egotwin": info["egotwin"] | {"format_version": 99}}, "format 99, this program reads 1"),
        ({"splits": {"train": "all"}}, "damaged"),
        ({"total_episodes": 4}, "lists 3 episodes, its info.json 4"),
    ):
        shutil.rmtree(broken)
        shutil.copytree(root, broken)
        (broken / "meta/info.json").write_text(json.dumps(info | change))
        fails(message)
    (broken / "meta/info.json").write_text('{"codebase_version": "v3')
    fails("damaged")


def test_questions_beyond_the_data(root: Path) -> None:
    reader = LeRobotReader(root)
    with pytest.raises(UserError, match="no episode 3"):
        reader.clip(3)
    with pytest.raises(UserError, match="no frames 5..9"):
        reader.frames(0, 5, 10)
    with pytest.raises(UserError, match="no split 'test'"):
        reader.split("test")
    with pytest.raises(UserError, match="no column 'depth.ego'"):
        reader.columns(0, ("depth.ego",))
