"""Estimates: exact steps, honest silence where nothing was measured."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from lib import estimate
from lib.estimate import Amount

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


def test_steps_are_exact() -> None:
    plan = estimate.plan(Amount(361, 40, 10_000, 50), SETTINGS, practice=True)
    assert (plan.steps_per_epoch, plan.steps) == (46, 138)
    halved = estimate.plan(Amount(361, 40, 10_000, 50), SETTINGS | {"accumulation": 2.0}, practice=True)
    assert halved.steps_per_epoch == 23


def test_a_measured_speed_counts_more_than_a_table() -> None:
    amount = Amount(100, 10, 10_000, 50)
    measured = estimate.plan(amount, SETTINGS, speed=100.0, practice=True)
    assert measured.measured_here
    assert measured.seconds == pytest.approx(estimate.START_SECONDS + 300)


def test_no_time_is_given_where_nothing_was_measured() -> None:
    assert estimate.plan(Amount(100, 10, 10_000, 50), SETTINGS).seconds is None
