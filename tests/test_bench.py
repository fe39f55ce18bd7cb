"""The bench runs, with whatever is installed, on a few hundred kilobytes; its data are what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench import records_data as data
from bench import records_engines as engines
from bench import records_runs as runs
from bench.records_targets import OURS, TWO, Table, judged

ROOT = Path(__file__).resolve().parent.parent
SIZE = 300_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def test_the_same_seed_gives_the_same_rows_in_every_kind_of_file(tmp_path: Path, folder: Path) -> None:
    first, facts = data.make(folder, SIZE, 7, engines.ALL)
    again, told = data.make(tmp_path, SIZE, 7, ("jsonl", "array"))
    assert facts == told
    for kind, path in again.items():
        assert path.read_bytes() == first[kind].read_bytes()
    rows = json.loads(first["array"].read_text(encoding="utf-8"))
    assert [json.loads(line) for line in first["jsonl"].read_bytes().splitlines()] == rows
    assert len(rows) == facts.rows
    assert sum(bool(row.get("Question") and row.get("Response")) for row in rows) == facts.pairs < facts.rows
    assert sum(data.NEEDLE in (row.get("Response") or "") for row in rows) == facts.hits == 1
    counts = Counter(json.dumps(row) for row in rows)
    assert sum(count - 1 for count in counts.values()) == facts.duplicates > 0


def test_files_that_are_there_are_taken_as_they_are(tmp_path: Path) -> None:
    paths, facts = data.make(tmp_path, 20_000, 1, ("jsonl",))
    before = paths["jsonl"].stat().st_mtime_ns
    again, told = data.make(tmp_path, 20_000, 1, ("jsonl", "csv"))
    assert again["jsonl"].stat().st_mtime_ns == before
    assert told == facts
    assert again["csv"].exists()


def test_the_text_holds_what_is_hard_and_the_shares_are_those_told() -> None:
    rows = [row for row, _ in islice(data.rows(3), 2000)]
    texts = [row["Response"] for row in rows if row.get("Response")]
    for hard in ('"}, {"', "}, {", "\u2028", "\\", "\n", '{"Question": "', "\U0001f52e"):
        assert any(hard in text for text in texts), hard
    assert 0.7 < sum("\u4e00" in text for text in texts) / len(texts) < 0.8
    assert 0.6 < sum(bool(row.get("Complex_CoT")) for row in rows) / len(rows) < 0.7
    assert any("Complex_CoT" in row and row["Complex_CoT"] is None for row in rows)
    assert any("Complex_CoT" not in row for row in rows)


def test_a_digest_counts_every_pair_in_any_order() -> None:
    pairs = [("a", "b"), ("c", "d"), ("a", "b")]

    def digest(some: list[tuple[str, str]]) -> str:
        found = data.Digest()
        for question, answer in some:
            found.add(question, answer)
        return f"{found.pairs} {found}"

    assert digest(pairs) == digest(pairs[::-1])
    assert digest(pairs) != digest(pairs[:2])
    assert digest([("a", "bc")]) != digest([("ab", "c")])


def test_an_engine_runs_where_its_packages_are_and_ours_only_at_home() -> None:
    home, other = {"orjson": "3", "pandas": "3"}, {"orjson": "3", "duckdb": "2"}
    bench = runs.Bench(1, {"home": home, "other": other}, ())
    found = {one.name: bench.interpreter(one) for one in engines.ENGINES if "jsonl" in one.kinds}
    assert found["DuckDB"] == "other"
    assert found["polars"] == ""
    assert found["script"] == found["orjson, parsing only"] == found[OURS] == found[TWO] == "home"


@pytest.mark.parametrize("kind", ["array", "jsonl", "csv", "parquet"])
def test_every_engine_that_is_installed_does_its_work(kind: str, folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = [sys.executable, str(ROOT / "bench" / "records.py"), "--size", str(SIZE), "--rounds", "1"]
    command += ["--only", kind, "--seed", "7", "--folder", str(folder), "--json", str(told)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    tables: list[dict[str, Any]] = json.loads(told.read_text(encoding="utf-8"))["tables"]
    assert [table["task"] for table in tables] == list(runs.TASKS)
    said = {
        f"{table['task']}: {row['task']}, {row['name']}": row["said"]
        for table in tables
        for row in table["rows"]
        if row["said"] != "not installed"
    }
    assert set(said.values()) == {"same"}, said
    assert {"mapping: mapping, script", "mapping: mapping, ours", "convert: convert, ours"} <= set(said)
    assert not list(folder.glob("run-*")), "what the runs wrote is gone"
    assert ran.stdout.count("| script |") == 2


def test_a_wrong_result_is_said_and_keeps_no_target() -> None:
    facts = data.Facts(rows=10, pairs=10, digest="0", duplicates=0, hits=0)
    quick, slow = {"seconds": 1.0, "cpu": 1.0, "peak": 5e7}, {"seconds": 9.0, "cpu": 9.0, "peak": 5e9}
    rows = [
        runs.Row("mapping", "script", "same", [slow, slow, quick]),
        runs.Row("mapping", "DuckDB", "DIFFERS: 9 rows, not 10", [quick]),
        runs.Row("mapping", OURS, "same", [quick | {"seconds": 1.5}]),
        runs.Row("mapping", TWO, "same", [quick]),
    ]
    found = {one["target"]: one for one in judged(Table("mapping", "array", 2 * 10**9, facts, rows))}
    eight = found["mapping: 8 times as fast as the script"]
    assert (eight["said"], eight["values"]) == ("missed by 25.0%", {OURS: 6.0, TWO: 9.0})
    assert found["mapping: ahead of every other engine"]["values"][OURS] == 6.0
    assert found["mapping: within 2.5 times of orjson's bare parsing"]["said"] == "not measured"
    assert found["mapping: memory under 120 MB + 16 bytes a row"]["said"] == "met"
