"""Reading: every kind of file, exact values, broken input, paging, bounded memory and time."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from lib import records
from lib.errors import RecordError
from lib.records import Broken, Record, arrays

HEADS = json.loads((Path(__file__).parent / "data" / "heads.json").read_text(encoding="utf-8"))
CHINESE = [head["rows"][0] for head in HEADS if head["name"].startswith("Chinese")]
ROWS = [
    {
        "Question": 'a "quoted" {"Question": "no"}, {"Question": "row"}',
        "Response": "line one\nline two",
        "n": 1,
    },
    {"Question": "between\u2028these\u2029words\u0085", "Response": "x" * 300, "n": 2},
    *CHINESE,
]


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path) -> list[Any]:
    pieces = list(records.read(path))
    assert all(isinstance(piece, Record) for piece in pieces), pieces
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
    return [piece.value for piece in pieces if isinstance(piece, Record)]


def broken(path: Path) -> tuple[list[Any], list[tuple[str, int | None, int | None]]]:
    pieces = list(records.read(path))
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
    good = [piece.value for piece in pieces if isinstance(piece, Record)]
    return good, [(piece.reason, piece.line, piece.column) for piece in pieces if isinstance(piece, Broken)]


def compact(rows: Any) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


WAYS: dict[str, Callable[[list[Any]], str]] = {
    "compact array": compact,
    "pretty array": lambda rows: json.dumps(rows, ensure_ascii=False, indent=2),
    "escaped array": json.dumps,
    "lines": jsonl,
    "lines with blanks and no end": lambda rows: jsonl(rows).replace("\n", "\n\n").rstrip("\n"),
    "lines ending in CRLF": lambda rows: jsonl(rows).replace("\n", "\r\n"),
    "pretty objects": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows),
    "under data": lambda rows: compact({"version": 1, "data": rows, "more": {"a": [{"b": 1}]}}),
    "under a name of its own": lambda rows: json.dumps({"about": "[{]", "poems": rows}, indent=2),
    "rows of the datasets server": lambda rows: compact(
        {
            "features": [{"feature_idx": 0, "name": "Question", "type": {"dtype": "string"}}],
            "rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(rows)],
            "num_rows_total": len(rows),
        }
    ),
}


@pytest.mark.parametrize("ending", ["json", "jsonl", "txt"])
@pytest.mark.parametrize("way", WAYS)
def test_json_is_read_whatever_its_form_and_ending(way: str, ending: str, tmp_path: Path) -> None:
    path = put(tmp_path, f"some data.{ending}", WAYS[way](ROWS))
    assert values(path) == ROWS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("way", ["compact array", "pretty array", "lines"])
def test_encodings_are_found(way: str, encoding: str, tmp_path: Path) -> None:
    path = put(tmp_path, "data.json", WAYS[way](CHINESE).encode(encoding))
    assert values(path) == CHINESE
    assert records.sniff(path).encoding == {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(
        encoding, encoding
    )
    assert [row.value for row in records.page(path, 1, 2).rows if isinstance(row, Record)] == CHINESE[1:3]


def table(rows: list[dict[str, str]], delimiter: str = ",", end: str = "\r\n") -> str:
    out = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


CELLS = [
    {"question": 'What is "rust"?', "answer": "a language,\r\nor\niron oxide", "007": "1e5"},
    {"question": "\u4f60\u597d\u5417", "answer": "", "007": "=1+1"},
    {"question": "tab\there; semi|bar", "answer": "  spaces  ", "007": "2024-01-01"},
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize(
    ("delimiter", "name"), [(",", "a.csv"), ("\t", "a.tsv"), (";", "a.csv"), ("\t", "a.txt")]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_keep_every_cell_as_text(
    delimiter: str, name: str, end: str, encoding: str, tmp_path: Path
) -> None:
    path = put(tmp_path, name, table(CELLS * 3, delimiter, end).encode(encoding))
    assert values(path) == CELLS * 3
    lines = [row.line for row in records.read(path)]
    assert lines[:4] == [2, 5, 6, 7]
    assert [row.line for row in records.page(path, 3, 2).rows] == [7, 10]


def test_a_table_tells_rows_that_do_not_fit_its_header(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'q,a\n1,2\n3\n4,5,6\n"7"x,8\n9,10\n11,"open\n12,13\n')
    good, bad = broken(path)
    assert good == [{"q": "1", "a": "2"}, {"q": "9", "a": "10"}, {"q": "12", "a": "13"}]
    assert bad == [
        ("bad_row", 3, None),
        ("bad_row", 4, None),
        ("bad_quote", 5, None),
        ("open_quote", 7, None),
    ]


def test_header_names_that_are_empty_or_repeated_get_a_number(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "q,,q\n1,2,3\n")
    assert values(path) == [{"q": "1", "column_2": "2", "q_3": "3"}]


def test_parquet_is_read_with_its_nested_values(tmp_path: Path) -> None:
    rows = [
        {
            "q": f"q{n}",
            "messages": [{"role": "user", "content": f"\u4f60 {n}"}],
            "score": None if n % 2 else n / 8,
        }
        for n in range(2000)
    ]
    path = tmp_path / "data.bin"
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=700)
    assert values(path) == rows
    page = records.page(path, 1390, 20)
    assert [row.number for row in page.rows] == list(range(1391, 1411))
    assert [row.value for row in page.rows if isinstance(row, Record)] == rows[1390:1410]
    assert page.total == 2000


def test_a_cut_parquet_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    parquet.write_table(pa.Table.from_pylist([{"q": "x"}]), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordError) as caught:
        list(records.read(path))
    assert caught.value.key == "record.bad_parquet"


EXACT = [
    12345678901234567890123,
    -(10**30),
    9007199254740993,
    1.7976931348623157e308,
    5e-324,
    0.1,
    "007",
    "1e5",
    "2024-01-01T00:00:00+08:00",
    "\u0000",
    "\ud800",
    None,
    [1, {"b": None}, [1.5, "x"]],
    1e22,
]


@pytest.mark.parametrize("way", ["escaped array", "lines", "under data"])
def test_values_arrive_exactly_as_they_are(way: str, tmp_path: Path) -> None:
    rows = [{"k": value} for value in EXACT] + [{"other": True}]
    path = put(tmp_path, "data.json", json.dumps(rows) if way == "escaped array" else _escaped(way, rows))
    got = values(path)
    assert got == rows
    assert [type(row.get("k")) for row in got] == [type(row.get("k")) for row in rows]


def _escaped(way: str, rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows) if way == "lines" else json.dumps({"data": rows})


def test_what_only_python_writes_is_read_too(tmp_path: Path) -> None:
    for text in ('{"a": NaN}\n{"b": "NaN",  "a": -Infinity}', '[{"a": NaN},\n{"b": "NaN",  "a": -Infinity}]'):
        nan, infinity = records.read(put(tmp_path, "data.json", text))
        assert isinstance(nan, Record)
        assert math.isnan(nan.value["a"])
        assert nan.note
        assert nan.note.facts["line"] == 1
        assert isinstance(infinity, Record)
        assert infinity.value == {"b": "NaN", "a": -math.inf}
        assert infinity.note
        assert infinity.note.key == "record.not_a_number"
        assert (infinity.note.facts["line"], infinity.note.facts["column"]) == (2, 20)


def test_a_number_no_float_holds_is_broken_not_infinite(tmp_path: Path) -> None:
    good, bad = broken(put(tmp_path, "data.jsonl", '{"a": 1e400}\n{"a": 1}\n{"a": ' + "9" * 5000 + "}\n"))
    assert good == [{"a": 1}]
    assert [reason for reason, *_ in bad] == ["bad_number", "bad_number"]
    good, bad = broken(put(tmp_path, "data.json", '[{"a": 1e400}, {"a": 1}]'))
    assert good == [{"a": 1}]
    assert bad == [("bad_number", 1, 2)]


@pytest.mark.parametrize("levels", [150, 210, 260, 950, 1010, 1500, 100_000])
def test_nesting_too_deep_is_broken(levels: int, tmp_path: Path) -> None:
    deep = '{"a": ' * levels + "1" + "}" * levels
    for text in (f'[{{"b": 1}}, {deep}, {{"b": 2}}]', f'{{"b": 1}}\n{deep}\n{{"b": 2}}\n'):
        good, bad = broken(put(tmp_path, "data.json", text))
        assert len(good) == (3 if levels <= 253 else 2)
        assert [reason for reason, *_ in bad] == ["too_deep"] * (levels > 253)


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ('[{"a":1},{"a":2}', 2, [("truncated", 1, 17)]),
        ('[\n{"a":1},\n{"a":"cut', 1, [("truncated", 3, 6)]),
        ('[\n{"a":1},\n{"a":2},\n]', 2, [("trailing_comma", 4, 1)]),
        ('[{"a":1}{"a":2}]', 2, [("missing_comma", 1, 9)]),
        ('[{"a":1},\n{"a":2 "b":3},\n{"a":3}]', 2, [("bad_json", 2, 8)]),
        ('[{"a":1},\n{\'a\':2},\n{"a":3}]', 2, [("bad_json", 2, 2)]),
        ('[{"a":1},\n{"a":"x},\n{"a":3},\n{"a":4}]', 3, [("bad_json", 2, 10)]),
        ('[{"a":1}]\n[{"a":2}]', 2, [("after_end", 2, 1)]),
        ('[{"a":1}]\nand more', 1, [("after_end", 2, 1)]),
        ('\ufeff[{"a":"\u4f60"},{"a":nix},{"a":3}]', 2, [("bad_json", 1, 17)]),
    ],
)
def test_a_broken_array_is_told_with_line_and_column_and_the_rest_read(
    text: str, good: int, bad: list[Any], tmp_path: Path
) -> None:
    got = broken(put(tmp_path, "data.json", text))
    assert (len(got[0]), got[1]) == (good, bad)


def test_columns_count_characters_even_far_into_a_long_line(tmp_path: Path) -> None:
    row = compact({"a": "\u4f60" * 1000})
    text = "[" + f"{row}," * 400 + '{"a":oh}' + f",{row}" * 3 + "]"
    path = put(tmp_path, "data.json", "\ufeff" + text)
    assert broken(path) == ([{"a": "\u4f60" * 1000}] * 403, [("bad_json", 1, text.index("oh") + 1)])
    recoded = put(tmp_path, "wide.json", text.encode("utf-16"))
    assert broken(recoded)[1] == [("bad_json", 1, text.index("oh") + 1)]


def test_broken_lines_are_told_and_the_rest_read(tmp_path: Path) -> None:
    content = b'{"a": 1}\n{"a" 2}\n\n{"a": "\xff"}\n{"a": 3}{"a": 4}\n{"a": 5}\nhello\n{"a": "cut'
    good, bad = broken(put(tmp_path, "data.jsonl", content))
    assert good == [{"a": 1}, {"a": 5}]
    assert bad == [
        ("bad_json", 2, 6),
        ("bad_bytes", 4, 8),
        ("bad_json", 5, 9),
        ("bad_json", 7, 1),
        ("truncated", 8, 7),
    ]


def test_a_broken_first_line_does_not_spoil_the_others(tmp_path: Path) -> None:
    for first in ("# exported today", '{"a": 1', "{'a': 1}"):
        good, bad = broken(put(tmp_path, "data.jsonl", f'{first}\n{{"a": 2}}\n{{"a": 3}}\n'))
        assert good == [{"a": 2}, {"a": 3}], first
        assert len(bad) == 1


def test_a_broken_piece_says_where_and_how_it_begins(tmp_path: Path) -> None:
    path = put(tmp_path, "data.jsonl", '{"a": 1}\n{"a": oh no}\n')
    piece = list(records.read(path))[1]
    assert isinstance(piece, Broken)
    assert piece.raw == '{"a": oh no}'
    assert piece.error.key == "record.bad_json"
    assert piece.error.facts == {"file": "data.jsonl", "row": 2, "line": 2, "column": 7, "near": "oh no}"}


def test_values_that_are_no_objects_are_rows_too(tmp_path: Path) -> None:
    assert values(put(tmp_path, "data.json", '[1, "x", [2], {"a": 3}]')) == [1, "x", [2], {"a": 3}]


BINARY = bytes(random.Random(0).randrange(256) for _ in range(4000))


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("a.json", b"", "record.empty"),
        ("a.json", b" \n\n ", "record.empty"),
        ("a.json", b"<!DOCTYPE html><html><title>Sign in</title></html>", "record.html"),
        ("a.csv", b"\n  <html lang=en>", "record.html"),
        ("a.json", BINARY, "record.not_records"),
        ("a.json", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "record.not_records"),
        (
            "a.txt",
            b"It was a dark night, and the rain fell.\nNobody, not even the dog,\nwent out.",
            "record.not_records",
        ),
        ("a.json", b"hello", "record.not_records"),
        ("a.csv.gz", b"\x1f\x8b\x08\0\0", "record.cut_archive"),
        ("a.xlsx", b"PK\x03\x04\x14\0xl/workbook", "record.spreadsheet"),
        ("a.zip", b"PK\x03\x04\x14\0data", "record.compressed"),
        (
            "a.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
            "record.lfs_pointer",
        ),
        (
            "a.csv",
            "q,a\n\u00e9t\u00e9,\u00e0 la\nma\u00eft,\u00e9\n".encode("latin-1"),
            "record.bad_encoding",
        ),
        ("a.json", b'{"q":{"0":"x","1":"y"},"a":{"0":"x","1":"y"}}', "record.by_columns"),
        ("a.json", b'{"q":["x","y"],"a":["x","y"]}', "record.by_columns"),
        ("a.parquet", b"PAR1 no more", "record.bad_parquet"),
    ],
)
def test_what_is_no_data_file_is_said(name: str, content: bytes, key: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        records.page(put(tmp_path, name, content), 0, 5)
    assert caught.value.key == key
    assert caught.value.facts["file"] == name


def test_missing_files_and_folders_are_said(tmp_path: Path) -> None:
    for path, key in ((tmp_path / "none.json", "record.missing_file"), (tmp_path, "record.folder")):
        with pytest.raises(RecordError) as caught:
            next(records.read(path))
        assert caught.value.key == key


def test_one_record_alone_is_a_record_and_not_its_turns(tmp_path: Path) -> None:
    for row in (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"q": "x", "a": "y"},
    ):
        assert values(put(tmp_path, "a.json", json.dumps(row))) == [row]
        assert values(put(tmp_path, "b.json", json.dumps(row, indent=2))) == [row]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
TABLE = st.lists(st.fixed_dictionaries({"k": JSON, "z": JSON}), max_size=12)
BLOCKS = st.sampled_from([8, 16, 33, 64, 257, 4096])
LAYOUTS = st.sampled_from([(None, (",", ":")), (None, (" , ", " : ")), (1, (",", ": ")), ("\t", (",", ":"))])


@settings(max_examples=150, deadline=None)
@given(rows=TABLE, block=BLOCKS, layout=LAYOUTS, ascii_only=st.booleans(), data=st.data())
def test_any_array_arrives_whole_in_blocks_of_any_size(
    rows: list[Any], block: int, layout: Any, ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(rows, indent=layout[0], separators=layout[1], ensure_ascii=ascii_only)
    content = text.encode("utf-8", "surrogatepass") if ascii_only else _utf8(text, rows)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BLOCK", block)
        path = put(Path(folder), "data.json", content)
        pieces = list(records.read(path))
        assert [piece.value for piece in pieces if isinstance(piece, Record)] == rows
        assert len(pieces) == len(rows)
        lines = [piece.line for piece in pieces]
        start = data.draw(st.integers(0, len(rows)))
        page = records.page(path, start, 3)
        assert [row.value for row in page.rows if isinstance(row, Record)] == rows[start : start + 3]
        assert [row.line for row in page.rows] == lines[start : start + 3]
        assert page.total == len(rows)
        # damaged anywhere, it is read to the end and numbered without a gap, or refused as a whole
        place = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:place] + data.draw(st.sampled_from([b"", b"x", b'"', b"]", b"\xff"])))
        try:
            assert [piece.number for piece in records.read(path)] == list(
                range(1, sum(1 for _ in records.read(path)) + 1)
            )
        except RecordError as error:
            assert error.key.startswith("record.")


def _utf8(text: str, rows: list[Any]) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(rows).encode()


@settings(max_examples=100, deadline=None)
@given(rows=TABLE)
def test_any_lines_arrive_whole(rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), "data.jsonl", "".join(json.dumps(row) + "\n" for row in rows) or "\n")
        if rows:
            assert values(path) == rows


def test_pages_follow_a_file_that_changes(tmp_path: Path) -> None:
    path = put(tmp_path, "data.jsonl", jsonl([{"n": n} for n in range(1000)]))
    assert records.page(path, 0, 0).total == 1000
    assert [row.number for row in records.page(path, 998, 25).rows] == [999, 1000]
    assert records.page(path, 1000, 25).rows == ()
    put(tmp_path, "data.jsonl", jsonl([{"n": -n} for n in range(1200)]))
    assert records.page(path, 1199, 1).rows[0].number == 1200
    assert records.page(path, 0, 1).total == 1200


@pytest.mark.parametrize("way", ["compact array", "pretty array", "lines", "rows of the datasets server"])
def test_any_page_is_what_reading_gives(way: str, tmp_path: Path) -> None:
    rows = [{"Question": f"q{n} " + "x" * (n * 7 % 500), "n": n} for n in range(3000)]
    path = put(tmp_path, "data.json", WAYS[way](rows))
    everything = [(row.number, row.line) for row in records.read(path)]
    for start in (0, 63, 64, 65, 1500, 2999):
        page = records.page(path, start, 25)
        assert page.start == start
        assert [(row.number, row.line) for row in page.rows] == everything[start : start + 25]
        assert [row.value for row in page.rows if isinstance(row, Record)] == rows[start : start + 25]


def test_progress_ends_at_the_size(tmp_path: Path) -> None:
    for way in WAYS:
        path = put(tmp_path, "data.json", WAYS[way](ROWS * 100))
        seen: list[int] = []
        for _ in records.read(path, seen.append):
            pass
        assert seen == sorted(seen)
        assert seen[-1] == path.stat().st_size


HOSTILE: dict[str, Callable[[], str]] = {
    "spaces between rows": lambda: "[" + ",".join(['{"k":1}' + " " * 70_000] * 60) + "]",
    "one huge row": lambda: compact([{"k": 1}, {"k": "x" * 4_000_000}, {"k": 2}]),
    "rows that hold rows like themselves": lambda: compact([{"k": [{"k": n}] * 40} for n in range(8000)]),
    "no two rows begin alike": lambda: compact([{f"k{n}": "x" * 100} for n in range(30_000)]),
    "every row is broken": lambda: "[" + ",".join(["{'k':1,'v':'" + "x" * 80 + "'}"] * 20_000) + "]",
    "text that looks like rows": lambda: compact([{"k": '},{"k":"' * 50} for n in range(8000)]),
    "a quote nobody closes": lambda: '[{"k":1},{"k":"' + "x," * 2_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_and_memory_stay_in_proportion(kind: str, tmp_path: Path) -> None:
    text = HOSTILE[kind]()
    path = put(tmp_path, "data.json", text)
    started = time.process_time()
    rows = sum(1 for _ in records.read(path))
    took = time.process_time() - started
    assert rows
    # a reader that looks at things twice too often takes minutes here
    assert took < 3 + len(text) / 1e6


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(path: Path) -> int:
        records.sniff(path)
        tracemalloc.start()
        try:
            for _ in records.read(path):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    for way in ("compact array", "lines"):
        small = put(tmp_path, "small.json", WAYS[way](ROWS * 3000))
        large = put(tmp_path, "large.json", WAYS[way](ROWS * 12000))
        assert peak(large) < 1.3 * peak(small) + 200_000


def test_find_names_the_data_files_of_a_folder(tmp_path: Path) -> None:
    for name in (
        "data/b.jsonl",
        "data/a.CSV",
        "README.md",
        "load.py",
        "dataset_infos.json",
        ".git/x.json",
        "c.parquet",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        put(tmp_path, name, "x")
    found = [path.relative_to(tmp_path).as_posix() for path in records.find(tmp_path)]
    assert found == ["c.parquet", "data/a.CSV", "data/b.jsonl"]


def test_columns_are_named_in_the_order_they_appear() -> None:
    assert records.columns([{"b": 1}, 7, {"a": 2, "b": 3}]) == ["b", "a"]
