"""A licence file that is missing or another's is told of."""

from pathlib import Path

from egotwin_sim.data.convert.licence import licence_note

EXPECTED = ("Attribution-NonCommercial", "4.0 International")


def test_the_expected_licence_passes_whatever_its_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "LICENSE"
    path.write_text("Creative Commons\nATTRIBUTION-NONCOMMERCIAL 4.0\n  International Public License\n")
    assert licence_note(path, EXPECTED) is None


def test_a_missing_or_other_licence_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "LICENSE"
    assert "there is no LICENSE file" in str(licence_note(path, EXPECTED))
    path.write_text("MIT License")
    assert "wrong licence file: LICENSE does not speak of Attribution-NonCommercial" in str(
        licence_note(path, EXPECTED)
    )
