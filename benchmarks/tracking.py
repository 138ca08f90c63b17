"""How near a simulated body stays to its reference, and how much it is helped: modes, strengths and bodies."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from common import console, machine, print_table, write_json

from egotwin_sim.body.record import record
from egotwin_sim.body.retargeting import retargeter_for
from egotwin_sim.body.robot import RobotModel
from egotwin_sim.body.robots import find_robot
from egotwin_sim.body.tracker import Tracker, TrackerConfig
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.tracking import TrackingMetrics, tracking_metrics
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise
from egotwin_sim.room.synthesis.body import MOTION_FPS, Style, perform
from egotwin_sim.room.synthesis.ground import Ground
from egotwin_sim.room.synthesis.skills import Plan

SEED = 900001
SECONDS = 10.0  # of every clip
TAIL = 1.4  # seconds that are planned beyond a clip's end
KINDS = ("walk", "crouch")
# What is followed, how, and with which strength of the assist.
RUNS = (
    ("walk", "kinematic", 0.0),
    ("walk", "assisted", 1.0),
    ("walk", "assisted", 0.5),
    ("walk", "assisted", 0.2),
    ("walk", "pd", 0.0),
    ("crouch", "assisted", 1.0),
    ("crouch", "assisted", 0.1),
    ("reach", "pd", 0.0),
    ("stand", "pd", 0.0),
)
# Goals: what is followed, mode, strength, and the mean position error in mm at most; all must succeed.
WALK_MM, CROUCH_MM, CROUCH_BW = 25.0, 40.0, 0.1


def synthesised(each: int) -> dict[str, list[Motion]]:
    """Clips of every kind, and of bodies that stand."""
    clips: dict[str, list[Motion]] = {kind: [] for kind in KINDS}
    seed = SEED
    while min(map(len, clips.values())) < each:
        made = synthesise(sample_layout(seed), seed, SECONDS)
        if made.goal_kind in clips and len(clips[made.goal_kind]) < each:
            clips[made.goal_kind].append(made.motion)
        seed += 1
    for name in ("reach", "stand"):
        clips[name] = [on_the_spot(name == "reach", SEED + i) for i in range(each)]
    return clips


def on_the_spot(reaching: bool, seed: int) -> Motion:
    """A body of some style that stands, and reaches for things with either hand or does not."""
    rng, skeleton = np.random.Generator(np.random.PCG64(seed)), Skeleton.default()
    style = Style.sample(rng)
    plan = Plan(sample_layout(seed), rng, style, Ground(np.zeros(2), 0.0, limit=SECONDS + TAIL), skeleton)
    while reaching and plan.time < SECONDS - 2.0:
        plan.reach(None)
        plan.idle(0.5)
    plan.idle(max(0.1, SECONDS - plan.time))
    plan.ground.hold(max(0.0, SECONDS + TAIL - plan.time))
    return perform(plan.score(), style, 1 + round(MOTION_FPS * SECONDS), skeleton, None)[0]


def follow(robot_model: RobotModel, motion: Motion, mode: str, assist: float) -> TrackingMetrics:
    """The figures of one clip on an empty floor."""
    trajectory = retargeter_for(robot_model.robot).retarget(motion)
    tracker = Tracker(robot_model, TrackerConfig(mode=mode, assist=assist))
    tracker.begin(trajectory)
    done = record(tracker, SECONDS)
    return tracking_metrics(
        robot_model,
        done.qpos,
        done.reference,
        done.fps,
        assist_bw=done.assist_bw,
        saturated=done.saturated,
        real_time_factor=done.real_time_factor,
        failed=done.failure is not None,
    )


def measured(name: str, clips: dict[str, list[Motion]], runs: tuple[tuple[str, str, float], ...]) -> list[dict]:
    """The figures of one body: means over the clips, and how many succeeded."""
    robot_model = RobotModel(find_robot(name))
    rows = []
    for kind, mode, assist in runs:
        each = [asdict(follow(robot_model, motion, mode, assist)) for motion in clips[kind]]
        mean = {key: float(np.mean([figures[key] for figures in each])) for key in each[0]}
        rows.append({"body": name, "clip": kind, "mode": mode, "assist": assist, "clips": len(each), **mean})
    return rows


def goals(rows: list[dict]) -> list[tuple[str, str, str]]:
    """The project's goals, what was measured, and whether they are met."""
    found = {(row["clip"], row["mode"], row["assist"]): row for row in rows if row["body"] == "ours"}
    walk, crouch = found["walk", "assisted", 1.0], found["crouch", "assisted", 0.1]
    told = [
        ("walk, assisted: mm, at most 25", walk["g_mpjpe_mm"], walk["g_mpjpe_mm"] <= WALK_MM),
        ("squat, assisted 0.1: mm, at most 40", crouch["g_mpjpe_mm"], crouch["g_mpjpe_mm"] <= CROUCH_MM),
        (
            "squat, assisted 0.1: body weights, at most 0.1",
            crouch["assist_mean_bw"],
            crouch["assist_mean_bw"] <= CROUCH_BW,
        ),
    ]
    for kind in ("reach", "stand"):
        fallen = found[kind, "pd", 0.0]["fallen"]
        told.append((f"{kind}, pd: share that falls in 10 s, none", fallen, fallen == 0.0))
    return [(name, f"{value:.3f}", "met" if met else "NOT met") for name, value, met in told]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", nargs="*", default=["g1", "cmu"], help="besides ours, which walk")
    parser.add_argument("--each", type=int, default=8, help="clips of every kind")
    parser.add_argument("--out", type=Path, default=Path("outputs/tracking.json"))
    arguments = parser.parse_args()
    clips = synthesised(arguments.each)
    rows = measured("ours", clips, RUNS)
    for name in arguments.bodies:
        try:
            rows += measured(name, clips, RUNS[1:2])
        except UserError as error:
            console.print(f"{name}: {error}")
    columns = {
        "g_mpjpe_mm": "G-MPJPE mm",
        "l_mpjpe_mm": "root-relative",
        "velocity_error_mm": "mm/frame",
        "acceleration_error_mm": "mm/frame2",
        "success": "success",
        "fallen": "fallen",
        "foot_slide_m_s": "slide m/s",
        "head_error_mm": "head mm",
        "head_error_deg": "deg",
        "assist_mean_bw": "assist BW",
        "assist_p99_bw": "P99",
        "real_time_factor": "x real time",
    }
    table = [
        (f"{row['body']} {row['clip']}, {row['mode']} {row['assist']:g}", *(row[key] for key in columns))
        for row in rows
    ]
    print_table(f"{arguments.each} clips of {SECONDS:g} s each, mean", ["", *columns.values()], table)
    print_table("Goals", ["", "measured", ""], goals(rows))
    write_json(arguments.out, {"machine": machine(), "seed": SEED, "rows": rows})


if __name__ == "__main__":
    main()
