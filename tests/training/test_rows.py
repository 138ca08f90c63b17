"""Arrays that are computed once: read as one, resumed after a kill, refused for something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.errors import UserError
from egotwin_sim.training import rows
from egotwin_sim.training.rows import Shards, computed_rows

IDENTITY = {"of": "squares"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_PER_SHARD", 8)
    monkeypatch.setattr(rows, "SAVED_EVERY", 2)


class Squares:
    """Rows (row, row squared) and a name's length; counts what it is asked for, and may fail at a row."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.asked = fails_at, list[int]()

    def __call__(self, wanted: range) -> dict[str, np.ndarray]:
        if self.fails_at in wanted:
            raise KeyboardInterrupt
        self.asked += wanted
        numbers = np.array(wanted)
        return {"pairs": np.stack([numbers, numbers**2], 1), "flags": numbers % 2 == 0}


def test_all_rows_are_computed_once_and_read_like_one_array(tmp_path: Path) -> None:
    squares = Squares()
    found = computed_rows(tmp_path / "a", IDENTITY, 21, squares, at_once=3, title="squares")
    assert squares.asked == list(range(21))
    assert len(list((tmp_path / "a").glob("shard-*"))) == 3
    truth = np.stack([np.arange(21), np.arange(21) ** 2], 1)
    pairs = found["pairs"]
    assert pairs.shape == (21, 2) and len(pairs) == 21 and found["flags"].dtype == bool
    assert pairs[9].tolist() == [9, 81] and pairs[-1].tolist() == [20, 400]
    wanted = np.array([20, 3, 8, 3, 7, 15])
    assert np.array_equal(pairs[wanted], truth[wanted])
    assert np.array_equal(pairs[np.ix_(wanted, np.array([1]))], truth[np.ix_(wanted, np.array([1]))])
    again = computed_rows(tmp_path / "a", IDENTITY, 21, Squares(fails_at=0), title="squares")
    assert np.array_equal(again["pairs"][np.arange(21)], truth)


def test_a_kill_costs_the_last_rows_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        computed_rows(tmp_path / "a", IDENTITY, 21, Squares(fails_at=13), title="squares")
    rest = Squares()
    found = computed_rows(tmp_path / "a", IDENTITY, 21, rest, title="squares")
    assert rest.asked == list(range(12, 21))
    assert found["pairs"][np.arange(21)][:, 1].tolist() == [n * n for n in range(21)]


def test_rows_of_something_else_are_refused_and_unfinished_ones_made_anew(tmp_path: Path) -> None:
    computed_rows(tmp_path / "a", IDENTITY, 9, Squares(), title="squares")
    for identity, count in (({"of": "cubes"}, 9), (IDENTITY, 10)):
        with pytest.raises(UserError, match="holds squares of another data set or model"):
            computed_rows(tmp_path / "a", identity, count, Squares(), title="squares")
    with pytest.raises(KeyboardInterrupt):
        computed_rows(tmp_path / "b", {"of": "cubes"}, 9, Squares(fails_at=8), title="squares")
    fresh = Squares()
    computed_rows(tmp_path / "b", IDENTITY, 9, fresh, title="squares")
    assert fresh.asked == list(range(9)) and json.loads((tmp_path / "b" / rows.TOLD).read_text())["whole"]


def test_shards_of_one_part() -> None:
    shards = Shards([np.arange(6).reshape(3, 2)])
    assert shards[np.array([2, 0])].tolist() == [[4, 5], [0, 1]]
