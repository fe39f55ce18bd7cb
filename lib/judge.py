"""Judge a tuned model on questions it was not trained on.

held_back        validation questions, with the answer in the data beside
same_rows        whether two jobs kept back the same rows, so that neither has seen the other's questions
start, current   a job that has every validation row answered and scored (lib/trainer/score.py)
scores           what it found, kept in the training job's folder
"""

from __future__ import annotations

import filecmp
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from lib import jobs, talk
from lib.errors import JobError
from lib.jobfolder import JobFolder
from lib.workspace import read_json

LOOKED_AT = 1000  # validation rows that a few are chosen from: enough to see every file of a dataset


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A question that was kept back, the answer in the data, and the row's own system prompt or ""."""

    question: str
    reference: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """How near the answers of one model come to those in the data, over all validation rows.

    `loss` is the mean over all learned tokens; `exact` a share from 0 to 1; `chrf` and `rouge_l` go to 100.
    """

    loss: float | None
    exact: float
    chrf: float
    rouge_l: float


@dataclass(frozen=True, slots=True)
class Example:
    """One validation row with both answers and how like the one in the data each is (chrF, to 100)."""

    row: int
    question: str
    reference: str
    base: str
    tuned: str
    chrf_base: float
    chrf_tuned: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What a job of the kind "score" found. `left_out`: rows too long, or without an answer to compare with.

    `best` and `worst`: the rows whose tuned answers are most and least like those in the data.
    """

    rows: int
    left_out: int
    base: Score
    tuned: Score
    best: tuple[Example, ...]
    worst: tuple[Example, ...]


def held_back(folder: JobFolder, most: int) -> list[HeldBack]:
    """Return the first question and answer of up to `most` validation rows, spread over LOOKED_AT."""
    found: dict[str, HeldBack] = {}
    try:
        with _validation(folder).open("rb") as file:
            for line in islice(file, LOOKED_AT):
                one = _first(orjson.loads(line)["messages"])
                if one:
                    found.setdefault(one.question, one)
    except FileNotFoundError:
        pass
    step = max(1, len(found) // most)
    return list(found.values())[::step][:most]


def same_rows(one: JobFolder, other: JobFolder) -> bool:
    """Return whether two jobs kept back the same rows."""
    try:
        return filecmp.cmp(_validation(one), _validation(other), shallow=False)
    except FileNotFoundError:
        return False


def tuned(job: jobs.Job) -> Path:
    """Return where the tuned model of a job lies; raise `JobError` where it has none here or it has gone."""
    place = talk.tuned(job.folder)
    if job.backend != "local" or place is None:
        raise JobError("job.no_model", id=job.id, state=job.state)
    if not any(place.glob("*.safetensors")):
        raise JobError("job.model_gone", name=job.name, folder=str(place))
    return place


def start(job: jobs.Job) -> jobs.Job:
    """Have all validation rows of a training job answered and scored; return the job that does so.

    One that waits or runs already is returned as it is; one that was stopped or failed goes on where it was.
    Raises `JobError` where the job has no tuned model here, or kept no rows back.
    """
    tuned(job)
    if not _validation(job.folder).is_file() or not _validation(job.folder).stat().st_size:
        raise JobError("job.no_validation", name=job.name)
    known = current(job)
    if known and known.state in ("queued", "running"):
        return known
    if known and known.state in ("stopped", "failed"):
        return jobs.resume(known.id)
    return jobs.submit("score", job.name, {"of": job.id, "folder": str(job.folder.path)})


def current(job: jobs.Job) -> jobs.Job | None:
    """Return the newest job that scores a training job, however it stands, or None."""
    return next(iter(jobs.belonging(job, "score")), None)


def scores(folder: JobFolder) -> Scores | None:
    """Return what scoring a training job found; None where there was none since it was last trained."""
    told = read_json(folder.path / "scores" / "scores.json")
    result = folder.result() or {}
    if not isinstance(told, dict) or told.get("trained") != [result.get("step"), result.get("seconds")]:
        return None
    return Scores(
        told["rows"],
        told["left_out"],
        Score(**told["base"]),
        Score(**told["tuned"]),
        tuple(Example(**one) for one in told["best"]),
        tuple(Example(**one) for one in told["worst"]),
    )


def _first(turns: list[dict[str, Any]]) -> HeldBack | None:
    """Return the first question of a conversation with its answer."""
    said = {"system": "", "user": "", "assistant": ""}
    for turn in turns:
        role = turn["role"]
        if not said.get(role, "-"):
            said[role] = str(turn["content"])
        if role == "assistant":
            break
    return HeldBack(said["user"], said["assistant"], said["system"]) if said["user"] else None


def _validation(folder: JobFolder) -> Path:
    return folder.path / "data" / "validation.jsonl"
