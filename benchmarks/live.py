"""The live loop in real time, its drift with and without re-anchoring, and the ROS nodes around it.

    python benchmarks/live.py [loop drift images reconnect soak] [--seconds 60] [--soak 600] [--rooms 4]
                              [--weights nano] [--out FILE.json] [--plot FILE.png]

Without names, all parts. The parts in real time want a machine that does nothing else; images, reconnect and soak need
the extra `ros`. benchmarks/README.md says how each figure is defined.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import console, machine, print_table, write_json

from egotwin_sim.body.robot import our_robot
from egotwin_sim.envs.start import Start, sample_start
from egotwin_sim.errors import UserError
from egotwin_sim.live.closed_loop import closed_loop
from egotwin_sim.live.loop import LiveConfig, LiveLoop
from egotwin_sim.live.recording import DriftCurve
from egotwin_sim.pipelines import StreamPipeline
from egotwin_sim.room.physics import room_scene

PARTS = ("loop", "drift", "images", "reconnect", "soak")
FIRST_SEED = 950_001  # of rooms that no training uses
SETTLE = 5.0  # simulated seconds before threads are watched: start-up is not what runs for hours
IMAGE_SIZES = (128, 256, 400, 512)
REPEATS = 3
REAL_TIME = 0.99  # real-time factor, at least
MEMORY = 0.02  # growth of resident memory in the soak, at most
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Args:
    """Settings of a run."""

    parts: tuple[str, ...]
    """What is measured."""
    weights: str
    """Shipped weights by name, or a folder."""
    seconds: float
    """Of the loop in real time, and of each drift run, simulated."""
    soak: float
    """Seconds of the soak."""
    rooms: int
    """Of the drift: rooms with a goal each."""
    anchor_every: float
    """Of the drift: seconds between two anchors."""
    image_seconds: float
    """Of each size and transport."""
    threads: int
    """Torch threads; 0 leaves the default."""
    out: Path
    """The JSON file."""
    plot: Path | None
    """The drift over time, PNG."""


def starts(count: int) -> list[Start]:
    """Rooms with a goal and a standing body."""
    return [sample_start(np.random.default_rng(FIRST_SEED + i)) for i in range(count)]


def thread_seconds() -> dict[str, float]:
    """Processor time of this process's threads by name; those without a Python name are torch's, together."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    used: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        name = names.get(int(task.name), "torch's pool")
        used[name] = used.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
    return used


def measure_loop(args: Args, pipe: StreamPipeline) -> dict[str, Any]:
    """The live loop in this process, on the clock on the wall: body, 256 x 256 head camera at 30 Hz, and the dream."""
    start = starts(1)[0]
    config = LiveConfig()
    loop = LiveLoop(
        pipe, our_robot(pipe.skeleton), room_scene(start.layout, config.size), start.frame, start.text, config
    )
    try:
        loop.start()
        if not loop.wait(SETTLE):
            raise UserError(f"the simulation failed: {loop.report()['simulation']['reason']}")
        before, began, drawn = thread_seconds(), time.perf_counter(), loop.camera.status()["frames"]
        if not loop.wait(SETTLE + args.seconds):
            raise UserError(f"the simulation failed: {loop.report()['simulation']['reason']}")
        after, wall, drawn = thread_seconds(), time.perf_counter() - began, loop.camera.status()["frames"] - drawn
        end = loop.simulation.time_s
    finally:
        loop.stop()
    report = loop.report()
    cores = {name: (used - before.get(name, 0.0)) / wall for name, used in after.items()}
    readings = [r.time_s for r in loop.recording.readings if end - wall < r.time_s <= end]
    simulation, dreamer = report["simulation"], report["dreamer"]
    return {
        "goal": start.text,
        "seconds": wall,
        "real_time_factor": simulation["real_time_factor"],
        "lag_ms": [simulation["lag_ms_p50"], simulation["lag_ms_p99"]],
        "jitter_ms": [simulation["jitter_ms_p50"], simulation["jitter_ms_p99"]],
        "resyncs": simulation["resyncs"],
        "underruns": simulation["underruns"],
        "assist_bw": simulation["assist_bw"],
        "states_hz": len(readings) / wall,
        "pictures_hz": drawn / wall,
        "chunks": dreamer["chunks"],
        "late_chunks": dreamer["late"],
        "chunk_ms": [dreamer["step_ms_p50"], dreamer["step_ms_p99"]],
        "anchors": dreamer["anchors"],
        "prompt_to_first_movement_s": report["prompt_to_first_movement_s"],
        "cores": dict(sorted(((name, used) for name, used in cores.items() if used >= 0.002), key=lambda x: -x[1])),
    }


def print_loop(found: dict[str, Any]) -> None:
    """The loop's table, and its threads'."""
    pairs = {
        "lag_ms": "lag of a time step, ms",
        "jitter_ms": "jitter of a time step, ms",
        "chunk_ms": "a dreamt chunk, ms",
    }
    rows: list[tuple[Any, ...]] = [
        ("real-time factor", found["real_time_factor"], None),
        *((title, *found[name]) for name, title in pairs.items()),
        ("joint states a second", found["states_hz"], None),
        ("head-camera pictures a second", found["pictures_hz"], None),
        ("prompt to first movement, s", found["prompt_to_first_movement_s"], None),
        ("underruns", found["underruns"], None),
        ("chunks, of which late", found["chunks"], found["late_chunks"]),
    ]
    print_table(
        f'{found["seconds"]:.0f} s in real time, "{found["goal"]}"', ["", "median or value", "P99 or of these"], rows
    )
    print_table("Cores used by each thread", ["thread", "cores"], list(found["cores"].items()))


def measure_drift(args: Args, pipe: StreamPipeline) -> dict[str, Any]:
    """A closed loop without a clock, with and without anchors: how far the dream is from the simulation."""
    curves: dict[str, list[DriftCurve]] = {"without anchors": [], f"an anchor every {args.anchor_every:g} s": []}
    for i, start in enumerate(starts(args.rooms)):
        for name, every in zip(curves, (0.0, args.anchor_every), strict=True):
            config = LiveConfig(anchor_every=every, seed=i)
            ran = closed_loop(pipe, start.layout, start.frame, start.text, args.seconds, config=config)
            curves[name].append(ran.drift)
            told = ran.drift.summary()
            console.print(
                f"{start.text}, {name}: {told['head_m']:.3f} m, {told['head_deg']:.1f} deg, {told['psnr_db']:.1f} dB"
            )
    rows = {
        name: {key: float(np.mean([curve.summary()[key] for curve in each])) for key in each[0].summary()}
        for name, each in curves.items()
    }
    if args.plot is not None:
        plot_drift(curves, args.plot)
    return {"seconds": args.seconds, "rooms": args.rooms, "rows": rows}


def plot_drift(curves: dict[str, list[DriftCurve]], path: Path) -> None:
    """Error over time, mean over the rooms in windows of 2 s."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {"head_m": "head, m", "head_deg": "head, degrees", "psnr_db": "picture, PSNR dB"}
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), dpi=100)
    for axis, (field, title) in zip(axes, panels.items(), strict=True):
        for name, each in curves.items():
            times = np.concatenate([curve.time_s for curve in each])
            values = np.concatenate([getattr(curve, field) for curve in each])
            window = (times // 2.0).astype(int)
            shown = [np.median(values[window == w]) for w in np.unique(window)]
            axis.plot(2.0 * np.unique(window) + 1.0, shown, label=name)
        axis.set_title(title)
        axis.set_xlabel("s")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
    console.print(f"wrote {path}")


def print_drift(found: dict[str, Any]) -> None:
    """The drift's table."""
    names = {"head_m": "head m", "head_deg": "head deg", "psnr_db": "PSNR dB", "ssim": "SSIM"}
    for part, title in (("", "all"), ("_first_10_s", "the first 10 s"), ("_last_10_s", "the last 10 s")):
        print_table(
            f"Dream against simulation, {title} of {found['seconds']:g} s, mean over {found['rooms']} rooms",
            ["", *names.values()],
            [(name, *(row[key + part] for key in names)) for name, row in found["rows"].items()],
        )


def run(args: Args) -> dict[str, Any]:
    """Measure what was asked for, and print it."""
    figures: dict[str, Any] = {"machine": machine()}
    if {"loop", "drift"} & set(args.parts):
        pipe = StreamPipeline.from_pretrained(args.weights)
        if "loop" in args.parts:
            figures["loop"] = measure_loop(args, pipe)
            print_loop(figures["loop"])
        if "drift" in args.parts:
            figures["drift"] = measure_drift(args, pipe)
            print_drift(figures["drift"])
    if "images" in args.parts:
        from live_ros import TRANSPORTS, measure_images

        rows = [measure_images(size, way, args.image_seconds) for size in IMAGE_SIZES for way in TRANSPORTS]
        figures["images"] = rows
        columns = ("sent", "received", "delay_ms_p50", "delay_ms_p99", "states_hz")
        print_table(
            "Head-camera pictures heard in another process",
            ["pixels", "transport", "sent", "received", "median ms", "P99 ms", "states/s"],
            [(str(row["size"]), row["transport"], *(row[name] for name in columns)) for row in rows],
        )
    if "reconnect" in args.parts:
        from live_ros import measure_reconnect

        figures["reconnect"] = measure_reconnect(REPEATS)
        print_table(
            f"Coming back, median of {REPEATS}",
            ["", "seconds"],
            [(row["what"], row["median_s"]) for row in figures["reconnect"]],
        )
    if "soak" in args.parts:
        from live_ros import measure_soak

        figures["soak"] = found = measure_soak(args.soak)
        told = {name: value for name, value in found.items() if name != "rows"}
        for name in ("bridge_mb", "model_mb"):
            first, last = told.pop(name)
            told[f"{name} at first"], told[f"{name} at last"] = first, last
        print_table("Bridge and world model, each in a process", ["", "value"], list(told.items()))
    return figures


def goals(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The project's goals, what was measured, and whether they are met."""
    rows: list[tuple[str, float, bool]] = []
    if loop := figures.get("loop"):
        rows.append(("real-time factor at least 0.99", loop["real_time_factor"], loop["real_time_factor"] >= REAL_TIME))
        rows.append(("no underrun", loop["underruns"], loop["underruns"] == 0))
    if drift := figures.get("drift"):
        without, tied = drift["rows"].values()
        for name, sign in (("head_m", -1), ("psnr_db", 1)):
            key = f"{name}_last_10_s"
            gain = sign * (tied[key] - without[key])
            rows.append((f"{name} of the last 10 s better with anchors, by", gain, gain > 0))
    if soak := figures.get("soak"):
        lost = soak["states_dropped"] + soak["pictures_sent"] - soak["pictures_received"]
        rows.append(("soak: nothing lost on the way", lost, lost <= 0))
        for name in ("bridge_mb", "model_mb"):
            growth = soak[name][1] / soak[name][0] - 1
            rows.append((f"soak: {name} grows by at most 0.02", growth, growth <= MEMORY))
        rows.append(("soak: real-time factor", soak["real_time_factor"], soak["real_time_factor"] >= REAL_TIME))
    return [(name, f"{value:.3f}", "met" if met else "NOT met") for name, value, met in rows]


def parse() -> Args:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--soak", type=float, default=600.0)
    parser.add_argument("--rooms", type=int, default=4)
    parser.add_argument("--anchor-every", type=float, default=LiveConfig.anchor_every)
    parser.add_argument("--image-seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/live.json"))
    parser.add_argument("--plot", type=Path)
    given = vars(parser.parse_args())
    unknown = sorted(set(given["parts"]) - set(PARTS))
    if unknown:
        raise UserError(f"part {unknown[0]!r} is unknown; expected {', '.join(PARTS)}")
    return Args(**{**given, "parts": tuple(given["parts"]) or PARTS})


def main() -> None:
    """Run, print, write."""
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    figures = run(args)
    if rows := goals(figures):
        print_table("Goals", ["", "measured", ""], rows)
    write_json(args.out, figures)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"live.py: error: {error}") from None
