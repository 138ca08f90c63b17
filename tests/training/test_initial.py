"""The folder that training starts from: equal to CogVideoX, whole or not there, never as a whole in memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from safetensors.torch import load_file

from egotwin_sim.diffusion.schedule import alphas_cumprod
from egotwin_sim.errors import UserError
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.models.cogvideox_source import CogVideoXSource
from egotwin_sim.pipelines import EgoTwinPipeline
from egotwin_sim.training.config import load_config
from egotwin_sim.training.initial import initial_model
from tests.cogvideox import TEXTS, save_pipeline, write_config


@pytest.fixture(scope="module", params=["text", "image"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(request.param) / "hub"
    return folder, save_pipeline(folder, image_to_video=request.param == "image")


@pytest.fixture(scope="module")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "hub"
    save_pipeline(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return load_config(write_config(tmp_path / "tiny.yaml"))


@pytest.fixture
def copied(text_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return shutil.copytree(text_checkpoint, tmp_path / "copied")


def make(config: dict[str, Any], out: Path, checkpoint: Path | None = None, **options: Any) -> Path:
    source = None if checkpoint is None else CogVideoXSource.open(checkpoint)
    initial_model(config, out, source=source, **options)
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def refused(config: dict[str, Any], checkpoint: Path, tmp_path: Path, match: str) -> None:
    """Neither the folder nor anything beside it is left behind."""
    out = tmp_path / "out" / "model"
    out.parent.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=match):
        make(config, out, checkpoint)
    assert list(out.parent.iterdir()) == []


def test_without_motion_it_computes_what_the_checkpoint_computes(checkpoint, config, tmp_path: Path) -> None:
    folder, theirs = checkpoint
    out = make(config, tmp_path / "model", folder, dtype=torch.float32, shard_bytes=30_000)
    assert len(list((out / "transformer").glob("*.safetensors"))) > 3
    ours = EgoTwinTransformer3DModel.from_pretrained(out / "transformer")
    assert ours.config.in_channels == theirs.config.in_channels
    video = torch.randn(2, 3, theirs.config.in_channels, 4, 8)
    text, timestep = torch.randn(2, 6, 12), torch.tensor([7, 903])
    rotary = get_3d_rotary_pos_embed(16, ((0, 0), (2, 4)), (2, 4), 3)
    with torch.no_grad():
        expected = theirs(video, text, timestep, image_rotary_emb=rotary).sample
        torch.testing.assert_close(ours(video, text, timestep).video, expected, atol=1e-5, rtol=1e-5)


def test_the_folder_is_a_pipeline_with_the_checkpoints_parts(checkpoint, config, tmp_path: Path) -> None:
    folder, _ = checkpoint
    pipeline = EgoTwinPipeline.from_pretrained(make(config, tmp_path / "model", folder))
    assert (pipeline.config.height, pipeline.config.width) == (32, 64)
    for theirs, ours in (("vae", pipeline.video_vae), ("text_encoder", pipeline.text_encoder)):
        for name, value in weights(folder / theirs).items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0)
    assert pipeline.video_vae.config.scaling_factor == 0.7
    schedule = CogVideoXDDIMScheduler.from_config(pipeline.scheduler.config)
    torch.testing.assert_close(schedule.alphas_cumprod.float(), alphas_cumprod_of_training(), atol=1e-6, rtol=0)
    import sentencepiece

    plain = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer" / "spiece.model"))
    assert pipeline.tokenizer(TEXTS[0])["input_ids"] == [*plain.encode(TEXTS[0]), plain.eos_id()]


def alphas_cumprod_of_training() -> torch.Tensor:
    from egotwin_sim.diffusion.schedule import NoiseScheduleConfig

    return alphas_cumprod(NoiseScheduleConfig())


def test_learnt_positions_of_a_shorter_clip_are_the_first_ones(config, tmp_path: Path) -> None:
    theirs = save_pipeline(tmp_path / "hub", image_to_video=True)
    ours = EgoTwinTransformer3DModel.from_pretrained(
        make(config, tmp_path / "model", tmp_path / "hub", dtype=torch.float32) / "transformer"
    )
    video, text, timestep = torch.randn(1, 2, 8, 4, 8), torch.randn(1, 6, 12), torch.tensor([500])
    theirs.config.sample_frames = theirs.patch_embed.sample_frames = 5  # then diffusers takes the table as it is
    theirs.patch_embed.pos_embedding = theirs.patch_embed.pos_embedding[:, : 6 + 2 * 8]
    with torch.no_grad():
        rotary = get_3d_rotary_pos_embed(16, ((0, 0), (2, 4)), (2, 4), 2)
        expected = theirs(video, text, timestep, image_rotary_emb=rotary).sample
        torch.testing.assert_close(ours(video, text, timestep).video, expected, atol=1e-5, rtol=1e-5)
        with pytest.raises(UserError, match="at most 3 of 8x4"):
            ours(torch.randn(1, 4, 8, 4, 8), text, timestep)
        with pytest.raises(UserError, match="at most 3 of 8x4"):
            ours(torch.randn(1, 3, 8, 8, 8), text, timestep)


def test_text_of_its_own_starts_as_a_copy(text_checkpoint: Path, tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path / "tiny.yaml", separate_text=True))
    out = make(config, tmp_path / "model", text_checkpoint, dtype=torch.float32)
    ours = EgoTwinTransformer3DModel.from_pretrained(out / "transformer")
    theirs = EgoTwinTransformer3DModel.from_cogvideox(text_checkpoint, motion_channels=6, motion_dim=16)
    video, text, timestep = torch.randn(1, 3, 4, 4, 8), torch.randn(1, 6, 12), torch.tensor([500])
    with torch.no_grad():
        expected = theirs(video, text, timestep).video
        torch.testing.assert_close(ours(video, text, timestep).video, expected, atol=1e-5, rtol=1e-5)


def test_the_motion_branch_starts_as_a_new_models_does(text_checkpoint: Path, config, tmp_path: Path) -> None:
    first, again, other = (
        weights(make(config, tmp_path / str(i), text_checkpoint, dtype=torch.float32, seed=seed) / "transformer")
        for i, seed in enumerate((0, 0, 1))
    )
    new = EgoTwinTransformer3DModel(**config["models"]["transformer"]).state_dict()
    assert set(first) == set(new)
    differing = set()
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0)
        if not torch.equal(other[name], value):
            differing.add(name)
        if name.startswith(("motion_", "video_time_to_motion")):
            assert bool(value.any()) == bool(new[name].any()), name
            if value.numel() > 100:
                assert value.std().item() == pytest.approx(new[name].std().item(), rel=0.2)
    assert differing and all(name.startswith("motion_") for name in differing)


def test_from_nothing(config, tmp_path: Path) -> None:
    out = make(config, tmp_path / "model", dtype=torch.float32)
    model = EgoTwinTransformer3DModel.from_pretrained(out / "transformer")
    new = EgoTwinTransformer3DModel(**config["models"]["transformer"])
    for name, value in model.state_dict().items():
        assert value.isfinite().all()
        assert bool(value.any()) == bool(new.state_dict()[name].any()), name
    schedule = CogVideoXDDIMScheduler.from_pretrained(out / "scheduler")
    torch.testing.assert_close(schedule.alphas_cumprod.float(), alphas_cumprod_of_training(), atol=1e-6, rtol=0)
    assert sorted(path.name for path in out.iterdir()) == ["scheduler", "transformer"]


def test_parts_around_a_new_transformer(text_checkpoint: Path, tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path / "wider.yaml", num_attention_heads=3, num_layers=2))
    initial_model(config, tmp_path / "model", around=CogVideoXSource.open(text_checkpoint))
    pipeline = EgoTwinPipeline.from_pretrained(tmp_path / "model")
    assert pipeline.transformer.config.num_attention_heads == 3
    assert pipeline.text_encoder is not None


@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 2), (torch.float32, 4)])
def test_the_asked_dtype(text_checkpoint: Path, config, tmp_path: Path, dtype: torch.dtype, size: int) -> None:
    out = make(config, tmp_path / "model", text_checkpoint, dtype=dtype)
    found = weights(out / "transformer")
    assert {value.dtype for value in found.values()} == {dtype}
    theirs = weights(text_checkpoint / "transformer")
    for name, value in theirs.items():
        torch.testing.assert_close(found[name], value.to(dtype), rtol=0, atol=0)


def test_linked_weights_share_the_checkpoints_disk_space(text_checkpoint: Path, config, tmp_path: Path) -> None:
    out = make(config, tmp_path / "model", text_checkpoint, link=True)
    theirs, ours = (folder / "model.safetensors" for folder in (text_checkpoint / "text_encoder", out / "text_encoder"))
    assert os.path.samefile(theirs, ours)
    assert not os.path.samefile(text_checkpoint / "vae" / "config.json", out / "video_vae" / "config.json")


class TestRefused:
    def test_a_size_that_differs_is_named_key_by_key(self, text_checkpoint: Path, tmp_path: Path) -> None:
        config = load_config(write_config(tmp_path / "other.yaml", num_layers=6, time_embed_dim=8))
        refused(
            config, text_checkpoint, tmp_path, r"transformer\.time_embed_dim 8 \(16\).*transformer\.num_layers 6 \(4\)"
        )

    def test_sine_positions_of_2b(self, config, tmp_path: Path) -> None:
        save_pipeline(tmp_path / "hub", use_rotary_positional_embeddings=False)
        refused(config, tmp_path / "hub", tmp_path, r"transformer\.use_rotary_positional_embeddings True \(False\)")

    def test_another_schedule(self, config, copied: Path, tmp_path: Path) -> None:
        edit(copied / "scheduler" / "scheduler_config.json", snr_shift_scale=3.0)
        refused(config, copied, tmp_path, r"scheduler\.snr_shift_scale 1\.0 \(3\.0\)")

    def test_another_video_vae(self, config, copied: Path, tmp_path: Path) -> None:
        edit(copied / "vae" / "config.json", scaling_factor=1.15258426)
        refused(config, copied, tmp_path, r"video_vae\.scaling_factor 0\.7 \(1\.15258426\)")
        edit(copied / "vae" / "config.json", scaling_factor=0.7, invert_scale_latents=True)
        refused(config, copied, tmp_path, r"invert_scale_latents.*1\.5")

    def test_cogvideox_15(self, config, tmp_path: Path) -> None:
        save_pipeline(tmp_path / "hub", patch_size_t=2, sample_frames=13)
        refused(config, tmp_path / "hub", tmp_path, r"CogVideoX 1\.5")

    def test_another_pipeline_or_network(self, config, copied: Path, tmp_path: Path) -> None:
        edit(copied / "transformer" / "config.json", _class_name="CogView3PlusTransformer2DModel")
        refused(config, copied, tmp_path, "CogView3PlusTransformer2DModel; expected a CogVideoXTransformer3DModel")
        edit(copied / "model_index.json", _class_name="WanPipeline")
        refused(config, copied, tmp_path, "WanPipeline; expected a CogVideoXPipeline")
        (copied / "model_index.json").unlink()
        refused(config, copied, tmp_path, r"model_index\.json cannot be read")

    @pytest.mark.parametrize("part", ["transformer", "vae"])
    def test_a_missing_shard(self, config, copied: Path, tmp_path: Path, part: str) -> None:
        sorted((copied / part).glob("*-of-*.safetensors"))[1].unlink()
        refused(config, copied, tmp_path, "lacks 1 of")

    @pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
    def test_a_truncated_file(self, config, copied: Path, tmp_path: Path, part: str) -> None:
        file = sorted((copied / part).glob("*.safetensors"))[-1]
        file.write_bytes(file.read_bytes()[:-8])
        refused(config, copied, tmp_path, f"{file.name} has .* bytes and should have")

    def test_foreign_weights(self, config, copied: Path, tmp_path: Path) -> None:
        edit(copied / "transformer" / "config.json", patch_bias=False)
        refused(config, copied, tmp_path, r"patch_bias True \(False\)")
        config["models"]["transformer"]["patch_bias"] = False
        refused(config, copied, tmp_path, r"has unknown weights \(1, first patch_embed\.proj\.bias\)")

    def test_a_text_encoder_of_another_width(self, copied: Path, config, tmp_path: Path) -> None:
        edit(copied / "text_encoder" / "config.json", d_model=16)
        refused(config, copied, tmp_path, r"transformer\.text_embed_dim 12 \(16\)")

    def test_a_damaged_tokenizer(self, config, copied: Path, tmp_path: Path) -> None:
        (copied / "tokenizer" / "spiece.model").write_bytes(b"nothing")
        refused(config, copied, tmp_path, "tokenizer does not load")
        (copied / "tokenizer" / "spiece.model").unlink()
        refused(config, copied, tmp_path, "neither")

    def test_a_folder_in_use(self, text_checkpoint: Path, config, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine").write_text("precious")
        with pytest.raises(UserError, match="empty folder"):
            make(config, tmp_path / "model", text_checkpoint)
        assert (tmp_path / "model" / "mine").read_text() == "precious"

    @pytest.mark.parametrize(("part", "name"), [("motion_vae", "motion_channels"), ("video_vae", "out_channels")])
    def test_parts_that_do_not_belong_together(self, config, tmp_path: Path, part: str, name: str) -> None:
        config["models"][part]["latent_channels"] = 5
        with pytest.raises(UserError, match=rf"transformer\.{name} is \d and models\.{part}\.latent_channels 5"):
            make(config, tmp_path / "model")

    def test_the_nano_form(self, text_checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="published form"):
            make(load_config("nano"), tmp_path / "model", text_checkpoint)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_interruption_leaves_nothing(text_checkpoint: Path, config, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "model"
    out.parent.mkdir()

    def stop(line: str) -> None:
        if line.startswith("video_vae"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(config, out, text_checkpoint, report=stop)
    assert list(out.parent.iterdir()) == []


@pytest.mark.slow
def test_what_a_kill_leaves_is_cleared_away(text_checkpoint: Path, config, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "model"
    out.parent.mkdir()
    program = (
        "import os, signal, sys\n"
        "from egotwin_sim.models.cogvideox_source import CogVideoXSource\n"
        "from egotwin_sim.training.config import load_config\n"
        "from egotwin_sim.training.initial import initial_model\n"
        "source = CogVideoXSource.open(sys.argv[2])\n"
        "end = lambda line: line.startswith('video_vae') and os.kill(os.getpid(), signal.SIGKILL)\n"
        "initial_model(load_config(sys.argv[1]), __import__('pathlib').Path(sys.argv[3]), source=source, report=end)\n"
    )
    arguments = [str(tmp_path / "tiny.yaml"), str(text_checkpoint), str(out)]
    assert subprocess.run([sys.executable, "-c", program, *arguments]).returncode == -signal.SIGKILL
    assert [path.name for path in out.parent.iterdir()] == [".model.partial"]
    make(config, out, text_checkpoint)
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    assert EgoTwinPipeline.from_pretrained(out).transformer is not None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' peak of resident memory")
def test_memory_stays_far_below_one_copy(tmp_path: Path) -> None:
    """A checkpoint of many shards; the process has done the same with a tiny one before."""
    wide = {"num_attention_heads": 24, "num_layers": 6, "time_embed_dim": 128}
    save_pipeline(tmp_path / "large", shard="3MB", **wide)
    save_pipeline(tmp_path / "tiny")
    write_config(tmp_path / "large.yaml", **wide)
    write_config(tmp_path / "tiny.yaml")
    shards = list((tmp_path / "large" / "transformer").glob("*.safetensors"))
    size = sum(file.stat().st_size for file in shards)
    assert len(shards) > 12 and size > 40e6
    program = (
        "import sys, pathlib\n"
        "from egotwin_sim.models.cogvideox_source import CogVideoXSource\n"
        "from egotwin_sim.training.config import load_config\n"
        "from egotwin_sim.training.initial import initial_model\n"
        "def told(key):\n"
        "    lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for name in ('tiny', 'large'):\n"
        "    config, source = load_config(folder / f'{name}.yaml'), CogVideoXSource.open(folder / name)\n"
        "    pathlib.Path('/proc/self/clear_refs').write_text('5')\n"
        "    before = told('VmRSS')\n"
        "    initial_model(config, folder / f'{name}-made', source=source)\n"
        "print(told('VmHWM') - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 0.2 * size, f"{int(run.stdout) / 1e6:.0f} MB for a checkpoint of {size / 1e6:.0f} MB"
