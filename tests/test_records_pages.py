"""Pages, samples and search; what is kept beside a dataset; packed files."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from lib import records, workspace
from lib.errors import RecordError, WorkspaceError
from lib.records import Broken, Record, kept

ROWS = [
    {
        "Question": f"\u95ee {n} \u4f60\u597d" + " see" * (n % 40),
        "Response": f'line "{n}"\npath /a/b \\ {"x" * (n % 300)}',
        "meta": {"id": n, "tags": ["one", f"tag{n}"]},
    }
    for n in range(700)
]
CELLS = [{"q": str(row["Question"]), "a": str(row["Response"])} for row in ROWS]


def zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return bytes(out.getvalue().to_pybytes())


PACK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.compress),
    "bzip2": (".bz2", bz2.compress),
    "xz": (".xz", lzma.compress),
    "zstd": (".zst", zstd),
}


def jsonl(rows: list[Any], *, ascii_only: bool = False) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()


def table(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def files(folder: Path) -> dict[str, Path]:
    """Write the same rows in every kind of file; return the paths by kind."""
    content = {
        "array.json": json.dumps(ROWS, ensure_ascii=False).encode(),
        "pretty.json": json.dumps(ROWS, ensure_ascii=False, indent=2).encode(),
        "escaped.json": json.dumps(ROWS).encode(),
        "lines.jsonl": jsonl(ROWS),
        "escaped.jsonl": jsonl(ROWS, ascii_only=True),
        "wide.jsonl": jsonl(ROWS).decode().encode("utf-16"),
        "chinese.json": json.dumps(ROWS, ensure_ascii=False).encode("gb18030"),
        "lines.jsonl.gz": gzip.compress(jsonl(ROWS)),
        "array.json.zst": zstd(json.dumps(ROWS).encode()),
        "table.csv": table(CELLS),
        "table.csv.xz": lzma.compress(table(CELLS)),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "some.parquet", row_group_size=100)
    return {name: folder / name for name in (*content, "some.parquet")}


KINDS = [
    *(
        "array.json",
        "pretty.json",
        "escaped.json",
        "lines.jsonl",
        "escaped.jsonl",
        "wide.jsonl",
        "chinese.json",
    ),
    *("lines.jsonl.gz", "array.json.zst", "table.csv", "table.csv.xz", "some.parquet"),
]


def told(pieces: Any) -> list[Any]:
    return [
        (piece.number, piece.line, piece.value if isinstance(piece, Record) else piece.error.key)
        for piece in pieces
    ]


@pytest.mark.parametrize("ready", [False, True], ids=["at once", "prepared"])
@pytest.mark.parametrize("kind", KINDS)
def test_some_rows_are_what_reading_gives(kind: str, ready: bool, tmp_path: Path) -> None:
    path = files(tmp_path)[kind]
    keep = tmp_path / "keep"
    if ready:
        assert not records.prepared(path, keep)
        seen: list[int] = []
        records.prepare(path, keep, seen.append)
        assert seen[-1] == path.stat().st_size
        assert records.prepared(path, keep)
        kept._KNOWN.clear()
    everything = told(records.read(path))
    assert len(everything) == len(ROWS)
    assert told(records.head(path, 3)) == everything[:3]
    for start in (0, 63, 64, 333, 699, 700):
        page = records.page(path, start, 20, keep)
        assert told(page.rows) == everything[start : start + 20]
        assert page.total == 700
    numbers = [700, 1, 64, 65, 0, 701, 350, 1]
    expected = [everything[number - 1] for number in numbers if 1 <= number <= 700]
    assert told(records.rows(path, numbers, keep)) == expected
    sample = told(records.sample(path, 30, 7, keep))
    assert sample == told(records.sample(path, 30, 7))
    assert sample == sorted(sample, key=lambda row: row[0])
    assert len({row[0] for row in sample}) == 30
    assert sample != told(records.sample(path, 30, 8, keep))
    assert len(records.sample(path, 10_000, 1, keep)) == 700


WORDS = [
    "tag123",
    "\u95ee 12 ",
    "\u4f60\u597d see see",
    '"77"',
    '"5"\npath /a/b \\ x',
    "no such text",
    "Resp",
    "e",
    "\\",
    "\n",
    "\u597d",
]


@pytest.mark.parametrize("ready", [False, True], ids=["at once", "prepared"])
@pytest.mark.parametrize("kind", KINDS)
def test_search_finds_the_rows_that_hold_a_text(kind: str, ready: bool, tmp_path: Path) -> None:
    path = files(tmp_path)[kind]
    keep = tmp_path / "keep"
    if ready:
        records.prepare(path, keep)
    everything = told(records.read(path))

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [*value, *(text for inner in value.values() for text in texts(inner))]
        if isinstance(value, list):
            return [text for inner in value for text in texts(inner)]
        return [str(value)]

    for word in WORDS:
        expected = [row for row in everything if any(word in text for text in texts(row[2]))]
        assert told(records.search(path, word, keep, most=1000)) == expected, word
        assert told(records.search(path, word, keep, most=5)) == expected[:5]
    assert list(records.search(path, "", keep)) == []


def test_search_finds_what_is_escaped_in_other_ways(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        r'{"a": "\u4f60\u597D"}',
        r'{"a": "\u4F60\u597D"}',
        r'{"a": "\/x\/y"}',
        r'{"a": "\u003cb\u003E"}',
        r'{"a": "\u003cb\u003e"}',
        r'{"a": "say \u0022b"}',
        r'{"a": "\ud83d\ude00"}',
        r'{"a": "\uD83D\uDE00"}',
    ]
    path.write_text("\n".join(lines) + "\n")
    records.prepare(path, tmp_path / "keep")

    def numbers(text: str) -> list[int]:
        return [row.number for row in records.search(path, text, tmp_path / "keep")]

    assert numbers("\u4f60\u597d")[-1] == 2
    assert numbers("/x/y") == [3]
    assert 5 in numbers("<b>")
    assert numbers('y "b') == [6]
    assert numbers("\U0001f600") == [7, 8]


def test_search_tells_broken_rows_that_hold_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "good word"}\n{"a": bad word}\n{"a": 1}\n')
    records.prepare(path, tmp_path / "keep")
    for keep in (None, tmp_path / "keep"):
        assert [row.number for row in records.search(path, "word", keep)] == [1, 2]


def test_what_is_kept_follows_the_file(tmp_path: Path) -> None:
    keep, path = tmp_path / "keep", tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(ROWS)))
    records.prepare(path, keep)
    first = {file.name for file in keep.iterdir()}
    assert len(first) == 2
    path.write_bytes(gzip.compress(jsonl(ROWS[:50])))
    assert not records.prepared(path, keep)
    assert records.page(path, 0, 1, keep).total == 50
    records.prepare(path, keep)
    assert records.prepared(path, keep)
    assert len({file.name for file in keep.iterdir()} - first) == 2
    assert len(list(keep.iterdir())) == 2
    other = tmp_path / "b.jsonl"
    other.write_bytes(jsonl(ROWS))
    records.prepare(other, keep)
    assert records.prepared(path, keep)
    assert records.prepared(other, keep)


@pytest.mark.parametrize(
    "harm", ["cut", "changed", "emptied", "other array", "copy gone", "copy cut", "copy changed"]
)
def test_what_is_damaged_is_not_trusted(harm: str, tmp_path: Path) -> None:
    import numpy as np

    keep, path = tmp_path / "keep", tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(ROWS)))
    records.prepare(path, keep)
    index, copy = next(keep.glob("*.npy")), next(keep.glob("*.copy"))
    data = index.read_bytes()
    if harm == "cut":
        index.write_bytes(data[:-8])
    elif harm == "changed":
        index.write_bytes(data[:-3] + b"\1" + data[-2:])
    elif harm == "emptied":
        index.write_bytes(b"")
    elif harm == "other array":
        np.save(index, np.zeros((4, 3)))
    elif harm == "copy gone":
        copy.unlink()
    elif harm == "copy cut":
        copy.write_bytes(copy.read_bytes()[:-1])
    elif harm == "copy changed":
        copy.write_bytes(b"x" + copy.read_bytes()[1:])
    kept._KNOWN.clear()
    assert not records.prepared(path, keep)
    assert records.page(path, 600, 2, keep).total == 700
    records.prepare(path, keep)
    assert records.prepared(path, keep)
    assert told(records.page(path, 600, 2, keep).rows) == told(records.read(path))[600:602]


def test_two_builders_at_once_do_each_other_no_harm(tmp_path: Path) -> None:
    keep, path = tmp_path / "keep", tmp_path / "a.json.xz"
    path.write_bytes(lzma.compress(json.dumps(ROWS).encode()))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: records.prepare(path, keep), range(12)))
    assert records.prepared(path, keep)
    assert len(list(keep.iterdir())) == 2
    assert records.page(path, 699, 5, keep).rows[0].number == 700


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(ROWS)))
    monkeypatch.setattr(workspace, "free_bytes", lambda _path: 1000)
    with pytest.raises(WorkspaceError) as caught:
        records.prepare(path, tmp_path / "keep")
    assert caught.value.key == "workspace.disk_full"
    assert records.page(path, 0, 1, tmp_path / "keep").total == 700


def test_parquet_with_large_row_groups_is_written_anew_with_small_ones(tmp_path: Path) -> None:
    path, keep = tmp_path / "a.parquet", tmp_path / "keep"
    rows = [
        {"q": f"q{n}", "turns": [{"role": "user", "n": n}], "x": None if n % 3 else n / 7}
        for n in range(25_000)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), path)
    assert parquet.ParquetFile(path).metadata.num_row_groups == 1
    records.prepare(path, keep)
    copy = parquet.ParquetFile(next(keep.glob("*.copy")))
    assert copy.metadata.num_row_groups == 25
    page = records.page(path, 17_990, 20, keep)
    assert [row.value for row in page.rows if isinstance(row, Record)] == rows[17_990:18_010]
    assert [row.number for row in page.rows] == list(range(17_991, 18_011))
    assert page.total == 25_000


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("inner", [".json", ".jsonl", ".csv"])
def test_packed_files_are_read_as_what_they_hold(name: str, inner: str, tmp_path: Path) -> None:
    ending, pack = PACK[name]
    data = {".json": json.dumps(ROWS).encode("utf-16"), ".jsonl": jsonl(ROWS), ".csv": table(CELLS)}[inner]
    for file in (f"data{inner}{ending}", "data"):
        path = tmp_path / file
        path.write_bytes(pack(data))
        seen: list[int] = []
        got = [piece.value for piece in records.read(path, seen.append) if isinstance(piece, Record)]
        assert got == (CELLS if inner == ".csv" else ROWS)
        assert records.sniff(path).compression == name
        assert seen == sorted(seen)
        assert seen[-1] == path.stat().st_size
        assert records.cuts(path, 100) == [0]
    assert [path.name for path in records.find(tmp_path)] == [f"data{inner}{ending}"]


@pytest.mark.parametrize("name", PACK)
def test_all_members_of_a_packed_file_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    pack = PACK[name][1]
    path.write_bytes(pack(jsonl(ROWS[:300])) + pack(b"") + pack(jsonl(ROWS[300:])))
    assert [piece.value for piece in records.read(path) if isinstance(piece, Record)] == ROWS


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("kind", ["array", "lines", "csv"])
def test_a_packed_file_that_is_cut_or_damaged_never_ends_in_silence(
    name: str, kind: str, tmp_path: Path
) -> None:
    numbers = random.Random(1)
    rows = [{"q": f"{n}", "a": "".join(numbers.choices("abcdefghij", k=300))} for n in range(3000)]
    data = {"array": json.dumps(rows).encode(), "lines": jsonl(rows), "csv": table(rows)}[kind]
    packed = PACK[name][1](data)
    path = tmp_path / "a.csv"
    for content, reasons in (
        (packed[:-20], {"cut_archive", "bad_archive"}),
        (packed[: len(packed) // 2], {"cut_archive"}),
        (packed + packed[:40], {"cut_archive", "bad_archive"}),
        (packed + b"something else, which is no such file", {"cut_archive", "bad_archive"}),
    ):
        path.write_bytes(content)
        if name == "bzip2" and len(content) <= len(packed) // 2:  # one large block, or none
            with pytest.raises(RecordError) as caught:
                records.sniff(path)
            assert caught.value.key == "record.cut_archive"
            continue
        pieces = list(records.read(path))
        last = pieces[-1]
        assert isinstance(last, Broken)
        assert last.reason in reasons
        assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
        assert sum(isinstance(piece, Record) for piece in pieces) > 500
        keep = tmp_path / "keep"
        records.prepare(path, keep)
        assert records.page(path, len(pieces) - 1, 9, keep).total == len(pieces)
        assert isinstance(records.page(path, len(pieces) - 1, 9, keep).rows[0], Broken)


def test_what_is_packed_but_no_data_is_refused(tmp_path: Path) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("data.json"), io.BytesIO(b""))
    rows = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), rows)
    for content, key, kind in (
        (gzip.compress(tar.getvalue()), "record.compressed", "tar"),
        (zstd(rows.getvalue()), "record.packed_parquet", "zstd"),
        (gzip.compress(gzip.compress(b"[]")), "record.compressed", "gzip"),
        (gzip.compress(b"[]")[:9], "record.cut_archive", "gzip"),
    ):
        path = tmp_path / "data.gz"
        path.write_bytes(content)
        with pytest.raises(RecordError) as caught:
            list(records.read(path))
        assert caught.value.key == key
        assert caught.value.facts["archive"] == kind
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(RecordError) as caught:
        records.sniff(path)
    assert caught.value.key == "record.empty"


def test_faults_of_a_packed_array_on_one_line_take_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    row = '{"k": 1, "v": "' + "\u4f60" * 300 + '"}, {"k": oh}, '
    path.write_bytes(gzip.compress(("[" + row * 5000 + '{"k": 1}]').encode()))
    started = time.process_time()
    faults = [piece for piece in records.read(path) if isinstance(piece, Broken)]
    assert time.process_time() - started < 8
    assert len(faults) == 5000
    assert faults[-1].column == 1 + len(row) * 5000 - len("oh}, ") + 1


def test_a_small_file_that_unpacks_to_a_huge_one_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write((b'{"a": "' + b" " * 1000 + b'"}\n') * 5000)
    records.sniff(path)
    tracemalloc.start()
    count = sum(1 for _ in records.read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 3_000_000
