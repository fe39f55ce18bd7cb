"""Ask a tuned model, and score its answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lib import backends, jobs, judge, keys, talk
from lib.chat import Message
from lib.cli.parts import JobId, Json, follow, tell, tell_failed
from lib.errors import UsageError


def chat(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to ask.")],
    job_id: Annotated[str, typer.Option("--job", metavar="ID", help="A finished training job.")],
    base: Annotated[bool, typer.Option("--base", help="Ask the model before tuning instead.")] = False,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 always takes the likeliest word.")
    ] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Pick from the likeliest words only.")] = 1.0,
    most: Annotated[int, typer.Option("--max-tokens", min=1, help="How long an answer may be.")] = 256,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed picks the same words. [default: 0]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a tuned model one question, with the system prompt it was trained with."""
    job = jobs.get(job_id)
    if job.backend == "local":
        judge.tuned(job)
    there = backends.BACKENDS[job.backend]
    if seed is not None and not there.takes_seed:
        raise UsageError("backend.no_seed", name=job.name)
    system = str(job.folder.asked().get("system", ""))
    messages = [Message("system", system)] if system else []
    sampling = talk.Sampling(temperature, top_p, most, seed or 0)
    models = talk.Talk()
    answer = ""
    try:
        question = [*messages, Message("user", text)]
        which = "base" if base else "tuned"
        if job.backend == "local":
            pieces = models.reply(job.folder.path, which, question, sampling)
        else:
            key = keys.find(there.key_variable)[0]
            pieces = there.chat(job, which, question, key=key, sampling=sampling)
        for piece in pieces:
            answer += piece
            if not as_json:
                typer.echo(piece, nl=False)
    finally:
        models.close()
    tell(as_json, {"job": job_id, "question": text, "answer": answer}, "")


def score(job_id: JobId, as_json: Json = False) -> None:
    """Have a tuned model and its base answer all validation rows; compare with the answers in the data."""
    job = jobs.get(job_id)
    found = judge.scores(job.folder)
    if found is None:
        now = follow(judge.start(job), quiet=as_json)
        found = judge.scores(job.folder)
        if found is None:
            tell_failed(now, as_json=as_json)
    lines = [f"{'':8}{'loss':>8}{'exact':>9}{'chrF':>8}{'ROUGE-L':>9}    {found.rows} rows"]
    for name, side in (("before", found.base), ("after", found.tuned)):
        loss = "-" if side.loss is None else f"{side.loss:.3f}"
        lines.append(f"{name:8}{loss:>8}{side.exact:>9.1%}{side.chrf:>8.1f}{side.rouge_l:>9.1f}")
    for title, examples in (("most like the data", found.best), ("least like the data", found.worst)):
        lines += ["", f"{title}:"]
        for one in examples:
            lines += [f"  {one.question}", f"    after: {one.tuned}", f"    data:  {one.reference}"]
    tell(as_json, asdict(found), "\n".join(lines))
