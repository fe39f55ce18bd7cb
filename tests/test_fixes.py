"""Fixes: what is mended breaks the rule no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import check, estimate, fixes
from lib.chat import Conversation, Message
from lib.check import rules

TARGETS = check.targets()
TARGET = TARGETS["siliconflow"]


def talk(*turns: str) -> Conversation:
    """Return a conversation of turns such as `u:hello`."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return Conversation(tuple(Message(roles[turn[0]], turn[2:]) for turn in turns))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("trim", ["u: hi\n", "a:\ufeffyes"], ["u:hi", "a:yes"]),
        ("drop_empty_turn", ["u:hi", "a: ", "u:oh", "a:yes"], ["u:hi", "u:oh", "a:yes"]),
        ("drop_empty_turn", ["s:", "u:hi", "a:yes"], ["u:hi", "a:yes"]),
        ("drop_empty_turn", ["u:\n", "a:"], None),
        ("merge_turns", ["u:one", "u:two", "a:yes", "a:no"], ["u:one\n\ntwo", "a:yes\n\nno"]),
        ("merge_turns", ["u:one", "u:", "a:yes"], ["u:one", "a:yes"]),
        ("move_system", ["u:hi", "s:be kind", "a:yes"], ["s:be kind", "u:hi", "a:yes"]),
        ("move_system", ["s:one", "u:hi", "s:two", "a:yes"], ["s:one\n\ntwo", "u:hi", "a:yes"]),
        ("drop_last_user", ["u:hi", "a:yes", "u:and?"], ["u:hi", "a:yes"]),
        ("drop_last_user", ["u:hi"], None),
        ("drop_last_user", ["s:be kind", "u:hi"], None),
        ("drop_first_assistant", ["a:welcome", "u:hi", "a:yes"], ["u:hi", "a:yes"]),
        ("drop_first_assistant", ["s:be kind", "a:welcome", "u:hi", "a:yes"], ["s:be kind", "u:hi", "a:yes"]),
        ("drop_first_assistant", ["a:welcome"], None),
        ("strip_markup", ["u:hi", "a:yes.<|im_end|>\n"], ["u:hi", "a:yes."]),
        ("strip_markup", ["u:hi", "a:yes </s></s>"], ["u:hi", "a:yes"]),
        ("mask", ["u:call 13812345678", "a:li@qq.com"], ["u:call ***", "a:***"]),
    ],
)
def test_each_fix_does_one_thing(name: str, before: list[str], after: list[str] | None) -> None:
    assert fixes.mend(talk(*before), [name], TARGET) == (talk(*after) if after is not None else None)


def test_a_fix_that_finds_nothing_to_do_gives_the_same_object() -> None:
    good = talk("s:be kind", "u:hi", "a:yes")
    assert fixes.mend(good, list(fixes.FIXES), TARGET) is good
    assert fixes.mend(talk("u:hi"), [], TARGET) == talk("u:hi")
    assert fixes.mend(talk("u:hi"), ["drop_duplicate", "drop_leaked"], TARGET) == talk("u:hi")


def test_an_answer_is_cut_at_the_end_of_a_sentence() -> None:
    sentence = "\u8fd9\u662f\u4e00\u53e5\u8bdd\u3002"
    cut = fixes.mend(talk("u:x", f"a:{sentence * 30}"), ["cut"], TARGET, max_tokens=50)
    assert cut
    assert cut.messages[1].content == sentence * 11  # 66 characters of 0.7 tokens, and the question's
    assert sum(estimate.tokens(turn.content) for turn in cut.messages) <= 50


def test_where_no_answer_can_be_cut_the_last_exchange_goes() -> None:
    long = "\u95ee" * 100
    left = fixes.mend(talk("u:x", "a:yes", f"u:{long}", "a:no"), ["cut"], TARGET, max_tokens=50)
    assert left == talk("u:x", "a:yes")
    assert fixes.mend(talk(f"u:{long}", "a:no"), ["cut"], TARGET, max_tokens=50) is None


def test_one_fix_can_make_work_for_another() -> None:
    before = talk("u:one ", "a:", "u:two", "s:be kind", "a:yes<|im_end|>", "u: ")
    assert fixes.mend(before, list(fixes.FIXES), TARGET) == talk("s:be kind", "u:one\n\ntwo", "a:yes")


def test_calls_of_tools_are_kept_when_turns_are_merged() -> None:
    call, other = {"id": "1", "function": {"name": "f"}}, {"id": "2", "function": {"name": "g"}}
    turns = (
        Message("user", "x"),
        Message("assistant", "wait", {"tool_calls": [call]}),
        Message("assistant", "", {"tool_calls": [other]}),
        Message("tool", "1", {"tool_call_id": "1"}),
        Message("tool", "", {"tool_call_id": "2"}),
        Message("assistant", "done"),
    )
    mended = fixes.mend(Conversation(turns), ["merge_turns", "drop_empty_turn"], TARGETS["openai"])
    assert mended
    assert mended.messages[1] == Message("assistant", "wait", {"tool_calls": [call, other]})
    assert mended.messages[2:] == turns[3:]


def test_every_fix_names_the_rules_it_mends() -> None:
    assert {fix.scope for fix in fixes.FIXES.values()} == {"conversation", "rows"}
    for name, fix in fixes.FIXES.items():
        assert fix.name == name
        assert fix.rules
        assert all(rules.MENDED_BY[rule] == name for rule in fix.rules)
    assert set(rules.MENDED_BY.values()) == set(fixes.FIXES)


ROLES = st.sampled_from(["system", "user", "user", "assistant", "assistant", "tool", "gpt"])
TEXTS = st.one_of(
    st.text(max_size=10),
    st.sampled_from(
        [
            *("", " ", "\u3000", "\u200b", "hi", " hi\n", "yes<|im_end|>", "</s>", "no </s> \n", "[/INST]"),
            *("13812345678", "li@qq.com", "a@b.com@c.com", "1381234567813912345678", "11010519491231002X"),
            *("6222020200001234562", "sk-4f8a1c9e2b7d4f6a8c1e3b5d7f9a2c4e", "138 1234 5678 1391234567"),
            *(
                "\u95ee" * 60,
                "word " * 60,
                "\u8fd9\u662f\u4e00\u53e5\u3002" * 20,
                "x" * 500,
                "\ud83d\ude00" * 30,
            ),
        ]
    ),
)
CALLS = {"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
EXTRA = st.sampled_from([None, None, None, CALLS, {"tool_call_id": "c1"}, {"name": "Li"}])
TALKS = st.lists(st.builds(Message, ROLES, st.tuples(TEXTS, TEXTS).map("".join), EXTRA), max_size=7)


@settings(max_examples=1500, deadline=None)
@given(TALKS, st.sampled_from(list(TARGETS)), st.sampled_from([0, 20, 60, 200]))
def test_what_is_mended_breaks_none_of_the_rules_its_fixes_mend(turns: Any, name: str, most: int) -> None:
    conversation, target = Conversation(tuple(turns)), TARGETS[name]
    mended = fixes.mend(conversation, list(fixes.FIXES), target, most)
    if mended is None or not mended.messages:
        return
    left = check.check_conversation(mended, target, max_tokens=most)
    assert [(one.rule, one.field, one.value) for one in left if one.fix] == []
    assert fixes.mend(mended, list(fixes.FIXES), target, most) is mended


@settings(max_examples=500, deadline=None)
@given(TALKS, st.sets(st.sampled_from(list(fixes.FIXES))), st.sampled_from([0, 60]))
def test_mending_twice_is_mending_once(turns: Any, names: set[str], most: int) -> None:
    mended = fixes.mend(Conversation(tuple(turns)), names, TARGET, most)
    assert mended is None or fixes.mend(mended, names, TARGET, most) is mended
