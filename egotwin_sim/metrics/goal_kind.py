"""Which kind of goal a motion pursues (walk, turn, open, ...), recognised by a small classifier trained on the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from egotwin_sim.metrics.motion import heading
from egotwin_sim.motion import Motion


def describe(motion: Motion) -> np.ndarray:
    """Summary of a motion that does not depend on where in the world it happens.

    Per frame: heights of head, pelvis, wrists and ankles; the head's pitch; wrists relative to the pelvis in the
    head's heading; displacement, heading and speed since the start. Over time: mean, deviation, least, most, last.

    Returns:
        float64 (F,); metres, radians and seconds mixed, to be standardised.
    """
    joints, _ = motion.joint_transforms()
    index = motion.skeleton.index
    T_world_head = motion.T_world_head()
    yaw = heading(T_world_head)
    cos, sin = np.cos(yaw), np.sin(yaw)

    def in_heading(v: np.ndarray, c: np.ndarray, s: np.ndarray) -> list[np.ndarray]:
        return [c * v[:, 0] + s * v[:, 1], c * v[:, 1] - s * v[:, 0]]

    pelvis = joints[:, index["pelvis"]]
    moved = pelvis - pelvis[:1]
    speed = np.linalg.norm(np.gradient(pelvis[:, :2], axis=0), axis=-1) * motion.fps
    channels = [
        T_world_head[:, 2, 3],
        pelvis[:, 2],
        np.arcsin(np.clip(T_world_head[:, 2, 0], -1.0, 1.0)),
        *in_heading(moved, cos[:1], sin[:1]),
        np.linalg.norm(moved[:, :2], axis=-1),
        yaw - yaw[0],
        np.abs(yaw - yaw[0]),
        np.abs(np.gradient(yaw)) * motion.fps,
        speed,
    ]
    for side in ("left", "right"):
        wrist = joints[:, index[f"{side}_wrist"]]
        relative = wrist - pelvis
        hand_speed = np.linalg.norm(np.gradient(relative, axis=0), axis=-1) * motion.fps
        channels += [*in_heading(relative, cos, sin), relative[:, 2], hand_speed, joints[:, index[f"{side}_ankle"], 2]]
    x = np.stack(channels).astype(np.float64)
    return np.concatenate([x.mean(1), x.std(1), x.min(1), x.max(1), x[:, -1]])


@dataclass(frozen=True)
class KindClassifier:
    """A linear softmax classifier on standardised descriptions.

    Attributes:
        kinds: K names.
        mean, deviation: (F,) of the training descriptions.
        weight: (F + 1, K), the last row is the bias.
    """

    kinds: tuple[str, ...]
    mean: np.ndarray
    deviation: np.ndarray
    weight: np.ndarray

    def predict(self, motions: Sequence[Motion]) -> list[str]:
        """The most likely kind of each motion."""
        x = (np.stack([describe(motion) for motion in motions]) - self.mean) / self.deviation
        # A dreamt body may leave every range of the data; one wild feature must not outvote all others.
        x = np.clip(x, -5.0, 5.0)
        return [self.kinds[i] for i in (x @ self.weight[:-1] + self.weight[-1]).argmax(axis=1)]

    def accuracy(self, motions: Sequence[Motion], kinds: Sequence[str]) -> float:
        """Share of motions whose kind is recognised."""
        return float(np.mean([a == b for a, b in zip(self.predict(motions), kinds, strict=True)]))


def train_kind_classifier(
    motions: Sequence[Motion], kinds: Sequence[str], *, steps: int = 200, decay: float = 3e-3
) -> KindClassifier:
    """Softmax regression with squared weight decay, kinds weighted equally; deterministic.

    Args:
        motions: training motions.
        kinds: the kind of each.
        steps: full-batch Adam steps.
        decay: factor of the squared weights in the loss.
    """
    names = tuple(sorted(set(kinds)))
    x = np.stack([describe(motion) for motion in motions])
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    inputs = torch.from_numpy(np.clip((x - mean) / deviation, -5.0, 5.0))
    label = torch.tensor([names.index(kind) for kind in kinds])
    balance = len(label) / (len(names) * torch.bincount(label, minlength=len(names)).double())
    weight = torch.zeros(x.shape[1] + 1, len(names), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([weight], lr=0.05)
    for _ in range(steps):
        scores = inputs @ weight[:-1] + weight[-1]
        loss = F.cross_entropy(scores, label, weight=balance) + decay * weight[:-1].square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return KindClassifier(names, mean, deviation, weight.detach().numpy())


def chance(kinds: Sequence[str]) -> float:
    """Accuracy of a guesser that knows how often each kind occurs, and nothing else: the sum of squared shares.

    At least one over the number of kinds, and more where some kinds are frequent.
    """
    _, counts = np.unique(list(kinds), return_counts=True)
    return float(np.square(counts / counts.sum()).sum())
