"""Records that teach the calling of tools -> the shape OpenAI uses.

A call is an assistant's message with `tool_calls`: [{"type": "function", "function": {"name", "arguments"}}];
`arguments` is JSON text. Where a record holds JSON text, the arguments are the very characters that stood
there; where it holds an object, it is written as JSON once. What a tool says is a message of the role `tool`.
Where a dataset has no ids, calls are numbered call_1, call_2, … and answers refer to them in that order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lib.chat import Conversation, Message
from lib.errors import ConvertError
from lib.formats.mapping import (
    Mapping,
    Record,
    Steps,
    named,
    optional,
    spoken,
    system_of,
    unthought,
    words,
)
from lib.formats.names import names, plain
from lib.formats.turns import speaking, turn_list

_KEPT = ("tool_calls", "tool_call_id", "name")
_CALLING = ("functioncall", "toolcall")


def tools(mapping: Mapping) -> Steps:
    """Lists of turns with tool calls: of OpenAI's shape, or ShareGPT's with function_call and observation."""
    name, listing = named(mapping, "messages"), mapping.fields.get("tools", "")
    system = system_of(mapping)

    def talk(record: Record) -> Iterator[Callable[[], Message | None]]:
        numbers = _Numbers()
        shapes = {shape: speaking(mapping, shape, partial(_turn, numbers)) for shape in names().turns}
        for place, turn in enumerate(turn_list(record.get(name), name)):
            shape = "sharegpt" if isinstance(turn, dict) and "from" in turn else "messages"
            yield partial(shapes[shape], turn, f"{name}[{place}]")

    def convert(record: Record) -> Conversation:
        said = [message for one in talk(record) if (message := one())]
        listed = _listing(record, listing)
        if not said or said[0].role != "system":
            said[:0] = system(record)
        return Conversation(tuple(said), listed)

    def parts(record: Record) -> Iterator[Callable[[], object]]:
        try:
            yield from list(talk(record))
        except ConvertError:
            yield lambda: turn_list(record.get(name), name)
        yield lambda: _listing(record, listing)
        yield lambda: system(record)

    return Steps(convert, parts)


def xlam(mapping: Mapping) -> Steps:
    """A question, the tools there are, and the right calls, the last two as JSON text."""
    user, assistant = named(mapping, "user"), named(mapping, "assistant")
    listing, system = mapping.fields.get("tools", ""), system_of(mapping)

    def answer(record: Record) -> Message:
        value = record.get(assistant)
        if value is None or value == "":
            words(value, assistant)
        calls = _calls(value, assistant, _Numbers())
        if not calls:
            raise ConvertError("convert.empty_field", field=assistant)
        return Message("assistant", "", {"tool_calls": calls})

    def convert(record: Record) -> Conversation:
        turns = (Message("user", words(record.get(user), user)), answer(record))
        return Conversation((*system(record), *turns), _listing(record, listing))

    def parts(record: Record) -> Iterator[Callable[[], object]]:
        yield lambda: words(record.get(user), user)
        yield lambda: answer(record)
        yield lambda: _listing(record, listing)
        yield lambda: system(record)

    return Steps(convert, parts)


def glaive(mapping: Mapping) -> Steps:
    """One text with USER:, ASSISTANT:, <functioncall>, FUNCTION RESPONSE:; the tools in the system text."""
    name, column = named(mapping, "messages"), mapping.fields.get("system", "")
    constant = Message("system", mapping.system)

    def lead(record: Record) -> tuple[str, list[Any] | None]:
        return _introduced(optional(record.get(column), column)) if column else ("", None)

    def convert(record: Record) -> Conversation:
        said = _glaive_turns(words(record.get(name), name), name, mapping)
        own, listed = lead(record)
        first = (Message("system", own),) if own else (constant,) if mapping.system else ()
        return Conversation((*first, *said), listed)

    def parts(record: Record) -> Iterator[Callable[[], object]]:
        yield lambda: _glaive_turns(words(record.get(name), name), name, mapping)
        yield lambda: lead(record)

    return Steps(convert, parts)


def is_glaive(text: str) -> bool:
    """Return whether a text looks like a conversation of `glaive`."""
    return bool(_GLAIVE.search(text)) and ("<functioncall>" in text or "FUNCTION RESPONSE:" in text)


# --- the turns of tools


class _Numbers:
    """Number the calls of a conversation, and tell which of them an answer belongs to."""

    def __init__(self) -> None:
        self.made = 0
        self.open: list[str] = []

    def next(self) -> str:
        self.made += 1
        self.open.append(f"call_{self.made}")
        return self.open[-1]

    def answered(self) -> dict[str, Any] | None:
        return {"tool_call_id": self.open.pop(0)} if self.open else None


def _turn(numbers: _Numbers, turn: dict[str, Any], where: str) -> Message:
    """Return the message of a turn that calls a tool, or is its answer."""
    key = next((key for key in ("content", "value", "text") if key in turn), "content")
    if turn.get("tool_calls"):
        given = turn["tool_calls"]
        if not isinstance(given, list):
            raise ConvertError("convert.bad_call", field=f"{where}.tool_calls")
        calls = [_given_call(call, f"{where}.tool_calls[{place}]") for place, call in enumerate(given)]
        return Message("assistant", spoken(turn.get(key), f"{where}.{key}"), {"tool_calls": calls})
    speaker = plain(str(turn.get("role", turn.get("from"))))
    if speaker in _CALLING:
        calls = _calls(turn.get(key), f"{where}.{key}", numbers)
        return Message("assistant", "", {"tool_calls": calls})
    if key not in turn:
        raise ConvertError("convert.missing_field", field=f"{where}.{key}")
    kept = {name: turn[name] for name in _KEPT[1:] if turn.get(name) is not None}
    value = turn[key]
    said = _json(value, f"{where}.{key}") if isinstance(value, dict) else spoken(value, f"{where}.{key}")
    return Message("tool", said, kept or numbers.answered())


def _given_call(call: Any, where: str) -> dict[str, Any]:
    """Return a call of OpenAI's shape, its arguments as JSON text."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ConvertError("convert.bad_call", field=where)
    identity = {"id": call["id"]} if call.get("id") is not None else {}
    return {**identity, "type": "function", "function": _function(function, where)}


def _calls(value: Any, where: str, numbers: _Numbers) -> list[dict[str, Any]]:
    """Return calls given as a list or one, as JSON text or not, in OpenAI's shape."""
    functions = _functions(value) if isinstance(value, str) else value
    if isinstance(functions, dict):
        functions = [functions]
    if not isinstance(functions, list):
        raise ConvertError("convert.bad_call", field=where)
    made = []
    for function in functions:
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ConvertError("convert.bad_call", field=where)
        made.append({"id": numbers.next(), "type": "function", "function": _function(function, where)})
    return made


def _function(function: dict[str, Any], where: str) -> dict[str, str]:
    given = function.get("arguments", function.get("parameters"))
    arguments = given if isinstance(given, str) else "{}" if given is None else _json(given, where)
    return {"name": function["name"], "arguments": arguments}


def _json(value: Any, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConvertError("convert.bad_call", field=where) from error


def _functions(text: str) -> list[dict[str, Any]] | None:
    """Return the calls of a JSON text, each `arguments` as the characters that stood there; None if none."""
    text = text.strip()
    try:
        found = json.loads(text)
        pieces = _items(text) if isinstance(found, list) else [text]
        return [
            {key: json.loads(raw) if key == "name" or raw[:1] == '"' else raw for key, raw in _members(piece)}
            for piece in pieces
        ]
    except (ValueError, RecursionError):
        return None


def _items(text: str) -> list[str]:
    """Return the raw texts of the items of a JSON array."""
    items, at = [], _space(text, 1)
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        items.append(text[at:end])
        at = _space(text, end)
        at = _space(text, at + 1) if text[at] == "," else at
    return items


def _members(text: str) -> list[tuple[str, str]]:
    """Return the keys and the raw values of a JSON object; ValueError where it is none."""
    if text[:1] != "{":
        raise ValueError(text[:20])
    members, at = [], _space(text, 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        begin = _space(text, _space(text, at) + 1)  # behind the colon
        end = _DECODER.raw_decode(text, begin)[1]
        members.append((key, text[begin:end]))
        at = _space(text, end)
        at = _space(text, at + 1) if text[at] == "," else at
    return members


def _space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


_DECODER = json.JSONDecoder()


def _listing(record: Record, where: str) -> list[Any] | None:
    """Return the tools there are, each {"type": "function", "function": {…}}; None where there are none."""
    value = record.get(where) if where else None
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return None
    try:
        given = json.loads(value) if isinstance(value, str) else value
        given = [json.loads(tool) if isinstance(tool, str) else tool for tool in _as_list(given)]
    except (ValueError, RecursionError) as error:
        raise ConvertError("convert.bad_tools", field=where) from error
    if not all(isinstance(tool, dict) for tool in given):
        raise ConvertError("convert.bad_tools", field=where)
    return [_tool(tool) for tool in given] or None


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise ValueError(str(value)[:20])
    return value


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": tool} if "name" in tool and "function" not in tool else tool


# --- glaive

_GLAIVE = re.compile(r"(?:\A|(?<=\s))(USER|ASSISTANT|FUNCTION RESPONSE):")
_AT_LINE = re.compile(r"(?m)^[ \t]*(USER|ASSISTANT|FUNCTION RESPONSE):")
_CALL = re.compile(
    r"\{\s*\"name\"\s*:\s*(\"(?:[^\"\\]|\\.)*\")\s*,\s*\"arguments\"\s*:\s*(.*)\}\s*\Z", re.DOTALL
)


def _glaive_turns(text: str, where: str, mapping: Mapping) -> list[Message]:
    starts = list(_AT_LINE.finditer(text))
    if len(starts) < 2:
        starts = list(_GLAIVE.finditer(text))
    if not starts or text[: starts[0].start()].strip():
        raise ConvertError("convert.not_rendered", field=where)
    numbers = _Numbers()
    said = []
    ends = [start.start() for start in starts[1:]] + [len(text)]
    for start, end in zip(starts, ends, strict=True):
        content = text[start.end() : end].strip().removesuffix("<|endoftext|>").rstrip()
        if start[1] == "USER":
            said.append(Message("user", content))
        elif start[1] == "FUNCTION RESPONSE":
            said.append(Message("tool", content, numbers.answered()))
        else:
            before, calling, call = content.partition("<functioncall>")
            content = unthought(before.rstrip()) if mapping.reasoning == "drop" else before.rstrip()
            calls = {"tool_calls": [_glaive_call(call, where, numbers)]} if calling else None
            said.append(Message("assistant", content, calls))
    return said


def _glaive_call(text: str, where: str, numbers: _Numbers) -> dict[str, Any]:
    """Return a call whose arguments stand in single quotes, as JSON text or as they are."""
    text = text.strip()
    if functions := _functions(text):
        return _calls(functions, where, numbers)[0]
    found = _CALL.fullmatch(text)
    if not found:
        raise ConvertError("convert.bad_call", field=where)
    arguments = found[2].strip()
    if arguments[:1] == "'" == arguments[-1:] and len(arguments) > 1:
        arguments = arguments[1:-1].replace("\\'", "'")
    try:
        json.loads(arguments)
        name = json.loads(found[1])
    except (ValueError, RecursionError) as error:
        raise ConvertError("convert.bad_call", field=where) from error
    return {"id": numbers.next(), "type": "function", "function": {"name": name, "arguments": arguments}}


def _introduced(text: str) -> tuple[str, list[Any] | None]:
    """Return a system text without its tools, and the tools; the whole text where they cannot be read."""
    text = text.strip().removeprefix("SYSTEM:").strip()
    begin = text.find("{")
    if begin < 0:
        return text, None
    found, at = [], begin
    try:
        while at < len(text):
            tool, at = _DECODER.raw_decode(text, at)
            found.append(tool)
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
    except (ValueError, RecursionError):
        return text, None
    if not all(isinstance(tool, dict) and "name" in tool for tool in found):
        return text, None
    return text[:begin].rstrip(), [_tool(tool) for tool in found]
