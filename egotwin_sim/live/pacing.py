"""Steps in step with the clock on the wall."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from egotwin_sim.errors import UserError

LONGEST_LAG = 0.1  # seconds that are caught up; what lies further behind is given up
KEPT = 6000  # steps whose times are kept for the quantiles: 20 s at 300 Hz


@dataclass(frozen=True)
class PaceReport:
    """How well steps kept to the clock.

    Attributes:
        real_time_factor: seconds of steps per second on the wall, pauses left out; NaN before the first step.
        lag_ms_p50, lag_ms_p99: by how much the latest steps began late.
        jitter_ms_p50, jitter_ms_p99: by how much the time between two of the latest steps was off the period.
        resyncs: how often more than `LONGEST_LAG` was given up.
    """

    real_time_factor: float
    lag_ms_p50: float
    lag_ms_p99: float
    jitter_ms_p50: float
    jitter_ms_p99: float
    resyncs: int


class Pacer:
    """Lets one step begin in every period. It belongs to one thread.

    A late step is followed at once by the next one until the lag is made up. A lag beyond `LONGEST_LAG` is not made
    up: time begins anew there, so that a machine that stood still does not run through what it missed.

    Args:
        period: seconds.
        clock: tells the time on the wall, seconds.
        sleep: waits for some seconds.

    Raises:
        UserError: the period is not positive.
    """

    def __init__(
        self,
        period: float,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not (np.isfinite(period) and period > 0):
            raise UserError(f"the period is {period} s; expected a positive number")
        self.period, self._clock, self._sleep = period, clock, sleep
        self._due: float | None = None
        self._last: float | None = None
        self._steps = 0
        self._seconds = 0.0
        self._lags: deque[float] = deque(maxlen=KEPT)
        self._intervals: deque[float] = deque(maxlen=KEPT)
        self._resyncs = 0

    def restart(self) -> None:
        """Begins anew at the next step; the time until then, a pause, does not count."""
        self._due = self._last = None

    def wait(self) -> None:
        """Returns when the next step is due."""
        now = self._clock()
        if self._due is None:
            self._due = now
        if now < self._due:
            self._sleep(self._due - now)
            now = self._clock()
        lag = now - self._due
        self._lags.append(lag)
        if self._last is not None:
            self._intervals.append(now - self._last)
            self._seconds += now - self._last
            self._steps += 1
        self._last = now
        if lag > LONGEST_LAG:
            self._resyncs += 1
            self._due = now
        self._due += self.period

    def report(self) -> PaceReport:
        """How well it went so far; may be asked by another thread."""
        lag = _quantiles_ms(list(self._lags))
        jitter = _quantiles_ms([abs(interval - self.period) for interval in list(self._intervals)])
        factor = self._steps * self.period / self._seconds if self._seconds > 0 else float("nan")
        return PaceReport(factor, *lag, *jitter, self._resyncs)


def _quantiles_ms(seconds: list[float]) -> tuple[float, float]:
    if not seconds:
        return 0.0, 0.0
    middle, late = np.percentile(seconds, [50.0, 99.0]) * 1000.0
    return float(middle), float(late)
