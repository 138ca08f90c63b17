"""Smooth profiles in time."""

from __future__ import annotations

import numpy as np


def minimum_jerk(u: np.ndarray) -> np.ndarray:
    """The minimum-jerk blend from 0 to 1 (Flash and Hogan 1985) for u in 0..1; clipped outside."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)


MINIMUM_JERK_PEAK = 1.875  # greatest slope of `minimum_jerk`


def duration_for(change: float, peak_rate: float, shortest: float = 0.4) -> float:
    """Seconds that a minimum-jerk change needs so that its rate never exceeds `peak_rate`."""
    return max(shortest, MINIMUM_JERK_PEAK * abs(change) / peak_rate)


def quintic(u: np.ndarray, start: np.ndarray, stop: np.ndarray, slope: np.ndarray | float = 0.0) -> np.ndarray:
    """Minimum-jerk motion from `start` to `stop` that begins with the derivative `slope` (per unit of u)."""
    u = np.clip(u, 0.0, 1.0)
    return start + (stop - start) * minimum_jerk(u) + slope * u * (1.0 - u) ** 3 * (1.0 + 3.0 * u)


def window(t: np.ndarray, times: tuple[float, float, float, float]) -> np.ndarray:
    """Weight 0, rising over times[0]..times[1] to 1, falling over times[2]..times[3] back to 0."""
    t0, t1, t2, t3 = times
    rise = minimum_jerk((t - t0) / max(t1 - t0, 1e-6))
    if not np.isfinite(t2):
        return rise
    return rise * (1.0 - minimum_jerk((t - t2) / max(t3 - t2, 1e-6)))


def wrap(angle: np.ndarray | float) -> np.ndarray | float:
    """The same angle within -pi..pi."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def smooth(values: np.ndarray, radius: int) -> np.ndarray:
    """Moving average of values (T, ...) over 2 radius + 1 frames, twice, edges repeated."""
    kernel = np.ones(2 * radius + 1) / (2 * radius + 1)
    kernel = np.convolve(kernel, kernel)
    flat = values.reshape(len(values), -1)
    pad = np.pad(flat, ((2 * radius, 2 * radius), (0, 0)), mode="edge")
    out = np.stack([np.convolve(pad[:, i], kernel, mode="valid") for i in range(flat.shape[1])], axis=1)
    return out.reshape(values.shape)


def limit_rate(values: np.ndarray, fps: float, rate: float, acceleration: float) -> np.ndarray:
    """A signal (T,) that follows another at bounded rate and acceleration (per second), a frame or two behind it."""
    out = np.empty_like(values)
    place, speed = float(values[0]), 0.0
    wanted = values.tolist()
    step = acceleration / fps
    for i, value in enumerate(wanted):
        gap = value - place
        # The square root brakes in time for the end of a large gap.
        goal = min(0.5 * abs(gap) * fps, (1.4 * acceleration * abs(gap)) ** 0.5, rate)
        goal = goal if gap > 0 else -goal
        speed += max(-step, min(step, goal - speed))
        place += speed / fps if i else 0.0
        out[i] = place
    return out
