"""What is said of a value: by the value, the data and the model."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from lib import advice, params, words
from lib.advice import Case
from lib.estimate import Amount

START = {name: row.default for name, row in params.PARAMS.items()}
CASE = Case(START, Amount(361, 40, 20_000, 90), practice=False)


def band(name: str, value: float, case: Case = CASE, **others: float) -> tuple[str, str]:
    told = advice.advise(name, replace(case, settings=case.settings | {name: value} | others))
    assert told
    return told.band, told.weight


def test_the_defaults_are_fine() -> None:
    assert not advice.hurting(CASE)
    for name in advice.BANDS:
        told = advice.advise(name, CASE)
        assert told
        assert told.weight == advice.FINE, name


@pytest.mark.parametrize(
    ("value", "band_", "weight"),
    [
        (1e-6, "nothing", "hurts"),
        (2e-5, "gentle", "unusual"),
        (5e-5, "usual", "fine"),
        (5e-4, "usual", "fine"),
        (1e-3, "bold", "unusual"),
        (5e-3, "breaks", "hurts"),
    ],
)
def test_a_learning_rate_is_judged_by_what_lora_bears(value: float, band_: str, weight: str) -> None:
    assert band("learning_rate", value) == (band_, weight)


def test_all_of_a_model_bears_a_tenth_and_the_practice_model_more() -> None:
    full = params.PARAMS["method"].choices.index("full")
    assert band("learning_rate", 2e-4, method=full) == ("bold", "unusual")
    assert band("learning_rate", 2e-5, method=full) == ("usual", "fine")
    practice = replace(CASE, practice=True)
    assert band("learning_rate", 5e-3, practice) == ("usual", "fine")
    assert band("learning_rate", 1e-1, practice) == ("breaks", "hurts")


def test_epochs_are_judged_by_the_rows() -> None:
    assert band("epochs", 10) == ("heart", "hurts")
    few = replace(CASE, amount=Amount(10, 0, 500, 90))
    assert band("epochs", 10, few) == ("usual", "fine")
    many = replace(CASE, amount=Amount(25_000, 0, 500, 90))
    assert band("epochs", 3, many) == ("many", "unusual")


@pytest.mark.parametrize(("rows", "epochs"), [(4, 25), (20, 5), (33, 3), (361, 3), (10_000, 2), (90_000, 1)])
def test_usual_epochs_are_those_of_the_cookbook(rows: int, epochs: int) -> None:
    assert advice.usual_epochs(rows, practice=False) == epochs


def test_so_large_a_batch_that_nothing_is_left_hurts() -> None:
    few = replace(CASE, amount=Amount(40, 0, 500, 90))
    assert band("batch_size", 32, few) == ("few", "hurts")
    assert band("batch_size", 1) == ("one", "unusual")
    assert band("batch_size", 8, accumulation=8) == ("large", "unusual")


def test_rows_that_most_lose_their_end_hurt() -> None:
    assert band("max_length", 64) == ("cuts_some", "unusual")
    assert band("max_length", 64, replace(CASE, amount=Amount(10, 0, 5000, 900))) == ("cuts_most", "hurts")


def test_early_stopping_without_a_mock_exam_does_nothing() -> None:
    assert band("early_stopping", 3, replace(CASE, amount=Amount(10, 0, 500, 90))) == ("blind", "unusual")


def test_every_stop_has_a_sentence_with_all_its_facts() -> None:
    amounts = (Amount(1, 0, 1, 1), Amount(361, 40, 20_000, 90), Amount(90_000, 10, 9_000_000, 9000))
    cases = [Case(START, amount, practice) for amount, practice in product(amounts, (False, True))]
    for case, (name, row) in product(cases, params.PARAMS.items()):
        for stop in row.stops:
            told = advice.advise(name, replace(case, settings=START | {name: stop}))
            if told:
                for lang in words.languages():
                    said = words.say(lang, told.key, **told.facts)
                    assert "{" not in said
                    assert "e+" not in said
            else:
                assert name not in advice.BANDS
