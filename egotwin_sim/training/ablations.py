"""The paper's ablations and baseline as changes to one configuration, and the run that trains one of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egotwin_sim.errors import UserError
from egotwin_sim.files import replacing
from egotwin_sim.training.config import Section, section

Report = Callable[[str], None]

SETTINGS = "ablation.json"
"""In a run's folder: the configuration that it is of."""

MODEL = "model"
"""In a run's folder: the trained model, as `EgoTwinPipeline.from_pretrained` reads it."""


@dataclass(frozen=True)
class Same:
    """The value that another key of the configuration has.

    Attributes:
        key: "models.transformer.num_layers", for example.
    """

    key: str


@dataclass(frozen=True)
class Variant:
    """One row of the ablation table.

    Attributes:
        what: what is different, for the reader.
        paper: its name in the paper's table; None where the paper has no such row.
        changes: values by their key in the configuration ("models.motion_vae.representation").
        pretraining: whether text to motion is trained first (stage two). Without it, the joint stage has as many more
            steps as the pre-training's would have cost (`joint_steps`).
    """

    what: str
    paper: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    pretraining: bool = True


VARIANTS: dict[str, Variant] = {
    "full": Variant("the model as published", "full"),
    "root-centric": Variant(
        "HumanML3D's root-centric motion features instead of head-centric ones",
        "w/o MR",
        {
            "models.motion_vae.representation": "root",
            "models.motion_vae.feature_dim": 263,
            # root, contacts, joint_3d, joint_6d: the root counts as the head does, and contacts as what they are,
            # a by-product that no decoding reads.
            "stages.motion_vae.loss.groups": [8.0, 0.25, 0.5, 1.0],
        },
    ),
    "no-interaction": Variant(
        "video and motion see each other without the interaction mask",
        "w/o IM",
        {"models.transformer.interaction": False},
    ),
    "shared-timestep": Variant(
        "one timestep for both modalities", "w/o AD", {"models.transformer.shared_timestep": True}
    ),
    "no-pretraining": Variant("no text-to-motion pre-training", pretraining=False),
    "motion-in-all-layers": Variant(
        "the motion branch in all layers instead of the lower half",
        changes={"models.transformer.motion_layers": Same("models.transformer.num_layers")},
    ),
    "separate-text": Variant(
        "text has weights of its own instead of the video's", changes={"models.transformer.separate_text": True}
    ),
    "vidmld": Variant(
        "the baseline: one plain transformer, no branches, one timestep",
        "VidMLD",
        {"models.transformer": Same("models.vidmld"), "models.transformer.kind": "vidmld"},
        pretraining=False,
    ),
}


def find_variant(name: str) -> Variant:
    """A variant by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in VARIANTS:
        raise UserError(f"there is no ablation {name!r}; expected one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def variant_config(config: Section, name: str, seed: int = 0) -> Section:
    """The configuration of a variant: the given one with its changes, seed and number of steps.

    The motion VAE keeps its own seed: it is shared by all variants and seeds of the same representation.

    Args:
        config: a configuration such as "ablation".
        name: of the variant.
        seed: of the transformer's stages.

    Raises:
        UserError: no such variant, or the configuration lacks what it changes.
    """
    variant = find_variant(name)
    if seed < 0:
        raise UserError(f"the seed is {seed}; expected a number that is not negative")
    changed = deepcopy(config)
    for key, value in variant.changes.items():
        _set(changed, key, deepcopy(_get(changed, value.key)) if isinstance(value, Same) else value)
    changed["models"].pop("vidmld", None)
    for stage in ("text_motion", "joint"):
        section(changed, "stages", stage).setdefault("trainer", {})["seed"] = seed
    if not variant.pretraining:
        changed["stages"]["joint"]["trainer"]["steps"] = joint_steps(config)
        del changed["stages"]["text_motion"]
    return changed


def joint_steps(config: Section) -> int:
    """Steps of the joint stage of a variant without pre-training: the pre-training's cost goes to it.

    A pre-training step of b samples counts as b (text + motion tokens) times the share of the layers that hold the
    motion branch, a joint step of B samples as B (text + motion + video tokens): products grow with the tokens, and
    the text branch is passed through in both.
    """
    transformer = section(config, "models", "transformer")
    first, second = (section(config, "stages", name)["trainer"] for name in ("text_motion", "joint"))
    latents = (transformer["sample_frames"] - 1) // 4 + 1
    patches = transformer["sample_height"] * transformer["sample_width"] // transformer["patch_size"] ** 2
    alone = transformer["max_text_seq_length"] + 2 * latents - 1
    layers = transformer["num_layers"]
    share = (transformer.get("motion_layers") or layers // 2) / layers
    worth = first["batch_size"] * alone * share / (second["batch_size"] * (alone + latents * patches))
    return int(second["steps"] + round(first["steps"] * worth))


def scaled(config: Section, steps: int) -> Section:
    """The configuration with a joint stage of so many steps, and pre-training in the same proportion."""
    changed = deepcopy(config)
    trainers = {name: section(changed, "stages", name)["trainer"] for name in ("text_motion", "joint")}
    before = trainers["joint"]["steps"]
    trainers["joint"]["steps"] = steps
    trainers["text_motion"]["steps"] = max(1, round(trainers["text_motion"]["steps"] * steps / before))
    for trainer in trainers.values():
        trainer["validate_every"] = trainer["steps"]
    return changed


def train_variant(
    name: str,
    config: Section,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    report: Report = lambda line: None,
) -> Path:
    """Train a variant through its stages; what is there already is not done again.

    Below ``out``: ``pictures`` (the data set at the model's size), ``shared/<representation>`` (motion VAE and cached
    latents), ``<name>/seed-<seed>`` (the variant's stages and, at the end, its ``model``). The video VAE is the shipped
    nano's; transformers start from nothing.

    Args:
        name: of the variant.
        config: a configuration such as "ablation".
        data: a data set of rooms.
        out: the folder of all variants.
        seed: of the transformer's stages.
        report: told what is being done.

    Returns:
        The trained model's folder.

    Raises:
        UserError: no such variant, or ``out`` holds runs of another configuration or data set.
    """
    from egotwin_sim.pipelines.weights import find_weights
    from egotwin_sim.training.components import folder_digest
    from egotwin_sim.training.stages import joint, motion_vae, text_motion

    changed = variant_config(config, name, seed)
    run, video_vae = out / name / f"seed-{seed}", find_weights("nano") / "video_vae"
    identity = {**changed, "video_vae": folder_digest(video_vae)}
    if (run / MODEL).is_dir():
        _claim(run, identity, data)
        return run / MODEL
    pictures = pictures_of(changed, data, out, report)
    shared = out / "shared" / str(changed["models"]["motion_vae"].get("representation", "head"))
    _claim(shared, {part: {"motion_vae": changed[part]["motion_vae"]} for part in ("models", "stages")}, data)
    _link(video_vae, shared / "video_vae")
    if not (shared / "motion-vae" / "motion_vae").is_dir():
        report(f"motion VAE, {shared.name}-centric")
        motion_vae.run(changed, pictures, shared / "motion-vae", resume=True, steps=None, init=None)
    _claim(run, identity, data)
    for part in ("video_vae", "motion-vae", "latents"):
        (shared / part).mkdir(parents=True, exist_ok=True)
        _link(shared / part, run / part)
    if find_variant(name).pretraining and not (run / "text-motion" / "transformer").is_dir():
        report(f"{name}, seed {seed}: text to motion")
        text_motion.run(changed, pictures, run / "text-motion", resume=True, steps=None, init=run)
    if not (run / "joint" / "transformer").is_dir():
        report(f"{name}, seed {seed}: text, video and motion")
        joint.run(changed, pictures, run / "joint", resume=True, steps=None, init=run)
    _pack(changed, run)
    return run / MODEL


def pictures_of(config: Section, data: Path, out: Path, report: Report = lambda line: None) -> Path:
    """The data set with pictures of the model's size: the given one, or a copy of it in ``out``, made if need be."""
    from egotwin_sim.data import LeRobotReader
    from egotwin_sim.data.columns import VIDEO
    from egotwin_sim.data.lerobot_writer import INFO_PATH
    from egotwin_sim.data.smaller import smaller_dataset

    reader, folder = LeRobotReader(data), out / "pictures"
    transformer = config["models"]["transformer"]
    size = 8 * transformer["sample_height"], 8 * transformer["sample_width"]
    if tuple(reader.features[VIDEO]["shape"][:2]) == size:
        return data
    count = config["stages"]["joint"].get("clips") or len(reader.split("train"))
    _claim(out / "pictures-of", {"clips": count, "size": list(size)}, data)
    if not (folder / INFO_PATH).is_file():
        report(f"pictures of {size[1]}x{size[0]}")
        shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
        smaller_dataset(reader, folder, size, {"train": count, "val": len(reader.split("val"))})
    return folder


def _claim(folder: Path, config: Mapping[str, Any], data: Path) -> None:
    """Say in a folder what it is for, or check that it is for this.

    Raises:
        UserError: it is for something else.
    """
    told = {"data": str(data.resolve()), **config}
    path = folder / SETTINGS
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(told, indent=1))
    elif json.loads(path.read_text()) != json.loads(json.dumps(told)):
        raise UserError(
            f"{folder} holds a run of another configuration, budget or data set (see {path}); give another --out, or "
            "remove it"
        )


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink() and not link.exists():
        link.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))


def _pack(config: Section, run: Path) -> None:
    """Put the trained parts together as a pipeline, in float32; the runs' checkpoints, four times its size, go."""
    from egotwin_sim.models.cogvideox_source import noise_scheduler
    from egotwin_sim.models.denoiser import load_denoiser
    from egotwin_sim.models.motion_vae import MotionVAE
    from egotwin_sim.models.video_vae import VideoVAE
    from egotwin_sim.pipelines import EgoTwinPipeline
    from egotwin_sim.training.components import load_component

    pipeline = EgoTwinPipeline(
        load_denoiser(run / "joint" / "transformer"),
        load_component(VideoVAE, run, "video_vae"),
        load_component(MotionVAE, run, "motion_vae"),
        noise_scheduler(),
        text=dict(config["models"]["text_encoder"]),
    )
    partial = run / f".{MODEL}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    partial.rename(run / MODEL)
    for stage in ("text-motion", "joint"):
        shutil.rmtree(run / stage / "checkpoint", ignore_errors=True)


def _get(config: Section, key: str) -> Any:
    part, name, *rest = key.split(".")
    value: Any = section(config, part, name)
    for step in rest:
        if step not in value:
            raise UserError(f"the configuration has no {key}, which an ablation takes over")
        value = value[step]
    return value


def _set(config: Section, key: str, value: Any) -> None:
    part, name, *rest = key.split(".")
    if not rest:
        config[part][name] = value
        return
    inner = section(config, part, name)
    for step in rest[:-1]:
        inner = inner.setdefault(step, {})
    inner[rest[-1]] = value
