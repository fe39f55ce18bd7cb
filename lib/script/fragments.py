"""What a printed script is made of: `program.py` copies the functions it needs, with their source.

Nothing here is used by the library itself. It is a second, independent telling of lib/records, lib/formats,
lib/check and lib/convert, held to the same bytes by tests/test_script.py.

A line that ends in `# only: NAME …` is copied only into scripts that have one of these features, without the
mark. Constants are copied too, but those that say what this conversion is are written anew. In the place of a
docstring stands the sentence `script.FUNCTION` in the reader's language.

To add one: write it here, its sentence in each language, and in `program.py` what calls for it.
"""

# ruff: noqa: B905, D102, N818, PTH123
from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

# What a conversion is: written anew for each script.
OUT = Path()
VALIDATION, SEED, GROUP = 0.1, 0, ""
USER = INPUT = ASSISTANT = REASONING = HISTORY = MESSAGES = TOOLS = SYSTEM_COLUMN = SYSTEM = ""
TEMPLATE: list[list[str]] = []
WHO, WHAT = "role", ["content"]
SPEAKERS: dict[str, list[str]] = {}
CALL_RULES: set[str] = set()
SIDES: list[tuple[str, str]] = []
THOUGHTS: list[str] = []
MARKS: dict[str, list[str]] = {}
MORE_MARKS: list[str] = []
PREAMBLES: tuple[str, ...] = ()
ROLES: set[str] = set()
EDITS = Path()
FIXES: list[str] = []

NO_TEXT = re.compile("[\udc80-\udcff]")
EXACT = re.compile(r"-?(?=[\d.]{1,16}$)\d+\.\d+")

Row = dict[str, Any]


class SetAside(Exception):
    """A row that is not used, and why."""


BROKEN = SetAside("broken")
SPACE = " \t\r\n\x0b\x0c\u200b\ufeff"


# --- reading


def read_lines(lines: Iterable[bytes]) -> Iterator[Any]:
    """Yield the records of JSON lines; a line that is not JSON is BROKEN."""
    for line in lines:
        if not line.isspace():
            try:
                yield json.loads(line.decode("utf-8-sig"), parse_float=finite, object_pairs_hook=unique)
            except (ValueError, RecursionError):
                yield BROKEN


def read_json(data: bytes) -> Any:
    """Return what a JSON file holds; where it is broken, the script stops with the parser's message."""
    return json.loads(data.decode("utf-8-sig"), parse_float=finite, object_pairs_hook=unique)


def read_objects(data: bytes) -> Iterator[Any]:
    """Yield JSON objects that follow one another; at a broken one, the script stops."""
    text, at = data.decode("utf-8-sig"), 0
    decoder = json.JSONDecoder(parse_float=finite, object_pairs_hook=unique)
    while at < len(text):
        if text[at] in " \t\r\n,":
            at += 1
        else:
            value, at = decoder.raw_decode(text, at)
            yield value


def read_table(lines: Iterable[bytes], delimiter: str) -> Iterator[Any]:
    """Yield the rows of a table by the names in its first row; one that does not fit them is BROKEN."""
    csv.field_size_limit(1 << 23)
    texts = (line.decode("utf-8", "surrogateescape") for line in lines)
    reader = (row for row in csv.reader(texts, delimiter=delimiter, strict=True) if row)
    names: list[str] = []
    for place, name in enumerate(next(reader), 1):
        name = name.strip() or f"column_{place}"
        names.append(f"{name}_{place}" if name in names else name)
    for row in reader:
        whole = len(row) == len(names) and not NO_TEXT.search("".join(row))
        yield dict(zip(names, row)) if whole else BROKEN


def unwrapped(values: list[Any], key: str) -> Iterator[Any]:
    """Yield the records that lie one level deeper."""
    for value in values:
        yield value[key] if isinstance(value, dict) and key in value else value


def recoded(data: bytes, encoding: str) -> bytes:
    """Return text as UTF-8; what does not belong to its encoding stays in and breaks its row only."""
    errors = "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
    return data.decode(encoding, errors).removeprefix("\ufeff").encode("utf-8", errors)


def unique(pairs: list[tuple[str, Any]]) -> Row:
    """Return an object; one that has a key twice breaks its row."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError(f"the same key twice in {list(value)}")
    return value


def finite(digits: str) -> float:
    """Return a number; one too large for a float breaks its row."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"number too large: {digits}")
    return number


# --- a record becomes a conversation


def conversation(row: Any) -> Row:
    """Return the conversation a record becomes."""
    if not isinstance(row, dict):
        raise SetAside("not_object")
    turns = question_and_answer(row)  # only: flat
    turns = listed(row.get(MESSAGES))  # only: listed
    turns = paired(row.get(MESSAGES))  # only: pairs
    turns = prompt_and_completion(row)  # only: sides
    turns = rendered(words(row.get(MESSAGES)))  # only: rendered
    turns = question_and_calls(row)  # only: xlam
    turns = chat_with_calls(words(row.get(MESSAGES)))  # only: glaive
    turns = led(row, turns)  # only: system
    return {"messages": turns}  # only: no_listing
    talk: Row = {"messages": turns}  # only: listing introduced
    if tools := listed_tools(row.get(TOOLS)):  # only: listing
        talk["tools"] = tools  # only: listing
    if tools := introduced(optional(row.get(SYSTEM_COLUMN)))[1]:  # only: introduced
        talk["tools"] = tools  # only: introduced
    return talk  # only: listing introduced


def question_and_answer(row: Row) -> list[Row]:
    """Return the turns of a record with a question and an answer."""
    question = words(row.get(USER))  # only: user
    question = filled(row)  # only: template
    if more := optional(row.get(INPUT)):  # only: alpaca context
        question = f"{question}\n{more}"  # only: alpaca
        question = f"{more}\n\n{question}"  # only: context
    answer = words(row.get(ASSISTANT))
    answer = with_thought(optional(row.get(REASONING)), answer)  # only: thought
    answer = without_thought(answer)  # only: drop
    if not answer.strip():  # only: drop
        raise SetAside("only_reasoning")  # only: drop
    asked, answered = turn("user", question), turn("assistant", answer)
    return [asked, answered]  # only: no_history
    return [*history(row.get(HISTORY)), asked, answered]  # only: history


def prompt_and_completion(row: Row) -> list[Row]:
    """Return the turns of a prompt and its completion, each a text or a list of turns."""
    if not isinstance(row.get(USER), (list, dict)) and not isinstance(row.get(ASSISTANT), (list, dict)):
        return question_and_answer(row)
    return side(row.get(USER), "user") + side(row.get(ASSISTANT), "assistant")


def side(value: Any, role: str) -> list[Row]:
    """Return the turns of a prompt or of a completion."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, dict):
        value = [value]
    return listed(value) if isinstance(value, list) else [turn(role, words(value))]


def listed(value: Any) -> list[Row]:
    """Return a list of turns as turns with a role and content."""
    turns = []
    calls = Calls()  # only: tools
    for said in turns_of(value):
        if not isinstance(said, dict):
            raise SetAside("bad_turn")
        who, what = WHO, WHAT
        if "from" in said:  # only: sides tools
            who, what = "from", ["value", "content", "text"]  # only: sides tools
        role = role_of(said.get(who))
        if not role:  # only: left_out
            continue  # only: left_out
        if role == "tool" or said.get("tool_calls"):
            raise SetAside("tool_turn")  # only: no_calls
            turns.append(turn_of_tools(said, calls))  # only: tools
            continue  # only: tools
        key = next((key for key in what if key in said), what[0])
        if key not in said:
            raise SetAside("missing_field")
        content = spoken(said[key])
        if role == "assistant":  # only: think drop
            thoughts = [said[key] for key in THOUGHTS if isinstance(said.get(key), str)]  # only: think
            content = with_thought(thoughts[0] if thoughts else "", content)  # only: think
            content = without_thought(content)  # only: drop
        turns.append(turn(role, content))
    return turns


def paired(value: Any) -> list[Row]:
    """Return pairs of a question and an answer as turns; texts alone are said in turns."""
    items, roles, said = turns_of(value), ("user", "assistant"), []
    texts = all(item is None or isinstance(item, str) for item in items)
    for place, item in enumerate(items):
        if texts:
            said.append((roles[place % 2], item))
            continue
        names = next((names for names in SIDES if isinstance(item, dict) and names[0] in item), None)
        if names:
            item = [item.get(name) for name in names]
        if not isinstance(item, list) or len(item) != 2:
            raise SetAside("bad_turn")
        said += zip(roles, item)
    turns = [turn(role, spoken(content)) for role, content in said]
    for told in turns:  # only: drop
        if told["role"] == "assistant":  # only: drop
            told["content"] = without_thought(told["content"])  # only: drop
    return turns


def role_of(speaker: Any) -> str:
    """Return the role of a speaker, by whatever name the dataset calls it."""
    if not isinstance(speaker, str):
        raise SetAside("missing_field")
    role = known_role(speaker)
    if role is None:
        raise SetAside("bad_role")
    return role


def known_role(speaker: str) -> str | None:
    """Return the role of a speaker of this name, or None."""
    for name in (speaker, plain(speaker)):
        for role, names in SPEAKERS.items():
            if name in names:
                return role
    return None


def plain(name: str) -> str:
    """Return a name in lower case, without accents, spaces, hyphens and underscores."""
    apart = unicodedata.normalize("NFKD", re.sub(r"[\s_\-]+", "", name))
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", apart)).casefold()


def led(row: Row, turns: list[Row]) -> list[Row]:
    """Put the system prompt in front, unless the turns begin with one."""
    system = SYSTEM  # only: constant
    system = optional(row.get(SYSTEM_COLUMN))  # only: column
    system = introduced(optional(row.get(SYSTEM_COLUMN)))[0]  # only: introduced
    system = system or SYSTEM  # only: both
    if system and (not turns or turns[0]["role"] != "system"):
        turns = [turn("system", system), *turns]
    return turns


def turns_of(value: Any) -> list[Any]:
    """Return a list of turns, which must not be empty."""
    value = unpacked(value)
    if value is None:
        raise SetAside("missing_field")
    if not isinstance(value, list):
        raise SetAside("not_turns")
    if not value:
        raise SetAside("empty_field")
    return value


def history(value: Any) -> list[Row]:
    """Return earlier turns, given as [[question, answer], ...]."""
    pairs = unpacked(value)
    if pairs is None or pairs == [] or (isinstance(pairs, str) and not pairs.strip()):
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise SetAside("bad_history")
    return [turn(role, spoken(said)) for pair in pairs for role, said in zip(("user", "assistant"), pair)]


def unpacked(value: Any) -> Any:
    """Return a list that a table holds as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            return json.loads(value, parse_constant=refused)
        except (ValueError, RecursionError):
            pass
    return value


def refused(name: str) -> float:
    """Take neither NaN nor Infinity for JSON."""
    raise ValueError(name)


def words(value: Any) -> str:
    """Return the words of a field that must have some."""
    if value is None:
        raise SetAside("missing_field")
    said = spoken(value)
    if not said.strip():
        raise SetAside("empty_field")
    return said


def optional(value: Any) -> str:
    """Return the words of a field that may be missing, null or blank."""
    said = spoken(value)
    return said if said.strip() else ""


def spoken(value: Any) -> str:
    """Return a text; a number stands for its digits where the parser has not rounded them."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if type(value) is int or (type(value) is float and EXACT.fullmatch(repr(value))):
        return repr(value)
    if isinstance(value, list) and value and all(is_part(part) for part in value):
        return "".join(part["text"] for part in value)
    raise SetAside("not_text")


def is_part(part: Any) -> bool:
    """Return whether this is one piece of a text that comes in pieces."""
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def with_thought(thought: str, answer: str) -> str:
    """Put the reasoning in front of an answer, unless it begins with some."""
    if not thought.strip() or answer.lstrip().startswith("<think>"):
        return answer
    return f"<think>\n{thought}\n</think>\n\n{answer}"


def without_thought(answer: str) -> str:
    """Take the reasoning away from the beginning of an answer."""
    if not answer.lstrip().startswith("<think>"):
        return answer
    return answer.partition("</think>")[2].lstrip()


def turn(role: str, content: str) -> Row:
    """Return one turn of a conversation."""
    return {"role": role, "content": content}


# --- calls of tools


class Calls:
    """The calls of one conversation, numbered where they have no ids, and answered in that order."""

    def __init__(self) -> None:
        self.made = 0
        self.open: list[str] = []

    def add(self, name: Any, given: Any) -> Row:
        if not isinstance(name, str):
            raise SetAside("bad_call")
        self.made += 1
        self.open.append(f"call_{self.made}")
        function = {"name": name, "arguments": arguments_of(given)}
        return {"id": self.open[-1], "type": "function", "function": function}

    def add_all(self, value: Any) -> list[Row]:
        if isinstance(value, str):
            value = raw_calls(value)
        calls = [value] if isinstance(value, dict) else value
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            raise SetAside("bad_call")
        return [self.add(call.get("name"), call.get("arguments", call.get("parameters"))) for call in calls]

    def answer(self) -> Row:
        return {"tool_call_id": self.open.pop(0)} if self.open else {}


def turn_of_tools(said: Row, calls: Calls) -> Row:
    """Return a turn that calls tools, or is what one of them answered."""
    key = next((key for key in ("content", "value", "text") if key in said), "content")
    if given := said.get("tool_calls"):
        if not isinstance(given, list):
            raise SetAside("bad_call")
        return turn("assistant", spoken(said.get(key))) | {"tool_calls": [given_call(call) for call in given]}
    if plain(str(said.get("role", said.get("from")))) in ("functioncall", "toolcall"):
        return turn("assistant", "") | {"tool_calls": calls.add_all(said.get(key))}
    if key not in said:
        raise SetAside("missing_field")
    content = json_of(said[key]) if isinstance(said[key], dict) else spoken(said[key])
    kept = {name: said[name] for name in ("tool_call_id", "name") if said.get(name) is not None}
    return turn("tool", content) | (kept or calls.answer())


def given_call(call: Any) -> Row:
    """Return a call as OpenAI writes it, its arguments as JSON text."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise SetAside("bad_call")
    told = {"id": call["id"]} if call.get("id") is not None else {}
    arguments = arguments_of(function.get("arguments", function.get("parameters")))
    return told | {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def arguments_of(given: Any) -> str:
    """Return a call's arguments as JSON text."""
    return given if isinstance(given, str) else "{}" if given is None else json_of(given)


def json_of(value: Any) -> str:
    """Return a value as JSON text."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise SetAside("bad_call") from None


def raw_calls(text: str) -> list[Row] | None:
    """Return the calls of a JSON text; what is no text in them, as the very characters that stand there."""
    text = text.strip()
    try:
        items = raw_items(text) if isinstance(json.loads(text), list) else [text]
        calls = []
        for item in items:
            if item[:1] != "{":
                return None
            fields = raw_items(item)
            call = {}
            for key, raw in zip(map(json.loads, fields[::2]), fields[1::2]):
                call[key] = json.loads(raw) if key == "name" or raw[:1] == '"' else raw
            calls.append(call)
        return calls
    except (ValueError, RecursionError):
        return None


def raw_items(text: str) -> list[str]:
    """Return the raw texts of what a JSON array holds, or of the keys and values of an object in turns."""
    items, at = [], 1
    while at < len(text) - 1:
        if text[at] in " \t\r\n,:":
            at += 1
        else:
            end = json.JSONDecoder().raw_decode(text, at)[1]
            items.append(text[at:end])
            at = end
    return items


def listed_tools(value: Any) -> list[Any]:
    """Return the tools there are, as OpenAI writes them."""
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return []
    try:
        tools = json.loads(value) if isinstance(value, str) else value
        tools = [tools] if isinstance(tools, dict) else tools
        if isinstance(tools, list):
            tools = [json.loads(tool) if isinstance(tool, str) else tool for tool in tools]
    except ValueError:
        raise SetAside("bad_tools") from None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise SetAside("bad_tools")
    return [wrapped_tool(tool) for tool in tools]


def wrapped_tool(tool: Row) -> Row:
    """Return a tool as OpenAI writes it."""
    return {"type": "function", "function": tool} if "name" in tool and "function" not in tool else tool


def question_and_calls(row: Row) -> list[Row]:
    """Return the turns of a question and the calls that answer it."""
    question, given = words(row.get(USER)), row.get(ASSISTANT)
    if given is None or given == "" or given == []:
        raise SetAside("missing_field")
    calls = Calls().add_all(given)
    if not calls:
        raise SetAside("empty_field")
    return [turn("user", question), turn("assistant", "") | {"tool_calls": calls}]


AT_LINE = re.compile(r"(?m)^[ \t]*(USER|ASSISTANT|FUNCTION RESPONSE):")
ANYWHERE = re.compile(r"(?:\A|(?<=\s))(USER|ASSISTANT|FUNCTION RESPONSE):")
CALL = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(.*)\}\s*\Z', re.DOTALL)


def chat_with_calls(text: str) -> list[Row]:
    """Return the turns of one text with USER:, ASSISTANT:, <functioncall> and FUNCTION RESPONSE:."""
    starts = list(AT_LINE.finditer(text))
    if len(starts) < 2:
        starts = list(ANYWHERE.finditer(text))
    if not starts or text[: starts[0].start()].strip():
        raise SetAside("not_rendered")
    calls, turns = Calls(), []
    for start, stop in zip(starts, [*(start.start() for start in starts[1:]), len(text)]):
        content = text[start.end() : stop].strip().removesuffix("<|endoftext|>").rstrip()
        if start[1] == "USER":
            turns.append(turn("user", content))
        elif start[1] == "FUNCTION RESPONSE":
            turns.append(turn("tool", content) | calls.answer())
        else:
            content, calling, call = content.partition("<functioncall>")
            content = content.rstrip()
            content = without_thought(content)  # only: drop
            called = {"tool_calls": [call_in(call, calls)]} if calling else {}
            turns.append(turn("assistant", content) | called)
    return turns


def call_in(text: str, calls: Calls) -> Row:
    """Return a call whose arguments stand in single quotes, or as they are."""
    text = text.strip()
    if found := raw_calls(text):
        return calls.add_all(found)[0]
    call = CALL.fullmatch(text)
    if not call:
        raise SetAside("bad_call")
    arguments = call[2].strip()
    if arguments[:1] == "'" == arguments[-1:] and len(arguments) > 1:
        arguments = arguments[1:-1].replace("\\'", "'")
    try:
        json.loads(arguments)
        return calls.add(json.loads(call[1]), arguments)
    except ValueError:
        raise SetAside("bad_call") from None


def introduced(text: str) -> tuple[str, list[Any]]:
    """Return a system text without the tools in it, and the tools."""
    text = text.strip().removeprefix("SYSTEM:").strip()
    at = begin = text.find("{")
    tools = []
    try:
        while 0 <= at < len(text):
            tool, at = json.JSONDecoder().raw_decode(text, at)
            tools.append(tool)
            at = len(text) - len(text[at:].lstrip(" \t\r\n,"))
    except ValueError:
        return text, []
    if not tools or not all(isinstance(tool, dict) and "name" in tool for tool in tools):
        return text, []
    return text[:begin].rstrip(), [wrapped_tool(tool) for tool in tools]


def orjson_numbers(line: str) -> str:
    """Write small numbers as FirstTune's JSON writer does, 1e-7 and not 1e-07; texts stay as they are."""

    def number(found: re.Match[str]) -> str:
        text, sign, digits, power = found.groups()
        if text:
            return found[0]
        return (
            f"{sign}0.0000{digits.replace('.', '')}" if int(power) == 5 else f"{sign}{digits}e-{int(power)}"
        )

    return re.sub(r'("(?:[^"\\]|\\.)*")|(-?)(\d[.\d]*)e-(\d+)', number, line)


# --- conversations that are one text with the marks of a chat template


BARS = r"[|\uff5c]"
WRAPPED = [
    (r"<\|im_start\|>[ \t]*([^\n<]*?)[ \t]*(?:\n|<\|im_sep\|>)", ["<|im_end|>"]),
    (r"<\|start_header_id\|>([^\n<]*)<\|end_header_id\|>", ["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"]),
    (r"<\|header_start\|>([^\n<]*)<\|header_end\|>", ["<|eot|>", "<|end_of_text|>"]),
    (r"<\|start_of_role\|>([^\n<]*)<\|end_of_role\|>", ["<|end_of_text|>"]),
    (r"<start_of_turn>[ \t]*(\w+)[ \t]*\n", ["<end_of_turn>", "<eos>"]),
    (
        rf"(?i)<{BARS}[ \t]*(system|user|human|prompter|assistant|bot|model|observation|tool)[ \t]*{BARS}>",
        ["</s>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<\uff5cend\u2581of\u2581sentence\uff5c>"],
    ),
]
OUTER = re.compile(
    r"\s*(?:</?s>|<[be]os>|<\|(?:begin_of_text|end_of_text|endoftext|startoftext)\|>|\[gMASK\]|<sop>"
    rf"|<{BARS}(?:begin|end)\u2581of\u2581sentence{BARS}>)\s*"
)
SYSTEM_MARKS = re.compile(r"<<SYS>>(.*?)<</SYS>>|\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\]", re.DOTALL)


def rendered(text: str) -> list[Row]:
    """Return the turns of a conversation that is one text."""
    turns: list[Row] = []
    context = ""
    for who, said in cut(text):
        role = known_role(who)
        if role is None or plain(who) == "input":
            role = mark_role(who)
        if role is None or role == "tool":
            raise SetAside("bad_role" if role is None else "tool_turn")
        if role == "input" and turns and turns[-1]["role"] == "user":
            turns[-1]["content"] += f"\n{said}" if said else ""
        elif role == "input":
            context = said
        elif role == "user" and context:
            turns.append(turn("user", f"{context}\n\n{said}"))
            context = ""
        elif role == "assistant":  # only: drop
            turns.append(turn(role, without_thought(said)))  # only: drop
        elif role:
            turns.append(turn(role, said))
    if context:
        raise SetAside("not_rendered")
    return turns


def cut(text: str) -> list[tuple[str, str]]:
    """Return who says what in a text."""
    for header, ends in WRAPPED:
        if re.search(header, text):
            return between(text, re.compile(header), ends)
    if "[INST]" in text:
        return instructed(text)
    names = [*MORE_MARKS, *(name for names in MARKS.values() for name in names)]
    marks = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    for header in (
        rf"(?i)#{{2,4}}[ \t]*({marks})[ \t]*(?:[:\uff1a]|(?=\n))",
        r"(?:\A|(?<=\s)|(?<=</s>))(USER|ASSISTANT|SYSTEM):",
        rf"(?im)^[ \t]*[<\[]?({marks})[>\]]?[ \t]*[:\uff1a]",
    ):
        if re.search(header, text):
            starts = one_name_each(re.finditer(header, text))
            lead = bare(text[: starts[0].start()])
            said = [("system", lead)] if lead and not lead.startswith(PREAMBLES) else []
            stops = [*(start.start() for start in starts[1:]), len(text)]
            return said + [(start[1], bare(text[start.end() : stop])) for start, stop in zip(starts, stops)]
    raise SetAside("not_rendered")


def mark_role(name: str) -> str | None:
    """Return whose words follow a mark, or None."""
    return next((role for role, marks in MARKS.items() if plain(name) in map(plain, marks)), None)


def one_name_each(starts: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    """Return the marks that begin a turn: who asks and who answers has one name throughout a text."""
    kept: list[re.Match[str]] = []
    called: dict[str, str] = {}
    last: str | None = ""
    for start in starts:
        role = "" if plain(start[1]) in map(plain, MORE_MARKS) else mark_role(start[1])
        if (role == "system" and kept) or (role == "input" and last == "assistant"):
            continue
        if role in ("user", "assistant") and called.setdefault(role, start[1]) != start[1]:
            continue
        kept.append(start)
        last = role
    return kept


def between(text: str, header: re.Pattern[str], ends: list[str]) -> list[tuple[str, str]]:
    """Cut a text whose turns have a beginning and an end."""
    starts = list(header.finditer(text))
    lead = bare(text[: starts[0].start()])
    said = [("system", lead)] if lead else []
    for start, stop in zip(starts, [*(start.start() for start in starts[1:]), len(text)]):
        content = text[start.end() : stop]
        end = min((content.find(one) for one in ends if one in content), default=len(content))
        if bare(re.sub("|".join(map(re.escape, ends)), " ", content[end:])):
            raise SetAside("not_rendered")
        said.append((start[1].strip(), content[:end].strip()))
    return said


def instructed(text: str) -> list[tuple[str, str]]:
    """Cut a text of Llama 2 or Mistral."""
    if "[TOOL_CALLS]" in text or "[AVAILABLE_TOOLS]" in text:
        raise SetAside("tool_turn")
    lead, *parts = text.split("[INST]")
    said = []
    if system := SYSTEM_MARKS.search(lead) or SYSTEM_MARKS.search(parts[0]):
        said.append(("system", (system[1] or system[2] or "").strip()))
        lead, parts[0] = SYSTEM_MARKS.sub("", lead, count=1), SYSTEM_MARKS.sub("", parts[0], count=1)
    if bare(lead):
        raise SetAside("not_rendered")
    for part in parts:
        question, closed, answer = part.partition("[/INST]")
        if not closed or "[/INST]" in answer:
            raise SetAside("not_rendered")
        said.append(("user", question.strip()))
        if answer := bare(answer):
            said.append(("assistant", answer))
    return said


def bare(text: str) -> str:
    """Return a text without white space and the tokens around a whole text."""
    while found := OUTER.match(text):
        text = text[found.end() :]
    text = text.strip()
    while (tail := text.rfind("<")) >= 0 and OUTER.fullmatch(text, tail):
        text = text[:tail].rstrip()
    return text


def filled(row: Row) -> str:
    """Return the question that the columns of a template make; a line of empty columns is left out."""
    out: list[str] = []
    blank: list[str] = []
    gap = False
    for pieces in TEMPLATE:
        said = [optional(row.get(name)) for name in pieces[1::2]]
        line = pieces[0] + "".join(name + text for name, text in zip(said, pieces[2::2]))
        if said and not any(said):
            blank, gap = [], True
        elif not said and not line.strip():
            blank.append(line)
        else:
            out += [*(blank if out or not gap else []), line]
            blank = []
    if not any(optional(row.get(name)) for pieces in TEMPLATE for name in pieces[1::2]):
        raise SetAside("empty_field")
    return "\n".join([*out, *blank])


def rows() -> Iterator[Any]:
    """Stand for what `program.py` writes."""
    raise NotImplementedError


# --- the rules of the place to train


def check(talk: Row) -> None:
    """Set a row aside that breaks a rule of the target."""
    turns = talk["messages"]
    roles = [said["role"] for said in turns]
    others = [role for role in roles if role != "system"]  # only: first_not_user not_alternating unanswered
    if not turns:  # only: left_out
        raise SetAside("empty_messages")  # only: left_out
    if not {*roles} <= ROLES:  # only: bad_role
        raise SetAside("bad_role")  # only: bad_role
    if any(is_blank(said) for said in turns):
        raise SetAside("empty_content")
    if "system" in roles[1:]:  # only: system_not_first
        raise SetAside("system_not_first")  # only: system_not_first
    if others and others[0] != "user":  # only: first_not_user
        raise SetAside("first_not_user")  # only: first_not_user
    if said_twice(others):  # only: not_alternating
        raise SetAside("not_alternating")  # only: not_alternating
    if others[-1:] != ["assistant"]:  # only: unanswered
        raise SetAside("unanswered")  # only: unanswered
    if "assistant" not in roles:  # only: no_answer
        raise SetAside("no_answer")  # only: no_answer
    check_calls(talk)  # only: calls


def is_blank(said: Row) -> bool:
    """Return whether a turn says nothing one could see."""
    if said.get("tool_calls"):  # only: calls
        return False  # only: calls
    if said["role"] == "tool":  # only: tool_turns
        return False  # only: tool_turns
    return is_blank_text(said["content"])


def is_blank_text(text: str) -> bool:
    """Return whether there is nothing to see in a text."""
    return not text.strip() or not text.strip(SPACE + "\u3000")


def said_twice(roles: list[str]) -> bool:
    """Return whether the same role speaks twice in a row."""
    return any(one == other for one, other in pairwise(roles))  # only: no_tool_turns
    return any(one == other != "tool" for one, other in pairwise(roles))  # only: tool_turns


def check_calls(talk: Row) -> None:
    """Set a row aside whose calls of tools break a rule of the target."""
    for rule in broken_calls(talk):
        if rule in CALL_RULES:
            raise SetAside(rule)


def broken_calls(talk: Row) -> Iterator[str]:
    """Yield what is wrong with tools, the calls of them and their answers."""
    turns, tools, asked = talk["messages"], talk.get("tools", []), []
    if tools or any(said.get("tool_calls") for said in turns):
        yield "tools_not_taken"
    functions = [tool.get("function", tool) for tool in tools]
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in functions):
        yield "bad_tools"
    for said, following in zip(turns, [*turns[1:], {}]):
        if calls := said.get("tool_calls"):
            asked += [call.get("id") for call in calls]
            if not all(is_json_object(call["function"]["arguments"]) for call in calls):
                yield "bad_arguments"
            if following and following["role"] != "tool":
                yield "tool_not_answered"
        elif said["role"] == "tool":
            if said.get("tool_call_id") is None:
                yield "no_tool_call_id"
            elif said["tool_call_id"] not in asked:
                yield "unknown_tool_call"
            if following and following["role"] in ("user", "system"):
                yield "tool_not_answered"


def is_json_object(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        value = json.loads(text, parse_float=finite, parse_constant=refused)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


# --- edits and fixes


def edited(file: str, values: Iterable[Any]) -> Iterator[Any]:
    """Yield the records of a file as the edits leave them; they are taken as meant for these very records."""
    edits: dict[int, list[Row]] = {}
    for line in EDITS.read_bytes().split(b"\n"):
        if line.strip() and (edit := json.loads(line)).get("file") == file:
            edits.setdefault(edit["row"], []).append(edit)
    for number, value in enumerate(values, 1):
        mine = edits.get(number, [])
        for edit in mine:
            if "drop" in edit:
                value = SetAside("dropped")
                break
            value = edit.get("record", value)
            for path, new in edit.get("set", {}).items():
                value = put(value, steps(path), new)
            if "set" in edit and isinstance(value, SetAside):
                break
        yield value  # only: no_row_fixes
        yield value, [edit["fix"] for edit in mine if "fix" in edit]  # only: row_fixes


STEP = re.compile(r"""\.?([^.\[\]"\s]+)|\[([0-9]+)\]|\[("(?:[^"\\]|\\.)*")\]""")


def steps(path: str) -> list[Any]:
    """Return the names and places of a path such as talk[0].value."""
    return [name or (int(place) if place else json.loads(text)) for name, place, text in STEP.findall(path)]


def put(value: Any, path: list[Any], new: Any) -> Any:
    """Return a value with another one at a path."""
    if not path or isinstance(value, SetAside):
        return value if path else new
    step, rest = path[0], path[1:]
    there = step in value if isinstance(value, dict) else isinstance(value, list) and step < len(value)
    if isinstance(value, list) != isinstance(step, int) or not (
        there or (isinstance(value, dict) and not rest)
    ):
        return SetAside("no_field")
    copy = value.copy()
    inside = put(value[step] if there else None, rest, new)
    if isinstance(inside, SetAside):
        return inside
    copy[step] = inside
    return copy


def mended(turns: list[Row], wanted: list[str]) -> list[Row]:
    """Return turns as the wanted fixes leave them, where one of these has something to mend."""
    roles = [said["role"] for said in turns if said["role"] != "system"]
    needed = {
        "trim": is_padded(turns),  # only: trim
        "drop_empty_turn": any(is_blank(said) for said in turns),  # only: drop_empty_turn
        "move_system": any(said["role"] == "system" for said in turns[1:]),  # only: move_system
        "drop_first_assistant": roles[:1] not in ([], ["user"]),  # only: drop_first_assistant
        "merge_turns": said_twice(roles),  # only: merge_turns
        "drop_last_user": roles[-1:] != ["assistant"],  # only: drop_last_user
    }
    if not any(needed.get(fix) for fix in wanted):
        return turns
    before: list[Row] = []
    while turns != before:
        before = turns
        if "trim" in wanted:  # only: trim
            turns = trim(turns)  # only: trim
        if "drop_empty_turn" in wanted:  # only: drop_empty_turn
            turns = [said for said in turns if not is_blank(said)]  # only: drop_empty_turn
        if "move_system" in wanted:  # only: move_system
            turns = move_system(turns)  # only: move_system
        if "drop_first_assistant" in wanted:  # only: drop_first_assistant
            turns = drop_first_assistant(turns)  # only: drop_first_assistant
        if "merge_turns" in wanted:  # only: merge_turns
            turns = merge_turns(turns)  # only: merge_turns
        if "drop_last_user" in wanted:  # only: drop_last_user
            turns = drop_last_user(turns)  # only: drop_last_user
    if all(said["role"] == "system" for said in turns):
        raise SetAside("nothing_left")
    return turns


def is_padded(turns: list[Row]) -> bool:
    """Return whether there is white space around somebody's words."""
    texts = [said["content"] for said in turns]
    return any(text.strip(SPACE) != text and not is_blank_text(text) for text in texts)


def trim(turns: list[Row]) -> list[Row]:
    """Take away the white space around all words."""
    return [said | {"content": said["content"].strip(SPACE)} for said in turns]


def move_system(turns: list[Row]) -> list[Row]:
    """Make one system message of all, in front."""
    system = [said for said in turns if said["role"] == "system"]
    return joined(system) + [said for said in turns if said["role"] != "system"]


def drop_first_assistant(turns: list[Row]) -> list[Row]:
    """Leave out what is said before the first question."""
    system = [said for said in turns if said["role"] == "system"]
    rest = [said for said in turns if said["role"] != "system"]
    if rest and rest[0]["role"] != "user":
        while rest and rest[0]["role"] != "user":
            rest = rest[1:]
        return system + rest
    return turns


def merge_turns(turns: list[Row]) -> list[Row]:
    """Make one turn of several that the same role speaks in a row."""
    merged: list[Row] = []
    for said in turns:
        last = merged.pop() if merged and merged[-1]["role"] == said["role"] else None
        if last and said["role"] == "tool":  # only: tool_turns
            merged, last = [*merged, last], None  # only: tool_turns
        merged += joined([last, said]) if last else [said]
    return merged


def drop_last_user(turns: list[Row]) -> list[Row]:
    """Leave out what is said after the last answer."""
    while turns and turns[-1]["role"] != "assistant":
        turns = turns[:-1]
    return turns


def joined(turns: list[Row]) -> list[Row]:
    """Return several turns as one."""
    if len(turns) < 2:
        return turns
    one = turn(turns[0]["role"], "\n\n".join(said["content"] for said in turns if said["content"]))
    for said in turns:  # only: calls
        for name, value in said.items():  # only: calls
            if name not in ("role", "content") and isinstance(one.get(name), list):  # only: calls
                one[name] = one[name] + value  # only: calls
            one.setdefault(name, value)  # only: calls
    return [one]


# --- the split


def hash_of(key: str) -> int:
    """Return 64 bits that depend on nothing but the question and the seed."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=b"firsttune %d" % SEED).digest()
    return int.from_bytes(digest, "little")


def limit_of(hashes: list[int]) -> int:
    """Return the hash below which rows are kept back, so that a question is on one side only."""
    if len(hashes) < 2:
        return 0
    ordered = sorted(hashes)
    wanted = int(len(ordered) * VALIDATION + 0.5) or 1
    border = ordered[wanted - 1]
    low, high = bisect_left(ordered, border), bisect_right(ordered, border)
    kept = high if high - wanted <= wanted - low or not low else low
    return ordered[low if kept == len(ordered) else kept]


def key_of(row: Row, talk: Row) -> str:
    """Return what is kept on one side of the split: rows of the same question."""
    if GROUP in row:  # only: group
        return str(row[GROUP])  # only: group
    questions = [said["content"] for said in talk["messages"] if said["role"] == "user"]
    return str(questions[0] if questions else talk["messages"][0]["content"]).strip()


def main() -> None:
    """Convert."""
    lines: list[bytes] = []
    hashes: list[int] = []  # only: split
    seen: set[bytes] = set()  # only: drop_duplicate
    reasons: Counter[str] = Counter()
    for row in rows():
        try:
            wanted = FIXES  # only: fixes_for_all
            row, fixes = row  # only: row_fixes
            wanted = FIXES + fixes  # only: row_fixes
            if isinstance(row, SetAside):  # only: broken
                raise SetAside(str(row))  # only: broken
            talk = conversation(row)
            talk["messages"] = mended(talk["messages"], wanted)  # only: fixes
            check(talk)
            text = json.dumps(talk, ensure_ascii=False, separators=(",", ":")) + "\n"
            text = orjson_numbers(text)  # only: listing introduced
            line = text.encode()
            if line in seen:  # only: drop_duplicate
                raise SetAside("duplicate")  # only: drop_duplicate
        except (SetAside, UnicodeEncodeError) as error:
            reasons[str(error) if isinstance(error, SetAside) else "bad_characters"] += 1
            continue
        lines.append(line)
        seen.add(line)  # only: drop_duplicate
        hashes.append(hash_of(key_of(row, talk)))  # only: split
    limit = limit_of(hashes)  # only: split
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "train.jsonl", "wb") as train, open(OUT / "validation.jsonl", "wb") as validation:
        train.writelines(lines)  # only: whole
        for line, hashed in zip(lines, hashes):  # only: split
            (validation if hashed < limit else train).write(line)  # only: split
    print(len(lines), "rows in", OUT, "- set aside:", dict(reasons))
