"""Stamps of simulation times, with a clock that the test sets."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed; it comes with the extra test")

from egotwin_sim.ros.messages import NANOSECONDS
from egotwin_sim.ros.timeline import Timeline

START = 1_000 * NANOSECONDS


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> int:
        return START + round(self.seconds * NANOSECONDS)


def seconds(stamp: int) -> float:
    return (stamp - START) / NANOSECONDS


def test_stamps_follow_the_clock_without_its_jitter() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    for n in range(100):
        clock.seconds = n / 100 + (0.004 if n % 3 == 0 else 0.0)
        assert seconds(timeline.observe(n / 100)) == pytest.approx(n / 100 + 0.004, abs=1e-6)


def test_a_pause_moves_later_stamps_only() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    timeline.observe(0.0)
    clock.seconds = 1.0
    before = timeline.observe(1.0)
    clock.seconds = 6.0  # five seconds of pause
    after = timeline.observe(1.01)
    assert seconds(after) == pytest.approx(6.0)
    assert timeline.stamp(1.0) == before
    assert timeline.time_s(after) == pytest.approx(1.01)


def test_after_a_reset_stamps_go_on() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    timeline.observe(0.0)
    clock.seconds = 3.0
    before = timeline.observe(3.0)
    clock.seconds = 3.01
    assert timeline.observe(0.0) > before
    own = Timeline(None)
    own.observe(0.0)
    last = own.observe(3.0)
    assert last == 3 * NANOSECONDS
    assert own.observe(0.0) >= last
    assert own.observe(0.5) == last + NANOSECONDS // 2


def test_a_clock_that_goes_back_is_followed_and_counted() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    clock.seconds = 50.0
    timeline.observe(0.0)
    clock.seconds = 2.0
    assert seconds(timeline.observe(0.01)) == pytest.approx(2.0)
    assert timeline.backward_jumps == 1


def test_a_simulation_that_owns_the_time_is_the_time() -> None:
    timeline = Timeline(None)
    assert [timeline.observe(t) for t in (0.0, 0.25)] == [0, NANOSECONDS // 4]
    assert timeline.time_s(NANOSECONDS) == 1.0


def test_nothing_is_known_before_the_first_reading() -> None:
    with pytest.raises(ValueError, match="no time yet"):
        Timeline(None).time_s(0)
