"""Train on this computer, and the job list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lib import contrast, hub, joblist, jobs, preflight
from lib import convert as converting
from lib.cli.parts import (
    LANG,
    DataFolder,
    JobId,
    Json,
    ModelName,
    SetTo,
    TalkedWith,
    Wait,
    here,
    job_json,
    plain,
    say,
    tell,
    tell_entered,
    tell_job,
)
from lib.errors import UsageError
from lib.trainer.trackers import TRACKERS


def train(
    data: DataFolder,
    model: ModelName = "practice",
    given: SetTo = None,
    system: TalkedWith = "",
    endpoint: Annotated[str, typer.Option(help="Where a Hub model is fetched from.")] = hub.ENDPOINTS[0],
    report_to: Annotated[
        list[str] | None,
        typer.Option(help=f"Also write the metrics to {', '.join(TRACKERS)}; may be repeated."),
    ] = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Start a training job on this computer. It goes on when this command ends."""
    backend, asked, settings = here(model, given, endpoint)
    manifest = converting.manifest(data) or {}
    system = system or str(manifest.get("mapping", {}).get("system", ""))
    card = preflight.card(data, settings, preflight.known("local", asked))
    job = backend.start(data.resolve().name, data, asked, settings, system, report_to=report_to or ())
    preflight.keep(job.folder, card)
    tell_entered(job, wait=wait, as_json=as_json)


def root(context: typer.Context) -> None:
    """List the jobs, or look at one of them."""
    if context.invoked_subcommand is None:
        listing()


def listing(
    search: Annotated[str, typer.Option(metavar="WORDS", help="Only with these in name or note.")] = "",
    as_json: Json = False,
) -> None:
    """List all jobs, newest first."""
    rows = jobs.listing(sought=search)
    lines = [f"{job.id}  {joblist.standing(job).state:10} {job.kind:8} {job.name}" for job in rows]
    tell(as_json, [job_json(job) for job in rows], "\n".join(lines) or "No jobs yet.")


def show(job_id: JobId, as_json: Json = False) -> None:
    """Show one job: its state, its last figures, its result."""
    tell_job(jobs.get(job_id), as_json=as_json)


def log(job_id: JobId) -> None:
    """Print the end of a job's log."""
    typer.echo(jobs.get(job_id).folder.log_tail(64_000), nl=False)


def stop(job_id: JobId, as_json: Json = False) -> None:
    """Stop a job; what it has learned or fetched so far is kept."""
    jobs.stop(job_id)
    tell_job(jobs.wait(job_id), as_json=as_json)


def rename(
    job_id: JobId, name: Annotated[str, typer.Argument(metavar="NAME")], as_json: Json = False
) -> None:
    """Give a job another name."""
    joblist.rename(job_id, name)
    tell_job(jobs.get(job_id), as_json=as_json)


def note(
    job_id: JobId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="In place of the note before; '' for none.")],
    as_json: Json = False,
) -> None:
    """Write down what you want to remember of a job."""
    joblist.annotate(job_id, text)
    tell_job(jobs.get(job_id), as_json=as_json)


def move(
    job_id: JobId,
    where: Annotated[str, typer.Argument(metavar="WHERE", help="first, up or down.")],
    as_json: Json = False,
) -> None:
    """Move a waiting job in its queue."""
    places: dict[str, joblist.Where] = {"first": "first", "up": "up", "down": "down"}
    if where not in places:
        raise UsageError("job.unknown_place", where=where, known=", ".join(places))
    joblist.move(job_id, places[where])
    tell_job(jobs.get(job_id), as_json=as_json)


def resume(
    job_id: JobId,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Go on with a stopped or failed job, from its last checkpoint."""
    job = jobs.resume(job_id)
    tell_entered(job, wait=wait, as_json=as_json)


def delete(job_id: JobId, as_json: Json = False) -> None:
    """Delete a job that is not running, with all its folder holds and its scores. It cannot be undone."""
    freed = jobs.delete(job_id)
    tell(as_json, {"id": job_id, "freed": freed}, f"{job_id}: deleted, {freed:,} bytes freed")


def export(
    job_id: JobId,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Else ID.zip in this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Write all that a job's folder holds, but its checkpoints, into a zip file."""
    path = out or Path(f"{job_id}.zip")
    joblist.export(jobs.get(job_id), path)
    size = path.stat().st_size
    tell(as_json, {"id": job_id, "file": str(path), "bytes": size}, f"{path}: {size:,} bytes")


def compare(
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
    lines += [plain(contrast.say(LANG, one)) for one in differences]
    lines.append(say(f"contrast.best.{verdict.why}", **verdict.facts))
    answer = {
        "runs": [{"letter": run.letter, "id": run.job.id, "name": run.job.name} for run in runs],
        "differences": [asdict(one) for one in differences],
        "figures": [asdict(one) for one in figures],
        "best": asdict(verdict),
    }
    tell(as_json, answer, "\n".join(lines))


COMMANDS: dict[str, Callable[..., None]] = {
    "list": listing,
    "show": show,
    "log": log,
    "stop": stop,
    "rename": rename,
    "note": note,
    "move": move,
    "resume": resume,
    "delete": delete,
    "export": export,
    "compare": compare,
}
"""The commands of `jobs`, in the order of its `--help`."""
