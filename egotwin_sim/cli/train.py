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
}


def _add(name: str, help_text: str) -> None:
    @app.command(name, help=help_text)
    def command(
        data: Annotated[Path, typer.Option(help="A dataset folder made by `egotwin data room`.")],
        out: Annotated[Path, typer.Option(help="The run's folder: checkpoints, logs, final weights.")],
        config: Annotated[str, typer.Option(help="A size (nano) or a YAML file.")] = "nano",
        resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")] = False,
        steps: Annotated[int | None, typer.Option(help="Length of the run, instead of the configuration's.")] = None,
        init: Annotated[Path | None, typer.Option(help="Folder with the weights of the earlier stages.")] = None,
    ) -> None:
        if steps is not None and steps < 1:
            raise UserError(f"--steps is {steps}; expected at least 1")
        if not data.is_dir():
            raise UserError(f"there is no data folder {data}; make one with `egotwin data room --out {data} ...`")
        if init is not None and not init.is_dir():
            raise UserError(f"there is no folder {init} of earlier weights (--init)")
        from egotwin_sim.training.config import load_config

        stage = import_module(f"egotwin_sim.training.stages.{name.replace('-', '_')}")
        stage.run(load_config(config), data, out, resume=resume, steps=steps, init=init)


for _name, _help in STAGES.items():
    _add(_name, _help)


@app.command("pack", help="Collect the trained weights into one folder that StreamPipeline.from_pretrained loads.")
def _pack(
    init: Annotated[Path, typer.Option(help="Folder with the runs, each named like its stage.")],
    out: Annotated[Path, typer.Option(help="Folder to write; replaced if it holds weights already.")],
    config: Annotated[str, typer.Option(help="A size (nano) or a YAML file.")] = "nano",
) -> None:
    if out.exists() and not (out / "stream.json").is_file() and any(out.iterdir()):
        raise UserError(f"--out {out} holds something else than weights; give an empty or new folder")
    from egotwin_sim.training.config import load_config
    from egotwin_sim.training.pack import pack

    pack(load_config(config), init, out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {size / 1e6:.1f} MB")
