"""What is dreamt ahead of time, sent when its time has come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from .outbox import Outbox

Item = TypeVar("Item")
KEPT = 64  # items that may wait: eight seconds at 8 Hz


class Playback(Generic[Item]):
    """Holds items until the time that they are for, and gives the newest due one to an outbox.

    Args:
        outbox: sends them.

    Attributes:
        skipped: items whose time came together with a later one's, or that were pushed out.
    """

    def __init__(self, outbox: Outbox[Item]) -> None:
        self._outbox = outbox
        self._waiting: deque[tuple[float, Item]] = deque()
        self._lock = threading.Lock()
        self.skipped = 0

    def add(self, items: Iterable[tuple[float, Item]]) -> None:
        """Take in what is to be sent, each with its time in seconds. What is there for later times is replaced."""
        with self._lock:
            for time_s, item in items:
                while self._waiting and self._waiting[-1][0] >= time_s:
                    self._waiting.pop()
                self._waiting.append((time_s, item))
            while len(self._waiting) > KEPT:
                self._waiting.popleft()
                self.skipped += 1

    def tell(self, time_s: float) -> None:
        """Say what time it is."""
        due: list[Item] = []
        with self._lock:
            while self._waiting and self._waiting[0][0] <= time_s:
                due.append(self._waiting.popleft()[1])
        self.skipped += max(0, len(due) - 1)
        if due:
            self._outbox.put(due[-1])

    def clear(self) -> None:
        """Forget what waits."""
        with self._lock:
            self._waiting.clear()
