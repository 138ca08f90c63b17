"""The whole line at toy size: data, six stages, packing, a dream; and what the stages refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from egotwin_sim.errors import UserError
from egotwin_sim.training.config import load_config

SIZE = 64
TRAINER = {"steps": 2, "batch_size": 2, "warmup_steps": 1, "validate_every": 2, "checkpoint_steps": 1, "log_every": 1}
STAGES = ("video-vae", "motion-vae", "text-motion", "joint", "stream", "distill", "refine")


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano.yaml with small networks and two steps a stage."""
    config = load_config("nano")
    channels = 8
    config["models"]["video_vae"] |= {
        "latent_channels": channels,
        "encoder_channels": [16, 16],
        "decoder_channels": [16, 16],
        "decoder_blocks": [2, 1],
    }
    config["models"]["motion_vae"] |= {"latent_channels": 8, "width": 16, "blocks": 1}
    config["models"]["transformer"] |= {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "motion_dim": 16,
        "motion_channels": 8,
        "in_channels": 2 * channels + 16,
        "out_channels": channels,
        "sample_width": SIZE // 8,
        "sample_height": SIZE // 8,
    }
    config["models"]["depth"] |= {"channels": [8, 8, 8, 8]}
    for stage in config["stages"].values():
        stage["trainer"] |= TRAINER
    config["stages"]["video_vae"]["depth"] |= TRAINER
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from egotwin_sim.data.room import generate_room_dataset

    return generate_room_dataset(tmp_path_factory.mktemp("data") / "room", clips=8, seed=5, workers=1, size=SIZE)


def run(stage: str, config: Path, data: Path, out: Path, init: Path | None = None, **options: object) -> None:
    from importlib import import_module

    module = import_module(f"egotwin_sim.training.stages.{stage.replace('-', '_')}")
    module.run(load_config(config), data, out, **{"resume": False, "steps": None, "init": init} | options)


@pytest.mark.slow
def test_the_whole_line(tiny_config: Path, data: Path, tmp_path: Path) -> None:
    from egotwin_sim.data import LeRobotReader
    from egotwin_sim.motion import encode
    from egotwin_sim.pipelines import StreamPipeline
    from egotwin_sim.training.pack import pack

    for stage in STAGES:
        run(stage, tiny_config, data, tmp_path / stage, None if stage in STAGES[:2] else tmp_path)
        records = [json.loads(line) for line in (tmp_path / stage / "log.jsonl").read_text().splitlines()]
        assert [r["step"] for r in records if r["kind"] == "train"] == [1, 2]
        assert any(r["kind"] == "val" for r in records)
        assert list((tmp_path / stage / "tensorboard").iterdir())
    pack(load_config(tiny_config), tmp_path, tmp_path / "weights")
    config = tmp_path / "weights" / "stream.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"image_size": SIZE}))
    pipeline = StreamPipeline.from_pretrained(tmp_path / "weights")
    clip = LeRobotReader(data).clip(0)
    out = pipeline.start(clip.video[0], encode(clip.motion[:1])[0], clip.text).step()
    assert out.frames.shape == (4, SIZE, SIZE, 3) and np.isfinite(out.motion).all()


@pytest.mark.slow
def test_longer_with_resume(tiny_config: Path, data: Path, tmp_path: Path) -> None:
    run("video-vae", tiny_config, data, tmp_path / "a")
    run("video-vae", tiny_config, data, tmp_path / "a", resume=True, steps=3)
    steps = [json.loads(line)["step"] for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert max(steps) == 3
    with pytest.raises(UserError, match="--resume"):
        run("video-vae", tiny_config, data, tmp_path / "a")


@pytest.mark.parametrize("stage", ["text-motion", "joint", "stream", "distill", "refine"])
def test_a_stage_names_the_stage_it_needs(stage: str, tiny_config: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train that stage first"):
        run(stage, tiny_config, data, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_windows_of_a_batch(tmp_path: Path) -> None:
    from egotwin_sim.training.latents import LatentClips

    count, latents = 3, 11
    clips = LatentClips(
        latents=np.arange(count * latents, dtype=np.float16).reshape(count, latents, 1, 1, 1),
        priors=np.zeros((count, latents, 1, 1, 1), np.float16),
        channels=np.full((count, latents, 16, 1, 1), 255, np.uint8),
        tokens=np.arange(count * 21, dtype=np.float32).reshape(count, 21, 1),
        text_index=np.zeros(count, np.int64),
        text=np.zeros((2, 4, 8), np.float16),
        text_mask=np.ones((2, 4), bool),
    )
    batch = clips.batch(np.array([2, 0]), first=4, last=7)
    assert batch["positions"].tolist() == [0, 4, 5, 6]
    assert batch["latents"].flatten(1).tolist() == [[22, 26, 27, 28], [0, 4, 5, 6]]
    assert batch["tokens"][1, :, 0].tolist() == [0, 7, 8, 9, 10, 11, 12]
    assert batch["channels"].max() == 1
    whole = clips.batch(np.array([1]))
    assert whole["positions"].tolist() == list(range(11)) and whole["tokens"].shape == (1, 21, 1)
