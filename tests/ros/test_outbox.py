"""Leaving things to be sent never waits for the sending."""

import threading

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from egotwin_sim.ros.outbox import Outbox


def test_a_sender_that_is_stuck_drops_the_older_ones_and_delays_nobody() -> None:
    free, busy, sent = threading.Event(), threading.Event(), []

    def send(item: int) -> None:
        busy.set()
        free.wait()
        sent.append(item)

    outbox: Outbox[int] = Outbox("outbox", send, lambda error: None)
    outbox.put(0)
    busy.wait()
    for item in range(1, 100):
        outbox.put(item)
    assert outbox.dropped == 98
    free.set()
    outbox.close()
    assert sent == [0, 99] and outbox.sent == 2


def test_an_error_is_told_and_the_next_item_is_sent() -> None:
    errors, sent, told = [], [], threading.Event()

    def send(item: int) -> None:
        if item == 1:
            raise RuntimeError("no route")
        sent.append(item)

    def on_error(error: Exception) -> None:
        errors.append(str(error))
        told.set()

    outbox: Outbox[int] = Outbox("outbox", send, on_error)
    outbox.put(1)
    told.wait()
    outbox.put(2)
    outbox.close()
    assert errors == ["no route"] and sent == [2] and outbox.sent == 1
