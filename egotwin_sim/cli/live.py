"""`egotwin live`: a goal text moves a humanoid in real time, and the dream follows what its head camera sees."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from egotwin_sim.errors import UserError

if TYPE_CHECKING:
    from egotwin_sim.envs.start import Start
    from egotwin_sim.live.loop import LiveConfig, LiveLoop
    from egotwin_sim.live.recording import Recording
    from egotwin_sim.room.layout import RoomLayout

MAX_SECONDS = 120.0  # the pictures of a run are kept in memory
DREAMT, SCRIPTED = "dream", "scripted"
OUTSIDE = 320  # pixels, of the view from outside
ASIDE = 35.0  # degrees by which it looks past the door


def live(
    goal: Annotated[
        str | None, typer.Option(help='Such as "walk to the red box"; one of the room\'s own without it.')
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long, on the clock on the wall; Ctrl-C ends it before.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the room, the body and the dream.")] = 0,
    body: Annotated[str, typer.Option(help='"ours", "g1", "cmu", or the path of an MJCF file.')] = "ours",
    table: Annotated[Path | None, typer.Option(help="Retarget table of an MJCF.", show_default="beside it")] = None,
    mode: Annotated[str, typer.Option(help="How the body follows: assisted, kinematic, pd or policy.")] = "assisted",
    assist: Annotated[float, typer.Option(help="Strength of the assist, 0 to 1, in the mode assisted.")] = 1.0,
    tracker: Annotated[
        Path | None, typer.Option(help="For the mode policy: a folder of its weights.", show_default="untrained")
    ] = None,
    anchor_every: Annotated[
        float, typer.Option(help="Seconds after which the dream is tied to the head camera again; 0: never.")
    ] = 1.0,
    size: Annotated[int, typer.Option(help="Of the head camera's pictures, pixels.")] = 256,
    policy: Annotated[
        str,
        typer.Option(help='What moves the body: "dream", dreamt from the goal, or "scripted", planned in the room.'),
    ] = DREAMT,
    viewer: Annotated[bool, typer.Option("--viewer", help="Show the simulation in a window.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for live.mp4, motion.npz, trajectory.npz and report.json.")] = Path(
        "outputs/live"
    ),
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a folder.")] = "nano",
) -> None:
    """Run the live loop: prompt, dream, body, head camera, and the dream tied to what the camera saw."""
    _check(goal, seconds, seed, policy, viewer, out)
    from egotwin_sim.live.loop import LiveConfig

    if tracker is not None and mode != "policy":
        raise UserError(f"--tracker was given with --mode {mode}; give --mode policy, or leave it out")
    config = LiveConfig(mode=mode, assist=assist, size=size, anchor_every=anchor_every, seed=seed)
    start = _start(goal, seed, policy)
    typer.echo(f'goal: "{start.text}" (room: {", ".join(start.layout.names)})')
    loop = make_loop(start, config, body=body, table=table, tracker=tracker, policy=policy, weights=weights)
    interrupted = False
    try:
        loop.start()
        watch = _Watch(loop)
        if viewer:
            with_viewer(loop, seconds, watch)
        else:
            loop.wait(seconds, watch)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        loop.stop()
    report = {"body": body, "policy": policy, "seed": seed, "interrupted": interrupted, **loop.report()}
    for path in write(out, loop, start.layout, report):
        typer.echo(f"wrote {path}")
    if report["simulation"]["state"] == "broken":
        typer.echo(f"the simulation failed: {report['simulation']['reason']}", err=True)


def _check(goal: str | None, seconds: float, seed: int, policy: str, viewer: bool, out: Path) -> None:
    """Refuse at once what needs no model to be refused."""
    if not 0 < seconds <= MAX_SECONDS:
        raise UserError(f"--seconds {seconds:g}: expected more than 0 and at most {MAX_SECONDS:g}")
    if seed < 0:
        raise UserError(f"--seed {seed} is negative; expected 0 or more")
    if goal is not None and not goal.strip():
        raise UserError('--goal is empty; give a text such as "walk to the red box"')
    if policy not in (DREAMT, SCRIPTED):
        raise UserError(f"--policy {policy!r}: expected {DREAMT} or {SCRIPTED}")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    if viewer and sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        raise UserError(
            "--viewer needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set; run it on a desktop, or leave "
            "--viewer out: live.mp4 shows the run"
        )


def _start(goal: str | None, seed: int, policy: str) -> Start:
    """A room that has what the goal names, and a body in it; a dreamt body takes any text."""
    from egotwin_sim.envs.start import sample_start

    return sample_start(np.random.default_rng(seed), goal, free_text=policy == DREAMT)


def make_loop(
    start: Start, config: LiveConfig, *, body: str, table: Path | None, tracker: Path | None, policy: str, weights: str
) -> LiveLoop:
    """The live loop of a room and a body."""
    from egotwin_sim.body.robots import find_robot
    from egotwin_sim.cli.track import tracking_policy
    from egotwin_sim.live.loop import LiveLoop
    from egotwin_sim.motion import Skeleton
    from egotwin_sim.pipelines.stream import StreamPipeline
    from egotwin_sim.pipelines.weights import find_weights, read_config
    from egotwin_sim.policies.live import named_policy
    from egotwin_sim.room.physics import room_scene

    robot = find_robot(body, Skeleton.default(read_config(find_weights(weights)).stature), table)
    corrects = None
    if config.mode == "policy":
        corrects = tracking_policy(tracker, robot.make_spec().compile().njnt - 1)
    pipeline = StreamPipeline.from_pretrained(weights)
    asked = None if policy == DREAMT else named_policy(policy, start.layout, pipeline, config.seed)
    scene = room_scene(start.layout, config.size)
    return LiveLoop(pipeline, robot, scene, start.frame, start.text, config, policy=asked, tracking_policy=corrects)


class _Watch:
    """Says when the body begins to move; called again and again while the loop runs."""

    def __init__(self, loop: LiveLoop) -> None:
        self._loop, self._said = loop, False

    def __call__(self) -> bool:
        if not self._said and self._loop.first_movement_s is not None:
            self._said = True
            typer.echo(f"the body moves, {self._loop.first_movement_s:.2f} s after the prompt")
        return True


def with_viewer(loop: LiveLoop, seconds: float, watch: Callable[[], bool]) -> None:
    """Shows the simulation in a window until its time is over or the window is closed."""
    import mujoco.viewer

    model = loop.robot_model.model
    data = mujoco.MjData(model)
    with mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False) as window:

        def show() -> bool:
            if loop.newest is not None and loop.newest.view is not None:
                data.qpos[:] = loop.newest.view.qpos
                mujoco.mj_forward(model, data)
                window.sync()
            return watch() and bool(window.is_running())

        loop.wait(seconds, show, period=1 / 60)


class _Outside(Sequence[np.ndarray]):
    """The body from outside at the moments of a recording, drawn when they are asked for."""

    def __init__(self, loop: LiveLoop, layout: RoomLayout) -> None:
        from egotwin_sim.live.camera import HeadView

        self._frames = loop.recording.frames
        # Towards the door, whose vestibule would otherwise stand in the way.
        self._azimuth = float(np.rad2deg(np.arctan2(layout.door.outward[1], layout.door.outward[0]))) + ASIDE
        self._camera = HeadView(loop.robot_model, OUTSIDE)
        self.close: Callable[[], None] = self._camera.close

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        return self._camera.third_person(self._frames[index].view, azimuth=self._azimuth)


def write(out: Path, loop: LiveLoop, layout: RoomLayout, report: dict[str, Any]) -> list[Path]:
    """All files of a run, each written beside and then renamed.

    Raises:
        UserError: nothing happened yet.
    """
    from egotwin_sim.cli.panels import mp4, panel_frames
    from egotwin_sim.data.disk import writing
    from egotwin_sim.files import replacing
    from egotwin_sim.live.recording import KEPT_HZ

    recording = loop.recording
    if not recording.frames:
        raise UserError("it ended before the head camera saw anything, so there is nothing to write; let it run longer")
    outside = _Outside(loop, layout)
    try:
        panels: dict[str, Sequence[np.ndarray] | np.ndarray] = {
            "simulation: the head camera": [frame.rgb for frame in recording.frames],
            "dream": dreamt_frames(recording),
            "simulation: from outside": outside,
        }
        title = f'goal: "{report["goal"]}", {report["simulation"]["mode"]}'
        video = mp4(panel_frames(panels, title, columns=3), round(KEPT_HZ))
    finally:
        outside.close()
    trajectory, motion = loop.trajectory(), loop.motion()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        motion.save(out / "motion.npz")
        trajectory.save(out / "trajectory.npz")
        for name, content in (("live.mp4", video), ("report.json", json.dumps(report, indent=2).encode())):
            with replacing(out / name) as partial:
                partial.write_bytes(content)
    return [out / name for name in ("live.mp4", "motion.npz", "trajectory.npz", "report.json")]


def dreamt_frames(recording: Recording) -> list[np.ndarray]:
    """For every picture that was kept, the dreamt frame of its time; the picture itself before the first."""
    if not recording.chunks:
        return recording.seen
    times = np.concatenate([chunk.frame_times for chunk in recording.chunks])
    frames = np.concatenate([chunk.frames for chunk in recording.chunks])
    shown = []
    for frame, seen in zip(recording.frames, recording.seen, strict=True):
        nearest = int(np.abs(times - frame.time_s).argmin())
        shown.append(seen if frame.time_s < times[0] - 1 / 16 else frames[nearest])
    return shown
