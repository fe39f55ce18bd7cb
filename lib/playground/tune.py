"""Fine-tune the tiny model on a sample of the visitor's rows, for real, and say what happened.

Same settings, same curves: everything random comes from the seed, and results are remembered. One training
runs at a time in the process, in the thread that asked; the others wait for their turn, a fraction of a
second. `numpy` lets other threads go on while it multiplies, so a page of another visitor is not held up.

What happened, from the curves (`lib/reading.py` tells whether the mock exam rose):

    apart        the loss ended above where it began: it knows less than nothing now
    nothing      the mock exam hardly became better
    memorising   the exercises go ever better, the mock exam has not for long, or has become worse
    forgetting   it lost more of what it knew before than it gained
    learning     it learned, and none of these

The sentences are `playground.said.VERDICT`, and for what is worth a word beside it `playground.note.NOTE`:
`few` corrections, a `noisy` training loss, a run that was `cut`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np

from lib import params, reading
from lib.curves import Series
from lib.params import Settings
from lib.playground.adam import Adam
from lib.playground.model import Model, Pair, Places, Texts, characters_of, known_pairs, pretrained
from lib.playground.rows import Sample

SEEN = 20  # places of an answer that are learned from at each visit, drawn anew: a whole one takes longer
MOST_STEPS = 600  # what fits into a second on two busy cores; a longer run is cut there, and says so
MEASURED = 12  # times that the mock exam is held, about
THIN = 2  # of so many places one is measured: as good, in half the time
REMEMBERED = 200  # results

# The learning rate of the tiny model is the real one's times this, by what is trained: chosen so that the
# same place on the slider is too low, right and too high for both. Source: lib/params.py for the real ones
# (LoRA 2e-4, all of a model a tenth of that); here 1.5e-2 learns well (tests/test_playground.py).
TIMES = {"practice": 3.0, "lora": 75.0, "dora": 75.0, "full": 750.0}

APART = 1.02  # times the loss it began with
FORGOT = 1.25  # times as much lost of the old as gained of the new
BARELY = 0.15  # of the loss it began with: less is nothing learned
AHEAD, LONG_AGO = 0.35, 0.5  # of the mock exam's loss; of the run
NEAR = 0.05  # of all that the mock exam became better: what is left to come is no progress
FEW = 20  # corrections: fewer rarely teach much
NOISY = 0.6  # of the loss, from one correction to the next


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the visitor chose. `rate` is the tiny model's own; `pile`: rows for one correction."""

    rate: float
    epochs: int
    pile: int
    warmup: float = 0.05
    schedule: str = "cosine"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it. `known`: the loss on what it knew before.

    `steps` were made of `wanted`; `answers` are to the question asked, before and after. `verdict`, `notes`
    and the `facts` that their sentences name say what happened.
    """

    loss: Series
    validation: Series
    known: Series
    steps: int
    wanted: int
    question: str
    answers: tuple[str, str]
    verdict: str
    notes: tuple[str, ...]
    facts: dict[str, float]


def play(rows: Sample, chosen: Chosen) -> Played:
    """Return what `chosen` makes of these rows; from memory where that is known already."""
    key = (rows, chosen)
    with _turn:
        found = _played.get(key)
        if found is None:
            found = _played[key] = _play(rows, chosen)
            while len(_played) > REMEMBERED:
                _played.popitem(last=False)
        _played.move_to_end(key)
        return found


def answer(rows: Sample, chosen: Chosen, question: str) -> str:
    """Return what the model says to a question after `chosen`; it is trained once more for that."""
    with _turn:
        tiny, *_ = _tuned(rows, chosen)
        return tiny.answer(question)


def chosen(settings: Settings, *, practice: bool) -> Chosen:
    """Return what a job's settings are for the tiny model; `practice`: they are for the practice model."""
    method = params.PARAMS["method"].show(settings.get("method", 0))
    return Chosen(
        rate(real_rate(settings), practice=practice, method=method),
        int(settings["epochs"]),
        int(settings["batch_size"] * settings.get("accumulation", 1)),
        settings.get("warmup_ratio", 0.0),
        params.PARAMS["schedule"].show(settings.get("schedule", 0)),
        int(settings.get("seed", 0)),
    )


def real_rate(settings: Settings) -> float:
    """Return the real model's learning rate; where a place lets one multiply its own, LoRA's, multiplied."""
    return settings["learning_rate"] * settings.get("rate_multiplier", 1)


def numbers(rows: Sample) -> int:
    """Return how many numbers of the model are trained on these rows."""
    with _turn:
        return int(_prepared(rows)[0].trained.size)


def rate(value: float, *, practice: bool, method: str) -> float:
    """Return the tiny model's learning rate for what the slider shows."""
    return value * TIMES["practice" if practice and method != "full" else method]


_turn = Lock()
_played: OrderedDict[tuple[Sample, Chosen], Played] = OrderedDict()
_ready: OrderedDict[Sample, tuple[Model, Texts, Texts, Texts]] = OrderedDict()


def _prepared(rows: Sample) -> tuple[Model, Texts, Texts, Texts]:
    """Return the model for these rows, with the rows, the mock exam and the old knowledge ready to learn."""
    if rows not in _ready:
        pairs: list[Pair] = [*rows.trained, *rows.held_back]
        share = _chinese(pairs)
        old = known_pairs(chinese=share > 0.1, other=share < 0.9)
        start = pretrained(characters_of([*pairs, *old]))
        exam, known = start.texts(rows.held_back).every(THIN), start.texts(old).every(THIN)
        _ready[rows] = (start, start.texts(rows.trained), exam, known)
        while len(_ready) > 8:
            _ready.popitem(last=False)
    _ready.move_to_end(rows)
    return _ready[rows]


def _play(rows: Sample, chosen: Chosen) -> Played:
    start, trained, held_back, _ = _prepared(rows)
    tiny, losses, measured = _tuned(rows, chosen)
    per_epoch = math.ceil(len(trained) / chosen.pile)
    steps, wanted = len(losses), per_epoch * chosen.epochs
    loss = _series(range(1, steps + 1), losses, per_epoch)
    exam = measured if len(held_back) else []
    validation = _series([m[0] for m in exam], [m[1] for m in exam], per_epoch)
    known = _series([m[0] for m in measured], [m[2] for m in measured], per_epoch)
    verdict, facts = _told(loss, validation, known)
    facts |= {"steps": steps, "wanted": wanted, "reached": steps / per_epoch}
    question = (rows.held_back or rows.trained)[0][0]
    answers = (start.answer(question), tiny.answer(question))
    notes = _notes(loss, steps, wanted)
    return Played(loss, validation, known, steps, wanted, question, answers, verdict, notes, facts)


def _tuned(rows: Sample, chosen: Chosen) -> tuple[Model, list[float], list[tuple[int, float, float]]]:
    """Return the trained model, the loss of each step, and step, validation and known loss where measured."""
    start, trained, held_back, old = _prepared(rows)
    tiny, slope = start.copy(), start.copy()
    adam, dice = Adam(tiny.trained.size), np.random.default_rng(chosen.seed)
    per_epoch = math.ceil(len(trained) / chosen.pile)
    wanted = per_epoch * chosen.epochs
    steps = min(wanted, MOST_STEPS)
    measure_at = {round(steps * part / MEASURED) for part in range(1, MEASURED + 1)} | {steps}
    losses: list[float] = []
    measured = [(0, start.loss(held_back), start.loss(old))]
    order: Places = np.zeros(0, np.int64)
    for step in range(steps):
        at = step % per_epoch
        if not at:
            order = dice.permutation(len(trained))
        places = _places(trained, order[at * chosen.pile : (at + 1) * chosen.pile], dice)
        losses.append(tiny.slope(trained.inputs[places], trained.targets[places], slope))
        adam.step(tiny.trained, slope.trained, chosen.rate * _share(chosen, step, wanted))
        if step + 1 in measure_at:
            measured.append((step + 1, tiny.loss(held_back), tiny.loss(old)))
    return tiny, losses, measured


def _places(texts: Texts, rows: Places, dice: np.random.Generator) -> Places:
    """Return SEEN places of each of some rows, drawn at random."""
    begins, ends = texts.starts[rows], texts.starts[rows + 1]
    drawn = dice.random((len(rows), SEEN))
    return (begins[:, None] + (drawn * (ends - begins)[:, None]).astype(np.int64)).ravel()


def _share(chosen: Chosen, step: int, steps: int) -> float:
    """Return the share of the learning rate that a step has: rising at first, then as the schedule says."""
    warm = math.ceil(chosen.warmup * steps)
    if step < warm:
        return step / warm
    left = 1 - (step - warm) / max(1, steps - warm)
    if chosen.schedule == "constant":
        return 1.0
    return left if chosen.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def _told(loss: Series, validation: Series, known: Series) -> tuple[str, dict[str, float]]:
    """Return the verdict and what its sentence names."""
    read = reading.read(loss, validation, ended=True)
    exam = validation if len(validation) else loss
    before, after = float(known.values[0]), float(known.values[-1])
    facts = read.facts | {"first": float(exam.values[0]), "last": float(exam.values[-1])}
    facts |= {"known_before": before, "known_after": after}
    gained = facts["first"] - facts["last"]
    facts["exercises"] = float(loss.values[-max(3, len(loss) // 10) :].mean())
    since = _since(validation)
    ahead = facts["exercises"] < AHEAD * facts["last"] and since < LONG_AGO * loss.epochs[-1]
    # not within the first epoch: nothing has been read twice by then
    if (read.verdict == "memorising" or ahead) and since >= 1:
        return "memorising", facts | {"epoch": since, "best": float(exam.values.min())}
    if facts["last"] > facts["first"] * APART or not math.isfinite(facts["last"]):
        return "apart", facts
    if after - before > FORGOT * max(gained, BARELY * facts["first"]):
        return "forgetting", facts
    return ("learning" if gained > BARELY * facts["first"] else "nothing"), facts


def _since(exam: Series) -> float:
    """Return the epoch from which the mock exam hardly became better any more; 0 where there is none."""
    if not len(exam):
        return 0.0
    best = exam.values.min()
    near = exam.values <= best + NEAR * (exam.values[0] - best)
    return float(exam.epochs[int(near.argmax())])


def _notes(loss: Series, steps: int, wanted: int) -> tuple[str, ...]:
    end = loss.values[-max(8, len(loss) // 4) :]
    noisy = len(end) >= 8 and np.diff(end).std() > NOISY * end.mean()
    told = {"few": steps < FEW, "noisy": bool(noisy), "cut": steps < wanted}
    return tuple(name for name, so in told.items() if so)


def _series(steps: range | list[int], values: list[float], per_epoch: int) -> Series:
    at = np.array(list(steps), dtype=np.float64)
    return Series(at, at / per_epoch, np.array(values, dtype=np.float64))


def _chinese(pairs: list[Pair]) -> float:
    """Return the share of answers that are mostly not in ASCII."""
    wide = sum(sum(map(str.isascii, answer)) < len(answer) / 2 for _, answer in pairs)
    return wide / max(1, len(pairs))
