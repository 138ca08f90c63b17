"""Pacing against a clock that the test moves."""

from __future__ import annotations

import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.live.pacing import Pacer


class Wall:
    """A clock on which only waiting, and what a test says, takes time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def paced(wall: Wall, period: float = 0.01) -> Pacer:
    return Pacer(period, wall, wall.sleep)


def test_one_step_begins_in_every_period() -> None:
    wall = Wall()
    pacer = paced(wall)
    begun = []
    for _ in range(5):
        pacer.wait()
        begun.append(wall.now)
        wall.now += 0.004  # the step itself
    assert begun == pytest.approx([100.0, 100.01, 100.02, 100.03, 100.04])
    told = pacer.report()
    assert told.real_time_factor == pytest.approx(1.0)
    assert told.lag_ms_p99 == pytest.approx(0.0, abs=1e-6) and told.resyncs == 0


def test_a_short_lag_is_made_up() -> None:
    wall = Wall()
    pacer = paced(wall)
    pacer.wait()
    wall.now += 0.05
    for _ in range(5):
        pacer.wait()  # at once
        assert wall.now == pytest.approx(100.05)
    pacer.wait()
    assert wall.now == pytest.approx(100.06)
    assert pacer.report().resyncs == 0 and pacer.report().real_time_factor == pytest.approx(1.0)


def test_a_long_lag_is_given_up_and_said() -> None:
    wall = Wall()
    pacer = paced(wall)
    pacer.wait()
    wall.now += 3.0
    pacer.wait()
    assert wall.now == pytest.approx(103.0)
    pacer.wait()
    assert wall.now == pytest.approx(103.01), "the three seconds are not run through"
    told = pacer.report()
    assert told.resyncs == 1 and told.real_time_factor < 0.01 and told.lag_ms_p99 > 1000


def test_a_pause_does_not_count() -> None:
    wall = Wall()
    pacer = paced(wall)
    for _ in range(3):
        pacer.wait()
    wall.now += 60.0
    pacer.restart()
    for _ in range(3):
        pacer.wait()
    told = pacer.report()
    assert told.resyncs == 0 and told.real_time_factor == pytest.approx(1.0)


@pytest.mark.parametrize("period", [0.0, -1.0, float("nan")])
def test_the_period_is_positive(period: float) -> None:
    with pytest.raises(UserError, match="positive"):
        Pacer(period)
