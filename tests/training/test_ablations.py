"""Ablations are data: what each changes, what it costs, where it starts; and one of them trained to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.models.denoiser import denoiser_class
from egotwin_sim.training.ablations import MODEL, VARIANTS, joint_steps, scaled, train_variant, variant_config
from egotwin_sim.training.config import build, load_config


@pytest.fixture
def config() -> dict[str, Any]:
    return load_config("ablation")


def different(a: Any, b: Any, where: str = "") -> set[str]:
    """The keys whose values differ."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return set() if a == b else {where}
    found: set[str] = set()
    for key in a.keys() | b.keys():
        found |= different(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    return found


def model_of(config: dict[str, Any], name: str) -> Any:
    told = dict(variant_config(config, name)["models"]["transformer"])
    return build(denoiser_class(told.pop("kind", "egotwin")), told, name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "root-centric",
            {"models.motion_vae.representation", "models.motion_vae.feature_dim", "stages.motion_vae.loss"},
        ),
        ("no-interaction", {"models.transformer.interaction"}),
        ("shared-timestep", {"models.transformer.shared_timestep"}),
        ("no-pretraining", {"stages.text_motion", "stages.joint.trainer.steps"}),
        ("motion-in-all-layers", {"models.transformer.motion_layers"}),
        ("separate-text", {"models.transformer.separate_text"}),
    ],
)
def test_a_variant_changes_what_it_says_and_nothing_else(config: dict, name: str, expected: set[str]) -> None:
    before = load_config("ablation")
    full = variant_config(config, "full", seed=3)
    assert different(full, variant_config(config, name, seed=3)) == expected
    assert different(full, variant_config(config, "full", seed=4)) == {
        "stages.text_motion.trainer.seed",
        "stages.joint.trainer.seed",
    }
    assert config == before


def test_every_variant_can_be_built_and_the_baseline_has_the_budget_of_the_full_model(config: dict) -> None:
    sizes = {}
    for name in VARIANTS:
        with torch.device("meta"):
            sizes[name] = sum(parameter.numel() for parameter in model_of(config, name).parameters())
    assert abs(sizes["vidmld"] / sizes["full"] - 1) < 0.05
    same = {name for name, size in sizes.items() if size == sizes["full"]}
    assert same == {"full", "root-centric", "no-interaction", "shared-timestep", "no-pretraining"}
    assert "no pre-training" not in VARIANTS and {v.paper for v in VARIANTS.values()} >= {"w/o MR", "w/o IM", "w/o AD"}


def test_without_pretraining_its_cost_goes_to_the_joint_stage(config: dict) -> None:
    first, second = (config["stages"][name]["trainer"] for name in ("text_motion", "joint"))
    # Text 32 and motion 21 in half the layers, against those with 11 latents of 16 patches in all of them.
    worth = first["steps"] * first["batch_size"] * 53 / 2 / (second["batch_size"] * (53 + 176))
    assert joint_steps(config) == second["steps"] + round(worth)
    for name in ("no-pretraining", "vidmld"):
        changed = variant_config(config, name)
        assert changed["stages"]["joint"]["trainer"]["steps"] == joint_steps(config)
        assert "text_motion" not in changed["stages"]


def test_a_longer_run_keeps_the_proportion(config: dict) -> None:
    before = {name: config["stages"][name]["trainer"]["steps"] for name in ("text_motion", "joint")}
    longer = scaled(config, 3 * before["joint"])["stages"]
    assert longer["joint"]["trainer"]["steps"] == 3 * before["joint"]
    assert longer["text_motion"]["trainer"]["steps"] == 3 * before["text_motion"]
    assert longer["motion_vae"] == config["stages"]["motion_vae"]


def test_refusals(config: dict) -> None:
    with pytest.raises(UserError, match="expected one of full, root-centric"):
        variant_config(config, "no-mask")
    with pytest.raises(UserError, match="not negative"):
        variant_config(config, "full", seed=-1)
    with pytest.raises(UserError, match=r"no models\.vidmld"):
        variant_config(load_config("nano"), "vidmld")


@pytest.mark.slow
def test_variants_are_trained_once_and_generate(config: dict, tmp_path: Path) -> None:
    from egotwin_sim.data import LeRobotReader
    from egotwin_sim.data.room import generate_room_dataset
    from egotwin_sim.pipelines import EgoTwinPipeline

    data = generate_room_dataset(tmp_path / "data", clips=8, seed=5, workers=1, size=128)
    config["models"]["motion_vae"] |= {"latent_channels": 8, "width": 16, "blocks": 1}
    for name in ("transformer", "vidmld"):
        config["models"][name] |= {
            "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "motion_channels": 8,
        }  # fmt: skip
    config["models"]["transformer"] |= {"motion_dim": 16}
    for stage in config["stages"].values():
        stage["trainer"] |= {"steps": 2, "batch_size": 2, "warmup_steps": 1, "validate_every": 2}
    out, told = tmp_path / "out", []
    clip = LeRobotReader(data).clip(7, depth=False)
    small = clip.video.reshape(41, 32, 4, 32, 4, 3).mean((2, 4)).round().astype(np.uint8)
    for name in ("full", "root-centric", "shared-timestep", "vidmld"):
        folder = train_variant(name, config, data, out, seed=1, report=told.append)
        assert folder == out / name / "seed-1" / MODEL
        pipeline = EgoTwinPipeline.from_pretrained(folder)
        made = pipeline(clip.text, "t2vm", small[0], clip.motion[:1], num_inference_steps=1)
        assert made.videos[0].shape == (41, 32, 32, 3) and len(made.motions[0]) == 81
        if name in ("shared-timestep", "vidmld"):
            with pytest.raises(UserError, match="one timestep"):
                pipeline(clip.text, "tm2v", small[0], motion=clip.motion)
            with pytest.raises(UserError, match="same number of steps"):
                pipeline(clip.text, "t2vm", small[0], clip.motion[:1], num_inference_steps=1, motion_lead=1)
    assert sum("motion VAE" in line for line in told) == 2 and sum("pictures" in line for line in told) == 1
    told.clear()
    train_variant("full", config, data, out, seed=1, report=told.append)
    assert not told
    with pytest.raises(UserError, match="another configuration"):
        train_variant("full", scaled(config, 5), data, out, seed=1)
