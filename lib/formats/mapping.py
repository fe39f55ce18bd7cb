"""What a mapping says, and the words of a record: what the other modules of this package are built on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from lib.chat import Conversation, Message
from lib.errors import ConvertError

# Every role a field can have, in the order they are asked for.
ROLES = ("messages", "user", "input", "assistant", "reasoning", "system", "history", "tools")
REASONING = ("keep", "drop", "think")

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mapping:
    """How records become conversations: their format, and which field has which role.

    `system` is put in front where a record has no system prompt of its own. `template` joins several columns
    into the question: "{instruction}\\n\\nBackground: {context}" (lib/formats/template.py); it stands in for
    the roles user and input. `roles` names speakers beyond the known ones: {"narrator": "user"}; "" leaves
    the turns of a speaker out.

    `reasoning` says what becomes of thoughts, in a column of that role, under a key of a turn
    (`reasoning_content`), or in <think> before an answer:
    "keep"   answers stay as they are, word for word; a separate column of thoughts is not used
    "drop"   <think>…</think> at the beginning of an answer is taken away too
    "think"  thoughts from a column or a key are put in <think> before the answer, unless it begins with one
    """

    format: str
    fields: dict[str, str] = field(default_factory=dict)
    system: str = ""
    reasoning: str = "keep"
    template: str = ""
    roles: dict[str, str] = field(default_factory=dict)


class Steps(NamedTuple):
    """A format made ready for one mapping.

    `parts` gives what `convert` needs of a record one by one, so that every problem can be told.
    """

    convert: Callable[[Record], Conversation]
    parts: Callable[[Record], Iterable[Callable[[], object]]]


@dataclass(frozen=True, slots=True)
class Format:
    """One shape: the roles its fields can have, those it cannot do without, and what makes it ready."""

    fields: tuple[str, ...]
    required: tuple[str, ...]
    steps: Callable[[Mapping], Steps]


def named(mapping: Mapping, role: str) -> str:
    """Return the field that has a role; raise where there must be one and is none."""
    name = mapping.fields.get(role)
    if not name:
        raise ConvertError("convert.no_role", role=role, format=mapping.format)
    return name


def words(value: Any, where: str) -> str:
    """Return the words of a value; raise `ConvertError` where there are none.

    A number stands for its digits where those are exact; a list of text parts for the parts joined.
    """
    if value is None:
        raise ConvertError("convert.missing_field", field=where)
    said = spoken(value, where)
    if not said or said.isspace():
        raise ConvertError("convert.empty_field", field=where)
    return said


def spoken(value: Any, where: str) -> str:
    """Return the words of a value, "" where there are none; raise where it is something else."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_part(part) for part in value):
        return "".join(part["text"] for part in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and _EXACT.fullmatch(repr(value)):
        return repr(value)
    raise ConvertError("convert.not_text", field=where, kind=_KINDS.get(type(value), type(value).__name__))


def optional(value: Any, where: str) -> str:
    """Return the words of a value, "" where it is missing, null or blank."""
    said = spoken(value, where)
    return "" if said.isspace() else said


def unpacked(value: Any) -> Any:
    """Return a list that a table holds as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def system_of(mapping: Mapping) -> Callable[[Record], tuple[Message, ...]]:
    """Return a function that gives a record's system prompt: of its column, else the constant."""
    column = mapping.fields.get("system", "")
    constant = (Message("system", mapping.system),) if mapping.system else ()

    def system(record: Record) -> tuple[Message, ...]:
        own = optional(record.get(column), column)
        return (Message("system", own),) if own else constant

    return system if column else lambda _record: constant


def thought(reasoning: str, answer: str) -> str:
    """Put thoughts in <think> before an answer, as LLaMA-Factory and DeepSeek-R1 write them."""
    if not reasoning or reasoning.isspace() or answer.lstrip().startswith("<think>"):
        return answer
    return f"<think>\n{reasoning}\n</think>\n\n{answer}"


def unthought(answer: str) -> str:
    """Take <think>…</think> at the beginning away; "" is left where the thoughts never end."""
    if answer[:1] > "<":  # told without a copy that it is not there
        return answer
    trimmed = answer.lstrip()
    if not trimmed.startswith("<think>"):
        return answer
    _, closed, rest = trimmed.partition("</think>")
    return rest.lstrip() if closed else ""


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


# A float of up to 15 digits is written as it was read; a longer one may have been rounded.
_EXACT = re.compile(r"-?(?=[\d.]{1,16}$)\d+\.\d+")
_KINDS = {dict: "object", list: "list", bool: "true/false", float: "number"}
