"""The `egotwin` command: its subcommands, and how a user's mistake is reported."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from egotwin_sim import __version__
from egotwin_sim.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand lives, and the line about it in `egotwin --help`."""

    module: str
    attribute: str
    help: str


SUBCOMMANDS = {
    "demo": Subcommand("egotwin_sim.cli.demo", "demo", "From a goal text to first-person frames and a moving body."),
    "live": Subcommand("egotwin_sim.cli.live", "live", "A goal text moves a humanoid in real time."),
    "generate": Subcommand(
        "egotwin_sim.cli.generate", "generate", "Video and motion from text, video from motion, motion from video."
    ),
    "track": Subcommand("egotwin_sim.cli.track", "track", "A simulated humanoid follows a motion; video and figures."),
    "data": Subcommand("egotwin_sim.cli.data", "app", "Generate, describe and verify datasets."),
    "model": Subcommand("egotwin_sim.cli.model", "app", "Make a model to train, and say what a size costs."),
    "train": Subcommand("egotwin_sim.cli.train", "app", "Train the model, stage by stage."),
    "doctor": Subcommand("egotwin_sim.cli.doctor", "doctor", "What works on this machine, and how to mend the rest."),
}


def load_subcommand(name: str) -> Any:
    """Import a subcommand: a Typer application, or a function that becomes one command."""
    subcommand = SUBCOMMANDS[name]
    target = getattr(importlib.import_module(subcommand.module), subcommand.attribute)
    if isinstance(target, typer.Typer):
        return typer.main.get_command(target)
    application = typer.Typer(add_completion=False)
    application.command(name)(target)
    return typer.main.get_command(application)


class LazyGroup(TyperGroup):
    """Lists subcommands from the table above and imports one only when it is called, so that `--help` is instant."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for name, subcommand in SUBCOMMANDS.items():
            self.add_command(TyperCommand(name, help=subcommand.help), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the placeholder that `super` finds (or refuses, as a usage error) by the imported command."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_subcommand(name) if name is not None else command, rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, help="First-person video and body motion, generated together.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"egotwin_sim {__version__}")
        raise typer.Exit()


@app.callback()
def _egotwin(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


# What a full or closed disk raises: a user can mend each of them, and none is worth a traceback.
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
_DISK_FULL_TEXTS = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


def disk_error(error: BaseException) -> str | None:
    """The line to print if a file could not be written or opened, else None.

    Safetensors and Arrow report a full disk in exceptions of their own and only in words, possibly as the cause of
    another, so the words and the whole chain are looked at.
    """
    link: BaseException | None = error
    while link is not None:
        text = str(link)
        full = any(words in text for words in _DISK_FULL_TEXTS)
        if full or (isinstance(link, OSError) and link.errno in _DISK_ERRNOS):
            remedy = "free some space, or write to another disk" if full else "choose a path that you may write to"
            return f"{text}: {remedy}"
        link = link.__cause__ or link.__context__
    return None


def _fail(message: str) -> NoReturn:
    print(f"egotwin: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(EXIT_USER_ERROR)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave by `SystemExit`.

    Args:
        arguments: The words after `egotwin`; by default those of this process.

    Raises:
        SystemExit: Always. 0 after success, 2 after a mistake of the user (one line on stderr), 130 after Ctrl-C.
    """
    try:
        typer.main.get_command(app).main(arguments, prog_name="egotwin")
    except UserError as error:
        _fail(str(error))
    except FloatingPointError as error:  # a model or a training run that has left the numbers
        _fail(str(error))
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except Exception as error:
        if message := disk_error(error):
            _fail(message)
        raise
    raise SystemExit(0)
