"""`egotwin track`: what it writes and says, in every mode, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from egotwin_sim.body.tracking_policy import TrackingPolicy
from egotwin_sim.body.trajectory import RobotTrajectory
from egotwin_sim.cli.main import main
from egotwin_sim.data.convert.recording import Recording
from tests.body.motions import robot_model, synthesised

BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  End Site
  {
    OFFSET 0 10 0
  }
}
MOTION
Frames: 2
Frame Time: 0.1
0 90 0 0 0 0
0 90 0 0 0 0
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "crouch.npz"
    synthesised(lambda plan: plan.crouch(), 2.0).save(path)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["track", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_video_figures_and_trajectory_are_written(clip, tmp_path, capsys):
    assert run(clip, "--seconds", 0.5, "--assist", 0.3, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "ours, mode assisted, assist 0.3: success; G-MPJPE" in told
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "metrics.json", "tracked.mp4", "trajectory.npz"
    ]  # fmt: skip
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (report["mode"], report["assist"], report["body"], report["failure"]) == ("assisted", 0.3, "ours", None)
    assert 0.0 < report["metrics"]["assist_mean_bw"] < 1.0 and report["metrics"]["real_time_factor"] > 0.0
    assert report["retargeting"]["ik_error_mm"] == 0.0
    trajectory = RobotTrajectory.load(tmp_path / "out" / "trajectory.npz")
    assert trajectory.joint_names == robot_model().joint_names and len(trajectory) == 16 and trajectory.fps == 30.0
    film = Recording(tmp_path / "out" / "tracked.mp4")
    assert len(film) == 16
    frame = film.frames(np.array([8]))[0].astype(int)
    assert frame.shape == (376, 960, 3)
    # The reference and the body beside it look alike, the view out of the head does not.
    left, middle, right = (frame[56:, i * 320 : (i + 1) * 320] for i in range(3))
    assert np.abs(left - middle).mean() < 5.0 < np.abs(middle - right).mean()


@pytest.mark.parametrize("mode", ["kinematic", "pd", "policy"])
def test_the_other_modes_say_that_nothing_helps(mode, clip, tmp_path, capsys):
    assert run(clip, "--mode", mode, "--start", "blend", "--seconds", 0.25, "--out", tmp_path) == 0
    assert f"mode {mode}, no assist" in capsys.readouterr().out
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["mode"] == mode and report["assist"] == 0.0 and report["metrics"]["assist_mean_bw"] == 0.0
    assert report["seconds"] == pytest.approx(0.75)  # half a second of blending
    assert report["policy"] == ("untrained" if mode == "policy" else None)


def test_mistakes_are_one_line(clip, tmp_path, capsys):
    (tmp_path / "body.bvh").write_text(BVH)
    (tmp_path / "file").write_text("")
    TrackingPolicy(29, width=8).save_pretrained(tmp_path / "policy")
    for arguments, complaint in (
        ((tmp_path / "missing.npz",), "is not a file"),
        ((tmp_path / "file",), "expected a motion as .npz"),
        ((tmp_path / "body.bvh",), "head"),
        ((clip, "--mode", "magic"), "tracking mode 'magic' is unknown"),
        ((clip, "--assist", 2), "assist 2.0; expected 0"),
        ((clip, "--start", "jump"), "start 'jump' is unknown"),
        ((clip, "--seconds", -1), "--seconds -1"),
        ((clip, "--out", tmp_path / "file"), "is a file; give a folder"),
        ((clip, "--body", "centaur"), "centaur"),
        ((clip, "--policy", tmp_path / "policy"), "give --mode policy"),
        ((clip, "--mode", "policy", "--policy", tmp_path / "policy"), "made for a body of 29 hinges"),
        ((clip, "--mode", "policy", "--policy", tmp_path), "no config.json"),
    ):
        assert run(*arguments, *(() if "--out" in arguments else ("--out", tmp_path / "out"))) == 2
        error = capsys.readouterr().err
        assert error.startswith("egotwin: error: ") and complaint in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
