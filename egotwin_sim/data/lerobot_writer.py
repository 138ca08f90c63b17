"""Writes LeRobot v3.0 datasets with pyarrow and PyAV alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.clip import Clip, motion_frames_per_video_frame
from egotwin_sim.data.columns import DEPTH, INDEX_COLUMNS, VIDEO, Column, motion_columns, skeleton_to_json
from egotwin_sim.data.depth import FAR, NEAR
from egotwin_sim.data.disk import writing
from egotwin_sim.data.episode import ENCODINGS, Episode, encode_episode
from egotwin_sim.data.statistics import RunningStats, Stats, column_stats, picture_stats
from egotwin_sim.data.video_file import VideoJoiner
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Skeleton

CODEBASE_VERSION = "v3.0"
FORMAT_VERSION = 1  # of our own key `egotwin` in info.json
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_PATH, STATS_PATH, TASKS_PATH = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
REPORT_PATH = "report.json"  # of a conversion
# Notes of episodes that the reader knows: the recording that a clip was cut from, and its camera as JSON where the
# clips of a dataset have different ones.
SEQUENCE_NOTE, CAMERA_NOTE = "sequence", "camera"
CONTENT = ("data", "videos", REPORT_PATH, "meta")  # of a finished dataset; meta last: without it, there is no dataset
CHUNK_FILES = 1000
STAGING = ".writing"
_EPISODES_PER_ROW_GROUP = 64


def require_empty(root: Path, ignore: Collection[str] = ()) -> None:
    """Check that a folder may be written to: absent, or empty but for the names in `ignore`.

    Raises:
        UserError: it is a file, or holds something.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file: give the name of a new folder")
    if root.is_dir():
        found = sorted(path.name for path in root.iterdir() if path.name not in ignore)
        if found:
            raise UserError(f"{root} is not empty (it holds {found[0]}): give a new folder, or empty this one")


class _Files:
    """The numbering of files that are begun anew once they are full."""

    def __init__(self, limit: int) -> None:
        self.limit, self.number, self.bytes = limit, -1, 0

    def next_is_due(self, size: int) -> bool:
        """Account for `size` more bytes; true when they must go to a new file."""
        due = self.number < 0 or (self.bytes > 0 and self.bytes + size > self.limit)
        if due:
            self.number, self.bytes = self.number + 1, 0
        self.bytes += size
        return due

    @property
    def place(self) -> dict[str, int]:
        """chunk_index and file_index of the current file."""
        return {"chunk_index": self.number // CHUNK_FILES, "file_index": self.number % CHUNK_FILES}


class LeRobotWriter:
    """Appends episodes; the dataset appears under `root` as a whole when it is closed.

    Use it as a context manager: leaving it normally closes, an exception removes all that was written.
    Every parquet row group of `data/` holds one episode, so one clip can be read alone.
    """

    def __init__(
        self,
        root: Path,
        *,
        size: tuple[int, int] | None,
        camera: Camera | None,
        skeleton: Skeleton,
        fps: int = 8,
        motion_fps: float = 16.0,
        depth: bool = False,
        extra: Mapping[str, Column] | None = None,
        notes: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
        robot_type: str = "egotwin_humanoid",
        ignore: Collection[str] = (),
        data_file_mb: int = 100,
        video_file_mb: int = 200,
    ) -> None:
        """Begin a dataset.

        Args:
            root: a folder that does not exist or is empty.
            size: (H, W) of the video, even numbers of pixels; None for motion without video.
            camera: the head camera of every clip without one of its own (`CAMERA_NOTE`); None without video.
            skeleton: the body of every clip.
            fps: video frames per second.
            motion_fps: motion frames per second, a whole multiple of `fps`.
            depth: whether every clip has depth.
            extra: further columns by name.
            notes: names of the text values of each episode's own row.
            about: further values for the key `egotwin` of info.json.
            robot_type: the value in info.json.
            ignore: names in `root` that do not count as content.
            data_file_mb: a table file is closed before it would hold more, uncompressed.
            video_file_mb: a video file is closed before it would hold more.

        Raises:
            UserError: `root` is not empty, the rates do not fit, or there is a size without a camera or the reverse.
        """
        require_empty(root, ignore)
        if (size is None) != (camera is None) or (depth and size is None):
            raise UserError("a dataset with video has a size and a camera, one of motion alone has neither, nor depth")
        self.root, self.fps, self.size = root, fps, size
        self.motion_fps, self.skeleton, self.camera = motion_fps, skeleton, camera
        self.columns = motion_columns(skeleton, motion_frames_per_video_frame(motion_fps, fps)) | dict(extra or {})
        self.video_keys: tuple[str, ...] = () if size is None else (VIDEO, DEPTH) if depth else (VIDEO,)
        self.notes, self.about, self.robot_type = tuple(notes), dict(about or {}), robot_type
        self.file_mb = {"data": data_file_mb, "video": video_file_mb}
        self.episodes = self.frames = 0
        self._tasks: dict[str, int] = {}
        self._stats = {name: RunningStats(column.width) for name, column in (self.columns | INDEX_COLUMNS).items()}
        self._histogram = np.zeros((3, 256), dtype=np.int64)
        self._data_files = _Files(data_file_mb * 2**20)
        self._video_files = {key: _Files(video_file_mb * 2**20) for key in self.video_keys}
        self._episode_files = _Files(data_file_mb * 2**20)
        self._data: pq.ParquetWriter | None = None
        self._episode_writer: pq.ParquetWriter | None = None
        self._videos: dict[str, VideoJoiner] = {}
        self._pending: list[dict[str, Any]] = []
        self._stage = root / STAGING
        self._made_root = not root.exists()
        with writing(root):
            if self._stage.exists():
                shutil.rmtree(self._stage)
            self._stage.mkdir(parents=True)

    def __enter__(self) -> LeRobotWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, or on an error remove all that was written."""
        if kind is None:
            self.close()
        else:
            self.abort()

    def add_clip(
        self, clip: Clip, extra: Mapping[str, np.ndarray] | None = None, notes: Mapping[str, str] | None = None
    ) -> None:
        """Encode and append one clip; see `encode_episode`."""
        self.add(encode_episode(clip, extra, notes))

    def add(self, episode: Episode) -> None:
        """Append an encoded episode.

        Raises:
            UserError: its columns, videos or notes are not those of the dataset, or the disk is full.
        """
        self._check(episode)
        length, index = len(episode), self.episodes
        task_index = self._tasks.setdefault(episode.text, len(self._tasks))
        frame_index = np.arange(length, dtype=np.int64)
        rows = episode.rows | {
            "timestamp": (frame_index / self.fps).astype(np.float32)[:, None],
            "frame_index": frame_index[:, None],
            "episode_index": np.full((length, 1), index, dtype=np.int64),
            "index": (self.frames + frame_index)[:, None],
            "task_index": np.full((length, 1), task_index, dtype=np.int64),
        }
        row: dict[str, Any] = {
            "episode_index": index,
            "tasks": [episode.text],
            "length": length,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + length,
        }
        with writing(self.root):
            self._write_rows(rows)
            row |= {f"data/{name}": value for name, value in self._data_files.place.items()}
            for key in self.video_keys:
                row |= {f"videos/{key}/{name}": value for name, value in self._write_video(key, episode).items()}
            stats = {name: column_stats(values) for name, values in rows.items()}
            # For LeRobot's features alone: its editing tools fail on the statistics of anything else.
            if self.size is not None:
                stats[VIDEO] = picture_stats(episode.histogram, length)
            row |= {f"stats/{name}/{kind}": value for name, each in stats.items() for kind, value in each.items()}
            row |= {f"egotwin/{name}": episode.notes[name] for name in self.notes}
            self._pending.append(row)
            if len(self._pending) == _EPISODES_PER_ROW_GROUP:
                self._write_episode_rows()
        for name, values in rows.items():
            self._stats[name].add(values)
        self._histogram += episode.histogram
        self.episodes += 1
        self.frames += length

    def close(self, splits: Mapping[str, range] | None = None, report: Mapping[str, Any] | None = None) -> None:
        """Write the tables of contents and move everything into place.

        Args:
            splits: episode ranges by name; all episodes are `train` when left out.
            report: the content of `REPORT_PATH`, which is not written without it.

        Raises:
            UserError: no episode was added, or the disk is full.
        """
        try:
            if not self.episodes:
                raise UserError(f"no episode was given for {self.root}: add at least one")
            with writing(self.root):
                self._close_files()
                if report is not None:
                    self._write_json(REPORT_PATH, report)
                self._write_tables_of_contents(splits or {"train": range(self.episodes)})
                for name in CONTENT:
                    if (self._stage / name).exists():
                        (self._stage / name).rename(self.root / name)
                self._stage.rmdir()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove all that was written."""
        for video in self._videos.values():
            video.abandon()
        self._videos, self._data, self._episode_writer, self._pending = {}, None, None, []
        shutil.rmtree(self._stage, ignore_errors=True)
        for name in ("data", "videos", "meta"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        (self.root / REPORT_PATH).unlink(missing_ok=True)
        if self._made_root and self.root.exists():
            self.root.rmdir()

    def _check(self, episode: Episode) -> None:
        wrong = set(episode.rows) ^ set(self.columns) | set(episode.videos) ^ set(self.video_keys)
        wrong |= set(episode.notes) ^ set(self.notes)
        if wrong:
            raise UserError(
                f"episode {self.episodes}: {sorted(wrong)[0]} is missing or was not announced to the writer"
            )
        for name, column in self.columns.items():
            shape, dtype = (len(episode), column.width), episode.rows[name].dtype
            if episode.rows[name].shape != shape or dtype != column.dtype:
                raise UserError(
                    f"episode {self.episodes}: {name} must be {column.dtype} {shape}, "
                    f"got {dtype} {episode.rows[name].shape}"
                )
            if not np.isfinite(episode.rows[name]).all():
                raise UserError(f"episode {self.episodes}: {name} is not finite: repair or drop the clip")

    def _write_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        table = pa.table({name: _column(rows[name], column) for name, column in self._all_columns().items()})
        if self._data_files.next_is_due(table.nbytes):
            if self._data is not None:
                self._data.close()
            path = self._path(DATA_PATH.format(**self._data_files.place))
            floats = [
                name if column.width == 1 else f"{name}.list.element"
                for name, column in self._all_columns().items()
                if column.dtype == "float32"
            ]
            # Split byte streams let zstd find what the exponents of neighbouring floats share.
            self._data = pq.ParquetWriter(
                path,
                table.schema,
                compression="zstd",
                use_dictionary=False,
                use_byte_stream_split=floats,
                write_page_checksum=True,
            )
        assert self._data is not None
        self._data.write_table(table, row_group_size=len(table))

    def _write_video(self, key: str, episode: Episode) -> dict[str, float]:
        files = self._video_files[key]
        if files.next_is_due(len(episode.videos[key])):
            if key in self._videos:
                self._videos.pop(key).close()
            path = VIDEO_PATH.format(video_key=key, **files.place)
            self._videos[key] = VideoJoiner(self._path(path), self.fps)
        video = self._videos[key]
        start = video.frames
        if video.add(episode.videos[key]) != len(episode):
            raise ValueError(f"episode {self.episodes}: {key} has not one picture per row")
        return {**files.place, "from_timestamp": start / self.fps, "to_timestamp": video.frames / self.fps}

    def _write_episode_rows(self) -> None:
        rows, self._pending = self._pending, []
        if not rows:
            return
        arrays = {name: _values([row[name] for row in rows]) for name in rows[0]}
        table = pa.table(arrays)
        if self._episode_files.next_is_due(table.nbytes) and self._episode_writer is not None:
            self._episode_writer.close()
            self._episode_writer = None
        place = self._episode_files.place
        for name, value in place.items():
            table = table.append_column(f"meta/episodes/{name}", pa.array([value] * len(rows), pa.int64()))
        if self._episode_writer is None:
            path = self._path(EPISODES_PATH.format(**place))
            self._episode_writer = pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False)
        self._episode_writer.write_table(table)

    def _close_files(self) -> None:
        self._write_episode_rows()
        for table in (self._data, self._episode_writer):
            assert table is not None
            table.close()
        while self._videos:
            self._videos.popitem()[1].close()

    def _write_tables_of_contents(self, splits: Mapping[str, range]) -> None:
        import pandas as pd

        tasks = pd.DataFrame({"task_index": range(len(self._tasks))}, index=pd.Index(list(self._tasks), name="task"))
        tasks.to_parquet(self._path(TASKS_PATH))
        stats = {name: running.result() for name, running in self._stats.items()}
        if self.size is not None:
            stats[VIDEO] = picture_stats(self._histogram, self.frames)
        self._write_json(STATS_PATH, {name: _plain(each) for name, each in stats.items()})
        self._write_json(INFO_PATH, self._info(splits))

    def _info(self, splits: Mapping[str, range]) -> dict[str, Any]:
        height, width = self.size or (0, 0)
        videos = {
            key: {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": "h264",
                    "video.pix_fmt": ENCODINGS[key].pix_fmt,
                    # Readers decode "depth maps" by their own scale; ours is a grey picture, described in `egotwin`.
                    "video.is_depth_map": False,
                    "video.fps": self.fps,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
            for key in self.video_keys
        }
        # LeRobot makes a policy input of every video among the features, whatever its name; depth is none.
        own = {key: videos.pop(key) | {"near_m": NEAR, "far_m": FAR, "scale": "log"} for key in {DEPTH} & set(videos)}
        return {
            "codebase_version": CODEBASE_VERSION,
            "robot_type": self.robot_type,
            "total_episodes": self.episodes,
            "total_frames": self.frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": self.file_mb["data"],
            "video_files_size_in_mb": self.file_mb["video"],
            "fps": self.fps,
            "splits": {name: f"{part.start}:{part.stop}" for name, part in splits.items()},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self.video_keys else None,
            "features": videos | {name: column.to_feature() for name, column in self._all_columns().items()},
            "egotwin": {
                "format_version": FORMAT_VERSION,
                "motion_fps": self.motion_fps,
                "camera": self.camera.to_json() if self.camera is not None else None,
                "skeleton": skeleton_to_json(self.skeleton),
                "features": own,
                **self.about,
                "files": self._checksums(),
            },
        }

    def _checksums(self) -> dict[str, dict[str, Any]]:
        files = sorted(path for path in self._stage.rglob("*") if path.is_file())
        return {
            path.relative_to(self._stage).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in files
        }

    def _all_columns(self) -> dict[str, Column]:
        return self.columns | INDEX_COLUMNS

    def _path(self, relative: str) -> Path:
        path = self._stage / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_json(self, relative: str, value: Mapping[str, Any]) -> None:
        self._path(relative).write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _column(rows: np.ndarray, column: Column) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return flat if column.width == 1 else pa.FixedSizeListArray.from_arrays(flat, column.width)


def _values(values: list[Any]) -> pa.Array:
    first = values[0]
    if not isinstance(first, np.ndarray):
        return pa.array(values)
    if first.ndim == 1:
        # Wide columns would make these lists larger than the data itself in float64.
        kind = pa.float32() if len(first) > 1 else pa.from_numpy_dtype(first.dtype)
        return pa.array([value.astype(kind.to_pandas_dtype()) for value in values], type=pa.list_(kind))
    return pa.array([value.tolist() for value in values])


def _plain(stats: Stats) -> dict[str, Any]:
    return {name: value.tolist() for name, value in stats.items()}
