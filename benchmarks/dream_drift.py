"""Whether a long dream stays a picture of a room: figures for every 5 seconds of a minute of walking and turning.

    python benchmarks/dream_drift.py [--rooms 32] [--seconds 60] [--weights nano] [--out FILE.json] [--sheet FILE.png]
    python benchmarks/dream_drift.py --soak 2000 [--out FILE.json]

Rooms and motions are made here, with seeds that no training uses; the true frames are rendered along the same motion.
With --soak N, one dream of N chunks is watched instead: resident memory and step times. Run that on a machine that does
nothing else. benchmarks/README.md says how each figure is defined.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import console, machine, print_table, write_json
from dream_quality import reconstruct_view
from long_walk import LongWalk, advance, begin, long_walks
from memory import resident_bytes
from rich.progress import track

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.colour import ColourStatistics
from egotwin_sim.metrics.frechet import frechet_distance, latent_features
from egotwin_sim.metrics.sharpness import gradient_p99
from egotwin_sim.metrics.sheet import contact_sheet, save_sheet
from egotwin_sim.pipelines import StreamPipeline

FRAMES_PER_CHUNK = 4
SEGMENT_SECONDS = 5.0
LIMIT = 2.0  # the last segment's distance over the first one's, at most
SHEET_ROOMS = 6
SHEET_SECONDS = 5.0  # between two pictures of a strip

SOAK_EARLY = (50, 150)  # chunks that the soak's last ones are compared with
SOAK_LAST = 100
SOAK_MEMORY = 0.02  # growth of resident memory, at most
SOAK_TIME = 0.10  # change of the median step time, at most


@dataclass
class Args:
    """Settings of a run."""

    weights: str
    """Shipped weights by name, or a folder."""
    rooms: int
    """Held-out rooms."""
    seconds: float
    """Length of a dream."""
    batch: int
    """Dreams at once."""
    soak: int
    """Chunks of the one dream of a soak; 0 measures drift."""
    seed: int
    """Of motions and noise."""
    threads: int
    """Torch threads; 0 leaves the default."""
    out: Path
    """The JSON file."""
    sheet: Path | None
    """Strips of a few rooms, PNG."""


@dataclass
class Seen:
    """What is kept of the frames of one kind, by segment: a list of one array for each room."""

    features: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    sharpness: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    colours: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))

    def add(self, frames: np.ndarray, per_segment: int, pipe: StreamPipeline) -> None:
        """Measure the frames uint8 (T, H, W, 3) of one room, of which the first one was given."""
        features = latent_features(frames, pipe.video_vae)
        colours = ColourStatistics.of(frames)
        table = np.column_stack([colours.mean, colours.std, colours.saturation])
        steep = gradient_p99(frames)
        for segment, start in enumerate(range(1, len(frames), per_segment)):
            part = slice(start, start + per_segment)
            self.features[segment].append(features[part])
            self.sharpness[segment].append(steep[part])
            self.colours[segment].append(table[part])

    def colour_means(self, segment: int) -> dict[str, Any]:
        """Mean colour statistics of a segment."""
        mean = np.concatenate(self.colours[segment]).mean(axis=0)
        return {"mean_rgb": mean[:3].tolist(), "std_rgb": mean[3:6].tolist(), "saturation": float(mean[6])}


@dataclass(frozen=True)
class Strip:
    """Pictures of one room for the sheet: uint8 (N, H, W, 3), true and dreamt."""

    truth: np.ndarray
    dream: np.ndarray
    title: str


@torch.inference_mode()
def roll_out(pipe: StreamPipeline, walks: list[LongWalk], first_frames: np.ndarray, seed: int) -> np.ndarray:
    """Frames uint8 (B, T, H, W, 3) of the dreams of some walks of one length, the given first one included."""
    tokens = np.stack([walk.tokens(pipe) for walk in walks])
    state = begin(pipe, walks, first_frames, seed)
    frames = [first_frames[:, None]]
    for chunk in track(range(tokens.shape[1]), f"{len(walks)} dreams", console=console):
        state, coming = advance(pipe, state, tokens[:, chunk])
        frames.append(coming.cpu().numpy())
    return np.concatenate(frames, axis=1)


def measure(args: Args, pipe: StreamPipeline) -> tuple[dict[str, Seen], list[Strip]]:
    """Dream, film and measure all rooms; "dream", "truth", and "video VAE", the truth through the VAE and back."""
    fps, size = pipe.config.video_fps, pipe.config.image_size
    per_segment, every = round(SEGMENT_SECONDS * fps), round(SHEET_SECONDS * fps)
    walks = long_walks(args.rooms, args.seconds, args.seed)
    seen = {name: Seen() for name in ("dream", "truth", "video VAE")}
    strips: list[Strip] = []
    for start in range(0, len(walks), args.batch):
        part = walks[start : start + args.batch]
        truth = [walk.film(size) for walk in track(part, "true frames", console=console)]
        dreams = roll_out(pipe, part, np.stack([frames[0] for frames in truth]), args.seed)
        for walk, true, dreamt in zip(part, truth, dreams, strict=True):
            seen["truth"].add(true, per_segment, pipe)
            seen["dream"].add(dreamt, per_segment, pipe)
            seen["video VAE"].add(reconstruct_view(pipe, true), per_segment, pipe)
            if len(strips) < SHEET_ROOMS:
                strips.append(Strip(true[::every], dreamt[::every], f"room {walk.layout.seed}: {walk.text}, ..."))
    return seen, strips


def segment_figures(seen: dict[str, Seen], segment: int) -> dict[str, Any]:
    """The figures of one segment."""
    truth = seen["truth"]
    rooms = truth.features[segment]
    true = np.concatenate(rooms)

    def distance(name: str) -> float:
        return frechet_distance(np.concatenate(seen[name].features[segment]), true)

    def sharpness(name: str) -> float:
        means = [float(np.concatenate(each.sharpness[segment]).mean()) for each in (seen[name], truth)]
        return means[0] / max(means[1], 1e-9)

    halves = rooms[::2], rooms[1::2]
    between = frechet_distance(*map(np.concatenate, halves)) if len(rooms) > 1 else float("nan")
    return {
        "frechet": distance("dream"),
        "frechet_video_vae": distance("video VAE"),
        "frechet_halves_of_truth": between,
        "sharpness": sharpness("dream"),
        "sharpness_video_vae": sharpness("video VAE"),
        "colours": seen["dream"].colour_means(segment),
        "true_colours": truth.colour_means(segment),
    }


def measure_drift(args: Args, pipe: StreamPipeline) -> dict[str, Any]:
    """Figures for every segment, and the verdict."""
    seconds = args.seconds / SEGMENT_SECONDS
    if args.rooms < 1 or args.batch < 1 or seconds < 2 or seconds != round(seconds):
        raise UserError(
            f"--rooms {args.rooms} --batch {args.batch} --seconds {args.seconds:g}: give 1 or more rooms and dreams at "
            f"once, and a multiple of {SEGMENT_SECONDS:g} seconds, at least two segments"
        )
    seen, strips = measure(args, pipe)
    names = [f"{SEGMENT_SECONDS * i:g} to {SEGMENT_SECONDS * (i + 1):g} s" for i in range(round(seconds))]
    rows = {name: segment_figures(seen, i) for i, name in enumerate(names)}
    first, last = rows[names[0]]["frechet"], rows[names[-1]]["frechet"]
    ratio, met = last / first, last <= LIMIT * first
    print_table(
        f"Frechet distance to the true frames (video VAE's latents), and sharpness; {args.rooms} rooms",
        ("", "dream", "over the first", "video VAE", "halves of the truth", "sharpness", "video VAE's"),
        [
            (n, r["frechet"], r["frechet"] / first, r["frechet_video_vae"], r["frechet_halves_of_truth"],
             r["sharpness"], r["sharpness_video_vae"])
            for n, r in rows.items()
        ],
    )  # fmt: skip

    def colours(told: dict[str, Any]) -> tuple[str, str, float]:
        return (
            " ".join(f"{x:.0f}" for x in told["mean_rgb"]),
            " ".join(f"{x:.0f}" for x in told["std_rgb"]),
            float(told["saturation"]),
        )

    print_table(
        "Colours, grey levels, dream and truth",
        ("", "mean R G B", "std R G B", "saturation", "true mean", "true std", "true saturation"),
        [(n, *colours(r["colours"]), *colours(r["true_colours"])) for n, r in rows.items()],
    )
    console.print(
        f"goal: the last segment's distance at most {LIMIT:g} times the first one's, {'met' if met else 'NOT met'}: "
        f"{ratio:.2f} times"
    )
    if args.sheet is not None:
        times = [f"{SHEET_SECONDS * i:g} s" for i in range(len(strips[0].truth))]
        truth, dream = np.stack([strip.truth for strip in strips]), np.stack([strip.dream for strip in strips])
        save_sheet(args.sheet, contact_sheet(truth, dream, [strip.title for strip in strips], times, columns=1))
        console.print(f"wrote {args.sheet}")
    return {"segments": rows, "last_over_first": ratio, "goal_met": met}


@torch.inference_mode()
def soak(args: Args, pipe: StreamPipeline) -> dict[str, Any]:
    """One dream of many chunks: does memory grow, do steps get slower?"""
    least = SOAK_EARLY[1] + SOAK_LAST
    if args.soak < least:
        raise UserError(f"--soak {args.soak}: give at least {least} chunks, early and late ones are compared")
    step_seconds = FRAMES_PER_CHUNK / pipe.config.video_fps
    console.print(f"planning {args.soak * step_seconds:g} s of walking and turning")
    walk = long_walks(1, args.soak * step_seconds, args.seed)[0]
    tokens = walk.tokens(pipe)[None]
    first = walk.film(pipe.config.image_size, stop=1)
    state = begin(pipe, [walk], first, args.seed)
    # Filled now, so that the figures kept of the soak are not what grows.
    seconds, resident = np.zeros(args.soak), np.zeros(args.soak)
    for chunk in track(range(args.soak), "soak", console=console):
        began = time.perf_counter()
        state, frames = advance(pipe, state, tokens[:, chunk])
        seconds[chunk] = time.perf_counter() - began
        resident[chunk] = resident_bytes()
    parts = {f"chunks {SOAK_EARLY[0]} to {SOAK_EARLY[1]}": slice(*SOAK_EARLY), "last": slice(-SOAK_LAST, None)}
    early, late = ((float(np.median(resident[p])), float(np.median(seconds[p]))) for p in parts.values())
    grown, slower = late[0] / early[0] - 1, late[1] / early[1] - 1
    met = {"memory": grown < SOAK_MEMORY, "time": abs(slower) <= SOAK_TIME}
    newest = frames[0].cpu().numpy()
    true = walk.film(pipe.config.image_size, 1 + (args.soak - 1) * FRAMES_PER_CHUNK)
    end, wanted = ColourStatistics.of(newest), ColourStatistics.of(true)
    print_table(
        f"Soak of {args.soak} chunks, {args.soak * step_seconds:g} s of dream",
        ("", "resident MB", "median step ms"),
        [(name, memory / 1e6, 1000 * median) for name, (memory, median) in zip(parts, (early, late), strict=True)],
    )
    console.print(
        f"goal: resident memory grows by less than {SOAK_MEMORY:.0%}, {'met' if met['memory'] else 'NOT met'}: "
        f"{grown:+.2%}\ngoal: median step time changes by at most {SOAK_TIME:.0%}, "
        f"{'met' if met['time'] else 'NOT met'}: {slower:+.1%}\n"
        f"last frames: standard deviation {end.std.mean():.0f} grey levels (true ones {wanted.std.mean():.0f}), "
        f"saturation {end.saturation.mean():.2f} ({wanted.saturation.mean():.2f})"
    )
    return {
        "chunks": args.soak,
        "resident_mb": {"early": early[0] / 1e6, "late": late[0] / 1e6, "growth": grown},
        "step_ms": {"early": 1000 * early[1], "late": 1000 * late[1], "change": slower},
        "step_ms_along": [float(1000 * np.median(part)) for part in np.array_split(seconds, args.soak // SOAK_LAST)],
        "last_frames": {"std": end.std.mean(), "saturation": end.saturation.mean()},
        "last_true_frames": {"std": wanted.std.mean(), "saturation": wanted.saturation.mean()},
        "goals_met": met,
    }


def run(args: Args) -> dict[str, Any]:
    """Measure what is asked for."""
    if args.threads:
        torch.set_num_threads(args.threads)
    pipe = StreamPipeline.from_pretrained(args.weights)
    about = machine() | {"weights": args.weights, "seed": args.seed, "view_steps": pipe.config.view_steps}
    if args.soak:
        return {"run": about, "soak": soak(args, pipe)}
    about |= {"rooms": args.rooms, "seconds": args.seconds, "batch": args.batch}
    return {"run": about} | measure_drift(args, pipe)


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a folder")
    parser.add_argument("--rooms", type=int, default=32, help="held-out rooms")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a dream")
    parser.add_argument("--batch", type=int, default=8, help="dreams at once")
    parser.add_argument("--soak", type=int, default=0, metavar="CHUNKS", help="watch one long dream instead")
    parser.add_argument("--seed", type=int, default=0, help="of motions and noise")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves the default")
    parser.add_argument("--out", type=Path, help="JSON file; outputs/dream_drift.json or outputs/dream_soak.json")
    parser.add_argument("--sheet", type=Path, help="strips of a few rooms, PNG file")
    given = parser.parse_args()
    given.out = given.out or Path(f"outputs/dream_{'soak' if given.soak else 'drift'}.json")
    args = Args(**vars(given))
    try:
        result = run(args)
    except (UserError, FloatingPointError) as error:
        parser.exit(2, f"error: {error}\n")
    write_json(args.out, result)


if __name__ == "__main__":
    main()
