"""What denoising steps of a view buy: nearness to the truth and speed with 1, 2, 4 and 16 of them.

    python benchmarks/dream_steps.py [--data DIR] [--clips 64] [--weights nano] [--out FILE.json]

Clips, roll-outs and figures are those of `dream_quality.py` (benchmarks/README.md), under the true motion; only the
number of steps differs. The frames per second are those of `dream_speed.py`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import console, machine, print_table, write_json
from dream_quality import roll_out
from dream_speed import Scene, given_body, view_steps
from held_out import HeldOut

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.report import picture_report
from egotwin_sim.pipelines import StreamPipeline
from egotwin_sim.pipelines.tokens import motion_tokens

STEPS = (1, 2, 4, 16)
FEW, MANY = 2, 16
LIMIT_DB = 0.5  # PSNR that FEW steps may lose against MANY, at every horizon
TIMED_STEPS = {1: 50, 8: 20}  # timed steps at each batch size


@dataclass
class Args:
    """Settings of a run."""

    data: Path | None
    """A dataset of `egotwin data room`; None makes one."""
    clips: int
    """Held-out clips."""
    weights: str
    """Shipped weights by name, or a folder."""
    out: Path
    """The JSON file."""
    seed: int
    """Of the dreams' noise."""
    threads: int
    """Torch threads; 0 leaves the default."""


def run(args: Args) -> dict[str, Any]:
    """Roll out with every number of steps, score, time, judge."""
    if args.clips < 1:
        raise UserError(f"--clips {args.clips}: give 1 or more")
    pipe = StreamPipeline.from_pretrained(args.weights)
    held_out = HeldOut.open(args.data)
    samples, _ = held_out.choose(args.clips, door_clips=0)
    fps, chunks = float(held_out.reader.fps), len(samples[0].clip.motion) // pipe.motion_frames
    truth = np.stack([sample.clip.video for sample in samples])
    tokens = [
        motion_tokens(sample.clip.motion, pipe.motion_vae)[1:].reshape(chunks, 2, pipe.token_dim) for sample in samples
    ]
    scene = Scene.make(pipe, args.seed)
    pictures: dict[int, dict[str, dict[str, float]]] = {}
    speed: dict[int, dict[str, float]] = {}
    for steps in STEPS:
        with view_steps(pipe, steps):
            dreams = roll_out(pipe, samples, tokens, chunks, args.seed, f"dream, {steps} steps")
            pictures[steps] = picture_report(truth, np.stack([dream.frames for dream in dreams]), fps)
            speed[steps] = {
                f"batch {batch}": given_body(pipe, scene, batch, count)["frames_per_second"]
                for batch, count in TIMED_STEPS.items()
            }
    horizons = list(pictures[FEW])
    losses = {h: pictures[MANY][h]["psnr_db"] - pictures[FEW][h]["psnr_db"] for h in horizons}
    met = max(losses.values()) <= LIMIT_DB
    for key, title in (("psnr_db", "PSNR, dB"), ("ssim", "SSIM"), ("sharpness", "Sharpness, ratio to the truth")):
        header = ("steps", *(f"{h} s" for h in horizons), *(f"frames/s, batch {b}" for b in TIMED_STEPS))
        rows = [(f"{n}", *(pictures[n][h][key] for h in horizons), *speed[n].values()) for n in STEPS]
        print_table(f"{title}; {len(samples)} held-out clips", header, rows)
    told = ", ".join(f"{loss:+.2f} dB at {h} s" for h, loss in losses.items())
    console.print(
        f"goal: {FEW} steps lose at most {LIMIT_DB:g} dB against {MANY}, {'met' if met else 'NOT met'}: {told}"
    )
    return {
        "run": machine() | {"weights": args.weights, "clips": len(samples), "seed": args.seed},
        "data": str(held_out.reader.root),
        "pictures": pictures,
        "frames_per_second": speed,
        "lost_db": losses,
        "goal_met": met,
    }


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset of `egotwin data room`; made here if missing")
    parser.add_argument("--clips", type=int, default=64, help="held-out clips to score")
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a folder")
    parser.add_argument("--out", type=Path, default=Path("outputs/dream_steps.json"), help="JSON file")
    parser.add_argument("--seed", type=int, default=0, help="of the dreams' noise")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves the default")
    args = Args(**vars(parser.parse_args()))
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        result = run(args)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    write_json(args.out, result)


if __name__ == "__main__":
    main()
