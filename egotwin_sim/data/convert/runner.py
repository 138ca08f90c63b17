"""Converts a data set with a pool of processes; it may be killed and started again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from egotwin_sim.data.camera import Camera
from egotwin_sim.data.convert.cut import CutConfig, cut, pieces
from egotwin_sim.data.convert.report import Report
from egotwin_sim.data.convert.source import ClipRef, ClipSource, SequenceNote, SkippedSequence, SourceIndex
from egotwin_sim.data.episode import Episode, encode_episode, encode_motion
from egotwin_sim.data.lerobot_reader import LeRobotReader
from egotwin_sim.data.lerobot_writer import CAMERA_NOTE, INFO_PATH, REPORT_PATH, SEQUENCE_NOTE, LeRobotWriter
from egotwin_sim.data.parts import Progress, make_parts, missing_parts, processes, put_aside, workshop
from egotwin_sim.data.plan import MOTION_FPS, VIDEO_FPS
from egotwin_sim.errors import UserError
from egotwin_sim.files import replacing
from egotwin_sim.motion.motion import default_skeleton

# Clips of one sequence that a process makes at a time: enough to read the sequence's files seldom, few enough that
# little is lost when it is killed.
CLIPS_PER_PART = 16
VAL_SHARE = 0.1  # of the sequences, where the source does not divide them
START_NOTE = "start_s"
_SPLITS = ("train", "val", "test")


def convert(
    source: ClipSource,
    out: Path | str,
    config: CutConfig | None = None,
    *,
    limit: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write a LeRobot v3.0 data set of a source's clips, and the report of it in `out/report.json`.

    Clips are made by many processes and put aside in `out/.generation`; when all are there, they are joined without
    being encoded again. Killed at any time and called again with the same settings, it goes on, and the result has the
    same bytes; they do not depend on `workers` either. What was looked at before is not looked at again: to have a
    mended recording reconsidered, begin with a new folder.

    Args:
        source: the data set.
        out: a folder that does not exist, is empty, or holds an interrupted conversion with the same settings.
        config: the clips that are wanted.
        limit: clips to try at most, the first ones; all when None.
        workers: processes; the number of usable cores when None.
        progress: called with ("converting" or "joining", clips done, all clips).

    Returns:
        What was made of the data set.

    Raises:
        UserError: a setting is out of range, the source is not of its layout, no clip can be used, `out` holds
            something else, or the disk is full.
    """
    config, out, workers = config or CutConfig(), Path(out), processes(workers)
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: give the number of clips to try, 1 or more")
    settings = {"source": describe(source), "cut": asdict(config), "limit": limit}
    tell = progress or (lambda stage, done, total: None)
    with workshop(out, json.dumps(settings, sort_keys=True) + "\n") as work:
        if not (out / INFO_PATH).is_file():
            plan = _plan(source, work, config, limit)
            _make(source, config, work, plan, workers, tell)
            report = _join(source, config, work, plan, out, tell)
            if report.clips:
                LeRobotReader(out)  # checks that what was written can be opened and that its counts agree
        else:
            report = Report.from_json(json.loads((out / REPORT_PATH).read_text()))
    if not report.clips:  # said when the parts are gone: the next run is to look at the source again
        raise UserError(
            f"no clip of {report.source['kind']} can be used: {'; '.join([*report.reasons(), *report.unused()][:3])}"
        )
    return report


def describe(source: ClipSource) -> dict[str, str]:
    """Kind, path and options of a source: what tells its clips from another's."""
    about = ("name", "has_video", "licence")
    options = {name: str(value) for name, value in vars(source).items() if name not in about and name[0] != "_"}
    return {"kind": source.name} | dict(sorted(options.items()))


@dataclass(frozen=True)
class _Part:
    """Clips of one sequence; `first` is the number of the first of them in the whole data set."""

    first: int
    clips: tuple[ClipRef, ...]


@dataclass(frozen=True)
class _Plan:
    """What there is to do, the same in every run."""

    index: SourceIndex
    parts: list[_Part]
    left_out: list[tuple[ClipRef, str]]

    @property
    def clips(self) -> int:
        return sum(len(part.clips) for part in self.parts)


def _plan(source: ClipSource, work: Path, config: CutConfig, limit: int | None) -> _Plan:
    """Read the index, once: another run with other files in the source must not join its clips with this one's."""
    path = work / "index.json"
    if not path.exists():
        index = source.index()
        with replacing(path) as partial_path:
            partial_path.write_text(json.dumps(asdict(index)))
    value = json.loads(path.read_text())
    index = SourceIndex(
        [ClipRef(**each) for each in value["clips"]],
        [SkippedSequence(**each) for each in value["skipped"]],
        [SequenceNote(**each) for each in value["notes"]],
    )
    chosen: list[ClipRef] = []
    left_out: list[tuple[ClipRef, str]] = []
    for ref in index.clips:
        found = pieces(ref, config.seconds)
        chosen += found
        if not found:
            reason = f"its text covers {ref.seconds:.1f} s; a clip needs {config.seconds:g} s: give a smaller --seconds"
            left_out.append((ref, reason))
    chosen = chosen[:limit]
    parts: list[_Part] = []
    first = 0
    while first < len(chosen):
        last = first + 1
        while last < min(len(chosen), first + CLIPS_PER_PART) and chosen[last].sequence == chosen[first].sequence:
            last += 1
        parts.append(_Part(first, tuple(chosen[first:last])))
        first = last
    return _Plan(index, parts, left_out)


def _folder(work: Path, part: _Part) -> Path:
    return work / f"part-{part.first:08d}"


def _make(source: ClipSource, config: CutConfig, work: Path, plan: _Plan, workers: int, tell: Progress) -> None:
    missing = missing_parts(work, plan.parts, partial(_folder, work))
    made = plan.clips - sum(len(part.clips) for part in missing)
    tell("converting", made, plan.clips)

    def count(part: _Part) -> None:
        nonlocal made
        made += len(part.clips)
        tell("converting", made, plan.clips)

    make_parts(partial(_make_part, source, config, work), missing, workers, count)


def _make_part(source: ClipSource, config: CutConfig, work: Path, part: _Part) -> None:
    """Make the clips of a part and put them aside as a whole, with what became of each."""
    with put_aside(_folder(work, part)) as folder:
        outcomes: list[dict[str, Any]] = []
        for number, ref in enumerate(part.clips, part.first):
            episode, words = _make_clip(source, config, ref)
            if episode is None:
                outcomes.append({"reason": words[0]})
                continue
            episode.save(folder / f"clip-{number:08d}.npz")
            outcomes.append({"notes": words})
        (folder / "outcomes.json").write_text(json.dumps(outcomes))


def _make_clip(source: ClipSource, config: CutConfig, ref: ClipRef) -> tuple[Episode | None, list[str]]:
    """A clip with its notes, or nothing with the one reason.

    One damaged file among thousands must not end a conversion of days: whatever a reader stumbles over is a reason.
    """
    try:
        made = cut(source.load(ref), ref, config)
        if (made.clip is not None) != source.has_video:
            raise UserError("there is no video" if source.has_video else "there is video where none was announced")
        notes = {SEQUENCE_NOTE: ref.sequence, START_NOTE: f"{ref.start_s:.6f}"}
        if made.clip is None:
            return encode_motion(made.motion, made.text, VIDEO_FPS, notes), made.notes
        notes[CAMERA_NOTE] = json.dumps(made.clip.camera.to_json())
        return encode_episode(made.clip, notes=notes), made.notes
    except UserError as error:
        return None, [str(error)]
    except MemoryError:
        raise
    except Exception as error:
        return None, [f"unexpected {type(error).__name__}: {error}"]


def _join(source: ClipSource, config: CutConfig, work: Path, plan: _Plan, out: Path, tell: Progress) -> Report:
    """Write the data set, in the order of its splits; nothing if there is no clip."""
    outcomes = {part.first: json.loads((_folder(work, part) / "outcomes.json").read_text()) for part in plan.parts}
    report = _report(source, config, plan, outcomes)
    made = [
        (number, ref.sequence, _folder(work, part) / f"clip-{number:08d}.npz")
        for part in plan.parts
        for number, ref in enumerate(part.clips, part.first)
        if "notes" in outcomes[part.first][number - part.first]
    ]
    if not made:
        return report
    order = {name: number for number, name in enumerate(_splits(report))}
    made.sort(key=lambda each: (order[report.of(each[1]).split], each[0]))
    first = Episode.load(made[0][2])
    writer = LeRobotWriter(
        out,
        size=config.size if source.has_video else None,
        camera=Camera.from_json(json.loads(first.notes[CAMERA_NOTE])) if source.has_video else None,
        skeleton=default_skeleton(),
        fps=VIDEO_FPS,
        motion_fps=MOTION_FPS,
        notes=(SEQUENCE_NOTE, START_NOTE, *((CAMERA_NOTE,) if source.has_video else ())),
        about={"conversion": {"source": report.source, "licence": report.licence, "seconds": config.seconds}},
        ignore=(work.name,),
    )
    try:
        for done, (_, _, path) in enumerate(made, 1):
            writer.add(Episode.load(path))
            tell("joining", done, len(made))
    except BaseException:
        writer.abort()
        raise
    writer.close(_ranges(report, [sequence for _, sequence, _ in made]), report.to_json())
    return report


def _report(source: ClipSource, config: CutConfig, plan: _Plan, outcomes: dict[int, list[dict[str, Any]]]) -> Report:
    report = Report(describe(source), config.seconds, source.licence)
    for skipped in plan.index.skipped:
        report.of(skipped.sequence).reason = skipped.reason
    for note in plan.index.notes:
        report.of(note.sequence).note(note.note, 0)
    for ref, reason in plan.left_out:
        report.of(ref.sequence).skipped.append({"start_s": ref.start_s, "reason": reason})
    for part in plan.parts:
        for ref, outcome in zip(part.clips, outcomes[part.first], strict=True):
            each = report.of(ref.sequence)
            if "reason" in outcome:
                each.skipped.append({"start_s": ref.start_s, "reason": outcome["reason"]})
                continue
            each.clips += 1
            for words in outcome["notes"]:
                each.note(words, 1)
    _divide(report, {ref.sequence: ref.split for ref in plan.index.clips})
    return report


def _divide(report: Report, given: dict[str, str]) -> None:
    """Say of each sequence with clips which split it is in: the source's, or one drawn from its name.

    Drawn by the name's hash, a sequence stays in its split, but for the border, when others are added.
    """
    free = []
    for name, each in report.sequences.items():
        if each.clips:
            each.split = given[name] or "train"
            if not given[name]:
                free.append(name)
    if len(free) > 1 and not any(each.split == "val" for each in report.sequences.values()):
        free.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        for name in free[: max(1, round(VAL_SHARE * len(free)))]:
            report.of(name).split = "val"


def _splits(report: Report) -> list[str]:
    """Names of the splits in the order of their episodes."""
    found = {each.split for each in report.sequences.values() if each.clips}
    return [*(name for name in _SPLITS if name in found), *sorted(found - set(_SPLITS))]


def _ranges(report: Report, sequences: Sequence[str]) -> dict[str, range]:
    """Episode ranges by split, of episodes that are ordered by split."""
    names = [report.of(sequence).split for sequence in sequences]
    return {name: range(names.index(name), names.index(name) + names.count(name)) for name in _splits(report)}
