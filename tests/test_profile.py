"""The profile of a file: counted right, the same wherever the file is cut, and kept until it changes."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from lib import estimate, profile, records
from lib.profile import Histogram

ZH = "\u8336\u53f6\u91cc\u7684\u610f\u8c61\uff0c\u4eca\u65e5\u5b9c\u51fa\u884c\u3002"
EN = "What do you see in the leaves of this tea? "


def rows_of(n: int, seed: int = 1) -> list[Any]:
    """Return rows of every kind there is: missing, null and empty fields, nested ones, repeats."""
    dice = random.Random(seed)
    made: list[Any] = []
    for number in range(n):
        row: dict[str, Any] = {
            "question": dice.choice([ZH, EN, "", "3.5", "\U0001f375 " + ZH]) * dice.randrange(4),
            "answer": dice.choice([None, EN, ZH, "\ud83d half", True, 2**70, -0.5, 7]),
            "score": dice.choice([1.5, 2, -1.0]),
            "tags": [dice.choice("abc") for _ in range(dice.randrange(3))],
            "meta": dice.choice([{"b": 1, "a": ZH}, {"a": {"c": ["\u8336"]}}, None, "text"]),
        }
        for name in ("answer", "tags"):
            if dice.random() < 0.1:
                del row[name]
        if dice.random() < 0.1:
            row[f"extra {dice.randrange(5)}"] = number
        made.append(row)
        if dice.random() < 0.2:
            made.append(dict(reversed(row.items())))
        if dice.random() < 0.03:
            made.append(dice.choice([["a", 1], "text", 5, None, {}]))
    return made


def write(path: Path, rows: list[Any]) -> Path:
    lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def profiled(path: Path) -> profile.Profile:
    return profile.profile(path)


def pieces(rows: list[Any]) -> Iterator[records.Piece]:
    return (records.Record(number, row, number) for number, row in enumerate(rows, 1))


def counted(*stretches: list[Any]) -> profile.Profile:
    """Return the profile of rows counted in stretches and put together."""
    whole, before = profile.Part(), 0
    for stretch in stretches:
        whole.merge(profile.collect(pieces(stretch)), before)
        before += len(stretch)
    return whole.finished(Path("rows.jsonl"), 0, 0)


def test_columns_are_told_by_kind_missing_null_and_empty(tmp_path: Path) -> None:
    rows = [
        {"a": "x", "b": 1, "c": [1]},
        {"a": "", "b": 2.5, "c": {"k": ZH}},
        {"a": None, "b": True},
        {"b": 10**30, "d": "late"},
    ]
    found = profiled(write(tmp_path / "a.jsonl", rows))
    assert found.rows == 4
    assert [column.name for column in found.columns] == ["a", "b", "c", "d"]
    a, b, c, d = found.columns
    assert (a.kinds, a.missing, a.null, a.empty, a.kind) == ({"null": 1, "text": 2}, 1, 1, 1, "text")
    assert b.kinds == {"boolean": 1, "integer": 2, "float": 1}
    assert (c.kinds, c.missing) == ({"list": 1, "object": 1}, 2)
    assert (c.characters.least, c.characters.most) == (3, len(orjson.dumps({"k": ZH}).decode()))
    assert (d.missing, d.characters.total, d.characters.most) == (3, 1, 4)
    assert found.column("b") == b and found.column("z") is None


def test_lengths_are_those_of_the_texts(tmp_path: Path) -> None:
    texts = [ZH * n + EN * m for n in range(6) for m in range(6)] + ["\ud800", "\u042f\u0437\u044b\u043a"]
    column = profiled(write(tmp_path / "a.jsonl", [{"t": text} for text in texts])).columns[0]
    assert column.characters.sum == sum(map(len, texts))
    assert column.tokens.sum == sum(int(estimate.tokens(text) + 0.5 + 1e-9) for text in texts)
    assert (column.empty, column.characters.least) == (1, 0)
    assert column.characters.most == max(map(len, texts))


def test_longest_and_shortest_rows_are_named_the_earlier_first(tmp_path: Path) -> None:
    sizes = [5, 9, 9, 1, 9, 1, 7, 0] + [4] * 20
    found = profiled(
        write(tmp_path / "a.jsonl", [{"a": "x" * (n // 2), "b": "y" * (n - n // 2)} for n in sizes])
    )
    ranked = sorted(enumerate(sizes, 1), key=lambda one: (-one[1], one[0]))
    assert found.longest == tuple(ranked[:10])
    assert found.shortest == tuple(sorted(enumerate(sizes, 1), key=lambda one: (one[1], one[0]))[:10])


def test_rows_exactly_alike_are_found_whatever_the_order_of_their_fields(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"a": "x", "b": 1},
        {"b": 1, "a": "x"},  # 2: again
        {"a": "x", "b": 1.0},
        {"a": "x", "b": "1"},
        {"a": "x"},
        {"a": "x", "b": None},
        {"a": "x", "b": ""},
        {"a": "", "b": "x"},
        {"a": "x", "b": True},
        {"a": {"k": 1, "l": 2}},
        {"a": {"l": 2, "k": 1}},  # 11: again
        {"a": '{"k":1,"l":2}'},
        {"a": "x", "b": 1, "c": None},
        {"a": 2**64},
        {"a": 2**64 + 1},
        {"a": "x", "b": 1},  # 16: again
        {"a": -1},
        {"a": -2},
        {"a": "\ud800"},
        {"a": "\ud801"},
        {},
        {},  # 22: again
        [],
    ]
    found = profiled(write(tmp_path / "a.jsonl", rows))
    assert (found.repeats, found.repeat_rows) == (4, (2, 11, 16, 22))


def test_only_the_first_hundred_repeated_rows_are_named(tmp_path: Path) -> None:
    rows = [{"a": number % 300} for number in range(1000)]
    found = profiled(write(tmp_path / "a.jsonl", rows))
    assert (found.repeats, found.repeat_rows) == (700, tuple(range(301, 401)))


def test_the_same_rows_have_the_same_profile_in_every_format(tmp_path: Path) -> None:
    rows = [{"question": f"{ZH} {n % 50}", "answer": EN * (n % 5), "n": n % 7} for n in range(300)]
    lines = write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=64)
    first = profiled(lines)
    for name in ("a.json", "a.parquet"):
        other = profiled(tmp_path / name)
        assert other.columns == first.columns
        assert (other.repeats, other.repeat_rows) == (first.repeats, first.repeat_rows)
        assert other.languages == first.languages
    assert first.repeats == 0 or first.repeat_rows


def test_the_profile_is_the_same_wherever_the_file_is_cut(tmp_path: Path) -> None:
    rows: list[Any] = [json.dumps(row).encode() for row in rows_of(400)]
    for place in (3, 50, 51, 399):
        rows.insert(place, b'{"question": "broken')
    path = write(tmp_path / "a.jsonl", rows)
    whole = profiled(path)
    assert (whole.broken, whole.broken_rows) == (4, (4, 51, 52, 400))
    assert whole.broken_why == {"bad_json": 4}
    assert whole.repeats > 20
    for size in (700, 5_000, 40_000):
        part = profile.Part()
        work = profile.collector(path)
        for base, found in records.spread(path, work, processes=2, size=size, least=1):
            part.merge(found, base.number - 1)
        assert part.finished(path, whole.size, whole.changed) == whole


def test_rows_that_are_not_quite_json_are_noted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", [{"a": 1.5}, b'{"a": NaN}', b"{broken", b'{"a": -Infinity}', {"a": 2.5}]
    )
    found = profiled(path)
    assert (found.noted, found.noted_rows) == (2, (2, 4))
    assert (found.rows, found.broken_rows, found.columns[0].kinds) == (5, (3,), {"float": 4})
    part = profile.Part()
    for row in range(1, 6):
        part.merge(profile.collect(islice(records.read(path), row - 1, row)), row - 1)
    assert part.finished(path, found.size, found.changed) == found


def test_a_compressed_file_has_the_profile_of_what_is_in_it(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.jsonl", rows_of(50))
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = profiled(plain), profiled(packed)
    assert (one.columns, one.rows, one.repeat_rows) == (other.columns, other.rows, other.repeat_rows)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "c", "\u8336"]),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats(allow_nan=False)
                | st.text(st.characters(codec=None), max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
                ),
                max_leaves=4,
            ),
            max_size=4,
        )
        | st.none()
        | st.text(max_size=3),
        max_size=30,
    ),
    st.integers(0, 30),
)
def test_parts_of_any_rows_add_up(rows: list[Any], cut: int) -> None:
    whole = counted(rows)
    assert counted(rows[:cut], rows[cut:]) == whole
    assert counted(*([row] for row in rows)) == whole
    assert whole.rows == len(rows)
    for column in whole.columns:
        has = [row for row in rows if (column.name in row if isinstance(row, dict) else not column.name)]
        assert sum(column.kinds.values()) == len(has)
        assert column.missing == len(rows) - len(has)


def test_a_word_on_blocks_of_thousands_of_rows() -> None:
    rows = rows_of(12_000)
    assert len(rows) > 2 * 8192 - 3000
    whole = counted(rows)
    assert counted(rows[:5000], rows[5000:5001], rows[5001:]) == whole
    plain = Counter(
        json.dumps(row, sort_keys=True) if isinstance(row, dict) else json.dumps({"": row}) for row in rows
    )
    assert whole.repeats == sum(plain.values()) - len(plain)


def test_many_columns_are_cut_down_to_the_first_of_the_alphabet() -> None:
    rows = [{f"k{(7 * number) % 1500:04}": number, "a": "x"} for number in range(1500)]
    whole = counted(rows)
    assert len(whole.columns) == profile.COLUMNS and whole.columns_left_out
    assert sorted(column.name for column in whole.columns)[-1] == f"k{profile.COLUMNS - 2:04}"
    assert counted(rows[:100], rows[100:900], rows[900:]) == whole
    assert whole.repeats == 0
    wide = [{f"k{number}": 1 for number in range(profile.COLUMNS + 1)}] * 3
    found = counted(wide)
    assert [(column.name, column.kinds) for column in found.columns] == [("", {"object": 3})]
    assert found.repeats == 2


def test_texts_that_read_as_something_else_are_hinted_at(tmp_path: Path) -> None:
    rows = [
        {"n": f"{n / 7:.3f}", "d": f"2026-11-{n:02}", "j": json.dumps({"a": n}), "t": f"row {n}"}
        for n in range(1, 31)
    ]
    columns = profiled(write(tmp_path / "a.jsonl", rows)).columns
    assert [column.hints for column in columns] == [{"number": 30}, {"date": 30}, {"json": 30}, {}]
    assert [column.looked_at for column in columns] == [30] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EN, "en"),
        (ZH, "zh"),
        ("\u4eca\u65e5\u306f\u3068\u3066\u3082\u3044\u3044\u5929\u6c17\u3067\u3059", "ja"),
        ("\ub2e4\ub78c\uc950 \ud5cc \uccd7\ubc14\ud034\uc5d0 \ud0c0\uace0\ud30c", "ko"),
        (
            "\u0421\u044a\u0435\u0448\u044c \u0435\u0449\u0451 \u044d\u0442\u0438\u0445 \u043a",
            "ru",
        ),
        ("Portez ce vieux whisky au juge blond et fumez avec les amis", "latin"),
        ("Wie geht es dir, und was machst du in den Ferien?", "latin"),
        ("\u0646\u0635 \u062d\u0643\u064a\u0645 \u0644\u0647 \u0633\u0631", "other"),
        ("please translate: " + ZH, "mixed"),
        ("def f(x):\n    return x + 1", "code"),
        ("from the start, return home (quickly) and rest", "en"),
        ("# A title\n\n- **one** thing\n- another thing", "en"),
        ("3 + 4 = 7", "none"),
        ("", "none"),
    ],
)
def test_a_language_is_guessed_from_its_script(text: str, expected: str) -> None:
    assert profile.language(text) == expected


def test_languages_are_those_of_the_longest_text(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"id": f"row {n}", "messages": [{"role": "user", "content": ZH + str(n)}]} for n in range(30)
    ]
    rows += [{"id": f"row {n}", "messages": [{"role": "user", "content": EN + str(n)}]} for n in range(10)]
    found = profiled(write(tmp_path / "a.jsonl", rows))
    assert found.languages == {"zh": 30, "en": 10}
    assert found.looked_at == 40


def test_large_files_are_looked_at_in_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "LOOKED_AT", 200)
    rows = [{"text": (ZH if n % 4 else EN) + str(n)} for n in range(4000)]
    found = profiled(write(tmp_path / "a.jsonl", rows))
    assert 80 < found.looked_at < 500
    assert 0.6 < found.languages["zh"] / found.looked_at < 0.9
    assert profiled(write(tmp_path / "b.jsonl", rows[:100] + rows[:99:-1])).languages == found.languages


def test_a_profile_is_kept_until_its_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*rows_of(50), b"{broken"])
    folder = tmp_path / "index"
    assert profile.kept(path, folder) is None
    found = profiled(path)
    profile.keep(found, folder)
    assert profile.kept(path, folder) == found
    assert profile.kept(tmp_path / "b.jsonl", folder) is None
    (kept,) = folder.iterdir()
    for content in (b"", b"[]", b'{"version": 1}', kept.read_bytes()[:500], b'{"version": 1, "columns": 5}'):
        whole = kept.read_bytes()
        kept.write_bytes(content)
        assert profile.kept(path, folder) is None
        kept.write_bytes(whole)
    assert profile.kept(path, folder) == found
    write(path, rows_of(51))
    assert profile.kept(path, folder) is None


def test_a_name_of_half_a_character_is_written_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"\\ud800": "x"}\n{"\\ud800": "y"}\n')
    found = profiled(path)
    assert found.columns[0].name == "\ud800"
    profile.keep(found, tmp_path)
    assert (profile.kept(path, tmp_path) or found).columns[0].name == "\\ud800"


def test_what_is_no_data_file_is_said(tmp_path: Path) -> None:
    from lib.errors import RecordError

    with pytest.raises(RecordError) as error:
        profiled(tmp_path / "nowhere.json")
    assert error.value.key == "record.missing_file"
    (tmp_path / "empty.json").write_bytes(b"")
    with pytest.raises(RecordError) as error:
        profiled(tmp_path / "empty.json")
    assert error.value.key == "record.empty"


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    made.add(np.array(values, np.int64))
    return made


def test_shares_are_exact_at_the_borders_of_buckets() -> None:
    dice = random.Random(3)
    values = [min(200_000, int(dice.lognormvariate(6, 1.5))) for _ in range(5000)]
    found = histogram(values)
    borders = [
        *range(65),
        *range(66, 129, 2),
        *range(128, 4097, 64),
        *range(4096, 8193, 128),
        16384,
        32768,
        131072,
    ]
    for n in borders:
        assert found.share_above(n) == sum(value > n for value in values) / len(values), n
    for n in (77, 1001, 1537, 5000, 12_345):
        true = sum(value > n for value in values) / len(values)
        assert found.share_above(n) == pytest.approx(true, abs=0.01)
    assert found.share_above(10**9) == 0
    assert found.share_above(-1) == 1


def test_quantiles_are_off_by_a_sixty_fourth_at_most() -> None:
    dice = random.Random(4)
    values = sorted(int(dice.lognormvariate(5, 2)) for _ in range(3000))
    found = histogram(values)
    for share in (0.01, 0.05, 0.5, 0.95, 0.99):
        true = values[int(np.ceil(share * len(values))) - 1]
        assert abs(found.quantile(share) - true) <= max(0, true / 64), share
    assert found.mean == sum(values) / len(values)
    assert (found.quantile(0), found.quantile(1)) == (values[0], found.quantile(1))
    assert found.quantile(1) <= values[-1]


@pytest.mark.parametrize("n", [1, 2, 7, 20, 500])
def test_bars_hold_every_value_once(n: int) -> None:
    for values in ([0], [5] * 3, [0, 1, 2, 3], [10, 4000], list(range(0, 3000, 7)), [2**33, 1]):
        bars = histogram(values).bars(n)
        assert 0 < len(bars) <= n
        assert sum(bar.count for bar in bars) == len(values)
        assert (bars[0].low, bars[-1].high) == (min(values), max(values))
        assert all(bar.low <= bar.high for bar in bars)
        assert all(one.high + 1 == next.low for one, next in pairwise(bars))
        for bar in bars:
            if max(values) < 4096:
                assert bar.count == sum(bar.low <= value <= bar.high for value in values)


def test_an_empty_histogram_says_nothing() -> None:
    found = Histogram()
    assert (found.mean, found.quantile(0.5), found.share_above(3), found.bars(5)) == (0, 0, 0, [])
    assert Histogram.from_json(orjson.loads(orjson.dumps(found.as_json()))) == found
