"""The clips that `egotwin generate` shall make, and their inputs from files."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egotwin_sim.cli.motion_file import read_motion
from egotwin_sim.errors import UserError

if TYPE_CHECKING:
    from egotwin_sim.motion import Motion
    from egotwin_sim.pipelines.clip_inputs import ClipShape

_PATHS = ("video", "motion", "first_frame", "initial_pose")


@dataclass(frozen=True)
class Job:
    """One clip to make.

    Attributes:
        name: of its files.
        text: the prompt; None is the null text.
        mode: "t2vm", "tm2v" or "tv2m".
        seed: of the noise, and of the room where the first frame comes from one.
        video, motion, first_frame, initial_pose: files.
    """

    name: str
    text: str | None
    mode: str = "t2vm"
    seed: int = 0
    video: Path | None = None
    motion: Path | None = None
    first_frame: Path | None = None
    initial_pose: Path | None = None

    def identity(self) -> dict[str, Any]:
        """What the job is, as JSON; kept beside its result."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Inputs:
    """A job's files, read and fitted to the model.

    Attributes:
        first_frame: uint8 (H, W, 3), or None.
        video: uint8 (1 + 4K, H, W, 3), or None.
        motion: 1 + 8K frames, or None.
        initial_pose: one frame, or None.
        notes: what was done to make them fit.
    """

    first_frame: np.ndarray | None
    video: np.ndarray | None
    motion: Motion | None
    initial_pose: Motion | None
    notes: tuple[str, ...]


def read_jobs(path: Path, template: Job) -> list[Job]:
    """Jobs of a file: a text a line, or with `.jsonl` an object a line with fields of ``Job``.

    Args:
        path: the file. Paths in it are relative to its folder.
        template: gives what a line does not say. Line i has its seed plus i.

    Raises:
        UserError: no such file, nothing in it, a line that is no job, or two of one name.
    """
    if not path.is_file():
        raise UserError(f"--prompts {path} is no file: give a text file with a prompt a line, or .jsonl")
    jobs: list[Job] = []
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        default = replace(template, name=f"{template.name}-{len(jobs):04d}", seed=template.seed + len(jobs))
        jobs.append(
            replace(default, text=line) if path.suffix != ".jsonl" else _job(line, default, path, f"line {number}")
        )
    if not jobs:
        raise UserError(f"--prompts {path} holds no prompts")
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: two prompts have the name {name}; give each its own")
    return jobs


def _job(line: str, default: Job, path: Path, where: str) -> Job:
    try:
        told = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, {where} is no JSON ({error})") from error
    known = {field.name for field in dataclasses.fields(Job)}
    if not isinstance(told, dict) or (unknown := sorted(set(told) - known)):
        found = ", ".join(unknown) if isinstance(told, dict) else line[:40]
        raise UserError(f"{path}, {where}: {found} is unknown; expected an object with {', '.join(sorted(known))}")
    for name in _PATHS:
        if told.get(name) is not None:
            told[name] = path.parent / str(told[name])
    job = replace(default, **told)
    if not isinstance(job.name, str) or not job.name or job.name != Path(job.name).name:
        raise UserError(f"{path}, {where}: name is {job.name!r}; expected a file name without folders")
    if not isinstance(job.seed, int) or job.seed < 0:
        raise UserError(f"{path}, {where}: seed is {job.seed!r}; expected a number that is not negative")
    return job


def read_inputs(job: Job, shape: ClipShape, frames: int | None) -> Inputs:
    """Read a job's files and fit them to the model, with a note on whatever had to be changed.

    A video is resampled to the nearest frames, cropped from its middle and resized; a motion is resampled and moved to
    the model's body; both are cut to whole chunks.

    Args:
        job: what is given.
        shape: what the model makes.
        frames: video frames of the clip at most; as many as there are when None.

    Raises:
        UserError: a file that is missing, damaged, too short or too slow, or a motion without a head.
    """
    notes: list[str] = []
    frame = None if job.first_frame is None else _picture(job.first_frame, shape, notes)
    video = None if job.video is None else _video(job.video, shape, frames, notes)
    motion = None if job.motion is None else _motion(job.motion, shape, frames, notes)
    pose = (
        None if job.initial_pose is None else read_motion(job.initial_pose, shape.skeleton, notes, shape.motion_fps)[:1]
    )
    return Inputs(frame, video, motion, pose, tuple(notes))


def _picture(path: Path, shape: ClipShape, notes: list[str]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise UserError(f"{path} is no file: expected a picture")
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error})") from error
    return _fitted(picture[None], shape, path, notes)[0]


def _fitted(pictures: np.ndarray, shape: ClipShape, path: Path, notes: list[str]) -> np.ndarray:
    from egotwin_sim.data.convert.pictures import Fit

    size = pictures.shape[1], pictures.shape[2]
    if size == (shape.height, shape.width):
        return pictures
    notes.append(f"{path.name}: {size[1]}x{size[0]} cropped and resized to {shape.width}x{shape.height}")
    return Fit(size, (shape.height, shape.width)).pictures(pictures)


def _chunks(seconds: float, shape: ClipShape, frames: int | None, path: Path, notes: list[str]) -> int:
    """Whole chunks in what a file holds, as many as are wanted."""
    from egotwin_sim.models.video_vae import FRAMES_PER_LATENT

    length = FRAMES_PER_LATENT / shape.video_fps
    there = int(seconds / length + 1e-6)
    if there < 1:
        raise UserError(f"{path} lasts {seconds:.2f} s; expected at least one chunk, {length:g} s and a frame")
    wanted = there if frames is None else min(there, (frames - 1) // FRAMES_PER_LATENT)
    if seconds - wanted * length > 0.5 / shape.video_fps:
        notes.append(f"{path.name}: the first {wanted * length:g} s of {seconds:.2f} s are used")
    return wanted


def _video(path: Path, shape: ClipShape, frames: int | None, notes: list[str]) -> np.ndarray:
    from egotwin_sim.data.convert.cut import nearest_frames, rate_note
    from egotwin_sim.data.convert.recording import Recording
    from egotwin_sim.models.video_vae import FRAMES_PER_LATENT

    film = Recording(path)
    chunks = _chunks(film.duration, shape, frames, path, notes)
    if abs(film.fps - shape.video_fps) > 1e-3 * shape.video_fps:
        told = rate_note(film.times_s) or f"video at {film.fps:.4g} frames/s: every nth frame is used"
        notes.append(f"{path.name}: {told}")
    due = np.arange(FRAMES_PER_LATENT * chunks + 1) / shape.video_fps
    return _fitted(film.frames(nearest_frames(film.times_s, due)), shape, path, notes)


def _motion(path: Path, shape: ClipShape, frames: int | None, notes: list[str]) -> Motion:
    motion = read_motion(path, shape.skeleton, notes, shape.motion_fps)
    chunks = _chunks((len(motion) - 1) / shape.motion_fps, shape, frames, path, notes)
    return motion[: shape.motion_frames * chunks + 1]
