"""Training runs beside one another: what was set differently, and which came out best and why.

Every run but the first is compared with the first. Losses are compared only where they measure the same: the
same model (another one cuts text into other tokens) on the same validation rows.
"""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib import params, words
from lib.curves import Curves, lowest
from lib.jobs import Job
from lib.params import PARAMS, PLAIN
from lib.reading import ROSE

MOST = 4  # runs: of more, the curves cannot be told apart
LETTERS = "ABCD"
# Settings whose numbers are only names: twice a seed means nothing.
NOMINAL = ("seed",)


@dataclass(frozen=True, slots=True)
class Run:
    """One of the runs that are compared; its letter stands for it on the page."""

    letter: str
    job: Job
    curves: Curves


@dataclass(frozen=True, slots=True)
class Difference:
    """What a run was told otherwise than the first one.

    `what` is a hyperparameter, or `model`, `rows` or `system`. `how` is the sentence `contrast.HOW`; for a
    number that is a whole multiple or fraction of the other, `n` says which.
    """

    letter: str
    first: str
    what: str
    how: str
    value: Any = None
    before: Any = None
    n: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out of a run; None where it was not measured.

    `kept` is the validation loss of the adapter that the run left behind, `best` the lowest on the way.
    """

    letter: str
    steps: int | None
    first: float | None
    best: float | None
    best_epoch: float | None
    kept: float | None
    training: float | None
    tokens_per_second: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which run is best and why: the sentence `contrast.best.WHY` and its facts.

    `letter` is "" where none is. `passed` names a run that had been better on the way than the best one is.
    """

    why: str
    letter: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    passed: str = ""


def curves_of(job: Job) -> Curves:
    """Return a job's curves, read from their beginning."""
    curves = Curves(job.folder.path)
    curves.read()
    return curves


def runs(jobs: Sequence[Job], curves: Callable[[Job], Curves] = curves_of) -> list[Run]:
    """Return up to MOST jobs with their letters and curves, the oldest first."""
    oldest_first = sorted(jobs, key=lambda job: job.created)[:MOST]
    return [Run(letter, job, curves(job)) for letter, job in zip(LETTERS, oldest_first, strict=False)]


def differences(some: Sequence[Run]) -> list[Difference]:
    """Return what each later run was told otherwise than the first, in the order of the settings page."""
    first = some[0]
    before = _told(first)
    return [difference for run in some[1:] for difference in _between(first, before, run, _told(run))]


def figures(run: Run) -> Figures:
    """Return what came out of a run, or has so far."""
    result, status = run.job.folder.result() or {}, run.job.folder.status()
    validation = run.curves.series("eval_loss")
    best_at = lowest(validation)
    # the last measurement up to the step that was kept, which with "keep the best" is not the last of all
    until = result.get("kept_step") or float("inf")
    measured = validation.values[validation.steps <= until]
    return Figures(
        run.letter,
        steps=result.get("step", status.get("step")),
        first=float(validation.values[0]) if len(validation) else None,
        best=None if best_at is None else float(validation.values[best_at]),
        best_epoch=None if best_at is None else float(validation.epochs[best_at]),
        kept=float(measured[-1]) if len(measured) else None,
        training=run.curves.last("loss"),
        tokens_per_second=result.get("tokens_per_second") or run.curves.last("tokens_per_second"),
        seconds=result.get("seconds"),
    )


def best(some: Sequence[Run]) -> Verdict:
    """Return which run is best, by the validation loss of what it kept, and whether that can be said."""
    if any(_told(run)["model"] != _told(some[0])["model"] for run in some):
        return Verdict("other_model")
    if not all(_same(some[0], run, "validation.jsonl") for run in some[1:]):
        return Verdict("other_rows")
    told = [figures(run) for run in some]
    ranked = sorted((one.kept, one.letter) for one in told if one.kept is not None)
    if len(ranked) < 2:
        return Verdict("unmeasured")
    (least, letter), (next_least, other) = ranked[:2]
    facts: dict[str, Any] = {"letter": letter, "loss": least, "other": other, "other_loss": next_least}
    lower = [one for one in told if one.best is not None and one.best < least * (1 - ROSE)]
    passed = min(lower, key=lambda one: one.best or 0.0) if lower else None
    if passed:
        facts |= {"passed": passed.letter, "passed_loss": passed.best, "epoch": passed.best_epoch}
    why = "close" if next_least <= least * (1 + ROSE) else "lowest"
    return Verdict(why, letter, facts, passed.letter if passed else "")


def say(lang: str, difference: Difference, plain: Callable[[str], str] = str) -> str:
    """Return the sentence for a difference; `plain` is applied to what stands in it of the visitor's own."""
    value, before = (shown(lang, difference.what, one) for one in (difference.value, difference.before))
    if difference.what not in PARAMS:
        value, before = plain(value), plain(before)
    facts = {"letter": difference.letter, "first": difference.first, "what": _name(lang, difference.what)}
    facts |= {"value": value, "before": before}
    return words.say(lang, f"contrast.{difference.how}", **facts, n=difference.n)


def shown(lang: str, name: str, value: Any) -> str:
    """Return the value of a setting as a person writes it."""
    row = PARAMS.get(name)
    if row is None or value is None:
        return str(value)
    if row.choices:
        return words.say(lang, f"param.{name}.choice.{row.show(value)}")
    written = row.show(value)
    return written if float(written) == value else f"{value:g}"


def _told(run: Run) -> dict[str, Any]:
    """Return what a run was told: its settings, its model, its system prompt."""
    asked = run.job.folder.asked()
    model = asked.get("model") or {}
    # a setting that came with a later version is at its default in an older run
    settings = PLAIN | params.read(asked)
    named = {"model": str(model.get("id", "")), "system": str(asked.get("system", ""))}
    return {"model": named["model"], **settings, "system": named["system"]}


def _between(first: Run, before: dict[str, Any], run: Run, now: dict[str, Any]) -> list[Difference]:
    found = []
    if not _same(first, run, "train.jsonl"):
        found.append(Difference(run.letter, first.letter, "rows", "rows"))
    for name in before.keys() | now.keys():
        value, old = now.get(name), before.get(name)
        if value == old:
            continue
        how, n = _how(name, value, old)
        found.append(Difference(run.letter, first.letter, name, how, value, old, n))
    order = ["rows", *before, *now]
    found.sort(key=lambda difference: order.index(difference.what))
    return found or [Difference(run.letter, first.letter, "", "same")]


def _how(name: str, value: Any, old: Any) -> tuple[str, int]:
    if name in ("model", "system"):
        return name, 0
    row = PARAMS.get(name)
    numbers = isinstance(value, int | float) and isinstance(old, int | float)
    if not numbers or name in NOMINAL or (row and row.choices) or not value or not old:
        return "instead", 0
    for more, bigger, smaller in (("double", value, old), ("half", old, value)):
        n = round(bigger / smaller)
        if n >= 2 and abs(bigger / smaller - n) < 1e-6 * n:
            return (more, n) if n == 2 else ({"double": "times", "half": "part"}[more], n)
    return "instead", 0


def _name(lang: str, name: str) -> str:
    if name not in PARAMS:
        return name
    written = words.say(lang, f"param.{name}.name")
    word = written.partition(" ")[0]
    # in the middle of a sentence "learning rate", but "LoRA rank"
    return written[0].lower() + written[1:] if word.istitle() else written


def _same(one: Run, other: Run, name: str) -> bool:
    """Return whether two runs have the same file of data; also where neither has it."""
    first, second = (run.job.folder.path / "data" / name for run in (one, other))
    if not (first.is_file() and second.is_file()):
        return first.is_file() == second.is_file()
    return first.samefile(second) or filecmp.cmp(first, second, shallow=False)
