"""Datasets of motion and text without video: written, read, checked, described, trained on where that makes sense."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from egotwin_sim.cli.data import app
from egotwin_sim.data import Camera, Clip, LeRobotReader, LeRobotWriter
from egotwin_sim.data.episode import Episode, encode_motion
from egotwin_sim.data.verify import verify
from egotwin_sim.errors import UserError
from egotwin_sim.motion import Skeleton, encode
from egotwin_sim.training.config import load_config

LENGTHS = (41, 9, 1, 17)


@pytest.fixture
def root(tmp_path: Path, make_clip: Callable[..., Clip]) -> Path:
    writer = LeRobotWriter(
        tmp_path / "set", size=None, camera=None, skeleton=Skeleton.default(1.6), notes=("sequence",)
    )
    for i, length in enumerate(LENGTHS):
        writer.add(encode_motion(make_clip(i, length).motion, f"text {i % 2}", notes={"sequence": f"s{i}"}))
    writer.close({"train": range(3), "val": range(3, 4)}, report={"clips": 4})
    return tmp_path / "set"


def test_motion_comes_back(root: Path, make_clip: Callable[..., Clip]) -> None:
    reader = LeRobotReader(root)
    assert not reader.has_video and not reader.has_depth and reader.video_keys == []
    for i, length in enumerate(LENGTHS):
        motion = make_clip(i, length).motion
        assert reader.length(i) == length and reader.text(i) == f"text {i % 2}"
        assert reader.motion(i).root_position.tobytes() == motion.root_position.tobytes()
        assert reader.motion(i).joint_quat_wxyz.tobytes() == motion.joint_quat_wxyz.tobytes()
        assert np.array_equal(reader.columns(i)["observation.state"], encode(motion)[::2])
    assert len(reader.motion(0, 4, 9)) == 9


def test_what_needs_video_says_so(root: Path) -> None:
    reader = LeRobotReader(root)
    for ask in (lambda: reader.clip(0), lambda: reader.frames(0), lambda: reader.camera, lambda: reader.camera_of(0)):
        with pytest.raises(UserError, match="motion without video: it can train the motion VAE and text to motion"):
            ask()


def test_it_is_sound_and_describes_itself(root: Path) -> None:
    report = verify(root)
    assert report.problems == () and (report.episodes, report.frames, report.decoded) == (4, 68, 0)
    runner = CliRunner()
    checked = runner.invoke(app, ["verify", str(root)])
    assert checked.exit_code == 0 and "sound. 4 clips, 68 rows, 0 pictures" in checked.output
    told = " ".join(runner.invoke(app, ["info", str(root)]).output.split())
    assert "4 (68 rows, 0.1 minutes)" in told and "none, motion alone, 8 rows/s" in told


def test_the_layout_is_lerobot_3_without_video(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    assert info["video_path"] is None and not (root / "videos").exists()
    assert all(feature["dtype"] != "video" for feature in info["features"].values())
    assert set(LeRobotReader(root).stats()) == set(info["features"])
    assert json.loads((root / "report.json").read_text()) == {"clips": 4}
    assert "report.json" in info["egotwin"]["files"]


def test_damage_is_found(root: Path) -> None:
    (root / "report.json").write_text('{"clips": 5}')
    assert any("report.json" in problem for problem in (str(e) for e in _problems(root)))


def _problems(root: Path) -> tuple[str, ...]:
    try:
        return verify(root).problems
    except UserError as error:
        return (str(error),)


def test_one_recording_in_two_splits_is_a_problem(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    writer = LeRobotWriter(
        tmp_path / "set", size=None, camera=None, skeleton=Skeleton.default(1.6), notes=("sequence",)
    )
    for i in range(2):
        writer.add(encode_motion(make_clip(i, 9).motion, "walks", notes={"sequence": "same"}))
    writer.close({"train": range(1), "val": range(1, 2)})
    assert verify(tmp_path / "set").problems == ("sequence same of episode 1 is in the splits train and val",)


def test_an_episode_survives_being_put_aside(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    episode = encode_motion(make_clip(3, 9).motion, "walks", notes={"sequence": "s"})
    episode.save(tmp_path / "episode.npz")
    again = Episode.load(tmp_path / "episode.npz")
    assert again.text == "walks" and again.notes == {"sequence": "s"} and again.videos == {}
    assert all(np.array_equal(again.rows[name], rows) for name, rows in episode.rows.items())


def test_mistakes_are_named(tmp_path: Path, camera: Camera, make_clip: Callable[..., Clip]) -> None:
    clip, skeleton = make_clip(0, 9, depth=False), Skeleton.default(1.6)
    with pytest.raises(UserError, match="18 motion frames do not end with a row"):
        encode_motion(make_clip(0, 10).motion[:18], "walks")
    with pytest.raises(UserError, match="text is empty"):
        encode_motion(clip.motion, " ")
    with pytest.raises(UserError, match="motion alone has neither"):
        LeRobotWriter(tmp_path / "set", size=None, camera=camera, skeleton=skeleton)
    with pytest.raises(UserError, match="observation.images.ego is missing or was not announced"):
        with LeRobotWriter(tmp_path / "set", size=None, camera=None, skeleton=skeleton) as writer:
            writer.add_clip(clip)
    with pytest.raises(UserError, match="observation.images.ego is missing or was not announced"):
        with LeRobotWriter(tmp_path / "set", size=(32, 32), camera=camera, skeleton=skeleton) as writer:
            writer.add(encode_motion(clip.motion, "walks"))


def _run(stage: str, config: dict, root: Path, out: Path, init: Path | None) -> None:
    module = import_module(f"egotwin_sim.training.stages.{stage}")
    module.run(config, root, out / stage.replace("_", "-"), resume=False, steps=None, init=init)


@pytest.mark.parametrize("stage", ["video_vae", "joint", "stream", "distill", "refine"])
def test_a_stage_that_needs_video_refuses_it(stage: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="motion without video"):
        _run(stage, load_config("nano"), root, tmp_path, tmp_path)
    assert not (tmp_path / stage).exists()


@pytest.mark.slow
def test_the_first_two_stages_read_it(tmp_path: Path, make_clip: Callable[..., Clip]) -> None:
    root = tmp_path / "set"
    writer = LeRobotWriter(root, size=None, camera=None, skeleton=Skeleton.default(1.6))
    for i in range(4):
        writer.add(encode_motion(make_clip(i, 41).motion, f"text {i}"))
    writer.close({"train": range(2), "val": range(2, 4)})
    config = load_config("nano")
    config["models"]["motion_vae"] |= {"latent_channels": 8, "width": 16, "blocks": 1}
    config["models"]["transformer"] |= {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "motion_dim": 16,
        "motion_channels": 8,
    }
    for stage in ("motion_vae", "text_motion"):
        config["stages"][stage]["trainer"] |= {"steps": 1, "batch_size": 2, "warmup_steps": 1, "validate_every": 1}

    _run("motion_vae", config, root, tmp_path, None)
    _run("text_motion", config, root, tmp_path, tmp_path)
    assert (tmp_path / "text-motion" / "transformer").is_dir()
