"""The paper's ablations and its baseline, trained at nano scale on the room with equal budgets, beside its own table.

    python benchmarks/ablations.py [--data DIR] [--out outputs/ablations] [--seeds 2] [--minutes 75 | --steps N]

Trains every variant of `egotwin train ablation` with every seed, generates T2VM clips of held-out rooms with each, and
prints the paper's figures, ours (mean over seeds, with half of their range), and who wins. Run again after an
interruption: runs that are trained and figures that are measured are kept. benchmarks/README.md says how each figure is
defined.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import console, machine, print_table, write_json
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.data import Camera, Clip, LeRobotReader
from egotwin_sim.data.parts import begin_worker
from egotwin_sim.data.room import generate_room_dataset
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.consistency import GeneratedClip, consistency_report
from egotwin_sim.metrics.ego_motion import EgoMotion
from egotwin_sim.metrics.frechet import frechet_distance, latent_features
from egotwin_sim.metrics.hand_detector import PaintedHands
from egotwin_sim.metrics.pairing import pairing
from egotwin_sim.metrics.text_motion import TOP, TextMotionMatcher, train_matcher
from egotwin_sim.metrics.video_features import video_features
from egotwin_sim.models import VideoVAE, load_text_encoder
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines import EgoTwinPipeline
from egotwin_sim.pipelines.pipeline import settle_weights
from egotwin_sim.pipelines.tokens import motion_tokens
from egotwin_sim.pipelines.video_codec import VideoCodec
from egotwin_sim.pipelines.weights import find_weights
from egotwin_sim.training.ablations import (
    MODEL,
    VARIANTS,
    joint_steps,
    pictures_of,
    scaled,
    train_variant,
    variant_config,
)
from egotwin_sim.training.config import Section, load_config

MADE_HERE = Path("outputs/ablation_rooms")
MADE_SEED, MADE_CLIPS = 900_101, 1400  # rooms that no shipped weights were trained on
BATCH = 16  # clips generated at once
SEEN_AT = 128  # pixels; the instruments of consistency were made for pictures of this size
FIGURES = "figures.json"
BUDGET = "budget.json"

# Of the budget, measured on cores of an AMD EPYC. With two processes: pictures of the model's size, two motion VAEs,
# latents and text, and the three rows of reference. With one: a run's start and its figures.
PREPARATION_MINUTES = 12.0
RUN_MINUTES = 2.7
TIMED_STEPS = 4


REFERENCES = ("true clips", "through the video VAE", "nothing moves")


class Figure(NamedTuple):
    """A column of the table: its name and whether more is better."""

    name: str
    up: bool


COLUMNS = {
    "i_fid": Figure("I-FID", False),
    "fvd": Figure("FVD", False),
    "m_fid": Figure("M-FID", False),
    "r_prec": Figure("R-Prec", True),
    "mm_dist": Figure("MM-Dist", False),
    "trans_err": Figure("TransErr", False),
    "rot_err": Figure("RotErr", False),
    "hand_score": Figure("HandScore", True),
}

# Of the network itself, on held-out clips (`metrics/pairing.py`); the paper has nothing of the kind.
OWN_COLUMNS = {
    "video_error": Figure("video error", False),
    "motion_error": Figure("motion error", False),
    "video_gain": Figure("video hears motion", True),
    "motion_gain": Figure("motion hears video", True),
    "recovered": Figure("camera recovered", True),
}

# arXiv 2508.13013, the main table and the table of ablations, by the names of our variants and in the order of COLUMNS;
# None where the sources that we have do not give the figure.
PAPER_ROWS: dict[str, tuple[float | None, ...]] = {
    "full": (98.17, 1033.52, 41.80, 0.62, 15.05, 0.67, 0.46, 0.81),
    "root-centric": (134.27, 1356.81, 43.65, 0.56, None, 0.96, 1.22, 0.44),
    "no-interaction": (117.54, 1237.58, 44.01, 0.59, None, 0.85, 0.89, 0.57),
    "shared-timestep": (109.73, 1124.19, 42.58, 0.53, None, 0.74, 0.62, 0.73),
    "vidmld": (157.86, 1547.28, 45.09, 0.47, 19.12, 1.28, 1.53, 0.36),
}
PAPER = {name: dict(zip(COLUMNS, row, strict=True)) for name, row in PAPER_ROWS.items()}


@dataclass(frozen=True)
class Args:
    """Settings of a run."""

    data: Path | None
    """A dataset of `egotwin data room`; None makes one."""
    out: Path
    """The folder of all runs."""
    json: Path
    """The JSON file of all figures."""
    config: str
    """A configuration, or a YAML file."""
    variants: tuple[str, ...]
    """Which ones."""
    seeds: int
    """How many of each."""
    minutes: float | None
    """Of the whole benchmark on this machine; the number of steps follows from it at the first call."""
    steps: int | None
    """Of the joint stage, instead."""
    clips: int
    """Held-out clips that are generated with each run."""
    sampling_steps: int
    """Denoising steps."""
    guidance: float
    """Weight of the text, and of the other modality where there are two timesteps."""
    recovery: str
    """The ego-motion head: shipped weights by name, or a folder."""
    workers: int
    """Processes, with a thread each: for networks as small as these that is faster than threads."""


class Judge:
    """The instruments, made once from the training split, and the held-out clips that all runs are compared on."""

    def __init__(self, pictures: LeRobotReader, count: int, text_encoder: Section, recovery: str) -> None:
        episodes = pictures.split("val")
        if not TOP < count <= len(episodes):
            raise UserError(
                f"--clips {count}: give {TOP + 1} to {len(episodes)}, the held-out clips of {pictures.root}"
            )
        chosen = [episodes[i] for i in np.unique(np.linspace(0, len(episodes) - 1, count).round().astype(int))]
        self.episodes = chosen
        self.clips = [pictures.clip(episode, depth=False) for episode in chosen]
        self.vae = VideoVAE.from_pretrained(find_weights("nano") / "video_vae").float().eval()
        encoder = self.encoder = load_text_encoder(text_encoder)

        def pooled(texts: list[str]) -> Tensor:
            return torch.cat([encoder.encode(texts[i : i + 64]).pooled for i in range(0, len(texts), 64)]).cpu()

        train = pictures.split("train")
        motions = [pictures.motion(episode) for episode in train]
        self.matcher: TextMotionMatcher = train_matcher(motions, pooled([pictures.text(episode) for episode in train]))
        self.texts = pooled([clip.text for clip in self.clips])
        self.frames = latent_features(_all_frames([clip.video for clip in self.clips]), self.vae)
        self.seconds = video_features(np.stack([clip.video for clip in self.clips])[:, 1:], self.vae)
        self.moves = self.matcher.describe([clip.motion for clip in self.clips])
        try:
            self.recovery: EgoMotion | None = EgoMotion.from_pretrained(recovery)
        except UserError as error:
            console.print(f"TransErr, RotErr and HandScore are left out: {error}")
            self.recovery = None

    def figures(self, videos: list[np.ndarray], motions: list[Motion]) -> dict[str, Any]:
        """All figures of clips that were generated for the held-out ones, in their order."""
        matched = self.matcher.score(motions, self.texts)
        found: dict[str, Any] = {
            "i_fid": frechet_distance(latent_features(_all_frames(videos), self.vae), self.frames),
            "fvd": frechet_distance(video_features(np.stack(videos)[:, 1:], self.vae), self.seconds),
            "m_fid": frechet_distance(self.matcher.describe(motions), self.moves),
            "r_prec": matched.r_precision,
            "mm_dist": matched.distance,
        }
        if self.recovery is not None:
            seen = [
                _seen(video, motion, clip, f"{episode:06d}")
                for video, motion, clip, episode in zip(videos, motions, self.clips, self.episodes, strict=True)
            ]
            report = consistency_report(seen, self.recovery, PaintedHands())
            found |= {
                "trans_err": report.trans_err_m.mean if report.trans_err_m else None,
                "rot_err": report.rot_err.mean if report.rot_err else None,
                "hand_score": report.hands.f if report.hands else None,
                "recovered": report.recovered_share,
                "still": report.still_share,
            }
        return found

    def reference(self, name: str) -> dict[str, Any]:
        """The figures of one of `REFERENCES`."""
        motions, videos = [clip.motion for clip in self.clips], [clip.video for clip in self.clips]
        if name == "through the video VAE":
            videos = [self._coded(video) for video in videos]
        if name == "nothing moves":
            videos = [np.repeat(video[:1], len(video), axis=0) for video in videos]
            motions = [Motion.concatenate([motion[:1]] * len(motion)) for motion in motions]
        return self.figures(videos, motions)

    @torch.inference_mode()
    def network_figures(self, pipeline: EgoTwinPipeline) -> dict[str, float]:
        """What the denoiser makes of the held-out clips, whole batches at a time."""
        codec = VideoCodec(self.vae)
        pictures = [torch.from_numpy(clip.video).permute(3, 0, 1, 2)[None] for clip in self.clips]
        latents = torch.cat([codec.encode(image_to_unit(picture)) for picture in pictures])
        tokens = np.stack([motion_tokens(clip.motion, pipeline.motion_vae) for clip in self.clips])
        said = self.encoder.encode([clip.text for clip in self.clips])
        given = (latents, torch.from_numpy(tokens), said.tokens, said.mask)
        return asdict(pairing(pipeline.transformer, *(part.to(pipeline.device) for part in given)))

    @torch.inference_mode()
    def _coded(self, video: np.ndarray) -> np.ndarray:
        codec = VideoCodec(self.vae)
        unit = image_to_unit(torch.from_numpy(video).permute(3, 0, 1, 2)[None])
        decoded = codec.decode(codec.encode(unit))[0].clamp(-1, 1)
        return unit_to_image(decoded).permute(1, 2, 3, 0).numpy()


def _all_frames(videos: list[np.ndarray]) -> np.ndarray:
    """All frames but the first ones, which are given."""
    return np.concatenate([video[1:] for video in videos])


def _seen(video: np.ndarray, motion: Motion, clip: Clip, name: str) -> GeneratedClip:
    """A clip at the size that the instruments were made for, smoothly enlarged."""
    scale = SEEN_AT / video.shape[1]
    frames = torch.from_numpy(video).permute(0, 3, 1, 2).float()
    large = F.interpolate(frames, size=(SEEN_AT, SEEN_AT), mode="bicubic", align_corners=False)
    large_video = large.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    camera = Camera(clip.camera.K * np.array([[scale], [scale], [1.0]]), clip.camera.T_head_camera)
    return GeneratedClip(large_video, motion, camera, clip.fps, name)


def generate(pipeline: EgoTwinPipeline, judge: Judge, args: Args) -> tuple[list[np.ndarray], list[Motion]]:
    """T2VM clips from the first frames, first poses and texts of the held-out clips; the same noise for every run."""
    settle_weights(pipeline.transformer, "bf16")
    pipeline.set_progress_bar_config(disable=True)
    videos: list[np.ndarray] = []
    motions: list[Motion] = []
    for start in range(0, len(judge.clips), BATCH):
        part, episodes = judge.clips[start : start + BATCH], judge.episodes[start : start + BATCH]
        made = pipeline(
            [clip.text for clip in part],
            "t2vm",
            [clip.video[0] for clip in part],
            [clip.motion[:1] for clip in part],
            num_frames=len(part[0].video),
            num_inference_steps=args.sampling_steps,
            guidance_scale=args.guidance,
            motion_to_video_scale=args.guidance,
            video_to_motion_scale=args.guidance,
            generator=[torch.Generator().manual_seed(episode) for episode in episodes],
        )
        videos += made.videos
        motions += made.motions
    return videos, motions


def settled_config(args: Args, data: Path) -> Section:
    """The configuration with the number of steps of this benchmark, which its folder remembers."""
    config = load_config(args.config)
    path = args.out / BUDGET
    if args.steps is not None:
        steps = args.steps
    elif path.is_file():
        steps = json.loads(path.read_text())["steps"]
        console.print(f"{steps} joint steps, as {path} says")
    elif args.minutes is None:
        return config
    else:
        seconds = seconds_per_step(config)
        runs = len(args.variants) * args.seeds
        left = 60 * ((args.minutes - PREPARATION_MINUTES) * args.workers / runs - RUN_MINUTES)
        # Pre-training costs what `joint_steps` adds for it, in the same proportion.
        extra = joint_steps(config) / config["stages"]["joint"]["trainer"]["steps"]
        steps = int(left / (seconds * extra))
        console.print(f"{seconds:.2f} s a joint step: {steps} steps in {args.minutes:g} minutes for {runs} runs")
        if steps < 1:
            raise UserError(f"--minutes {args.minutes:g} leave no time to train {runs} runs; give more, or fewer runs")
    write_json(path, {"steps": steps, "minutes": args.minutes, "data": str(data)})
    return scaled(config, steps)


def seconds_per_step(config: Section) -> float:
    """How long a step of the joint stage takes here, on made-up numbers."""
    from egotwin_sim.diffusion.schedule import NoiseSchedule
    from egotwin_sim.models import EgoTwinTransformer3DModel
    from egotwin_sim.training.config import build
    from egotwin_sim.training.denoising import denoising_loss
    from egotwin_sim.training.stages.joint import JointStageConfig

    stage = build(JointStageConfig, config["stages"]["joint"], "stages.joint")
    told = config["models"]["transformer"]
    model = build(EgoTwinTransformer3DModel, told, "models.transformer")
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    latents, batch = (told["sample_frames"] - 1) // 4 + 1, stage.trainer.batch_size
    length, width = told["max_text_seq_length"], told["text_embed_dim"]
    sample = {
        "latents": torch.randn(batch, latents, told["out_channels"], told["sample_height"], told["sample_width"]),
        "tokens": torch.randn(batch, 2 * latents - 1, told["motion_channels"]),
        "text": torch.randn(batch, length, width),
        "text_mask": torch.arange(length).expand(batch, -1) < length // 2,
        "positions": torch.arange(latents),
    }
    null = torch.zeros(length, width), torch.ones(length, dtype=torch.bool)
    times = []
    for step in range(TIMED_STEPS):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=stage.trainer.precision == "bf16"):
            generator = torch.Generator().manual_seed(step)
            loss, _ = denoising_loss(model, NoiseSchedule(), sample, null, stage.denoising, generator)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def measure(name: str, seed: int | None, judge: Judge, args: Args) -> dict[str, Any]:
    """The figures of a run, or of a row of reference where there is no seed; kept in a file."""
    folder = args.out / "references" / name.replace(" ", "-") if seed is None else args.out / name / f"seed-{seed}"
    settings = {
        "clips": len(judge.clips),
        "sampling_steps": args.sampling_steps,
        "guidance": args.guidance,
        "recovery": judge.recovery.name if judge.recovery else None,
    }
    path = folder / FIGURES
    if path.is_file():
        known = json.loads(path.read_text())
        if known["settings"] == settings:
            return dict(known["figures"])
    if seed is None:
        figures = judge.reference(name)
    else:
        pipeline = EgoTwinPipeline.from_pretrained(folder / MODEL)
        if torch.cuda.is_available():
            pipeline.to("cuda")
        figures = judge.network_figures(pipeline) | judge.figures(*generate(pipeline, judge, args))
    write_json(path, {"settings": settings, "figures": figures})
    return figures


class Worker:
    """What a process needs: set when it begins, the instruments when it first measures."""

    args: Args
    config: Section
    data: Path
    judge: Judge | None = None

    @classmethod
    def begin(cls, args: Args, config: Section, data: Path) -> None:
        """Called once in each process; it ends when the benchmark does."""
        begin_worker()
        cls.args, cls.config, cls.data = args, config, data
        if not torch.cuda.is_available():
            torch.set_num_threads(1)

    @classmethod
    def train(cls, run: tuple[str, int]) -> None:
        """Train a run; what it prints goes to a file beside it."""
        name, seed = run
        log = cls.args.out / name / f"seed-{seed}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file, contextlib.redirect_stdout(file):
            train_variant(name, cls.config, cls.data, cls.args.out, seed=seed, report=print)

    @classmethod
    def measure(cls, row: tuple[str, int | None]) -> dict[str, Any]:
        """Measure a run or a row of reference."""
        if cls.judge is None:
            pictures = LeRobotReader(pictures_of(cls.config, cls.data, cls.args.out))
            cls.judge = Judge(pictures, cls.args.clips, cls.config["models"]["text_encoder"], cls.args.recovery)
        return measure(*row, cls.judge, cls.args)


def first_runs(runs: list[tuple[str, int]], config: Section) -> list[tuple[str, int]]:
    """A run of each representation of motion: these make what all others of it share."""
    first: dict[str, tuple[str, int]] = {}
    for name, seed in runs:
        kind = variant_config(config, name)["models"]["motion_vae"].get("representation", "head")
        first.setdefault(kind, (name, seed))
    return list(first.values())


@dataclass(frozen=True)
class Row:
    """A figure over the seeds.

    Attributes:
        mean: over them.
        spread: half of their range.
    """

    mean: float
    spread: float

    @classmethod
    def of(cls, values: list[float | None]) -> Row | None:
        """None where a seed has no figure."""
        given = [value for value in values if value is not None]
        if not given or len(given) < len(values):
            return None
        return cls(float(np.mean(given)), (max(given) - min(given)) / 2)

    def __str__(self) -> str:
        digits = 3 if abs(self.mean) < 10 else 1
        return f"{self.mean:.{digits}f} ± {self.spread:.{digits}f}"


def winner(full: Row, other: Row, up: bool) -> str:
    """Who is better by more than both spreads together: "full", "it", or "even" where nobody is."""
    gain = (full.mean - other.mean) * (1 if up else -1)
    if abs(gain) <= full.spread + other.spread:
        return "even"
    return "full" if gain > 0 else "it"


def paper_winner(name: str, column: str) -> str | None:
    """Likewise in the paper, which gives no spreads; None where it has no figure."""
    full, other = (PAPER.get(row, {}).get(column) for row in ("full", name))
    if full is None or other is None:
        return None
    return "full" if (full > other) == COLUMNS[column].up else "it"


def directions(table: Mapping[str, Mapping[str, Row | None]]) -> dict[str, dict[str, dict[str, str | None]]]:
    """Of every variant and figure: who wins against the full model here, and in the paper."""
    found: dict[str, dict[str, dict[str, str | None]]] = {}
    for name, row in table.items():
        if name == "full" or "full" not in table:
            continue
        found[name] = {}
        for column, figure in (COLUMNS | OWN_COLUMNS).items():
            full, other = table["full"].get(column), row.get(column)
            ours = winner(full, other, figure.up) if full and other else None
            found[name][column] = {"here": ours, "paper": paper_winner(name, column)}
    return found


def told_direction(one: Mapping[str, str | None]) -> str:
    """A cell of the table of directions: the full model wins or loses, with + where the paper says so too, - if not."""
    if one["here"] is None:
        return "-"
    words = {"full": "wins", "it": "loses", "even": "even"}[one["here"]]
    if one["paper"] is None or one["here"] == "even":
        return words
    return f"{words} {'+' if one['here'] == one['paper'] else '-'}"


def print_report(table: Mapping[str, Mapping[str, Row | None]], references: Mapping[str, Mapping[str, Any]]) -> None:
    """The paper's table, ours, and the directions."""
    heads = ["", *(f"{figure.name} {'^' if figure.up else 'v'}" for figure in COLUMNS.values())]
    print_table(
        "The paper (Nymeria, 5 B)",
        heads,
        [(name, *(PAPER[name].get(column) for column in COLUMNS)) for name in VARIANTS if name in PAPER],
    )
    for title, columns in (
        ("Here: mean over the seeds ± half of their range; only the order compares with the paper's", COLUMNS),
        ("Here, of the denoiser itself on held-out clips; and the share of clips with a camera to judge", OWN_COLUMNS),
    ):
        measured = [(name, *(row.get(column) for column in columns)) for name, row in references.items()]
        print_table(
            title,
            ["", *(f"{figure.name} {'^' if figure.up else 'v'}" for figure in columns.values())],
            [
                *(row for row in measured if any(value is not None for value in row[1:])),
                *((name, *(str(row[c]) if row[c] else None for c in columns)) for name, row in table.items()),
            ],
        )
    for columns in (COLUMNS, OWN_COLUMNS):
        print_table(
            "The full model against each variant, by more than both spreads together; + as in the paper, - not so",
            ["", *(figure.name for figure in columns.values())],
            [(name, *(told_direction(row[column]) for column in columns)) for name, row in directions(table).items()],
        )


def run(args: Args) -> None:
    """Train, generate, measure, print."""
    data = args.data
    if data is None:
        data = MADE_HERE
        if not (data / "meta" / "info.json").is_file():
            console.print(f"making {MADE_CLIPS} clips of new rooms in {data}")
            generate_room_dataset(data, MADE_CLIPS, MADE_SEED)
    config = settled_config(args, data)
    begun = time.monotonic()
    pictures_of(config, data, args.out, console.print)
    runs = [(name, seed) for seed in range(args.seeds) for name in args.variants]
    first = first_runs(runs, config)
    rows: list[tuple[str, int | None]] = [*((name, None) for name in REFERENCES), *runs]
    with ProcessPoolExecutor(args.workers, get_context("spawn"), Worker.begin, (args, config, data)) as pool:
        for title, part in (("first runs", first), ("other runs", [run for run in runs if run not in first])):
            for _ in track(pool.map(Worker.train, part), title, total=len(part), console=console):
                pass
        trained = time.monotonic() - begun
        found = pool.map(Worker.measure, rows)
        figures = dict(zip(rows, track(found, "figures", total=len(rows), console=console), strict=True))
    references = {name: figures[name, None] for name in REFERENCES}
    each = {name: [figures[name, seed] for seed in range(args.seeds)] for name in args.variants}
    table = {
        name: {column: Row.of([seed.get(column) for seed in seeds]) for column in COLUMNS | OWN_COLUMNS}
        for name, seeds in each.items()
    }
    print_report(table, references)
    write_json(
        args.json,
        {
            "run": machine()
            | {key: str(value) if isinstance(value, Path) else value for key, value in asdict(args).items()},
            "stages": config["stages"],
            "minutes": {"training": trained / 60, "all": (time.monotonic() - begun) / 60},
            "references": references,
            "seeds": each,
            "table": {
                name: {c: asdict(row) if row else None for c, row in rows.items()} for name, rows in table.items()
            },
            "directions": directions(table),
            "paper": PAPER,
        },
    )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset of `egotwin data room`; made here if missing")
    parser.add_argument("--out", type=Path, default=Path("outputs/ablations"), help="folder of all runs")
    parser.add_argument("--json", type=Path, default=Path("outputs/ablations.json"), help="JSON file")
    parser.add_argument("--config", default="ablation", help="a configuration, or a YAML file")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="which ones")
    parser.add_argument("--seeds", type=int, default=2, help="how many of each")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of all on this machine; sets the steps at the first call")
    budget.add_argument("--steps", type=int, help="of the joint stage, instead of the configuration's")
    parser.add_argument("--clips", type=int, default=64, help="held-out clips generated with each run")
    parser.add_argument("--sampling-steps", type=int, default=12, help="denoising steps")
    parser.add_argument("--guidance", type=float, default=2.0, help="weight of text and of the other modality")
    parser.add_argument("--recovery", default="nano", help="ego-motion head: shipped weights by name, or a folder")
    cores = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="processes, with a thread each")
    given = vars(parser.parse_args())
    args = Args(**(given | {"variants": tuple(given["variants"])}))
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # as in its processes: a step is timed here
    try:
        run(args)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
