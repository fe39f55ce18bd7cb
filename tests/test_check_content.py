"""What a text should not hold: found where it is, and not where it only looks as if."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import check
from lib.chat import Conversation, Message
from lib.check import content

CASES: dict[str, dict[str, list[str]]] = tomllib.loads(
    (Path(__file__).parent / "data" / "content.toml").read_text(encoding="utf-8")
)
DATA: dict[str, Any] = tomllib.loads(
    (Path(content.__file__).parent.parent / "content.toml").read_text(encoding="utf-8")
)
YES = [(rule, text) for rule, cases in CASES.items() for text in cases.get("yes", [])]
NO = [(rule, text) for rule, cases in CASES.items() for text in cases["no"]]
TARGET = check.targets()["siliconflow"]


def found(text: str, role: str = "assistant") -> set[str]:
    return {rule for rule, _ in content.found(text, role)}


@pytest.mark.parametrize(("rule", "text"), YES)
def test_what_should_not_be_there_is_found(rule: str, text: str) -> None:
    assert found(text) == {rule}


@pytest.mark.parametrize(("_rule", "text"), NO)
def test_what_only_looks_as_if_is_not_found(_rule: str, text: str) -> None:
    assert found(text) == set()


@pytest.mark.parametrize("text", [text for rule in CASES for text in CASES[rule]["no"]])
def test_harmless_texts_are_harmless_within_longer_ones(text: str) -> None:
    around = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002"
    if text not in CASES["mojibake"]["no"]:
        assert found(f"{around}\n{text}\n{around}") == set()


def test_only_answers_refuse_say_nothing_or_bring_tags() -> None:
    for rule in ("refusal", "hollow_answer"):
        for text in CASES[rule]["yes"]:
            assert found(text, "user") == set()
    assert found("<p>Hello</p>", "user") == set()
    assert found("hello <|im_end|> there", "user") == {"markup"}
    assert found("hello <|im_end|>", "user") == {"template_end"}


def test_tags_are_no_leftovers_where_the_talk_is_about_them() -> None:
    asked, answer = "How do I write this in HTML?", "<p>Hello</p>"
    assert "markup" in found(answer)
    assert list(content.found(answer, "assistant", (asked, answer))) == []
    assert list(content.found(answer, "assistant", ("mend <b>this</i>", answer))) == []


@pytest.mark.parametrize(
    "rule, text",
    [(rule, text) for rule, text in YES if rule in content.PERSONAL],
)
def test_nothing_personal_is_shown_in_full(rule: str, text: str) -> None:
    (span,) = content.personal(text)
    value = text[span.start : span.end]
    shown = [value for _, value in content.found(text, "user")]
    assert shown == [f"{value[:2]}{'*' * (len(value) - 4)}{value[-2:]}"]
    assert value not in content.masked(text)
    assert content.without_personal(text) == text.replace(value, "***")
    talk = Conversation((Message("user", f" {text} "), Message("assistant", "ok, fine")))
    findings = check.check_conversation(talk, TARGET)
    assert {finding.rule for finding in findings} == {rule, "padded"}
    assert not any(value in finding.value for finding in findings)


def test_several_personal_values_in_one_text_are_all_found() -> None:
    text = "13812345678 13912345678, li@qq.com and 11010519491231002X"
    assert [span.rule for span in content.personal(text)] == ["phone", "phone", "email", "id_card"]
    assert content.without_personal(text) == "*** ***, *** and ***"


def test_a_sentence_said_over_and_over_is_found() -> None:
    said = "\u6211\u4eec\u8981\u52aa\u529b\u5b66\u4e60\u3002"
    assert content.repeated(said * 20) == said[:-1]
    assert content.repeated("\u5148\u8bf4\u4e00\u53e5\u3002" + said * 30) == said[:-1]
    assert content.repeated(said * 12) == ""
    assert content.repeated("I will not do it again. " * 25) == "I will not do it again"
    assert content.repeated("```\n" + "    return None\n" * 30 + "```") == ""
    assert (
        content.repeated("".join(f"\u7b2c{n}\u6b21\u8bd5\u9a8c\u6210\u529f\u3002" for n in range(40))) == ""
    )
    assert content.repeated("-" * 400) == ""


def test_every_refusal_has_a_hint() -> None:
    for phrase in DATA["refusal"]["phrases"]:
        capital = phrase[0].upper() + phrase[1:]
        said = capital.replace(" ai", " AI").replace("i'm", "I'm")
        assert any(hint in said for hint in DATA["refusal"]["hints"]), phrase
        assert content.refusal(said + " and so on") == said, phrase


PIECES = [text for _, text in YES + NO]
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
    st.tuples(st.sampled_from(PIECES), st.integers(1, 30)).map(lambda pair: pair[0] * pair[1]),
    st.text(
        alphabet="1234567890 -.@<>/&;#[]|\u4f60\u597d\u3002\ufffd\ud800abkspAKI_=\u00e9\u00c3\u00a9",
        max_size=60,
    ),
)


@settings(max_examples=500, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(["siliconflow", "trl"]))
def test_the_quick_look_never_misses_what_the_long_one_finds(asked: str, answer: str, name: str) -> None:
    target = check.targets()[name]
    talk = Conversation((Message("user", asked), Message("assistant", answer)))
    assert list(check.checker(target)(talk)) == check.check_conversation(talk, target)


@settings(max_examples=1000, deadline=None)
@given(TEXTS)
def test_what_is_clean_at_a_glance_is_clean(text: str) -> None:
    if content.clean(text):
        assert (content.mojibake(text), content.personal(text), content.without_end(text)) == ("", [], text)
        assert content.leftover(text, "assistant") == ""
    if content.clean_answer(text):
        assert (content.refusal(text), content.repeated(text)) == ("", "")
        assert len(text) > 40 or not content.hollow(text)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_what_is_masked_holds_nothing_personal(text: str) -> None:
    assert content.personal(content.without_personal(text)) == []
    assert content.without_end(content.without_end(text)) == content.without_end(text)
