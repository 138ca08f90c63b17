"""Reads the LeRobot v3.0 datasets of this project: clips, single columns and single frames."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.clip import Clip, motion_frames_per_video_frame
from egotwin_sim.data.columns import DEPTH, JOINT_QUAT, ROOT_POSITION, VIDEO, rows_to_motion, skeleton_from_json
from egotwin_sim.data.depth import grey_to_depth
from egotwin_sim.data.lerobot_writer import (
    CAMERA_NOTE,
    CODEBASE_VERSION,
    EPISODES_PATH,
    FORMAT_VERSION,
    INFO_PATH,
    STATS_PATH,
    TASKS_PATH,
)
from egotwin_sim.data.video_file import Kind, VideoFile
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion

UNFINISHED = ".generation"  # the generator's own folder, present until the dataset is whole


class LeRobotReader:
    """A dataset on disk, read lazily and at random.

    It may be pickled or forked into worker processes: each opens its own files.

    Attributes:
        root: the folder.
        info: the content of meta/info.json.
        fps: video frames per second.
        motion_fps: motion frames per second.
        skeleton: the body of every clip.
        splits: episode ranges by name.
        features: shapes and types by name: LeRobot's and, of our own, depth.
    """

    def __init__(self, root: Path | str, *, needs_video: bool = False) -> None:
        """Open a dataset and check that all its files are there, whole and of this version.

        Args:
            root: the folder.
            needs_video: refuse a dataset of motion alone.

        Raises:
            UserError: the folder is missing, unfinished, of another version, or a file is missing or truncated; or
                there is no video where it is needed.
        """
        self.root = Path(root)
        self.info = _read_info(self.root)
        own = self.info["egotwin"]
        try:
            self.fps = int(self.info["fps"])
            self.motion_fps = float(own["motion_fps"])
            self._camera = Camera.from_json(own["camera"]) if own["camera"] is not None else None
            self.skeleton = skeleton_from_json(own["skeleton"])
            self.splits = {name: _parse_range(text) for name, text in self.info["splits"].items()}
            self.features: dict[str, dict[str, Any]] = self.info["features"] | own["features"]
            self._data_path, self._video_path = str(self.info["data_path"]), str(self.info["video_path"])
            files: dict[str, dict[str, Any]] = own["files"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.root / INFO_PATH} is damaged ({error!r}): restore it, or make the data again"
            ) from error
        if needs_video and not self.has_video:
            raise self._without_video()
        self.motion_per_frame = motion_frames_per_video_frame(self.motion_fps, self.fps)
        _require_files(self.root, files)
        self._episodes = self._read_episodes()
        self._tasks = self._read_tasks()
        self._row_group = self._locate_row_groups()
        if len(self) != self.info["total_episodes"]:
            raise UserError(
                f"{self.root} lists {len(self)} episodes, its info.json {self.info['total_episodes']}: "
                "it is truncated; restore it, or make the data again"
            )
        self._open: dict[tuple[str, int, int], Any] = {}
        self._process = os.getpid()

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self._episodes["episode_index"])

    def __iter__(self) -> Iterator[Clip]:
        """All clips in order."""
        return (self.clip(i) for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the open files."""
        return self.__dict__ | {"_open": {}}

    @property
    def tasks(self) -> list[str]:
        """The distinct texts by task index."""
        return list(self._tasks)

    @property
    def has_video(self) -> bool:
        """Whether clips have video; without it there is motion and text alone."""
        return VIDEO in self.features

    @property
    def camera(self) -> Camera:
        """The head camera of every clip that has none of its own (`camera_of`).

        Raises:
            UserError: the dataset holds motion alone.
        """
        if self._camera is None:
            raise self._without_video()
        return self._camera

    def camera_of(self, episode: int) -> Camera:
        """The head camera of an episode.

        Raises:
            UserError: the dataset holds motion alone, or there is no such episode.
        """
        if not self.has_video or f"egotwin/{CAMERA_NOTE}" not in self._episodes:
            return self.camera
        return Camera.from_json(json.loads(self.note(CAMERA_NOTE, episode)))

    @property
    def has_depth(self) -> bool:
        """Whether clips have depth."""
        return DEPTH in self.features

    def split(self, name: str) -> range:
        """Episode indices of a split.

        Raises:
            UserError: there is no such split.
        """
        if name not in self.splits:
            raise UserError(f"{self.root} has no split {name!r}: it has {', '.join(self.splits)}")
        return self.splits[name]

    def length(self, episode: int) -> int:
        """Video frames of an episode."""
        return int(self._value("length", episode))

    def text(self, episode: int) -> str:
        """The text of an episode."""
        return str(self._value("tasks", episode)[0])

    def note(self, name: str, episode: int) -> str:
        """A text value of an episode's own row.

        Raises:
            UserError: the dataset has no such value.
        """
        return str(self._value(f"egotwin/{name}", episode))

    def columns(self, episode: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Rows of an episode by column name, (T, W); all columns when `names` is None.

        Raises:
            UserError: there is no such episode or column, or the file is damaged.
        """
        self._require_episode(episode)
        for name in names or ():
            if name not in self.features or self.features[name]["dtype"] == "video":
                raise UserError(f"{self.root} has no column {name!r}")
        try:
            file = self._file("data", episode)
            table = file.read_row_group(self._row_group[episode], columns=names)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"the table of episode {episode} in {self.root} is damaged ({error})") from error
        return {name: _rows(table.column(name)) for name in table.column_names}

    def frames(self, episode: int, start: int = 0, stop: int | None = None, key: str = VIDEO) -> np.ndarray:
        """Video frames start..stop-1 of an episode.

        Returns:
            uint8 (T, H, W, 3) RGB; (T, H, W) levels for `depth.ego`.

        Raises:
            UserError: there is no video, there are no such frames, or the file is damaged.
        """
        if not self.has_video:
            raise self._without_video()
        start, stop = self._window(episode, start, stop)
        first = self.first_frame_in_file(episode, key)
        try:
            return self._file(key, episode).read(first + start, first + stop)
        except (av.FFmpegError, ValueError, IndexError, OSError) as error:
            raise UserError(f"{key} of episode {episode} in {self.root} is damaged ({error})") from error

    def depth(self, episode: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Depth of frames start..stop-1, float32 (T, H, W) metres, to 8 bits on a log scale.

        Raises:
            UserError: the dataset has no depth, there are no such frames, or the file is damaged.
        """
        if not self.has_depth:
            raise UserError(f"{self.root} has no depth: make the data with depth")
        return grey_to_depth(self.frames(episode, start, stop, DEPTH))

    def motion(self, episode: int, start: int = 0, stop: int | None = None) -> Motion:
        """The motion between video frames start and stop-1, bit for bit as it was written."""
        start, stop = self._window(episode, start, stop)
        rows = self.columns(episode, (ROOT_POSITION, JOINT_QUAT))
        part = {name: values[start:stop] for name, values in rows.items()}
        return rows_to_motion(part, self.motion_per_frame, self.skeleton, self.motion_fps)

    def clip(self, episode: int, start: int = 0, stop: int | None = None, *, depth: bool = True) -> Clip:
        """An episode, or its video frames start..stop-1, as a clip.

        Args:
            episode: its index.
            start: the first video frame.
            stop: one past the last video frame; the end when None.
            depth: whether to decode depth, if the dataset has it.

        Raises:
            UserError: there is no video, there are no such frames, or a file is damaged.
        """
        return Clip(
            video=self.frames(episode, start, stop),
            motion=self.motion(episode, start, stop),
            text=self.text(episode),
            camera=self.camera_of(episode),
            depth=self.depth(episode, start, stop) if depth and self.has_depth else None,
            fps=float(self.fps),
        )

    def stats(self) -> dict[str, dict[str, np.ndarray]]:
        """Statistics by feature and kind, as in meta/stats.json.

        Raises:
            UserError: the file is damaged.
        """
        value = _read_json(self.root / STATS_PATH)
        return {name: {kind: np.array(numbers) for kind, numbers in each.items()} for name, each in value.items()}

    def first_frame_in_file(self, episode: int, key: str) -> int:
        """The number that an episode's first frame has in its video file.

        Raises:
            UserError: there is no such episode or video.
        """
        return round(float(self._value(f"videos/{key}/from_timestamp", episode)) * self.fps)

    def files(self, key: str) -> dict[tuple[int, int], list[int]]:
        """Episodes by (chunk, file) for "data" or a video key, in order.

        Raises:
            UserError: there is no such video.
        """
        prefix = "data" if key == "data" else f"videos/{key}"
        groups: dict[tuple[int, int], list[int]] = {}
        for episode in range(len(self)):
            groups.setdefault(self._place(prefix, episode), []).append(episode)
        return groups

    def path(self, key: str, place: tuple[int, int]) -> Path:
        """The file of "data" or a video key."""
        pattern = self._data_path if key == "data" else self._video_path
        return self.root / pattern.format(video_key=key, chunk_index=place[0], file_index=place[1])

    def episode_table(self) -> Mapping[str, list[Any]]:
        """The table of episodes by column name, without the statistics."""
        return self._episodes

    @property
    def video_keys(self) -> list[str]:
        """Names of the videos."""
        return [name for name, feature in self.features.items() if feature["dtype"] == "video"]

    def close(self) -> None:
        """Close all open files; they are opened again when needed."""
        for (key, _, _), file in self._open.items():
            if key != "data":
                file.close()
        self._open = {}

    def _without_video(self) -> UserError:
        return UserError(
            f"{self.root} holds motion without video: it can train the motion VAE and text to motion; "
            "for anything else, give a dataset with video"
        )

    def _value(self, column: str, episode: int) -> Any:
        self._require_episode(episode)
        if column not in self._episodes:
            raise UserError(f"{self.root} has no {column!r} in its table of episodes")
        return self._episodes[column][episode]

    def _require_episode(self, episode: int) -> None:
        if not 0 <= episode < len(self):
            raise UserError(f"{self.root} has no episode {episode}: it has 0 to {len(self) - 1}")

    def _window(self, episode: int, start: int, stop: int | None) -> tuple[int, int]:
        length = self.length(episode)
        stop = length if stop is None else stop
        if not 0 <= start < stop <= length:
            raise UserError(f"episode {episode} has no frames {start}..{stop - 1}: it has 0 to {length - 1}")
        return start, stop

    def _place(self, prefix: str, episode: int) -> tuple[int, int]:
        chunk, file = (self._value(f"{prefix}/{name}", episode) for name in ("chunk_index", "file_index"))
        return int(chunk), int(file)

    def _file(self, key: str, episode: int) -> Any:
        if os.getpid() != self._process:  # forked: a file position must not be shared with the parent
            self._open, self._process = {}, os.getpid()
        place = self._place("data" if key == "data" else f"videos/{key}", episode)
        name = (key, *place)
        if name not in self._open:
            path = self.path(key, place)
            kind: Kind = "grey" if key == DEPTH else "rgb"
            if key == "data":
                self._open[name] = pq.ParquetFile(path, page_checksum_verification=True)
            else:
                self._open[name] = VideoFile(path, self.fps, kind)
        return self._open[name]

    def _read_episodes(self) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {}
        for path in sorted((self.root / EPISODES_PATH.split("chunk")[0]).glob("chunk-*/file-*.parquet")):
            names = [name for name in _schema_names(path) if not name.startswith("stats/")]
            table = _read_table(path, names)
            for name in names:
                columns.setdefault(name, []).extend(table.column(name).to_pylist())
        if not columns:
            raise UserError(
                f"{self.root} has no table of episodes: it is truncated; restore it, or make the data again"
            )
        return columns

    def _read_tasks(self) -> dict[str, int]:
        table = _read_table(self.root / TASKS_PATH)
        text = next(name for name in table.column_names if name != "task_index")  # lerobot leaves it without a name
        return dict(zip(table.column(text).to_pylist(), table.column("task_index").to_pylist(), strict=True))

    def _locate_row_groups(self) -> list[int]:
        """Row group of each episode in its file.

        Raises:
            UserError: a table file has other row groups than one per episode.
        """
        groups = [0] * len(self)
        for place, episodes in self.files("data").items():
            path = self.path("data", place)
            try:
                metadata = pq.read_metadata(path)
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"{path} is damaged ({error}): restore it, or make the data again") from error
            lengths = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            if lengths != [self.length(episode) for episode in episodes]:
                raise UserError(f"{path} does not hold one row group per episode: make the data again")
            for group, episode in enumerate(episodes):
                groups[episode] = group
        return groups


def _read_info(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise UserError(f"{root} is no folder: give a dataset folder, made by `egotwin data`")
    if not (root / INFO_PATH).is_file():
        if (root / UNFINISHED).is_dir():
            raise UserError(f"{root} is an unfinished dataset: run the same `egotwin data` command again")
        raise UserError(f"{root} is no dataset: it has no {INFO_PATH}")
    info = _read_json(root / INFO_PATH)
    version = info.get("codebase_version")
    if version != CODEBASE_VERSION:
        raise UserError(
            f"{root} is a LeRobot dataset of version {version}: only {CODEBASE_VERSION} is read; convert it"
        )
    own = info.get("egotwin")
    if not isinstance(own, dict):
        raise UserError(f"{root} has no body motion (no `egotwin` in info.json): it was made by another program")
    if own.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{root} has egotwin format {own.get('format_version')}, this program reads {FORMAT_VERSION}: "
            "make the data again with this version"
        )
    return info


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or make the data again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (no object): restore it, or make the data again")
    return value


def _require_files(root: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name, expected in files.items():
        path = root / name
        if not path.is_file():
            raise UserError(f"{path} is missing: restore it, or make the data again")
        if path.stat().st_size != expected["bytes"]:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes instead of {expected['bytes']}: "
                "it is truncated or changed; restore it, or make the data again"
            )


def _parse_range(text: str) -> range:
    start, stop = text.split(":")
    return range(int(start), int(stop))


def _schema_names(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or make the data again") from error


def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or make the data again") from error


def _rows(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    width = array.type.list_size if pa.types.is_fixed_size_list(array.type) else 1
    flat = array.flatten() if width > 1 else array
    return flat.to_numpy(zero_copy_only=False).reshape(-1, width)
