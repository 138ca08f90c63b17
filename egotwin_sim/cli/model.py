"""`egotwin model`: make a model's folder, and say what a size costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from egotwin_sim.errors import UserError

app = typer.Typer(help="Make a model to train, and say what a size costs.", no_args_is_help=True)

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@app.command("init")
def init(
    out: Annotated[Path, typer.Option(help="The model's folder; new or empty.")],
    config: Annotated[str, typer.Option(help="A size (small, base) or a YAML file.")] = "base",
    from_cogvideox: Annotated[
        str | None,
        typer.Option(help="Take text and video from this CogVideoX 1.0: a folder in the hub's layout, or a hub id."),
    ] = None,
    parts_from: Annotated[
        str | None, typer.Option(help="New transformer, with the video VAE and T5 of this CogVideoX 1.0.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the transformer's weights: bf16 or fp32.")] = "bf16",
    link: Annotated[bool, typer.Option(help="Hard-link copied weights where the disk allows it.")] = False,
    seed: Annotated[int, typer.Option(help="Of the new weights.")] = 0,
) -> None:
    """Make the folder that training starts from: from a public CogVideoX checkpoint, or from nothing."""
    if dtype not in DTYPES:
        raise UserError(f"--dtype is {dtype!r}; expected {' or '.join(DTYPES)}")
    if seed < 0:
        raise UserError(f"--seed is {seed}; expected a number that is not negative")
    if from_cogvideox is not None and parts_from is not None:
        raise UserError("--from-cogvideox and --parts-from were given; the former takes all parts: give one of them")
    import torch

    from egotwin_sim.models.cogvideox_source import CogVideoXSource
    from egotwin_sim.training.config import load_config
    from egotwin_sim.training.initial import initial_model

    loaded = load_config(config)
    initial_model(
        loaded,
        out,
        source=None if from_cogvideox is None else CogVideoXSource.open(from_cogvideox),
        around=None if parts_from is None else CogVideoXSource.open(parts_from),
        dtype=getattr(torch, DTYPES[dtype]),
        seed=seed,
        link=link,
        report=typer.echo,
    )
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {size / 1e9:.2f} GB")
    if from_cogvideox is None and parts_from is None:
        typer.echo("It has no video VAE and no text encoder; --parts-from a CogVideoX checkpoint would bring them.")


@app.command("info")
def info(
    model: Annotated[str, typer.Argument(help="A size (nano, small, base), a YAML file, or a model's folder.")],
    batch: Annotated[int, typer.Option(help="Clips of a pass.")] = 1,
    frames: Annotated[int, typer.Option(help="Video frames of a clip, 4 n + 1.")] = 41,
    gpus: Annotated[int, typer.Option(help="GPUs that a sharded training is spread over.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable report.")] = False,
) -> None:
    """Parameters, operations and memory, without loading a weight."""
    if gpus < 1:
        raise UserError(f"--gpus is {gpus}; expected at least 1")
    from egotwin_sim.models.footprint import ClipSize
    from egotwin_sim.training.config import load_config
    from egotwin_sim.training.description import describe
    from egotwin_sim.training.networks import networks_of_config, networks_of_folder

    clip = ClipSize(batch, frames)
    folder = Path(model)
    networks = networks_of_folder(folder) if folder.is_dir() else networks_of_config(load_config(model))
    told = describe(networks, clip, gpus)
    typer.echo(json.dumps(told, indent=2) if as_json else _text(told))


def _text(told: dict[str, Any]) -> str:
    """The report for a reader."""
    clip = told["clip"]
    lines = ["parameters"]
    lines += [f"  {name:<44}{count / 1e6:>10,.1f} M" for name, count in told["parameters"].items()]
    lines += ["", f"operations, {clip['batch']} x {clip['frames']} frames of {clip['width']}x{clip['height']}"]
    lines += [f"  {name:<44}{count / 1e12:>10,.2f} T" for name, count in told["operations"].items()]
    for title, key in (("memory to sample, bf16", "sampling"), ("memory to train, of each GPU", "training")):
        lines += ["", title]
        for name, memory in told[key].items():
            parts = [f"{part} {size / 1024**3:.1f}" for part, size in memory.items() if size and part != "total"]
            lines.append(f"  {name:<44}{memory['total'] / 1024**3:>10,.1f} GB  ({', '.join(parts)})")
    return "\n".join([*lines, "", *told["notes"]])
