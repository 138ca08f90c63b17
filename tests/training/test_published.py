"""The published form at toy size: from a CogVideoX checkpoint through its stages, on data of two frame sizes."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from egotwin_sim.data import Camera, Clip, LeRobotReader, LeRobotWriter
from egotwin_sim.data.episode import encode_motion
from egotwin_sim.errors import UserError
from egotwin_sim.models.cogvideox_source import CogVideoXSource
from egotwin_sim.models.shards import stored_tensors
from egotwin_sim.motion import Motion, Skeleton
from egotwin_sim.pipelines import EgoTwinPipeline
from egotwin_sim.training.components import frozen_networks
from egotwin_sim.training.config import load_config
from egotwin_sim.training.initial import initial_model
from egotwin_sim.training.latents import latent_clips
from egotwin_sim.training.pack import pack
from tests import cogvideox
from tests.training import together

WIDE, TALL = (32, 64), (48, 32)
FRAMES = 9  # of a clip: 3 latents, 5 motion tokens
TRAINER = {
    "steps": 3, "batch_size": 4, "warmup_steps": 1, "validate_every": 3, "checkpoint_steps": 3, "log_every": 1,
    "learning_rate": 1e-3, "precision": "fp32",
}  # fmt: skip


def motion(seed: int) -> Motion:
    rng = np.random.default_rng(seed)
    frames = 2 * FRAMES - 1
    quat = np.cumsum(rng.normal(size=(frames, 22, 4)) * 0.02, axis=0) + (1.0, 0.0, 0.0, 0.0)
    root = np.cumsum(rng.normal(size=(frames, 3)) * 0.02, axis=0) + (0.0, 0.0, 0.95)
    return Motion(root, quat / np.linalg.norm(quat, axis=-1, keepdims=True), Skeleton.default())


def data_set(root: Path, size: tuple[int, int] | None, clips: int, first: int = 0) -> Path:
    """Clips of noise; motion alone without a size."""
    camera = None if size is None else Camera.from_fovy(np.pi / 2, size[1], size[0], np.eye(4))
    writer = LeRobotWriter(root, size=size, camera=camera, skeleton=Skeleton.default())
    for i in range(first, first + clips):
        text = cogvideox.TEXTS[i % 2].split()[0]
        if size is None or camera is None:
            writer.add(encode_motion(motion(i), text))
            continue
        video = np.random.default_rng(i).integers(0, 256, (FRAMES, *size, 3), dtype=np.uint8)
        writer.add_clip(Clip(video, motion(i), text, camera, fps=8.0))
    writer.close({"train": range(clips - 2), "val": range(clips - 2, clips)}, report={"clips": clips})
    return root


def run(stage: str, config: Path, data: Any, out: Path, **options: Any) -> None:
    module = import_module(f"egotwin_sim.training.stages.{stage.replace('-', '_')}")
    module.run(load_config(config), data, out, **{"resume": False, "steps": None, "init": None} | options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: stored.read().float() for name, stored in stored_tensors(folder).items()}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = cogvideox.write_config(tmp_path_factory.mktemp("config") / "toy.yaml")
    told = yaml.safe_load(path.read_text())
    told["stages"] = {
        "motion_vae": {"trainer": TRAINER},
        "text_motion": {"trainer": TRAINER},
        "joint": {
            "trainer": TRAINER | {"accumulate": 2, "activation_checkpointing": True},
            "denoising": {"motion_given": 0.0, "motion_weight": 1.0},
        },
    }
    path.write_text(yaml.safe_dump(told))
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("wide") / "set", WIDE, 8)


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("tall") / "set", TALL, 6, first=10)


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("mute") / "set", None, 7, first=20)


@pytest.fixture(scope="module")
def runs(config: Path, wide: Path, tall: Path, mute: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: a text-to-video checkpoint and the three stages after it."""
    source = tmp_path_factory.mktemp("cogvideox")
    cogvideox.save_pipeline(source)
    folder = tmp_path_factory.mktemp("runs") / "toy"
    initial_model(load_config(config), folder, source=CogVideoXSource.open(source))
    run("motion-vae", config, [wide, mute], folder / "motion-vae")
    run("text-motion", config, [wide, tall, mute], folder / "text-motion", init=folder)
    run("joint", config, [wide, tall], folder / "joint", init=folder)
    return folder


def test_text_keeps_its_weights_in_stage_two_and_all_learn_in_stage_three(runs: Path) -> None:
    start, second, third = (weights(runs / part / "transformer") for part in (".", "text-motion", "joint"))
    for name, value in second.items():
        assert torch.equal(value, start[name]) == (not name.startswith("motion_")), name
    unmoved = [name for name, value in third.items() if torch.equal(value, second[name])]
    assert not [name for name in unmoved if not name.endswith("bias")]


def test_curves_and_weights_are_written(runs: Path) -> None:
    for stage in ("text-motion", "joint"):
        records = [json.loads(line) for line in (runs / stage / "log.jsonl").read_text().splitlines()]
        assert [r["step"] for r in records if r["kind"] == "train"] == [1, 2, 3]
        assert all(np.isfinite(list(r.values())[2:]).all() for r in records)
    assert {"video", "motion"} <= set(records[0]) and "view" not in records[0]
    assert (runs / "joint" / "transformer" / "config.json").is_file()


def test_latents_are_those_of_diffusers_and_are_computed_once(runs: Path, config: Path, wide: Path) -> None:
    reader = LeRobotReader(wide)
    networks = frozen_networks(load_config(config), runs, before="joint")
    clips = latent_clips(reader, "train", runs / "latents", networks)
    assert clips.shape == (5, 6, 4, WIDE[0] // 8, WIDE[1] // 8)
    frames = torch.from_numpy(reader.frames(2)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        moments = [networks.vae.encode(part).latent_dist.mode()[0] for part in (frames[:, :, :1], frames)]
    # Latent 0 is that of the first frame alone: CogVideoX's group norms mix the frames of one call.
    means = torch.cat([moments[0], moments[1][:, 1:]], dim=1)
    expected = means.transpose(0, 1).float() * networks.vae.config.scaling_factor
    batch = clips.batch(np.array([2]))
    torch.testing.assert_close(batch["latents"][0], expected, atol=2e-3, rtol=2e-3)
    said = networks.text_encoder.encode([reader.text(2)])
    torch.testing.assert_close(batch["text"], said.tokens, atol=1e-3, rtol=1e-3)
    assert batch["text_mask"].all(), "CogVideoX's text has no hidden padding"
    torch.testing.assert_close(clips.null()[0], networks.text_encoder.encode_null().tokens[0], atol=1e-3, rtol=1e-3)

    class Deaf:
        """Networks that are not to be asked again."""

        remembers = False

        def digest(self, *names: str) -> str:
            return networks.digest(*names)

        def release(self, name: str) -> None:
            pass

    again = latent_clips(reader, "train", runs / "latents", Deaf())  # type: ignore[arg-type]
    assert torch.equal(again.batch(np.array([2]))["latents"], batch["latents"])


def test_latents_of_another_model_are_refused(runs: Path, config: Path, wide: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs"
    shutil.copytree(runs, other)
    path = next((other / "video_vae").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="holds latents of train of another data set or model"):
        run("joint", config, wide, tmp_path / "out", init=other)


def test_parts_that_are_missing_are_named(runs: Path, config: Path, wide: Path, mute: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained motion_vae"):
        run("joint", config, wide, tmp_path / "out", init=tmp_path)
    with pytest.raises(UserError, match="motion without video"):
        run("joint", config, [wide, mute], tmp_path / "out", init=runs)
    (tmp_path / "some").mkdir()
    shutil.copytree(runs / "motion-vae", tmp_path / "some" / "motion-vae")
    with pytest.raises(UserError, match="no T5 in"):
        run("text-motion", config, wide, tmp_path / "out", init=tmp_path / "some")


def test_adapters_beside_an_image_to_video_checkpoint(runs: Path, config: Path, wide: Path, tmp_path: Path) -> None:
    told = yaml.safe_load(config.read_text())
    told["stages"]["joint"] |= {"lora": {"rank": 2}}
    path = tmp_path / "lora.yaml"
    path.write_text(yaml.safe_dump(told))
    cogvideox.save_pipeline(tmp_path / "cogvideox", image_to_video=True)
    initial_model(load_config(path), tmp_path / "init", source=CogVideoXSource.open(tmp_path / "cogvideox"))
    shutil.copytree(runs / "motion-vae" / "motion_vae", tmp_path / "init" / "motion_vae")
    run("joint", path, wide, tmp_path / "out", init=tmp_path / "init", steps=2)
    start, after = weights(tmp_path / "init" / "transformer"), weights(tmp_path / "out" / "transformer")
    moved = {name for name, value in after.items() if not torch.equal(value, start[name].bfloat16().float())}
    assert {name for name in moved if "motion" not in name and ".attn1.to_" not in name} == set()
    assert any(".attn1.to_q.weight" in name for name in moved)
    adapters = load_file(tmp_path / "out" / "transformer-adapters" / "adapter_model.safetensors")
    assert len(adapters) == 2 * 4 * 4  # A and B of four projections in four layers


def test_packed_weights_make_a_clip(runs: Path, config: Path, tmp_path: Path) -> None:
    pack(load_config(config), runs, tmp_path / "packed")
    pipeline = EgoTwinPipeline.from_pretrained(tmp_path / "packed")
    trained = weights(runs / "joint" / "transformer")
    for name, value in pipeline.transformer.state_dict().items():
        assert torch.equal(value.float(), trained[name].bfloat16().float()), name
    frame = np.zeros((*WIDE, 3), np.uint8)
    made = pipeline(
        "walk", first_frame=frame, initial_pose=motion(0)[:1], num_frames=FRAMES, num_inference_steps=1,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert made.videos[0].shape == (FRAMES, *WIDE, 3) and len(made.motions[0]) == 2 * FRAMES - 1


@pytest.mark.slow
def test_the_command_in_two_processes_is_that_in_one(
    runs: Path, config: Path, wide: Path, tall: Path, mute: Path, tmp_path: Path
) -> None:
    """Caches, shared out to the processes, and weights, of all three stages."""
    folder = tmp_path / "toy"
    shutil.copytree(runs, folder, ignore=shutil.ignore_patterns("latents", "motion-vae", "text-motion", "joint"))
    for stage, sets in (("motion-vae", [wide, mute]), ("text-motion", [wide, tall, mute]), ("joint", [wide, tall])):
        words = [stage, "--config", config, "--out", folder / stage]
        words += [word for one in sets for word in ("--data", one)]
        words += [] if stage == "motion-vae" else ["--init", folder]
        ended = together.torchrun(2, "-m", "egotwin_sim", "train", *map(str, words))
        assert ended.returncode == 0, ended.stderr
        part = "motion_vae" if stage == "motion-vae" else "transformer"
        found, expected = weights(folder / stage / part), weights(runs / stage / part)
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=0, msg=f"{stage}: {name}")
