"""What leaves a node: a mailbox and the thread that empties it, so that nobody waits for the network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from egotwin_sim.live.mailbox import Mailbox

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Sends the newest item; one that was not sent before the next came is dropped and counted.

    Args:
        name: of the thread.
        send: publishes an item; called in the outbox's own thread, which starts at once.
        on_error: called with what `send` raised; the thread goes on.
        depth: items that may wait; more than one for what should arrive without a gap.

    Attributes:
        sent: items that `send` took.
    """

    def __init__(
        self, name: str, send: Callable[[Item], None], on_error: Callable[[Exception], None], depth: int = 1
    ) -> None:
        self._send, self._on_error = send, on_error
        self._mailbox: Mailbox[Item] = Mailbox(depth)
        self.sent = 0
        self._thread = threading.Thread(target=self._work, name=name)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Items that were replaced before they were sent."""
        return self._mailbox.dropped

    def put(self, item: Item) -> None:
        """Leave an item to be sent. Never blocks."""
        self._mailbox.put(item)

    def close(self) -> None:
        """Send what is still there, and end the thread."""
        self._mailbox.close()
        self._thread.join()

    def _work(self) -> None:
        while (item := self._mailbox.take()) is not None:
            try:
                self._send(item)
            except Exception as error:
                self._on_error(error)
            else:
                self.sent += 1
