"""`egotwin data`: generate, convert, describe and verify datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from egotwin_sim.data.convert import SOURCES
from egotwin_sim.errors import UserError

app = typer.Typer(help="Generate, convert, describe and verify datasets.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="A dataset folder.", show_default=False)]


class _Rate(ProgressColumn):
    """Clips or frames per second of this run."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar per stage on stderr, told by (stage, done, all)."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    stages: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        progress.start()  # not before: an error in the settings shall be the only line
        if stage not in stages:
            stages[stage] = progress.add_task(stage, total=total, completed=done)  # what was there has no speed
        else:
            progress.update(stages[stage], completed=done)

    try:
        yield report
    finally:
        if stages:
            progress.stop()


@app.command()
def room(
    clips: Annotated[int, typer.Option(help="Number of clips.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new or empty folder, or one to go on with.", show_default=False)],
    seed: Annotated[int, typer.Option(help="The same seed gives the same data.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    size: Annotated[int, typer.Option(help="Width and height of the pictures, pixels, a multiple of 16.")] = 128,
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 5.0,
    same_rooms: Annotated[
        int | None,
        typer.Option(help="Rooms that all clips share, validation too.", show_default="a new one for every four clips"),
    ] = None,
) -> None:
    """Make clips in procedural rooms: video, depth, body motion and text, as a LeRobot v3.0 dataset.

    An interrupted run goes on when the same command is given again.
    """
    from egotwin_sim.data.room import generate_room_dataset

    with _bar() as report:
        generate_room_dataset(out, clips, seed, workers, size, seconds, report, same_rooms)
    typer.echo(f"{clips} clips in {out}")


def _kinds() -> str:
    """The kinds of data sets with their layouts, for the help."""
    return "\n\n".join(
        [
            "KIND is one of",
            *(f"[bold]{name}[/bold]: {kind.what} Expects {kind.layout}" for name, kind in SOURCES.items()),
        ]
    )


@app.command(epilog=_kinds())
def convert(
    kind: Annotated[str, typer.Argument(help="What the data set is, see below.", show_default=False)],
    path: Annotated[Path, typer.Argument(help="Its folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new or empty folder, or one to go on with.", show_default=False)],
    size: Annotated[str, typer.Option(help="Pictures: side, or height x width, multiples of 16 pixels.")] = "256",
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 5.0,
    limit: Annotated[int | None, typer.Option(help="Clips to try at most.", show_default="all")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="name=value, an option of the kind; may be repeated.")
    ] = None,
) -> None:
    """Convert a data set of recordings to clips: video, body motion and text, as a LeRobot v3.0 dataset.

    What cannot be used is skipped, and why is printed and kept in report.json. An interrupted run goes on when the same
    command is given again.
    """
    from egotwin_sim.data.convert.cut import CutConfig, parse_size
    from egotwin_sim.data.convert.options import build_source
    from egotwin_sim.data.convert.runner import convert as run

    config = CutConfig(parse_size(size), seconds)
    source = build_source(kind, path, option or [])
    if out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"--out {out} lies inside the data set {path}: give a folder elsewhere")
    with _bar() as progress:
        report = run(source, out, config, limit=limit, workers=workers, progress=progress)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"{out}: `egotwin data verify {out}` checks it; all of the above is in {out / 'report.json'}")


@app.command()
def info(folder: Folder) -> None:
    """Print what a dataset holds."""
    from egotwin_sim.data.info import describe

    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in describe(folder):
        table.add_row(name, Text(value))
    Console().print(table)


@app.command()
def verify(folder: Folder) -> None:
    """Check a dataset down to the last frame; exit 1 if something is wrong."""
    from egotwin_sim.data.verify import verify as check

    with _bar() as report:
        result = check(folder, lambda done, total: report("decoding", done, total))
    if result.problems:
        for problem in result.problems:
            typer.echo(problem, err=True)
        typer.echo(f"{folder}: {len(result.problems)} problem(s)", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"{folder}: sound. {result.episodes} clips, {result.frames} rows, {result.decoded} pictures decoded in order, "
        f"{result.sought} again after a seek"
    )
