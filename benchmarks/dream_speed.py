"""How fast the dream runs: `env.step` of `EgoTwin/Dream-v0` at batch 1, and where the time goes.

    python benchmarks/dream_speed.py [--weights nano] [--steps 100] [--threads 2] [--out FILE.json]

A step is 4 video frames, half a second of real time. Warm-up steps are apart. Run it on a machine that does nothing
else: two processes on two cores slow each other by far more than two.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
import torch
from common import console, machine, print_table, write_json
from rich.progress import track

from egotwin_sim.envs import DreamEnv, motion_to_actions
from egotwin_sim.errors import UserError
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.synthesis import synthesise

WARM_UP = 10  # steps: the first ones choose kernels and fill the attention window
FRAMES_PER_STEP = 4
TARGET_FRAMES_PER_SECOND = 24.0
MOTION_SECONDS = 5.0  # length of the motions that are played


@dataclass
class Args:
    """Settings of a run."""

    weights: str
    """Shipped weights by name, or a folder."""
    steps: int
    """Timed steps."""
    threads: int
    """Torch threads."""
    seed: int
    """Of rooms, motions and noise."""
    out: Path
    """The JSON file."""


def actions_for(env: DreamEnv, count: int, seed: int) -> np.ndarray:
    """Actions (count, 2, C) of synthesised motions, one after another."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < count:
        motion = synthesise(sample_layout(seed + len(parts)), seed + len(parts), MOTION_SECONDS).motion
        parts.append(motion_to_actions(motion, env.model))
    return np.concatenate(parts)[:count]


def time_steps(step: Callable[[int], Any], count: int, what: str) -> np.ndarray:
    """Seconds (count,) of `step(0)`, `step(1)`, ..."""
    seconds = np.empty(count)
    for i in track(range(count), description=what, console=console):
        began = time.perf_counter()
        step(i)
        seconds[i] = time.perf_counter() - began
    return seconds


@contextmanager
def parts_timed(env: DreamEnv) -> Iterator[dict[str, float]]:
    """Sum up the seconds that a step spends in each network; the rest is the memory's drawing, the body, checks."""
    spent: dict[str, float] = defaultdict(float)
    pipe = env.model.pipeline

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - began

        return wrapper

    # The networks themselves are called; only a clock is put round them.
    with ExitStack() as stack:
        for name, owner, attribute in (
            ("motion decode", pipe.motion_vae, "decode_chunk"),
            ("transformer", pipe.transformer, "forward"),
            ("video decode", pipe.video_vae, "decode"),
            ("encode of the remembered views", pipe.video_vae, "encode_chunks"),
            ("depth of the newest view", pipe.depth_net, "forward"),
        ):
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        yield spent


def summary(seconds: np.ndarray) -> dict[str, float]:
    """Median, 99th percentile and rates of step times in seconds."""
    median, p99 = (float(np.percentile(seconds, q)) for q in (50, 99))
    rate = FRAMES_PER_STEP / median
    return {
        "median_ms": 1000 * median,
        "p99_ms": 1000 * p99,
        "frames_per_second": rate,
        "frames_per_second_at_p99": FRAMES_PER_STEP / p99,
    }


def run(args: Args) -> dict[str, Any]:
    """Time the steps and their parts."""
    if args.steps < 1 or args.threads < 1:
        raise UserError(f"--steps {args.steps} --threads {args.threads}: give 1 or more of each")
    torch.set_num_threads(args.threads)
    total = WARM_UP + args.steps
    made = gymnasium.make("egotwin_sim:EgoTwin/Dream-v0", model=args.weights, max_seconds=total)
    env = made.unwrapped
    assert isinstance(env, DreamEnv)
    began = time.perf_counter()
    made.reset(seed=args.seed)
    reset_seconds = time.perf_counter() - began
    actions = actions_for(env, total, args.seed)
    warm = time_steps(lambda i: made.step(actions[i]), WARM_UP, "warm-up")
    timed = time_steps(lambda i: made.step(actions[WARM_UP + i]), args.steps, "env.step")

    made.reset(seed=args.seed)
    with parts_timed(env) as spent:
        time_steps(lambda i: made.step(actions[i]), WARM_UP, "warm-up")
        spent.clear()
        apart = time_steps(lambda i: made.step(actions[WARM_UP + i]), args.steps, "parts")
        parts = dict(spent)
    parts["rest: memory drawn from the new pose, body, checks"] = float(apart.sum()) - sum(parts.values())

    pipe, start = env.model.pipeline, env.start
    assert start is not None
    obs, _ = made.reset(seed=args.seed)
    free = pipe.start(obs["rgb"], obs["motion"], start.text, seed=args.seed)
    time_steps(lambda i: free.step(None), WARM_UP, "warm-up")
    dreamt = time_steps(lambda i: free.step(None), args.steps, "stream.step, body dreamt")
    made.close()

    real_time = env.model.config.video_fps
    rows = {"env.step": summary(timed), "stream.step, body dreamt too": summary(dreamt)}
    print_table(
        f"Speed at batch 1, {args.threads} threads, {args.steps} steps after {WARM_UP} of warm-up",
        ("", "median ms", "P99 ms", "frames/s", "x real time", "frames/s at P99"),
        [
            (n, r["median_ms"], r["p99_ms"], r["frames_per_second"], r["frames_per_second"] / real_time,
             r["frames_per_second_at_p99"])
            for n, r in rows.items()
        ],
    )  # fmt: skip
    print_table(
        "Where the time of env.step goes",
        ("part", "ms a step", "share"),
        [(n, 1000 * s / args.steps, f"{s / apart.sum():.0%}") for n, s in sorted(parts.items(), key=lambda p: -p[1])],
    )
    reached = rows["env.step"]["frames_per_second"] >= TARGET_FRAMES_PER_SECOND
    console.print(
        f"target: at least {TARGET_FRAMES_PER_SECOND:g} frames/s, {'met' if reached else 'NOT met'}; "
        f"first reset {reset_seconds:.1f} s (loads the weights), first step {1000 * warm[0]:.0f} ms"
    )
    return {
        "run": machine() | {"weights": args.weights, "steps": args.steps, "seed": args.seed},
        "view_steps": env.model.config.view_steps,
        "steps": rows,
        "parts_ms": {name: 1000 * seconds / args.steps for name, seconds in parts.items()},
        "first_reset_s": reset_seconds,
        "first_step_ms": 1000 * float(warm[0]),
        "target_met": reached,
    }


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a folder")
    parser.add_argument("--steps", type=int, default=100, help="timed steps")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--seed", type=int, default=0, help="of rooms, motions and noise")
    parser.add_argument("--out", type=Path, default=Path("outputs/dream_speed.json"), help="JSON file")
    args = Args(**vars(parser.parse_args()))
    try:
        result = run(args)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    write_json(args.out, result)


if __name__ == "__main__":
    main()
