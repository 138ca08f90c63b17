"""Whether a motion is told apart by its text: R-precision and MM-Dist in an embedding that is trained on true clips.

After Guo et al., "Generating Diverse and Natural 3D Human Motions from Text" (2022), section 5: text and motion are
embedded side by side, and a motion is right when its own text is among the nearest of a pool of 32. The paper's own
embedding is not public; this one is small enough to be trained anew on any data set in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.metrics.goal_kind import describe
from egotwin_sim.motion import Motion

POOL = 32  # texts that a motion's own is sought among, if there are as many
TOP = 3  # nearest ones that count
WIDTH = 128
EMBEDDING = 64
DROPOUT = 0.3
MOST_SPREAD = 5.0  # standard deviations; a generated body may leave every range of the data


@dataclass(frozen=True)
class TextMotionScore:
    """How well motions go with their texts.

    Attributes:
        r_precision: share of motions whose own text is among the `TOP` nearest of `POOL`.
        distance: MM-Dist, mean distance of a motion's embedding to its own text's.
        chance: the r_precision of a guesser.
    """

    r_precision: float
    distance: float
    chance: float


class TextMotionMatcher(nn.Module):
    """Embeds texts and motions so that those that belong together are near each other.

    The text is given as the pooled embedding of a frozen text encoder, the motion by `goal_kind.describe`.

    Args:
        text_dim: width of the text's embedding.
        mean: (F,) of the training motions' descriptions.
        deviation: (F,).
    """

    def __init__(self, text_dim: int, mean: np.ndarray, deviation: np.ndarray) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation
        self.of_text, self.of_motion = _tower(text_dim), _tower(len(mean))
        self.sharpness = nn.Parameter(torch.tensor(2.3))

    def describe(self, motions: Sequence[Motion]) -> np.ndarray:
        """Standardised descriptions, float32 (N, F); also what the Frechet distance of motions (M-FID) is taken of."""
        x = (np.stack([describe(motion) for motion in motions]) - self.mean) / self.deviation
        return np.clip(x, -MOST_SPREAD, MOST_SPREAD).astype(np.float32)

    @torch.no_grad()
    def score(self, motions: Sequence[Motion], texts: Tensor, seed: int = 0, draws: int = 20) -> TextMotionScore:
        """R-precision and MM-Dist of motions and the texts (N, D) that they were made from.

        Args:
            motions: N, more than `TOP`; with fewer than `POOL` the pool is all of them.
            texts: pooled embeddings.
            seed: of the pools, which hold clips at random.
            draws: how often the clips are dealt out to pools anew.

        Raises:
            ValueError: too few clips.
        """
        if len(motions) != len(texts) or len(motions) <= TOP:
            raise ValueError(f"{len(motions)} motions and {len(texts)} texts; expected as many, more than {TOP}")
        size = min(POOL, len(motions))
        self.eval()
        words = F.normalize(self.of_text(texts.float()), dim=-1)
        moves = F.normalize(self.of_motion(torch.from_numpy(self.describe(motions))), dim=-1)
        distance = torch.cdist(moves, words)
        rng, hits = np.random.default_rng(seed), []
        for _ in range(draws):
            for pool in rng.permutation(len(motions))[: len(motions) // size * size].reshape(-1, size):
                within = distance[pool][:, pool]
                hits.append((within < within.diagonal()[:, None]).sum(1) < TOP)
        return TextMotionScore(float(torch.cat(hits).double().mean()), float(distance.diagonal().mean()), TOP / size)


def _tower(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, WIDTH), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, EMBEDDING))


def train_matcher(
    motions: Sequence[Motion], texts: Tensor, *, steps: int = 300, batch_size: int = 128, seed: int = 0
) -> TextMotionMatcher:
    """Train the embedding on true clips with the symmetric contrastive loss of CLIP (arXiv 2103.00020).

    Args:
        motions: N.
        texts: pooled embeddings (N, D).
        steps: of Adam.
        batch_size: clips a step, at most N.
        seed: of weights, batches and dropout.
    """
    x = np.stack([describe(motion) for motion in motions])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        matcher = TextMotionMatcher(texts.shape[1], x.mean(axis=0), x.std(axis=0) + 1e-6)
        inputs, words = torch.from_numpy(matcher.describe(motions)), texts.float()
        optimiser = torch.optim.AdamW(matcher.parameters(), lr=1e-3, weight_decay=0.05)
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            rows = torch.from_numpy(rng.permutation(len(motions))[:batch_size])
            a = F.normalize(matcher.of_motion(inputs[rows]), dim=-1)
            b = F.normalize(matcher.of_text(words[rows]), dim=-1)
            scores = matcher.sharpness.clamp(max=4.6).exp() * a @ b.T
            target = torch.arange(len(rows))
            loss = (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return matcher.eval()
