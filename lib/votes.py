"""Which of two models was found better, by people who did not know which was which.

    votes/ONE--OTHER.jsonl      a line for every vote, for each pair of models

A model is named by its job's id, or BASE for what the other one of the pair was tuned from. A pair has one
tally, whichever of the two is named first.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from lib.errors import UsageError
from lib.workspace import inside, room, told

BASE = "base"
TIE = "tie"


@dataclass(frozen=True, slots=True)
class Tally:
    """How often each of the two was found better, and how often neither."""

    one: int = 0
    other: int = 0
    ties: int = 0

    @property
    def votes(self) -> int:
        """Return how many votes there are."""
        return self.one + self.other + self.ties

    @property
    def by_chance(self) -> float:
        """Return how likely a lead as large as this is between two that are equally good, from 0 to 1.

        The sign test: two-sided, ties left out.
        """
        cast, most = self.one + self.other, max(self.one, self.other)
        tail = sum(math.comb(cast, more) for more in range(most, cast + 1))
        return min(1.0, float(2 * tail / 2**cast))


def cast(turn: str, one: str, other: str, better: str, question: str) -> None:
    """Keep a vote: which of the two gave the better answer, or TIE. Of two on one `turn` the first counts.

    Raises `UsageError` where `better` is neither of them.
    """
    if better not in (one, other, TIE) or one == other:
        raise UsageError("votes.not_a_vote", better=better, one=one, other=other)
    line = {"turn": turn, "at": time.time(), "better": better, "question": question}
    path = _file(one, other)
    with told(path), path.open("ab") as file:
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def tally(one: str, other: str) -> Tally:
    """Count the votes on a pair."""
    found: dict[str, str] = {}
    try:
        lines = _file(one, other).read_bytes().splitlines()
    except FileNotFoundError:
        return Tally()
    for line in lines:
        try:
            vote = orjson.loads(line)
            found.setdefault(vote["turn"], vote["better"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue  # a crash can leave half a line; the others still count
    given = list(found.values())
    return Tally(given.count(one), given.count(other), given.count(TIE))


def _file(one: str, other: str) -> Path:
    first, second = sorted((one, other))
    return inside(room("votes"), f"{first}--{second}.jsonl")
