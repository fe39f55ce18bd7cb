"""Understanding, shape by shape: templates, rendered text, calls of tools; and what holds for every shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import formats
from lib.chat import Conversation, Message
from lib.errors import ConvertError, UsageError
from lib.formats import Mapping

ANSWER = {"assistant": "a"}


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def filled(template: str, **row: Any) -> str:
    return formats.to_conversation(row | {"a": "y"}, Mapping("qa", ANSWER, template=template)).first("user")


def read(text: str, **more: Any) -> list[tuple[str, str]]:
    return said(formats.to_conversation({"text": text}, Mapping("rendered", {"messages": "text"}, **more)))


# --- templates


@pytest.mark.parametrize(
    ("template", "row", "question"),
    [
        ("{q}\n\nBackground: {c}", {"q": "x", "c": "z"}, "x\n\nBackground: z"),
        ("{q}\n\nBackground: {c}", {"q": "x", "c": None}, "x"),
        ("{q}\n\nBackground: {c}", {"q": "x"}, "x"),
        ("{q}\n\nBackground: {c}\n\nNow answer.", {"q": "x", "c": " "}, "x\n\nNow answer."),
        ("Read:\n{c}\n\n{q}", {"q": "x", "c": ""}, "Read:\n\nx"),
        ("{c}\n\n{q}", {"q": "x", "c": ""}, "x"),
        ("{q} ({c})", {"q": "x", "c": ""}, "x ()"),
        ("{{{q}}} {{c}}", {"q": "x"}, "{x} {c}"),
        ("{q}", {"q": "{c} \\1 %s {0.__class__}", "c": "z"}, "{c} \\1 %s {0.__class__}"),
        ("{q.__class__} {user question}", {"q.__class__": 1, "user question": 2.5}, "1 2.5"),
        ("\n{q}\n", {"q": "x"}, "\nx\n"),
        ("{q}\n{q}", {"q": "two\nlines"}, "two\nlines\ntwo\nlines"),
    ],
)
def test_a_template_joins_columns(template: str, row: dict[str, Any], question: str) -> None:
    assert filled(template, **row) == question


def test_a_template_without_words_is_told_like_an_empty_field() -> None:
    for row, key in (({"q": "", "c": None}, "convert.empty_field"), ({}, "convert.missing_field")):
        with pytest.raises(ConvertError) as caught:
            filled("{q} {c}", **row)
        assert (caught.value.key, caught.value.facts["field"]) == (key, "q")
    with pytest.raises(ConvertError) as caught:
        filled("{q} {c}", q="x", c=["y"])
    assert (caught.value.key, caught.value.facts["field"]) == ("convert.not_text", "c")


@pytest.mark.parametrize("template", ["{", "}", "{q} {", "{}", "{q{c}}", "a } b {q}"])
def test_a_template_with_a_lone_brace_is_told(template: str) -> None:
    with pytest.raises(UsageError) as caught:
        formats.check_mapping(Mapping("qa", ANSWER, template=template))
    assert caught.value.key == "convert.bad_template"


def test_a_template_stands_in_for_question_and_input_and_keeps_the_rest() -> None:
    row = {"q": "x", "c": "z", "a": "y", "s": "own", "h": [["1", "2"]]}
    fields = ANSWER | {"user": "q", "input": "c", "system": "s", "history": "h"}
    for form in ("qa", "alpaca", "reasoning", "prompt_completion"):
        talk = formats.to_conversation(row, Mapping(form, fields, template="<{c}>"))
        assert said(talk)[-2:] == [("user", "<z>"), ("assistant", "y")]
        assert said(talk)[0] == ("system", "own")


# --- rendered text

TWO = [("user", "Hi there"), ("assistant", "Hello!\n\nHow are you?")]
FOUR = [("system", "Be kind."), *TWO, ("user", "Fine."), ("assistant", "Good.")]
RENDERED = {
    "ChatML": (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n"
        "<|im_start|>assistant\nHello!\n\nHow are you?<|im_end|>\n<|im_start|>user\nFine.<|im_end|>\n"
        "<|im_start|>assistant\nGood.<|im_end|>\n"
    ),
    "Llama 3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!\n\nHow are you?<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nFine.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nGood.<|eot_id|>"
    ),
    "Llama 2": (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi there [/INST] Hello!\n\nHow are you? </s>"
        "<s>[INST] Fine. [/INST] Good. </s>"
    ),
    "Mistral": (
        "<s>[SYSTEM_PROMPT]Be kind.[/SYSTEM_PROMPT][INST]Hi there[/INST]Hello!\n\nHow are you?</s>"
        "[INST]Fine.[/INST]Good.</s>"
    ),
    "Zephyr": (
        "<|system|>\nBe kind.</s>\n<|user|>\nHi there</s>\n<|assistant|>\nHello!\n\nHow are you?</s>\n"
        "<|user|>\nFine.</s>\n<|assistant|>\nGood.</s>\n"
    ),
    "Phi 3": (
        "<|system|>\nBe kind.<|end|>\n<|user|>\nHi there<|end|>\n"
        "<|assistant|>\nHello!\n\nHow are you?<|end|>\n"
        "<|user|>\nFine.<|end|>\n<|assistant|>\nGood.<|end|>\n<|endoftext|>"
    ),
    "Phi 4": (
        "<|im_start|>system<|im_sep|>Be kind.<|im_end|><|im_start|>user<|im_sep|>Hi there<|im_end|>"
        "<|im_start|>assistant<|im_sep|>Hello!\n\nHow are you?<|im_end|>"
        "<|im_start|>user<|im_sep|>Fine.<|im_end|><|im_start|>assistant<|im_sep|>Good.<|im_end|>"
    ),
    "Vicuna": (
        "Be kind. USER: Hi there ASSISTANT: Hello!\n\nHow are you?</s>USER: Fine. ASSISTANT: Good.</s>"
    ),
    "guanaco": (
        "### System: Be kind.\n### Human: Hi there\n### Assistant: Hello!\n\nHow are you?\n### Human: Fine.\n"
        "### Assistant: Good."
    ),
    "hh-rlhf": (
        "System: Be kind.\n\nHuman: Hi there\n\nAssistant: Hello!\n\nHow are you?\n\n"
        "Human: Fine.\n\nAssistant: Good."
    ),
    "DeepSeek": (
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>Be kind.<\uff5cUser\uff5c>Hi there<\uff5cAssistant\uff5c>"
        "Hello!\n\nHow are you?<\uff5cend\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Fine."
        "<\uff5cAssistant\uff5c>Good.<\uff5cend\u2581of\u2581sentence\uff5c>"
    ),
}


@pytest.mark.parametrize("name", RENDERED)
def test_rendered_text_is_taken_apart(name: str) -> None:
    assert read(RENDERED[name]) == FOUR
    guess = formats.detect([{"id": 1, "anything": RENDERED[name]}])
    assert (guess.format, guess.fields) == ("rendered", {"messages": "anything"})


def test_gemma_has_no_system_prompt() -> None:
    text = (
        "<bos><start_of_turn>user\nHi there<end_of_turn>\n"
        "<start_of_turn>model\nHello!\n\nHow are you?<end_of_turn>\n"
    )
    assert read(text) == TWO
    assert read(text, system="Be kind.") == [("system", "Be kind."), *TWO]


def test_the_alpaca_template_is_taken_apart() -> None:
    lead = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
    )
    body = "### Instruction:\nTranslate.\n\n### Input:\nchat\n\n### Response:\ncat: 1\n### 2"
    wanted = [("user", "Translate.\nchat"), ("assistant", "cat: 1\n### 2")]
    assert read(lead + body) == wanted
    assert read("You are a translator.\n\n" + body) == [("system", "You are a translator."), *wanted]
    assert read("### Context:\nA river.\n\n### Question:\nWhere?\n\n### Answer:\nHere.") == [
        ("user", "A river.\n\nWhere?"),
        ("assistant", "Here."),
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("A text about whales, which live in the sea.", "convert.not_rendered"),
        (
            "before <|im_start|>user\nx<|im_end|> between <|im_start|>assistant\ny<|im_end|>",
            "convert.not_rendered",
        ),
        ("<s>[INST] a question that never ends", "convert.not_rendered"),
        ("x [INST] q [/INST] a", "convert.not_rendered"),
        ("<|im_start|>wizard\nx<|im_end|>", "convert.bad_role"),
        ("<|user|>x<|end|><|observation|>{}<|end|>", "convert.tool_turn"),
        ("[AVAILABLE_TOOLS] [][/AVAILABLE_TOOLS][INST] q [/INST] a", "convert.tool_turn"),
        ("  ", "convert.empty_field"),
    ],
)
def test_text_that_is_no_rendered_conversation_is_told(text: str, key: str) -> None:
    with pytest.raises(ConvertError) as caught:
        read(text)
    assert (caught.value.key, caught.value.facts["field"]) == (key, "text")


def test_rendered_speakers_can_be_mapped_and_thoughts_dropped() -> None:
    text = "<|im_start|>wizard\nx<|im_end|><|im_start|>assistant\n<think>z</think>y<|im_end|>"
    assert read(text, roles={"wizard": "user"}, reasoning="drop") == [("user", "x"), ("assistant", "y")]
    assert read("Wizard: x\nAI: y", roles={"wizard": "user"}) == [("user", "x"), ("assistant", "y")]


def test_marks_of_others_inside_an_answer_are_words() -> None:
    quiz = "Sure.\nQ: why?\nA: because.\nContext: none\nuser: x\nSystem: down"
    assert read(f"Human: Make a quiz.\n\nAssistant: {quiz}\n\nHuman: Thanks") == [
        ("user", "Make a quiz."),
        ("assistant", quiz),
        ("user", "Thanks"),
    ]
    page = "# Tea\n### Answer\nyes\n### Input:\nleaves"
    assert read(f"### Instruction:\nWrite.\n\n### Response:\n{page}") == [
        ("user", "Write."),
        ("assistant", page),
    ]


def test_running_text_with_a_talk_in_it_is_not_taken_for_a_conversation() -> None:
    lead = "It was a long evening by the sea, and nobody had much to say. " * 60
    assert formats.detect([{"text": f"{lead}\nQ: why?\nA: because."}]).format == "text"


# --- tools


def test_calls_in_openai_shape_are_kept() -> None:
    call = {"id": "c9", "type": "function", "function": {"name": "f", "arguments": '{"x":  1.50}'}}
    row = {
        "m": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c9", "name": "f", "content": "3"},
            {"role": "assistant", "content": "Three.", "tool_calls": None},
        ],
        "t": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    }
    talk = formats.to_conversation(row, Mapping("tools", {"messages": "m", "tools": "t"}))
    assert talk.messages == (
        Message("user", "go"),
        Message("assistant", "", {"tool_calls": [call]}),
        Message("tool", "3", {"tool_call_id": "c9", "name": "f"}),
        Message("assistant", "Three."),
    )
    assert talk.tools == row["t"]
    assert talk.as_json()["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [call]}


def test_arguments_that_are_an_object_become_json_text() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 10**30, "y": "\u00e9", "z": 0.1}}}
    row = {"m": [{"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": [call]}]}
    talk = formats.to_conversation(row, Mapping("tools", {"messages": "m"}))
    assert talk.messages[1].extra == {
        "tool_calls": [
            {
                "type": "function",
                "function": {"name": "f", "arguments": f'{{"x": {10**30}, "y": "\u00e9", "z": 0.1}}'},
            }
        ]
    }


def test_sharegpt_calls_keep_the_characters_of_their_arguments() -> None:
    row = {
        "c": [
            {"from": "human", "value": "go"},
            {
                "from": "function_call",
                "value": '[{"name": "f", "arguments": {"x":1.50, "y" : "\\u00e9"}},{"name":"g"}]',
            },
            {"from": "observation", "value": "3"},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": "Seven."},
        ],
        "tools": '[{"name": "f", "parameters": {"n": 1e400}}]'.replace("1e400", "12345678901234567890123"),
        "s": "Use them.",
    }
    fields = {"messages": "c", "tools": "tools", "system": "s"}
    talk = formats.to_conversation(row, Mapping("tools", fields))
    assert [message.role for message in talk.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    calls = (talk.messages[2].extra or {})["tool_calls"]
    assert [call["id"] for call in calls] == ["call_1", "call_2"]
    assert [call["function"]["arguments"] for call in calls] == ['{"x":1.50, "y" : "\\u00e9"}', "{}"]
    assert [m.extra for m in talk.messages[3:5]] == [{"tool_call_id": "call_1"}, {"tool_call_id": "call_2"}]
    parameters = {"n": 12345678901234567890123}
    assert talk.tools == [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


def test_xlam_answers_become_calls() -> None:
    row = {
        "query": "weather",
        "tools": '[{"name": "w", "parameters": {"city": {"type": "str"}}}]',
        "answers": '[{"name": "w", "arguments": {"city": "Oslo", "days": 2.0}}]',
    }
    fields = {"user": "query", "tools": "tools", "assistant": "answers"}
    talk = formats.to_conversation(row, Mapping("xlam", fields, system="Be kind."))
    call = {"name": "w", "arguments": '{"city": "Oslo", "days": 2.0}'}
    assert talk.messages == (
        Message("system", "Be kind."),
        Message("user", "weather"),
        Message("assistant", "", {"tool_calls": [{"id": "call_1", "type": "function", "function": call}]}),
    )
    for wrong, key in (
        ("[]", "empty_field"),
        ("", "empty_field"),
        (None, "missing_field"),
        ("{", "bad_call"),
    ):
        with pytest.raises(ConvertError) as caught:
            formats.to_conversation(row | {"answers": wrong}, Mapping("xlam", fields))
        assert (caught.value.key, caught.value.facts["field"]) == (f"convert.{key}", "answers")
    found = formats.problems({"tools": "nonsense"}, Mapping("xlam", fields))
    assert [e.key for e in found] == ["convert.missing_field", "convert.missing_field", "convert.bad_tools"]


def test_glaive_is_taken_apart() -> None:
    row = {
        "system": (
            "SYSTEM: You may use these -\n"
            '{"name": "a", "parameters": {}}\n\n{"name": "b", "parameters": {}}\n'
        ),
        "chat": (
            "USER: It's for me: go!\n\n\nASSISTANT: Let me see. <functioncall> "
            '{"name": "a", "arguments": \'{"who": "it\\\'s me", "n": 1.50}\'} <|endoftext|>\n\n\n'
            'FUNCTION RESPONSE: {"ok": true}\n\n\nASSISTANT: Done. <|endoftext|>\n\n\n'
        ),
    }
    talk = formats.to_conversation(row, Mapping("glaive", {"messages": "chat", "system": "system"}))
    function = {"name": "a", "arguments": '{"who": "it\'s me", "n": 1.50}'}
    assert talk.messages == (
        Message("system", "You may use these -"),
        Message("user", "It's for me: go!"),
        Message(
            "assistant",
            "Let me see.",
            {"tool_calls": [{"id": "call_1", "type": "function", "function": function}]},
        ),
        Message("tool", '{"ok": true}', {"tool_call_id": "call_1"}),
        Message("assistant", "Done."),
    )
    assert [tool["function"]["name"] for tool in talk.tools or []] == ["a", "b"]
    plain = row | {"system": "SYSTEM: You have no tools {yet}.", "chat": "USER: a ASSISTANT: b"}
    talk = formats.to_conversation(plain, Mapping("glaive", {"messages": "chat", "system": "system"}))
    assert talk.first("system") == "You have no tools {yet}."
    assert talk.tools is None


def test_nesting_without_end_is_told() -> None:
    deep = "[" * 100_000
    row = {"q": "x", "a": f'[{{"name": "f", "arguments": {deep}}}]', "t": deep}
    keys = [e.key for e in formats.problems(row, Mapping("xlam", FLAT | {"tools": "t"}))]
    assert keys == ["convert.bad_call", "convert.bad_tools"]
    assert formats.detect([{"query": "x", "tools": deep, "answers": row["a"]}]).format != "xlam"


def test_a_tool_turn_outside_the_format_for_tools_is_told() -> None:
    for turn in ({"role": "tool", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}):
        with pytest.raises(ConvertError) as caught:
            formats.to_conversation({"m": [turn]}, Mapping("messages", {"messages": "m"}))
        assert (caught.value.key, caught.value.facts["field"]) == ("convert.tool_turn", "m[0]")
        left = formats.to_conversation(
            {"m": [turn]}, Mapping("messages", {"messages": "m"}, roles={"tool": "", "assistant": ""})
        )
        assert left.messages == ()


# --- every shape

WORDS = (
    st.text(max_size=30)
    | st.text(alphabet=" \n\t\u3000", max_size=3)
    | st.sampled_from(["<think>a</think>b"])
)
VALUES = WORDS | st.none() | st.integers() | st.floats() | st.booleans() | st.lists(WORDS, max_size=2)
SPEAKERS = (
    st.sampled_from(["user", "human", "Human", "assistant", "gpt", "system", "tool", "ghost", "ad"])
    | st.none()
)


def turns(who: str, what: str) -> st.SearchStrategy[Any]:
    turn = st.fixed_dictionaries(
        {}, optional={who: SPEAKERS, what: VALUES, "text": WORDS, "reasoning": VALUES}
    )
    return st.lists(turn | st.none(), max_size=4) | st.none() | WORDS


RECORD = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys("qaicsr", VALUES),
        "h": st.lists(st.lists(WORDS, min_size=2, max_size=2), max_size=2) | VALUES,
        "m": turns("role", "content"),
        "g": turns("from", "value"),
        "p": st.lists(st.fixed_dictionaries({"input": VALUES}, optional={"output": VALUES}), max_size=3)
        | st.lists(WORDS, max_size=3),
        "t": st.just('[{"name": "f"}]') | VALUES,
    },
)
FLAT = {"user": "q", "assistant": "a"}
EXTRAS = {"input": "i", "system": "s", "history": "h", "reasoning": "r"}


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    form = draw(st.sampled_from(list(formats.FORMATS)))
    allowed = formats.FORMATS[form].fields
    talk = {"sharegpt": "g", "pairs": "p", "rendered": "q", "glaive": "q"}.get(
        form, draw(st.sampled_from("mg"))
    )
    fields = {"messages": talk} if "messages" in allowed else dict(FLAT)
    more = {role: name for role, name in EXTRAS.items() if role in allowed} | {"tools": "t"}
    chosen = draw(st.sets(st.sampled_from(sorted(more))))
    return Mapping(
        form,
        fields | {role: more[role] for role in chosen if role in allowed},
        system=draw(st.sampled_from(["", "Be kind."])),
        reasoning=draw(st.sampled_from(formats.REASONING)),
        template=draw(st.sampled_from(["", "{q}\n{c}"])) if "input" in allowed else "",
        roles=draw(st.sampled_from([{}, {"ghost": "user", "ad": ""}])),
    )


def outcome(convert: Any, record: Any) -> Any:
    try:
        return convert(record)
    except ConvertError as error:
        return error.key, error.facts


@settings(max_examples=600, deadline=None)
@given(mappings(), st.lists(RECORD, min_size=1, max_size=6))
def test_a_compiled_mapping_says_the_same_for_every_record(mapping: Mapping, rows: list[Any]) -> None:
    formats.check_mapping(mapping)
    many = formats.compiled(mapping)
    for row in rows:
        before = repr(row)
        first = outcome(lambda value: formats.to_conversation(value, mapping), row)
        assert outcome(many, row) == first
        assert outcome(many, row) == first  # what it remembers of a row changes nothing
        assert repr(row) == before
        assert bool(formats.problems(row, mapping)) == (not isinstance(first, Conversation))
        if isinstance(first, Conversation):
            assert all(
                type(message) is Message and type(message.content) is str for message in first.messages
            )
            assert {message.role for message in first.messages} <= {"system", "user", "assistant", "tool"}


SAID = st.text(min_size=1, max_size=40).filter(lambda text: not text.isspace())


@settings(max_examples=200, deadline=None)
@given(st.lists(SAID, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_the_words_of_a_record_appear_unchanged(texts: list[str]) -> None:
    roles = ["user", "assistant"] * (len(texts) // 2)
    wanted = list(zip(roles, texts, strict=True))
    speakers = {"user": "human", "assistant": "gpt"}
    earlier = [[texts[at], texts[at + 1]] for at in range(0, len(texts) - 2, 2)]
    flat = {"q": texts[-2], "a": texts[-1], "h": earlier}
    rows: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        ("messages", {"messages": "m"}, {"m": [{"role": role, "content": text} for role, text in wanted]}),
        ("tools", {"messages": "m"}, {"m": [{"role": role, "content": text} for role, text in wanted]}),
        (
            "sharegpt",
            {"messages": "m"},
            {"m": [{"from": speakers[role], "value": text} for role, text in wanted]},
        ),
        ("pairs", {"messages": "m"}, {"m": [{"input": q, "output": a} for q, a in [*earlier, texts[-2:]]]}),
        ("pairs", {"messages": "m"}, {"m": texts}),
        (
            "prompt_completion",
            FLAT,
            {"q": [{"role": r, "content": t} for r, t in wanted[:-1]], "a": texts[-1]},
        ),
        *(
            (form, FLAT | {"history": "h"}, flat)
            for form in ("qa", "alpaca", "reasoning", "prompt_completion")
        ),
    ]
    for form, fields, row in rows:
        assert said(formats.to_conversation(row, Mapping(form, fields))) == wanted, form
    template = formats.to_conversation(flat, Mapping("qa", {"assistant": "a"}, template="Q: {q}\n{q}"))
    assert template.first("user") == f"Q: {texts[-2]}\n{texts[-2]}"


# what a template of its own could be taken for its marks; those are told apart by nobody
PLAIN = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="<>[]|#:\uff1a\uff5c\u2581"), min_size=1
)


@settings(max_examples=100, deadline=None)
@given(st.lists(PLAIN.map(str.strip).filter(bool), min_size=2, max_size=4))
def test_the_words_of_rendered_text_appear_unchanged(texts: list[str]) -> None:
    wanted = [(("user", "assistant")[place % 2], text) for place, text in enumerate(texts)]
    marks = {"user": "Human", "assistant": "Assistant"}
    templates = {
        "ChatML": "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in wanted),
        "Llama 3": "".join(
            f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in wanted
        ),
        "Zephyr": "".join(f"<|{role}|>\n{text}</s>\n" for role, text in wanted),
        "hh-rlhf": "".join(f"\n\n{marks[role]}: {text}" for role, text in wanted),
        "guanaco": "".join(f"### {marks[role]}: {text}\n" for role, text in wanted),
    }
    for name, text in templates.items():
        assert read(text) == wanted, name


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=6,
    )
)
def test_the_arguments_of_a_call_keep_their_characters(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        row = {"q": "x", "a": f'[ {{"arguments" : {text} , "name":"f"}} ]'}
        talk = formats.to_conversation(row, Mapping("xlam", FLAT))
        function = (talk.messages[-1].extra or {})["tool_calls"][0]["function"]
        assert function["arguments"] == (value if isinstance(value, str) else text)
