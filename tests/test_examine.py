"""Examining: what it finds is what the conversion does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lib import convert, edits, examine, records
from lib.convert import Request
from lib.formats import Mapping

QA = Mapping("qa", {"user": "q", "assistant": "a"})


def put(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def some_rows() -> list[Any]:
    good = [{"q": f"question {n}?", "a": f"answer {n}"} for n in range(20)]
    return [*good, {"q": "", "a": ""}, "{oh\n", {"q": "x", "a": "y"}, {"q": "x", "a": "y"}, {"q": 5.5}]


@pytest.mark.parametrize("fixes", [(), ("drop_duplicate",), ("trim", "drop_duplicate")])
def test_an_examination_foretells_the_conversion(fixes: tuple[str, ...], tmp_path: Path) -> None:
    patch = tmp_path / "edits.jsonl"
    patch.write_text("".join(json.dumps({"fix": name}) + "\n" for name in fixes))
    request = Request((put(tmp_path, some_rows()),), tmp_path / "out", QA, edits=patch)
    seen, ledger = examine.examine(request), convert.convert(request)
    assert seen.read == ledger.read == 25
    assert seen.good == ledger.train + ledger.validation
    assert seen.bad == ledger.reasons
    assert seen.mended == ledger.mended


def test_every_problem_of_a_row_is_found_with_its_line(tmp_path: Path) -> None:
    request = Request((put(tmp_path, some_rows()),), tmp_path / "out", QA)
    found = {(one.row, one.line, one.field, one.rule) for one in examine.examine(request).findings}
    assert {(21, 21, "q", "empty_field"), (21, 21, "a", "empty_field"), (22, 22, "", "bad_json")} <= found
    assert (25, 25, "a", "missing_field") in found
    assert (24, 0, "", "duplicate") in found
    assert all(one.file == "data.jsonl" for one in examine.examine(request).findings)


def test_errors_come_before_warnings(tmp_path: Path) -> None:
    request = Request((put(tmp_path, some_rows()),), tmp_path / "out", QA)
    weights = [one.severity for one in examine.examine(request).findings]
    assert weights == sorted(weights)
    assert set(weights) == {"error", "warning"}


def test_an_examination_is_kept_until_anything_changes(tmp_path: Path) -> None:
    source, keep, patch = put(tmp_path, some_rows()), tmp_path / "keep", tmp_path / "edits.jsonl"
    request = Request((source,), tmp_path / "out", QA, edits=patch)
    assert examine.kept(request, keep) is None
    seen = examine.examine(request)
    examine.keep(request, seen, keep)
    assert examine.kept(request, keep) == seen
    assert examine.kept(Request((source,), tmp_path / "out", QA, target="trl", edits=patch), keep) is None
    first = next(iter(records.read(source)))
    edits.load(patch).add({"file": source.name, "row": 1, "was": edits.fingerprint(first), "drop": True})
    assert examine.kept(request, keep) is None
    put(tmp_path, [*some_rows(), {"q": "new", "a": "row"}])
    assert examine.kept(Request((source,), tmp_path / "out", QA), keep) is None


def test_the_lengths_are_those_of_the_good_rows(tmp_path: Path) -> None:
    rows = [{"q": "x" * 40, "a": "y" * 40 * n} for n in range(1, 101)]
    seen = examine.examine(Request((put(tmp_path, rows),), tmp_path / "out", QA))
    assert seen.tokens.total == 100
    assert seen.tokens.share_above(100_000) == 0
    assert 0.4 < seen.tokens.share_above(510) < 0.6  # about 10 + 10 n tokens
