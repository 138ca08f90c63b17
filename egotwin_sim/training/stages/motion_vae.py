"""Stage 1: the motion VAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from egotwin_sim.data import LeRobotReader
from egotwin_sim.errors import UserError
from egotwin_sim.models.motion_geometry import canonical_frame, consistent_state, head_pose
from egotwin_sim.models.motion_vae import MotionVAE, next_gap, seen_from
from egotwin_sim.motion import Motion, Skeleton, chunk_features
from egotwin_sim.motion.rotations import rotation_angle
from egotwin_sim.training.components import Data, data_folders
from egotwin_sim.training.config import build, section
from egotwin_sim.training.motion_samples import MotionSamples, clip_samples, motion_samples
from egotwin_sim.training.parts import Part, draw_normal
from egotwin_sim.training.processes import processes
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices

HELD_OUT = 512  # clips at most, from all over the validation split


@dataclass(frozen=True)
class MotionVAELossConfig:
    """Weights of the motion VAE's loss.

    Attributes:
        kl: lambda_KL of equation 1.
        groups: weights of the four groups in order: head_3d, head_6d, joint_3d, joint_6d of the head-centric features;
            root, contacts, joint_3d, joint_6d of the root-centric ones.
        joints: weight of the joints' distance in the canonical frame after forward kinematics, per 0.1 m. It is what a
            small error of a joint near the head costs at the feet, which the groups do not see.
        wrists: how much more a wrist counts in it than another joint: hands do what the head then sees, and among 22
            joints their rare long reaches are lost in the mean.
    """

    kl: float = 1e-6
    groups: tuple[float, ...] = (4.0, 8.0, 0.5, 1.0)
    joints: float = 1.0
    wrists: float = 6.0


@dataclass(frozen=True)
class MotionVAEStageConfig:
    """The stage.

    Attributes:
        trainer: the optimisation.
        loss: the loss's weights.
        chunks: for the chunk form: consecutive chunks of a training sample, decoded one from the other.
        offsets: for the chunk form: evenly spaced frames within a chunk that training samples start at.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    loss: MotionVAELossConfig = field(default_factory=MotionVAELossConfig)
    chunks: int = 3
    offsets: int = 2


def motion_vae_loss(
    vae: MotionVAE,
    chunks: Tensor,
    config: MotionVAELossConfig,
    generator: torch.Generator,
    skeleton: Skeleton,
    fps: float = 16.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1 with one latent for all groups (KL once), and the joints' distance; smooth L1 of normalised features.

    The first chunk is decoded from the true state, each later one from the decoded state before, as `MotionVAE.track`
    does: the tokens learn to take back the error so far. First frames are decoded from their tokens.

    Args:
        vae: the model.
        chunks: (B, R, 1 + 4n, D), consecutive chunks, physical units; R = 1 for the clip form.
        config: the weights.
        generator: of the posterior's samples.
        skeleton: the body.
        fps: motion frames per second.

    Returns:
        The loss and its parts.
    """
    state = chunks[:, 0, 0]
    gap = torch.eye(4, device=chunks.device).expand(len(chunks), 4, 4)
    goals, decoded, kl = [], [], []
    for k in range(chunks.shape[1]):
        goal = seen_from(state, chunks[:, k], gap) if k else chunks[:, 0]
        given = vae.normalise(goal)
        mean, logvar = (part.float() for part in vae.encode(given))
        noise = draw_normal(mean.shape, generator)
        frames = vae.decode(mean + noise * (0.5 * logvar).exp(), given[:, 0]).float()
        goals.append(goal)
        decoded.append(frames)
        kl.append(0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean())
        if k + 1 == chunks.shape[1]:
            break
        with torch.no_grad(), torch.autocast(chunks.device.type, enabled=False):
            later = vae.denormalise(frames[:, 1:])
            gap = next_gap(later, chunks[:, k], gap)
            state = consistent_state(later[:, -2], later[:, -1], skeleton, fps)
    target, found = torch.cat(goals), torch.cat(decoded)
    error = F.smooth_l1_loss(found, vae.normalise(target), beta=0.1, reduction="none").mean((0, 1))
    groups = {name: error[torch.as_tensor(index)].mean() for name, index in vae.layout.groups.items()}
    with torch.autocast(chunks.device.type, enabled=False):
        distance = vae.body(vae.denormalise(found), skeleton)[0] - vae.body(target, skeleton)[0]
        joints = F.smooth_l1_loss(distance / 0.1, torch.zeros_like(distance), beta=0.1, reduction="none").mean(-1)
        joints = (joints * joint_weights(skeleton, config.wrists).to(joints)).mean()
    reconstruction = sum(weight * group for weight, group in zip(config.groups, groups.values(), strict=True)) / 4
    divergence = torch.stack(kl).mean()
    loss = reconstruction + config.kl * divergence + config.joints * joints
    return loss, {**groups, "kl": divergence, "joints": joints}


def joint_weights(skeleton: Skeleton, wrists: float) -> Tensor:
    """Weights (J,) with mean one, the two wrists' ``wrists`` times that of the others."""
    weights = torch.ones(skeleton.num_joints)
    weights[[skeleton.index["left_wrist"], skeleton.index["right_wrist"]]] = wrists
    return weights / weights.mean()


def whole_clip(motion: Motion, vae: MotionVAE) -> np.ndarray:
    """All consecutive chunks of a clip, float32 (K, 1 + 4n, D); K = 1 in the clip form."""
    if vae.config.canonical == "clip":
        return vae.representation.encode(motion)[None]
    return chunk_features(motion, vae.config.frames_per_chunk)


@torch.no_grad()
def reconstruction_errors(
    vae: MotionVAE, chunks: np.ndarray, skeleton: Skeleton | None = None, fps: float = 16.0
) -> dict[str, float]:
    """Held-out errors of the motion VAE.

    Args:
        vae: the model; its token statistics are not used.
        chunks: (N, K, 1 + 4n, D), the consecutive chunks of N clips (K = 1 in the clip form).
        skeleton: the body; the default one without it.
        fps: motion frames per second.

    Returns:
        Means over frames 1..4n of chunks decoded from their true state: `joint_mm` (forward kinematics from the head),
        `wrist_worst_mm` (the mean over clips of the largest error of a wrist), `head_mm`, `head_deg`; the same of
        frame 0 decoded from its token, prefixed `first_`; and the head's error at the end of the clip when each chunk
        is decoded from the decoded state before, as a stream does: `drift_mm`, `drift_deg`.
    """
    skeleton = skeleton or Skeleton.default()
    device = next(vae.parameters()).device
    truth = torch.as_tensor(chunks, device=device)
    flat = truth.flatten(0, 1)
    target = vae.normalise(flat)
    latents = vae.encode(target)[0]
    decoded = vae.denormalise(vae.decode(latents, target[:, 0]))
    joints, poses = vae.body(decoded, skeleton)
    true_joints, true_poses = vae.body(flat, skeleton)
    joint = (joints - true_joints).norm(dim=-1)
    wrists = joint[..., [skeleton.index["left_wrist"], skeleton.index["right_wrist"]]]
    # The worst wrist of each clip: what decides whether a hand finds its handle.
    reach = wrists[:, 1:].reshape(truth.shape[0], -1).amax(-1)
    metres, radians = _head_errors(poses, true_poses)

    figures = {}
    modes = (("drift", True), ("open_drift", False)) if vae.config.canonical == "chunk" else ()
    for name, corrected in modes:
        ends = _chunk_ends(vae.track(truth, skeleton=skeleton, fps=fps, corrected=corrected).chunks)
        drift_metres, drift_radians = _head_errors(ends, _chunk_ends(truth))
        figures[f"{name}_mm"] = 1e3 * float(drift_metres.mean())
        figures[f"{name}_deg"] = float(np.rad2deg(drift_radians.mean()))
    return {
        "joint_mm": 1e3 * joint[:, 1:].mean().item(),
        "wrist_worst_mm": 1e3 * reach.mean().item(),
        "head_mm": 1e3 * float(metres[:, 1:].mean()),
        "head_deg": float(np.rad2deg(radians[:, 1:].mean())),
        "first_joint_mm": 1e3 * joint[:, 0].mean().item(),
        "first_head_mm": 1e3 * float(metres[:, 0].mean()),
        "first_head_deg": float(np.rad2deg(radians[:, 0].mean())),
        **figures,
    }


def _chunk_ends(chunks: Tensor) -> Tensor:
    """Head poses (N, 4, 4) at the end of consecutive chunks (N, K, T, D), in the first chunk's canonical frame."""
    poses = head_pose(chunks[:, :, -1])
    frame = torch.eye(4, device=chunks.device)
    for k in range(poses.shape[1] - 1):
        frame = frame @ canonical_frame(poses[:, k])
    return frame @ poses[:, -1]


def _head_errors(pose: Tensor, truth: Tensor) -> tuple[np.ndarray, np.ndarray]:
    found, true = pose.double().cpu().numpy(), truth.double().cpu().numpy()
    metres = np.linalg.norm(found[..., :3, 3] - true[..., :3, 3], axis=-1)
    return metres, rotation_angle(found[..., :3, :3], true[..., :3, :3])


def fit_motion_vae(
    vae: MotionVAE,
    train: Sequence[Motion] | MotionSamples,
    val: Sequence[Motion],
    config: MotionVAEStageConfig,
    out: Path,
    *,
    resume: bool = False,
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """Train `vae` on motions; writes `out/motion_vae` with both statistics in its config.

    Args:
        vae: the untrained model.
        train: motions to learn from, or their samples.
        val: motions of other rooms, for the figures.
        config: the stage.
        out: the run's folder.
        resume: go on from its last checkpoint.
        device: a GPU if there is one, when None.

    Returns:
        The held-out errors of the averaged weights, see `reconstruction_errors`.
    """
    skeleton, fps = val[0].skeleton, val[0].fps
    if isinstance(train, MotionSamples):
        samples = train
    else:
        samples = MotionSamples([clip_samples(motion, vae, config.chunks, config.offsets)[None] for motion in train])
    held_out = np.stack([whole_clip(motion, vae) for motion in val])
    known = samples.spread().flatten(0, 1)
    vae.set_feature_statistics(known)
    trainer_config = config.trainer

    def batch(step: int, part: Part) -> Tensor:
        return samples[batch_indices(len(samples), trainer_config.batch_size, trainer_config.seed, step, part)]

    def finish() -> None:
        device = next(vae.parameters()).device
        parts = [vae.encode(vae.normalise(part.to(device)))[0].cpu() for part in known.split(1024)]
        vae.set_token_statistics(torch.cat(parts))

    trainer = Trainer(
        {"motion_vae": vae},
        lambda chunks, generator: motion_vae_loss(vae, chunks, config.loss, generator, skeleton, fps),
        batch,
        trainer_config,
        out,
        validate=lambda: reconstruction_errors(vae, held_out, skeleton, fps),
        finish=finish,
        resume=resume,
        device=device,
        title="motion VAE",
    )
    trainer.fit()
    return trainer.evaluate()


def run(
    config: dict[str, Any],
    data: Data,
    out: Path,
    *,
    resume: bool = False,
    steps: int | None = None,
    init: Path | None = None,
) -> None:
    """Train the motion VAE on the motion of data sets: `egotwin train motion-vae`.

    Raises:
        UserError: a section or the data does not fit, or --init is given (this stage starts from nothing).
    """
    if init is not None:
        raise UserError("motion-vae is the first stage and takes no --init")
    stage = build(MotionVAEStageConfig, section(config, "stages", "motion_vae"), "stages.motion_vae")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    with torch.random.fork_rng():
        torch.manual_seed(stage.trainer.seed)
        vae = build(MotionVAE, section(config, "models", "motion_vae"), "models.motion_vae")
    readers = [LeRobotReader(folder) for folder in data_folders(data)]
    for reader in readers:
        counts = [len(reader.split(split)) for split in ("train", "val")]
        if not all(counts):
            raise UserError(
                f"{reader.root} has {counts[0]} train and {counts[1]} val clips; expected both: make more clips"
            )
        body, first = reader.skeleton, readers[0].skeleton
        alike = body.names == first.names and np.allclose(body.offsets, first.offsets)
        if not alike or reader.motion_fps != readers[0].motion_fps:
            raise UserError(
                f"{reader.root} has another skeleton or motion rate than {readers[0].root}: convert both alike"
            )
    every = [(reader, episode) for reader in readers for episode in reader.split("val")]
    chosen = np.linspace(0, len(every) - 1, min(len(every), HELD_OUT)).round().astype(int)
    val = [every[i][0].motion(every[i][1]) for i in chosen]
    train = motion_samples(readers, out / "samples", vae, stage.chunks, stage.offsets)
    errors = fit_motion_vae(vae, train, val, stage, out, resume=resume)
    if not processes().main:
        return
    drift = ""
    if "drift_mm" in errors:
        seconds = len(val[0]) / val[0].fps
        drift = (
            f"; after {seconds:.0f} s of chunks from decoded states: head {errors['drift_mm']:.0f} mm, "
            f"{errors['drift_deg']:.2f} degrees"
        )
    print(
        f"held-out rooms, {len(val)} clips: joints {errors['joint_mm']:.1f} mm, head {errors['head_mm']:.1f} mm and "
        f"{errors['head_deg']:.2f} degrees{drift}. Weights: {out / 'motion_vae'}"
    )
