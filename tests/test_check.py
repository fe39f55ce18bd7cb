"""Checking: every broken rule of every row, for each target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lib import check
from lib.chat import Conversation, Message
from lib.check import Finding, Report

SYSTEM, USER, ASSISTANT = (
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
)
GOOD = {"messages": [SYSTEM, USER, ASSISTANT]}


def checked(folder: Path, rows: list[Any], target: str = "siliconflow", name: str = "train.jsonl") -> Report:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return check.check_file(path, check.targets()[target])


def rules(report: Report) -> list[tuple[str, str]]:
    return [(finding.rule, finding.field) for finding in report.findings]


@pytest.mark.parametrize("target", ["siliconflow", "trl"])
def test_good_rows_have_no_findings(target: str, tmp_path: Path) -> None:
    more = {"messages": [USER, ASSISTANT, USER, {"role": "assistant", "content": "\u4f60\u597d"}], "id": 7}
    report = checked(tmp_path, [GOOD, more], target)
    assert report == Report(2, [], {})


ROWS: list[tuple[Any, list[tuple[str, str]]]] = [
    ([1], [("not_object", "")]),
    ({}, [("no_messages", "messages")]),
    ({"messages": "x"}, [("no_messages", "messages")]),
    ({"messages": []}, [("empty_messages", "messages")]),
    ({"messages": [USER, "hi"]}, [("not_a_message", "messages[1]"), ("unanswered", "messages[0].role")]),
    (
        {"messages": [USER, {"content": "hi"}]},
        [("no_role", "messages[1].role"), ("unanswered", "messages[1].role")],
    ),
    ({"messages": [USER, {"role": "assistant"}]}, [("no_content", "messages[1].content")]),
    ({"messages": [USER, {"role": "assistant", "content": None}]}, [("no_content", "messages[1].content")]),
    ({"messages": [USER, {"role": "assistant", "content": 5}]}, [("not_text", "messages[1].content")]),
    (
        {"messages": [USER, {"role": "assistant", "content": " \n"}]},
        [("empty_content", "messages[1].content")],
    ),
    (
        {"messages": [USER, {"role": "gpt", "content": "x"}]},
        [("bad_role", "messages[1].role"), ("unanswered", "messages[1].role")],
    ),
    ({"messages": [USER, SYSTEM, ASSISTANT]}, [("system_not_first", "messages[1].role")]),
    ({"messages": [SYSTEM, SYSTEM, USER, ASSISTANT]}, [("system_not_first", "messages[1].role")]),
    ({"messages": [SYSTEM, ASSISTANT]}, [("first_not_user", "messages[1].role")]),
    ({"messages": [USER, USER, ASSISTANT]}, [("not_alternating", "messages[1].role")]),
    ({"messages": [USER, ASSISTANT, ASSISTANT]}, [("not_alternating", "messages[2].role")]),
    ({"messages": [USER, ASSISTANT, USER]}, [("unanswered", "messages[2].role")]),
    ({"messages": [SYSTEM]}, [("unanswered", "messages[0].role")]),
    (
        {"messages": [USER, {"role": "assistant", "content": "\ud800"}]},
        [("bad_characters", "messages[1].content")],
    ),
    (
        {"messages": [ASSISTANT, {"role": "tool", "content": ""}, SYSTEM, USER, USER]},
        [
            ("bad_role", "messages[1].role"),
            ("empty_content", "messages[1].content"),
            ("first_not_user", "messages[0].role"),
            ("system_not_first", "messages[2].role"),
            ("not_alternating", "messages[4].role"),
            ("unanswered", "messages[4].role"),
        ],
    ),
]


@pytest.mark.parametrize(("row", "wanted"), ROWS, ids=[str(row)[:70] for row, _ in ROWS])
def test_every_broken_rule_of_a_row_is_found(row: Any, wanted: list[tuple[str, str]], tmp_path: Path) -> None:
    report = checked(tmp_path, [GOOD, row])
    assert rules(report) == wanted
    assert all(finding.line == 2 and finding.severity == "error" for finding in report.findings)
    assert report.counts == {rule: sum(rule == one for one, _ in wanted) for rule, _ in wanted}


def test_every_row_is_looked_at(tmp_path: Path) -> None:
    report = checked(tmp_path, [row for row, _ in ROWS])
    found = [(finding.line, finding.rule, finding.field) for finding in report.findings]
    assert found == [(line, *broke) for line, (_, wanted) in enumerate(ROWS, 1) for broke in wanted]
    assert report.rows == len(ROWS)


def test_a_line_that_is_not_json_is_found_and_the_rest_read(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{{oh}}\n{{}}\n", encoding="utf-8")
    report = check.check_file(path, check.targets()["siliconflow"])
    assert [(finding.line, finding.rule) for finding in report.findings] == [
        (2, "not_json"),
        (3, "no_messages"),
    ]
    assert report.findings[0].value == "{oh}"
    assert report.rows == 3


def test_only_some_endings_are_taken(tmp_path: Path) -> None:
    report = checked(tmp_path, [GOOD], name="train.json")
    assert report.findings == [Finding(0, "", "ending", "error", "train.json")]
    assert not checked(tmp_path, [GOOD], "trl", name="train.json").findings


def test_exact_duplicates_are_warned_of(tmp_path: Path) -> None:
    other = {"messages": [USER, {"role": "assistant", "content": "hi!"}]}
    report = checked(tmp_path, [GOOD, other, GOOD | {"id": 2}, other, GOOD])
    found = [(f.line, f.rule, f.severity, f.value) for f in report.findings]
    assert found == [(line, "duplicate", "warning", first) for line, first in ((3, "1"), (4, "2"), (5, "1"))]


def test_rows_longer_than_the_target_takes_are_warned_of(tmp_path: Path) -> None:
    limit = check.targets()["siliconflow"].max_tokens
    wide, narrow = "\u4f60" * limit, "a" * limit
    rows = [
        {"messages": [USER, {"role": "assistant", "content": text}]} for text in (wide, narrow, narrow * 5)
    ]
    rows.append({"messages": [USER, ASSISTANT] * limit})
    found = [(f.line, f.rule, f.severity) for f in checked(tmp_path, rows).findings]
    assert found == [(line, "too_long", "warning") for line in (3, 4)]


def test_trl_takes_what_chat_templates_may_refuse_with_a_warning(tmp_path: Path) -> None:
    report = checked(tmp_path, [{"messages": [ASSISTANT, USER, USER]}, {"messages": [USER]}], "trl")
    assert {finding.rule: finding.severity for finding in report.findings} == {
        "first_not_user": "warning",
        "not_alternating": "warning",
        "unanswered": "warning",
        "no_answer": "error",
    }


def test_findings_beyond_the_limit_are_still_counted(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("{}\n" * 50, encoding="utf-8")
    report = check.check_file(path, check.targets()["siliconflow"], most=10)
    assert len(report.findings) == 10
    assert report.counts["no_messages"] == 50


@pytest.mark.parametrize("target", ["siliconflow", "trl"])
def test_the_quick_look_agrees_with_the_long_one(target: str) -> None:
    place = check.targets()[target]
    fits = check.quick(place)
    turns = [
        Message(role, text) for role in ("system", "user", "assistant") for text in ("x", " ", "y" * 9000)
    ]
    talks = [Conversation((a, b, c)) for a in turns for b in turns for c in turns]
    talks += [Conversation(()), *(Conversation((a, b)) for a in turns for b in turns)]
    sure = 0
    for talk in talks:
        if fits(talk):
            sure += 1
            assert not check.check_conversation(talk, place)
    assert sure


def test_every_target_says_where_its_rules_come_from() -> None:
    for target in check.targets().values():
        assert target.source.startswith("https://")
        assert len(target.checked) == 10
        assert set(target.rules.values()) <= {"error", "warning"}
    assert next(iter(check.targets())) == "siliconflow"
