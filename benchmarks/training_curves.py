"""Plots the training logs of all stages: python benchmarks/training_curves.py RUNS --out docs/training-nano.png."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

STAGES = ("video-vae", "motion-vae", "text-motion", "joint", "stream", "distill", "refine", "modes")


def read(path: Path, kind: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a scalar in a log."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records = [r for r in records if r["kind"] == kind and name in r]
    return [r["step"] for r in records], [r[name] for r in records]


def main() -> None:
    """Draw one panel a stage and print its length and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder with one run a stage")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logs = {stage: arguments.runs / stage / "log.jsonl" for stage in STAGES}
    logs = {stage: path for stage, path in logs.items() if path.is_file()}
    figure, axes = plt.subplots(1, len(logs), figsize=(3.4 * len(logs), 2.8), constrained_layout=True, squeeze=False)
    for axis, (stage, path) in zip(axes[0], logs.items(), strict=True):
        steps, loss = read(path, "train", "loss")
        axis.plot(steps, loss, linewidth=1)
        axis.set(title=stage, xlabel="step", ylabel="training loss", yscale="log")
        axis.grid(alpha=0.3)
        pace, length = read(path, "train", "seconds_per_step")[1], steps[-1]
        minutes = sum(p * (b - a) for p, a, b in zip(pace, [0, *steps], steps, strict=False)) / 60
        print(f"{stage}: {length} steps, {minutes:.1f} minutes, last loss {loss[-1]:.4g}")
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
