"""Few denoising steps, on the model's own roll-outs, judged by the pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from egotwin_sim.data import LeRobotReader
from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.metrics.image import psnr
from egotwin_sim.metrics.sharpness import sharpness_ratio
from egotwin_sim.models.images import image_to_unit, unit_to_image
from egotwin_sim.models.transformer import EgoTwinTransformer3DModel
from egotwin_sim.models.video_vae import FRAMES_PER_LATENT
from egotwin_sim.pipelines.weights import StreamConfig
from egotwin_sim.training.components import frozen_networks, load_component
from egotwin_sim.training.config import build, section
from egotwin_sim.training.critic import LatentCritic, criticise
from egotwin_sim.training.denoising import DenoisingConfig, denoising_loss
from egotwin_sim.training.latents import latent_clips
from egotwin_sim.training.parts import WHOLE, Part, draw_normal, whole_draw
from egotwin_sim.training.pictures import edge_distribution_distance, gradient_distance, steepness_distance
from egotwin_sim.training.rollouts import RolloutClips, View, roll_out, view_of
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices, step_generator

HELD_OUT = 64  # clips of the validation split whose latents are cached, as in the stages before
VALIDATED = 16  # of which so many are dreamt
HORIZONS = (0.5, 1.0, 2.0, 4.0)  # seconds


@dataclass(frozen=True)
class DistillConfig:
    """The stage.

    Attributes:
        trainer: the optimisation; ``batch_size`` roll-outs a step.
        chunks: length of a roll-out.
        steps: numbers of denoising steps that the model shall do with, drawn for each roll-out.
        latent_weight: of the squared error of the latent beside the picture's distance.
        gradient_weight: of the distance of edges.
        steepness_weight: of the distance of edges' steepness; it keeps a dream of few steps sharp.
        distribution_weight: of the distance between edges' distributions; it keeps what was never seen from being a
            smear.
        tail: what that distance gives the steepest edges more, see ``edge_distribution_distance``.
        adversarial_weight: of a critic's opinion; 0 trains without a critic.
        slope_weight: of the critic's squared slope, which keeps it from telling the two apart too easily.
        coded_weight: of the same distances between true pictures and what the decoder makes of their latents. Above
            0 the video VAE's decoder is trained too, to ``out/video_vae``; its encoder, and so every latent, stays.
        anchor: samples of the streaming loss, which keeps what roll-outs under given motion do not use: dreaming the
            body, and denoising at any noise level.
        anchor_batch: clips of it in a step.
        anchor_window: latents after latent 0 that they hold.
        anchor_weight: of their loss.
        clips: clips of the training split that are used; all when None.
    """

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    chunks: int = 4
    steps: tuple[int, ...] = (1, 2, 4)
    latent_weight: float = 0.3
    gradient_weight: float = 0.5
    steepness_weight: float = 1.0
    distribution_weight: float = 4.0
    tail: float = 0.0
    adversarial_weight: float = 0.0
    slope_weight: float = 0.05
    coded_weight: float = 0.0
    anchor: DenoisingConfig = field(default_factory=DenoisingConfig)
    anchor_batch: int = 8
    anchor_window: int = 4
    anchor_weight: float = 0.3
    clips: int | None = None


class DistillBatches:
    """Roll-outs, and clips for the anchor, a function of the step."""

    def __init__(self, rollouts: RolloutClips, config: DistillConfig) -> None:
        self.rollouts, self.config = rollouts, config

    def __call__(self, step: int, part: Part = WHOLE) -> dict[str, Any]:
        """``rollout`` as ``RolloutClips.batch``, ``anchor`` as ``LatentClips.batch``."""
        config, clips = self.config, self.rollouts.latents
        seed, count = config.trainer.seed, self.rollouts.chunks
        rng = np.random.default_rng((seed, step, 3))
        chosen = batch_indices(len(clips), config.trainer.batch_size, seed, step, part)
        first = int(rng.integers(1, count - config.chunks + 2))
        others = batch_indices(len(clips), config.anchor_batch, seed + 1, step, part)
        start = int(rng.integers(1, count - config.anchor_window + 2))
        return {
            "rollout": self.rollouts.batch(chosen, first, config.chunks),
            "anchor": clips.batch(others, start, start + config.anchor_window),
        }


def picture_distance(a: Tensor, b: Tensor, config: DistillConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Distance of two videos (B, 3, T, H, W) in [-1, 1], and its parts."""
    parts = {
        "colour": (a - b).abs().mean(),
        "edges": gradient_distance(a, b),
        "steepness": steepness_distance(a, b),
        "distribution": edge_distribution_distance(a, b, tail=config.tail),
    }
    weights = (1.0, config.gradient_weight, config.steepness_weight, config.distribution_weight)
    return sum((w * part for w, part in zip(weights, parts.values(), strict=True)), start=a.new_zeros(())), parts


def distill_loss(
    transformer: EgoTwinTransformer3DModel,
    critic: LatentCritic | None,
    schedule: NoiseSchedule,
    view: View,
    batch: dict[str, Any],
    null: tuple[Tensor, Tensor],
    config: DistillConfig,
    window: int,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Distance of dreamt to true pictures along a roll-out, a critic's opinion of them, plus the anchor.

    The roll-out takes a random number of steps and, as in self-forcing, may stop after any of them: what the network
    says at that noise level is decoded and judged.
    """
    rollout, device = batch["rollout"], generator.device
    shape = (config.chunks, 2)  # of numbers that all samples share
    draw = whole_draw(
        1, generator, lambda _, source: torch.randint(0, 1 << 30, shape, generator=source, device=device).tolist()
    )
    counts = [config.steps[draw[0][0] % len(config.steps)]] * config.chunks
    steps = [(count, 1 + chunk[1] % count) for count, chunk in zip(counts, draw, strict=True)]
    noise = draw_normal(_noise_shape(rollout), generator, dim=1)
    rolled = roll_out(transformer, schedule, view, rollout, window, steps, noise)
    dreamt = torch.cat([part.picture for part in rolled], dim=2)
    true = image_to_unit(rollout["frames"][:, 1:]).transpose(1, 2)
    loss, figures = picture_distance(dreamt, true, config)
    latent = torch.stack([(part.clean - part.true_clean).square().mean() for part in rolled]).mean()
    anchor, parts = denoising_loss(transformer, schedule, batch["anchor"], null, config.anchor, generator)
    loss = loss + config.latent_weight * latent + config.anchor_weight * anchor
    figures |= {"latent": latent, "motion": parts["motion"]}
    if config.coded_weight:
        with torch.no_grad():
            _, before = view.vae.decode(rollout["latents"][:, -1, :, None])
        coded = view.vae.decode(rollout["future_latents"][:, 0, :, None], before)[0][:, 0].float()
        distance, coding = picture_distance(coded, true[:, :, :FRAMES_PER_LATENT], config)
        loss = loss + config.coded_weight * distance
        figures["coded"] = coding["colour"]
    if critic is not None:
        opinion, mistakes, steepness = criticise(
            critic,
            torch.cat([part.clean + part.prior for part in rolled]),
            rollout["future_latents"].transpose(0, 1).flatten(0, 1),
            torch.cat([part.condition for part in rolled]),
            draw_normal(noise.shape, generator, dim=1).flatten(0, 1),
        )
        loss = loss + config.adversarial_weight * (opinion + mistakes + config.slope_weight * steepness)
        figures |= {"opinion": opinion, "mistakes": mistakes, "slope": steepness}
    return loss, figures


def _noise_shape(rollout: dict[str, Tensor]) -> tuple[int, ...]:
    batch, chunks, *latent = rollout["future_latents"].shape
    return chunks, batch, *latent


@torch.no_grad()
def dream_quality(
    transformer: EgoTwinTransformer3DModel,
    schedule: NoiseSchedule,
    view: View,
    rollouts: RolloutClips,
    window: int,
    steps: int,
) -> dict[str, float]:
    """PSNR (dB) and sharpness of held-out clips dreamt from their first frame, at each horizon."""
    count = min(rollouts.chunks, round(HORIZONS[-1] * 2))
    clips = np.arange(min(VALIDATED, len(rollouts.latents)))
    batch = {k: v.to(transformer.device) for k, v in rollouts.batch(clips, 1, count).items()}
    plan = [(steps, steps)] * count
    generator = step_generator(1, 0, transformer.device)
    noise = torch.randn(_noise_shape(batch), generator=generator, device=transformer.device)
    rolled = roll_out(transformer, schedule, view, batch, window, plan, noise)
    figures = {}
    for horizon in HORIZONS:
        chunk = min(count, max(1, round(2 * horizon)))
        dreamt = unit_to_image(rolled[chunk - 1].picture[:, :, -1]).cpu()
        true = batch["frames"][:, FRAMES_PER_LATENT * chunk].cpu()
        pictures = [x.permute(0, 2, 3, 1).numpy() for x in (true, dreamt)]
        figures[f"psnr_db_{horizon:g}s"] = float(np.mean(psnr(*pictures)))
        figures[f"sharpness_{horizon:g}s"] = sharpness_ratio(*pictures)
    return figures


def run(config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None) -> None:
    """Train the transformer of the streaming stage to dream in few steps, into ``out/transformer``."""
    train("distill", config, data, out, resume=resume, steps=steps, init=init)


def train(
    name: str, config: dict[str, Any], data: Path, out: Path, *, resume: bool, steps: int | None, init: Path | None
) -> None:
    """Train a stage on roll-outs, starting from the transformer of the stage before it."""
    stage = build(DistillConfig, section(config, "stages", name), f"stages.{name}")
    if steps is not None:
        stage = replace(stage, trainer=replace(stage.trainer, steps=steps))
    reader = LeRobotReader(data, needs_video=True)
    networks = frozen_networks(config, init, before=name)
    transformer = load_component(EgoTwinTransformer3DModel, init, "transformer", before=name).train()
    folder = (init or out) / "latents"
    train_clips = latent_clips(reader, "train", folder, networks, limit=stage.clips)
    held_out = latent_clips(reader, "val", folder, networks, limit=HELD_OUT)
    vae, depth_net, motion_vae = networks.vae, networks.depth_net, networks.motion_vae
    window, schedule = StreamConfig().window, NoiseSchedule()
    rollouts = RolloutClips(reader, "train", train_clips, motion_vae, window)
    validation = RolloutClips(reader, "val", held_out, motion_vae, window)
    view, null = view_of(reader, vae, depth_net), train_clips.null()
    torch.manual_seed(stage.trainer.seed)
    modules: dict[str, nn.Module] = {"transformer": transformer}
    critic: LatentCritic | None = None
    if stage.adversarial_weight:
        channels = int(vae.config.latent_channels)
        critic = LatentCritic(channels, int(transformer.config.in_channels) - channels)
        modules["critic"] = critic
    if stage.coded_weight:
        for part, parameter in vae.named_parameters():
            parameter.requires_grad_(part.startswith("decoder_"))
        modules["video_vae"] = vae

    def loss(batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return distill_loss(transformer, critic, schedule, view, batch, null, stage, window, generator)

    def validate() -> dict[str, float]:
        with torch.autocast(transformer.device.type, torch.bfloat16, enabled=stage.trainer.precision == "bf16"):
            return dream_quality(transformer, schedule, view, validation, window, min(stage.steps))

    trainer = Trainer(
        modules,
        loss,
        DistillBatches(rollouts, stage),
        stage.trainer,
        out,
        validate=validate,
        resume=resume,
        title=name,
    )
    for module in (vae, depth_net):
        module.to(trainer.device)
    trainer.fit()
