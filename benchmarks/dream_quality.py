"""How good the dream is: every figure of the README's table, on rooms that no training has seen.

    python benchmarks/dream_quality.py --data DIR [--clips 64] [--weights nano] [--out FILE.json] [--sheet FILE.png]

DIR is a dataset of `egotwin data room` whose `train` split the weights were trained on: its `val` split is scored, its
`train` split trains the two small instruments of the benchmark (the head-turn regressor and the classifier of goals).
Without --data, a dataset of new rooms is made in outputs/benchmark_rooms with a seed of its own (`held_out.py`).
benchmarks/README.md says how each figure is defined.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import console, machine, print_table, write_json
from held_out import HeldOut, Sample
from rich.progress import track

from egotwin_sim.errors import UserError
from egotwin_sim.metrics.goal_kind import chance, train_kind_classifier
from egotwin_sim.metrics.head_turn import (
    HeadTurn,
    pair_indices,
    shrink,
    total_turn,
    train_head_turn,
    turn_agreement,
)
from egotwin_sim.metrics.image import psnr
from egotwin_sim.metrics.motion import heading, mean_head_height, mean_joint_speed, motion_error, share_in_range
from egotwin_sim.metrics.objects import (
    DOOR_OPEN_SHARE,
    HAND,
    HAND_SHARE,
    NAMES,
    PRESENT_SHARE,
    VESTIBULE,
    door_open,
    door_seen,
    f1,
    hand_present,
    segment,
    share,
)
from egotwin_sim.metrics.report import copy_first, horizon_frames, picture_report
from egotwin_sim.metrics.sheet import contact_sheet, save_sheet
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.models.video_vae import join_chunks
from egotwin_sim.motion import Motion, decode, encode
from egotwin_sim.motion.chunks import chunk_features
from egotwin_sim.pipelines import BodyState, StreamPipeline
from egotwin_sim.pipelines.tokens import motion_tokens
from egotwin_sim.room.layout import sample_layout
from egotwin_sim.room.world import RoomWorld

DOOR_CLIPS = 24  # clips with a moving door that the door's figure should rest on, extra ones included
TURN_CLIPS = 400  # training clips whose frame pairs train the head-turn regressor
KIND_CLIPS = 2000  # training clips whose motions train the classifier of goals
PAIR_SECONDS = 0.25  # between the two frames of a head-turn pair
STILL_SECONDS = 0.5  # hands and doors are judged this often
SHEET_CLIPS = 12
BATCH = 16  # dreams at once
SHEET_TIMES_S = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)


@dataclass
class Args:
    """Settings of a run."""

    data: Path | None
    """A dataset of `egotwin data room`; None makes one."""
    clips: int
    """Held-out clips to score."""
    weights: str
    """Shipped weights by name, or a folder."""
    out: Path
    """The JSON file."""
    sheet: Path | None
    """The contact sheet, PNG."""
    seed: int
    """Of the dreams' noise."""
    threads: int
    """Torch threads; 0 leaves the default."""


@dataclass
class Figures:
    """What has been measured, and the figures that have a target."""

    measured: dict[str, Any] = field(default_factory=dict)
    targets: list[dict[str, Any]] = field(default_factory=list)

    def judge(self, name: str, value: float, *, least: float = -np.inf, most: float = np.inf) -> None:
        """Note whether a figure reaches its target; NaN does not."""
        low, high = np.isfinite(least), np.isfinite(most)
        wanted = f"{least:.3g} to {most:.3g}" if low and high else f">= {least:g}" if low else f"<= {most:g}"
        met = bool(least <= value <= most)
        self.targets.append({"figure": name, "value": value, "target": wanted, "met": met})


@dataclass(frozen=True)
class Rollout:
    """A dream: frames uint8 (T, H, W, 3) with the given first one, and its body's motion in the dream's world."""

    frames: np.ndarray
    motion: Motion


def dream(
    pipe: StreamPipeline, samples: list[Sample], tokens: list[np.ndarray] | None, chunks: int, seed: int
) -> list[Rollout]:
    """Roll clips out from their first frames and poses, in one batch.

    Args:
        pipe: the model.
        samples: give first frame, first pose and text.
        tokens: (chunks, 2, C) of each body, or None to dream the bodies too.
        chunks: steps.
        seed: of the noise; the episode's number is the rest of the key.
    """
    first = [sample.clip.video[0] for sample in samples]
    poses = [encode(sample.clip.motion[:1])[0] for sample in samples]
    texts = [sample.clip.text for sample in samples]
    episodes = [sample.episode for sample in samples]
    state = pipe.start_batch(first, poses, texts, seeds=[seed] * len(samples), episodes=episodes)
    fps = pipe.config.motion_fps
    frames = [[frame[None]] for frame in first]
    motions = [[state.body(row, pipe.skeleton, fps).motion] for row in range(len(samples))]
    for k in range(chunks):
        given = None if tokens is None else np.stack([pairs[k] for pairs in tokens])
        chunk = pipe.generate(state, given)
        if not bool(chunk.finite.all()):
            raise FloatingPointError(f"chunk {k + 1} of a dream is not finite")
        state = pipe.finalize(state, chunk)
        for row in range(len(samples)):
            frames[row].append(chunk.frames[row].cpu().numpy())
            motions[row].append(chunk.world_motion[row])
    return [
        Rollout(np.concatenate(seen), Motion.concatenate(moved)) for seen, moved in zip(frames, motions, strict=True)
    ]


def roll_out(
    pipe: StreamPipeline, samples: list[Sample], tokens: list[np.ndarray] | None, chunks: int, seed: int, what: str
) -> list[Rollout]:
    """`dream` of many clips, with a progress bar."""
    rolled: list[Rollout] = []
    for start in track(range(0, len(samples), BATCH), description=what, console=console):
        part = slice(start, start + BATCH)
        rolled += dream(pipe, samples[part], None if tokens is None else tokens[part], chunks, seed)
    return rolled


@torch.inference_mode()
def reconstruct_view(pipe: StreamPipeline, frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) through the video VAE and back: the best that a dream can look."""
    video = image_to_unit(torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(pipe.device))
    with torch.autocast(pipe.device.type, torch.bfloat16):  # as a stream calls it
        decoded, _ = pipe.video_vae.decode(pipe.video_vae.encode(video))
    return unit_to_image(join_chunks(decoded)[0].float()).permute(1, 2, 3, 0).cpu().numpy()


@torch.inference_mode()
def reconstruct_motion(pipe: StreamPipeline, motion: Motion) -> tuple[Motion, Motion, Motion, Motion]:
    """A motion through the motion VAE: (true chunks, decoded chunks, whole motion, composed whole motion).

    The chunks start from the true state each and stand in its canonical frame; the composed motion starts from the
    true first state and goes on from its own, as a stream does.
    """
    chunks = chunk_features(motion)
    states = torch.from_numpy(chunks).to(pipe.device)
    tokens = pipe.motion_vae.tokenise(states)[:, 1:]
    decoded = pipe.motion_vae.decode_chunk(states[:, 0], tokens).float().cpu().numpy()
    true_chunks = [decode(each[1:], motion.skeleton, motion.fps) for each in chunks]
    decoded_chunks = [decode(each, motion.skeleton, motion.fps) for each in decoded]
    body = BodyState.of(motion[:1])
    parts = [motion[:1]]
    for token in tokens:
        state = torch.from_numpy(body.features[None]).to(pipe.device)
        body, part, _ = body.advance(pipe.motion_vae.decode_chunk(state, token[None])[0].float().cpu().numpy())
        parts.append(part)
    return Motion.concatenate(true_chunks), Motion.concatenate(decoded_chunks), motion, Motion.concatenate(parts)


def score_vaes(pipe: StreamPipeline, samples: list[Sample], figures: Figures) -> np.ndarray:
    """PSNR of the video VAE, errors of the motion VAE; returns the reconstructed clips (N, T, H, W, 3)."""
    views = np.stack([reconstruct_view(pipe, s.clip.video) for s in track(samples, "video VAE", console=console)])
    ratios = [float(psnr(s.clip.video, view).mean()) for s, view in zip(samples, views, strict=True)]
    per_chunk, composed = [], []
    for sample in track(samples, "motion VAE", console=console):
        true_chunks, chunks, whole, walked = reconstruct_motion(pipe, sample.clip.motion)
        per_chunk.append(asdict(motion_error(true_chunks, chunks)))
        composed.append(asdict(motion_error(whole, walked)))
    keys = ("joint_mm", "head_mm", "head_deg")
    means = {key: float(np.mean([each[key] for each in per_chunk])) for key in keys}
    drift = {key: float(np.mean([each[key] for each in composed])) for key in keys}
    figures.measured["video_vae"] = {"psnr_db": float(np.mean(ratios)), "psnr_db_worst_clip": min(ratios)}
    figures.measured["motion_vae"] = {"from_true_states": means, "composed": drift}
    figures.judge("video VAE, PSNR dB", float(np.mean(ratios)), least=30.0)
    figures.judge("motion VAE, joints mm", means["joint_mm"], most=20.0)
    figures.judge("motion VAE, head mm", means["head_mm"], most=10.0)
    figures.judge("motion VAE, head deg", means["head_deg"], most=2.0)
    print_table(
        "Autoencoders on held-out rooms",
        ("", "PSNR dB", "joints mm", "head mm", "head deg"),
        [
            ("video VAE (worst clip)", f"{np.mean(ratios):.2f} ({min(ratios):.2f})", "", "", ""),
            ("motion VAE, each chunk from its true state", "", *means.values()),
            ("motion VAE, composed over the clip", "", *drift.values()),
        ],
    )
    return views


def score_segmentation(samples: list[Sample], fps: float, figures: Figures) -> None:
    """How well hue segmentation of the true pictures agrees with the renderer's own: the noise floor."""
    hits, wrong, missed = (np.zeros(len(NAMES)) for _ in range(3))
    present, named = [], []
    for sample in track(samples, "segmentation", console=console):
        video, size = sample.clip.video, sample.clip.video.shape[1]
        world = RoomWorld(sample_layout(sample.room_seed), size=size)
        try:
            for t in horizon_frames(len(video), fps).values():
                world.reset(sample.clip.motion[2 * t], float(np.clip(sample.door_angle[t], 0.0, None)))
                truth = _renderer_masks(world.segmentation(), size)
                seen = segment(video[t])
                hits += (truth & seen).sum(axis=(-2, -1))
                wrong += (~truth & seen).sum(axis=(-2, -1))
                missed += (truth & ~seen).sum(axis=(-2, -1))
                least = np.array([{HAND: HAND_SHARE, VESTIBULE: DOOR_OPEN_SHARE}.get(n, PRESENT_SHARE) for n in NAMES])
                present.append(share(truth) >= least)
                named.append(share(seen) >= least)
        finally:
            world.close()
    rows = {}
    for i, name in enumerate(NAMES):
        rows[name] = {
            "pixel_precision": float(hits[i] / max(hits[i] + wrong[i], 1)),
            "pixel_recall": float(hits[i] / max(hits[i] + missed[i], 1)),
            "presence_f1": f1(np.array(present)[:, i], np.array(named)[:, i]),
        }
    figures.measured["segmentation_of_true_pictures"] = rows
    print_table(
        "Hue segmentation of true pictures against the renderer's",
        ("", "pixel precision", "pixel recall", "presence F1"),
        [(name, *row.values()) for name, row in rows.items()],
    )


def _renderer_masks(labels: dict[str, np.ndarray], size: int) -> np.ndarray:
    """Bool (P, H, W) in the order of `NAMES` from the renderer's masks by label ("red box", "left_hand", ...)."""
    masks = np.zeros((len(NAMES), size, size), dtype=bool)
    for label, mask in labels.items():
        name = HAND if label.endswith("_hand") else label.split(" ")[0]
        if name in NAMES:
            masks[NAMES.index(name)] |= mask
    return masks


def score_pictures(rows: dict[str, np.ndarray], truth: np.ndarray, fps: float, figures: Figures) -> None:
    """Fidelity, objects and sharpness of every row at every horizon, and their targets."""
    reports = {name: picture_report(truth, frames, fps) for name, frames in rows.items()}
    figures.measured["pictures"] = reports
    horizons = list(reports["dream"])
    for key, title in (
        ("psnr_db", "PSNR, dB"),
        ("ssim", "SSIM"),
        ("object_f1", "Objects: presence F1 (of those in view in the first frame)"),
        ("object_iou", "Objects: mask IoU"),
        ("door_state", "Door: right state, where the truth shows a door"),
        ("hand_f1", "Hands: presence F1"),
        ("sharpness", "Sharpness: 99th percentile of gradients, ratio to the truth"),
    ):
        header = ("", *(f"{horizon} s" for horizon in horizons))
        print_table(title, header, [(name, *(r[h][key] for h in horizons)) for name, r in reports.items()])
    dreamt, copied, wrong = reports["dream"], reports["copy"], reports["wrong motion"]

    def over(other: dict[str, dict[str, float]], horizon: str, key: str = "psnr_db") -> float:
        return dreamt[horizon][key] - other[horizon][key]

    wanted: tuple[tuple[str, Callable[[], float], float], ...] = (
        ("PSNR over the copy at 0.5 s, dB", lambda: over(copied, "0.5"), 4.0),
        ("PSNR over the copy at 2 s, dB", lambda: over(copied, "2"), 2.5),
        ("PSNR over the wrong motion at 1 s, dB", lambda: over(wrong, "1"), 3.0),
        ("object F1 at 0.5 s", lambda: dreamt["0.5"]["object_f1"], 0.85),
        ("object F1 at 2 s", lambda: dreamt["2"]["object_f1"], 0.7),
        ("object F1 over the copy, least horizon", lambda: min(over(copied, h, "object_f1") for h in horizons), 0.0),
        ("object IoU over the copy, least horizon", lambda: min(over(copied, h, "object_iou") for h in horizons), 0.0),
    )
    for name, value, least in wanted:
        figures.judge(name, value(), least=least)
    for horizon in horizons:
        figures.judge(f"sharpness at {horizon} s", dreamt[horizon]["sharpness"], least=0.75, most=1.25)


def score_hands(rows: dict[str, np.ndarray], truth: np.ndarray, fps: float, figures: Figures) -> None:
    """Presence of hands, all half seconds together."""
    step = round(STILL_SECONDS * fps)
    shown = hand_present(segment(truth[:, step::step]))
    scores = {name: f1(shown, hand_present(segment(frames[:, step::step]))) for name, frames in rows.items()}
    figures.measured["hand_f1"] = scores | {"share_of_true_pictures_with_a_hand": float(shown.mean())}
    figures.judge("hand F1", scores["dream"], least=0.7)
    print_table(
        f"Hands: presence F1 over all half seconds ({shown.mean():.0%} of the true pictures show one)",
        ("", "F1"),
        list(scores.items()),
    )


def score_doors(samples: list[Sample], rollouts: list[Rollout], fps: float, figures: Figures) -> None:
    """The door's state at the last half second at which the truth shows the door, in clips whose door moves."""
    step = round(STILL_SECONDS * fps)
    right: dict[str, list[bool]] = {"dream": [], "copy": []}
    opened = []
    for sample, rollout in zip(samples, rollouts, strict=True):
        if not sample.door_moves:
            continue
        truth = segment(sample.clip.video[: len(rollout.frames)])
        visible = [t for t in range(step, len(truth), step) if door_seen(truth[t])]
        if not visible:
            continue
        last = visible[-1]
        opened.append(bool(door_open(truth[last])))
        for name, frame in (("dream", rollout.frames[last]), ("copy", sample.clip.video[0])):
            masks = segment(frame)
            right[name].append(bool(door_seen(masks)) and bool(door_open(masks)) == opened[-1])
    count = len(opened)
    scores = {name: float(np.mean(each)) if count else float("nan") for name, each in right.items()}
    figures.measured["door"] = {"clips": count, "open_in_truth": int(sum(opened)), "right": scores}
    figures.judge("door's state right, share of door clips", scores["dream"], least=0.8)
    print_table(
        f"Door's state at its last view, {count} clips whose door moves ({sum(opened)} end open)",
        ("", "right"),
        list(scores.items()),
    )


def train_turns(held_out: HeldOut, fps: float) -> HeadTurn:
    """The head-turn regressor, on pairs of true frames of the training rooms."""
    gap = round(PAIR_SECONDS * fps)
    before, after, yaw = [], [], []
    picked = np.unique(np.linspace(0, len(held_out.training) - 1, TURN_CLIPS).round().astype(int))
    for i in track(picked, "frames for the head-turn regressor", console=console):
        clip = held_out.reader.clip(held_out.training[i], depth=False)
        small, turned = shrink(clip.video), heading(clip.motion.T_world_head())[:: clip.motion_per_frame]
        start = np.arange(0, len(small) - gap, 2)
        before.append(small[start])
        after.append(small[start + gap])
        yaw.append(turned[start + gap] - turned[start])
    console.print(f"training the head-turn regressor on {sum(map(len, yaw))} pairs of true frames")
    return train_head_turn(np.concatenate(before), np.concatenate(after), np.concatenate(yaw))


def score_turns(
    model: HeadTurn, samples: list[Sample], rows: dict[str, list[Rollout]], fps: float, figures: Figures
) -> None:
    """Head turns over the clip, recovered from pictures, against those of the body that was commanded."""
    gap = round(PAIR_SECONDS * fps)
    errors = []
    per_frame = samples[0].clip.motion_per_frame
    for sample in samples:
        turned = heading(sample.clip.motion.T_world_head())[::per_frame]
        start = pair_indices(len(sample.clip.video), gap)
        seen = model.predict(sample.clip.video[start], sample.clip.video[start + gap])
        errors.append(np.abs(seen - (turned[start + gap] - turned[start])))
    pair_error = float(np.rad2deg(np.concatenate(errors).mean()))
    truth = [Rollout(sample.clip.video, sample.clip.motion) for sample in samples]
    table = {}
    for name, rollouts in {"true frames (the regressor's own error)": truth, **rows}.items():
        commanded = [heading(rollout.motion.T_world_head()) for rollout in rollouts]
        recovered = [total_turn(model, rollout.frames, gap) for rollout in rollouts]
        table[name] = asdict(turn_agreement(np.array([yaw[-1] - yaw[0] for yaw in commanded]), np.array(recovered)))
    figures.measured["head_turn"] = {"mean_error_of_a_true_pair_deg": pair_error, **table}
    figures.judge("head turn, relative error", table["dream"]["relative_error"], most=0.2)
    figures.judge("head turn, slope", table["dream"]["slope"], least=0.8, most=1.2)
    print_table(
        f"Head turn over the clip, from frames {PAIR_SECONDS:g} s apart (error of one true pair {pair_error:.1f} deg)",
        ("clips with more than 15 deg of turn", "clips", "slope", "relative error", "mean error deg"),
        [(name, *row.values()) for name, row in table.items()],
    )


def score_text(held_out: HeldOut, samples: list[Sample], dreamt: list[Rollout], figures: Figures) -> None:
    """Bodies dreamt from the text alone, beside the data's."""
    reader = held_out.reader
    picked = np.unique(np.linspace(0, len(held_out.training) - 1, KIND_CLIPS).round().astype(int))
    episodes = [held_out.training[i] for i in picked]
    motions = [reader.motion(i) for i in track(episodes, "motions of the data", console=console)]
    classifier = train_kind_classifier(motions, [held_out.kind(i) for i in episodes])
    scored = list(held_out.scored)
    own = classifier.accuracy([reader.motion(i) for i in scored], [held_out.kind(i) for i in scored])
    kinds = [sample.kind for sample in samples]
    bodies = [rollout.motion for rollout in dreamt]
    accuracy, guess = classifier.accuracy(bodies, kinds), chance(kinds)
    result: dict[str, Any] = {
        "kind_accuracy": accuracy,
        "chance": guess,
        "classifier_on_true_motions": own,
        "classifier_on_the_same_clips": classifier.accuracy([sample.clip.motion for sample in samples], kinds),
    }
    rows = []
    for key, name, measure in (
        ("joint_speed", "mean joint speed, m/s", mean_joint_speed),
        ("head_height", "mean head height, m", mean_head_height),
    ):
        reference, values = np.array([measure(m) for m in motions]), np.array([measure(m) for m in bodies])
        low, high = (float(x) for x in np.percentile(reference, [5, 95]))
        inside = share_in_range(values, reference)
        result[key] = {"mean": float(values.mean()), "data_5_to_95": [low, high], "share_of_bodies_inside": inside}
        figures.judge(f"text to motion: {name}", float(values.mean()), least=low, most=high)
        rows.append((name, float(values.mean()), f"{low:.3f} to {high:.3f}", inside))
    figures.measured["text_to_motion"] = result
    figures.judge("text to motion: kind recognised over chance", accuracy / guess, least=2.0)
    print_table(
        "Body dreamt from the text alone", ("", "mean of dreams", "data, 5 to 95 %", "share of dreams inside"), rows
    )
    print_table(
        "Goal's kind recognised from the motion",
        ("", "accuracy"),
        [
            ("dreamt bodies", accuracy),
            ("chance (guessing by frequency)", guess),
            ("the classifier on all held-out true motions", own),
            ("the classifier on the true motions of these clips", result["classifier_on_the_same_clips"]),
        ],
    )


def draw_sheet(path: Path, samples: list[Sample], rollouts: list[Rollout], fps: float) -> None:
    """The contact sheet: clips spread over the rooms, truth above dream."""
    picked = np.unique(np.linspace(0, len(samples) - 1, SHEET_CLIPS).round().astype(int))
    length = len(rollouts[0].frames)
    times = [(t, round(t * fps)) for t in SHEET_TIMES_S if round(t * fps) < length]
    frames = [index for _, index in times]
    sheet = contact_sheet(
        np.stack([samples[i].clip.video[frames] for i in picked]),
        np.stack([rollouts[i].frames[frames] for i in picked]),
        [f"{samples[i].episode}: {samples[i].clip.text}" for i in picked],
        [f"{t:g} s" for t, _ in times],
    )
    save_sheet(path, sheet)
    console.print(f"wrote {path}")


def run(args: Args) -> Figures:
    """Measure everything."""
    if args.clips < 2:
        raise UserError(f"--clips {args.clips}: give 2 or more, the wrong motion is another clip's")
    pipe = StreamPipeline.from_pretrained(args.weights)
    held_out = HeldOut.open(args.data)
    samples, extra_doors = held_out.choose(args.clips, DOOR_CLIPS)
    if len(samples) < args.clips:
        raise UserError(
            f"--clips {args.clips}: {held_out.reader.root} has only {len(samples)} held-out clips; make more data"
        )
    fps = float(held_out.reader.fps)
    chunks = len(samples[0].clip.motion) // pipe.motion_frames
    figures = Figures()
    figures.measured["run"] = machine() | {
        "data": str(held_out.reader.root),
        "data_made_with": held_out.reader.info["egotwin"].get("generator"),
        "weights": args.weights,
        "clips": len(samples),
        "rooms": len({sample.room_seed for sample in samples}),
        "seed": args.seed,
        "view_steps": pipe.config.view_steps,
        "body_steps": pipe.config.body_steps,
    }
    reconstructed = score_vaes(pipe, samples, figures)
    score_segmentation(samples, fps, figures)

    tokens = [
        motion_tokens(sample.clip.motion, pipe.motion_vae)[1:].reshape(chunks, 2, pipe.token_dim)
        for sample in [*samples, *extra_doors]
    ]
    # Half the list away: another room, so another motion.
    others = [tokens[(i + len(samples) // 2) % len(samples)] for i in range(len(samples))]
    dreams = roll_out(pipe, [*samples, *extra_doors], tokens, chunks, args.seed, "dream, true motion")
    wrong = roll_out(pipe, samples, others, chunks, args.seed, "dream, another clip's motion")
    truth = np.stack([sample.clip.video for sample in samples])
    main = dreams[: len(samples)]
    rows = {
        "dream": np.stack([rollout.frames for rollout in main]),
        "copy": copy_first(truth),
        "wrong motion": np.stack([rollout.frames for rollout in wrong]),
        "video VAE (upper bound)": reconstructed,
    }
    if args.sheet is not None:
        draw_sheet(args.sheet, samples, main, fps)
    score_pictures(rows, truth, fps, figures)
    score_hands(rows, truth, fps, figures)
    score_doors([*samples, *extra_doors], dreams, fps, figures)
    score_turns(train_turns(held_out, fps), samples, {"dream": main, "wrong motion": wrong}, fps, figures)
    told = roll_out(pipe, samples, None, chunks, args.seed, "dream, body from the text")
    score_text(held_out, samples, told, figures)
    return figures


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset of `egotwin data room`; made here if missing")
    parser.add_argument("--clips", type=int, default=64, help="held-out clips to score")
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a folder")
    parser.add_argument("--out", type=Path, default=Path("outputs/dream_quality.json"), help="JSON file")
    parser.add_argument("--sheet", type=Path, help="contact sheet, PNG file")
    parser.add_argument("--seed", type=int, default=0, help="of the dreams' noise")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves the default")
    args = Args(**vars(parser.parse_args()))
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        figures = run(args)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    print_table(
        "Targets",
        ("figure", "value", "target", "met"),
        [(t["figure"], t["value"], t["target"], "yes" if t["met"] else "NO") for t in figures.targets],
    )
    write_json(args.out, figures.measured | {"targets": figures.targets})


if __name__ == "__main__":
    main()
