"""`egotwin demo`: from a goal text to first-person frames and a moving humanoid."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from egotwin_sim.errors import UserError

if TYPE_CHECKING:
    from egotwin_sim.motion import Motion
    from egotwin_sim.pipelines.stream import StreamPipeline
    from egotwin_sim.room.layout import RoomLayout
    from egotwin_sim.room.world import RoomWorld

CHUNK_SECONDS = 0.5
MAX_SECONDS = 60.0
ROOMS_TRIED = 100  # rooms looked through for one that has what the goal names


@dataclass(frozen=True)
class Truth:
    """What the room made of the motion: `motion` (world), `frames` of the head camera, and the door's angle."""

    motion: Motion
    frames: np.ndarray
    door_angle: np.ndarray
    reached: bool


def demo(
    goal: Annotated[
        str | None, typer.Option(help='Such as "walk to the red box"; one of the room\'s own without it.')
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the room, the motion and the dream.")] = 0,
    seconds: Annotated[float, typer.Option(help="Length, a multiple of 0.5.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder for demo.mp4, motion.npz and report.json.")] = Path("outputs/demo"),
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a folder.")] = "nano",
) -> None:
    """Dream a goal: a room and a motion for it, the dream beside the true frames, and a dream of body and view."""
    began = time.perf_counter()
    chunks = _chunks(seconds)
    if seed < 0:
        raise UserError(f"--seed {seed} is negative; expected 0 or more")
    if goal is not None and not goal.strip():
        raise UserError('--goal is empty; give a text such as "walk to the red box"')
    _check_folder(out)

    from egotwin_sim.pipelines.stream import StreamPipeline
    from egotwin_sim.room.world import RoomWorld

    layout, text, room_seed = room_for(goal, seed)
    typer.echo(f'goal: "{text}" (room {room_seed}: {", ".join(layout.names)})')
    pipeline = StreamPipeline.from_pretrained(weights)
    world = RoomWorld(layout, size=pipeline.config.image_size)
    truth = play(world, layout, text, seed, chunks * CHUNK_SECONDS)
    with_motion = dream(pipeline, truth, text, seed, given=True)
    from_text = dream(pipeline, truth, text, seed, given=False)

    panels = {
        "room: the true view": truth.frames,
        "dream: view from the same motion": with_motion.frames,
        "room: the body (third person)": _third_person(world, truth.motion, truth.door_angle),
        "dream: view and body from the text": _with_inset(
            from_text.frames, _third_person(world, from_text.motion, np.zeros(len(from_text.motion)))
        ),
    }
    world.close()
    report = {
        "goal": text,
        "seed": seed,
        "room_seed": room_seed,
        "seconds": chunks * CHUNK_SECONDS,
        "goal_reached_in_room": truth.reached,
        **_figures(truth, with_motion, from_text),
        "seconds_in_all": round(time.perf_counter() - began, 1),
    }
    _write(out, panels, truth.motion, from_text.motion, report, f'goal: "{text}"', round(pipeline.config.video_fps))
    for name in ("demo.mp4", "motion.npz", "dreamt_motion.npz", "report.json"):
        typer.echo(f"wrote {out / name}")


@dataclass(frozen=True)
class Dream:
    """A roll-out: `frames` beginning with the given one, `motion` in the room's world, and seconds per step."""

    frames: np.ndarray
    motion: Motion
    step_seconds: list[float]


def play(world: RoomWorld, layout: RoomLayout, text: str, seed: int, seconds: float) -> Truth:
    """A motion for the goal, as the room lets it happen, with the head camera's frames."""
    from egotwin_sim.motion import Motion
    from egotwin_sim.room.goals import parse_goal, success
    from egotwin_sim.room.synthesis import synthesise

    planned = synthesise(layout, seed, seconds, goal=text).motion
    world.reset(planned[0])
    played = world.step(planned[1:])
    motion = Motion.concatenate([planned[0], played.motion])
    door = np.concatenate([[0.0], played.door_angle])
    reached = bool(success(parse_goal(text, layout), layout, motion[-1], float(door[-1])))
    return Truth(motion, world.record(motion, door)[0], door, reached)


def dream(pipeline: StreamPipeline, truth: Truth, text: str, seed: int, given: bool) -> Dream:
    """Roll the dream out from the first frame, under the true motion's tokens or with a dreamt body."""
    from egotwin_sim.motion import Motion, encode
    from egotwin_sim.motion.head_centric import set_down
    from egotwin_sim.pipelines.tokens import motion_tokens

    tokens = motion_tokens(truth.motion, pipeline.motion_vae)[1:].reshape(-1, 2, pipeline.token_dim)
    stream = pipeline.start(truth.frames[0], encode(truth.motion[:1])[0], text, seed=seed)
    frames, motions, times = [truth.frames[:1]], [stream.body.motion], []
    for pair in tokens:
        began = time.perf_counter()
        out = stream.step(pair if given else None)
        times.append(time.perf_counter() - began)
        frames.append(out.frames)
        motions.append(out.world_motion)
    motion = set_down(Motion.concatenate(motions), motions[0], truth.motion[:1])
    return Dream(np.concatenate(frames), motion, times)


def _chunks(seconds: float) -> int:
    chunks = seconds / CHUNK_SECONDS
    if not 0 < seconds <= MAX_SECONDS or chunks != int(chunks):
        raise UserError(f"--seconds {seconds:g}: expected a multiple of {CHUNK_SECONDS} from 0.5 to {MAX_SECONDS:g}")
    return int(chunks)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")


def room_for(goal: str | None, seed: int) -> tuple[RoomLayout, str, int]:
    """The first room from the seed on that has what the goal names."""
    from egotwin_sim.room.goals import goals_of, parse_goal
    from egotwin_sim.room.layout import sample_layout

    first = sample_layout(seed)
    if goal is None:
        goals = goals_of(first)
        return first, goals[int(np.random.default_rng(seed).integers(len(goals)))].text, seed
    mistake: UserError | None = None
    for room_seed in range(seed, seed + ROOMS_TRIED):
        layout = sample_layout(room_seed)
        try:
            parse_goal(goal, layout)
        except UserError as error:
            mistake = mistake or error
        else:
            return layout, goal, room_seed
    assert mistake is not None
    raise mistake


def _third_person(world: RoomWorld, motion: Motion, door_angle: np.ndarray) -> np.ndarray:
    pictures = []
    for t in range(0, len(motion), 2):
        world.reset(motion[t], float(door_angle[t]))
        pictures.append(world.third_person(size=320))
    return np.stack(pictures)


def _with_inset(frames: np.ndarray, inset: np.ndarray) -> np.ndarray:
    """The frames enlarged, with the body small in the lower right corner."""
    from PIL import Image

    out = []
    for frame, body in zip(frames, inset, strict=True):
        picture = Image.fromarray(frame).resize((320, 320), Image.Resampling.BICUBIC)
        picture.paste(Image.fromarray(body).resize((112, 112), Image.Resampling.LANCZOS), (320 - 116, 320 - 116))
        out.append(np.asarray(picture))
    return np.stack(out)


def _figures(truth: Truth, with_motion: Dream, from_text: Dream) -> dict[str, Any]:
    from egotwin_sim.metrics.motion import mean_head_height, mean_joint_speed, motion_error
    from egotwin_sim.metrics.report import clip_report

    error = motion_error(truth.motion, with_motion.motion)
    steps = np.array(with_motion.step_seconds[1:] or with_motion.step_seconds)
    return {
        "view": clip_report(truth.frames, with_motion.frames),
        "motion_through_tokens": {key: float(value) for key, value in vars(error).items()},
        "dreamt_body": {
            "mean_joint_speed_m_s": mean_joint_speed(from_text.motion),
            "mean_head_height_m": mean_head_height(from_text.motion),
        },
        "step_ms_median": float(1000 * np.median(steps)),
        "frames_per_second": float(4 / np.median(steps)),
    }


def _write(
    out: Path,
    panels: dict[str, np.ndarray],
    motion: Motion,
    dreamt: Motion,
    report: dict[str, Any],
    title: str,
    fps: int,
) -> None:
    """All files, each written beside and then renamed, after everything has been computed."""
    from egotwin_sim.cli.panels import panel_video
    from egotwin_sim.data.disk import writing
    from egotwin_sim.files import replacing

    video, _ = panel_video(panels, fps, title)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        motion.save(out / "motion.npz")
        dreamt.save(out / "dreamt_motion.npz")
        for name, content in (("demo.mp4", video), ("report.json", json.dumps(report, indent=2).encode())):
            with replacing(out / name) as partial:
                partial.write_bytes(content)
