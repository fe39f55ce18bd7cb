"""The shapes datasets come in, and what a record of each becomes: a Conversation.

    messages           {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    sharegpt           {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}
    pairs              {"conversation": [{"input": "…", "output": "…"}, …]}
    alpaca             {"instruction": "…", "input": "…", "output": "…", "history": [["…", "…"]]}
    prompt_completion  {"prompt": "…" or [turns], "completion": "…" or [turns]}
    reasoning          {"Question": "…", "Complex_CoT": "…", "Response": "…"}
    qa                 {"question": "…", "answer": "…"}, with a context too

`detect` guesses which one some rows are and which field is whose words: by the fields' names first
(lib/field_names.toml, English and Chinese), then by what they hold. What is no conversation is recognised too
(`DECLINED`), so that it can be said why it cannot be used.

To add one: a function from a record to messages, a row in FORMATS, a branch in `detect`, its sentence
`format.NAME` in each language, and a head in tests/data/heads.json.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from lib.chat import Conversation, Message
from lib.errors import ConvertError, UsageError

# Every role a field can have, in the order they are asked for.
ROLES = ("messages", "user", "input", "assistant", "reasoning", "system", "history")
DECLINED = (
    "preference",
    "unpaired",
    "reward",
    "prm",
    "prompt_only",
    "text",
    "rendered",
    "tools",
    "tokenized",
)
REASONING = ("drop", "think")


@dataclass(frozen=True, slots=True)
class Mapping:
    """How records become conversations: their format, and which field has which role.

    `system` is put in front where a record has no system prompt of its own. `reasoning`: "drop" it, or put it
    in <think> before the answer ("think").
    """

    format: str
    fields: dict[str, str] = field(default_factory=dict)
    system: str = ""
    reasoning: str = "drop"


@dataclass(frozen=True, slots=True)
class Guess:
    """What some rows seem to be.

    `format` is one of FORMATS, one of DECLINED, or "" where nothing fits. `confidence` runs from 0 to 1.
    `reason` says what it was told by: "turns" (lists of turns), "names", "names_and_content", "content",
    "nothing".
    """

    format: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    confidence: float = 0.0
    reason: str = "nothing"


@dataclass(frozen=True, slots=True)
class Format:
    """One shape: the roles its fields can have, those it cannot do without, and its function."""

    fields: tuple[str, ...]
    required: tuple[str, ...]
    messages: Callable[[dict[str, Any], Mapping], list[Message]]


def to_conversation(value: Any, mapping: Mapping) -> Conversation:
    """Return what a record becomes.

    The words are taken as they are; a number stands for its digits where those are exact. Raises
    `ConvertError` naming the field that is missing, empty, or no text.
    """
    if type(value) is not dict:
        raise ConvertError("convert.not_object", field="")
    messages = FORMATS[mapping.format].messages(value, mapping)
    if mapping.system and (not messages or messages[0].role != "system"):
        messages.insert(0, Message("system", mapping.system))
    return Conversation(tuple(messages))


def check_mapping(mapping: Mapping) -> None:
    """Raise `UsageError` or `ConvertError` where a mapping cannot work whatever the records hold."""
    if mapping.format not in FORMATS:
        raise UsageError("convert.unknown_format", format=mapping.format, known=", ".join(FORMATS))
    if mapping.reasoning not in REASONING:
        raise UsageError("convert.unknown_reasoning", value=mapping.reasoning, known=", ".join(REASONING))
    for role in FORMATS[mapping.format].required:
        _field(mapping, role)


def detect(values: Iterable[Any]) -> Guess:
    """Guess the format of some rows (25 or more are better) and which field has which role."""
    columns = _columns(values)
    return _declined(columns) or _turns(columns) or _flat(columns)


# --- one function for each shape


def _messages(record: dict[str, Any], mapping: Mapping) -> list[Message]:
    return _system(record, mapping, _listed(record, mapping, "messages", "messages"))


def _sharegpt(record: dict[str, Any], mapping: Mapping) -> list[Message]:
    return _system(record, mapping, _listed(record, mapping, "messages", "sharegpt"))


def _pairs(record: dict[str, Any], mapping: Mapping) -> list[Message]:
    name = _field(mapping, "messages")
    turns = _turn_list(record, name)
    messages: list[Message] = []
    for place, turn in enumerate(turns):
        where = f"{name}[{place}]"
        sides = next((pair for pair in _names().pairs if isinstance(turn, dict) and pair[0] in turn), None)
        if sides is None:
            raise ConvertError("convert.bad_turn", field=where)
        for role, side in zip(("user", "assistant"), sides, strict=True):
            messages.append(Message(role, _text(turn, side, where)))
    return _system(record, mapping, messages)


def _alpaca(record: dict[str, Any], mapping: Mapping) -> list[Message]:
    # the extra input follows the instruction on a line of its own, as in LLaMA-Factory
    question = _text(record, _field(mapping, "user"))
    extra = _optional(record, mapping, "input")
    return _asked(record, mapping, f"{question}\n{extra}" if extra else question)


def _qa(record: dict[str, Any], mapping: Mapping) -> list[Message]:
    # a context is read before the question about it
    question = _text(record, _field(mapping, "user"))
    context = _optional(record, mapping, "input")
    return _asked(record, mapping, f"{context}\n\n{question}" if context else question)


def _prompt_completion(record: dict[str, Any], mapping: Mapping) -> list[Message]:
    prompt, completion = _field(mapping, "user"), _field(mapping, "assistant")
    if not isinstance(record.get(prompt), list) and not isinstance(record.get(completion), list):
        return _qa(record, mapping)
    messages = [
        message
        for name, role in ((prompt, "user"), (completion, "assistant"))
        for message in (
            _spoken(record, name, mapping, "messages")
            if isinstance(record.get(name), list)
            else [Message(role, _text(record, name))]
        )
    ]
    return _system(record, mapping, messages)


_TALK = ("messages", "system")
_FLAT = ("user", "input", "assistant", "reasoning", "system", "history")
_PAIR = ("user", "assistant")

FORMATS: dict[str, Format] = {
    "messages": Format(_TALK, ("messages",), _messages),
    "sharegpt": Format(_TALK, ("messages",), _sharegpt),
    "pairs": Format(_TALK, ("messages",), _pairs),
    "alpaca": Format(_FLAT, _PAIR, _alpaca),
    "prompt_completion": Format(_FLAT, _PAIR, _prompt_completion),
    "reasoning": Format(_FLAT, _PAIR, _qa),
    "qa": Format(_FLAT, _PAIR, _qa),
}


# --- a record's words


def _asked(record: dict[str, Any], mapping: Mapping, question: str) -> list[Message]:
    """Return the turns of a record that holds one question and one answer, and perhaps what went before."""
    fields = mapping.fields
    answer = _text(record, _field(mapping, "assistant"))
    if mapping.reasoning == "think" and "reasoning" in fields:
        answer = _thought(_optional(record, mapping, "reasoning"), answer)
    messages = [Message("user", question), Message("assistant", answer)]
    if "history" in fields:
        messages[:0] = _history(record, fields["history"])
    return _system(record, mapping, messages) if "system" in fields else messages


def _thought(reasoning: str, answer: str) -> str:
    if not reasoning or answer.lstrip().startswith("<think>"):
        return answer
    return f"<think>\n{reasoning}\n</think>\n\n{answer}"


def _history(record: dict[str, Any], name: str) -> list[Message]:
    """Return earlier turns, given as [[question, answer], …]."""
    turns = _unpacked(record.get(name))
    if turns is None or turns == [] or turns == "":
        return []
    if not isinstance(turns, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in turns):
        raise ConvertError("convert.bad_history", field=name)
    return [
        Message(role, _as_text(said, f"{name}[{place}]"))
        for place, pair in enumerate(turns)
        for role, said in zip(_PAIR, pair, strict=True)
    ]


def _system(record: dict[str, Any], mapping: Mapping, messages: list[Message]) -> list[Message]:
    """Put the record's own system prompt in front, unless the turns begin with one."""
    system = _optional(record, mapping, "system")
    if system and (not messages or messages[0].role != "system"):
        messages.insert(0, Message("system", system))
    return messages


def _listed(record: dict[str, Any], mapping: Mapping, role: str, shape: str) -> list[Message]:
    return _spoken(record, _field(mapping, role), mapping, shape)


def _spoken(record: dict[str, Any], name: str, mapping: Mapping, shape: str) -> list[Message]:
    """Return a list of turns as messages; "messages" has role and content, "sharegpt" from and value."""
    names = _names()
    who, contents = names.turns[shape]
    messages = []
    for place, turn in enumerate(_turn_list(record, name)):
        if type(turn) is not dict:
            raise ConvertError("convert.bad_turn", field=f"{name}[{place}]")
        speaker = turn.get(who)
        if type(speaker) is not str:
            raise ConvertError("convert.missing_field", field=f"{name}[{place}].{who}")
        role = names.roles.get(speaker) or names.roles.get(_plain(speaker))
        if role is None:
            raise ConvertError("convert.bad_role", field=f"{name}[{place}].{who}", role=speaker[:80])
        if role == "tool" or turn.get("tool_calls"):
            raise ConvertError("convert.tool_turn", field=f"{name}[{place}]", role=speaker[:80])
        key = next((key for key in contents if key in turn), contents[0])
        said = turn.get(key)
        if type(said) is not str or not said or said.isspace():
            said = _text(turn, key, f"{name}[{place}]")
        if mapping.reasoning == "think" and role == "assistant":
            thought = next((turn[key] for key in names.reasoning if isinstance(turn.get(key), str)), "")
            said = _thought(thought, said)
        messages.append(Message(role, said))
    return messages


def _turn_list(record: dict[str, Any], name: str) -> list[Any]:
    turns = _unpacked(record.get(name))
    if turns is None:
        raise ConvertError("convert.missing_field", field=name)
    if not isinstance(turns, list):
        raise ConvertError("convert.not_turns", field=name)
    if not turns:
        raise ConvertError("convert.empty_field", field=name)
    return turns


def _unpacked(value: Any) -> Any:
    """Return a list that a table holds as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _field(mapping: Mapping, role: str) -> str:
    name = mapping.fields.get(role)
    if not name:
        raise ConvertError("convert.no_role", role=role, format=mapping.format)
    return name


def _optional(record: dict[str, Any], mapping: Mapping, role: str) -> str:
    """Return a field's words, or "" where it is not mapped, missing, null or blank."""
    name = mapping.fields.get(role)
    if not name:
        return ""
    value = record.get(name)
    if value is None or (isinstance(value, str) and (not value or value.isspace())):
        return ""
    return value if isinstance(value, str) else _as_text(value, name)


def _text(record: dict[str, Any], name: str, inside: str = "") -> str:
    """Return a field's words; raise where there are none."""
    value = record.get(name)
    if type(value) is str and value and not value.isspace():
        return value
    return _as_text(value, f"{inside}.{name}" if inside else name)


def _as_text(value: Any, where: str) -> str:
    if value is None:
        raise ConvertError("convert.missing_field", field=where)
    if isinstance(value, str):
        if not value or value.isspace():
            raise ConvertError("convert.empty_field", field=where)
        return value
    if isinstance(value, list) and value and all(_is_part(part) for part in value):
        return _as_text("".join(part["text"] for part in value), where)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and _EXACT.fullmatch(repr(value)):
        return repr(value)
    raise ConvertError("convert.not_text", field=where, kind=_KINDS.get(type(value), type(value).__name__))


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


# A float of up to 15 digits is written as it was read; a longer one may have been rounded.
_EXACT = re.compile(r"-?(?=[\d.]{1,16}$)\d+\.\d+")
_KINDS = {dict: "object", list: "list", bool: "true/false", float: "number"}


# --- guessing


@dataclass(slots=True)
class _Column:
    """What a field holds in the rows looked at. `kind`: text, number, bool, turns, list, object, or none."""

    name: str
    plain: str
    values: list[Any]
    kind: str
    length: float  # of a text, in characters, on average


def _columns(values: Iterable[Any]) -> dict[str, _Column]:
    found: dict[str, list[Any]] = {}
    for value in values:
        if isinstance(value, dict):
            for name, one in value.items():
                found.setdefault(name, []).append(one)
    return {name: _column(name, [one for one in ones if one is not None]) for name, ones in found.items()}


def _column(name: str, values: list[Any]) -> _Column:
    unpacked = [_unpacked(value) for value in values]
    turns = [one for one in unpacked if isinstance(one, list) and one and isinstance(one[0], dict)]
    if turns and 2 * len(turns) > len(values):
        return _Column(name, _plain(name), turns, "turns", 0.0)
    texts = [one for one in values if isinstance(one, str)]
    for kind, types in _TYPES:
        some = [one for one in values if isinstance(one, types)]
        if some and 2 * len(some) > len(values):
            length = sum(map(len, texts)) / len(texts) if texts else 0.0
            return _Column(name, _plain(name), some, kind, length)
    return _Column(name, _plain(name), values, "none", 0.0)


_TYPES: tuple[tuple[str, type | tuple[type, ...]], ...] = (
    ("bool", bool),
    ("text", str),
    ("number", (int, float)),
    ("list", list),
    ("object", dict),
)


def _declined(columns: dict[str, _Column]) -> Guess | None:
    """Recognise what is no conversation to learn from."""
    by = {column.plain: column for column in columns.values()}
    kinds = {name: column.kind for name, column in by.items()}
    answers = {"response", "completion", "answer", "output"} & set(by)
    if "inputids" in by:
        return Guess("tokenized", {}, 0.95, "names")
    if any(good in by and bad in by for good, bad in _PREFERENCES) or "rejectedresponse" in by:
        return Guess("preference", {}, 0.95, "names")
    if kinds.get("completions") == "list" and kinds.get("labels") == "list":
        return Guess("prm", {}, 0.95, "names")
    if "ktotag" in by or (kinds.get("label") == "bool" and (answers or "messages" in by)):
        return Guess("unpaired", {}, 0.9, "names")
    if kinds.get("reward") == "number" and (answers or "text" in by):
        return Guess("reward", {}, 0.8, "names")
    if "tools" in by and "answers" in by:
        return Guess("tools", {}, 0.9, "names")
    return None


_PREFERENCES = (
    ("chosen", "rejected"),
    ("chosenresponse", "rejectedresponse"),
    ("preferredoutput", "nonpreferredoutput"),
    ("messages", "rejectedmessages"),
)


def _turns(columns: dict[str, _Column]) -> Guess | None:
    """Recognise lists of turns by the keys of their turns."""
    named = sorted(
        (column for column in columns.values() if column.kind == "turns"),
        key=lambda column: _rank("messages", column.plain),
    )
    prompt, completion = (
        next((c for c in columns.values() if c.plain == name), None) for name in ("prompt", "completion")
    )
    if prompt and completion and "turns" in (prompt.kind, completion.kind):
        fields = {"user": prompt.name, "assistant": completion.name}
        return Guess("prompt_completion", fields, 0.95, "turns")
    for column in named:
        shape = _turn_shape(column.values)
        if not shape:
            continue
        if shape != "pairs" and not any(_has_answer(talk, shape) for talk in column.values):
            return Guess("prompt_only", {}, 0.9, "turns")
        fields = {"messages": column.name}
        if system := _named(columns, "system", set()):
            fields["system"] = system.name
        sure = 0.98 if _rank("messages", column.plain) < _UNKNOWN else 0.85
        return Guess(shape, fields, sure, "turns")
    return None


def _turn_shape(talks: Sequence[Any]) -> str:
    keys = {key for talk in talks for turn in talk if isinstance(turn, dict) for key in turn}
    for shape, (who, contents) in _names().turns.items():
        if who in keys and any(content in keys for content in contents):
            return shape
    if any(side in keys and other in keys for side, other in _names().pairs):
        return "pairs"
    return ""


def _has_answer(talk: Any, shape: str) -> bool:
    who = _names().turns[shape][0]
    speakers = [_plain(str(turn.get(who))) for turn in talk if isinstance(turn, dict)]
    return any(_names().roles.get(speaker) == "assistant" for speaker in speakers)


def _flat(columns: dict[str, _Column]) -> Guess:
    """Recognise fields of text, by name and then by what they hold."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for role in ("reasoning", "system", "history", "assistant", "user", "input"):
        column = _named(columns, role, taken)
        if column:
            found[role] = column.name
            taken.add(column.name)
    if "user" not in found and "assistant" in found and "input" in found:
        found["user"] = found.pop("input")  # an article and its summary
    words = [c for c in columns.values() if c.name not in taken and _is_words(c)]
    if "user" in found and "assistant" in found:
        return Guess(_flat_name(found), _ordered(found), 0.95, "names")
    if not words:
        return _lonely(columns, found)
    if "assistant" in found or "user" in found:
        one = _likely_user(words) if "assistant" in found else max(words, key=lambda c: c.length)
        found["user" if "assistant" in found else "assistant"] = one.name
        return Guess(_flat_name(found), _ordered(found), 0.7, "names_and_content")
    if len(words) == 1:
        return _lonely(columns, found)
    user, answer = _likely_pair(words)
    found |= {"user": user.name, "assistant": answer.name}
    return Guess(_flat_name(found), _ordered(found), 0.4, "content")


def _lonely(columns: dict[str, _Column], found: dict[str, str]) -> Guess:
    """Say what rows are that hold only one text."""
    texts = [c for c in columns.values() if c.kind == "text" and not _is_other(c)]
    if any(_RENDERED.search(str(value)) for c in texts for value in c.values[:25]):
        return Guess("rendered", {}, 0.9, "content")
    if "user" in found:
        answered = any(_rank("assistant", c.plain) < _UNKNOWN for c in columns.values())
        return Guess() if answered else Guess("prompt_only", {}, 0.7, "names")
    if texts and max(c.length for c in texts) > 0:
        return Guess("text", {}, 0.8 if any(c.plain == "text" for c in texts) else 0.6, "names")
    return Guess()


# How chat templates and well-known datasets mark who speaks inside one text.
_RENDERED = re.compile(
    r"(?m)<\|im_start\|>|\[/INST\]|### (?:Response|Assistant)|<\|assistant\|>|<start_of_turn>"
    r"|<\|start_header_id\|>|^\s*(?:ASSISTANT|Assistant):|USER:[\s\S]*?ASSISTANT:"
)


def _flat_name(found: dict[str, str]) -> str:
    user, answer = _plain(found["user"]), _plain(found["assistant"])
    if user in _names().instruction:
        return "alpaca"
    if "reasoning" in found:
        return "reasoning"
    return "prompt_completion" if (user, answer) == ("prompt", "completion") else "qa"


def _ordered(found: dict[str, str]) -> dict[str, str]:
    return {role: found[role] for role in ROLES if role in found}


def _named(columns: dict[str, _Column], role: str, taken: set[str]) -> _Column | None:
    """Return the field whose name fits a role best, if it holds what that role needs."""
    kinds = ("list", "none") if role == "history" else ("text", "number")
    fitting = [
        column
        for column in columns.values()
        if column.kind in kinds and column.name not in taken and _rank(role, column.plain) < _UNKNOWN
    ]
    return min(fitting, key=lambda column: _rank(role, column.plain), default=None)


def _likely_pair(columns: list[_Column]) -> tuple[_Column, _Column]:
    """Return which of some fields asks and which answers.

    What asks is told by its question marks. The answer is the longest other field if it is so by far; of two
    that are about as long, the later one.
    """
    asking = [column for column in columns if _asks(column)]
    rest = [column for column in columns if column is not (asking[0] if asking else None)]
    longest = sorted(rest, key=lambda column: column.length)[-2:]
    clear = len(longest) == 1 or longest[1].length > 1.5 * longest[0].length
    answer = longest[-1] if clear else max(longest, key=columns.index)
    user = asking[0] if asking else _likely_user([column for column in columns if column is not answer])
    return user, answer


def _likely_user(columns: list[_Column]) -> _Column:
    """Return the field that asks: by its question marks, then by its length."""
    return max(columns, key=lambda column: (_asks(column), column.length))


def _asks(column: _Column) -> bool:
    texts = column.values[:100]
    asking = [text for text in texts if text.rstrip().endswith(_QUESTION_MARKS)]
    return len(asking) > 0.3 * len(texts)


_QUESTION_MARKS = ("?", "\uff1f")


def _is_words(column: _Column) -> bool:
    """Return whether a field may hold somebody's words: text, not a mark, a link, a code or a category."""
    if column.kind != "text" or _is_other(column):
        return False
    texts = column.values
    marks = sum(1 for text in texts if not text.strip() or _MARK.fullmatch(text.strip()))
    if 2 * marks > len(texts):
        return False
    return len(texts) < 5 or len(set(texts)) * 2 > len(texts) or column.length > 80


# Something to tell rows apart or sort them by: a number, a date, a link, a path, a hash, a single word.
_MARK = re.compile(r"[\d\s.,:/_T+-]+|https?://\S+|[\w.-]*(?:/[\w.-]+)+|[\w-]+", re.ASCII)


def _is_other(column: _Column) -> bool:
    names = _names()
    return column.plain in names.other or column.plain.endswith(names.endings)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()


def _rank(role: str, plain: str) -> int:
    return _names().fields[role].get(plain, _UNKNOWN)


_UNKNOWN = 1000


@dataclass(frozen=True, slots=True)
class _Names:
    """field_names.toml, ready for looking up."""

    fields: dict[str, dict[str, int]]
    other: frozenset[str]
    endings: tuple[str, ...]
    roles: dict[str, str]
    turns: dict[str, tuple[str, tuple[str, ...]]]
    pairs: tuple[tuple[str, str], ...]
    reasoning: tuple[str, ...]
    instruction: tuple[str, ...]


@cache
def _names() -> _Names:
    read = tomllib.loads(Path(__file__).with_name("field_names.toml").read_text(encoding="utf-8"))
    turn = read["turn"]
    return _Names(
        fields={
            role: {name: place for place, name in enumerate(names)} for role, names in read["fields"].items()
        },
        other=frozenset(read["other"]["names"]),
        endings=tuple(read["other"]["endings"]),
        roles={name: role for role, names in read["roles"].items() for name in names},
        turns={
            shape: (turn[shape]["role"], tuple(turn[shape]["content"])) for shape in ("messages", "sharegpt")
        },
        pairs=tuple((side, other) for side, other in turn["pairs"]),
        reasoning=tuple(turn["reasoning"]),
        instruction=tuple(read["alpaca"]["instruction"]),
    )
