"""Look before you download: the first rows of a remote file, and how little is fetched for them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from lib import hub, records
from lib.errors import AppError
from lib.hub import endpoint as endpoints
from lib.hub.look import MOST, RANGE, Look, converted, look
from tests.fakehub import FakeHub
from tests.fakescope import FakeScope

REPO = "org/tea"
REF = hub.Ref(REPO)
SECRET = "hf_SECRETsecretSECRET"
RANDOM = random.Random(7)
TEA = "\u8336\u53f6\u6d6e\u6c89" * 5


def letters(size: int) -> str:
    """Text that no compression makes much smaller."""
    return RANDOM.randbytes(size).hex()[:size]


ROWS = [
    {"id": n, "Question": f'{TEA} {n}\u2028, "said" {letters(300)}', "Response": letters(60)}
    for n in range(3000)
]
TABLE = "id,Question,Response\n" + "".join(
    f'{row["id"]},"{str(row["Question"]).replace(chr(34), chr(34) * 2)}\nand more",{row["Response"]}\n'
    for row in ROWS
)
AS_TEXT: list[dict[str, str]] = [
    {"id": str(r["id"]), "Question": f"{r['Question']}\nand more", "Response": str(r["Response"])}
    for r in ROWS
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return bytes(sink.getvalue())


def as_parquet(columns: dict[str, Any], **how: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink, **how)
    return sink.getvalue()


def listing(fake: FakeHub, files: dict[str, bytes], **how: Any) -> hub.Listing:
    fake.add_repo(REPO, files, **how)
    found = hub.list_files(REF, fake.url)
    fake.log.clear()
    return found


def look_at(fake: FakeHub, name: str, data: bytes, **how: Any) -> Look:
    there = listing(fake, {name: data})
    return look(there, there.files[0], **how)


def values(seen: Look) -> list[Any]:
    return [row.value for row in seen.rows if isinstance(row, records.Record)]


def error_of(call: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as caught:
        call()
    return caught.value


# Text


TEXTS = {
    "a.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "inside.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "objects.json": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "a.jsonl": LINES,
    "windows.jsonl": b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"),
    "no_ending": LINES,
    "a.jsonl.gz": gzip.compress(LINES),
    "a.jsonl.zst": zstd(LINES),
    "a.jsonl.bz2": bz2.compress(LINES, 1),
    "a.jsonl.xz": lzma.compress(LINES),
    "a.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "utf16.json": json.dumps(ROWS, ensure_ascii=False).encode("utf-16"),
}
TABLES = {
    "a.csv": TABLE.encode(),
    "a.tsv": TABLE.replace(",", "\t").encode(),
    "utf16.csv": TABLE.encode("utf-16"),
    "gb.csv": TABLE.encode("gb18030"),
    "gb.csv.gz": gzip.compress(TABLE.encode("gb18030")),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_first_rows_of_a_text_come_by_one_request(fake: FakeHub, name: str) -> None:
    assert len(TEXTS[name]) > RANGE
    seen = look_at(fake, name, TEXTS[name])
    assert values(seen) == ROWS[:20]
    assert seen.columns == ("id", "Question", "Response")
    assert (seen.whole, seen.note, seen.fetched, seen.size) == (False, "", RANGE, len(TEXTS[name]))
    assert sum(part.sent for part in fake.log if part.status == 206) == RANGE
    assert [part.headers["range"] for part in fake.log] == [f"bytes=0-{RANGE - 1}"] * 2  # and one redirect


@pytest.mark.parametrize("name", TABLES)
def test_the_first_rows_of_a_table_have_their_line_breaks_and_quotes(fake: FakeHub, name: str) -> None:
    seen = look_at(fake, name, TABLES[name])
    expected = [
        {key: value.replace(",", "\t") if name.endswith(".tsv") else value for key, value in row.items()}
        for row in AS_TEXT[:20]
    ]
    assert values(seen) == expected


@pytest.mark.parametrize("name", [*TEXTS, *TABLES])
def test_no_row_is_shown_that_only_the_end_of_the_range_has_broken(fake: FakeHub, name: str) -> None:
    data = (TEXTS | TABLES)[name]
    there = listing(fake, {name: data})
    everything = ROWS if name in TEXTS else AS_TEXT
    rows = look(there, there.files[0], rows=10_000).rows
    assert not [row for row in rows if isinstance(row, records.Broken)]
    assert 100 < len(rows) < len(everything)
    if not name.endswith(".tsv"):
        assert [row.value for row in rows if isinstance(row, records.Record)] == everything[: len(rows)]


@pytest.mark.parametrize("size", range(RANGE - 60, RANGE + 60, 7))
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_a_cut_anywhere_in_a_row_leaves_the_rows_before_it(fake: FakeHub, kind: str, size: int) -> None:
    text = "x" * (size - 200_000)
    rows = [
        {"a": "1", "b": "y" * 199_950},
        {"a": "2", "b": text + ' "q", {"a": [1, '},
        {"a": "3", "b": "z" * 99},
    ]
    if kind == "csv":
        quoted = ('"' + str(row["b"]).replace('"', '""') + '"' for row in rows)
        data = "a,b\n" + "".join(f"{row['a']},{cell}\n" for row, cell in zip(rows, quoted, strict=True))
    else:
        data = json.dumps(rows) if kind == "json" else "".join(json.dumps(row) + "\n" for row in rows)
    data += " " * (400_000 - len(data)) if kind == "json" else ""
    seen = look_at(fake, f"a.{kind}", data.encode() + (data.encode() if kind == "jsonl" else b""))
    assert not [row for row in seen.rows if isinstance(row, records.Broken)]
    assert values(seen) == rows[: len(seen.rows)]
    assert len(seen.rows) in (1, 2, 3)


def test_a_small_file_is_shown_whole_with_its_end(fake: FakeHub) -> None:
    seen = look_at(fake, "a.jsonl", b'{"a": 1}\n{"a": 2}')
    assert (values(seen), seen.whole) == ([{"a": 1}, {"a": 2}], True)
    cut = look_at(fake, "a.json", b'[{"a": 1}, {"a": ')
    assert [isinstance(row, records.Broken) for row in cut.rows] == [False, True]
    many = look_at(fake, "a.jsonl", b'{"a": 1}\n' * 21)
    assert (len(many.rows), many.whole) == (20, False)
    assert look_at(fake, "a.jsonl", b'{"a": 1}\n' * 20).whole


def test_a_row_that_is_really_broken_is_shown_as_broken(fake: FakeHub) -> None:
    lines = LINES.splitlines()
    lines[2] = lines[2][:-9]
    seen = look_at(fake, "a.jsonl", b"\n".join(lines))
    assert [row.number for row in seen.rows if isinstance(row, records.Broken)] == [3]
    rows = TABLE.replace("\n2,", "\n2,too,many,", 1)
    broken = [row for row in look_at(fake, "a.csv", rows.encode()).rows if isinstance(row, records.Broken)]
    assert [(row.number, row.reason) for row in broken] == [(3, "bad_row")]
    plain = "a,b\n" + "".join(f"{n},{letters(80)}\n" for n in range(5000))
    opened = plain.replace("\n3,", '\n3,"', 1)
    seen = look_at(fake, "b.csv", opened.encode())
    assert [row.reason for row in seen.rows if isinstance(row, records.Broken)] == ["open_quote"]
    assert len(seen.rows) == 20


def test_a_packed_file_that_is_damaged_says_so(fake: FakeHub) -> None:
    good = LINES.splitlines(keepends=True)[:300]
    packed = gzip.compress(b"".join(good)) + RANDOM.randbytes(RANGE)
    there = look_at(fake, "a.jsonl.gz", packed, rows=1000)
    assert values(there) == ROWS[:300]
    broken = [row for row in there.rows if isinstance(row, records.Broken)]
    assert [(row.reason, row.number, row.line) for row in broken] == [("bad_archive", 301, 301)]


def test_a_little_that_unpacks_to_a_lot_is_not_unpacked_to_its_end(fake: FakeHub) -> None:
    seen = look_at(fake, "a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 4_000_000, 1), rows=5)
    assert values(seen) == [{"a": 1}] * 5


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "jsonl.gz"])
def test_a_first_row_that_is_larger_than_the_range_is_said(fake: FakeHub, ending: str) -> None:
    huge = letters(2 * RANGE)
    data = {
        "json": json.dumps([{"a": huge}, {"a": 1}]),
        "csv": f'a,b\n"{huge}\n",1\n2,3\n',
    }.get(ending, json.dumps({"a": huge}) + '\n{"a": 1}\n')
    packed = gzip.compress(data.encode()) if ending.endswith("gz") else data.encode()
    error = error_of(lambda: look_at(fake, f"a.{ending}", packed))
    assert (error.key, error.facts["most"], error.facts["file"]) == (
        "hub.look_too_large",
        RANGE,
        f"a.{ending}",
    )
    assert fake.sent() < 2 * RANGE


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", b"PK\x03\x04" + RANDOM.randbytes(5000)),
        ("load.py", b"import datasets\n\n\nclass Tea:\n    pass\n" * 40),
        ("a.bin", RANDOM.randbytes(300_000)),
        ("a.parquet", RANDOM.randbytes(300_000)),
        ("b.parquet", b"PAR1" + RANDOM.randbytes(300_000) + b"PAR1"),
        ("c.parquet", b"P"),
    ],
)
def test_what_cannot_be_read_in_part_is_said(fake: FakeHub, name: str, data: bytes) -> None:
    assert error_of(lambda: look_at(fake, name, data)).key == "hub.look_unknown"


def test_an_empty_file_needs_no_request(fake: FakeHub) -> None:
    seen = look_at(fake, "a.jsonl", b"")
    assert (seen.rows, seen.columns, seen.fetched, seen.whole, seen.note) == ((), (), 0, True, "empty")
    assert not fake.log


# Parquet


def columns(rows: int) -> dict[str, Any]:
    return {
        "id": list(range(rows)),
        "text": [letters(200) for _ in range(rows)],
        "messages": [
            [{"role": "user", "content": letters(60)}, {"role": "assistant", "content": letters(60)}]
        ]
        * rows,
        "made.of": [{"parts": {"x": float(n), "y": None}} for n in range(rows)],
        "none": [None] * rows,
    }


def test_a_large_parquet_file_costs_its_first_row_group(fake: FakeHub) -> None:
    there = columns(120_000)
    data = as_parquet(there, row_group_size=1000)
    assert len(data) > 20_000_000
    seen = look_at(fake, "a.parquet", data)
    assert values(seen) == [{name: column[n] for name, column in there.items()} for n in range(20)]
    assert seen.columns == tuple(there)
    assert (seen.whole, seen.note, seen.left_out) == (False, "", ())
    assert seen.fetched == fake.sent("/cdn/") < len(data) / 25
    assert len(fake.asked("/cdn/")) <= 4
    assert len(fake.asked("/resolve/")) == 1  # where it led is asked again


def test_of_one_huge_row_group_only_the_first_pages_are_fetched(fake: FakeHub) -> None:
    there = columns(120_000)
    data = as_parquet(
        there, row_group_size=10**7, data_page_size=64 * 1024, dictionary_pagesize_limit=64 * 1024
    )
    seen = look_at(fake, "a.parquet", data)
    assert values(seen) == [{name: column[n] for name, column in there.items()} for n in range(20)]
    assert seen.fetched == fake.sent("/cdn/") < len(data) / 20


def test_columns_that_are_too_large_are_left_out_and_named(fake: FakeHub) -> None:
    pictures = [{"bytes": RANDOM.randbytes(700_000), "path": "x.png"} for _ in range(30)]
    data = as_parquet({"image": pictures, "q": [str(n) for n in range(30)]})
    seen = look_at(fake, "a.parquet", data)
    assert values(seen) == [{"q": str(n)} for n in range(20)]
    assert (seen.columns, seen.left_out, seen.note) == (("q",), ("image",), "columns")
    assert fake.sent("/cdn/") <= MOST


def test_a_parquet_file_with_nothing_small_in_it_is_too_large(fake: FakeHub) -> None:
    data = as_parquet({"image": [RANDOM.randbytes(2_000_000) for _ in range(10)]})
    error = error_of(lambda: look_at(fake, "a.parquet", data))
    assert (error.key, error.facts["most"]) == ("hub.look_too_large", MOST)
    assert fake.sent("/cdn/") <= MOST


def test_small_row_groups_are_put_together(fake: FakeHub) -> None:
    data = as_parquet({"n": list(range(100))}, row_group_size=7)
    assert values(look_at(fake, "a.parquet", data)) == [{"n": n} for n in range(20)]
    short = look_at(fake, "a.parquet", as_parquet({"n": [1, 2]}, row_group_size=1))
    assert (values(short), short.whole) == ([{"n": 1}, {"n": 2}], True)
    empty = look_at(fake, "a.parquet", as_parquet({"n": pyarrow.array([], "int64")}))
    assert (empty.rows, empty.columns, empty.whole, empty.note) == ((), ("n",), True, "empty")


def test_a_small_parquet_file_is_fetched_once(fake: FakeHub) -> None:
    data = as_parquet(columns(100))
    seen = look_at(fake, "a.parquet", data)
    assert (len(seen.rows), seen.fetched, len(fake.asked("/cdn/"))) == (20, len(data), 1)


def test_a_parquet_file_of_another_name_is_known_by_its_content(fake: FakeHub) -> None:
    data = as_parquet(columns(30_000), row_group_size=1000)
    seen = look_at(fake, "data", data)
    assert len(seen.rows) == 20
    assert seen.fetched < len(data) / 4


def test_text_in_parquet_that_is_no_utf8_is_a_broken_row(fake: FakeHub) -> None:
    raw = pyarrow.array([b"good", b"\xff\xfe", b"fine"], pyarrow.binary()).view(pyarrow.string())
    seen = look_at(fake, "a.parquet", as_parquet({"a": raw}))
    assert [isinstance(row, records.Broken) for row in seen.rows] == [False, True, False]


# The network


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_page_instead_of_the_file_is_told(fake: FakeHub, name: str) -> None:
    fake.fault(name, "html", times=None)
    assert error_of(lambda: look_at(fake, name, LINES)).key == "hub.not_a_hub"


def test_a_page_that_does_not_say_it_is_one_is_told_too(fake: FakeHub) -> None:
    page = b"<!doctype html><title>Welcome</title>" + b" " * 400_000
    assert error_of(lambda: look_at(fake, "a.jsonl", page)).key == "hub.not_a_hub"


def test_a_gated_file_is_told_with_its_page(fake: FakeHub) -> None:
    there = listing(fake, {"a.jsonl": LINES})
    fake.repos["dataset", REPO].gated = True
    error = error_of(lambda: look(there, there.files[0]))
    assert (error.key, error.facts["file"]) == ("hub.gated", "a.jsonl")


def test_a_server_that_ignores_ranges_is_read_no_further(fake: FakeHub) -> None:
    fake.fault("/cdn/", "no_range", times=None)
    seen = look_at(fake, "a.jsonl", LINES * 20)
    assert values(seen) == ROWS[:20]
    assert (seen.fetched, seen.note) == (RANGE, "no_range")
    fake.bps = 2_000_000  # so that what it sends before it notices is little
    assert look_at(fake, "a.jsonl", LINES * 20).fetched == RANGE
    fake.bps = None
    fake.fault("/cdn/", "no_range", times=None)
    data = as_parquet(columns(20_000), row_group_size=1000)
    assert RANGE < len(data) < MOST
    small = look_at(fake, "a.parquet", data)  # it is fetched whole
    assert (len(small.rows), small.note) == (20, "no_range")
    large = as_parquet({"a": [letters(1000) for _ in range(20_000)]}, row_group_size=100)
    assert error_of(lambda: look_at(fake, "a.parquet", large)).key == "hub.look_too_large"


def test_a_connection_that_breaks_is_taken_up_again(fake: FakeHub) -> None:
    fake.fault("/cdn/", "reset", at=100_000, times=1)
    seen = look_at(fake, "a.jsonl", LINES)
    assert (values(seen), seen.fetched) == (ROWS[:20], RANGE)
    assert fake.asked("/cdn/")[-1].headers["range"] == f"bytes=100000-{RANGE - 1}"
    fake.fault("/cdn/", "drop", times=None)
    assert error_of(lambda: look_at(fake, "a.jsonl", LINES)).facts["why"] in ("reset", "closed")


def test_a_signed_address_that_expires_is_asked_for_anew(fake: FakeHub) -> None:
    data = as_parquet(columns(30_000), row_group_size=1000)
    there = listing(fake, {"a.parquet": data})
    answer = fake.meet

    def once_used(*asked: Any) -> Any:
        if len(fake.asked("/cdn/")) == 2 and len(fake.asked("/resolve/")) == 1 and not fake.faults:
            fake.fault("/cdn/", "status", status=403)
        return answer(*asked)

    fake.meet = once_used  # type: ignore[method-assign, assignment]
    assert len(look(there, there.files[0]).rows) == 20
    assert 403 in [seen.status for seen in fake.log]
    assert len(fake.asked("/resolve/")) == 2


def test_a_file_of_another_size_than_was_listed_is_told(fake: FakeHub) -> None:
    there = listing(fake, {"a.jsonl": LINES})
    for size in (len(LINES) - 1, len(LINES) * 2):
        other = replace(there.files[0], size=size)
        assert error_of(lambda other=other: look(there, other)).key == "hub.corrupt"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_silent_server_is_given_up_in_time(fake: FakeHub, name: str) -> None:
    there = listing(fake, {name: LINES})
    fake.fault("/cdn/" if name.endswith("parquet") else "/resolve/", "silent", times=None)
    error = error_of(lambda: look(there, there.files[0], timeout=0.5))
    assert "timeout" in (error.key.removeprefix("hub."), error.facts.get("why"))


def test_what_has_come_in_time_is_shown() -> None:
    rows = {"small": list(range(3000)), "large": [letters(4000) for _ in range(3000)]}
    with FakeHub(bps=400_000) as fake:
        there = listing(fake, {"a.parquet": as_parquet(rows, compression="none", use_dictionary=False)})
        seen = look(there, there.files[0], timeout=2.0)
        assert (seen.columns, seen.left_out, seen.note) == (("small",), ("large",), "columns")


@pytest.mark.parametrize("data", [LINES, as_parquet(columns(20_000), row_group_size=1000)])
def test_the_token_stays_with_the_endpoint_the_visitor_allows(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    there = listing(fake, {"a.parquet" if data.startswith(b"PAR1") else "a.jsonl": data})
    look(there, there.files[0], token=SECRET)
    assert all("authorization" not in seen.headers for seen in fake.log)
    fake.tokens.add(SECRET)
    fake.log.clear()
    look(there, there.files[0], token=SECRET, anywhere=True)
    monkeypatch.setattr(endpoints, "TRUSTED", (fake.url,))
    look(there, there.files[0], token=SECRET)
    for seen in fake.log:
        at_home = seen.host.startswith("127.0.0.1")
        assert (seen.headers.get("authorization") == f"Bearer {SECRET}") == at_home
    assert any(seen.host.startswith("localhost") for seen in fake.log)


@pytest.mark.parametrize("part", [200, 206])
def test_a_file_of_modelscope_is_looked_at_too(part: int) -> None:
    with FakeScope() as scope:
        scope.part = part
        small = LINES[: 3 * RANGE]
        rows = {"a": [letters(2000) for _ in range(600)]}
        files = {"a.jsonl": small, "b.parquet": as_parquet(rows, row_group_size=50)}
        scope.add_repo(REPO, files, revision="master", lfs=())
        there = hub.list_files(hub.Ref(REPO, "master", site="modelscope"), scope.url)
        seen = look(there, there.files[0], token=SECRET, anywhere=True)
        assert (values(seen), seen.fetched, seen.note) == (ROWS[:20], RANGE, "")
        assert len(look(there, there.files[1]).rows) == 20
        assert all("authorization" not in one.headers for one in scope.log)


# The copy as Parquet


def test_the_hubs_own_copy_as_parquet_is_found(fake: FakeHub) -> None:
    fake.add_repo(REPO, {"load.py": b"import datasets"})
    assert converted(REF, fake.url) is None
    fake.add_repo(
        REPO, {"default/train/0000.parquet": as_parquet({"a": [1]})}, revision="refs/convert/parquet"
    )
    copy = converted(replace(REF, path="load.py"), fake.url)
    assert copy is not None
    assert values(look(copy, copy.files[0])) == [{"a": 1}]
    assert converted(hub.Ref(REPO, kind="model"), fake.url) is None
    assert converted(hub.Ref(REPO, site="modelscope"), fake.url) is None
    fake.fault("@api", "drop", times=None)
    assert error_of(lambda: converted(REF, fake.url)).key == "hub.no_connection"
