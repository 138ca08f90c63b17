"""A file is written whole or not at all, and as readable as any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from egotwin_sim.files import replacing


def test_it_replaces(tmp_path: Path) -> None:
    target, other = tmp_path / "a.txt", tmp_path / "other"
    target.write_text("old")
    other.write_text("")
    with replacing(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert target.stat().st_mode == other.stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "other"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(target) as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
