"""The three modes of the shipped weights on held-out clips: does the view follow the motion, the motion the view?

* TM2V against T2VM, both from the clip's first frame and text: how well the generated video matches the clip's motion,
  by its pictures (PSNR) and by the camera's way that the learned ego-motion head reads from it.
* TV2M: the head's way that is read from the true video against the true one, beside not moving at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import console, machine, print_table, write_json
from held_out import HeldOut, Sample
from rich.progress import track

from egotwin_sim.metrics.consistency import GeneratedClip, consistency_report, summarise
from egotwin_sim.metrics.ego_motion import EgoMotion
from egotwin_sim.metrics.image import psnr
from egotwin_sim.metrics.motion import motion_error, rotation_angle
from egotwin_sim.motion import Motion
from egotwin_sim.pipelines import EgoTwinPipeline

MODES = ("t2vm", "tm2v", "tv2m")


def generate(
    pipeline: EgoTwinPipeline, samples: Sequence[Sample], mode: str, batch: int, seed: int
) -> tuple[list[np.ndarray], list[Motion]]:
    """A clip for each held-out one, from its own first frame, pose and text."""
    videos: list[np.ndarray] = []
    motions: list[Motion] = []
    for first in track(range(0, len(samples), batch), description=mode, console=console):
        part = samples[first : first + batch]
        clips = [sample.clip for sample in part]
        out = pipeline(
            [clip.text for clip in clips],
            mode,
            None if mode == "tv2m" else [clip.video[0] for clip in clips],
            None if mode == "tm2v" else [clip.motion[:1] for clip in clips],
            [clip.video for clip in clips] if mode == "tv2m" else None,
            [clip.motion for clip in clips] if mode == "tm2v" else None,
            generator=[torch.Generator().manual_seed(seed + first + i) for i in range(len(part))],
        )
        videos += out.videos
        motions += out.motions
    return videos, motions


def view_figures(samples: Sequence[Sample], videos: Sequence[np.ndarray], recovery: EgoMotion) -> dict[str, Any]:
    """How well videos match the true motion of their clips."""
    report = consistency_report(
        [
            GeneratedClip(video, sample.clip.motion, sample.clip.camera, sample.clip.fps)
            for sample, video in zip(samples, videos, strict=True)
        ],
        recovery,
    )
    pictures = [psnr(sample.clip.video[1:], video[1:]) for sample, video in zip(samples, videos, strict=True)]
    return {
        "psnr_db": summarise([float(np.mean(value)) for value in pictures]),
        "trans_err_m": report.metric_trans_err_m,
        "rot_err_deg": report.rot_err_deg,
        "recovered": report.recovered_share,
    }


def body_figures(samples: Sequence[Sample], motions: Sequence[Motion]) -> dict[str, Any]:
    """How far motions are from the true ones, whose first frame they share."""
    errors = [motion_error(sample.clip.motion, motion) for sample, motion in zip(samples, motions, strict=True)]
    ends = [
        (sample.clip.motion.T_world_head()[-1], motion.T_world_head()[-1])
        for sample, motion in zip(samples, motions, strict=True)
    ]
    return {
        "head_m": summarise([error.head_mm / 1000 for error in errors]),
        "head_deg": summarise([error.head_deg for error in errors]),
        "end_m": summarise([float(np.linalg.norm(a[:3, 3] - b[:3, 3])) for a, b in ends]),
        "end_deg": summarise([float(np.rad2deg(rotation_angle(a[:3, :3], b[:3, :3]))) for a, b in ends]),
        "joint_m": summarise([error.joint_mm / 1000 for error in errors]),
    }


def still(motion: Motion) -> Motion:
    """A body that stays as it is in the first frame."""
    count = len(motion)
    root, quat = motion.root_position[:1].repeat(count, 0), motion.joint_quat_wxyz[:1].repeat(count, 0)
    return Motion(root, quat, motion.skeleton, motion.fps)


def cell(summary: Any) -> str:
    """Mean with its 95 % interval."""
    return "-" if summary is None else f"{summary.mean:.2f} [{summary.low:.2f}, {summary.high:.2f}]"


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a room data set; its val split is scored (a new one without it)")
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a folder")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/three_modes.json"))
    options = parser.parse_args()

    samples, _ = HeldOut.open(options.data).choose(options.clips, 0)
    pipeline = EgoTwinPipeline.from_pretrained(options.weights)
    pipeline.set_progress_bar_config(disable=True)
    recovery = EgoMotion.from_pretrained(options.weights)
    made = {mode: generate(pipeline, samples, mode, options.batch, options.seed) for mode in MODES}

    truth = [sample.clip for sample in samples]
    views = {
        "true video (noise floor)": view_figures(samples, [clip.video for clip in truth], recovery),
        "TM2V": view_figures(samples, made["tm2v"][0], recovery),
        "T2VM": view_figures(samples, made["t2vm"][0], recovery),
        "first frame, still": view_figures(
            samples, [clip.video[:1].repeat(len(clip.video), 0) for clip in truth], recovery
        ),
    }
    bodies = {
        "TV2M": body_figures(samples, made["tv2m"][1]),
        "T2VM (does not see the video)": body_figures(samples, made["t2vm"][1]),
        "no motion": body_figures(samples, [still(clip.motion) for clip in truth]),
    }
    print_table(
        f"how well a video matches the given motion, {len(samples)} clips: mean [95 % interval]",
        ("", "PSNR, dB", "TransErr, m", "RotErr, degrees", "recovered"),
        [
            (name, cell(f["psnr_db"]), cell(f["trans_err_m"]), cell(f["rot_err_deg"]), f"{100 * f['recovered']:.0f} %")
            for name, f in views.items()
        ],
    )
    print_table(
        f"how well a motion matches the given video, {len(samples)} clips: mean [95 % interval]",
        ("", "head, m", "head, degrees", "at the end, m", "at the end, degrees", "joints, m"),
        [
            (name, *(cell(f[key]) for key in ("head_m", "head_deg", "end_m", "end_deg", "joint_m")))
            for name, f in bodies.items()
        ],
    )
    about = {"machine": machine(), "clips": len(samples), "weights": options.weights, "seed": options.seed}
    as_json = {
        part: {name: {key: vars(value) if hasattr(value, "mean") else value for key, value in figures.items()}
               for name, figures in rows.items()}
        for part, rows in (("views", views), ("bodies", bodies))
    }  # fmt: skip
    write_json(options.out, about | as_json)


if __name__ == "__main__":
    main()
