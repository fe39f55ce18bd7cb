"""One file cut into stretches and read by several processes: what comes out is what one reading gives."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from lib import records
from lib.errors import RecordError
from lib.records import Broken, Piece, Record, stretches

Told = tuple[Any, ...]


def told(pieces: Iterator[Piece]) -> list[Told]:
    return [
        ("record", piece.number, piece.line, repr(piece.value))
        if isinstance(piece, Record)
        else ("broken", piece.number, piece.line, piece.column, piece.raw, piece.error.key, piece.error.facts)
        for piece in pieces
    ]


def pieces_of(pieces: Iterator[Piece]) -> list[Any]:
    return [
        (piece.number, piece.line, piece.value) if isinstance(piece, Record) else piece for piece in pieces
    ]


@contextmanager
def _threads(processes: int) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(processes) as pool:
        yield pool


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads do the work of processes: the cuts and their proof are the same, only faster to start."""
    monkeypatch.setattr(stretches, "_pool", _threads)


def spread_out(path: Path, size: int, processes: int = 2) -> list[Told]:
    out: list[Piece] = []
    for base, result in records.spread(path, pieces_of, processes=processes, size=size, least=0):
        for one in result:
            piece = one if isinstance(one, Broken) else Record(one[0], one[2], one[1])
            out.append(records.moved(piece, base))
    return told(iter(out))


def stretched(path: Path, size: int) -> tuple[int, int]:
    """Return how many stretches a file has, and how many cuts were wrong."""
    places = records.cuts(path, size)
    wrong = 0
    for begin, stop in pairwise(places):
        reading = records.read(path, begin=begin, stop=stop)
        while True:
            try:
                next(reading)
            except StopIteration as end:
                wrong += end.value.offset != stop
                break
    return len(places), wrong


TRAP = 'text that holds }, {"Question": "no row", "n": [1, 2]}, {"Question": "again"}, {"Question":'
ROWS = [
    {
        "Question": f"{n} " + (TRAP if n % 3 else "\u4f60\u597d\n" * (n % 7)),
        "history": [{"Question": f"inner {n}", "n": n}] * (n % 4),
        "Response": "x" * (n * 37 % 400),
    }
    for n in range(600)
]
WORST = [{"Question": "q", "turns": [{"Question": f"{n} {m}"} for m in range(30)]} for n in range(200)]


LAYOUTS: dict[str, dict[str, Any]] = {
    "compact": {"separators": (",", ":")},
    "pretty": {"indent": 2},
    "loose": {},
}


def written(rows: list[Any], way: str) -> str:
    if way == "lines":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if way == "blank lines":
        return "\n".join("\r\n" * (n % 3) + json.dumps(row) for n, row in enumerate(rows))
    if way == "nested":
        return json.dumps({"about": 1, "data": rows, "more": rows[:50]}, ensure_ascii=False)
    if way == "wrapped":
        return json.dumps({"rows": [{"row_idx": n, "row": row} for n, row in enumerate(rows)]})
    indent, separators = {"compact": (None, (",", ":")), "pretty": (2, (",", ": ")), "loose": (None, None)}[
        way
    ]
    return json.dumps(rows, ensure_ascii=False, indent=indent, separators=separators)


@pytest.mark.parametrize("rows", [ROWS, WORST], ids=["rows", "worst"])
@pytest.mark.parametrize("way", ["compact", "pretty", "loose", "nested", "wrapped", "lines", "blank lines"])
@pytest.mark.parametrize("size", [100, 1717, 20_000])
def test_stretches_of_json_are_what_one_reading_gives(
    rows: list[Any], way: str, size: int, tmp_path: Path, threads: None
) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(rows, way), encoding="utf-8", newline="")
    assert spread_out(path, size) == told(records.read(path))
    assert len(records.cuts(path, size)) > min(len(rows), path.stat().st_size // size) / 2


def test_a_wrong_cut_is_found_out_and_read_again(tmp_path: Path, threads: None) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(WORST, "compact"), encoding="utf-8")
    count, wrong = stretched(path, 1500)
    assert count > 50
    assert wrong > 30
    # the indentation of a pretty-printed array tells its rows from what lies inside them
    path.write_text(written(WORST, "pretty"), encoding="utf-8")
    assert stretched(path, 1500)[1] == 0


FAULTS = {
    "bad json": '{"Question": oh no, "a": 1},',
    "an open quote": '{"Question": "never closed, "b": 2},',
    "single quotes": "{'Question': 'x'},",
    "no comma": '{"Question": "a"}',
    "two documents": '{"Question": "a"}]\n[',
    "a long fault": "{'Question': '" + "long " * 2000 + "'},",
    "bytes": '{"Question": "\udcff"},',
    "a number": '{"Question": 1e999},',
    "too deep": '{"Question": ' + "[" * 300 + "]" * 300 + "},",
}


@pytest.mark.parametrize("way", ["compact", "pretty"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_as_in_one_reading_wherever_the_cuts_lie(
    fault: str, way: str, tmp_path: Path, threads: None
) -> None:
    space = "\n  " if way == "pretty" else ""
    whole = [json.dumps(row, ensure_ascii=False, indent=2 if way == "pretty" else None) for row in ROWS[:60]]
    text = "[" + space + json.dumps({"Question": "\u4f60" * 300}, ensure_ascii=False) + "," + space
    for n, row in enumerate(whole):
        text += f"{row},{space}" + (FAULTS[fault] + space if n % 7 == 3 else "")
    path = tmp_path / "data.json"
    path.write_text(text + whole[0] + ",", encoding="utf-8", errors="surrogateescape", newline="")
    single = told(records.read(path))
    assert sum(one[0] == "broken" for one in single) >= 8
    for size in (60, 333, 1000, 4000):
        assert spread_out(path, size) == single


def test_broken_lines_are_told_as_in_one_reading(tmp_path: Path, threads: None) -> None:
    path = tmp_path / "data.jsonl"
    text = "".join(json.dumps(row) + "\n" + ("{oh\n\n" if n % 5 == 2 else "") for n, row in enumerate(ROWS))
    path.write_text(text + '{"Question": "cut', encoding="utf-8", newline="")
    single = told(records.read(path))
    for size in (50, 1000, 9999):
        assert spread_out(path, size) == single


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_stretches_of_a_table_are_what_one_reading_gives(
    width: int, end: str, tmp_path: Path, threads: None
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end)
    writer.writerow([f"c{n}" for n in range(width)])
    for n in range(800):
        cell = f'{n},"a" and\n1,2,3,4,5\n"q","r",\n\u4f60 ' if n % 3 else f"plain {n}"
        writer.writerow([cell] * width if n % 50 != 7 or width == 1 else [cell] * (width + 1))
    path = tmp_path / "data.csv"
    path.write_text(out.getvalue(), encoding="utf-8-sig", newline="")
    single = told(records.read(path))
    assert single[-1][1] == 800
    for size in (70, 1000, 20_000):
        assert spread_out(path, size) == single
        assert len(records.cuts(path, size)) > 1
    if width > 1:
        assert stretched(path, 1000)[1] == 0


def test_stretches_of_parquet_are_its_row_groups(tmp_path: Path, threads: None) -> None:
    path = tmp_path / "data.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=37)
    assert records.cuts(path, 1) == list(range(-(-len(ROWS) // 37)))
    assert records.cuts(path, 1 << 30) == [0]
    for size in (1, 3000):
        assert spread_out(path, size) == told(records.read(path))


def test_what_cannot_be_cut_is_one_stretch(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(written(ROWS, "compact").encode("utf-16"))
    assert records.cuts(path, 100) == [0]
    path.write_text("\n".join(json.dumps(row, indent=1) for row in ROWS[:20]))
    assert records.cuts(path, 100) == [0]
    assert [base for base, _ in records.spread(path, told, processes=2, size=100, least=0)] == [
        records.Start()
    ]


@pytest.mark.parametrize("way", ["compact", "lines"])
def test_processes_give_what_one_reading_gives(way: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(ROWS * 3 + WORST, way) + "{oh", encoding="utf-8")
    seen: list[int] = []
    out: list[Piece] = []
    for base, result in records.spread(
        path, pieces_of, processes=2, progress=seen.append, size=50_000, least=0
    ):
        for one in result:
            piece = one if isinstance(one, Broken) else Record(one[0], one[2], one[1])
            out.append(records.moved(piece, base))
    assert told(iter(out)) == told(records.read(path))
    assert seen == sorted(seen)
    assert seen[-1] == path.stat().st_size
    assert len(seen) > 5


def refusing(pieces: Iterator[Piece]) -> int:
    for piece in pieces:
        if isinstance(piece, Broken):
            raise piece.error
    return 1


def test_an_error_in_the_work_comes_out_and_ends_the_processes(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(ROWS, "compact")[:-1] + ',{"Question":oh}]', encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        list(records.spread(path, refusing, processes=2, size=20_000, least=0))
    assert caught.value.key == "record.bad_json"
    assert caught.value.facts["near"] == "oh}]"
    assert _only_tracker()


def _only_tracker() -> bool:
    alive = [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    return all("resource_tracker" in " ".join(one.cmdline()) for one in alive)


def busy(pieces: Iterator[Piece]) -> int:
    """Fail at the first stretch, and never come back from the others."""
    if slow_told(pieces):
        raise ValueError
    return 0


def test_processes_that_are_busy_are_ended_too(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(ROWS, "compact"), encoding="utf-8")
    with pytest.raises(ValueError):
        list(records.spread(path, busy, processes=2, size=20_000, least=0))
    assert _only_tracker()


def test_a_caller_who_stops_asking_ends_the_processes(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(ROWS * 20, "compact"), encoding="utf-8")
    results = records.spread(path, told, processes=2, size=20_000, least=0)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert _only_tracker()

    def full(_behind: int) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        list(records.spread(path, told, processes=2, size=20_000, least=0, progress=full))
    assert _only_tracker()


def heavy(pieces: Iterator[Piece]) -> bytes:
    """Give back far more than fits into a pipe."""
    return bytes(100_000_000 + len(told(pieces)))


def test_a_process_that_ends_amid_sending_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(ROWS * 20, "compact"), encoding="utf-8")
    results = records.spread(path, heavy, processes=2, size=20_000, least=0)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert _only_tracker()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is asked for")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(written(ROWS, "compact"), encoding="utf-8")
    script = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from lib import records
        import test_records_stretches as here
        if __name__ == "__main__":
            for _ in records.spread(Path({str(path)!r}), here.slow_told, processes=2, size=20_000, least=0):
                print("one", flush=True)
    """)
    file = tmp_path / "script.py"
    file.write_text(script)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout
        assert process.stdout.readline() == "one\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:  # a test that is interrupted here leaves nobody behind who counts to infinity
        process.send_signal(signal.SIGKILL)
        process.wait()
    process.stdout.close()
    _, left = psutil.wait_procs(workers, timeout=20)
    assert left == []


def slow_told(pieces: Iterator[Piece]) -> int:
    """Come back from the first stretch, and never from the others."""
    first = next(pieces)
    if (
        isinstance(first, Record)
        and isinstance(first.value, dict)
        and first.value["Question"].startswith("0 ")
    ):
        return 1
    while True:
        pass
