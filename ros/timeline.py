"""Which ROS time the simulation's times have."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

from .messages import NANOSECONDS

RESYNC_NS = NANOSECONDS // 10  # a difference above this starts a new stretch, as the simulation's own pacing does
STRETCHES = 64  # that are remembered, for pictures that are drawn after the simulation has gone on


class Timeline:
    """Maps simulation time to ROS time, the same always for the same reading.

    Between two interruptions (a pause, a reset, a machine that was too slow) both run at one rate and only an offset
    lies between them, so a picture, the pose that it was taken from and the joints of that moment bear one stamp.

    Args:
        now: the node's clock in nanoseconds, which stamps follow; None where the simulation's time is ROS time (it
            publishes `/clock`). Then stamps are monotonic, through resets too.

    Attributes:
        now: as given; it may change while nothing is observed.
        backward_jumps: how often the clock has gone back.
    """

    def __init__(self, now: Callable[[], int] | None = None) -> None:
        self.now = now
        self._stretches: deque[tuple[float, int]] = deque(maxlen=STRETCHES)  # first simulation time, offset
        self._newest: tuple[float, int] | None = None  # simulation time, and the clock then
        self._lock = Lock()
        self.backward_jumps = 0

    def observe(self, time_s: float) -> int:
        """The stamp of the simulation's newest reading, nanoseconds."""
        with self._lock:
            clock = None if self.now is None else self.now()
            sim = round(time_s * NANOSECONDS)
            if self._newest is None:
                self._begin(time_s, 0 if clock is None else clock - sim)
            else:
                before, clock_before = self._newest
                if clock is not None and clock_before is not None and clock < clock_before:
                    self.backward_jumps += 1
                    self._begin(time_s, clock - sim)
                elif time_s < before:  # the simulation was reset
                    last = self._stamp(before)
                    self._stretches.clear()
                    self._begin(time_s, (last if clock is None else max(last, clock)) - sim)
                elif clock is not None and abs(clock - self._stamp(time_s)) > RESYNC_NS:
                    self._begin(time_s, clock - sim)
            self._newest = time_s, clock if clock is not None else 0
            return self._stamp(time_s)

    def stamp(self, time_s: float) -> int:
        """The stamp of a reading that has been observed before, or of a time near it, nanoseconds.

        Raises:
            ValueError: nothing was observed yet.
        """
        with self._lock:
            return self._stamp(time_s)

    def time_s(self, stamp: int) -> float:
        """The simulation time of a stamp, by the newest stretch.

        Raises:
            ValueError: nothing was observed yet.
        """
        with self._lock:
            if not self._stretches:
                raise ValueError("the simulation has given no time yet")
            return (stamp - self._stretches[-1][1]) / NANOSECONDS

    def _begin(self, time_s: float, offset: int) -> None:
        self._stretches.append((time_s, offset))

    def _stamp(self, time_s: float) -> int:
        if not self._stretches:
            raise ValueError("the simulation has given no time yet")
        offset = self._stretches[0][1]
        for begin, candidate in self._stretches:
            if begin <= time_s + 1e-9:
                offset = candidate
        return round(time_s * NANOSECONDS) + offset
