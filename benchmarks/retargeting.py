"""How well other bodies follow ours: errors, floor, limits and speed of retargeting, and a picture of it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import mujoco
import numpy as np
from common import console, machine, print_table, write_json
from PIL import Image

from egotwin_sim.body.rendering import Canvas
from egotwin_sim.body.retargeting import MinkRetargeter, retargeter_for
from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.robots import find_robot
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Motion, load_amc, load_bvh
from egotwin_sim.motion.rotations import rotation_angle
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise

SEED = 900001
KINDS = ("walk", "turn", "look", "reach", "open", "wave", "crouch", "sit")
VIEW = (200, 260)  # pixels of one body in the picture


def synthesised(each: int) -> dict[str, list[Motion]]:
    """Clips of five seconds, some of every kind."""
    clips: dict[str, list[Motion]] = {kind: [] for kind in KINDS}
    seed = SEED
    while min(map(len, clips.values())) < each:
        made = synthesise(sample_layout(seed), seed)
        if len(clips[made.goal_kind]) < each:
            clips[made.goal_kind].append(made.motion)
        seed += 1
    return clips


def recorded(paths: list[Path]) -> dict[str, list[Motion]]:
    """Motion capture: .bvh files, and .amc files with their .asf beside them."""
    clips = {}
    for path in paths:
        if path.suffix == ".amc":
            motion = load_amc(path, path.with_name(path.name.split("_")[0] + ".asf")).motion
        else:
            motion = load_bvh(path).motion
        clips[path.name] = [motion]
    return clips


def missed(retargeter: MinkRetargeter, motion: Motion, trajectory: RobotTrajectory) -> tuple[np.ndarray, np.ndarray]:
    """Distances (T, M) in mm and angles (T, M) in degrees of the matched bodies from where the motion wants them."""
    place, turn = retargeter.wanted(motion)
    data = mujoco.MjData(retargeter.model)
    bodies = retargeter.targets.bodies
    reached, turned = np.empty_like(place), np.empty_like(turn)
    for t, qpos in enumerate(trajectory.qpos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(retargeter.model, data)
        reached[t], turned[t] = data.xpos[bodies], data.xmat[bodies].reshape(-1, 3, 3)
    return 1000.0 * np.linalg.norm(reached - place, axis=-1), np.degrees(rotation_angle(turned, turn))


def score(name: str, clips: dict[str, list[Motion]], others: dict[str, list[Motion]]) -> dict:
    """The figures of one body; prints its tables. The table of its bodies leaves `others` out."""
    retargeter = retargeter_for(find_robot(name))
    assert isinstance(retargeter, MinkRetargeter)
    rows, figures, distances, angles = [], {}, [], []
    for kind, motions in {**clips, **others}.items():
        reports, times, fastest = [], [], 0.0
        for motion in motions:
            start = time.perf_counter()
            trajectory = retargeter.retarget(motion)
            times.append(1000.0 * (time.perf_counter() - start) / len(motion))
            if kind in clips:
                distance, angle = missed(retargeter, motion, trajectory)
                distances.append(distance)
                angles.append(angle)
            reports.append(trajectory.report)
            fastest = max(fastest, float(np.abs(trajectory.qvel[:, 6:]).max()))
        figures[kind] = {
            "error_mm": np.mean([report.ik_error_mm for report in reports]),
            "slide_m_s": np.mean([report.foot_slide_m_s for report in reports]),
            "penetration_mm": np.max([report.penetration_mm for report in reports]),
            "hinges_at_limit": len({hinge for report in reports for hinge in report.limit_hits}),
            "fastest_hinge_rad_s": fastest,
            "ms_per_frame": np.mean(times),
        }
        rows.append([kind, *figures[kind].values()])
    header = ["clip", "error mm", "slide m/s", "depth mm", "hinges at limit", "fastest rad/s", "ms a frame"]
    print_table(f"{name}: mean error of positioned bodies, what the feet do, limits, speed", header, rows)
    every, turned = np.concatenate(distances), np.concatenate(angles)
    rows = []
    for i, match in enumerate(retargeter.targets.match):
        at = "" if match.position[-1] > 0.0 else " (not positioned)"
        rows.append([f"{match.body} follows {match.joint}{at}", *_spread(every[:, i]), *_spread(turned[:, i])])
    header = ["body", "mean mm", "P95 mm", "max mm", "mean deg", "P95 deg", "max deg"]
    print_table(f"{name}: every body, synthesised clips", header, rows)
    return {"clips": figures, "bodies": {row[0]: row[1:] for row in rows}}


def _spread(values: np.ndarray) -> list[float]:
    return [float(values.mean()), float(np.percentile(values, 95)), float(values.max())]


def moments(clips: dict[str, list[Motion]]) -> list[tuple[Motion, int]]:
    """Frames worth seeing: two of a step, the farthest reach, the highest hand of a wave, the lowest head."""
    walk, reach, wave, crouch = (clips[kind][0] for kind in ("walk", "reach", "wave", "crouch"))
    hands = [reach.skeleton.index[f"{side}_wrist"] for side in ("left", "right")]
    reaching, waving = (motion.joint_transforms()[0] for motion in (reach, wave))
    away = np.linalg.norm(reaching[:, hands, :2] - reaching[:, :1, :2], axis=-1).max(axis=1)
    return [
        (walk, 24),
        (walk, 29),
        (reach, int(np.argmax(away))),
        (wave, int(np.argmax(waving[:, hands, 2].max(axis=1)))),
        (crouch, int(np.argmin(crouch.T_world_head()[:, 2, 3]))),
    ]


def picture(names: list[str], shown: list[tuple[Motion, int]], out: Path) -> None:
    """One row a body, one column a frame, the camera going along with each."""
    rows = []
    for name in names:
        robot = find_robot(name)
        model, retargeter = RobotModel(robot), retargeter_for(robot)
        canvas = Canvas(model.model, robot.hidden_group)
        data, camera = mujoco.MjData(model.model), mujoco.MjvCamera()
        height = model.head_poses(model.standing[None])[0, 2, 3]
        row = []
        for motion, frame in shown:
            qpos = retargeter.retarget(motion).qpos[frame]
            data.qpos[model.qpos_index] = qpos
            mujoco.mj_forward(model.model, data)
            heading = motion.T_world_head()[frame, :2, 0]
            camera.lookat[:] = [*qpos[:2], 0.52 * height]
            camera.distance, camera.elevation = 1.6 * height, -10.0
            camera.azimuth = np.degrees(np.arctan2(heading[1], heading[0])) + 130.0
            canvas.draw(data, camera, *VIEW, everything=True)
            row.append(canvas.read_rgb())
        rows.append(np.concatenate(row, axis=1))
        canvas.close()
    image = Image.fromarray(np.concatenate(rows))
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(out, optimize=True)
    console.print(f"wrote {out}")


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", nargs="+", default=["g1", "cmu"])
    parser.add_argument("--each", type=int, default=3, help="synthesised clips of every kind")
    parser.add_argument("--mocap", type=Path, nargs="*", default=[], help=".bvh or .amc files to follow as well")
    parser.add_argument("--picture", type=Path, help="where to draw the bodies, such as docs/retargeting.png")
    parser.add_argument("--out", type=Path, default=Path("outputs/retargeting.json"))
    arguments = parser.parse_args()
    clips = synthesised(arguments.each)
    figures = {"machine": machine(), "seed": SEED, "each": arguments.each}
    for name in arguments.bodies:
        try:
            figures[name] = score(name, clips, recorded(arguments.mocap))
        except UserError as error:
            console.print(f"{name}: {error}")
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()))
    write_json(arguments.out, figures)
    if arguments.picture:
        picture(["ours", *arguments.bodies], moments(clips), arguments.picture)


if __name__ == "__main__":
    main()
