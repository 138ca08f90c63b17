"""`egotwin generate`: files in, files out, going on, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egotwin_sim.cli.main import main
from egotwin_sim.data.convert.recording import Recording
from egotwin_sim.data.video_file import encode_video
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.pipelines import EgoTwinPipeline
from tests.tiny import SIZE, tiny_pipeline, tiny_published_pipeline


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    EgoTwinPipeline.of_stream(tiny_pipeline()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    tiny_published_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def motion(tmp_path: Path) -> Path:
    skeleton = Skeleton.default()
    quat = np.zeros((21, skeleton.num_joints, 4), np.float32)
    quat[..., 0] = 1
    root = np.zeros((21, 3), np.float32)
    root[:, 0], root[:, 2] = np.linspace(0, 0.5, 21), skeleton.rest_root_height
    Motion(root, quat, skeleton).save(tmp_path / "walk.npz")
    return tmp_path / "walk.npz"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """1.5 s at 24 frames/s, 96 x 64."""
    frames = np.random.default_rng(0).integers(0, 256, (37, 64, 96, 3), dtype=np.uint8)
    (tmp_path / "film.mp4").write_bytes(encode_video(frames, 24))
    return tmp_path / "film.mp4"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--device", "cpu", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_text_alone_looks_into_a_room(weights, tmp_path, capsys):
    assert run("--text", "walk to the red box", "--seconds", 1, "--weights", weights, "--out", tmp_path) == 0
    assert "procedural room" in capsys.readouterr().out
    film = Recording(tmp_path / "clip.mp4")
    assert len(film) == 9 and film.frames(np.arange(1)).shape == (1, SIZE, SIZE, 3)
    assert len(Motion.load(tmp_path / "clip.npz")) == 17
    with np.load(tmp_path / "clip.smplx.npz") as parameters:
        assert len(parameters["trans"]) == 17 and parameters["mocap_frame_rate"] == 16
    assert json.loads((tmp_path / "clip.json").read_text())["job"]["text"] == "walk to the red box"
    assert not list(tmp_path.glob(".*"))


def test_video_from_motion(weights, motion, tmp_path, capsys):
    Image.fromarray(np.full((80, 64, 3), 200, np.uint8)).save(tmp_path / "first.png")
    given = ("--motion", motion, "--first-frame", tmp_path / "first.png", "--text", "walk")
    assert run("--mode", "tm2v", *given, "--weights", weights, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "first.png: 64x80 cropped and resized to 64x64" in told
    assert "walk.npz: the first 1 s of 1.25 s are used" in told
    made, true = Motion.load(tmp_path / "out" / "clip.npz"), Motion.load(motion)
    np.testing.assert_array_equal(made.root_position, true.root_position[:17])
    assert len(Recording(tmp_path / "out" / "clip.mp4")) == 9


def test_motion_from_video(weights, film, tmp_path, capsys):
    assert run("--mode", "tv2m", "--video", film, "--weights", weights, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "every nth frame" in told and "cropped and resized" in told and "someone who stands" in told
    assert len(Motion.load(tmp_path / "out" / "clip.npz")) == 25


def test_many_prompts_go_on_where_they_stopped(weights, motion, tmp_path, capsys):
    (tmp_path / "prompts.jsonl").write_text(
        json.dumps({"text": "walk", "name": "one"})
        + "\n\n"
        + json.dumps({"text": "walk", "name": "two", "mode": "tm2v", "motion": motion.name, "seed": 7})
        + "\n"
    )
    options = ("--prompts", tmp_path / "prompts.jsonl", "--seconds", 0.5, "--weights", weights, "--batch", 2)
    out = tmp_path / "out"
    assert run(*options, "--out", out) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {f"{name}{end}" for name in ("one", "two") for end in (".mp4", ".npz", ".smplx.npz", ".json")}
    before = (out / "two.mp4").stat().st_mtime_ns
    first = (out / "one.mp4").read_bytes()
    (out / "one.json").unlink()  # as if it had been killed before the last file
    capsys.readouterr()
    assert run(*options, "--out", out) == 0
    assert "1 of 2 clips are in" in capsys.readouterr().out
    assert (out / "two.mp4").stat().st_mtime_ns == before and (out / "one.mp4").read_bytes() == first


def test_a_published_model(published, tmp_path):
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(tmp_path / "first.png")
    given = (
        "--text",
        "walk",
        "--first-frame",
        tmp_path / "first.png",
        "--sampler",
        "dpm",
        "--guidance",
        2,
        "--dynamic",
    )
    assert run(*given, "--steps", 2, "--weights", published, "--out", tmp_path / "out") == 0
    assert len(Recording(tmp_path / "out" / "clip.mp4")) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode", "tm2v"), "needs a motion"),
        (("--mode", "tv2m", "--video", "nothing.mp4"), "nothing.mp4 is no file"),
        (("--motion", "walk.npz"), "generates the motion"),
        (("--first-frame", "walk.npz"), "cannot be read as a picture"),
        (("--text", " "), "empty"),
        (("--text", "walk " * 100), "tokens, the limit is"),
        (("--seconds", "0.3"), "positive multiple of 0.5"),
        (("--prompts", "nothing.txt"), "nothing.txt is no file"),
        (("--prompts", "wrong.jsonl"), "line 2: frames is unknown"),
        (("--prompts", "twice.jsonl"), "two prompts have the name a"),
        (("--prompts", "empty.txt"), "holds no prompts"),
        (("--sampler", "euler"), "ddim or dpm"),
        (("--dtype", "int8"), "expected fp32"),
        (("--tiling",), "no tiling"),
        (("--batch", "0"), "batch of at least 1"),
        (("--mode", "tm2v", "--motion", "film.mp4"), "expected a motion as .npz"),
        (("--mode", "tm2v", "--motion", "headless.npz"), "head"),
    ],
)
def test_refusals(weights, motion, film, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("wrong.jsonl").write_text('{"text": "walk"}\n{"frames": 3}\n')
    Path("twice.jsonl").write_text('{"name": "a"}\n{"name": "a"}\n')
    Path("empty.txt").write_text("\n")
    whole = Motion.load(motion)
    with np.load(motion) as stored:
        headless = dict(stored)
    headless["names"] = np.array(["chest" if name == "head" else str(name) for name in headless["names"]])
    np.savez("headless.npz", **headless)
    assert len(whole) == 21
    assert run(*arguments, "--weights", weights, "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_other_options_do_not_overwrite(weights, tmp_path, capsys):
    options = ("--seconds", 0.5, "--weights", weights, "--out", tmp_path)
    assert run("--text", "walk", *options) == 0
    assert run("--text", "sit down", *options) == 2
    assert "made with other options" in capsys.readouterr().err


def test_published_weights_need_a_first_frame(published, tmp_path, capsys):
    assert run("--text", "walk", "--weights", published, "--out", tmp_path) == 2
    assert "give --first-frame" in capsys.readouterr().err
