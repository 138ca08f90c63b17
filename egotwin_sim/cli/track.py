"""`egotwin track`: a simulated humanoid follows a motion in a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from egotwin_sim.errors import UserError

if TYPE_CHECKING:
    from egotwin_sim.body.observation import Policy
    from egotwin_sim.body.record import TrackingRecord
    from egotwin_sim.body.robot import RobotModel
    from egotwin_sim.metrics.tracking import TrackingMetrics

MAX_SECONDS = 600.0
PANEL = 320  # pixels
DISTANCE = 3.2  # metres from the body to the camera outside


def track(
    clip: Annotated[Path, typer.Argument(help="A motion: .npz (as `egotwin generate` writes it) or .bvh.")],
    body: Annotated[str, typer.Option(help="ours, g1, cmu, or the path of an MJCF.")] = "ours",
    mode: Annotated[
        str, typer.Option(help="kinematic: no physics; assisted: the root is led; pd: servos alone; policy.")
    ] = "assisted",
    assist: Annotated[float, typer.Option(help="For assisted: 0 (none) to 1 (the root is led).")] = 1.0,
    policy: Annotated[
        Path | None, typer.Option(help="For policy: a folder of its weights.", show_default="untrained")
    ] = None,
    start: Annotated[
        str, typer.Option(help="reference: begins in the first frame; blend: stands, and goes there in half a second.")
    ] = "reference",
    seconds: Annotated[float | None, typer.Option(help="Of the motion, at most.", show_default="all of it")] = None,
    table: Annotated[Path | None, typer.Option(help="Retarget table of an MJCF.", show_default="beside it")] = None,
    out: Annotated[Path, typer.Option(help="Folder for tracked.mp4, metrics.json, trajectory.npz.")] = Path(
        "outputs/track"
    ),
) -> None:
    """Let a simulated humanoid follow a motion, and say how well it did and how much it was helped."""
    from egotwin_sim.body.rendering import make_context_current
    from egotwin_sim.body.tracker import TrackerConfig, TrackingError

    config = TrackerConfig(mode=mode, assist=assist, start=start)
    if seconds is not None and not 0 < seconds <= MAX_SECONDS:
        raise UserError(f"--seconds {seconds:g}: expected more than 0 and at most {MAX_SECONDS:g}")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    if policy is not None and mode != "policy":
        raise UserError(f"--policy was given with --mode {mode}; give --mode policy, or leave it out")
    make_context_current()  # what cannot be drawn is not worth simulating

    from egotwin_sim.body.record import record
    from egotwin_sim.body.retargeting import retargeter_for
    from egotwin_sim.body.robot import RobotModel
    from egotwin_sim.body.robots import find_robot
    from egotwin_sim.body.tracker import Tracker
    from egotwin_sim.cli.motion_file import read_motion
    from egotwin_sim.metrics.tracking import tracking_metrics
    from egotwin_sim.motion import Skeleton

    notes: list[str] = []
    motion = read_motion(clip, Skeleton.default(), notes)
    if seconds is not None:
        motion = motion[: round(seconds * motion.fps) + 1]
    if len(motion) < 3:
        raise UserError(f"{clip} has {len(motion)} frames; expected at least 3")
    robot = find_robot(body, table=table)
    trajectory = retargeter_for(robot).retarget(motion)
    robot_model = RobotModel(robot)
    tracker = Tracker(
        robot_model, config, tracking_policy(policy, len(robot_model.joint_names)) if mode == "policy" else None
    )
    tracker.begin(trajectory)
    done = record(tracker, tracker.reference.end_time)
    if len(done.qpos) < 3:
        raise UserError(f"nothing could be tracked: {done.failure or 'the motion is shorter than 0.1 s'}")
    figures = tracking_metrics(
        robot_model,
        done.qpos,
        done.reference,
        done.fps,
        assist_bw=done.assist_bw,
        saturated=done.saturated,
        real_time_factor=done.real_time_factor,
        failed=done.failure is not None,
    )
    report = {
        "clip": str(clip),
        "body": robot.name,
        "mode": done.mode.value,
        "assist": done.strength,
        "policy": None if mode != "policy" else str(policy) if policy is not None else "untrained",
        "start": start,
        "seconds": done.simulated_s,
        "failure": done.failure,
        "metrics": asdict(figures),
        "retargeting": _retargeting(trajectory.report),
        "notes": notes,
    }
    told = f"{robot.name}, mode {done.mode.value}" + (f", assist {done.strength:g}" if done.strength else ", no assist")
    _write(out, robot_model, done, report, f"{clip.name}: {told}")
    for note in notes:
        typer.echo(note)
    typer.echo(f"{told}: {_summary(figures)}")
    for name in ("tracked.mp4", "metrics.json", "trajectory.npz"):
        typer.echo(f"wrote {out / name}")
    if done.failure is not None:
        raise TrackingError(done.failure)


def tracking_policy(folder: Path | None, num_joints: int) -> Policy:
    """The policy of the mode "policy": from a folder of its weights, or an untrained one."""
    from egotwin_sim.body.tracking_policy import TrackingPolicy

    network = TrackingPolicy(num_joints) if folder is None else TrackingPolicy.from_pretrained(folder)
    return network.act


def _retargeting(report: Any) -> dict[str, Any] | None:
    if report is None:
        return None
    return {name: value for name, value in vars(report).items() if name != "contacts"}


def _summary(figures: TrackingMetrics) -> str:
    outcome = "success" if figures.success else "no success"
    return (
        f"{outcome}{', fell' if figures.fallen else ''}; G-MPJPE {figures.g_mpjpe_mm:.1f} mm, root-relative "
        f"{figures.l_mpjpe_mm:.1f} mm; head {figures.head_error_mm:.1f} mm, {figures.head_error_deg:.2f} degrees; "
        f"assist {figures.assist_mean_bw:.2f} body weights (p99 {figures.assist_p99_bw:.2f}); feet slide "
        f"{figures.foot_slide_m_s:.3f} m/s; real-time factor {figures.real_time_factor:.1f}"
    )


def _write(out: Path, robot_model: RobotModel, done: TrackingRecord, report: dict[str, Any], title: str) -> None:
    """All files, each written beside and then renamed, after everything has been computed."""
    from egotwin_sim.cli.panels import panel_video
    from egotwin_sim.data.disk import writing
    from egotwin_sim.files import replacing

    outside, eyes = _film(robot_model, done.qpos)
    reference, _ = _film(robot_model, done.reference)
    panels = {"reference": reference, f"body: {report['mode']}": outside, "head camera of the body": eyes}
    video, _ = panel_video(panels, round(done.fps), title, columns=3)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        done.trajectory(robot_model).save(out / "trajectory.npz")
        for name, content in (("tracked.mp4", video), ("metrics.json", json.dumps(report, indent=2).encode())):
            with replacing(out / name) as partial:
                partial.write_bytes(content)


def _film(robot_model: RobotModel, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a camera that goes along, and of the head camera: two times uint8 (T, H, W, 3)."""
    from egotwin_sim.body import mujoco
    from egotwin_sim.body.rendering import Canvas

    model, data = robot_model.model, mujoco.MjData(robot_model.model)
    canvas = Canvas(model, robot_model.robot.hidden_group)
    along, head = mujoco.MjvCamera(), mujoco.MjvCamera()
    along.type, along.azimuth, along.elevation, along.distance = mujoco.mjtCamera.mjCAMERA_FREE, 135.0, -15.0, DISTANCE
    head.type, head.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, robot_model.head_camera
    outside, eyes = [], []
    try:
        for pose in qpos:
            data.qpos[robot_model.qpos_index] = pose
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
            along.lookat[:] = pose[0], pose[1], 0.5 * robot_model.standing[2] + 0.5 * pose[2]
            canvas.draw(data, along, PANEL, PANEL, everything=True)
            outside.append(canvas.read_rgb())
            canvas.draw(data, head, PANEL, PANEL, sky=True)
            eyes.append(canvas.read_rgb())
    finally:
        canvas.close()
    return np.stack(outside), np.stack(eyes)
