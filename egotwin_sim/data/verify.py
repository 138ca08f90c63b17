"""Checks a dataset down to the last frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from egotwin_sim.data.columns import ACTION, DEPTH, STATE, motion_to_rows, rows_to_motion
from egotwin_sim.data.lerobot_reader import LeRobotReader
from egotwin_sim.data.lerobot_writer import SEQUENCE_NOTE, sha256
from egotwin_sim.data.video_file import VideoFile
from egotwin_sim.errors import UserError

ROOM_SEED = "room.seed"
_STATE_TOLERANCE = 1e-4  # metres, radians: what `encode` promises


@dataclass(frozen=True)
class Report:
    """What was checked and found.

    Attributes:
        episodes: episodes checked.
        frames: rows checked.
        decoded: pictures decoded in order, over all videos.
        sought: pictures decoded again after a seek and compared.
        problems: one line each; empty for a sound dataset.
    """

    episodes: int
    frames: int
    decoded: int
    sought: int
    problems: tuple[str, ...]


def verify(root: Path | str, progress: Callable[[int, int], None] | None = None) -> Report:
    """Check counts, tables, checksums, statistics and splits, and decode every frame of every video.

    A video is sound when its packets bear the timestamps of 0, 1, 2 ... frames exactly, when it decodes to as many
    pictures in that order, when each episode begins where the table of episodes says, and when the first, middle and
    last picture of each episode come out the same after a seek.

    Args:
        root: the dataset.
        progress: called with (videos' frames done, all).

    Raises:
        UserError: the folder is no dataset, or a file is missing or truncated.
    """
    reader = LeRobotReader(root)
    problems = [*_check_files(reader), *_check_contents(reader), *_check_splits(reader), *_check_stats(reader)]
    frames = 0
    for episode in range(len(reader)):
        problems += _check_rows(reader, episode, frames)
        frames += reader.length(episode)
    if frames != reader.info["total_frames"]:
        problems.append(f"info.json counts {reader.info['total_frames']} frames, the episodes {frames}")
    decoded = sought = 0
    total = frames * len(reader.video_keys)
    for key in reader.video_keys:
        for place, episodes in reader.files(key).items():
            found = _check_video(reader, key, place, episodes)
            decoded, sought = decoded + found.decoded, sought + found.sought
            problems += found.problems
            if progress:
                progress(decoded, total)
    reader.close()
    return Report(len(reader), frames, decoded, sought, tuple(problems))


def _check_files(reader: LeRobotReader) -> Iterator[str]:
    for name, expected in reader.info["egotwin"]["files"].items():
        if sha256(reader.root / name) != expected["sha256"]:
            yield f"{name} was changed after it was written (its checksum differs)"


def _check_contents(reader: LeRobotReader) -> Iterator[str]:
    table, expected = reader.episode_table(), 0
    if list(table["episode_index"]) != list(range(len(reader))):
        yield "the table of episodes does not number them 0, 1, 2 ..."
    for episode in range(len(reader)):
        bounds = table["dataset_from_index"][episode], table["dataset_to_index"][episode]
        if bounds != (expected, expected + reader.length(episode)):
            yield f"episode {episode} claims rows {bounds}, expected to begin at {expected}"
        expected += reader.length(episode)
    if reader.info["total_tasks"] != len(reader.tasks):
        yield f"info.json counts {reader.info['total_tasks']} tasks, tasks.parquet {len(reader.tasks)}"
    if any(not text.strip() for text in reader.tasks):
        yield "a task has no text"


def _check_rows(reader: LeRobotReader, episode: int, first_row: int) -> Iterator[str]:
    try:
        rows = reader.columns(episode)
    except UserError as error:
        yield str(error)
        return
    frame = np.arange(reader.length(episode))
    expected: dict[str, np.ndarray] = {
        "frame_index": frame,
        "episode_index": np.full_like(frame, episode),
        "index": first_row + frame,
        "timestamp": (frame / reader.fps).astype(np.float32),
    }
    for name, values in expected.items():
        if not np.array_equal(rows[name][:, 0], values):
            yield f"episode {episode}: {name} is wrong"
    tasks = set(rows["task_index"][:, 0].tolist())
    if len(tasks) != 1 or not 0 <= min(tasks) < len(reader.tasks) or reader.tasks[min(tasks)] != reader.text(episode):
        yield f"episode {episode}: task_index does not lead to its text"
    infinite = [name for name, values in rows.items() if not np.isfinite(values).all()]
    if infinite:
        yield f"episode {episode}: {infinite[0]} is not finite"
        return
    try:
        motion = rows_to_motion(rows, reader.motion_per_frame, reader.skeleton, reader.motion_fps)
    except UserError as error:
        yield f"episode {episode}: {error}"
        return
    again = motion_to_rows(motion, reader.motion_per_frame)
    for name in (STATE, ACTION):
        if not np.allclose(rows[name], again[name], atol=_STATE_TOLERANCE):
            yield f"episode {episode}: {name} does not follow from its motion"


def _check_splits(reader: LeRobotReader) -> Iterator[str]:
    covered = sorted(episode for part in reader.splits.values() for episode in part)
    if covered != list(range(len(reader))):
        yield "the splits do not hold each episode once"
        return
    owner: dict[str, str] = {}
    for name, part in reader.splits.items():
        for episode in part:
            place = _place(reader, episode)
            if place and owner.setdefault(place, name) != name:
                yield f"{place} of episode {episode} is in the splits {owner[place]} and {name}"


def _place(reader: LeRobotReader, episode: int) -> str | None:
    """What no two splits may share: the room or the recording that a clip is from."""
    if ROOM_SEED in reader.features:
        return f"room {int(reader.columns(episode, (ROOM_SEED,))[ROOM_SEED][0, 0])}"
    if f"egotwin/{SEQUENCE_NOTE}" in reader.episode_table():
        return f"sequence {reader.note(SEQUENCE_NOTE, episode)}"
    return None


def _check_stats(reader: LeRobotReader) -> Iterator[str]:
    try:
        stats = reader.stats()
    except UserError as error:
        yield str(error)
        return
    for name in reader.info["features"]:
        if name not in stats:
            yield f"stats.json has no {name}"
            continue
        each = stats[name]
        if not all(np.isfinite(value).all() for value in each.values()):
            yield f"stats.json: {name} is not finite"
        ordered = [each[kind] for kind in ("min", "q01", "q10", "q50", "q90", "q99", "max")]
        if any(
            (low - high > 1e-9 + 1e-6 * np.abs(high)).any() for low, high in zip(ordered, ordered[1:], strict=False)
        ):
            yield f"stats.json: the quantiles of {name} are not in order"
        if int(each["count"][0]) != reader.info["total_frames"]:
            yield f"stats.json: {name} counts {int(each['count'][0])} rows of {reader.info['total_frames']}"


def _check_video(reader: LeRobotReader, key: str, place: tuple[int, int], episodes: list[int]) -> Report:
    """Check one video file that holds `episodes` in order."""
    name = reader.path(key, place).relative_to(reader.root).as_posix()
    table, problems = reader.episode_table(), []
    probes: dict[int, bytes] = {}
    frames = 0
    for episode in episodes:
        length = reader.length(episode)
        bounds = table[f"videos/{key}/from_timestamp"][episode], table[f"videos/{key}/to_timestamp"][episode]
        if bounds != (frames / reader.fps, (frames + length) / reader.fps):
            problems.append(f"{name}: episode {episode} is said to lie at {bounds} s, not at frame {frames}")
        probes |= dict.fromkeys((frames, frames + length // 2, frames + length - 1), b"")
        frames += length
    decoded = sought = 0
    try:
        file = VideoFile(reader.path(key, place), reader.fps, "grey" if key == DEPTH else "rgb")
        shape = tuple(reader.features[key]["shape"][:2])
        if file.size != shape:
            problems.append(f"{name} has pictures of {file.size} pixels, info.json says {shape}")
        if list(file.packet_frames()) != list(range(frames)):
            problems.append(f"{name} does not have {frames} packets with the timestamps of frames 0, 1, 2 ...")
        for index, picture in file.decode(0, frames):
            if index != decoded:
                problems.append(f"{name}: frame {index} comes where frame {decoded} should")
                break
            if index in probes:
                probes[index] = picture.tobytes()
            decoded += 1
        if decoded != frames:
            problems.append(f"{name}: {decoded} of {frames} frames can be decoded")
        else:
            for index, expected in probes.items():
                if file.read(index, index + 1).tobytes() != expected:
                    problems.append(f"{name}: frame {index} differs when it is sought")
                sought += 1
        file.close()
    except (av.FFmpegError, ValueError, IndexError, OSError) as error:
        problems.append(f"{name} is damaged ({error})")
    return Report(len(episodes), frames, decoded, sought, tuple(problems))
