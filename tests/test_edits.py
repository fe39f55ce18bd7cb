"""The patch file: what was changed by hand, replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import edits
from lib.errors import ConvertError, RecordError, UsageError
from lib.records import Broken, Record

FILE = "a.json"
VALUE = {"q": "why", "n": 5, "talk": [{"value": "hi", "to.whom": ["x", "y"]}], "none": None}
BROKEN = Broken(2, RecordError("record.bad_json", file=FILE), 2, 1, "{oh")


def row(value: Any = VALUE, number: int = 1) -> Record:
    return Record(number, value, number)


def patch(folder: Path, *lines: Any) -> edits.Edits:
    path = folder / "edits.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return edits.load(path)


def edit(piece: Any, **what: Any) -> dict[str, Any]:
    return {"file": FILE, "row": piece.number, "was": edits.fingerprint(piece), **what}


def value(piece: Any) -> Any:
    assert isinstance(piece, Record)
    return piece.value


def test_a_missing_or_empty_file_changes_nothing(tmp_path: Path) -> None:
    for found in (edits.load(None), edits.load(tmp_path / "none"), patch(tmp_path)):
        piece = row()
        assert not found.active
        assert found.apply(piece, FILE) is piece
        assert (found.fixes, found.digest, list(found.rows_of(FILE))) == ((), "", [])


def test_values_are_set_by_their_path(tmp_path: Path) -> None:
    piece = row()
    changes = {"q": "how", "talk[0].value": "bye", 'talk[0]["to.whom"][1]': "z", "new": 1}
    found = patch(tmp_path, edit(piece, set=changes))
    assert found.active
    assert value(found.apply(piece, FILE)) == {
        "q": "how",
        "n": 5,
        "talk": [{"value": "bye", "to.whom": ["x", "z"]}],
        "none": None,
        "new": 1,
    }
    assert piece.value is VALUE
    assert VALUE["talk"] == [{"value": "hi", "to.whom": ["x", "y"]}]
    assert found.apply(row(number=2), FILE).number == 2  # type: ignore[union-attr]
    assert value(found.apply(piece, "b.json")) is VALUE


def test_several_edits_of_a_row_are_made_in_their_order(tmp_path: Path) -> None:
    first, second = row(), row(VALUE | {"q": "how"})
    found = patch(tmp_path, edit(first, set={"q": "how"}), edit(second, set={"q": "when"}))
    assert value(found.apply(row(), FILE))["q"] == "when"
    found = patch(tmp_path, edit(first, set={"q": "how"}), edit(first, set={"q": "when"}))
    with pytest.raises(ConvertError) as caught:
        found.apply(row(), FILE)
    assert (caught.value.key, caught.value.facts) == ("edit.stale", {"file": FILE, "row": 1})


def test_rows_are_dropped_and_written_anew(tmp_path: Path) -> None:
    found = patch(tmp_path, edit(row(), drop=True), edit(BROKEN, record={"q": "mended"}))
    assert found.apply(row(), FILE) is None
    mended = found.apply(BROKEN, FILE)
    assert value(mended) == {"q": "mended"}
    assert (mended.number, mended.line) == (2, 2)  # type: ignore[union-attr]


def test_an_edit_of_another_row_than_it_was_made_for_is_stale(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{"drop": True}, {"set": {"q": "x"}}, {"record": {}}, {"fix": "trim"}]
    for what in kinds:
        with pytest.raises(ConvertError) as caught:
            patch(tmp_path, edit(row(), **what)).apply(row(VALUE | {"n": 6}), FILE)
        assert caught.value.key == "edit.stale"
    reordered = dict(reversed(VALUE.items()))
    assert patch(tmp_path, edit(row(), drop=True)).apply(row(reordered), FILE) is None


@pytest.mark.parametrize("path", ["talk[1].value", "n.x", "q[0]", "none.x", "missing.x", "talk.value"])
def test_a_path_that_leads_nowhere_is_told(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConvertError) as caught:
        patch(tmp_path, edit(row(), set={path: "x"})).apply(row(), FILE)
    assert caught.value.facts == {"file": FILE, "row": 1, "field": path}
    assert caught.value.key == "edit.no_field"


def test_a_broken_row_has_no_fields_but_can_be_given_a_record(tmp_path: Path) -> None:
    with pytest.raises(ConvertError):
        patch(tmp_path, edit(BROKEN, set={"q": "x"})).apply(BROKEN, FILE)


def test_fixes_are_for_all_rows_or_for_one(tmp_path: Path) -> None:
    found = patch(tmp_path, {"fix": "trim"}, {"fix": "cut"}, {"fix": "trim"}, edit(row(), fix="mask"))
    assert found.fixes == ("trim", "cut")
    assert found.row_fixes(FILE, 1) == ("mask",)
    assert found.row_fixes(FILE, 2) == ()
    piece = row()
    assert found.apply(piece, FILE) is piece
    assert list(found.rows_of(FILE)) == [1]
    assert not patch(tmp_path, {"fix": "trim"}).active


def test_lines_are_added_and_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "edits.jsonl"
    found = edits.load(path)
    lines = [edit(row(), set={"q": "\u600e\u4e48"}), {"fix": "trim"}, edit(row(), drop=True)]
    for line in lines:
        found.add(line)
    written = path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in written.splitlines()] == lines
    assert "\u600e\u4e48" in written
    assert edits.load(path).lines == lines
    assert found.undo() == lines[2]
    assert edits.load(path).lines == lines[:2]
    assert found.undo() == lines[1]
    assert found.fixes == ()
    assert found.undo() == lines[0]
    assert (found.undo(), found.active, found.digest) == (None, False, "")
    assert path.read_bytes() == b""


def test_what_another_page_added_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    one, other = edits.load(path), edits.load(path)
    one.add({"fix": "trim"})
    other.add({"fix": "cut"})
    assert edits.load(path).fixes == ("trim", "cut")
    assert one.undo() == {"fix": "cut"}


def test_what_is_done_is_counted(tmp_path: Path) -> None:
    found = patch(
        tmp_path,
        edit(row(), set={"q": "x"}),
        edit(row(VALUE | {"q": "x"}), set={"q": "y"}),
        edit(row(number=2), set={"q": "x"}),
        edit(row(number=2), drop=True),
        edit(row(number=3), fix="mask"),
        {"fix": "trim"},
    )
    assert found.counts() == (1, 1, ("trim",), {"mask": 1})
    assert found.files() == [FILE]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oh", "edit_no_object"),
        ("[]", "edit_no_object"),
        ("{}", "edit_kind"),
        ('{"fix": "trim", "drop": true}', "edit_kind"),
        ('{"fix": "trim", "more": 1}', "edit_kind"),
        ('{"fix": "magic"}', "edit_fix"),
        ('{"fix": "drop_leaked", "file": "a", "row": 1, "was": "0123456789abcdef"}', "edit_fix"),
        ('{"fix": "trim", "file": "a"}', "edit_place"),
        ('{"drop": true}', "edit_place"),
        ('{"drop": true, "file": "a", "row": 0, "was": "0123456789abcdef"}', "edit_place"),
        ('{"drop": true, "file": "a", "row": true, "was": "0123456789abcdef"}', "edit_place"),
        ('{"drop": true, "file": "a", "row": 1, "was": "0123"}', "edit_place"),
        ('{"drop": 1, "file": "a", "row": 1, "was": "0123456789abcdef"}', "edit_kind"),
        ('{"set": {}, "file": "a", "row": 1, "was": "0123456789abcdef"}', "edit_path"),
        ('{"set": {"a..b": 1}, "file": "a", "row": 1, "was": "0123456789abcdef"}', "edit_path"),
    ],
)
def test_a_bad_line_is_told_with_its_number(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_text(f'{{"fix": "trim"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        edits.load(path)
    assert caught.value.key == "edit.bad_line"
    assert caught.value.facts == {"file": "edits.jsonl", "line": 3, "reason": reason}


def test_a_bad_edit_is_not_added(tmp_path: Path) -> None:
    found = edits.load(tmp_path / "edits.jsonl")
    with pytest.raises(UsageError):
        found.add({"fix": "magic"})
    assert not (tmp_path / "edits.jsonl").exists()


NAMES = st.one_of(
    st.text(max_size=6), st.sampled_from(["a.b", "[0]", '"', "\\", "", "\u95ee\u9898", "a b", "0"])
)
STEPS = st.lists(st.one_of(NAMES, st.integers(0, 10**6)), max_size=6).map(tuple)


@given(STEPS)
def test_paths_survive_being_written(path: tuple[str | int, ...]) -> None:
    assert edits.steps(edits.path_of(path)) == path


@pytest.mark.parametrize(
    "path", [".a", "a.", "a..b", "a[", "a]", "a b", "[x]", '["a"', "a.[0]", "[0]a", '["a"]b']
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        edits.steps(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_every_text_can_be_reached_and_only_it_changes(given_: Any) -> None:
    for path, text in edits.leaves(given_):
        changed = edits.put(given_, edits.steps(path), text + "!")
        assert dict(edits.leaves(changed)) == dict(edits.leaves(given_)) | {path: text + "!"}
        assert edits.put(changed, edits.steps(path), text) == given_


@given(JSON)
def test_a_fingerprint_does_not_depend_on_the_order_of_names(given_: Any) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turned(value[name]) for name in reversed(value)}
        return [turned(one) for one in value] if isinstance(value, list) else value

    assert edits.fingerprint(row(given_)) == edits.fingerprint(row(turned(given_)))
    assert len(edits.fingerprint(row(given_))) == 16


def test_files_are_called_by_their_name_unless_two_share_it() -> None:
    one, two, three = Path("/x/a/data.json"), Path("/x/b/data.json"), Path("/x/other.json")
    assert edits.names([one, three]) == {one: "data.json", three: "other.json"}
    assert edits.names([one, two, three]) == {one: "a/data.json", two: "b/data.json", three: "other.json"}
    assert edits.names([]) == {}
    assert edits.names([one, one]) == {one: "data.json"}
