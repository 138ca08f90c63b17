"""How fast the dream runs on an NVIDIA GPU, and how much of the card it uses; needs no weights.

    python benchmarks/gpu_speed.py [--sizes nano small] [--batches 1 8 32] [--steps 100] [--peak TFLOPS] [--out FILE]

Random weights: speed does not depend on them. One table times a denoising step of the transformer alone (eager, in a
CUDA graph, compiled, compiled in a CUDA graph) and gives its model FLOPs utilisation: the products that the model needs
(torch.utils.flop_counter), over the time, over the card's peak. The other times whole steps of the engine, generate and
finalize, eager and compiled.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import console, machine, print_table, write_json
from dream_speed import COMPARED_STEPS, FRAMES_PER_CHUNK, Scene, compiled, given_body, view_steps
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from egotwin_sim.errors import UserError
from egotwin_sim.models import EgoTwinTransformer3DModel, MotionVAE, VideoVAE, load_text_encoder
from egotwin_sim.models.depth import DepthNet
from egotwin_sim.pipelines import DreamState, StreamConfig, StreamPipeline
from egotwin_sim.pipelines.pipeline import cast_products
from egotwin_sim.training.config import config_names, load_config

# The 300 M geometry: 256 x 256 pictures, 16 layers of 1024 (text and video) and 8 of 512 (motion); what is not named
# here is nano's. A configuration file `small`, once there is one, goes first.
SMALL: dict[str, dict[str, Any]] = {
    "video_vae": {"encoder_channels": [128, 256], "decoder_channels": [256, 128]},
    "transformer": {
        "num_attention_heads": 16,
        "num_layers": 16,
        "time_embed_dim": 256,
        "sample_width": 32,
        "sample_height": 32,
        "motion_dim": 512,
    },
}
# Peak of dense bf16 matrix products with float32 sums, TFLOP/s, from NVIDIA's data sheets (half of the figures "with
# sparsity"). By a part of the card's name, the more particular first.
PEAK_TFLOPS = {
    "H200 NVL": 835.0,
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
}
WINDOW = 4
WARM_UP = 10


@dataclass
class Args:
    """Settings of a run."""

    sizes: list[str]
    """Model sizes."""
    batches: list[int]
    """Dreams at once."""
    steps: int
    """Timed calls of each row."""
    peak: float
    """The card's peak, TFLOP/s; 0 looks it up."""
    seed: int
    """Of weights, room and noise."""
    out: Path
    """The JSON file."""


def models_of(size: str) -> dict[str, dict[str, Any]]:
    """The constructors' arguments of each network.

    Raises:
        UserError: no such size.
    """
    if size in config_names():
        return load_config(size)["models"]
    if size != "small":
        raise UserError(f"unknown size {size!r}; expected {', '.join(config_names())} or small")
    nano = load_config("nano")["models"]
    return {name: section | SMALL.get(name, {}) for name, section in nano.items()}


def random_pipeline(models: dict[str, dict[str, Any]], device: str, seed: int) -> StreamPipeline:
    """A pipeline with weights that have learnt nothing."""
    torch.manual_seed(seed)
    config = StreamConfig(
        image_size=8 * models["transformer"]["sample_height"], text_encoder=models["text_encoder"], window=WINDOW
    )
    networks: list[Any] = [
        kind(**models[name]).to(device)
        for name, kind in (
            ("video_vae", VideoVAE), ("depth", DepthNet), ("motion_vae", MotionVAE),
            ("transformer", EgoTwinTransformer3DModel),
        )
    ]  # fmt: skip
    for network in networks:
        if not isinstance(network, MotionVAE):
            cast_products(network)  # as loaded weights are
    return StreamPipeline(*networks, load_text_encoder(config.text_encoder), config)


def count_flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions of a call, a multiply-add counting two.

    The call is made once before: what the first one makes for good is not counted.
    """
    call()
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def denoising_step(pipe: StreamPipeline, state: DreamState) -> Callable[[], Any]:
    """One evaluation of the transformer for the next chunk of some dreams, in bfloat16 throughout.

    A CUDA graph can hold it: its inputs stay where they are, and nothing in it asks the GPU for a value. Text counts
    without padding, whose test would ask.
    """
    transformer = nn.Module.to(copy.deepcopy(pipe.transformer), torch.bfloat16)
    config, batch = transformer.config, len(state)
    like: dict[str, Any] = {"device": pipe.device, "dtype": torch.bfloat16}
    video = torch.randn(batch, 1, config.in_channels, config.sample_height, config.sample_width, **like)
    tokens = torch.randn(batch, 2, config.motion_channels, **like)
    with torch.inference_mode():
        keys = transformer.ready(replace(state.cache, text_mask=None))
        told = transformer.chunk_modulations(500.0, 0.0)

    @torch.inference_mode()
    def call() -> Any:
        return transformer(video, None, None, tokens, temporal="causal", cache=keys, modulations=told).video

    return call


def graphed(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same call, recorded in a CUDA graph and played again."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated and chosen once must not be recorded
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def time_calls(call: Callable[[], Any], count: int) -> np.ndarray:
    """Seconds (count,) of a call on the GPU, each waited for, after `WARM_UP` calls."""
    seconds = np.empty(count)
    for i in range(-WARM_UP, count):
        torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if i >= 0:
            seconds[i] = time.perf_counter() - began
    return seconds


def full_window(pipe: StreamPipeline, scene: Scene, batch: int) -> DreamState:
    """Dreams whose attention window is full."""
    state = scene.begin(pipe, batch)
    for step in range(pipe.config.sink + pipe.config.window):
        state = step_once(pipe, state, scene.action(step, batch))
    return state


def time_transformer(args: Args, pipe: StreamPipeline, scene: Scene, peak: float) -> dict[str, Any]:
    """One denoising step of the transformer, four ways."""
    rows: dict[str, dict[str, float]] = {}
    for batch in args.batches:
        state = full_window(pipe, scene, batch)
        call = denoising_step(pipe, state)
        flops = count_flops(call)
        ways: dict[str, Callable[[], Any]] = {"eager": call, "CUDA graph": graphed(call)}
        timed = {name: time_calls(way, args.steps) for name, way in ways.items()}
        with compiled(pipe):
            began = time.perf_counter()
            call()
            torch.cuda.synchronize()
            console.print(f"compiled for batch {batch} in {time.perf_counter() - began:.0f} s")
            timed["compiled"] = time_calls(call, args.steps)
            timed["compiled, CUDA graph"] = time_calls(graphed(call), args.steps)
        for name, seconds in timed.items():
            median, p99 = (float(np.percentile(seconds, q)) for q in (50, 99))
            rows[f"{name}, batch {batch}"] = {
                "median_ms": 1000 * median,
                "p99_ms": 1000 * p99,
                "gflop": flops / 1e9,
                "tflops": flops / median / 1e12,
                "mfu": flops / median / 1e12 / peak,
            }
    print_table(
        "One denoising step of the transformer, bf16",
        ("", "median ms", "P99 ms", "GFLOP", "TFLOP/s", "of the peak"),
        [
            (n, r["median_ms"], r["p99_ms"], r["gflop"], r["tflops"], f"{r['mfu']:.1%}")
            for n, r in rows.items()
        ],
    )  # fmt: skip
    return rows


def step_once(pipe: StreamPipeline, state: DreamState, motion_tokens: np.ndarray) -> DreamState:
    """Generate and finalize."""
    return pipe.finalize(state, pipe.generate(state, motion_tokens))


def time_engine(args: Args, pipe: StreamPipeline, scene: Scene, peak: float) -> dict[str, Any]:
    """Whole steps, eager and compiled."""
    rows: dict[str, dict[str, float]] = {}
    with view_steps(pipe, COMPARED_STEPS):
        for batch in args.batches:
            flops = count_flops(partial(step_once, pipe, full_window(pipe, scene, batch), scene.action(0, batch)))
            waiting = Waiting(pipe)
            rows[f"eager, batch {batch}"] = given_body(pipe, scene, batch, args.steps, waiting)
            with compiled(pipe):
                given_body(pipe, scene, batch, 1, waiting)
                rows[f"compiled, batch {batch}"] = given_body(pipe, scene, batch, args.steps, waiting)
            for way in ("eager", "compiled"):
                row = rows[f"{way}, batch {batch}"]
                rate = row["frames_per_second"] / (batch * FRAMES_PER_CHUNK)
                row |= {"gflop": flops / 1e9, "mfu": flops * rate / 1e12 / peak}
    print_table(
        f"Whole steps: generate and finalize, {COMPARED_STEPS} view steps, bf16 autocast",
        ("", "median ms", "P99 ms", "ms to frames", "frames/s", "GFLOP", "of the peak"),
        [
            (n, r["median_ms"], r["p99_ms"], r["until_frames_ms"], r["frames_per_second"], r["gflop"],
             f"{r['mfu']:.1%}")
            for n, r in rows.items()
        ],
    )  # fmt: skip
    return rows


class Waiting:
    """An engine that waits for the GPU, so that a clock beside it tells the truth."""

    def __init__(self, pipe: StreamPipeline) -> None:
        self.pipe = pipe

    def generate(self, state: DreamState, motion_tokens: np.ndarray | None) -> Any:
        """The next chunk, its frames on the host."""
        chunk = self.pipe.generate(state, motion_tokens)
        chunk.frames.cpu()
        return chunk

    def finalize(self, state: DreamState, chunk: Any) -> DreamState:
        """The state with the chunk remembered."""
        state = self.pipe.finalize(state, chunk)
        torch.cuda.synchronize()
        return state


def peak_of(card: str, given: float) -> float:
    """The card's peak in TFLOP/s.

    Raises:
        UserError: the card is not in the table and no figure is given.
    """
    peak = given or next((peak for name, peak in PEAK_TFLOPS.items() if name in card), 0.0)
    if not peak:
        raise UserError(f"the peak of {card} is not known here: give its dense bf16 TFLOP/s as --peak")
    return peak


def run(args: Args) -> dict[str, Any]:
    """Time every size."""
    if not torch.cuda.is_available():
        raise UserError("there is no CUDA GPU here, or torch was built without CUDA: run it on a machine with one")
    if args.steps < 1 or min(args.batches) < 1:
        raise UserError(f"--steps {args.steps} --batches {args.batches}: give 1 or more of each")
    card = torch.cuda.get_device_name()
    peak = peak_of(card, args.peak)
    console.print(f"{card}, peak {peak:g} TFLOP/s (dense bf16), CUDA {torch.version.cuda}")
    about = machine() | {"card": card, "peak_tflops": peak, "cuda": torch.version.cuda, "seed": args.seed}
    result: dict[str, Any] = {"run": about | {"steps": args.steps, "warm_up": WARM_UP}}
    for size in args.sizes:
        torch.cuda.reset_peak_memory_stats()
        pipe = random_pipeline(models_of(size), "cuda", args.seed)
        millions = sum(p.numel() for p in pipe.transformer.parameters()) / 1e6
        console.print(f"{size}: transformer of {millions:.0f} M parameters, {pipe.config.image_size} pixels")
        scene = Scene.make(pipe, args.seed)
        result[size] = {
            "transformer_parameters": millions * 1e6,
            "transformer": time_transformer(args, pipe, scene, peak),
            "engine": time_engine(args, pipe, scene, peak),
            "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9,
        }
        console.print(f"most GPU memory used: {result[size]['peak_memory_gb']:.2f} GB")
    return result


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["nano", "small"], help="nano, small or a configuration's name")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32], help="dreams at once")
    parser.add_argument("--steps", type=int, default=100, help="timed calls of each row")
    parser.add_argument("--peak", type=float, default=0.0, help="the card's dense bf16 peak, TFLOP/s")
    parser.add_argument("--seed", type=int, default=0, help="of weights, room and noise")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_speed.json"), help="JSON file")
    args = Args(**vars(parser.parse_args()))
    try:
        result = run(args)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    write_json(args.out, result)


if __name__ == "__main__":
    main()
