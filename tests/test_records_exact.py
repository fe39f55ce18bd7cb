"""What stands in a file arrives, or it is told: odd numbers, repeated keys, faults, and any value at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import records
from lib.records import Broken, Piece, Record, arrays, lines, stretches


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def told(path: Path) -> tuple[list[Any], list[tuple[str, int | None, int | None]]]:
    pieces = list(records.read(path))
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
    good = [piece.value for piece in pieces if isinstance(piece, Record)]
    return good, [(piece.reason, piece.line, piece.column) for piece in pieces if isinstance(piece, Broken)]


TWICE = [
    ('{"a": 1, "a": 2}', "a", 10),
    ('{"a":1,"b":{"x":[{"c":1,"c":1}]}}', "c", 25),
    ('{"a" : 1, "b": 2, "a" : 3}', "a", 19),
    ('{"a": 1, "b" : 2, "a": 3}', "a", 19),
    ('{"a": "\\":", "a": 3}', "a", 14),
    ('{"a\\\\": 1, "a\\\\": ": \\": "}', "a\\", 12),
    ('{"\u4f60": 1, "\\u4f60": 2}', "\u4f60", 10),
    ('{"": 1, "": {"": 2}}', "", 9),
    ('{"a": {"b": 1}, "a": {"b": 2}}', "a", 17),
]


@pytest.mark.parametrize(("row", "name", "column"), TWICE)
def test_a_key_that_stands_twice_is_told_with_its_place(
    row: str, name: str, column: int, tmp_path: Path
) -> None:
    other = '{"z": "text \\"q\\": 1"}'
    for text, line, before in (
        (f"{other}\n{row}\n{other}\n", 2, 0),
        (f"[{other},\n{row},\n{other}]", 2, 0),
        (f"[{other}, {row}, {other}]", 1, len(other) + 3),
    ):
        path = put(tmp_path, "data.json", text)
        pieces = list(records.read(path))
        assert [type(piece) for piece in pieces] == [Record, Broken, Record]
        fault = pieces[1]
        assert isinstance(fault, Broken)
        assert fault.reason == "duplicate_key"
        assert fault.error.facts["name"] == name
        assert (fault.line, fault.column) == (line, before + column)
        assert fault.raw.startswith(row[:10])


@pytest.mark.parametrize("spaced", [":", " :", ": ", "\t :", "  : "])
def test_keys_are_not_taken_for_repeated_because_of_what_strings_hold(spaced: str, tmp_path: Path) -> None:
    rows = [
        {
            "a": '"a":1,"a":2 "b" : 3',
            "b": ": x",
            "c": [{"a": " : ", "b": '\\":'}, {"a": 1}],
            'q":': {"a": None},
        },
        {"a": "\\", "b\\": "\\\\", "c": {"d": {"d": {"d": []}}}},
    ] * 30
    text = json.dumps(rows, separators=(", ", spaced))
    assert told(put(tmp_path, "a.json", text)) == (rows, [])
    text = "\n".join(json.dumps(row, separators=(", ", spaced)) for row in rows)
    assert told(put(tmp_path, "a.jsonl", text)) == (rows, [])


def test_numbers_json_does_not_know_are_kept_and_noted(tmp_path: Path) -> None:
    rows = ['{"a": "NaN", "b": [1, -Infinity]}', '{"a": NaN, "b": NaN}', '{"a": 1, "b": "Infinity"}']
    for text, places in (
        ("\n".join(rows), [(1, 23), (2, 7), None]),
        ("[" + ", ".join(rows) + "]", [(1, 24), (1, 43), None]),
    ):
        pieces = list(records.read(put(tmp_path, "a.json", text)))
        assert all(isinstance(piece, Record) for piece in pieces)
        notes = [piece.note for piece in pieces if isinstance(piece, Record)]
        assert [note and (note.facts["line"], note.facts["column"]) for note in notes] == places
        assert [note.facts["row"] for note in notes if note] == [1, 2]
        assert {note.key for note in notes if note} == {"record.not_a_number"}
        second = pieces[1]
        assert isinstance(second, Record)
        assert math.isnan(second.value["a"])
    shifted = records.moved(pieces[1], records.Start(100, 11, 21))
    assert isinstance(shifted, Record)
    assert shifted.note
    assert (shifted.number, shifted.line, shifted.note.facts["row"], shifted.note.facts["line"]) == (
        12,
        21,
        12,
        21,
    )


FAULTS = [
    ('{"a":1,}', "bad_json"),
    ("{'a':1}", "bad_json"),
    ('{"a":1 "b":2}', "bad_json"),
    ('{"a":"raw\ttab"}', "bad_json"),
    ('{"a":/*x*/1}', "bad_json"),
    ('{"a":01}', "bad_json"),
    ('{"a":True}', "bad_json"),
    ("{a:1}", "bad_json"),
    ('{"a":1e400}', "bad_number"),
    ('{"a":"\\x"}', "bad_json"),
    ('{"a":"\udcff"}', "bad_bytes"),
]


@pytest.mark.parametrize(("row", "reason"), FAULTS)
def test_faults_are_told_with_line_and_column_and_the_rest_read(
    row: str, reason: str, tmp_path: Path
) -> None:
    good = '{"a":"\u4f60\u597d\u4f60\u597d\u4f60\u597d\u4f60\u597d"}'
    for text in (
        f"{good}\n{row}\n{good}\n",
        f"[{good},\n{row},\n{good}]",
        f"[\n{good}\n,\n{row}\n,\n{good}\n]",
    ):
        path = put(tmp_path, "a.json", text.encode("utf-8", "surrogateescape"))
        rows, bad = told(path)
        assert rows == [json.loads(good)] * 2
        assert [(one, line) for one, line, _ in bad] == [(reason, text[: text.index(row)].count("\n") + 1)]
        assert bad[0][2] is not None or reason == "bad_number"


def test_a_fault_in_the_last_row_is_no_truncation(tmp_path: Path) -> None:
    assert told(put(tmp_path, "a.json", '[{"a":1},{"a":oh}]'))[1] == [("bad_json", 1, 15)]
    assert told(put(tmp_path, "a.jsonl", '{"a":1}\n{"a":oh}'))[1] == [("bad_json", 2, 6)]
    for cut in ('{"a":tr', '{"a":-', '{"a":1', '{"a":1.', '{"a":[1,', '{"a"', "{", '{"a":"\\u4f', '{"a":1,'):
        assert told(put(tmp_path, "a.json", '[{"a":1},\n' + cut))[1][0][:2] == ("truncated", 2), cut
        assert told(put(tmp_path, "a.jsonl", '{"a":1}\n' + cut))[1][0][:2] == ("truncated", 2), cut


@pytest.mark.parametrize("levels", [252, 253, 254, 255])
@pytest.mark.parametrize("space", ["", " "])
def test_how_deep_is_too_deep_is_the_same_however_a_file_is_written(
    levels: int, space: str, tmp_path: Path
) -> None:
    row = '{"a":' * levels + space + "1" + "}" * levels
    for text in (f'[{{"a":0}},{row},{{"a":2}}]', f'{{"a":0}}\n{row}\n{{"a":2}}\n'):
        good, bad = told(put(tmp_path, "deep.json", text))
        assert len(good) == 2 + (levels <= 253)
        assert [reason for reason, *_ in bad] == ["too_deep"] * (levels > 253)


@pytest.mark.parametrize(
    "odd", ['{"a": 1,"a": 2}', '{"a":1,"a":2}', '{"a":12345678901234567890123}', '{"a":1e5}']
)
def test_an_odd_row_among_rows_written_plainly_is_found(odd: str, tmp_path: Path) -> None:
    rows = ['{"a":"' + "x" * 90 + '"}'] * 3000
    rows[1500] = odd
    for text in (f"[{','.join(rows)}]", "\n".join(rows)):
        good, bad = told(put(tmp_path, "odd.json", text))
        if odd.count('"a"') == 2:
            assert [(reason, len(good)) for reason, *_ in bad] == [("duplicate_key", 2999)]
        else:
            assert bad == [] and good[1500] == json.loads(odd)


def test_a_row_nested_too_deeply_is_one_broken_row(tmp_path: Path) -> None:
    for levels in (201, 300, 990, 1020, 5000):
        deep = '{"k": ' + '{"k": [' * levels + "1" + "]}" * levels + "}"
        rows, bad = told(put(tmp_path, "a.json", f'[{{"k": 1}}, {deep}, {{"k": 2}}]'))
        assert rows == [{"k": 1}, {"k": 2}]
        assert [reason for reason, *_ in bad] == ["too_deep"]
        assert (
            records.page(put(tmp_path, "b.json", f'[{{"k": 1}}, {deep}, {{"k": 2}}]'), 2, 1).rows[0].number
            == 3
        )


def test_an_open_quote_does_not_take_the_rest_of_a_table(tmp_path: Path) -> None:
    rows = "".join(f"{n},plain {n}\n" for n in range(2, 100))
    good, bad = told(put(tmp_path, "a.csv", f'q,a\n1,"open\n{rows}'))
    assert [row["q"] for row in good] == [str(n) for n in range(2, 100)]
    assert bad == [("open_quote", 2, None)]
    good, bad = told(put(tmp_path, "a.csv", f'q,a\n1,"open\n{rows}100,"quoted"\n{rows}101,"two\nlines"\n'))
    assert len(good) == 198
    assert good[98] == {"q": "100", "a": "quoted"}
    assert good[-1] == {"q": "101", "a": "two\nlines"}
    assert bad == [("open_quote", 2, None)]


def test_a_wrong_quote_in_a_row_of_many_lines_spoils_that_row_alone(tmp_path: Path) -> None:
    text = 'q,a\n1,"one\ntwo\nthree"x\n2,ok\n"3",ok\n'
    good, bad = told(put(tmp_path, "a.csv", text))
    assert good == [{"q": "2", "a": "ok"}, {"q": "3", "a": "ok"}]
    assert bad == [("bad_quote", 2, None)]


def test_bytes_that_are_no_text_spoil_their_row_of_a_table_alone(tmp_path: Path) -> None:
    chinese = "\u4f60\u597d" * 50
    text = f'q,a\n1,"{chinese}\nbad '.encode() + b"\xff" + f' here\nend"\n2,{chinese}\n'.encode()
    good, bad = told(put(tmp_path, "a.csv", text))
    assert good == [{"q": "2", "a": chinese}]
    assert bad == [("bad_bytes", 2, None)]


def test_a_cell_of_some_megabytes_is_read(tmp_path: Path) -> None:
    cell = "\u4f60 x\n" * 1_000_000
    assert told(put(tmp_path, "a.csv", f'q,a\n1,"{cell}"\n2,b\n'))[0] == [
        {"q": "1", "a": cell},
        {"q": "2", "a": "b"},
    ]


def test_text_in_parquet_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    column = pa.array([b"good", b"b\xffd", b"too"], pa.binary()).view(pa.string())
    from pyarrow import parquet

    parquet.write_table(pa.table({"a": column}), tmp_path / "a.parquet")
    good, bad = told(tmp_path / "a.parquet")
    assert good == [{"a": "good"}, {"a": "too"}]
    assert bad == [("bad_bytes", None, None)]


TRAPS = st.sampled_from(
    ['}, {"k": ', '{"k":', "[{}]", '"', "\\", '\\":', ": ", "\x00", "\u2028", "\ud800", "\U0001f600", "NaN"]
)
TEXT = st.text(max_size=20) | st.lists(TRAPS | st.text(max_size=3), max_size=5).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@st.composite
def deep(draw: st.DrawFn) -> Any:
    value = draw(JSON)
    for n in range(draw(st.integers(0, 190))):
        value = [value] if n % 2 else {"k": value}
    return value


ANY_ROWS = st.lists(
    st.fixed_dictionaries({"k": JSON | deep()}, optional={"z": JSON}), min_size=1, max_size=10
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "compact": {"separators": (",", ":")},
    "pretty": {"indent": 1},
    "loose": {},
}
WRITTEN = st.sampled_from(["compact", "pretty", "loose", "lines", "nested"])
FORM = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gb18030", "gzip", "zstd"])


def dumped(rows: list[Any], way: str, *, ascii_only: bool) -> str:
    if way == "lines":
        return "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    if way == "nested":
        return json.dumps({"version": 1, "data": rows}, ensure_ascii=ascii_only)
    return json.dumps(rows, ensure_ascii=ascii_only, **LAYOUTS[way])


def encoded(text: str, form: str) -> bytes:
    if form == "gzip":
        return gzip.compress(text.encode())
    if form == "zstd":
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, "zstd") as stream:
            stream.write(text.encode())
        return bytes(out.getvalue().to_pybytes())
    return text.encode(form)


@contextmanager
def _threads(processes: int) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(processes) as pool:
        yield pool


def listed(pieces: Iterator[Piece]) -> list[Piece]:
    return list(pieces)


@settings(max_examples=100, deadline=None)
@given(rows=ANY_ROWS, way=WRITTEN, form=FORM, ascii_only=st.booleans(), data=st.data())
def test_any_value_survives_reading_paging_and_spreading(
    rows: list[Any], way: str, form: str, ascii_only: bool, data: st.DataObject
) -> None:
    text = dumped(rows, way, ascii_only=ascii_only)
    try:
        content = encoded(text, form)
    except UnicodeEncodeError:  # a lone surrogate can only be written escaped
        content = encoded(dumped(rows, way, ascii_only=True), form)
    if form in ("gb18030", "utf-16", "utf-16-be"):  # too short a text does not tell its encoding
        fill = [{"k": "\u4f60\u597d\u4e16\u754c" * 300}] * 3
        rows = fill + rows
        try:
            content = encoded(dumped(rows, way, ascii_only=ascii_only), form)
        except UnicodeEncodeError:
            return
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        block = data.draw(st.sampled_from([16, 100, 1 << 16]))
        patch.setattr(arrays, "BLOCK", block)
        patch.setattr(lines, "BLOCK", block)
        patch.setattr(stretches, "_pool", _threads)
        # one object with an array in it is one record if the file calls itself JSON lines
        path = put(Path(folder), "data.jsonl" if way == "lines" else "data.json", content)
        keep = Path(folder) / "keep"
        pieces = list(records.read(path))
        assert [piece.value for piece in pieces if isinstance(piece, Record)] == rows
        same = [(piece.number, piece.line) for piece in pieces]
        start = data.draw(st.integers(0, len(rows)))
        for _ in range(2):
            page = records.page(path, start, 3, keep)
            assert [(row.number, row.line) for row in page.rows] == same[start : start + 3]
            assert [row.value for row in page.rows if isinstance(row, Record)] == rows[start : start + 3]
            numbers = data.draw(st.lists(st.integers(1, len(rows)), max_size=4))
            got = records.rows(path, numbers, keep)
            assert [row.value for row in got if isinstance(row, Record)] == [rows[n - 1] for n in numbers]
            records.prepare(path, keep)
        size = data.draw(st.integers(1, 200))
        spread = [
            records.moved(piece, base)
            for base, result in records.spread(path, listed, processes=2, size=size, least=0)
            for piece in result
        ]
        assert [piece.value for piece in spread if isinstance(piece, Record)] == rows
        assert [(piece.number, piece.line) for piece in spread] == same


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12) | st.lists(
    st.sampled_from(['"', ",", "\n", "a", "\t", ";", "\r\n", "\r", '","', "1,2\n"]), max_size=6
).map("".join)


@settings(max_examples=150, deadline=None)
@given(
    cells=st.lists(st.tuples(CELL, CELL, CELL), min_size=2, max_size=12),
    delimiter=st.sampled_from([",", "\t", ";"]),
    end=st.sampled_from(["\n", "\r\n"]),
    size=st.integers(1, 120),
)
def test_any_table_survives(cells: list[tuple[str, ...]], delimiter: str, end: str, size: int) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["one", "two", "three"])
    writer.writerows(cells)
    name = "a.tsv" if delimiter == "\t" else "a.csv"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "_pool", _threads)
        path = put(Path(folder), name, out.getvalue())
        rows = [dict(zip(("one", "two", "three"), row, strict=True)) for row in cells]
        pieces = list(records.read(path))
        assert [piece.value for piece in pieces if isinstance(piece, Record)] == rows
        spread = [
            records.moved(piece, base)
            for base, result in records.spread(path, listed, processes=2, size=size, least=0)
            for piece in result
        ]
        assert [piece.value for piece in spread if isinstance(piece, Record)] == rows
        assert [(one.number, one.line) for one in spread] == [(one.number, one.line) for one in pieces]
        assert records.page(path, 1, 1).rows[0].number == 2


def test_what_is_no_row_is_kept_long_enough_to_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    broken = '{"q": "' + "x" * 5000 + '", "a": oh}'
    path.write_text('{"q": "1", "a": "2"}\n' + broken + "\n", encoding="utf-8")
    (piece,) = (piece for piece in records.read(path) if isinstance(piece, records.Broken))
    assert piece.raw == broken
