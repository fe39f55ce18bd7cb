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
    words = ["python", "-m", "lib", "convert", *map(str, request.files), "--out", request.out.name]
    words += ["--format", request.mapping.format]
    for role, column in request.mapping.fields.items():
        words += ["--map", f"{role}={column}"]
    if request.mapping.system:
        words += ["--system", request.mapping.system]
    if request.mapping.fields.get("reasoning"):
        words += ["--reasoning", request.mapping.reasoning]
    return _line([*words, "--validation", f"{request.validation:g}", "--seed", str(request.seed)])


def train(data: Path, model: dict[str, str] | None, settings: Settings) -> str:
    """Return `python -m lib train …` for a run."""
    words = [
        "python",
        "-m",
        "lib",
        "train",
        "--data",
        str(data),
        "--model",
        (model or {}).get("id", "practice"),
    ]
    for name, value in settings.items():
        words += ["--set", f"{name}={params.PARAMS[name].show(value)}"]
    return _line([*words, "--wait"])


def check(data: Path, target: str) -> str:
    """Return `python -m lib check …` for a conversion's training file."""
    return _line(["python", "-m", "lib", "check", str(data / "train.jsonl"), "--target", target])


def chat(job: Job, question: str) -> str:
    """Return `python -m lib chat …` for a question."""
    return _line(["python", "-m", "lib", "chat", "--job", job.id, question])


def _line(words: list[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)
