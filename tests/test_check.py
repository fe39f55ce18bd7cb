"""Checking: every broken rule of every row, for each target."""

from __future__ import annotations

import json
from dataclasses import replace
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


@pytest.mark.parametrize("target", ["siliconflow", "zhipu", "dashscope", "trl", "llamafactory"])
def test_good_rows_have_no_findings(target: str, tmp_path: Path) -> None:
    more = {"messages": [USER, ASSISTANT, USER, {"role": "assistant", "content": "\u4f60\u597d"}], "id": 7}
    report = checked(tmp_path, [GOOD, more], target)
    assert report == Report(2, [], {}, (tmp_path / "train.jsonl").stat().st_size)


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
    assert report.findings == [Finding(0, "", "ending", "error", "train.json", file="train.json")]
    assert not checked(tmp_path, [GOOD], "trl", name="train.json").findings


def test_exact_duplicates_are_warned_of(tmp_path: Path) -> None:
    other = {"messages": [USER, {"role": "assistant", "content": "hi!"}]}
    report = checked(tmp_path, [GOOD, other, GOOD | {"id": 2}, other, GOOD])
    found = [(f.line, f.rule, f.severity, f.value, f.fix) for f in report.findings]
    assert found == [
        (line, "duplicate", "warning", first, "drop_duplicate")
        for line, first in ((3, "1"), (4, "2"), (5, "1"))
    ]


def test_rows_longer_than_the_target_takes_are_warned_of(tmp_path: Path) -> None:
    limit = check.targets()["siliconflow"].max_tokens
    wide, narrow = "\u4f60" * limit, "a" * limit
    rows = [
        {"messages": [USER, {"role": "assistant", "content": text}]} for text in (wide, narrow, narrow * 5)
    ]
    rows.append({"messages": [USER, ASSISTANT] * limit})
    found = [(f.line, f.rule, f.severity) for f in checked(tmp_path, rows).findings]
    assert found == [(3, "long_message", "warning"), (3, "too_long", "warning"), (4, "too_long", "warning")]


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


CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
ASKS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TELLS = {"role": "tool", "content": "12:00", "tool_call_id": "c1"}
TOOLS = {"messages": [USER, ASKS, TELLS, ASSISTANT], "tools": [TOOL]}


def row_rules(row: Any, target: str) -> list[tuple[str, str]]:
    return [(broke.rule, broke.field) for broke in check.rules.broken(row, check.targets()[target])]


@pytest.mark.parametrize("target", ["openai", "together", "fireworks", "dashscope", "trl", "llamafactory"])
def test_tools_are_taken_where_they_are_taken(target: str) -> None:
    assert row_rules(TOOLS, target) == []
    silent = TELLS | {"content": ""}
    twice = ASKS | {"tool_calls": [CALL, CALL | {"id": "c2"}]}
    other = TELLS | {"tool_call_id": "c2"}
    assert row_rules({"messages": [USER, twice, silent, other, ASSISTANT]}, target) == []
    assert row_rules({"messages": [USER, ASKS]}, target) == []


@pytest.mark.parametrize("target", ["siliconflow", "zhipu"])
def test_tools_are_refused_elsewhere(target: str) -> None:
    assert row_rules(TOOLS, target) == [
        ("bad_role", "messages[2].role"),
        ("tools_not_taken", "tools"),
        ("tools_not_taken", "messages[1].tool_calls"),
    ]


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ([USER, ASKS | {"tool_calls": "clock"}], [("bad_tool_calls", "messages[1].tool_calls")]),
        ([USER, ASKS | {"tool_calls": [{"id": "c1"}]}], [("bad_tool_calls", "messages[1].tool_calls[0]")]),
        (
            [USER, ASKS | {"tool_calls": [CALL | {"type": "plugin"}]}],
            [("bad_tool_calls", "messages[1].tool_calls[0].type")],
        ),
        (
            [USER, ASKS | {"tool_calls": [CALL | {"function": {"name": "f", "arguments": {"a": 1}}}]}],
            [("bad_arguments", "messages[1].tool_calls[0].function.arguments")],
        ),
        (
            [USER, ASKS | {"tool_calls": [CALL | {"function": {"name": "f", "arguments": "[1]"}}]}],
            [("bad_arguments", "messages[1].tool_calls[0].function.arguments")],
        ),
        (
            [USER, ASKS, TELLS | {"tool_call_id": "c9"}, ASSISTANT],
            [("unknown_tool_call", "messages[2].tool_call_id")],
        ),
        (
            [USER, ASKS, {"role": "tool", "content": "12"}, ASSISTANT],
            [("no_tool_call_id", "messages[2].tool_call_id")],
        ),
        ([USER, ASKS, USER, ASSISTANT], [("tool_not_answered", "messages[1].tool_calls")]),
        ([USER, ASKS, TELLS, USER, ASSISTANT], [("tool_not_answered", "messages[2]")]),
        ([USER, ASKS, TELLS], [("unanswered", "messages[2].role")]),
        ([USER, {"role": "assistant", "content": ""}], [("empty_content", "messages[1].content")]),
    ],
)
def test_calls_of_tools_have_a_shape(messages: list[Any], wanted: list[tuple[str, str]]) -> None:
    assert row_rules({"messages": messages}, "openai") == wanted


def test_tools_are_objects_with_a_name() -> None:
    assert row_rules(TOOLS | {"tools": ["clock"]}, "openai") == [("bad_tools", "tools")]
    assert row_rules(TOOLS | {"tools": "clock"}, "together") == [("bad_tools", "tools")]


def test_names_beside_the_known_ones_are_told() -> None:
    named = {"messages": [USER | {"name": "Li", "mood": "good"}, ASSISTANT], "id": 7}
    assert row_rules(named, "siliconflow") == []
    assert row_rules(named, "together") == [("extra_key", "id")]
    assert row_rules(named, "openai") == [("extra_key", "id"), ("extra_message_key", "messages[0].mood")]
    assert row_rules(named, "dashscope") == [
        ("extra_message_key", "messages[0].name"),
        ("extra_message_key", "messages[0].mood"),
    ]


@pytest.mark.parametrize("weight", [0, 1, 0.5, 2, "1", True, None])
def test_a_weight_is_nought_or_one(weight: Any) -> None:
    row = {"messages": [USER, ASSISTANT | {"weight": weight}]}
    bad = [] if weight in (0, 1) and weight is not True else [("bad_weight", "messages[1].weight")]
    assert row_rules(row, "openai") == row_rules(row, "together") == row_rules(row, "fireworks") == bad
    assert row_rules(row, "trl") == []


def test_a_file_can_hold_too_few_rows_too_many_or_too_much(tmp_path: Path) -> None:
    def found(rows: int, target: check.Target) -> list[tuple[str, str, str]]:
        path = tmp_path / "train.jsonl"
        path.write_text(
            "".join(
                json.dumps({"messages": [USER, ASSISTANT | {"content": f"hi {n}"}]}) + "\n"
                for n in range(rows)
            ),
            encoding="utf-8",
        )
        return [(one.rule, one.severity, one.value) for one in check.check_file(path, target).findings]

    openai = check.targets()["openai"]
    assert found(9, openai) == [("too_few_rows", "error", "9")]
    assert found(10, openai) == []
    assert found(2, check.targets()["fireworks"]) == [("too_few_rows", "error", "2")]
    siliconflow = replace(check.targets()["siliconflow"], max_rows=2)
    assert found(3, siliconflow) == [("too_many_rows", "warning", "3")]
    ((rule, _, size),) = found(10, replace(openai, max_bytes=100))
    assert rule == "file_too_large"
    assert int(size) == (tmp_path / "train.jsonl").stat().st_size


def test_findings_name_file_row_and_fix(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(f"\n\n{json.dumps({'messages': [USER]})}\n", encoding="utf-8")
    (one,) = check.check_file(tmp_path / "train.jsonl", check.targets()["siliconflow"]).findings
    assert (one.file, one.line, one.row, one.rule, one.fix) == (
        "train.jsonl",
        3,
        1,
        "unanswered",
        "drop_last_user",
    )


@pytest.mark.parametrize("target", list(check.targets()))
def test_the_quick_look_agrees_with_the_long_one(target: str) -> None:
    place = check.targets()[target]
    look = check.checker(place)
    turns = [
        Message(role, text)
        for role in ("system", "user", "assistant", "tool")
        for text in ("x", " ", "y" * 9000, "\u4f60" * 7000)
    ]
    talks = [Conversation((a, b, c)) for a in turns for b in turns for c in turns[:8]]
    talks += [Conversation(()), *(Conversation((a, b)) for a in turns for b in turns)]
    good = 0
    for talk in talks:
        long = check.check_conversation(talk, place)
        assert list(look(talk)) == long
        good += not long
    assert good


def test_a_maximum_of_ones_own_takes_the_place_of_the_targets() -> None:
    target = check.targets()["siliconflow"]
    talk = Conversation((Message("user", "x"), Message("assistant", "\u4f60\u597d\u5417" * 10)))
    assert not check.checker(target)(talk)
    (one,) = check.checker(target, max_tokens=10)(talk)
    assert (one.rule, one.fix) == ("too_long", "cut")


def test_white_space_at_the_ends_is_told_but_not_the_indent_of_a_paragraph() -> None:
    target = check.targets()["siliconflow"]
    for text, rules_ in (("hi\n", ["padded"]), ("\ufeffhi", ["padded"]), ("\u3000\u3000hi", [])):
        talk = Conversation((Message("user", "x"), Message("assistant", text)))
        assert [one.rule for one in check.checker(target)(talk)] == rules_


def test_every_target_says_where_its_rules_come_from() -> None:
    targets = check.targets()
    assert list(targets) == [
        *("siliconflow", "openai", "together", "fireworks"),
        *("zhipu", "dashscope", "trl", "llamafactory"),
    ]
    known = {rule for target in targets.values() for rule in target.rules}
    for target in targets.values():
        assert len(target.checked) == 10
        assert set(target.rules.values()) <= {"error", "warning"}
        assert set(target.sources) <= set(target.rules)
        for rule in known:
            assert target.source_of(rule).startswith("https://")


def test_what_the_strictest_takes_the_others_take(tmp_path: Path) -> None:
    rows = [{"messages": [SYSTEM, USER, ASSISTANT | {"content": f"hi {n}"}]} for n in range(10)]
    for target in check.targets():
        assert checked(tmp_path, rows, target).findings == []
