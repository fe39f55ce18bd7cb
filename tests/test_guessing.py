"""Guess first: every round is answered by a run, and its lesson can be seen on the bundled sample."""

from __future__ import annotations

import pytest

from bench import playground as bench
from lib import guessing, words
from lib.guessing import ROUNDS
from lib.playground import Sample

ROWS = bench.sample()


def test_there_are_six_rounds_with_words() -> None:
    assert len({asked.name for asked in ROUNDS}) == 6
    for asked in ROUNDS:
        assert words.has(f"guess.{asked.name}.question")
        assert words.has(f"guess.{asked.name}.why")


@pytest.mark.parametrize(
    ("name", "answer"),
    [("timid", "nothing"), ("bold", "apart"), ("thirty", "memorising"), ("large", "9")],
)
def test_the_lesson_is_what_happens_on_the_sample(name: str, answer: str) -> None:
    asked = next(one for one in ROUNDS if one.name == name)
    assert guessing.outcome(asked, ROWS).answer == answer
    assert answer in asked.options()


def test_the_higher_rate_of_two_ends_above_the_other() -> None:
    asked = next(one for one in ROUNDS if one.name == "ten_times")
    found = guessing.outcome(asked, ROWS)
    bold, calm = found.runs if found.answer == "a" else found.runs[::-1]
    assert bold.validation.values[-1] > calm.validation.values[-1]


def test_the_batch_of_one_jumps_and_is_corrected_more_often() -> None:
    asked = next(one for one in ROUNDS if one.name == "one_by_one")
    found = guessing.outcome(asked, ROWS)
    one, many = found.runs if found.answer == "a" else found.runs[::-1]
    assert one.steps == 16 * many.steps
    assert "noisy" in one.notes
    assert "noisy" not in many.notes


def test_rounds_come_one_after_the_other_until_all_are_guessed() -> None:
    guesses: dict[str, str] = {}
    rounds = guessing.here(ROWS)
    assert rounds == ROUNDS
    for asked in rounds:
        assert guessing.next_round(guesses, rounds) == asked
        guesses[asked.name] = asked.options()[0]
    assert guessing.next_round(guesses, rounds) is None


def test_nine_steps_are_asked_of_a_full_sample_only() -> None:
    few = Sample(ROWS.trained[:30], ROWS.held_back)
    assert [asked.name for asked in guessing.here(few)] == [asked.name for asked in ROUNDS[:-1]]
