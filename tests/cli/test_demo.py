"""`egotwin demo` from end to end on small random weights: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from egotwin_sim.cli.main import main
from egotwin_sim.cli.panels import BAR, PANEL, panel_video
from egotwin_sim.motion import Motion
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny_pipeline().save_pretrained(folder)
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(["demo", *arguments])
    return int(exit_info.value.code or 0)


def test_writes_video_motion_and_report(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert run("--goal", "turn to the blue ball", "--seconds", "1", "--out", str(out), "--weights", str(weights)) == 0
    told = capsys.readouterr().out
    for name in ("demo.mp4", "motion.npz", "dreamt_motion.npz", "report.json"):
        assert (out / name).is_file() and str(out / name) in told
    with av.open(str(out / "demo.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 9
    report = json.loads((out / "report.json").read_text())
    assert report["goal"] == "turn to the blue ball" and report["view"]["dream"]["0.5"]["psnr_db"] > 0
    assert len(Motion.load(out / "motion.npz")) == 17 == len(Motion.load(out / "dreamt_motion.npz"))
    assert sorted(path.name for path in out.iterdir()) == ["demo.mp4", "dreamt_motion.npz", "motion.npz", "report.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "-1"], "--seconds -1"),
        (["--seconds", "0.3"], "multiple of 0.5"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--seed", "-1"], "negative"),
        (["--goal", " "], "empty"),
        (["--goal", "fly to the moon"], "unknown word"),
        (["--weights", "pico"], "no stream weights"),
    ],
)
def test_refuses_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert run("--out", str(out), *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not out.exists()


def test_out_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").write_text("mine")
    assert run("--out", str(tmp_path / "demo")) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "demo").read_text() == "mine"


def test_panels_are_labelled_and_of_one_length() -> None:
    video = np.zeros((3, 16, 16, 3), np.uint8)
    file, grid = panel_video({"left": video, "right": video + 255}, fps=8, title="a title")
    assert grid.shape == (3, BAR + PANEL + BAR, 2 * PANEL, 3) and len(file) > 0
    assert grid[0, BAR : 2 * BAR, :PANEL].max() > 200, "the label is written"
    assert (grid[0, 2 * BAR :, PANEL:] == 255).all()
    with pytest.raises(ValueError, match="different lengths"):
        panel_video({"a": video, "b": video[:2]}, fps=8, title="")
