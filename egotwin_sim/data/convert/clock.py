"""Which time of one clock is which time of another.

Aria glasses count device time; bodies are recorded in the time code that all devices of a session share. Both count
seconds, from other beginnings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError
from egotwin_sim.motion.timed import angular_speed, interpolated

# Crystals differ by some tens of millionths; more is no clock of the same session.
_MAX_DRIFT = 1e-3
_MAX_JITTER = 0.005
# Turning speeds are compared at this rate, Hz: a head turns no faster than a few Hz.
_RATE = 100.0
# How much better the best shift must fit than any that is not beside it, and how well at all.
_PEAK_RATIO = 1.3
_PEAK = 0.6
_BESIDE = 0.5
_MINUTE = 60.0
# Of the shorter recording, how much must lie within the other: a short overlap fits somewhere by chance.
_MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class Clock:
    """Time code and device time of one recording.

    Attributes:
        offset_s: time code minus device time at device time `at_s`, seconds.
        at_s: a device time in the middle of the recording.
        drift: seconds of time code gained per second.
        how: where it comes from, for the report.
    """

    offset_s: float
    at_s: float = 0.0
    drift: float = 0.0
    how: str = ""

    def timecode(self, device_s: np.ndarray) -> np.ndarray:
        """Time code (N,) of device times (N,), seconds."""
        return device_s + self.offset_s + self.drift * (device_s - self.at_s)

    def device(self, timecode_s: np.ndarray) -> np.ndarray:
        """Device times (N,) of time code (N,), seconds: the inverse of `timecode`."""
        return self.at_s + (timecode_s - self.offset_s - self.at_s) / (1.0 + self.drift)


def clock_from_pairs(device_s: np.ndarray, timecode_s: np.ndarray, how: str) -> Clock:
    """The straight line through readings (N,) of both clocks.

    Raises:
        UserError: the readings lie on no such line: one clock jumped, or they belong to other recordings.
    """
    at = float(np.median(device_s))
    difference = timecode_s - device_s
    drift, offset = np.polyfit(device_s - at, difference, 1) if len(device_s) > 2 else (0.0, float(difference.mean()))
    jitter = float(np.abs(difference - offset - drift * (device_s - at)).max())
    if abs(drift) > _MAX_DRIFT or jitter > _MAX_JITTER:
        raise UserError(
            f"{how}: time code and device time disagree by up to {1000 * jitter:.1f} ms and drift by {drift:.2g}; "
            "expected two clocks that run evenly: one of them jumped"
        )
    return Clock(float(offset), at, float(drift), how)


def clock_from_turning(
    device: tuple[np.ndarray, np.ndarray], timecode: tuple[np.ndarray, np.ndarray], how: str
) -> tuple[Clock, float]:
    """The shift of time at which two things turn alike: for recordings that hold no common clock.

    How fast a thing turns does not depend on the frame that its rotation is told in.

    Args:
        device: rising device times (N,) and rotations (N, 4) of the one.
        timecode: rising times (M,) in time code and rotations (M, 4) of the other.
        how: where the clock comes from, for messages.

    Returns:
        The clock, and the correlation of the turning speeds, at most 1.

    Raises:
        UserError: no shift fits clearly better than all others.
    """
    signals, starts = [], []
    for times, quat in (device, timecode):
        even = np.arange(times[0], times[-1], 1.0 / _RATE)
        _, turned = interpolated(times, np.zeros((len(times), 3)), quat, even)
        # The logarithm, so that a few quick turns do not decide alone.
        signals.append(np.log1p(angular_speed(turned, even)))
        starts.append(even[0])
    score = _correlation(signals[0], signals[1])
    best = int(np.argmax(score))
    beside = int(_BESIDE * _RATE)
    others = np.concatenate((score[: max(best - beside, 0)], score[best + beside + 1 :]))
    rival = float(others.max(initial=-1.0))
    if not (score[best] > _PEAK and score[best] > _PEAK_RATIO * rival):
        raise UserError(
            f"{how}: no shift of time makes the glasses turn as the head does (best correlation {score[best]:.2f}, "
            f"next {rival:.2f}); give the time code of the frames, in rgb_timestamps.csv or the VRS file"
        )
    shift = best - (len(signals[1]) - 1) + _between(score, best)
    # Sample i of the first is sample i - shift of the second, and later ever a little more or less.
    at, later = _drift(signals[0], signals[1], round(shift))
    drift, further = np.polyfit(at / _RATE, later / _RATE, 1) if len(at) > 2 else (0.0, shift / _RATE)
    middle = 0.5 * len(signals[1]) / _RATE
    offset = float(starts[1] - starts[0] - further - drift * middle)
    clock = Clock(offset, float(starts[1] + middle - offset), -float(drift), how)
    if abs(drift) > _MAX_DRIFT:
        raise UserError(f"{how}: the glasses turn ever further from when the head does; one of the clocks is wrong")
    return clock, float(score[best])


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation at each shift of the second against the first, where they overlap long enough; else -1."""
    size = len(first) + len(second) - 1
    width = 1 << (size - 1).bit_length()

    def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.fft.irfft(np.fft.rfft(a, width) * np.fft.rfft(b[::-1], width), width)[:size]

    first, second = first - first.mean(), second - second.mean()
    ones_first, ones_second = np.ones_like(first), np.ones_like(second)
    count = np.maximum(np.rint(products(ones_first, ones_second)), 1.0)
    mean_first, mean_second = products(first, ones_second) / count, products(ones_first, second) / count
    variance_first = products(first**2, ones_second) / count - mean_first**2
    variance_second = products(ones_first, second**2) / count - mean_second**2
    covariance = products(first, second) / count - mean_first * mean_second
    enough = count >= _MIN_OVERLAP * min(len(first), len(second))
    known = enough & (variance_first > 1e-9) & (variance_second > 1e-9)
    scale = np.sqrt(np.where(known, variance_first * variance_second, 1.0))
    return np.where(known, covariance / scale, -1.0)


def _drift(first: np.ndarray, second: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """How much later the first shows what the second does, minute by minute.

    Args:
        first: (N,).
        second: (M,).
        shift: what it is over all, samples.

    Returns:
        The middles of the minutes (K,), as samples of the second, and the shifts there (K,), between samples.
    """
    minute, around = int(_MINUTE * _RATE), int(_BESIDE * _RATE)
    at, shifts = [], []
    for start in range(0, len(second) - minute + 1, minute):
        low = start + shift - around
        if low < 0 or low + minute + 2 * around > len(first):
            continue
        piece = second[start : start + minute] - second[start : start + minute].mean()
        windows = np.lib.stride_tricks.sliding_window_view(first[low : low + minute + 2 * around], minute)
        centred = windows - windows.mean(axis=1, keepdims=True)
        score = centred @ piece / np.maximum(np.linalg.norm(centred, axis=1) * np.linalg.norm(piece), 1e-9)
        best = int(np.argmax(score))
        if score[best] > _PEAK and 0 < best < len(score) - 1:
            at.append(start + 0.5 * minute)
            shifts.append(shift - around + best + _between(score, best))
    return np.array(at), np.array(shifts)


def _between(score: np.ndarray, best: int) -> float:
    """Where between samples the peak lies, by the parabola through its neighbours."""
    if not 0 < best < len(score) - 1:
        return 0.0
    before, top, after = score[best - 1 : best + 2]
    bend = before - 2.0 * top + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
