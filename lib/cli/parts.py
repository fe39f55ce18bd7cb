"""What several commands are made of.

Json, JobId, …       the options that more than one command takes, each said once
one_line             an `AppError` as one line on stderr, with its exit code
tell, say, bar       an answer as text or as JSON; a sentence; how far a command has come
pair, set_to, here   `NAME=VALUE`; what `--set` says; this computer, a model and settings to train with
follow, tell_job, …  waiting for a job, and telling of it
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import orjson
import typer

from lib import backends, contrast, hub, joblist, jobs, params, reading, records, words
from lib.errors import AppError, UsageError

P = ParamSpec("P")
R = TypeVar("R")

LANG = "en"  # the command line speaks English
FAILED = 1  # exit codes
WRONG_USAGE = 2

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as `jobs list` shows it.")]
DataFolder = Annotated[Path, typer.Option("--data", metavar="DIR", help="A folder that `convert` wrote.")]
ModelName = Annotated[str, typer.Option("--model", help="practice, a model folder, or a Hub id.")]
SetTo = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; may be repeated."),
]
TalkedWith = Annotated[str, typer.Option("--system", help="The system prompt to talk to the result with.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")]


def one_line(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an `AppError` into one line on stderr and the right exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except AppError as error:
            typer.echo(f"firsttune: {' '.join(explain(error).split())}", err=True)
            raise typer.Exit(WRONG_USAGE if isinstance(error, UsageError) else FAILED) from error

    return run


def say(key: str, /, **facts: Any) -> str:
    """Return the sentence `key`, plain."""
    return plain(words.say(LANG, key, **facts))


def plain(sentence: str) -> str:
    """Return a sentence of ours without the stars that make its words bold on a page."""
    return sentence.replace("**", "")


def explain(error: AppError | dict[str, Any]) -> str:
    """Return the sentence for an error, or for one kept in a job folder."""
    return words.explain(LANG, error)


def tell(as_json: bool, answer: Any, text: str, *, failed: bool = False) -> None:
    """Print what a command has to answer: `answer` as JSON or else `text`. With `failed`, exit with 1."""
    typer.echo(orjson.dumps(answer, default=str, option=orjson.OPT_INDENT_2).decode() if as_json else text)
    if failed:
        raise typer.Exit(FAILED)


@contextmanager
def bar(label: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Draw how many of `total` bytes are done, where somebody watches; yield what to tell that number."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done: None
        return
    with typer.progressbar(length=max(1, total), label=label, file=sys.stderr) as drawn:
        yield lambda done: drawn.update(done - drawn.pos)


def rows_told(rows: Iterable[records.Record | records.Broken]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return rows of a data file as JSON values, and the same values as a line each."""
    told = [
        {"row": row.number, "line": row.line}
        | ({"broken": explain(row.error)} if isinstance(row, records.Broken) else {"value": row.value})
        for row in rows
    ]
    return told, [orjson.dumps(row, default=str).decode() for row in told]


def pair(text: str, *, last: bool = False) -> tuple[str, str]:
    """Return what stands before and behind the first equals sign, or the last: a speaker may have one."""
    name, sign, value = text.rpartition("=") if last else text.partition("=")
    if not sign or not name:
        raise UsageError("usage.pair", text=text)
    return name, value


def set_to(given: list[str] | None, ranges: params.Ranges) -> params.Settings:
    """Return the hyperparameters of `--set`, each within what a place takes."""
    return params.checked(dict(map(pair, given or [])), ranges)


def model_of(text: str, endpoint: str = hub.ENDPOINTS[0]) -> backends.Model:
    """Return the model that `--model` names; one of the Hub is fetched from `endpoint`."""
    if text == "practice":
        return {"kind": "practice", "id": "practice"}
    path = Path(text).expanduser()
    if path.exists() or text.startswith((".", "/", "~")):
        return {"kind": "path", "id": str(path.resolve())}
    ref = hub.parse(text, kind="model", sites=("hub",))
    return {"kind": "hub", "id": ref.repo, "revision": ref.revision, "endpoint": endpoint}


def here(
    model: str, given: list[str] | None, endpoint: str = hub.ENDPOINTS[0]
) -> tuple[backends.local.Local, backends.Model, params.Settings]:
    """Return this computer as a place to train, the model of `--model`, and all settings with `--set`'s."""
    backend, asked = backends.local.Local(), model_of(model, endpoint)
    return backend, asked, backend.defaults(asked) | set_to(given, backend.ranges)


def follow(job: jobs.Job, *, quiet: bool) -> jobs.Job:
    """Return a job once it has ended; until then, say on stderr how far it is, unless `quiet`."""
    said = ""

    def look(now: jobs.Job) -> None:
        nonlocal said
        status = now.folder.status()
        line = f"{now.state} {status.get('phase', '')}"
        if status.get("steps"):
            line += f" step {status['step']}/{status['steps']}"
        if line != said and not quiet:
            typer.echo(line, err=True)
            said = line

    return jobs.wait(job.id, seen=look)


def done(job: jobs.Job, *, as_json: bool) -> jobs.Job:
    """Return a job once it is done; one that ends otherwise ends the command, see `tell_failed`."""
    now = follow(job, quiet=as_json)
    if now.state != "done":
        tell_failed(now, as_json=as_json)
    return now


def tell_entered(job: jobs.Job, *, wait: bool, as_json: bool) -> None:
    """Tell of a job that was queued just now; with `wait`, once it has ended."""
    if wait:
        job = follow(job, quiet=as_json)
    if job.state == "failed":
        tell_failed(job, as_json=as_json)
    tell_job(job, as_json=as_json)


def tell_failed(job: jobs.Job, *, as_json: bool) -> NoReturn:
    """Tell of a job that did not come to what the command was for, and exit with 1."""
    tell_job(job, as_json=as_json)
    raise typer.Exit(FAILED)


def tell_job(job: jobs.Job, *, as_json: bool) -> None:
    """Tell how a job stands, with its figures and where its folder is."""
    tell(as_json, job_json(job), _job_text(job))


def job_json(job: jobs.Job) -> dict[str, Any]:
    """Return all that is known of a job, as JSON; times are seconds since 1970."""
    names = ("id", "kind", "name", "note", "backend", "state", "attempt")
    return {
        **{name: getattr(job, name) for name in names},
        "standing": joblist.standing(job).state,
        **{name: getattr(job, name) for name in ("since", "created", "started", "ended")},
        "folder": str(job.folder.path),
        "error": job.error,
        "status": job.folder.status(),
        "result": job.folder.result(),
    }


def _job_text(job: jobs.Job) -> str:
    lines = [f"{job.id}: {joblist.standing(job).state}", f"  {job.name}"]
    lines += [f"  {line}" for line in job.note.splitlines()]
    if job.state == "failed" and job.error:
        lines.append(f"  {explain(job.error)}")
    result = job.folder.result() or {}
    if result.get("eval_loss") is not None and result.get("eval_loss_before") is not None:
        lines.append(
            f"  validation loss {result['eval_loss_before']:.3f} -> {result['eval_loss']:.3f}"
            f" in {result['seconds']:.0f} s, {result['steps']} steps"
        )
    if job.kind == "train" and (curves := contrast.curves_of(job)).rows:
        lines += [f"  {say(f'reading.{one.verdict}', **one.facts)}" for one in reading.of(job, curves)]
    return "\n".join([*lines, f"  {job.folder.path}"])
