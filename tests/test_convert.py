"""Converting: the ledger adds up, the split is by content, nothing is ever half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import check, convert, edits, formats, records, words
from lib.convert import Ledger, Request
from lib.errors import AppError, ConvertError, RecordError, UsageError, WorkspaceError
from lib.formats import Mapping
from lib.records import stretches

ROOT = Path(__file__).resolve().parent.parent
QA = Mapping("qa", {"user": "q", "assistant": "a"})
OUT = ("train.jsonl", "validation.jsonl", "set_aside.jsonl")


def put(folder: Path, rows: list[Any], name: str = "data.json") -> Path:
    path = folder / name
    lines = name.endswith(".jsonl")
    text = "".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


def run(source: Path, out: Path, mapping: Mapping = QA, **options: Any) -> Ledger:
    return convert.convert(Request((source,), out, mapping, **options))


def lines(path: Path) -> list[Any]:
    """Return the rows of a file of ours, by a parser that is not ours."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def questions(path: Path) -> list[str]:
    found = [next(m["content"] for m in row["messages"] if m["role"] == "user") for row in lines(path)]
    return list(map(str, found))


def numbered(count: int) -> list[dict[str, str]]:
    return [{"q": f"question {n}?", "a": f"answer {n}"} for n in range(count)]


def test_rows_become_chat_lines_in_their_order(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"q": "\u4f60\u597d\u2028?", "a": "a\n\u0000\U0001f600", "id": 1},
        {"q": "x", "a": "y"},
    ]
    ledger = run(put(tmp_path, rows), tmp_path / "out", validation=0)
    assert ledger == Ledger(2, 2, 0, 0, {}, {})
    content = (tmp_path / "out" / "train.jsonl").read_bytes()
    assert content.count(b"\n") == 2
    assert "\u4f60\u597d\u2028?".encode() in content
    assert lines(tmp_path / "out" / "train.jsonl") == [
        {"messages": [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": row["a"]}]}
        for row in rows
    ]
    assert (tmp_path / "out" / "validation.jsonl").read_bytes() == b""
    assert (tmp_path / "out" / "set_aside.jsonl").read_bytes() == b""


def test_the_bundled_sample_converts_whole(tmp_path: Path) -> None:
    for path in sorted((ROOT / "lib" / "sample").glob("*.json")):
        rows = [piece.value for piece in records.read(path) if isinstance(piece, records.Record)]
        guess = formats.detect(rows[:25])
        mapping = Mapping(guess.format, guess.fields, system="You read tea leaves.", reasoning="think")
        ledger = run(path, tmp_path / path.stem, mapping)
        assert (ledger.read, ledger.set_aside, ledger.warnings) == (len(rows), 0, {})
        assert ledger.validation == round(len(rows) / 10)
        for name in OUT[:2]:
            report = check.check_file(tmp_path / path.stem / name, check.targets()["siliconflow"])
            assert report.findings == []


def test_every_row_set_aside_is_kept_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "data.jsonl"
    source.write_text(
        '{"q": "x", "a": "y"}\n{"q": "x"}\n\n{"q": "x", "a": NaN, "n": 12345678901234567890123}\n'
        '{"q": "\\ud800", "a": "y"}\n{broken}\n[1]\n{"q": "x", "a": "z"}\n',
        encoding="utf-8",
    )
    ledger = run(source, tmp_path / "out", validation=0)
    assert (ledger.read, ledger.train, ledger.set_aside) == (7, 2, 5)
    assert set(ledger.reasons) == {"missing_field", "not_text", "bad_characters", "bad_json", "not_object"}
    rows = lines(tmp_path / "out" / "set_aside.jsonl")
    assert [(row["row"], row["line"], row["reason"]) for row in rows] == [
        (2, 2, "missing_field"),
        (3, 4, "not_text"),
        (4, 5, "bad_characters"),
        (5, 6, "bad_json"),
        (6, 7, "not_object"),
    ]
    assert rows[0]["field"] == "a"
    assert rows[0]["value"] == {"q": "x"}
    assert math.isnan(rows[1]["value"]["a"])
    assert rows[1]["value"]["n"] == 12345678901234567890123
    assert rows[2]["value"]["q"] == "\ud800"
    assert rows[3]["raw"] == "{broken}"
    assert rows[3]["facts"]["column"] == 2


def test_rows_that_break_a_rule_of_the_target_are_set_aside(tmp_path: Path) -> None:
    def talk(*roles: str) -> dict[str, Any]:
        return {"talk": [{"from": role, "value": "x"} for role in roles]}

    rows = [talk("human", "gpt"), talk("gpt", "human", "gpt"), talk("human"), talk("human", "gpt", "system")]
    mapping = Mapping("sharegpt", {"messages": "talk"})
    strict = run(put(tmp_path, rows), tmp_path / "strict", mapping, validation=0)
    assert (strict.train, strict.set_aside) == (1, 3)
    assert strict.reasons == {"first_not_user": 1, "unanswered": 1, "system_not_first": 1}
    assert lines(tmp_path / "strict" / "set_aside.jsonl")[0]["facts"] == {
        "rules": ["first_not_user messages[0].role"]
    }
    trl = run(put(tmp_path, rows), tmp_path / "trl", mapping, validation=0, target="trl")
    assert trl.reasons == {"no_answer": 1, "system_not_first": 1}
    assert trl.warnings["first_not_user"] == 1


def test_duplicates_and_long_rows_are_counted_but_stay_in(tmp_path: Path) -> None:
    rows = [*numbered(3), *numbered(3), {"q": "long", "a": "x" * 40_000}]
    ledger = run(put(tmp_path, rows), tmp_path / "out")
    assert ledger.train + ledger.validation == 7
    assert ledger.warnings == {"duplicate": 3, "too_long": 1, "long_message": 1}


VALUES = st.none() | st.integers() | st.text(max_size=3) | st.floats() | st.lists(st.integers(), max_size=2)
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={"q": st.sampled_from("abc") | VALUES, "a": VALUES, "z": VALUES})
    | st.integers()
    | st.just("BROKEN"),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, share=st.floats(0, 0.9), seed=st.integers(0, 3))
def test_the_ledger_always_adds_up(rows: list[Any], share: float, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "data.jsonl", Path(folder) / "out"
        source.write_text("".join("{oh\n" if row == "BROKEN" else json.dumps(row) + "\n" for row in rows))
        try:
            ledger = run(source, out, validation=share, seed=seed)
        except (ConvertError, RecordError) as error:
            assert error.key in ("convert.nothing_left", "record.not_records")
            assert not out.exists()
            return
        assert ledger.read == len(rows) == ledger.train + ledger.validation + ledger.set_aside
        assert ledger.set_aside == sum(ledger.reasons.values())
        counts = [len(lines(out / name)) for name in OUT]
        assert counts == [ledger.train, ledger.validation, ledger.set_aside]
        assert ledger.train
        sides = [set(map(str.strip, questions(out / name))) for name in OUT[:2]]
        assert not sides[0] & sides[1]
        usable = ledger.train + ledger.validation
        groups = Counter(map(str.strip, questions(out / OUT[0]) + questions(out / OUT[1])))
        assert abs(ledger.validation - usable * share) <= max(groups.values()) + 0.5
        found = convert.manifest(out)
        assert found
        assert found["counts"]["read"] == ledger.read


@pytest.mark.parametrize(
    ("rows", "share", "kept"), [(200, 0.1, 20), (207, 0.1, 21), (10, 0.25, 3), (1000, 0.333, 333)]
)
def test_the_number_kept_back_is_exact_where_questions_differ(
    rows: int, share: float, kept: int, tmp_path: Path
) -> None:
    assert run(put(tmp_path, numbered(rows)), tmp_path / "out", validation=share).validation == kept


def test_small_shares_and_small_files(tmp_path: Path) -> None:
    for rows, share, kept in ((1, 0.5, 0), (2, 0.1, 1), (3, 0.1, 1), (2, 0.9, 1), (5, 0, 0)):
        ledger = run(put(tmp_path, numbered(rows)), tmp_path / "out", validation=share)
        assert (ledger.train, ledger.validation) == (rows - kept, kept), (rows, share)
    same = [{"q": "x", "a": str(n)} for n in range(10)]
    assert run(put(tmp_path, same), tmp_path / "out").validation == 0


def test_the_split_depends_on_content_and_seed_alone(tmp_path: Path) -> None:
    rows = [{"q": f"{row['q']} {'x' * (n % 3)}", "a": str(n)} for n, row in enumerate(numbered(300) * 2)]
    shuffled = random.Random(1).sample(rows, len(rows))
    run(put(tmp_path, rows), tmp_path / "a")
    run(put(tmp_path, shuffled, "data.jsonl"), tmp_path / "b")
    run(put(tmp_path, rows), tmp_path / "c", seed=1)
    kept = [set(questions(tmp_path / name / "validation.jsonl")) for name in "abc"]
    assert kept[0] == kept[1]
    assert kept[0] != kept[2]
    run(put(tmp_path, [*rows, {"q": "one more", "a": "y"}]), tmp_path / "d")
    assert len(kept[0] ^ set(questions(tmp_path / "d" / "validation.jsonl"))) <= 2
    # known forever: other code must not move rows between the sides
    run(put(tmp_path, numbered(20)), tmp_path / "e")
    assert sorted(questions(tmp_path / "e" / "validation.jsonl")) == KNOWN


KNOWN = ["question 1?", "question 2?"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    source = put(tmp_path, [*numbered(50), {"q": "x"}, *numbered(5)])
    run(source, tmp_path / "a")
    run(source, tmp_path / "b")
    for name in OUT:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_bytes_are_the_same_on_any_number_of_processes(tmp_path: Path) -> None:
    source, wide = tmp_path / "data.jsonl", "x" * 900
    with source.open(
        "w", encoding="utf-8", newline="\n"
    ) as file:  # large enough to be worth a second process
        for n in range(40_000):
            row = {"q": f"question {n % 30_000}?", "a": f"answer {n} {wide}", "n": n}
            if n % 5000 == 77:
                row["a"] = ""
            file.write("{oh\n" if n % 7000 == 99 else json.dumps(row) + "\n" * (1 + n % 3))
    assert source.stat().st_size > stretches.LEAST
    one = run(source, tmp_path / "one", processes=1)
    two = run(source, tmp_path / "two", processes=2)
    assert one == two
    assert (one.read, one.set_aside) == (40_000, 14)
    for name in OUT:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    aside = lines(tmp_path / "two" / "set_aside.jsonl")
    at = source.read_text(encoding="utf-8").split("\n")
    for row in aside:
        if row["reason"] == "bad_json":
            assert at[row["line"] - 1] == row["raw"] == "{oh"
        else:
            assert json.loads(at[row["line"] - 1]) == row["value"]
            assert row["row"] == row["value"]["n"] + 1
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(convert.FILES)


def test_rows_of_a_group_stay_on_one_side(tmp_path: Path) -> None:
    rows = [{"q": f"question {n}?", "a": "y", "talk": n // 5} for n in range(100)]
    rows[7]["talk"] = None
    run(put(tmp_path, rows), tmp_path / "out", group="talk")
    sides = [{int(q.split()[1][:-1]) // 5 for q in questions(tmp_path / "out" / name)} for name in OUT[:2]]
    assert len(sides[0] & sides[1]) <= 1  # the row without a group goes by its question
    assert abs(len(questions(tmp_path / "out" / OUT[1])) - 10) <= 5


def test_a_group_that_no_row_has_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    rows = [{"q": f"question {n}?", "a": "y"} for n in range(100)]
    with pytest.raises(UsageError) as refused:
        run(put(tmp_path, rows), tmp_path / "out", group="talk")
    facts = {"column": "talk", "columns": "q, a"}
    assert (refused.value.key, refused.value.facts) == ("convert.unknown_column", facts)
    assert not (tmp_path / "out").exists()
    late = [*rows, {"q": "late?", "a": "y", "talk": 1}]
    assert run(put(tmp_path, late), tmp_path / "out", group="talk").read == 101, "one row is enough"


def patch(folder: Path, *given: dict[str, Any]) -> Path:
    path = folder / "edits.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in given), encoding="utf-8")
    return path


def test_edits_are_replayed_and_counted(tmp_path: Path) -> None:
    source = put(tmp_path, [*numbered(10), {"q": "empty", "a": ""}, {"q": "bad", "a": "z"}])
    pieces = list(records.read(source))
    was = {piece.number: edits.fingerprint(piece) for piece in pieces}
    given = patch(
        tmp_path,
        {"file": "data.json", "row": 11, "was": was[11], "set": {"a": "filled"}},
        {"file": "data.json", "row": 12, "was": was[12], "drop": True},
    )
    ledger = run(source, tmp_path / "out", validation=0, edits=given)
    assert (ledger.read, ledger.train, ledger.set_aside, ledger.edited) == (12, 11, 1, 1)
    assert ledger.reasons == {"dropped": 1}
    assert lines(tmp_path / "out" / "train.jsonl")[10]["messages"][1]["content"] == "filled"
    found = convert.manifest(tmp_path / "out")
    assert found
    assert found["edits"] == edits.load(given).digest != ""
    again = patch(tmp_path, {"file": "data.json", "row": 1, "was": "0" * 16, "drop": True})
    stale = run(source, tmp_path / "stale", validation=0, edits=again)
    assert stale.reasons == {"stale": 1, "empty_field": 1}


def test_a_fix_for_all_rows_mends_them(tmp_path: Path) -> None:
    talk = [
        {"role": role, "content": text} for role, text in (("user", "a"), ("user", "b"), ("assistant", "c"))
    ]
    source = put(tmp_path, [{"messages": talk}, {"messages": [talk[0], talk[2]]}])
    mapping = Mapping("messages", {"messages": "messages"})
    assert run(source, tmp_path / "plain", mapping, validation=0).reasons == {"not_alternating": 1}
    ledger = run(
        source, tmp_path / "out", mapping, validation=0, edits=patch(tmp_path, {"fix": "merge_turns"})
    )
    assert (ledger.train, ledger.mended) == (2, {"merge_turns": 1})
    first = lines(tmp_path / "out" / "train.jsonl")[0]["messages"]
    assert [(m["role"], m["content"]) for m in first] == [("user", "a\n\nb"), ("assistant", "c")]


def test_duplicates_and_leaks_are_removed_on_request(tmp_path: Path) -> None:
    rows = [*numbered(40), *numbered(5), *({"q": f"Question  {n}", "a": "other"} for n in range(40))]
    source = put(tmp_path, rows)
    given = patch(tmp_path, {"fix": "drop_duplicate"}, {"fix": "drop_leaked"})
    ledger = run(source, tmp_path / "out", edits=given)
    assert ledger.read == 85 == ledger.train + ledger.validation + ledger.set_aside
    assert ledger.reasons["duplicate"] == 5
    assert ledger.reasons["leaked"] >= 1
    near = [
        {"".join(filter(str.isalnum, q.casefold())) for q in questions(tmp_path / "out" / name)}
        for name in OUT[:2]
    ]
    assert not near[0] & near[1]
    aside = lines(tmp_path / "out" / "set_aside.jsonl")
    assert {row["row"] for row in aside if row["reason"] == "duplicate"} == {41, 42, 43, 44, 45}
    for row in aside:
        if row["reason"] == "leaked":
            assert row["value"]["messages"][0]["content"] == rows[row["row"] - 1]["q"]


def test_a_killed_conversions_spool_is_deleted_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / "out" / f".spool-{ended.pid}-x"
    left.mkdir(parents=True)
    (left / "a.lines").write_bytes(b"{}")
    run(put(tmp_path, numbered(3)), tmp_path / "out")
    assert not left.exists()


def test_several_files_are_one_conversion(tmp_path: Path) -> None:
    first, second = put(tmp_path, numbered(30)), put(tmp_path, [*numbered(40), {"q": "x"}], "more.jsonl")
    ledger = convert.convert(Request((first, second), tmp_path / "out", QA))
    assert (ledger.read, ledger.set_aside) == (71, 1)
    sides = [set(questions(tmp_path / "out" / name)) for name in OUT[:2]]
    assert not sides[0] & sides[1]
    assert lines(tmp_path / "out" / "set_aside.jsonl")[0]["file"] == "more.jsonl"


def test_the_manifest_says_what_was_done(tmp_path: Path) -> None:
    source = put(tmp_path, [*numbered(30), {"q": "x"}])
    mapping = Mapping("qa", QA.fields, system="be kind")
    run(source, tmp_path / "out", mapping, seed=7)
    found = convert.manifest(tmp_path / "out")
    assert found
    assert found["counts"] == {
        "read": 31,
        "train": 27,
        "validation": 3,
        "set_aside": 1,
        "reasons": {"missing_field": 1},
        "warnings": {"near_leak": 1},  # "question 7?" and "question 17?" are nearly the same
        "mended": {},
        "edited": 0,
    }
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert found["sources"] == [
        {"file": "data.json", "path": str(source), "bytes": source.stat().st_size, "sha256": digest}
    ]
    assert found["mapping"] == asdict(mapping)
    assert (found["target"], found["seed"], found["validation"]) == ("siliconflow", 7, 0.1)
    assert found["date"].startswith("20")
    assert convert.manifest(tmp_path) is None


def test_where_nothing_is_left_the_commonest_reason_is_said(tmp_path: Path) -> None:
    rows = [{"q": "x", "answer": "y"}, {"q": "x", "answer": "y"}, {"q": ""}]
    with pytest.raises(ConvertError) as caught:
        run(put(tmp_path, rows), tmp_path / "new" / "out")
    assert caught.value.key == "convert.nothing_left"
    facts = caught.value.facts
    assert (facts["read"], facts["n"], facts["reason"], facts["field"]) == (3, 2, "missing_field", "a")
    assert facts["columns"] == "q, answer"
    assert not (tmp_path / "new").exists()
    (tmp_path / "none.csv").write_text("q,a\n")
    with pytest.raises(RecordError) as refused:
        run(tmp_path / "none.csv", tmp_path / "out")
    assert refused.value.key == "record.no_rows"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_stop_leaves_an_earlier_conversion_as_it_was(tmp_path: Path) -> None:
    run(put(tmp_path, numbered(20)), tmp_path / "out")
    before = contents(tmp_path / "out")
    source = put(tmp_path, numbered(5000), "more.jsonl")

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        convert.convert(Request((source,), tmp_path / "out", QA), stop)
    assert contents(tmp_path / "out") == before
    with pytest.raises(StopError):
        convert.convert(Request((source,), tmp_path / "other", QA), stop)
    assert not (tmp_path / "other").exists()


def test_a_full_disk_leaves_an_earlier_conversion_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(put(tmp_path, numbered(20)), tmp_path / "out")
    before = contents(tmp_path / "out")

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError) as caught:
        run(put(tmp_path, numbered(40), "more.json"), tmp_path / "out")
    assert caught.value.key == "workspace.disk_full"
    assert contents(tmp_path / "out") == before


def test_progress_counts_the_bytes_of_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "EVERY", 0)
    files = [put(tmp_path, numbered(20_000), name) for name in ("a.json", "b.jsonl")]
    total = sum(path.stat().st_size for path in files)
    seen: list[tuple[int, int]] = []
    convert.convert(Request(tuple(files), tmp_path / "out", QA), lambda *told: seen.append(told))
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("options", "error", "key"),
    [
        ({"validation": 0.95}, UsageError, "convert.bad_share"),
        ({"validation": math.nan}, UsageError, "convert.bad_share"),
        ({"target": "nowhere"}, UsageError, "convert.unknown_target"),
        ({"mapping": Mapping("qa", {"user": "q"})}, ConvertError, "convert.no_role"),
        ({"files": ()}, UsageError, "convert.no_files"),
        ({"files": (Path("none.json"),)}, RecordError, "record.missing_file"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(
    options: dict[str, Any], error: type[AppError], key: str, tmp_path: Path
) -> None:
    wanted: dict[str, Any] = {
        "files": (put(tmp_path, numbered(3)),),
        "out": tmp_path / "out",
        "mapping": QA,
    } | options
    with pytest.raises(error) as caught:
        convert.convert(Request(**wanted))
    assert caught.value.key == key
    assert not (tmp_path / "out").exists()


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    source = put(tmp_path, numbered(3), "train.jsonl")
    before = source.read_bytes()
    with pytest.raises(UsageError) as caught:
        run(source, tmp_path)
    assert caught.value.key == "convert.overwrites_source"
    assert source.read_bytes() == before


def test_every_reason_rule_and_format_has_a_sentence() -> None:
    faults = (
        "bad_json truncated trailing_comma missing_comma after_end bad_bytes bad_number too_deep too_long"
    )
    faults += " bad_row bad_quote open_quote"
    mapped = "missing_field empty_field not_text not_object bad_turn not_turns bad_role tool_turn bad_history"
    rules = {rule for target in check.targets().values() for rule in target.rules}
    errors = {
        rule
        for target in check.targets().values()
        for rule, weight in target.rules.items()
        if weight == "error"
    }
    for name in faults.split():
        assert words.has(f"error.record.{name}"), name
    for name in mapped.split():
        assert words.has(f"error.convert.{name}"), name
    in_files = {
        "ending",
        "not_json",
        "not_object",
        "no_messages",
        "empty_messages",
        "not_a_message",
        "no_role",
    }
    for name in {*faults.split(), *mapped.split(), *(errors - in_files - {"no_content"})}:
        assert words.has(f"reason.{name}"), name
    for name in ("turns", "names", "names_and_content", "content"):
        assert words.has(f"reason.{name}"), name
    for rule in rules:
        assert words.has(f"check.{rule}"), rule
    for name in check.targets():
        assert words.has(f"target.{name}"), name
    for name in (*formats.FORMATS, *formats.DECLINED):
        assert words.has(f"format.{name}"), name
    for role in formats.ROLES:
        assert words.has(f"role.{role}"), role
