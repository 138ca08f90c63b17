"""Which stretch each text describes, and whether its clock can be believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from egotwin_sim.data.convert.narrations import LEVELS, Narration, aligned, read_narrations, stretches
from egotwin_sim.errors import UserError
from tests.data.convert.aria_files import narration_rows, write_narrations


def every(seconds: float, count: int, first: float = 100.0) -> list[Narration]:
    return [Narration(first + i * seconds, first + (i + 1) * seconds, f"Text {i}.") for i in range(count)]


def spans(narrations: list[Narration]) -> list[tuple[float, float, str]]:
    return [(each.start_s, each.end_s, each.text) for each in narrations]


def test_rows_of_all_levels_are_read(tmp_path: Path) -> None:
    for level in LEVELS.values():
        rows = narration_rows(level.columns[0])
        for column in level.columns[1:]:
            rows[0][column] = f"Also {column}?"
        write_narrations(tmp_path, rows, level.file)
        found, notes = read_narrations(tmp_path / level.file, level)
        more = "".join(f" Also {column}?" for column in level.columns[1:])
        assert [each.text for each in found] == [
            f"C walks and looks about, part {i}." + more * (i == 0) for i in range(2)
        ]
        assert found[1].start_s - found[0].start_s == pytest.approx(5.0) and not notes


def test_rows_without_text_or_time_are_told(tmp_path: Path) -> None:
    rows = narration_rows("Describe my atomic actions", count=4)
    rows[0]["Describe my atomic actions"] = "  "
    rows[1]["start_time"] = "soon"
    rows[2]["end_time"] = rows[2]["start_time"]
    write_narrations(tmp_path, rows)
    found, notes = read_narrations(tmp_path / "atomic_action.csv", LEVELS["atomic"])
    assert len(found) == 1
    assert notes == [
        "1 rows of atomic_action.csv have no text",
        "2 rows of atomic_action.csv have no start before an end",
    ]


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("start,end,text\n1,2,hello\n")
    with pytest.raises(UserError, match="has the columns start, end, text; expected start_time, end_time"):
        read_narrations(tmp_path / "a.csv", LEVELS["atomic"])


def test_five_second_texts_stay_one_to_one() -> None:
    assert stretches(every(5.0, 4), 5.0)[0] == every(5.0, 4)


def test_short_texts_are_joined_until_they_fill_a_window() -> None:
    found, notes = stretches(every(2.0, 5), 5.0)
    assert spans(found) == [
        (100.0, 104.0, "Text 0. Text 1."),
        (104.0, 108.0, "Text 2. Text 3."),
        (108.0, 110.0, "Text 4."),
    ]
    assert not notes


def test_texts_of_one_time_are_joined_once_each() -> None:
    both = [
        Narration(10.0, 15.0, "He sits."),
        Narration(10.5, 15.0, "A hand waves."),
        Narration(11.0, 15.0, "He sits."),
    ]
    assert spans(stretches(both, 5.0)[0]) == [(10.0, 15.0, "He sits. A hand waves.")]


def test_texts_that_barely_overlap_are_kept_apart() -> None:
    found = stretches([Narration(0.0, 5.0, "A."), Narration(4.0, 9.0, "B.")], 5.0)[0]
    assert spans(found) == [(0.0, 5.0, "A."), (5.0, 9.0, "B.")]


def test_a_long_text_stays_whole_and_silence_is_told() -> None:
    found, notes = stretches([Narration(0.0, 30.0, "A."), Narration(50.0, 55.0, "B.")], 5.0)
    assert spans(found) == [(0.0, 30.0, "A."), (50.0, 55.0, "B.")]
    assert notes == ["20 s between the texts are described by none and are not used"]


def test_texts_within_the_recording_are_believed() -> None:
    assert aligned(every(5.0, 20), (100.8, 199.2))[0][0] == Narration(100.8, 105.0, "Text 0.")
    assert aligned(every(5.0, 20), (90.0, 260.0)) == (every(5.0, 20), [])


@pytest.mark.parametrize("shift", [-2000.0, -30.0, -4.0, 4.0, 30.0, 2000.0])
def test_a_shift_of_the_clock_is_found(shift: float) -> None:
    with pytest.raises(UserError, match="unaligned narrations"):
        aligned(every(5.0, 20, 100.0 + shift), (100.0, 200.0))


def test_texts_beyond_a_body_that_ends_early_are_left_out() -> None:
    kept, notes = aligned(every(5.0, 20), (100.0, 161.0))
    assert [each.text for each in kept] == [f"Text {i}." for i in range(12)]
    assert notes == ["8 of 20 narrations lie outside the body's recording and are left out"]
    assert aligned([], (0.0, 1.0)) == ([], [])
