"""A mailbox holds one item, the newest."""

from __future__ import annotations

import threading

from egotwin_sim.live.mailbox import Mailbox


def test_the_newest_item_counts_and_the_others_are_counted() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.take(0.0) is None and box.peek() is None
    for item in range(3):
        box.put(item)
    assert box.peek() == 2
    assert box.take() == 2
    assert (box.dropped, box.delivered) == (2, 1)
    assert box.take(0.0) is None


def test_a_deeper_one_gives_them_in_order_and_drops_the_oldest() -> None:
    box: Mailbox[int] = Mailbox(depth=3)
    for item in range(5):
        box.put(item)
    assert box.peek() == 4 and box.dropped == 2
    assert [box.take(), box.take(), box.take(), box.take(0.0)] == [2, 3, 4, None] and box.delivered == 3


def test_an_item_wakes_whoever_waits() -> None:
    box: Mailbox[str] = Mailbox()
    got: list[str | None] = []
    reader = threading.Thread(target=lambda: got.append(box.take(60.0)))
    reader.start()
    box.put("news")
    reader.join(60.0)
    assert got == ["news"]


def test_closing_wakes_whoever_waits_and_takes_nothing_more() -> None:
    box: Mailbox[str] = Mailbox()
    got: list[str | None] = []
    reader = threading.Thread(target=lambda: got.append(box.take()))
    reader.start()
    box.close()
    reader.join(60.0)
    assert got == [None] and box.closed
    box.put("late")
    assert box.peek() is None and box.dropped == 0


def test_what_lies_in_a_closed_mailbox_can_be_taken() -> None:
    box: Mailbox[str] = Mailbox()
    box.put("last")
    box.close()
    assert box.take() == "last" and box.take() is None
