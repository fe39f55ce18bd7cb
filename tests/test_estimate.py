"""Estimates: exact steps, honest silence where nothing was measured."""

from __future__ import annotations

import timeit
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from lib import datasets, estimate
from lib.estimate import Amount, Price

SETTINGS = {"batch_size": 8.0, "epochs": 3.0, "max_length": 256.0}


def write(folder: Path, name: str, rows: int) -> None:
    messages = [{"role": "user", "content": "x" * 40}, {"role": "assistant", "content": "\u6c34" * 10}]
    (folder / name).write_bytes(b"".join(orjson.dumps({"messages": messages}) + b"\n" for _ in range(rows)))


def test_rows_and_tokens_are_counted_from_the_files(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", 9)
    write(tmp_path, "validation.jsonl", 1)
    amount = estimate.amount(tmp_path)
    assert (amount.train, amount.validation) == (9, 1)
    assert amount.longest == pytest.approx(17)
    assert amount.tokens == pytest.approx(9 * 17)
    write(tmp_path, "train.jsonl", 12)
    assert estimate.amount(tmp_path).train == 12


def by_character(text: str) -> float:
    wide = sum("\u2e80" <= character <= "\uffef" for character in text)
    return wide * estimate.CJK + (len(text) - wide) * estimate.OTHER


@pytest.mark.parametrize("name", ["fortune-en.json", "fortune-zh.json"])
def test_tokens_are_those_of_counting_characters_within_a_thousandth(name: str) -> None:
    rows = orjson.loads((datasets.SAMPLE / name).read_bytes())
    texts = [text for row in rows for text in row.values()]
    exact = [by_character(text) for text in texts]
    assert sum(map(estimate.tokens, texts)) == pytest.approx(sum(exact), rel=0.001)
    for text, tokens in zip(texts, exact, strict=True):
        assert estimate.tokens(text) == pytest.approx(tokens, rel=0.06)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("abcd", 1),
        ("\u8336" * 10, 7),
        ("\u8336" * 10 + "abcd", 8),
        ("\u30c6\ud55c", 1.4),
        ("caf\u00e9", 1.225),
        ("\u042f\u0437\u044b\u043a", 1.9),
        ("ok \U0001f375", 1.675),
        ("\U0001f375" * 10, 7),
        ("\ud800", 0.7),
        ("a\udfffb\ud83d", 1.9),
    ],
)
def test_tokens_of_every_script_are_sensible(text: str, tokens: float) -> None:
    assert estimate.tokens(text) == pytest.approx(tokens)
    assert estimate.tokens(text) <= len(text) * estimate.CJK
    size = len(text.encode("utf-8", "surrogatepass"))
    (whole,) = estimate.whole_tokens(np.array([len(text)]), np.array([size]))
    assert abs(whole - tokens) <= 0.5


def test_tokens_of_a_long_text_are_quick() -> None:
    seconds = min(timeit.repeat(lambda: estimate.tokens("\u8336" * 600), number=1000, repeat=5)) / 1000
    assert seconds < 10e-6  # looking at every character takes more than 20


def test_steps_are_exact() -> None:
    plan = estimate.plan(Amount(361, 40, 10_000, 50), SETTINGS, practice=True)
    assert (plan.steps_per_epoch, plan.steps) == (46, 138)
    halved = estimate.plan(Amount(361, 40, 10_000, 50), SETTINGS | {"accumulation": 2.0}, practice=True)
    assert halved.steps_per_epoch == 23


def test_a_price_is_for_a_million_tokens_and_at_least_the_minimum() -> None:
    price = Price("CNY", "https://example.org", "2026-11-22")
    assert price.of(1_000_000) is None
    assert replace(price, minimum=5.0).of(1_000_000) is None, "a least amount is no price"
    assert replace(price, million=3.0).of(500_000) == 1.5
    assert replace(price, million=3.0, minimum=5.0).of(500_000) == 5.0
    some = replace(price, million=3.0, models=("small",))
    assert (some.of(1_000_000, "small"), some.of(1_000_000, "large")) == (3.0, None)


def test_a_measured_speed_counts_more_than_a_table() -> None:
    amount = Amount(100, 10, 10_000, 50)
    measured = estimate.plan(amount, SETTINGS, speed=100.0, practice=True)
    assert measured.measured_here
    assert measured.seconds == pytest.approx(estimate.START_SECONDS + 300)


def test_no_time_is_given_where_nothing_was_measured() -> None:
    assert estimate.plan(Amount(100, 10, 10_000, 50), SETTINGS).seconds is None
