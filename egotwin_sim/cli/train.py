"""`egotwin train`: one command per training stage."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from egotwin_sim.errors import UserError

app = typer.Typer(help="Train one stage; run again with --resume after an interruption.", no_args_is_help=True)

STAGES = {
    "video-vae": "The video autoencoder.",
    "motion-vae": "The motion autoencoder (the paper's stage 1).",
    "text-motion": "The motion branch from text, text branch frozen (stage 2).",
    "joint": "Text, video and motion together (stage 3).",
    "stream": "The causal model with a noise level per chunk, for streaming.",
    "distill": "The streaming model in one, two or four denoising steps, on its own roll-outs.",
    "refine": "The distilled model and the video decoder, with a critic of what was never seen.",
    "ego-motion": "The head that recovers the camera's motion from frames, for the consistency metrics.",
    "modes": "The refined model also reads motion from given video (TV2M).",
}

SEVERAL_DATA = ("motion-vae", "text-motion", "joint", "stream")
DATA_HELP = (
    "A dataset folder made by `egotwin data`; several times for several data sets, whose frame sizes may differ "
    f"({', '.join(SEVERAL_DATA)})."
)


def _add(name: str, help_text: str) -> None:
    @app.command(name, help=help_text)
    def command(
        data: Annotated[list[Path], typer.Option(help=DATA_HELP)],
        out: Annotated[Path, typer.Option(help="The run's folder: checkpoints, logs, final weights.")],
        config: Annotated[str, typer.Option(help="A size (nano) or a YAML file.")] = "nano",
        resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")] = False,
        steps: Annotated[int | None, typer.Option(help="Length of the run, instead of the configuration's.")] = None,
        init: Annotated[Path | None, typer.Option(help="Folder with the weights of the earlier stages.")] = None,
    ) -> None:
        if steps is not None and steps < 1:
            raise UserError(f"--steps is {steps}; expected at least 1")
        for folder in data:
            if not folder.is_dir():
                make = f"make one with `egotwin data room --out {folder} ...`"
                raise UserError(f"there is no data folder {folder}; {make}")
        if len(data) > 1 and name not in SEVERAL_DATA:
            raise UserError(f"{name} takes one --data; {', '.join(SEVERAL_DATA)} take several")
        if init is not None and not init.is_dir():
            raise UserError(f"there is no folder {init} of earlier weights (--init)")
        from egotwin_sim.training.config import load_config
        from egotwin_sim.training.processes import training_together

        stage = import_module(f"egotwin_sim.training.stages.{name.replace('-', '_')}")
        folders = data[0] if len(data) == 1 else data
        with training_together():
            stage.run(load_config(config), folders, out, resume=resume, steps=steps, init=init)


for _name, _help in STAGES.items():
    _add(_name, _help)


@app.command("pack", help="Collect the trained weights into one folder that EgoTwinPipeline.from_pretrained loads.")
def _pack(
    init: Annotated[Path, typer.Option(help="Folder with the runs, each named like its stage.")],
    out: Annotated[Path, typer.Option(help="Folder to write; replaced if it holds weights already.")],
    config: Annotated[str, typer.Option(help="A size (nano) or a YAML file.")] = "nano",
) -> None:
    if out.exists() and not (out / "model_index.json").is_file() and any(out.iterdir()):
        raise UserError(f"--out {out} holds something else than weights; give an empty or new folder")
    from egotwin_sim.training.config import load_config
    from egotwin_sim.training.pack import pack

    pack(load_config(config), init, out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {size / 1e6:.1f} MB")


@app.command("ablation")
def _ablation(
    name: Annotated[str, typer.Argument(help="A variant; `list` prints them all.", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="A dataset folder made by `egotwin data room`.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of all variants.")] = None,
    seed: Annotated[int, typer.Option(help="Of the transformer's weights, batches and noise.")] = 0,
    config: Annotated[
        str, typer.Option(help="A configuration with two forms of transformer, or a YAML file.")
    ] = "ablation",
    steps: Annotated[
        int | None, typer.Option(help="Of the joint stage, instead of the configuration's; pre-training in proportion.")
    ] = None,
) -> None:
    """Train one of the paper's ablations, or the baseline, through all its stages; what is done is not done again."""
    from egotwin_sim.training.ablations import VARIANTS, find_variant, scaled, train_variant
    from egotwin_sim.training.config import load_config

    if name == "list":
        for each, variant in VARIANTS.items():
            typer.echo(f"{each:22}{variant.what}" + (f" (the paper's {variant.paper})" if variant.paper else ""))
        return
    find_variant(name)
    if data is None or out is None:
        raise UserError("--data and --out are missing; give a data set of rooms and the folder of all variants")
    if not data.is_dir():
        raise UserError(f"there is no data folder {data}; make one with `egotwin data room --out {data} ...`")
    if steps is not None and steps < 1:
        raise UserError(f"--steps is {steps}; expected at least 1")
    loaded = load_config(config) if steps is None else scaled(load_config(config), steps)
    model = train_variant(name, loaded, data, out, seed=seed, report=typer.echo)
    typer.echo(f"{name}, seed {seed}: {model}")


@app.command("plan", help="Say whether a stage's training fits on some GPUs, and with which settings; status 1 if not.")
def _plan(
    config: Annotated[str, typer.Option(help="A size (small, base) or a YAML file of the published form.")] = "base",
    gpus: Annotated[int, typer.Option(help="GPUs, one process each.")] = 8,
    memory: Annotated[float, typer.Option(help="Of each GPU, in GB.")] = 80.0,
    stage: Annotated[str, typer.Option(help="text-motion or joint.")] = "joint",
    batch: Annotated[int | None, typer.Option(help="Samples per step over all GPUs, instead of the config's.")] = None,
    frames: Annotated[int, typer.Option(help="Video frames of a clip, 4 n + 1.")] = 41,
) -> None:
    if gpus < 1 or not memory > 0 or (batch is not None and batch < 1):
        raise UserError("--gpus and --batch are at least 1, and --memory is above 0")
    from egotwin_sim.training.config import load_config
    from egotwin_sim.training.plan import Planner, told

    available = round(memory * 1024**3)
    planner = Planner(load_config(config), stage, frames)
    plan = planner.fitting(gpus, available, batch)
    title = f"{config}, {stage}, {gpus} x {memory:g} GB"
    if plan is None:
        typer.echo(f"{title}: does not fit; the settings that need least:")
        typer.echo(told(planner.smallest(gpus, batch), stage))
        typer.echo("what would do: " + "; or ".join(planner.remedies(gpus, available, batch)))
        raise typer.Exit(1)
    only = plan.settings.lora is not None and planner.lora is None
    typer.echo(f"{title}: fits" + (", but only by adapters" if only else ""))
    typer.echo(told(plan, stage))
