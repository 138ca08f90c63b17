"""A place for an item between two threads: the newest counts, what nobody fetched in time is counted as dropped."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Holds at most one item. A writer never waits: an item that was not taken yet is replaced.

    Args:
        depth: for what should arrive whole, hold some items; the oldest ones are taken, and dropped, first.

    Attributes:
        dropped: items that were replaced before anybody took them.
        delivered: items that were taken.
    """

    def __init__(self, depth: int = 1) -> None:
        self._changed = threading.Condition()
        self._items: deque[Item] = deque(maxlen=depth)
        self._closed = False
        self.dropped = 0
        self.delivered = 0

    def put(self, item: Item) -> None:
        """Leaves an item, in the place of an old one where there is no room. In a closed mailbox nothing is left."""
        with self._changed:
            if self._closed:
                return
            self.dropped += len(self._items) == self._items.maxlen
            self._items.append(item)
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Item | None:
        """Fetches the item, which is gone then.

        Args:
            timeout: seconds to wait for one; None: until there is one, or the mailbox is closed.

        Returns:
            The item, or None when none came.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            if not self._items:
                return None
            self.delivered += 1
            return self._items.popleft()

    def peek(self) -> Item | None:
        """The newest item, which stays; None where there is none."""
        with self._changed:
            return self._items[-1] if self._items else None

    def close(self) -> None:
        """Wakes whoever waits, and takes nothing any more; an item that is there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed
