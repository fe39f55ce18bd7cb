"""The command line: the same steps as the pages, with the same library underneath.

Exit code 0: it worked. 2: wrong usage. 1: anything else, with one line on stderr that says what to do next.
With --json the answer is one JSON value on stdout, for machines.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import orjson
import typer

from lib import (
    backends,
    contrast,
    formats,
    handover,
    hub,
    joblist,
    jobs,
    judge,
    keys,
    outputs,
    params,
    playground,
    preflight,
    reading,
    records,
    seen,
    sift,
    takehome,
    talk,
    words,
)
from lib import check as checking
from lib import convert as converting
from lib import examine as examining
from lib import profile as profiling
from lib.backends import hf_jobs
from lib.chat import Message
from lib.errors import AppError, HubError, JobError, ModelError, RecordError, UsageError
from lib.practice import folder as practice_folder
from lib.script import recipes
from lib.trainer.trackers import TRACKERS

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="python -m lib",
    help="FirstTune on the command line: from a dataset to a model you trained yourself.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
jobs_app = typer.Typer(help="The job list.", rich_markup_mode=None)
app.add_typer(jobs_app, name="jobs")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as `jobs list` shows it.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Data files or folders, in this order.")]
Form = Annotated[str, typer.Option("--format", help="Else found by itself.")]
Mapped = Annotated[
    list[str] | None, typer.Option("--map", metavar="ROLE=COLUMN", help="May be repeated: user=Question.")
]
Template = Annotated[
    str, typer.Option(metavar="TEXT", help="The question, put together from columns: '{title}: {body}'.")
]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        metavar="NAME=ROLE",
        help="Who a speaker is: narrator=user; nothing after = drops its turns.",
    ),
]
System = Annotated[str, typer.Option(help="A system prompt put in front of every row that has none.")]
Reasoning = Annotated[
    str, typer.Option(help="What becomes of reasoning: " + ", ".join(formats.REASONING) + ".")
]
TargetName = Annotated[
    str,
    typer.Option("--target", help="Whose rules the rows must keep: " + ", ".join(checking.targets()) + "."),
]
DataFolder = Annotated[Path, typer.Option("--data", metavar="DIR", help="A folder that `convert` wrote.")]
ModelName = Annotated[str, typer.Option("--model", help="practice, a model folder, or a Hub id.")]
SetTo = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; may be repeated."),
]
EditsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A patch file of edits and fixes, as the page keeps it.")
]


def one_line(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an `AppError` into one line on stderr and the right exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except AppError as error:
            typer.echo(f"firsttune: {' '.join(words.explain('en', error).split())}", err=True)
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error

    return run


@app.command()
@one_line
def download(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ID_OR_URL",
            help="owner/name, the address of a page, of Hugging Face, a mirror or ModelScope.",
        ),
    ],
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="Whom to ask, whom to go on with; may be repeated. Else $HF_ENDPOINT, or what works best."
        ),
    ] = None,
    revision: Annotated[
        str, typer.Option(help="Branch, tag or commit; else the one in the URL, or main.")
    ] = "",
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only these; may be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Not these; may be repeated.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write; else one named as the dataset.")
    ] = None,
    token_anywhere: Annotated[
        bool, typer.Option(help="Send the token to these endpoints too, not to huggingface.co alone.")
    ] = False,
    doctor: Annotated[bool, typer.Option("--doctor", help="Only say what each endpoint does.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Only list the files.")] = False,
    look: Annotated[bool, typer.Option("--look", help="Only show the first rows of the first one.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch a dataset from the Hugging Face Hub or ModelScope; goes on where an earlier download broke off.

    The token is the one in HF_TOKEN, or that of hf auth login.
    """
    ref = hub.parse(source)
    if revision:
        ref = replace(ref, revision=revision)
    way: dict[str, Any] = {"token": hub.token_from_environment(), "anywhere": token_anywhere}
    target = to or Path(ref.repo.rpartition("/")[2])
    known = hub.finished(target, ref)
    named = endpoint or [*filter(None, [os.environ.get("HF_ENDPOINT") if ref.site == "hub" else ""])]
    order = named or ([known.endpoint] if known else [])
    if doctor or not order:
        order = _examined(ref, named, way, as_json=as_json, only=doctor)
        if doctor:
            return
    listing = _listing(ref, order, known, way)
    chosen = hub.select(listing.files, include or (), exclude or ())
    if look:
        _look(listing, chosen, way, as_json=as_json)
        return
    answer = {
        "folder": str(target.resolve()),
        "site": ref.site,
        "repo": ref.repo,
        "commit": listing.commit,
        "license": listing.license,
        "files": [asdict(file) for file in chosen],
    }
    if files:
        lines = [f"{file.size:>14,}  {file.path}" for file in chosen]
        about = f"{ref.repo} on {words.say('en', f'site.{ref.site}')}, commit {listing.commit}"
        _tell(as_json, answer, "\n".join([f"{about}, licence: {listing.license or 'not stated'}", *lines]))
        return
    with _bar("Fetching", sum(file.size for file in chosen), quiet=as_json) as moved:
        said = 0.0

        def progress(now: hub.Progress) -> None:
            nonlocal said
            moved(now.done)
            for one in now.told:
                if one.at > said:
                    said = one.at
                    typer.echo(f"{one.at:8.1f} s  {one.what}: {one.file}: {one.key} {one.endpoint}", err=True)

        folder = hub.download(listing, chosen, target, others=order, progress=progress, **way)
    _tell(as_json, answer, f"{len(chosen)} files in {folder}")


@app.command()
@one_line
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A data file.")],
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many rows to show.")] = 5,
    start: Annotated[int, typer.Option("--from", min=1, help="The first row to show.")] = 1,
    sample: Annotated[bool, typer.Option("--sample", help="Show rows drawn at random instead.")] = False,
    seed: Annotated[int, typer.Option(help="Fixes which rows are drawn.")] = 0,
    search: Annotated[str, typer.Option(metavar="TEXT", help="Show rows that hold this text instead.")] = "",
    profile: Annotated[
        bool, typer.Option("--profile", help="Read it all: types, lengths, duplicates, languages.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a data file holds, its first rows, and which field seems to be what."""
    shape = records.sniff(file)
    good = [row.value for row in records.head(file, 25) if isinstance(row, records.Record)]
    guess = formats.detect(good)
    total = records.page(file, 0, 1).total
    if search:
        found = list(islice(records.search(file, search), rows))
    elif sample:
        found = records.sample(file, rows, seed)
    else:
        found = list(records.page(file, start - 1, rows).rows)
    answer: dict[str, Any] = {
        "file": str(file),
        "kind": shape.kind,
        "encoding": shape.encoding,
        "compression": shape.compression,
        "rows": total,
        "columns": records.columns(good),
        "format": guess.format,
        "fields": guess.fields,
        "confidence": guess.confidence,
        "head": [_shown(row) for row in found],
    }
    lines = [
        f"{file}: {words.say('en', f'shape.{shape.name}')}, {shape.encoding}, {total} rows,"
        f" columns: {', '.join(answer['columns'])}",
        f"format: {guess.format or 'not recognised'} "
        + " ".join(f"{role}={column}" for role, column in guess.fields.items()),
    ]
    for row in found:
        shown = orjson.dumps(_shown(row), default=str).decode()
        lines.append(shown if len(shown) <= 300 else f"{shown[:299]}…")
    if profile:
        seen = profiling.profile(file, processes=sift.cores())
        answer["profile"] = seen.as_json()
        lines += _profile_lines(seen)
    _tell(as_json, answer, "\n".join(lines))


@app.command()
@one_line
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A chat JSONL file.")],
    target: TargetName = "siliconflow",
    as_json: Json = False,
) -> None:
    """Check a chat JSONL file against a platform's rules. Exit code 1 if a rule is broken."""
    if target not in checking.targets():
        raise UsageError("usage.unknown_target", target=target, known=", ".join(checking.targets()))
    report = checking.check_file(file, checking.targets()[target])
    errors = report.errors
    lines = [
        f"{file}:{finding.line}: {finding.severity}: {words.say('en', f'check.{finding.rule}')}"
        f" ({finding.field}: {finding.value[:60]!r})"
        for finding in report.findings
    ]
    lines.append(f"{report.rows} rows, {len(errors)} errors, {len(report.findings) - len(errors)} warnings")
    answer = {"rows": report.rows, "findings": [asdict(finding) for finding in report.findings]}
    _tell(as_json, answer, "\n".join(lines))
    if errors:
        raise typer.Exit(1)


@app.command()
@one_line
def examine(
    files: Files,
    form: Form = "",
    mapped: Mapped = None,
    template: Template = "",
    roles: Roles = None,
    system: System = "",
    reasoning: Reasoning = "keep",
    target: TargetName = "siliconflow",
    edits: EditsFile = None,
    most: Annotated[int, typer.Option(min=1, help="How many findings to print.")] = 100,
    as_json: Json = False,
) -> None:
    """Say of every row what a conversion would find wrong with it; exit code 1 if any would be set aside."""
    paths = _data_files(files)
    mapping = _mapping(paths[0], form, mapped or [], system, reasoning, template, roles or [])
    request = converting.Request(tuple(paths), Path(), mapping, target=target, edits=edits)
    with _bar("Examining", _size(paths), quiet=as_json) as moved:
        seen = examining.examine(request, progress=lambda done, _total: moved(done))
    lines = [
        f"{finding.file}: row {finding.row}, line {finding.line or '-'}: {finding.severity}: {finding.rule}"
        f" ({finding.field or '-'}: {finding.value[:60]!r})" + (f" fix: {finding.fix}" if finding.fix else "")
        for finding in seen.findings[:most]
    ]
    lines.append(f"read {seen.read} = good {seen.good} + bad {seen.read - seen.good}")
    lines += [f"  {count} × {rule}" for rule, count in seen.rules.items()]
    _tell(as_json, seen.as_json(), "\n".join(lines))
    if seen.good < seen.read:
        raise typer.Exit(1)


@app.command()
@one_line
def convert(
    files: Files,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for train.jsonl, validation.jsonl, manifest.json.")
    ],
    form: Form = "",
    mapped: Mapped = None,
    template: Template = "",
    roles: Roles = None,
    system: System = "",
    reasoning: Reasoning = "keep",
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share kept back, never trained on.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Fixes which rows are kept back.")] = 0,
    group: Annotated[
        str, typer.Option(metavar="COLUMN", help="Rows alike in it stay on one side; else the same question.")
    ] = "",
    target: TargetName = "siliconflow",
    edits: EditsFile = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=0, help="Where the fix `cut` cuts; 0: what the target takes.")
    ] = 0,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="SHAPE", help="Write too: " + ", ".join(outputs.OUTPUTS) + ". May be repeated."),
    ] = None,
    processes: Annotated[int, typer.Option(min=0, help="0: one for each core.")] = 0,
    as_json: Json = False,
) -> None:
    """Turn data files into chat JSONL: training rows, validation rows, and why any row was set aside."""
    paths = _data_files(files)
    mapping = _mapping(paths[0], form, mapped or [], system, reasoning, template, roles or [])
    request = converting.Request(
        tuple(paths),
        out,
        mapping,
        validation=validation,
        seed=seed,
        target=target,
        edits=edits,
        group=group,
        max_tokens=max_tokens,
        also=tuple(also or ()),
        processes=processes,
    )
    with _bar("Converting", _size(paths), quiet=as_json) as moved:
        ledger = converting.convert(request, progress=lambda done, _total: moved(done))
    text = (
        f"read {ledger.read} = train {ledger.train} + validation {ledger.validation}"
        f" + set aside {ledger.set_aside}, in {out}"
    )
    for reason, rows in ledger.reasons.items():
        text += f"\n  set aside: {rows} × {reason}"
    for rule, rows in ledger.warnings.items():
        text += f"\n  noticed: {rows} × {rule}"
    for fix, rows in ledger.mended.items():
        text += f"\n  mended: {rows} × {fix}"
    if ledger.edited:
        text += f"\n  edited: {ledger.edited}"
    _tell(as_json, asdict(ledger) | {"out": str(out.resolve())}, text)


@app.command()
@one_line
def train(
    data: DataFolder,
    model: ModelName = "practice",
    given: SetTo = None,
    system: Annotated[str, typer.Option(help="The system prompt to talk to the result with.")] = "",
    endpoint: Annotated[str, typer.Option(help="Where a Hub model is fetched from.")] = hub.ENDPOINTS[0],
    report_to: Annotated[
        list[str] | None,
        typer.Option(help=f"Also write the metrics to {', '.join(TRACKERS)}; may be repeated."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Start a training job on this computer. It goes on when this command ends."""
    backend = backends.local.Local()
    asked = _model(model, endpoint)
    settings = _set(given, backend.ranges)
    manifest = converting.manifest(data) or {}
    system = system or str(manifest.get("mapping", {}).get("system", ""))
    card = preflight.card(data, backend.defaults(asked) | settings, preflight.known("local", asked))
    job = backend.start(data.resolve().name, data, asked, settings, system, report_to=report_to or ())
    preflight.keep(job.folder, card)
    _entered(job, wait=wait, as_json=as_json)


@app.command()
@one_line
def send(
    place: Annotated[str, typer.Option(help="Which platform: " + ", ".join(backends.remotes()) + ".")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="A folder that `convert` wrote.")],
    model: Annotated[str, typer.Option(help="A base model, as the platform spells it.")],
    at: Annotated[str, typer.Option(help="Address, account or resource, where the platform needs one.")] = "",
    given: SetTo = None,
    hardware: Annotated[str, typer.Option(help="The machine to rent; Hugging Face Jobs only.")] = (
        hf_jobs.HARDWARE
    ),
    hours: Annotated[float, typer.Option(min=0.1, help="When it is given back at the latest.")] = 2.0,
    system: Annotated[str, typer.Option(help="The system prompt to talk to the result with.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="The cost is known; start the job.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Send a training job to a platform, with the key in the environment, a secrets file or the keyring.

    Without --yes it only says what the job would cost.
    """
    known = backends.remotes()
    if place not in known:
        raise UsageError("usage.unknown_platform", name=place, known=", ".join(known))
    there = known[place]
    asked = {"kind": "platform", "id": model} | ({there.needs: at} if there.needs else {})
    if isinstance(there, backends.HuggingFaceJobs):
        asked |= {"hardware": hardware, "hours": f"{hours:g}"}
    settings = there.defaults(asked) | _set(given, there.ranges)
    if not yes:
        cost = there.cost(data, asked, settings)
        price = "unknown" if cost.amount is None else f"{cost.amount:,.2f} {cost.currency}"
        least = "" if cost.minimum is None else f", at least {cost.minimum:,.2f} {cost.currency}"
        _tell(as_json, asdict(cost), f"about {cost.tokens:,} tokens, price {price}{least}")
        raise UsageError("platform.not_confirmed", platform=there.profile.label)
    key = keys.find(there.key_variable)[0]
    there.wire(key, there.address_of(asked))  # a key or an address that can be none is told now
    name = data.resolve().name
    job = there.sending(name, data, asked, settings, system, lambda folder: handover.offer(folder, key))
    while not (wait or job.folder.status() or jobs.get(job.id).state in jobs.ENDED):
        time.sleep(jobs.TICK)  # until its process has the key, which this one hands over
    _entered(job, wait=wait, as_json=as_json)


@app.command()
@one_line
def plan(
    data: DataFolder,
    model: ModelName = "practice",
    given: SetTo = None,
    as_json: Json = False,
) -> None:
    """Say what a training would take on this computer, and what speaks against it. Nothing starts."""
    backend, asked = backends.local.Local(), _model(model, hub.ENDPOINTS[0])
    settings = backend.defaults(asked) | _set(given, backend.ranges)
    broken = len(backend.check(data).errors)
    card = preflight.card(data, settings, preflight.known("local", asked, broken_rules=broken))
    about = "" if card.tokens.counted else "about "
    lines = [
        f"{card.color}: {card.rows} rows, {card.validation} kept back; {card.steps} steps of"
        f" {card.per_epoch} an epoch; {card.checks} evaluations; {about}{card.trained:,} tokens trained"
    ]
    if card.seconds is not None:
        lines.append(f"  about {words.say('en', 'preflight.time', seconds=card.seconds)}")
    if card.memory is not None:
        lines.append(f"  about {words.say('en', 'preflight.size', size=card.memory)} of memory")
    lines += [f"  {finding.color}: {_finding(finding)}" for finding in card.findings]
    _tell(as_json, asdict(card) | {"color": card.color}, "\n".join(lines))


@app.command()
@one_line
def play(
    data: DataFolder,
    given: SetTo = None,
    rows: Annotated[int, typer.Option(min=1, help="So many of its rows are learned from, at most.")] = (
        playground.TRAINED
    ),
    practice: Annotated[
        bool, typer.Option("--practice", help="Learning rates are those of the practice model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune the playground's tiny model on some rows, and say what the settings did."""
    ranges = backends.local.Local().ranges
    start = params.defaults(ranges, params.PRACTICE if practice else None)
    settings = start | _set(given, ranges)
    sample = playground.sample(data, rows)
    if not sample.trained:
        raise UsageError("play.no_rows", folder=str(data))
    run = playground.play(sample, playground.chosen(settings, practice=practice))
    said = [words.say("en", f"playground.said.{run.verdict}", **run.facts)]
    said += [words.say("en", f"playground.note.{note}", n=run.steps, **run.facts) for note in run.notes]
    curves = {"loss": run.loss, "validation": run.validation, "known": run.known}
    told: dict[str, Any] = {
        "verdict": run.verdict,
        "notes": run.notes,
        "steps": run.steps,
        "facts": run.facts,
    }
    told |= {"question": run.question, "before": run.answers[0], "after": run.answers[1]}
    for name, series in curves.items():
        told[name] = {"steps": series.steps.tolist(), "values": series.values.tolist()}
    text = [*said, f"{run.question}", f"  before: {run.answers[0]}", f"  after:  {run.answers[1]}"]
    _tell(as_json, told, "\n".join(text).replace("**", ""))


@app.command("recipe")
@one_line
def recipe_for(
    trainer: Annotated[str, typer.Argument(help=", ".join(recipes.RECIPES) + ".")],
    data: DataFolder,
    model: ModelName = "practice",
    given: SetTo = None,
) -> None:
    """Print the same settings for another trainer."""
    if trainer not in recipes.RECIPES:
        raise UsageError("recipe.unknown", name=trainer, known=", ".join(recipes.RECIPES))
    backend, asked = backends.local.Local(), _model(model, hub.ENDPOINTS[0])
    settings = backend.defaults(asked) | _set(given, backend.ranges)
    held_back = data / "validation.jsonl"
    name = str(practice_folder()) if asked["kind"] == "practice" else asked["id"]
    there = held_back.is_file() and held_back.stat().st_size > 0
    typer.echo(recipes.recipe(trainer, name, data, settings, validation=there), nl=False)


@app.command()
@one_line
def see(
    data: DataFolder,
    row: Annotated[int, typer.Option(min=1, help="Which row of its training file.")] = 1,
    model: ModelName = "practice",
    max_length: Annotated[int, typer.Option(min=1, help="Tokens after which a row is cut.")] = 1024,
    leave_out: Annotated[bool, typer.Option(help="Leave longer rows out instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show a row as the model reads it; what it learns stands between » and «."""
    asked = _model(model, hub.ENDPOINTS[0])
    folder = backends.local.folder(asked)
    if folder is None:
        raise ModelError("trainer.not_fetched", model=asked["id"])
    file = backends.local.Local().train_file(data)
    found, own = seen.look(folder, file, row, max_length, leave_out=leave_out)
    text = "".join(f"»{piece}«" if learned else piece for piece, learned in found.pieces)
    counts = f"{found.tokens} tokens, {found.learned} learned"
    _tell(as_json, asdict(found) | {"own_template": own}, f"{text}\n{counts}")


@jobs_app.callback(invoke_without_command=True)
def jobs_root(context: typer.Context) -> None:
    """List the jobs, or look at one of them."""
    if context.invoked_subcommand is None:
        jobs_list(as_json=False)


@jobs_app.command("list")
@one_line
def jobs_list(
    search: Annotated[str, typer.Option(metavar="WORDS", help="Only with these in name or note.")] = "",
    as_json: Json = False,
) -> None:
    """List all jobs, newest first."""
    rows = jobs.listing(sought=search)
    lines = [f"{job.id}  {joblist.standing(job).state:10} {job.kind:8} {job.name}" for job in rows]
    _tell(as_json, [_job(job) for job in rows], "\n".join(lines) or "No jobs yet.")


@jobs_app.command("show")
@one_line
def jobs_show(job_id: JobId, as_json: Json = False) -> None:
    """Show one job: its state, its last figures, its result."""
    _show(jobs.get(job_id), as_json=as_json)


@jobs_app.command("log")
@one_line
def jobs_log(job_id: JobId) -> None:
    """Print the end of a job's log."""
    typer.echo(jobs.get(job_id).folder.log_tail(64_000), nl=False)


@jobs_app.command("stop")
@one_line
def jobs_stop(job_id: JobId, as_json: Json = False) -> None:
    """Stop a job; what it has learned or fetched so far is kept."""
    jobs.stop(job_id)
    _show(jobs.wait(job_id), as_json=as_json)


@jobs_app.command("rename")
@one_line
def jobs_rename(
    job_id: JobId, name: Annotated[str, typer.Argument(metavar="NAME")], as_json: Json = False
) -> None:
    """Give a job another name."""
    joblist.rename(job_id, name)
    _show(jobs.get(job_id), as_json=as_json)


@jobs_app.command("note")
@one_line
def jobs_note(
    job_id: JobId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="In place of the note before; '' for none.")],
    as_json: Json = False,
) -> None:
    """Write down what you want to remember of a job."""
    joblist.annotate(job_id, text)
    _show(jobs.get(job_id), as_json=as_json)


@jobs_app.command("move")
@one_line
def jobs_move(
    job_id: JobId,
    where: Annotated[str, typer.Argument(metavar="WHERE", help="first, up or down.")],
    as_json: Json = False,
) -> None:
    """Move a waiting job in its queue."""
    places: dict[str, joblist.Where] = {"first": "first", "up": "up", "down": "down"}
    if where not in places:
        raise UsageError("job.unknown_place", where=where, known=", ".join(places))
    joblist.move(job_id, places[where])
    _show(jobs.get(job_id), as_json=as_json)


@jobs_app.command("resume")
@one_line
def jobs_resume(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Go on with a stopped or failed job, from its last checkpoint."""
    job = jobs.resume(job_id)
    _entered(job, wait=wait, as_json=as_json)


@jobs_app.command("delete")
@one_line
def jobs_delete(job_id: JobId, as_json: Json = False) -> None:
    """Delete a job that is not running, with all its folder holds and its scores. It cannot be undone."""
    freed = jobs.delete(job_id)
    _tell(as_json, {"id": job_id, "freed": freed}, f"{job_id}: deleted, {freed:,} bytes freed")


@jobs_app.command("export")
@one_line
def jobs_export(
    job_id: JobId,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Else ID.zip in this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Write all that a job's folder holds, but its checkpoints, into a zip file."""
    path = out or Path(f"{job_id}.zip")
    joblist.export(jobs.get(job_id), path)
    size = path.stat().st_size
    _tell(as_json, {"id": job_id, "file": str(path), "bytes": size}, f"{path}: {size:,} bytes")


@jobs_app.command("compare")
@one_line
def jobs_compare(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Two to four training jobs.")],
    as_json: Json = False,
) -> None:
    """Say what was set differently in several runs, and which came out best."""
    if not 2 <= len(set(ids)) <= contrast.MOST:
        raise UsageError("job.compare_some", n=len(set(ids)), most=contrast.MOST)
    runs = contrast.runs([jobs.get(job_id) for job_id in dict.fromkeys(ids)])
    differences, verdict = contrast.differences(runs), contrast.best(runs)
    figures = [contrast.figures(run) for run in runs]
    lines = [f"{run.letter}  {run.job.id}  {run.job.name}" for run in runs]
    lines += [contrast.say("en", one) for one in differences]
    lines.append(words.say("en", f"contrast.best.{verdict.why}", **verdict.facts))
    answer = {
        "runs": [{"letter": run.letter, "id": run.job.id, "name": run.job.name} for run in runs],
        "differences": [asdict(one) for one in differences],
        "figures": [asdict(one) for one in figures],
        "best": asdict(verdict),
    }
    _tell(as_json, answer, "\n".join(lines).replace("**", ""))


@app.command()
@one_line
def chat(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to ask.")],
    job_id: Annotated[str, typer.Option("--job", metavar="ID", help="A finished training job.")],
    base: Annotated[bool, typer.Option("--base", help="Ask the model before tuning instead.")] = False,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 always takes the likeliest word.")
    ] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Pick from the likeliest words only.")] = 1.0,
    most: Annotated[int, typer.Option("--max-tokens", min=1, help="How long an answer may be.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="The same seed picks the same words.")] = 0,
    as_json: Json = False,
) -> None:
    """Ask a tuned model one question, with the system prompt it was trained with."""
    job = jobs.get(job_id)
    if job.backend == "local" and not talk.tuned(job.folder):
        raise JobError("job.no_model", id=job_id, state=job.state)
    system = str(job.folder.asked().get("system", ""))
    messages = [Message("system", system)] if system else []
    sampling = talk.Sampling(temperature, top_p, most, seed)
    models = talk.Talk()
    answer = ""
    try:
        question = [*messages, Message("user", text)]
        which = "base" if base else "tuned"
        if job.backend == "local":
            pieces = models.reply(job.folder.path, which, question, sampling)
        else:
            there = backends.BACKENDS[job.backend]
            key = keys.find(there.key_variable)[0]
            pieces = there.chat(job, which, question, key=key, temperature=temperature)
        for piece in pieces:
            answer += piece
            if not as_json:
                typer.echo(piece, nl=False)
    finally:
        models.close()
    _tell(as_json, {"job": job_id, "question": text, "answer": answer}, "")


@app.command()
@one_line
def score(job_id: JobId, as_json: Json = False) -> None:
    """Have a tuned model and its base answer all validation rows; compare with the answers in the data."""
    job = jobs.get(job_id)
    found = judge.scores(job.folder)
    if found is None:
        now = _follow(judge.start(job), quiet=as_json)
        found = judge.scores(job.folder)
        if found is None:
            _show(now, as_json=as_json)
            raise typer.Exit(1)
    lines = [f"{'':8}{'loss':>8}{'exact':>9}{'chrF':>8}{'ROUGE-L':>9}    {found.rows} rows"]
    for name, side in (("before", found.base), ("after", found.tuned)):
        loss = "-" if side.loss is None else f"{side.loss:.3f}"
        lines.append(f"{name:8}{loss:>8}{side.exact:>9.1%}{side.chrf:>8.1f}{side.rouge_l:>9.1f}")
    for title, examples in (("most like the data", found.best), ("least like the data", found.worst)):
        lines += ["", f"{title}:"]
        for one in examples:
            lines += [f"  {one.question}", f"    after: {one.tuned}", f"    data:  {one.reference}"]
    _tell(as_json, asdict(found), "\n".join(lines))


@app.command()
@one_line
def export(
    job_id: JobId,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder; else one in the workspace's exports.")
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Add base model and adapter up, too: one ordinary model.")
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(help="Of the merged numbers: float32, float16, bfloat16; else as the base lies here."),
    ] = "",
    lang: Annotated[str, typer.Option(help="The language of the model card: en, zh.")] = "en",
    to_hub: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Upload it, too: to a private repository of yours.")
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="Let everyone see that repository.")] = False,
    endpoint: Annotated[str, typer.Option(help="Where it is uploaded to.")] = hub.ENDPOINTS[0],
    token_anywhere: Annotated[
        bool, typer.Option(help="Send the token to this endpoint, not to huggingface.co alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a tuned model home: adapter, model card, Modelfile and the code to load it, in one folder."""
    if dtype not in takehome.DTYPES:
        raise UsageError("takehome.dtype", dtype=dtype, known=", ".join(filter(None, takehome.DTYPES)))
    job = jobs.get(job_id)
    folder = takehome.pack(job, out, lang=words.language_of(lang))
    if merged:
        now = _follow(takehome.merge(job, folder, dtype), quiet=as_json)
        if now.state != "done":
            _show(now, as_json=as_json)
            raise typer.Exit(1)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    answer, lines = {"job": job.id, "folder": str(folder), "files": files}, [str(folder), *files]
    if to_hub:
        token = hub.token_from_environment()
        way: dict[str, Any] = {"token": token, "anywhere": token_anywhere, "private": not public}
        now = _follow(takehome.upload(job, folder, to_hub, endpoint, **way), quiet=as_json)
        if now.state != "done":
            _tell(as_json, _job(now), _told(now))
            raise typer.Exit(1)
        page = (now.folder.result() or {})["page"]
        answer, lines = answer | {"page": page}, [*lines, page]
    _tell(as_json, answer, "\n".join(lines))


def main() -> None:
    """Run the command line; answers are UTF-8 whatever the console's own encoding is."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    app()


def _data_files(given: list[Path]) -> list[Path]:
    paths = [path for one in given for path in (records.find(one) if one.is_dir() else [one])]
    if not paths:
        raise RecordError("record.missing_file", file=str(given[0]))
    return paths


def _size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


def _mapping(
    path: Path, form: str, given: list[str], system: str, reasoning: str, template: str, roles: list[str]
) -> formats.Mapping:
    rows = [row.value for row in records.head(path, 25) if isinstance(row, records.Record)]
    guess = formats.detect(rows)
    fields = dict(_pair(one) for one in given)
    name = form or guess.format
    if not form and given and name not in formats.FORMATS:
        name = "qa"  # with the columns said, a question and an answer need no recognising
    if name not in formats.FORMATS:
        columns, known = ", ".join(records.columns(rows)), ", ".join(formats.FORMATS)
        if name in formats.DECLINED:
            raise RecordError("record.declined", file=str(path), format=name, columns=columns)
        raise UsageError("usage.unknown_format", file=str(path), format=name, columns=columns, known=known)
    if name == guess.format and not (form and given):
        fields = guess.fields | fields
    unknown = [role for role in fields if role not in formats.FORMATS[name].fields]
    if unknown:
        known = ", ".join(formats.FORMATS[name].fields)
        raise UsageError("usage.unknown_role", role=unknown[0], format=name, known=known)
    return formats.Mapping(
        name, fields, system, reasoning, template, dict(_pair(one, last=True) for one in roles)
    )


def _model(text: str, endpoint: str) -> dict[str, str]:
    if text == "practice":
        return {"kind": "practice", "id": "practice"}
    path = Path(text).expanduser()
    if path.exists() or text.startswith((".", "/", "~")):
        return {"kind": "path", "id": str(path.resolve())}
    ref = hub.parse(text, kind="model", sites=("hub",))
    return {"kind": "hub", "id": ref.repo, "revision": ref.revision, "endpoint": endpoint}


def _set(given: list[str] | None, ranges: params.Ranges) -> params.Settings:
    """Return the hyperparameters of `--set`, each within what a place takes."""
    return params.checked(dict(map(_pair, given or [])), ranges)


def _pair(text: str, *, last: bool = False) -> tuple[str, str]:
    """Return what stands before and behind the first equals sign, or the last: a speaker may have one."""
    name, sign, value = text.rpartition("=") if last else text.partition("=")
    if not sign or not name:
        raise UsageError("usage.pair", text=text)
    return name, value


def _follow(job: jobs.Job, *, quiet: bool) -> jobs.Job:
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


def _job(job: jobs.Job) -> dict[str, Any]:
    names = ("id", "kind", "name", "note", "backend", "state", "attempt")
    plain = {name: getattr(job, name) for name in names} | {"standing": joblist.standing(job).state}
    times = {name: getattr(job, name) for name in ("since", "created", "started", "ended")}
    return (
        plain
        | times
        | {
            "folder": str(job.folder.path),
            "error": job.error,
            "status": job.folder.status(),
            "result": job.folder.result(),
        }
    )


def _show(job: jobs.Job, *, as_json: bool) -> None:
    _tell(as_json, _job(job), _told(job))


def _entered(job: jobs.Job, *, wait: bool, as_json: bool) -> None:
    """Tell of a job that was queued just now; with `wait`, once it has ended."""
    if wait:
        job = _follow(job, quiet=as_json)
    _show(job, as_json=as_json)
    if job.state == "failed":
        raise typer.Exit(1)


def _finding(finding: preflight.Finding) -> str:
    if finding.advice is None:
        return words.say("en", f"preflight.{finding.key}", **finding.facts)
    name = words.say("en", f"param.{finding.advice.name}.name")
    what = words.say("en", finding.advice.key, **finding.advice.facts)
    return words.say("en", "preflight.setting", name=name, what=what)


def _told(job: jobs.Job) -> str:
    lines = [f"{job.id}: {joblist.standing(job).state}", f"  {job.name}"]
    lines += [f"  {line}" for line in job.note.splitlines()]
    if job.state == "failed" and job.error:
        lines.append(f"  {words.explain('en', job.error)}")
    result = job.folder.result() or {}
    if result.get("eval_loss") is not None and result.get("eval_loss_before") is not None:
        lines.append(
            f"  validation loss {result['eval_loss_before']:.3f} -> {result['eval_loss']:.3f}"
            f" in {result['seconds']:.0f} s, {result['steps']} steps"
        )
    if job.kind == "train" and (curves := contrast.curves_of(job)).rows:
        lines += [
            f"  {words.say('en', f'reading.{one.verdict}', **one.facts)}" for one in reading.of(job, curves)
        ]
    return "\n".join([*lines, f"  {job.folder.path}"])


def _profile_lines(seen: profiling.Profile) -> list[str]:
    lines = [
        f"{column.name}: {column.kind}, missing {column.missing}, null {column.null}, empty {column.empty},"
        f" characters {column.characters.least} / {column.characters.quantile(0.5)}"
        f" / {column.characters.most},"
        f" about {column.tokens.quantile(0.5)} tokens (95 %: {column.tokens.quantile(0.95)})"
        for column in seen.columns
    ]
    mix = ", ".join(f"{name} {count / max(1, seen.looked_at):.0%}" for name, count in seen.languages.items())
    lines.append(f"broken rows: {seen.broken}, exact duplicates: {seen.repeats}, languages: {mix or '-'}")
    return lines


def _shown(row: records.Record | records.Broken) -> dict[str, Any]:
    if isinstance(row, records.Broken):
        return {"row": row.number, "line": row.line, "broken": words.explain("en", row.error)}
    return {"row": row.number, "line": row.line, "value": row.value}


def _examined(
    ref: hub.Ref, endpoints: list[str], way: dict[str, Any], *, as_json: bool, only: bool
) -> list[str]:
    """Return the endpoints that work, the best first; with `only`, say what each of them does."""
    visits = hub.examine(ref, endpoints, **way)
    order = hub.ranked(visits)
    lines = []
    for visit in visits:
        key, facts = visit.told()
        lines.append(f"{visit.endpoint}: {words.say('en', f'doctor.verdict.{visit.verdict}')}. ")
        lines[-1] += words.say("en", key, **facts)
    if only:
        answer = [asdict(replace(visit, error=None)) | {"key": visit.told()[0]} for visit in visits]
        _tell(as_json, {"order": order, "visits": answer}, "\n".join(lines))
    elif not order:
        raise next(visit.error for visit in visits if visit.error)
    elif not as_json:
        typer.echo("\n".join([*lines, f"Using {order[0]}."]), err=True)
    return order


def _listing(ref: hub.Ref, order: list[str], known: hub.Listing | None, way: dict[str, Any]) -> hub.Listing:
    """Return what the first of some endpoints that answers has."""
    for last, one in enumerate(order, 1 - len(order)):
        try:
            return hub.list_files(ref, one, known=known, **way)
        except HubError:
            if not last:
                raise
    raise AssertionError


def _look(listing: hub.Listing, files: list[hub.RemoteFile], way: dict[str, Any], *, as_json: bool) -> None:
    """Show the first rows of the first data file among some."""
    from lib.hub.look import look

    first = next((file for file in files if hub.is_data(file.path)), files[0] if files else None)
    if first is None:
        raise UsageError("dataset.nothing_chosen", repo=listing.ref.repo)
    seen = look(listing, first, **way)
    rows = [_shown(row) for row in seen.rows]
    answer = {
        "file": first.path,
        "size": seen.size,
        "fetched": seen.fetched,
        "whole": seen.whole,
        "head": rows,
    }
    lines = [orjson.dumps(row, default=str).decode() for row in rows]
    _tell(
        as_json,
        answer | {"head": rows},
        "\n".join([f"{first.path}: {seen.fetched:,} of {seen.size:,} bytes", *lines]),
    )


def _tell(as_json: bool, answer: Any, text: str) -> None:
    typer.echo(orjson.dumps(answer, default=str, option=orjson.OPT_INDENT_2).decode() if as_json else text)


@contextmanager
def _bar(label: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda _done: None
        return
    with typer.progressbar(length=max(1, total), label=label, file=sys.stderr) as bar:
        yield lambda done: bar.update(done - bar.pos)


if __name__ == "__main__":
    main()
