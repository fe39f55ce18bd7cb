"""The command line: the same steps as the pages, with the same library underneath.

Exit code 0: it worked. 2: wrong usage. 1: anything else, with one line on stderr that says what to do next.
With --json the answer is one JSON value on stdout, for machines.

    data.py        get a dataset                   platforms.py   send a training elsewhere
    convert.py     look at rows, check, convert    jobs.py        train here; the job list
    settings.py    what settings would do          judge.py       ask and score a tuned model
    parts.py       what several of them share      takehome.py    export it

To add a command: a function in the file of its subject, its options as typer takes them, and a row in
COMMANDS (or in `jobs.COMMANDS`). It raises an `AppError` where it cannot go on, and answers with `tell`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from lib.cli import convert, data, jobs, judge, platforms, settings, takehome
from lib.cli.parts import one_line

COMMANDS: dict[str, Callable[..., None]] = {
    "download": data.download,
    "inspect": convert.inspect,
    "check": convert.check,
    "examine": convert.examine,
    "convert": convert.convert,
    "train": jobs.train,
    "send": platforms.send,
    "plan": settings.plan,
    "play": settings.play,
    "recipe": settings.recipe,
    "see": settings.see,
    "chat": judge.chat,
    "score": judge.score,
    "export": takehome.export,
}
"""Every command in the order of `--help`; `jobs` and its own come last."""


def main() -> None:
    """Run the command line; answers are UTF-8 whatever the console's own encoding is."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    _app()()


def _app() -> typer.Typer:
    app = typer.Typer(
        name="python -m lib",
        help="FirstTune on the command line: from a dataset to a model you trained yourself.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    listed = typer.Typer(help="The job list.", rich_markup_mode=None)
    listed.callback(invoke_without_command=True)(one_line(jobs.root))
    app.add_typer(listed, name="jobs")
    for typed, commands in ((app, COMMANDS), (listed, jobs.COMMANDS)):
        for name, command in commands.items():
            typed.command(name)(one_line(command))
    return app
