"""The blind vote: what is kept, what is counted, what it proves."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib import votes
from lib.errors import UsageError
from lib.votes import BASE, TIE, Tally


def test_a_pair_has_one_tally_whichever_is_named_first() -> None:
    votes.cast("t1", "job-a", BASE, "job-a", "q?")
    votes.cast("t2", BASE, "job-a", BASE, "q?")
    votes.cast("t3", "job-a", BASE, TIE, "q?")
    votes.cast("t4", "job-a", "job-b", "job-b", "q?")
    assert votes.tally("job-a", BASE) == Tally(1, 1, 1)
    assert votes.tally(BASE, "job-a") == Tally(1, 1, 1)
    assert votes.tally("job-b", "job-a") == Tally(1, 0, 0)
    assert votes.tally("job-b", BASE) == Tally()


def test_a_turn_counts_once_and_a_torn_line_does_not(workspace: Path) -> None:
    votes.cast("t1", "a", "b", "a", "q?")
    votes.cast("t1", "a", "b", "b", "q?")
    (file,) = (workspace / "votes").iterdir()
    with file.open("ab") as out:
        out.write(b'{"turn": "t2", "bet')
    assert votes.tally("a", "b") == Tally(1, 0, 0)


def test_a_vote_for_neither_of_the_two_is_refused() -> None:
    for one, other, better in (("a", "b", "c"), ("a", "a", "a")):
        with pytest.raises(UsageError) as refused:
            votes.cast("t", one, other, better, "q?")
        assert refused.value.key == "votes.not_a_vote"


@pytest.mark.parametrize(
    ("tally", "chance"),
    [
        (Tally(), 1.0),
        (Tally(1, 1), 1.0),
        (Tally(1, 0), 1.0),
        (Tally(5, 0), 2 / 32),
        (Tally(0, 6), 2 / 64),
        (Tally(8, 2, 90), 112 / 1024),
    ],
)
def test_how_likely_a_lead_is_by_chance(tally: Tally, chance: float) -> None:
    assert tally.by_chance == pytest.approx(chance)
