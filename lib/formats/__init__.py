"""The shapes datasets come in, and what a record of each becomes: a Conversation.

    messages           {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    sharegpt           {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}
    pairs              {"conversation": [{"input": "…", "output": "…"}, …]}, [["…", "…"], …] or ["…", "…", …]
    alpaca             {"instruction": "…", "input": "…", "output": "…", "history": [["…", "…"]]}
    prompt_completion  {"prompt": "…" or [turns], "completion": "…" or [turns]}
    reasoning          {"Question": "…", "Complex_CoT": "…", "Response": "…"}
    qa                 {"question": "…", "answer": "…"}, with a context too
    rendered           {"text": "<|im_start|>user …"}, and seven other templates (lib/formats/rendered.py)
    tools              messages or sharegpt with calls of tools, and {"tools": […]}
    glaive             {"system": "SYSTEM: … {…}", "chat": "USER: … ASSISTANT: <functioncall> …"}
    xlam               {"query": "…", "tools": "[…]", "answers": "[…]"}

`detect` guesses which one some rows are and which field is whose words: by the fields' names first
(lib/field_names.toml, in ten languages), then by what they hold. What is no conversation is recognised too
(`DECLINED`), so that it can be said why it cannot be used and what to do instead.

To add one: a function from a mapping to `Steps`, a row in FORMATS, a branch in lib/formats/detect.py, its
sentence `format.NAME` in each language, and a head in tests/data/heads.json.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from lib.chat import ROLES as SPEAKERS
from lib.chat import Conversation
from lib.errors import ConvertError, UsageError
from lib.formats import flat, rendered, template, tools, turns
from lib.formats.detect import DECLINED, Guess, detect
from lib.formats.mapping import REASONING, ROLES, Format, Mapping, named

__all__ = [
    "DECLINED",
    "FORMATS",
    "REASONING",
    "ROLES",
    "Format",
    "Guess",
    "Mapping",
    "check_mapping",
    "compiled",
    "detect",
    "problems",
    "to_conversation",
]

_TALK = ("messages", "system")
_FLAT = ("user", "input", "assistant", "reasoning", "system", "history")
_PAIR = ("user", "assistant")

FORMATS: dict[str, Format] = {
    "messages": Format(_TALK, ("messages",), turns.messages),
    "sharegpt": Format(_TALK, ("messages",), turns.sharegpt),
    "pairs": Format(_TALK, ("messages",), turns.pairs),
    "alpaca": Format(_FLAT, _PAIR, flat.alpaca),
    "prompt_completion": Format(_FLAT, _PAIR, turns.prompt_completion),
    "reasoning": Format(_FLAT, _PAIR, flat.qa),
    "qa": Format(_FLAT, _PAIR, flat.qa),
    "rendered": Format(_TALK, ("messages",), rendered.rendered),
    "tools": Format(("messages", "tools", "system"), ("messages",), tools.tools),
    "glaive": Format(_TALK, ("messages",), tools.glaive),
    "xlam": Format(("user", "tools", "assistant", "system"), _PAIR, tools.xlam),
}


def to_conversation(value: Any, mapping: Mapping) -> Conversation:
    """Return what a record becomes.

    The words are taken as they are; a number stands for its digits where those are exact. A list of turns
    keeps its empty ones as "". Raises `ConvertError` naming the field that is missing, empty, or no text. For
    many rows take `compiled`.
    """
    return compiled(mapping)(value)


def compiled(mapping: Mapping) -> Callable[[Any], Conversation]:
    """Return `to_conversation` for one mapping, to be called for many rows: its choices are made once."""
    convert = FORMATS[mapping.format].steps(mapping).convert

    def conversation(value: Any) -> Conversation:
        if type(value) is not dict:
            raise ConvertError("convert.not_object", field="")
        return convert(value)

    return conversation


def problems(value: Any, mapping: Mapping) -> list[ConvertError]:
    """Return everything that keeps a record from becoming a conversation, not only the first."""
    if type(value) is not dict:
        return [ConvertError("convert.not_object", field="")]
    steps = FORMATS[mapping.format].steps(mapping)
    parts: list[Callable[[], object]] = [*steps.parts(value), lambda: steps.convert(value)]
    found: list[ConvertError] = []
    for part in parts:
        try:
            part()
        except ConvertError as error:
            if (error.key, error.facts) not in [(one.key, one.facts) for one in found]:
                found.append(error)
    return found


def check_mapping(mapping: Mapping, columns: Collection[str] = ()) -> None:
    """Raise `UsageError` or `ConvertError` where a mapping cannot work whatever the records hold.

    With the `columns` there are, a column that is not among them is told too.
    """
    if mapping.format not in FORMATS:
        raise UsageError("convert.unknown_format", format=mapping.format, known=", ".join(FORMATS))
    form = FORMATS[mapping.format]
    if mapping.reasoning not in REASONING:
        raise UsageError("convert.unknown_reasoning", value=mapping.reasoning, known=", ".join(REASONING))
    for speaker, role in mapping.roles.items():
        if role not in ("", *SPEAKERS):
            raise UsageError("convert.unknown_speaker", speaker=speaker, role=role, known=", ".join(SPEAKERS))
    used = list(mapping.fields.values())
    if mapping.template:
        if "input" not in form.fields:
            raise UsageError("convert.template_unused", format=mapping.format)
        used += template.columns(mapping.template)
    for role in form.required:
        if not (role == "user" and mapping.template):
            named(mapping, role)
    for column in used:
        if columns and column and column not in columns:
            raise UsageError("convert.unknown_column", column=column, columns=", ".join(columns))
