"""The command line that repeats what a screen did."""

from __future__ import annotations

import shlex
from pathlib import Path

from lib import params
from lib.convert import Request
from lib.jobs import Job
from lib.params import Settings


def convert(request: Request) -> str:
    """Return `python -m lib convert …` for a conversion."""
    mapping = request.mapping
    words = ["python", "-m", "lib", "convert", *map(str, request.files), "--out", request.out.name]
    words += ["--format", mapping.format]
    for role, column in mapping.fields.items():
        words += ["--map", f"{role}={column}"]
    if mapping.template:
        words += ["--template", mapping.template]
    for speaker, role in mapping.roles.items():
        words += ["--role", f"{speaker}={role}"]
    if mapping.system:
        words += ["--system", mapping.system]
    words += ["--reasoning", mapping.reasoning, "--target", request.target]
    if request.edits:
        words += ["--edits", str(request.edits)]
    if request.group:
        words += ["--group", request.group]
    if request.max_tokens:
        words += ["--max-tokens", str(request.max_tokens)]
    for shape in request.also:
        words += ["--also", shape]
    return line([*words, "--validation", repr(request.validation), "--seed", str(request.seed)])


def train(data: Path, model: dict[str, str] | None, settings: Settings) -> str:
    """Return `python -m lib train …` for a run."""
    words = ["python", "-m", "lib", "train", "--data", str(data)]
    words += ["--model", (model or {}).get("id", "practice")]
    for name, value in settings.items():
        words += ["--set", f"{name}={params.PARAMS[name].show(value)}"]
    return line([*words, "--wait"])


def send(place: str, data: Path, model: dict[str, str] | None, settings: Settings) -> str:
    """Return `python -m lib send …` for a job at a platform; it wants --yes too."""
    model = model or {"id": ""}
    words = ["python", "-m", "lib", "send", "--place", place, "--data", str(data), "--model", model["id"]]
    where = [value for name, value in model.items() if name not in ("kind", "id")]
    words += ["--at", where[0]] if where else []
    for name, value in settings.items():
        words += ["--set", f"{name}={params.PARAMS[name].show(value)}"]
    return line(words)


def check(data: Path, target: str) -> str:
    """Return `python -m lib check …` for a conversion's training file."""
    return line(["python", "-m", "lib", "check", str(data / "train.jsonl"), "--target", target])


def chat(job: Job, question: str) -> str:
    """Return `python -m lib chat …` for a question."""
    return line(["python", "-m", "lib", "chat", "--job", job.id, question])


def score(job: Job) -> str:
    """Return `python -m lib score …` for a job."""
    return line(["python", "-m", "lib", "score", job.id])


def export(job: Job) -> str:
    """Return `python -m lib export …` for a job, merged weights included."""
    return line(["python", "-m", "lib", "export", job.id, "--merged"])


def upload(job: Job) -> str:
    """Return `python -m lib export …` for a job, into a private repository of the visitor's."""
    return line(["python", "-m", "lib", "export", job.id, "--to-hub", "you/name"])


def line(words: list[str]) -> str:
    """Return words as one command line, quoted for a shell."""
    return " ".join(shlex.quote(word) for word in words)
