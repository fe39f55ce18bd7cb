"""Understanding: which shape some rows have, and what each record becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lib import formats
from lib.chat import Conversation
from lib.errors import ConvertError, UsageError
from lib.formats import Mapping

HEADS = json.loads((Path(__file__).parent / "data" / "heads.json").read_text(encoding="utf-8"))
# Shapes the guess gets wrong. Nothing in these rows says who asks, so a person must; listed to be seen.
WRONG = {"review and reply", "title and lyrics"}


def head(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(head for head in HEADS if head["name"] == name)
    return found


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def converted(row: Any, form: str, fields: dict[str, str], **more: str) -> list[tuple[str, str]]:
    return said(formats.to_conversation(row, Mapping(form, fields, **more)))


@pytest.mark.parametrize("name", [head["name"] for head in HEADS])
def test_the_shape_of_a_dataset_is_recognised(name: str) -> None:
    wanted = head(name)
    guess = formats.detect(wanted["rows"])
    right = (guess.format, guess.fields) == (wanted["format"], wanted["fields"])
    assert right == (name not in WRONG), guess
    assert guess.format in ("", *formats.FORMATS, *formats.DECLINED)
    assert (guess.reason == "nothing") == (not guess.format)
    assert 0 <= guess.confidence <= 1


def test_the_score_and_the_wrong_guesses_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    right = 0
    with capsys.disabled():
        for wanted in HEADS:
            guess = formats.detect(wanted["rows"])
            if (guess.format, guess.fields) == (wanted["format"], wanted["fields"]):
                right += 1
            else:
                print(
                    f"\nwrong: {wanted['name']}: {guess.format} {guess.fields} ({guess.confidence})", end=""
                )
        print(f"\ndetected: {right} of {len(HEADS)}", end=" ")
    assert len(HEADS) >= 40
    assert len(HEADS) - right == len(WRONG)


def test_a_guess_from_content_is_less_sure_than_one_from_names() -> None:
    named, half, content = (
        formats.detect(head(name)["rows"])
        for name in ("openai/gsm8k", "only the question is named", "help desk without known names")
    )
    assert named.confidence > half.confidence > content.confidence
    assert (named.reason, half.reason, content.reason) == ("names", "names_and_content", "content")


def test_ids_sources_and_categories_are_never_words() -> None:
    rows = [
        {
            "uid": f"{n:032x}",
            "source_url": f"https://example.org/a/very/long/address/that/goes/on/and/on/{n}",
            "category": "a category that is written out at great length every time",
            "stamp": f"2026-11-{n + 1:02}T10:00:00+00:00",
            "hello": f"Good morning number {n}, how are you?",
            "reaction": f"Very well, thank you, and how is number {n} in the north?",
        }
        for n in range(20)
    ]
    assert formats.detect(rows).fields == {"user": "hello", "assistant": "reaction"}


def test_rows_that_are_nothing_are_nothing() -> None:
    nothing: list[list[Any]] = [[], [1, "x", None], [{}], [{"a": None}], [{"n": 1, "m": [1, 2]}]]
    for rows in nothing:
        assert formats.detect(rows) == formats.Guess()


@pytest.mark.parametrize("name", [h["name"] for h in HEADS if h["format"] in formats.FORMATS])
def test_every_recognised_head_can_be_converted(name: str) -> None:
    wanted = head(name)
    mapping = Mapping(wanted["format"], wanted["fields"])
    for row in wanted["rows"]:
        if "tools" in name:
            with pytest.raises(ConvertError) as caught:
                formats.to_conversation(row, mapping)
            assert caught.value.key == "convert.tool_turn"
        else:
            roles = [role for role, _ in said(formats.to_conversation(row, mapping))]
            assert roles[-1] == "assistant"
            assert "user" in roles


def test_roles_and_forms_are_those_the_pages_ask_for() -> None:
    for form in formats.FORMATS.values():
        assert set(form.required) <= set(form.fields) <= set(formats.ROLES)
    assert not set(formats.FORMATS) & set(formats.DECLINED)
    assert "qa" in formats.FORMATS


QA = {"user": "q", "assistant": "a"}


def test_words_are_taken_as_they_are() -> None:
    row = {"q": "  two  spaces\r\n", "a": "\u2028 \u0000 <b>\n"}
    assert converted(row, "qa", QA) == [("user", row["q"]), ("assistant", row["a"])]


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (-0.5, "-0.5"), (10**30, str(10**30)), (3.25, "3.25"), (100.0, "100.0")],
)
def test_a_number_stands_for_its_digits_where_they_are_exact(value: float, text: str) -> None:
    assert converted({"q": "x", "a": value}, "qa", QA)[1] == ("assistant", text)


@pytest.mark.parametrize(
    ("row", "key", "field"),
    [
        ({"q": "x"}, "missing_field", "a"),
        ({"q": "x", "a": None}, "missing_field", "a"),
        ({"q": "", "a": "x"}, "empty_field", "q"),
        ({"q": "x", "a": " \n\t\u3000"}, "empty_field", "a"),
        ({"q": ["x"], "a": "x"}, "not_text", "q"),
        ({"q": "x", "a": {"text": "y"}}, "not_text", "a"),
        ({"q": "x", "a": True}, "not_text", "a"),
        ({"q": "x", "a": 0.1 + 0.2}, "not_text", "a"),
        ({"q": "x", "a": 1e22}, "not_text", "a"),
        ({"q": "x", "a": float("nan")}, "not_text", "a"),
        ([1], "not_object", ""),
    ],
)
def test_a_field_without_words_is_told(row: Any, key: str, field: str) -> None:
    with pytest.raises(ConvertError) as caught:
        converted(row, "qa", QA)
    assert caught.value.key == f"convert.{key}"
    assert caught.value.facts["field"] == field


def test_system_prompt_from_a_column_or_a_constant() -> None:
    row = {"q": "x", "a": "y", "s": "from the row"}
    assert converted(row, "qa", QA)[0][0] == "user"
    assert converted(row, "qa", QA, system="for all")[0] == ("system", "for all")
    both = QA | {"system": "s"}
    assert converted(row, "qa", both, system="for all")[0] == ("system", "from the row")
    assert converted(row | {"s": ""}, "qa", both, system="for all")[0] == ("system", "for all")
    assert converted(row | {"s": None}, "qa", both)[0] == ("user", "x")
    talk = {"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "x"}]}
    assert converted(talk, "messages", {"messages": "messages"}, system="for all")[0] == ("system", "own")


def test_reasoning_is_dropped_or_put_before_the_answer() -> None:
    row = {"q": "x", "a": "y", "cot": "because\nso"}
    fields = QA | {"reasoning": "cot"}
    assert converted(row, "reasoning", fields)[1] == ("assistant", "y")
    thought = "<think>\nbecause\nso\n</think>\n\ny"
    assert converted(row, "reasoning", fields, reasoning="think")[1] == ("assistant", thought)
    for nothing in (None, "", " "):
        assert converted(row | {"cot": nothing}, "reasoning", fields, reasoning="think")[1] == (
            "assistant",
            "y",
        )
    already = {"q": "x", "a": "<think>\nso\n</think>\n\ny", "cot": "so"}
    assert converted(already, "reasoning", fields, reasoning="think")[1] == ("assistant", already["a"])
    turns = {
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y", "thinking": "so"},
        ]
    }
    assert converted(turns, "messages", {"messages": "messages"})[1] == ("assistant", "y")
    said = converted(turns, "messages", {"messages": "messages"}, reasoning="think")
    assert said[1] == ("assistant", "<think>\nso\n</think>\n\ny")


def test_an_extra_input_follows_an_instruction_and_precedes_a_question() -> None:
    row = {"q": "question", "c": "context", "a": "y"}
    fields = QA | {"input": "c"}
    assert converted(row, "alpaca", fields)[0] == ("user", "question\ncontext")
    assert converted(row, "qa", fields)[0] == ("user", "context\n\nquestion")
    assert converted(row | {"c": ""}, "alpaca", fields)[0] == ("user", "question")


def test_history_comes_before_the_question() -> None:
    fields = QA | {"history": "h"}
    row = {"q": "3", "a": "4", "h": [["1", "2"]]}
    assert converted(row, "alpaca", fields) == [
        ("user", "1"),
        ("assistant", "2"),
        ("user", "3"),
        ("assistant", "4"),
    ]
    for nothing in (list[Any](), None):
        assert len(converted(row | {"h": nothing}, "alpaca", fields)) == 2
    for wrong in ("1, 2", [["1"]], [1]):
        with pytest.raises(ConvertError) as caught:
            converted(row | {"h": wrong}, "alpaca", fields)
        assert caught.value.key == "convert.bad_history"


@pytest.mark.parametrize(
    ("speaker", "role"),
    [
        ("human", "user"),
        ("Human", "user"),
        ("gpt", "assistant"),
        ("bing", "assistant"),
        ("developer", "system"),
    ],
)
def test_speakers_have_many_names(speaker: str, role: str) -> None:
    row = {"talk": [{"from": speaker, "value": "x"}]}
    assert converted(row, "sharegpt", {"messages": "talk"}) == [(role, "x")]


@pytest.mark.parametrize(
    ("talk", "key", "field"),
    [
        ([{"from": "ghost", "value": "x"}], "bad_role", "talk[0].from"),
        ([{"value": "x"}], "missing_field", "talk[0].from"),
        ([{"from": "human", "value": "x"}, {"from": "gpt", "value": ""}], "empty_field", "talk[1].value"),
        ([{"from": "human"}], "missing_field", "talk[0].value"),
        ([{"from": "human", "value": {"x": 1}}], "not_text", "talk[0].value"),
        ([{"from": "observation", "value": "x"}], "tool_turn", "talk[0]"),
        (["hello"], "bad_turn", "talk[0]"),
        ([], "empty_field", "talk"),
        ("hello", "not_turns", "talk"),
        (None, "missing_field", "talk"),
    ],
)
def test_a_broken_turn_is_told_with_its_place(talk: Any, key: str, field: str) -> None:
    with pytest.raises(ConvertError) as caught:
        converted({"talk": talk}, "sharegpt", {"messages": "talk"})
    assert (caught.value.key, caught.value.facts["field"]) == (f"convert.{key}", field)


def test_text_in_parts_is_joined_and_pictures_are_refused() -> None:
    parts = [{"type": "text", "text": "look: "}, {"type": "text", "text": "here"}]
    row = {"m": [{"role": "user", "content": parts}]}
    assert converted(row, "messages", {"messages": "m"}) == [("user", "look: here")]
    parts.append({"type": "image_url", "url": "x"})
    with pytest.raises(ConvertError):
        converted(row, "messages", {"messages": "m"})


def test_prompt_and_completion_may_be_turns() -> None:
    row = {"p": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}], "c": "y"}
    fields = {"user": "p", "assistant": "c"}
    assert converted(row, "prompt_completion", fields) == [("system", "s"), ("user", "x"), ("assistant", "y")]
    assert converted({"p": "x", "c": "y"}, "prompt_completion", fields) == [("user", "x"), ("assistant", "y")]


def test_a_mapping_that_cannot_work_is_told() -> None:
    for mapping, error, key in (
        (Mapping("poem", QA), UsageError, "convert.unknown_format"),
        (Mapping("qa", QA, reasoning="loud"), UsageError, "convert.unknown_reasoning"),
        (Mapping("qa", {"user": "q"}), ConvertError, "convert.no_role"),
    ):
        with pytest.raises(error) as caught:
            formats.check_mapping(mapping)
        assert caught.value.key == key
