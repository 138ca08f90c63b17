"""How fast the dream runs, and what makes it so: one run, ratios of the same steps on the same machine.

    python benchmarks/dream_speed.py [--weights nano] [--steps 100] [--threads 2] [--only TABLE ...] [--out FILE.json]

A step is 4 video frames of each dream, half a second of its time. Warm-up steps and compilation are apart. Run it on a
machine that does nothing else: two processes on two cores slow each other by far more than two. benchmarks/README.md
says what each table compares.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import gymnasium
import numpy as np
import torch
from common import console, machine, print_table, write_json
from long_walk import LongWalk, begin, held_out_seeds, long_walk
from memory import resident_bytes
from torch import Tensor

from egotwin_sim.errors import UserError
from egotwin_sim.models import transformer_layers
from egotwin_sim.models.transformer_cache import TransformerCache
from egotwin_sim.pipelines import BodyState, DreamState, Generated, StreamPipeline, pipeline, stream
from egotwin_sim.room.layout import sample_layout

TABLES = ("env", "batch", "precision", "recompute", "parts", "body", "memory")
BATCHES = (1, 2, 4, 8, 16)
VIEW_STEPS = (1, 2, 4)
COMPARED_BATCHES = (1, 8)  # where one thing is compared with another
COMPARED_STEPS = 2
GOALS = {1: 60.0, 8: 120.0}  # frames per second at a batch size, with `COMPARED_STEPS` steps

WARM_UP = 8  # steps of every row: they choose kernels, fill the window and make its masks
LEAST_STEPS = 20  # timed steps of a row, however large its batch
FRAMES_PER_CHUNK = 4
WALK_SECONDS = 20.0  # of motion, played again and again
COMPILERS = ("g++", "clang++", "c++")


@dataclass
class Args:
    """Settings of a run."""

    weights: str
    """Shipped weights by name, or a folder."""
    steps: int
    """Timed steps at batch 1; a row of B dreams has a B-th, but `LEAST_STEPS` at least."""
    threads: int
    """Torch threads."""
    only: list[str]
    """Tables to make, of `TABLES`."""
    seed: int
    """Of rooms, motions and noise."""
    out: Path
    """The JSON file."""

    def count(self, batch: int) -> int:
        """Timed steps of a row."""
        return max(min(self.steps, LEAST_STEPS), self.steps // batch)


@dataclass(frozen=True)
class Times:
    """Seconds of the steps of one row.

    Attributes:
        step: (N,), generate and finalize.
        frames: (N,), generate alone: until the frames are there.
        batch: dreams at once.
    """

    step: np.ndarray
    frames: np.ndarray
    batch: int

    def summary(self) -> dict[str, float]:
        """Median and 99th percentile in milliseconds, and frames per second of all dreams together."""
        median, p99 = (float(np.percentile(self.step, q)) for q in (50, 99))
        return {
            "steps": len(self.step),
            "median_ms": 1000 * median,
            "p99_ms": 1000 * p99,
            "until_frames_ms": 1000 * float(np.median(self.frames)),
            "frames_per_second": self.batch * FRAMES_PER_CHUNK / median,
        }


@dataclass
class Scene:
    """What is dreamt: a held-out room, its first frame, and the tokens of a walk in it, one pair a step, for ever."""

    walk: LongWalk
    first_frame: np.ndarray
    seed: int
    tokens: np.ndarray = field(init=False)

    @classmethod
    def make(cls, pipe: StreamPipeline, seed: int) -> Scene:
        """Plan the walk and film its first frame."""
        walk = long_walk(sample_layout(held_out_seeds(1)[0]), seed, WALK_SECONDS)
        scene = cls(walk, walk.film(pipe.config.image_size, stop=1), seed)
        scene.tokens = walk.tokens(pipe)
        return scene

    def begin(self, pipe: StreamPipeline, batch: int) -> DreamState:
        """B dreams of it."""
        return begin(pipe, [self.walk] * batch, np.repeat(self.first_frame, batch, axis=0), self.seed)

    def action(self, step: int, batch: int) -> np.ndarray:
        """Tokens (B, 2, C) of a step."""
        return np.repeat(self.tokens[None, step % len(self.tokens)], batch, axis=0)


class Engine(Protocol):
    """What dreams a chunk and remembers it: a pipeline, or a slower way to the same."""

    def generate(self, state: DreamState, motion_tokens: np.ndarray | None) -> Generated:
        """The next chunk."""

    def finalize(self, state: DreamState, chunk: Generated) -> DreamState:
        """The state with the chunk remembered."""


def time_dreams(engine: Engine, state: DreamState, action: Callable[[int], np.ndarray | None], count: int) -> Times:
    """Time the steps of B dreams, `WARM_UP` steps of which are not counted."""
    step, frames = np.empty(count), np.empty(count)
    for i in range(-WARM_UP, count):
        given = action(i + WARM_UP)
        began = time.perf_counter()
        chunk = engine.generate(state, given)
        shown = time.perf_counter()
        state = engine.finalize(state, chunk)
        if i >= 0:
            step[i], frames[i] = time.perf_counter() - began, shown - began
    return Times(step, frames, len(state))


def given_body(
    pipe: StreamPipeline, scene: Scene, batch: int, count: int, engine: Engine | None = None
) -> dict[str, float]:
    """Times of B dreams along the scene's walk."""
    state = scene.begin(pipe, batch)
    return time_dreams(engine or pipe, state, lambda step: scene.action(step, batch), count).summary()


@contextmanager
def view_steps(pipe: StreamPipeline, count: int) -> Iterator[None]:
    """The pipeline with another number of denoising steps of a view."""
    before = pipe.config
    pipe.config = replace(before, view_steps=count)
    try:
        yield
    finally:
        pipe.config = before


def time_env(args: Args, pipe: StreamPipeline, scene: Scene) -> dict[str, Any]:
    """`env.step` of `EgoTwin/Dream-v0` with the weights' own settings."""
    count = args.count(1)
    env = gymnasium.make("egotwin_sim:EgoTwin/Dream-v0", model=pipe, max_seconds=WARM_UP + count)
    began = time.perf_counter()
    env.reset(seed=args.seed)
    reset = time.perf_counter() - began
    seconds = np.empty(WARM_UP + count)
    for i in range(len(seconds)):
        action = scene.tokens[i % len(scene.tokens)]
        began = time.perf_counter()
        env.step(action)
        seconds[i] = time.perf_counter() - began
    env.close()
    kept = seconds[WARM_UP:]
    row = Times(kept, kept, 1).summary()
    print_table(
        f"EgoTwin/Dream-v0, {pipe.config.view_steps} view steps; first step {1000 * seconds[0]:.0f} ms, reset "
        f"{1000 * reset:.0f} ms (draws a room)",
        ("", "steps", "median ms", "P99 ms", "frames/s", "x real time"),
        [("env.step", row["steps"], row["median_ms"], row["p99_ms"], row["frames_per_second"],
          row["frames_per_second"] / pipe.config.video_fps)],
    )  # fmt: skip
    return row | {"reset_ms": 1000 * reset, "first_step_ms": 1000 * float(seconds[0])}


def time_batches(args: Args, pipe: StreamPipeline, scene: Scene) -> dict[str, Any]:
    """Batch sizes and view steps."""
    rows: dict[str, dict[str, float]] = {}
    for steps in VIEW_STEPS:
        with view_steps(pipe, steps):
            for batch in BATCHES:
                row = given_body(pipe, scene, batch, args.count(batch))
                alone = rows.get(f"{steps} steps, batch 1", row)
                row["over_batch_1"] = row["frames_per_second"] / alone["frames_per_second"]
                rows[f"{steps} steps, batch {batch}"] = row
    print_rows("Batch size and view steps, cached", rows, "over_batch_1", "x batch 1")
    return rows


def print_rows(title: str, rows: dict[str, dict[str, float]], ratio: str, meaning: str) -> None:
    """A table of summaries and one ratio."""
    print_table(
        title,
        ("", "steps", "median ms", "P99 ms", "ms to frames", "frames/s", meaning),
        [
            (n, r["steps"], r["median_ms"], r["p99_ms"], r["until_frames_ms"], r["frames_per_second"], r[ratio])
            for n, r in rows.items()
        ],
    )


@contextmanager
def compiled(pipe: StreamPipeline) -> Iterator[None]:
    """What repeats is compiled: a layer of the transformer, and the video VAE on both sides.

    The transformer as a whole would be eight copies of one layer in one graph, which takes minutes to compile, and its
    masks are chosen in Python.
    """
    torch._dynamo.reset()
    layer = torch.compile(transformer_layers.apply_layer, dynamic=False)
    with (
        patch.object(transformer_layers, "apply_layer", layer),
        patch.object(pipe.video_vae, "decode", torch.compile(pipe.video_vae.decode, dynamic=False)),
        patch.object(pipe.video_vae, "encode_chunks", torch.compile(pipe.video_vae.encode_chunks, dynamic=False)),
    ):
        yield
    torch._dynamo.reset()


def time_precisions(args: Args, pipe: StreamPipeline, scene: Scene) -> dict[str, Any]:
    """float32 and bfloat16, eager, and bfloat16 compiled.

    On a CPU the engine computes float32 dreams of a batch one by one, so that each is the same whatever shares it.
    """
    rows: dict[str, dict[str, float]] = {}
    plain = StreamPipeline.from_pretrained(args.weights, precision="fp32")
    compiler = next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None:
        console.print(f"compiled: left out, there is no C++ compiler ({', '.join(COMPILERS)}) on this machine")
    for batch in COMPARED_BATCHES:
        count = args.count(batch)
        with view_steps(plain, COMPARED_STEPS), view_steps(pipe, COMPARED_STEPS):
            rows[f"fp32, batch {batch}"] = first = given_body(plain, scene, batch, count)
            rows[f"bf16, batch {batch}"] = given_body(pipe, scene, batch, count)
            if compiler is not None:
                with compiled(pipe):
                    began = time.perf_counter()
                    given_body(pipe, scene, batch, 1)
                    compiling = time.perf_counter() - began
                    row = given_body(pipe, scene, batch, count)
                rows[f"bf16 compiled, batch {batch}"] = row | {"compile_s": compiling}
                console.print(f"compiled for batch {batch} in {compiling:.0f} s, with the first steps")
        for name in ("fp32", "bf16", "bf16 compiled"):
            if (each := rows.get(f"{name}, batch {batch}")) is not None:
                each["over_fp32"] = each["frames_per_second"] / first["frames_per_second"]
    print_rows(f"Precision and compilation, {COMPARED_STEPS} view steps", rows, "over_fp32", "x fp32")
    return rows


class Recomputing:
    """An engine that computes the past again for every chunk: text, sink and window through the transformer at once.

    The same attention over the same chunks as with the ring, and the same networks otherwise. Its numbers differ where
    the window's oldest chunks once saw older ones.
    """

    def __init__(self, pipe: StreamPipeline, texts: Sequence[str]) -> None:
        self.pipe = pipe
        self.text = pipe.text_encoder.encode(list(texts))
        self.past: list[tuple[Tensor, Tensor]] = []

    def generate(self, state: DreamState, motion_tokens: np.ndarray | None) -> Generated:
        """The next chunk."""
        return self.pipe.generate(state, motion_tokens, cache=self._keys() if self.past else None)

    def finalize(self, state: DreamState, chunk: Generated) -> DreamState:
        """Remember what the chunk's keys and values are made of, and all that is not in the transformer."""
        # Any chunk may stand for the sink: the work is the same.
        tokens = chunk.motion_tokens if self.past else chunk.motion_tokens[:, :1]
        self.past.append((chunk.inputs, tokens))
        sink, window = self.pipe.config.sink, self.pipe.config.window
        del self.past[sink : max(sink, len(self.past) - window)]
        return replace(
            state,
            memory=state.memory.remember(chunk.newest),
            decoder=chunk.decoder,
            noise_key=state.noise_key + torch.tensor([0, 0, 1]),
        ).with_bodies(chunk.bodies)

    @torch.inference_mode()
    def _keys(self) -> TransformerCache:
        video, motion = (torch.cat(parts, dim=1) for parts in zip(*self.past, strict=True))
        batch = len(video)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.pipe.precision == "bf16"):
            return self.pipe.transformer(
                video,
                self.text.tokens.float(),
                torch.zeros(batch, video.shape[1]),
                motion,
                torch.zeros(batch, motion.shape[1]),
                text_mask=self.text.mask,
                temporal="causal",
                return_cache=True,
            ).cache


def time_recomputed(args: Args, pipe: StreamPipeline, scene: Scene) -> dict[str, Any]:
    """Cached against recomputed."""
    rows: dict[str, dict[str, float]] = {}
    for batch in COMPARED_BATCHES:
        count = args.count(batch)
        with view_steps(pipe, COMPARED_STEPS):
            slow = Recomputing(pipe, [scene.walk.text] * batch)
            rows[f"recomputed, batch {batch}"] = given_body(pipe, scene, batch, count, slow)
            rows[f"cached, batch {batch}"] = given_body(pipe, scene, batch, count)
        for name in ("recomputed", "cached"):
            each, base = rows[f"{name}, batch {batch}"], rows[f"recomputed, batch {batch}"]
            each["over_recomputed"] = each["frames_per_second"] / base["frames_per_second"]
    print_rows(f"Cache, {COMPARED_STEPS} view steps", rows, "over_recomputed", "x recomputed")
    return rows


@contextmanager
def parts_timed(pipe: StreamPipeline) -> Iterator[dict[str, float]]:
    """Sum up the seconds that steps spend in each part; a part inside another one counts for itself alone."""
    spent: dict[str, float] = defaultdict(float)
    inside: list[float] = [0.0]  # seconds of the parts inside each part that is running

    def timed(name: str | Callable[[dict[str, Any]], str], call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            inside.append(0.0)
            try:
                return call(*args, **kwargs)
            finally:
                took = time.perf_counter() - began
                spent[name if isinstance(name, str) else name(kwargs)] += took - inside.pop()
                inside[-1] += took

        return wrapper

    def of_transformer(kwargs: dict[str, Any]) -> str:
        return "transformer, keys and values of the new chunk" if kwargs.get("return_cache") else "transformer, steps"

    # The networks themselves are called; only a clock is put round them.
    with ExitStack() as stack:
        for name, owner, attribute in (
            ("motion decoder", pipe.motion_vae, "decode_chunk"),
            (of_transformer, pipe.transformer, "forward"),
            ("video decoder", pipe.video_vae, "decode"),
            ("video encoder, of the remembered views", pipe.video_vae, "encode_chunks"),
            ("drawing of the remembered views and the body", pipeline, "view_condition"),
            ("depth of the newest view", pipe.depth_net, "forward"),
            ("body: poses and features", BodyState, "advance"),
            ("noise", stream, "keyed_normal"),
        ):
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        yield spent


def time_parts(args: Args, pipe: StreamPipeline, scene: Scene) -> dict[str, Any]:
    """Where the time of a step goes."""
    told: dict[str, Any] = {}
    for batch in COMPARED_BATCHES:
        count, state = args.count(batch), scene.begin(pipe, batch)
        with view_steps(pipe, COMPARED_STEPS), parts_timed(pipe) as spent:
            for step in range(WARM_UP):
                state = pipe.finalize(state, pipe.generate(state, scene.action(step, batch)))
            spent.clear()
            began = time.perf_counter()
            for step in range(count):
                state = pipe.finalize(state, pipe.generate(state, scene.action(step, batch)))
            total = time.perf_counter() - began
            parts = dict(spent)
        parts["rest: copies, checks"] = total - sum(parts.values())
        print_table(
            f"Where the time of a step goes, batch {batch}, {COMPARED_STEPS} view steps",
            ("part", "ms a step", "share"),
            [(n, 1000 * s / count, f"{s / total:.0%}") for n, s in sorted(parts.items(), key=lambda p: -p[1])],
        )
        told[f"batch {batch}"] = {
            "ms": {name: 1000 * seconds / count for name, seconds in parts.items()},
            "decoder_share": parts["video decoder"] / total,
        }
    return told


def time_bodies(args: Args, pipe: StreamPipeline, scene: Scene) -> dict[str, Any]:
    """The body dreamt too, against a given one."""
    rows: dict[str, dict[str, float]] = {}
    for batch in COMPARED_BATCHES:
        count = args.count(batch)
        with view_steps(pipe, COMPARED_STEPS):
            rows[f"body given, batch {batch}"] = base = given_body(pipe, scene, batch, count)
            times = time_dreams(pipe, scene.begin(pipe, batch), lambda step: None, count)
            rows[f"body dreamt, batch {batch}"] = row = times.summary()
        base["over_given"], row["over_given"] = 1.0, row["frames_per_second"] / base["frames_per_second"]
    title = f"The body dreamt too, {pipe.config.body_steps} steps, with and without text; {COMPARED_STEPS} view steps"
    print_rows(title, rows, "over_given", "x given")
    return rows


def measure_memory(pipe: StreamPipeline, scene: Scene, resident: dict[str, int]) -> dict[str, Any]:
    """Bytes of the process and of a dream's state."""
    state = scene.begin(pipe, 1)
    of_state = sum(tensor.nbytes for tensor in state.tensors().values())
    networks = (pipe.video_vae, pipe.depth_net, pipe.motion_vae, pipe.transformer)
    weights = sum(p.nbytes for part in networks for p in part.parameters())
    rows = {name: value / 1e6 for name, value in resident.items()}
    rows |= {"weights alone": weights / 1e6, "state of one dream": of_state / 1e6}
    print_table("Memory", ("", "MB"), list(rows.items()))
    return rows


def judge(rows: dict[str, dict[str, float]]) -> dict[str, bool]:
    """Print the goals and whether they are met."""
    met = {}
    for batch, goal in GOALS.items():
        reached = rows[f"{COMPARED_STEPS} steps, batch {batch}"]["frames_per_second"]
        met[f"batch {batch}"] = reached >= goal
        console.print(
            f"goal: at least {goal:g} frames/s at batch {batch} with {COMPARED_STEPS} steps, "
            f"{'met' if reached >= goal else 'NOT met'}: {reached:.1f}"
        )
    return met


def run(args: Args) -> dict[str, Any]:
    """Make the tables that are asked for."""
    if args.steps < 1 or args.threads < 1:
        raise UserError(f"--steps {args.steps} --threads {args.threads}: give 1 or more of each")
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    resident = {"process with torch, before loading": resident_bytes()}
    pipe = StreamPipeline.from_pretrained(args.weights)
    loading = time.perf_counter() - began
    scene = Scene.make(pipe, args.seed)
    resident["after loading"] = resident_bytes()
    result: dict[str, Any] = {
        "run": machine() | {"weights": args.weights, "steps": args.steps, "warm_up": WARM_UP, "seed": args.seed},
        "load_s": loading,
    }
    console.print(f"{args.threads} threads, {WARM_UP} steps of warm-up in each row; weights loaded in {loading:.1f} s")
    tables: dict[str, Callable[[Args, StreamPipeline, Scene], dict[str, Any]]] = {
        "env": time_env,
        "batch": time_batches,
        "recompute": time_recomputed,
        "parts": time_parts,
        "body": time_bodies,
        "precision": time_precisions,
    }
    for name, make in tables.items():
        if name in args.only:
            result[name] = make(args, pipe, scene)
            resident[f"after the table {name}"] = resident_bytes()
    if "memory" in args.only:
        result["memory_mb"] = measure_memory(pipe, scene, resident)
    if "batch" in args.only:
        result["goals_met"] = judge(result["batch"])
    console.print(f"{time.perf_counter() - began:.0f} s in all")
    return result


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a folder")
    parser.add_argument("--steps", type=int, default=100, help="timed steps at batch 1")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="tables to make")
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
