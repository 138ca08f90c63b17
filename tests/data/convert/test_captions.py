"""Texts with and without times, and what is wrong with those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from egotwin_sim.data.convert.captions import Caption, read_captions
from egotwin_sim.errors import UserError


def _read(tmp_path: Path, name: str, text: str) -> list[Caption]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_captions(tmp_path / name)


def test_one_text_for_all(tmp_path: Path) -> None:
    assert _read(tmp_path, "a.txt", "\nwalks to the door\n\n") == [Caption("walks to the door")]
    assert _read(tmp_path, "a.txt", "2 steps to the left") == [Caption("2 steps to the left")]
    assert _read(tmp_path, "a.json", '{"text": "walks"}') == [Caption("walks")]


def test_texts_with_times(tmp_path: Path) -> None:
    expected = [Caption("walks, slowly", 0.0, 5.0), Caption("sits  down", 5.0, 12.25)]
    assert _read(tmp_path, "a.txt", "\ufeff0 5 walks, slowly\n\n5.0\t12.25\tsits  down\n") == expected
    text = '[{"start": 0, "end": 5, "text": "walks, slowly"}, {"start": 5, "end": "12.25", "text": "sits  down"}]'
    assert _read(tmp_path, "a.json", text) == expected
    assert _read(tmp_path, "a.json", f'{{"captions": {text}, "motion_start_s": 1}}') == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "holds no text"),
        ("a.txt", "walks\nsits\n", "a.txt:1: 'walks'"),
        ("a.txt", "0 5 walks\n5 sits\n", "a.txt:2: '5 sits'"),
        ("a.txt", "0 5 walks\n9 5 sits\n", "a.txt:2 stands from 9 s to 5 s"),
        ("a.txt", "-1 5 walks\n", "not negative"),
        ("a.txt", "nan 5 walks\n", "a.txt:1"),
        ("a.json", "{}", "neither captions nor a text"),
        ("a.json", "[]", "holds no text"),
        ("a.json", "3", "holds a int"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", '[{"start": 0, "text": "walks"}]', "caption 1 is"),
        ("a.json", '[{"start": 0, "end": null, "text": "walks"}]', "caption 1: the times are 0 and None"),
        ("a.json", '[{"start": 0, "end": 5, "text": " "}]', "caption 1 has no text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(tmp_path, name, text)
