"""Does the video show what the body does: TransErr, RotErr and HandScore of true and of generated clips.

    python benchmarks/consistency.py --data DIR [--clips 64] [--weights nano] [--recovery learned] [--out FILE.json]

Three rows. *true clips*: video and motion of the room itself, the noise floor of the instruments. *another clip's
motion*: the same videos with the motion of a clip from another room, what no relation at all scores. *T2VM*: video and
motion generated together from text, first frame and initial pose. DIR as for dream_quality.py: only its `val` split
is used. benchmarks/README.md says how each figure is defined.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import console, machine, print_table, write_json
from held_out import HeldOut, Sample
from rich.progress import track

from egotwin_sim.data.camera import Camera
from egotwin_sim.errors import UserError
from egotwin_sim.metrics.colmap_recovery import ColmapRecovery
from egotwin_sim.metrics.consistency import ConsistencyReport, GeneratedClip, Summary, consistency_report
from egotwin_sim.metrics.ego_motion import EgoMotion
from egotwin_sim.metrics.hand_detector import HandDetector, hand_detector
from egotwin_sim.metrics.hand_score import HandScore, at_video_rate, hand_score, hands_expected
from egotwin_sim.metrics.opencv_recovery import OpenCVRecovery
from egotwin_sim.metrics.recovery import CameraRecovery
from egotwin_sim.metrics.room_hands import hands_rendered
from egotwin_sim.metrics.trajectory import Trajectory
from egotwin_sim.metrics.tum_recovery import TumRecovery
from egotwin_sim.pipelines import EgoTwinPipeline
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.world import RoomWorld

BATCH = 16  # clips generated at once
HAND_CLIPS = 16  # true clips whose hands are compared with the renderer's


@dataclass
class Args:
    """Settings of a run."""

    data: Path | None
    """A dataset of `egotwin data room`; None makes one."""
    clips: int
    """Held-out clips to score."""
    weights: str
    """Shipped weights by name, or a folder."""
    recovery: str
    """learned, colmap, opencv, or a folder of TUM files."""
    detector: str
    """paint, or a TorchScript file."""
    out: Path
    """The JSON file."""
    seed: int
    """Of the noise."""
    threads: int
    """Torch threads; 0 leaves the default."""


class Remembered:
    """A recovery that looks at each video once, however many motions it is compared with."""

    def __init__(self, recovery: CameraRecovery) -> None:
        self.recovery, self.name, self.metric = recovery, recovery.name, recovery.metric
        self.known: dict[str, Trajectory] = {}

    def recover(self, frames: np.ndarray, camera: Camera, fps: float, clip: str = "") -> Trajectory:
        """As the recovery's own; the clip's name stands for the video."""
        if clip not in self.known:
            self.known[clip] = self.recovery.recover(frames, camera, fps, clip)
        return self.known[clip]


def choose_recovery(name: str) -> CameraRecovery:
    """A recovery by its name on the command line."""
    if name == "learned":
        return EgoMotion.from_pretrained()
    if name == "colmap":
        return ColmapRecovery()
    return OpenCVRecovery() if name == "opencv" else TumRecovery(name)


def generate(weights: str, samples: list[Sample], seed: int) -> list[GeneratedClip]:
    """T2VM clips of the first frames, initial poses and texts of held-out clips."""
    pipeline = EgoTwinPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    clips = []
    for start in track(range(0, len(samples), BATCH), "generating", console=console):
        part = samples[start : start + BATCH]
        made = pipeline(
            [sample.clip.text for sample in part],
            "t2vm",
            [sample.clip.video[0] for sample in part],
            [sample.clip.motion[:1] for sample in part],
            num_frames=len(part[0].clip.video),
            generator=[torch.Generator().manual_seed(seed + sample.episode) for sample in part],
        )
        for sample, video, motion in zip(part, made.videos, made.motions, strict=True):
            name = f"generated-{sample.episode:06d}"
            clips.append(GeneratedClip(video, motion, sample.clip.camera, sample.clip.fps, name))
    return clips


def score_hands_of_the_room(samples: list[Sample], detector: HandDetector) -> dict[str, HandScore]:
    """How far the projection of the hands, and the detector, agree with the renderer's segmentation."""
    expected, seen, drawn = [], [], []
    for sample in track(samples[:: max(1, len(samples) // HAND_CLIPS)], "hands of the room", console=console):
        clip = sample.clip
        motion = at_video_rate(clip.motion, len(clip.video), clip.fps)
        world = RoomWorld(sample_layout(sample.room_seed), size=clip.video.shape[1])
        try:
            drawn.append(hands_rendered(world, motion, sample.door_angle))
        finally:
            world.close()
        expected.append(hands_expected(motion, clip.camera, clip.video.shape[1:3]))
        seen.append(detector.detect(clip.video))
    either = [np.repeat(each.any(axis=1, keepdims=True), 2, axis=1) for each in drawn]
    return {
        "projection against the renderer": hand_score(expected, drawn),
        "detector against the renderer": hand_score(either, seen),
    }


def interval(figure: Summary | None, digits: int = 3) -> str:
    """A figure with its interval, as text."""
    if figure is None:
        return "-"
    return f"{figure.mean:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def show(reports: dict[str, ConsistencyReport], hands: dict[str, HandScore]) -> None:
    """Print the tables."""
    first = next(iter(reports.values()))
    print_table(
        f"Camera recovered from the video by {first.recovery}, against the head of the motion",
        ("", "clips", "recovered", "frames", "inliers", "still"),
        [
            (name, r.clips, f"{r.recovered_share:.0%}", f"{r.registered:.0%}", r.inliers, f"{r.still_share:.0%}")
            for name, r in reports.items()
        ],
    )
    print_table(
        "Errors of the recovered clips: mean (95 % interval); median",
        ("", "TransErr m", "TransErr metric m", "RotErr rad", "RotErr deg", "median"),
        [
            (
                name,
                interval(r.trans_err_m),
                interval(r.metric_trans_err_m),
                interval(r.rot_err),
                interval(r.rot_err_deg, 1),
                " ".join(
                    "-" if figure is None else f"{figure.median:.3f}"
                    for figure in (r.trans_err_m, r.metric_trans_err_m, r.rot_err)
                ),
            )
            for name, r in reports.items()
        ],
    )
    scores = {name: r.hands for name, r in reports.items() if r.hands is not None} | hands
    print_table(
        f"HandScore, hands seen by {first.detector}",
        ("", "frames", "expected", "seen", "precision", "recall", "F", "F left", "F right"),
        [(name, *asdict(score).values()) for name, score in scores.items()],
    )


def run(args: Args) -> dict[str, Any]:
    """Measure everything."""
    if args.clips < 2:
        raise UserError(f"--clips {args.clips}: give 2 or more, the wrong motion is another clip's")
    recovery, detector = Remembered(choose_recovery(args.recovery)), hand_detector(args.detector)
    held_out = HeldOut.open(args.data)
    samples, _ = held_out.choose(args.clips, 0)
    if len(samples) < args.clips:
        raise UserError(
            f"--clips {args.clips}: {held_out.reader.root} has only {len(samples)} held-out clips; make more data"
        )
    true = [
        GeneratedClip(s.clip.video, s.clip.motion, s.clip.camera, s.clip.fps, f"true-{s.episode:06d}") for s in samples
    ]
    # Half the list away: another room, so another motion.
    wrong = [replace(clip, motion=true[(i + len(true) // 2) % len(true)].motion) for i, clip in enumerate(true)]
    rows = {"true clips": true, "another clip's motion": wrong, "T2VM": generate(args.weights, samples, args.seed)}
    reports = {}
    for name, clips in rows.items():
        with console.status(name):
            reports[name] = consistency_report(clips, recovery, detector)
    hands = score_hands_of_the_room(samples, detector)
    show(reports, hands)
    return {
        "run": machine()
        | {
            "data": str(held_out.reader.root),
            "weights": args.weights,
            "recovery": recovery.name,
            "detector": detector.name,
            "clips": len(samples),
            "rooms": len({sample.room_seed for sample in samples}),
            "seed": args.seed,
        },
        "reports": {name: report.to_json() for name, report in reports.items()},
        "hands_of_the_room": {name: asdict(score) for name, score in hands.items()},
    }


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset of `egotwin data room`; made here if missing")
    parser.add_argument("--clips", type=int, default=64, help="held-out clips to score")
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a folder")
    parser.add_argument("--recovery", default="learned", help="learned, colmap, opencv, or a folder of TUM files")
    parser.add_argument("--detector", default="paint", help="paint (the room's), or a TorchScript file")
    parser.add_argument("--out", type=Path, default=Path("outputs/consistency.json"), help="JSON file")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves the default")
    args = Args(**vars(parser.parse_args()))
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        figures = run(args)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    write_json(args.out, figures)


if __name__ == "__main__":
    main()
