"""Options of a source from the words of a command line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import pytest

from egotwin_sim.data.convert import SOURCES, source_class
from egotwin_sim.data.convert.folder import FolderSource
from egotwin_sim.data.convert.options import build_source, options
from egotwin_sim.data.convert.runner import describe
from egotwin_sim.errors import UserError


def test_words_become_values_of_the_signature(tmp_path: Path) -> None:
    source = build_source("folder", tmp_path, ["video=no", "fovy_deg=75"])
    assert source == FolderSource(tmp_path.resolve(), video=False, fovy_deg=75.0)
    assert not source.has_video
    told = {"kind": "folder", "fovy_deg": "75.0", "root": str(tmp_path.resolve()), "video": "False"}
    assert describe(source) == told


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fovy_deg", "give name=value; folder has the options video \\(yes or no\\), fovy_deg \\(number\\)"),
        ("fov=3", "--set fov=3"),
        ("fovy_deg=wide", "--set fovy_deg=wide: expected number"),
        ("video=perhaps", "expected yes or no"),
    ],
)
def test_wrong_words_are_named(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_source("folder", tmp_path, [setting])


def test_all_types_of_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Source:
        def __init__(
            self, root: Path, *, model: Path | None = None, body: Literal["xsens", "smpl"] = "xsens", count: int = 3
        ) -> None:
            self.root, self.model, self.body, self.count = root, model, body, count

    monkeypatch.setattr("egotwin_sim.data.convert.options.source_class", lambda kind: Source)
    made = build_source("any", tmp_path, ["model=a/b", "body=smpl", "count=7"])
    assert (made.model, made.body, made.count) == (Path("a/b"), "smpl", 7)
    assert build_source("any", tmp_path, ["model=none"]).model is None
    with pytest.raises(UserError, match="expected xsens or smpl"):
        build_source("any", tmp_path, ["body=mhr"])
    with pytest.raises(UserError, match="model \\(path or none\\), body \\(xsens or smpl\\), count \\(whole number\\)"):
        build_source("any", tmp_path, ["x"])


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_is_there_and_refuses_an_empty_folder(kind: str, tmp_path: Path) -> None:
    cls = source_class(kind)
    assert cls.name == kind and isinstance(cls.licence, str) and "root" not in options(cls)
    with pytest.raises(UserError):
        build_source(kind, tmp_path).index()


def test_a_source_can_go_to_a_worker(tmp_path: Path) -> None:
    source = build_source("folder", tmp_path)
    assert describe(pickle.loads(pickle.dumps(source))) == describe(source)
