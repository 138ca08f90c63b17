"""A small joint training on invented clips, for one process or for several under torchrun.

Run as ``torchrun ... together.py RUNS``: JSON, a list of the arguments of ``train``, one run after the other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egotwin_sim.diffusion.schedule import NoiseSchedule
from egotwin_sim.models import EgoTwinTransformer3DModel
from egotwin_sim.training import rows
from egotwin_sim.training.components import empty_denoiser
from egotwin_sim.training.denoising import DenoisingConfig, denoising_loss
from egotwin_sim.training.lora import LoraConfig, add_adapters
from egotwin_sim.training.parts import WHOLE, Part
from egotwin_sim.training.processes import processes, training_together
from egotwin_sim.training.trainer import Trainer, TrainerConfig, batch_indices, step_generator

CLIPS, LATENTS, CHANNELS, TOKEN_CHANNELS, TEXT = 12, 3, 4, 6, 5
CONFIG = TrainerConfig(
    steps=6, batch_size=4, learning_rate=3e-3, warmup_steps=2, ema_decay=0.9, precision="fp32", log_every=1,
    validate_every=3, checkpoint_steps=3,
)  # fmt: skip
NULL = torch.zeros(TEXT, 12), torch.ones(TEXT, dtype=torch.bool)
DENOISING = DenoisingConfig(motion_given=0.3)


def transformer() -> EgoTwinTransformer3DModel:
    """Three layers, of which two have a motion branch; some weights have fewer rows than processes."""
    torch.manual_seed(0)
    model = EgoTwinTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=CHANNELS, out_channels=CHANNELS, time_embed_dim=12,
        text_embed_dim=12, num_layers=3, motion_layers=2, sample_width=4, sample_height=6, max_text_seq_length=TEXT,
        use_rotary_positional_embeddings=True, motion_channels=TOKEN_CHANNELS, motion_dim=12,
    )  # fmt: skip
    for parameter in model.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def batch(config: TrainerConfig, step: int, part: Part) -> dict[str, Tensor]:
    """Clips that depend on their index alone."""
    made = []
    for clip in batch_indices(CLIPS, config.batch_size, config.seed, step, part):
        rng = np.random.default_rng(int(clip))
        sizes = {
            "latents": (LATENTS, CHANNELS, 6, 4),
            "tokens": (2 * LATENTS - 1, TOKEN_CHANNELS),
            "text": (TEXT, 12),
        }
        made.append({name: rng.standard_normal(size, dtype=np.float32) for name, size in sizes.items()})
    stacked = {name: torch.from_numpy(np.stack([clip[name] for clip in made])) for name in made[0]}
    return stacked | {
        "text_mask": torch.ones(len(made), TEXT, dtype=torch.bool),
        "positions": torch.arange(LATENTS),
    }


def train(
    out: Path,
    *,
    resume: bool = False,
    kill_at: int | None = None,
    stop_at: int | None = None,
    stop_with: int = signal.SIGTERM,
    fail_at: int | None = None,
    base: Path | str | None = None,
    rank: int | None = None,
    **settings: int | bool | str,
) -> Trainer:
    """Train the transformer into ``out``.

    Args:
        out: the run's folder.
        resume: as for the trainer.
        kill_at: the last process ends by SIGKILL when it reads this step's batch.
        stop_at: the last process gets a signal then.
        stop_with: which.
        fail_at: the batch cannot be read then.
        base: folder that the transformer's weights are read from.
        rank: train adapters of this rank, and the motion branch.
        settings: of the trainer's configuration, in the place of those of ``CONFIG``.
    """
    config = replace(CONFIG, **settings)
    model, schedule = transformer() if base is None else empty_denoiser(Path(base)), NoiseSchedule()
    if rank is not None:
        add_adapters(model, LoraConfig(rank=rank, targets=("to_q", "ff.net.2")), config.precision)
    here = processes()

    def read(step: int, part: Part) -> dict[str, Tensor]:
        if here.rank == here.count - 1 and step in (kill_at, stop_at):
            os.kill(os.getpid(), signal.SIGKILL if step == kill_at else stop_with)
        if step == fail_at:
            raise OSError("no such clip")
        return batch(config, step, part)

    def validate() -> dict[str, float]:
        whole = batch(config, 0, WHOLE)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            loss, _ = denoising_loss(model, schedule, whole, NULL, DENOISING, step_generator(1, 0))
        return {"loss": float(loss)}

    trainer = Trainer(
        {"transformer": model},
        lambda part, generator: denoising_loss(model, schedule, part, NULL, DENOISING, generator),
        read,
        config,
        out,
        validate=validate,
        resume=resume,
        device="cpu",
        sharded=True,
        weights={} if base is None else {"transformer": Path(base)},
    )
    trainer.fit()
    return trainer


def share_rows(folder: Path) -> None:
    """Compute ten rows in shards of three, and write down which of them fell to this process."""
    rows.ROWS_PER_SHARD = 3
    asked: list[int] = []

    def compute(wanted: range) -> dict[str, np.ndarray]:
        asked.extend(wanted)
        return {"numbers": np.array(wanted) + 100}

    found = rows.computed_rows(folder, {}, 10, compute, title="numbers")
    told = {"asked": asked, "found": found["numbers"][np.arange(10)].tolist()}
    (folder / f"rank-{processes().rank}.json").write_text(json.dumps(told))


def start(count: int, runs: list[dict[str, object]]) -> subprocess.CompletedProcess[str]:
    """Run ``train`` with each of some arguments, or ``share_rows``, one after the other, in ``count`` processes."""
    return torchrun(count, __file__, json.dumps(runs, default=str))


def torchrun(count: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in ``count`` processes, which meet on a free port of the loopback interface."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": root}
    return subprocess.run(
        [*command, "--nproc-per-node", str(count), *words],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


if __name__ == "__main__":
    with training_together():
        for run in json.loads(sys.argv[1]):
            if "rows" in run:
                share_rows(Path(run["rows"]))
                continue
            with suppress(*((SystemExit,) if "stop_at" in run else ())):
                train(Path(run.pop("out")), **run)
