"""Statistics of columns and pictures in LeRobot's shape: min, max, mean, std, count and five quantiles."""

from __future__ import annotations

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = dict[str, np.ndarray]


def column_stats(rows: np.ndarray) -> Stats:
    """Statistics over rows (T, W): float64 arrays (W,), and `count`, int64 (1,)."""
    values = rows.astype(np.float64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(rows)], dtype=np.int64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def histogram(frames: np.ndarray) -> np.ndarray:
    """Counts of the 256 levels, int64 (3, 256), of uint8 RGB frames (T,H,W,3)."""
    return np.stack([np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(3)])


def picture_stats(counts: np.ndarray, frames: int) -> Stats:
    """Statistics of all pixels in 0..1 from a histogram (3, 256): arrays (3, 1, 1), and `count`, the frames."""
    levels = np.arange(256) / 255.0
    total = counts.sum(axis=1, keepdims=True)
    mean = (counts @ levels)[:, None] / total
    variance = (counts * (levels - mean) ** 2).sum(axis=1, keepdims=True) / total
    cumulative = np.cumsum(counts, axis=1) / total
    present = counts > 0
    stats = {
        "min": levels[present.argmax(axis=1)],
        "max": levels[255 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: levels[(cumulative >= q).argmax(axis=1)] for name, q in QUANTILES.items()},
    }
    shaped = {name: np.asarray(value).reshape(3, 1, 1) for name, value in stats.items()}
    return {**shaped, "count": np.array([frames], dtype=np.int64)}


class RunningStats:
    """Statistics of a column over many episodes.

    All but the quantiles are exact. The quantiles are those of every k-th row, with k a power of two such that at
    most `sample` rows are kept: a deterministic function of the rows' order.
    """

    def __init__(self, width: int, sample: int = 8192) -> None:
        """No rows so far, of `width` numbers each."""
        self.sample, self.step, self.count = sample, 1, 0
        self.kept = np.empty((0, width), dtype=np.float32)
        self.min = np.full(width, np.inf)
        self.max = np.full(width, -np.inf)
        self.mean = np.zeros(width)
        self.squares = np.zeros(width)  # sum of squared differences from the mean (Chan et al., 1983)

    def add(self, rows: np.ndarray) -> None:
        """Rows (T, W) of the next episode."""
        values = rows.astype(np.float64)
        mean, total = values.mean(axis=0), self.count + len(rows)
        change = mean - self.mean
        self.squares += ((values - mean) ** 2).sum(axis=0) + change**2 * (self.count * len(rows) / total)
        self.mean += change * (len(rows) / total)
        self.min, self.max = np.minimum(self.min, values.min(axis=0)), np.maximum(self.max, values.max(axis=0))
        self.kept = np.concatenate((self.kept, values[-self.count % self.step :: self.step].astype(np.float32)))
        self.count = total
        while len(self.kept) > self.sample:
            self.kept, self.step = self.kept[::2], 2 * self.step

    def result(self) -> Stats:
        """What `column_stats` would give for all rows together."""
        quantiles = np.quantile(self.kept.astype(np.float64), list(QUANTILES.values()), axis=0)
        return {
            "min": self.min,
            "max": self.max,
            "mean": self.mean,
            "std": np.sqrt(self.squares / self.count),
            "count": np.array([self.count], dtype=np.int64),
            **dict(zip(QUANTILES, quantiles, strict=True)),
        }
