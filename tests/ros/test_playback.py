"""What was dreamt ahead of time goes out when its time has come."""

import threading

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from egotwin_sim.ros.outbox import Outbox
from egotwin_sim.ros.playback import Playback


def test_items_wait_for_their_time_and_the_newest_due_one_is_sent() -> None:
    sent, came = [], threading.Semaphore(0)

    def send(item: str) -> None:
        sent.append(item)
        came.release()

    outbox: Outbox[str] = Outbox("outbox", send, lambda error: None)
    playback = Playback(outbox)
    playback.add([(1.0, "a"), (2.0, "b"), (3.0, "c"), (4.0, "d")])
    playback.tell(0.5)
    playback.tell(1.0)
    came.acquire()
    playback.tell(3.5)
    came.acquire()
    assert sent == ["a", "c"] and playback.skipped == 1
    playback.add([(3.8, "e"), (5.0, "f")])  # what was to come later than its first is replaced
    playback.tell(3.9)
    came.acquire()
    playback.clear()
    playback.tell(9.0)
    outbox.close()
    assert sent == ["a", "c", "e"]
