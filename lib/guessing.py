"""Guess first: six short rounds, each answered by really training the tiny model on the visitor's own rows.

A round asks what will happen with some settings (the answer is the run's verdict or its number of steps), or
which of two curves is which. Nothing is known beforehand: on other rows the answer can be another.

To add a round: a row in ROUNDS, and its `guess.NAME.question` and `guess.NAME.why` in each language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lib import playground
from lib.playground import Chosen, Played, Sample

VERDICTS = ("nothing", "learning", "memorising", "forgetting", "apart")
PAIR = ("a", "b")


@dataclass(frozen=True, slots=True)
class Round:
    """One question. `rates` are as the slider shows them for LoRA on a real model.

    `kind`: "verdict" (what will happen), "steps" (how often it is corrected), or "which" of two runs, drawn
    as A and B, is the one with `rates[1]`, `epochs[1]` and `piles[1]`; `swapped`: that is A.
    """

    name: str
    kind: str
    rates: tuple[float, ...]
    epochs: tuple[int, ...] = (5,)
    piles: tuple[int, ...] = (8,)
    rows: int = playground.TRAINED
    swapped: bool = False

    def options(self) -> tuple[str, ...]:
        """Return what can be guessed."""
        if self.kind == "verdict":
            return VERDICTS
        return PAIR if self.kind == "which" else ("9", "96", "288")

    def chosen(self) -> tuple[Chosen, ...]:
        """Return the settings to train with, in the order they are drawn in."""
        count = max(len(self.rates), len(self.epochs), len(self.piles))
        runs = [
            Chosen(
                playground.rate(self.rates[min(place, len(self.rates) - 1)], practice=False, method="lora"),
                self.epochs[min(place, len(self.epochs) - 1)],
                self.piles[min(place, len(self.piles) - 1)],
            )
            for place in range(count)
        ]
        return tuple(reversed(runs)) if self.swapped else tuple(runs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a round: the runs, in the order they are drawn in, and which option was right."""

    runs: tuple[Played, ...]
    answer: str


ROUNDS: tuple[Round, ...] = (
    Round("timid", "verdict", (2e-6,)),
    Round("bold", "verdict", (1e-2,)),
    Round("ten_times", "which", (1e-4, 1e-3), epochs=(3,), swapped=True),
    Round("thirty", "verdict", (2e-4,), epochs=(30,)),
    Round("one_by_one", "which", (2e-4,), epochs=(3,), piles=(16, 1)),
    Round("large", "steps", (2e-4,), epochs=(3,), piles=(32,)),
)


def outcome(asked: Round, rows: Sample) -> Outcome:
    """Train what a round asks about and return what came of it."""
    some = Sample(rows.trained[: asked.rows], rows.held_back)
    runs = tuple(playground.play(some, chosen) for chosen in asked.chosen())
    if asked.kind == "verdict":
        return Outcome(runs, runs[0].verdict)
    if asked.kind == "steps":
        return Outcome(runs, str(runs[0].steps))
    return Outcome(runs, "a" if asked.swapped else "b")


def here(rows: Sample) -> tuple[Round, ...]:
    """Return the rounds that these rows are enough for: steps are asked of a full sample only."""
    return tuple(
        asked for asked in ROUNDS if asked.kind != "steps" or len(rows.trained) == playground.TRAINED
    )


def next_round(guesses: Mapping[str, str], rounds: tuple[Round, ...]) -> Round | None:
    """Return the first round without a guess, None where all have one."""
    return next((asked for asked in rounds if asked.name not in guesses), None)
