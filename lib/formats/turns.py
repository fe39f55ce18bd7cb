"""Records that hold a list of turns.

An empty turn stays, as "": the rules say so later (lib/check), and it can be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lib.chat import Conversation, Message
from lib.errors import ConvertError
from lib.formats import flat
from lib.formats.mapping import (
    Mapping,
    Record,
    Steps,
    named,
    spoken,
    system_of,
    thought,
    unpacked,
    unthought,
    words,
)
from lib.formats.names import names, plain

_new = tuple.__new__

# A turn and where it stands -> the message, or None for a turn that is left out.
Turn = Callable[[Any, str], Message | None]


def messages(mapping: Mapping) -> Steps:
    """Lists of {"role", "content"}."""
    return _listed(mapping, "messages")


def sharegpt(mapping: Mapping) -> Steps:
    """Lists of {"from", "value"}."""
    return _listed(mapping, "sharegpt")


def pairs(mapping: Mapping) -> Steps:
    """Lists whose items hold both sides, {"input", "output"} or [question, answer]; or texts in turns."""
    name, system = named(mapping, "messages"), system_of(mapping)

    def whole(record: Record) -> Conversation:
        return _led(system(record), [message for part in parts(record) for message in part()])

    def parts(record: Record) -> Iterator[Callable[[], list[Message]]]:
        try:
            found = turn_list(record.get(name), name)
        except ConvertError as error:
            yield partial(_fail, error)
            return
        texts = all(isinstance(turn, str) or turn is None for turn in found)
        for place, turn in enumerate(found):
            role = ("user", "assistant")[place % 2] if texts else ""
            yield partial(_sides, mapping, turn, f"{name}[{place}]", role)

    return Steps(whole, parts)


def prompt_completion(mapping: Mapping) -> Steps:
    """A prompt and its completion: each a text, a turn, a list of turns, or {"messages": [turns]}."""
    plain_texts = flat.qa(mapping)
    if mapping.template:
        return plain_texts
    prompt, completion = named(mapping, "user"), named(mapping, "assistant")
    system, answer = system_of(mapping), flat.answer(mapping)
    shapes = {shape: speaking(mapping, shape) for shape in names().turns}

    def side(record: Record, name: str, role: str) -> list[Message]:
        value = record.get(name)
        if isinstance(value, dict) and isinstance(value.get("messages"), list):
            value = value["messages"]
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list):
            return [Message(role, answer(record) if role == "assistant" else words(value, name))]
        turns = []
        for place, turn in enumerate(turn_list(value, name)):
            shape = "sharegpt" if isinstance(turn, dict) and "from" in turn else "messages"
            turns.append(shapes[shape](turn, f"{name}[{place}]"))
        return [message for message in turns if message]

    def convert(record: Record) -> Conversation:
        kinds = (list, dict)
        if not isinstance(record.get(prompt), kinds) and not isinstance(record.get(completion), kinds):
            return plain_texts.convert(record)
        return _led(system(record), [*side(record, prompt, "user"), *side(record, completion, "assistant")])

    def parts(record: Record) -> Iterator[Callable[[], object]]:
        if not isinstance(record.get(prompt), (list, dict)):
            yield lambda: words(record.get(prompt), prompt)
        else:
            yield lambda: side(record, prompt, "user")
        yield lambda: side(record, completion, "assistant")
        yield lambda: system(record)

    return Steps(convert, parts)


def speakers(mapping: Mapping) -> Callable[[str], str | None]:
    """Return a function that tells the role of a speaker: "" to leave the turn out, None if unknown."""
    given = {**{plain(name): role for name, role in mapping.roles.items()}, **mapping.roles}
    known = names().roles

    def role(speaker: str) -> str | None:
        short = plain(speaker)
        return given.get(speaker, given.get(short, known.get(short)))

    return role


def speaking(mapping: Mapping, shape: str, tool: Turn | None = None) -> Turn:
    """Return what makes a message of one turn; `tool` is asked about the turns of tools."""
    who, contents = names().turns[shape]
    role_of, keys = speakers(mapping), names().reasoning

    def message(turn: Any, where: str) -> Message | None:
        if type(turn) is not dict:
            raise ConvertError("convert.bad_turn", field=where)
        speaker = turn.get(who)
        if type(speaker) is not str:
            raise ConvertError("convert.missing_field", field=f"{where}.{who}")
        role = role_of(speaker)
        if role is None:
            raise ConvertError("convert.bad_role", field=f"{where}.{who}", role=speaker[:80])
        if not role:
            return None
        if role == "tool" or turn.get("tool_calls"):
            if tool is None:
                raise ConvertError("convert.tool_turn", field=where, role=speaker[:80])
            return tool(turn, where)
        key = next((key for key in contents if key in turn), contents[0])
        if key not in turn:
            raise ConvertError("convert.missing_field", field=f"{where}.{key}")
        said = spoken(turn[key], f"{where}.{key}")
        if role == "assistant":
            said = answered(mapping, said, turn, keys)
        return Message(role, said)

    return message


def answered(mapping: Mapping, said: str, turn: dict[str, Any], keys: tuple[str, ...]) -> str:
    """Return an answer with its thoughts as the mapping wants them."""
    if mapping.reasoning == "think":
        return thought(next((turn[key] for key in keys if isinstance(turn.get(key), str)), ""), said)
    return unthought(said) if mapping.reasoning == "drop" else said


def turn_list(value: Any, name: str) -> list[Any]:
    """Return a list of turns, also of JSON text; raise where it is none or empty."""
    turns = unpacked(value)
    if turns is None:
        raise ConvertError("convert.missing_field", field=name)
    if not isinstance(turns, list):
        raise ConvertError("convert.not_turns", field=name)
    if not turns:
        raise ConvertError("convert.empty_field", field=name)
    return turns


def _listed(mapping: Mapping, shape: str) -> Steps:
    name, system, one = named(mapping, "messages"), system_of(mapping), speaking(mapping, shape)
    who, (what, *_) = names().turns[shape]
    role_of = speakers(mapping)
    # speakers met before, by the very name they were met under: looked up without a call
    met: dict[str, str] = {}
    careful, drop = mapping.reasoning != "keep", mapping.reasoning == "drop"
    always = bool(mapping.system or mapping.fields.get("system"))

    def convert(record: Record) -> Conversation:
        turns = record.get(name)
        if type(turns) is not list or not turns:
            turns = turn_list(turns, name)
        said: list[Message] = []
        for turn in turns:
            try:
                role, text = met[turn[who]], turn[what]
                if (
                    type(text) is str
                    and not (careful and role == "assistant" and not (drop and text[:1] > "<"))
                    and ("tool_calls" not in turn or not turn["tool_calls"])
                ):
                    said.append(_new(Message, (role, text, None)))
                    continue
            except (KeyError, TypeError):
                pass
            message = one(turn, f"{name}[{_place(turns, turn)}]")
            if message:
                said.append(message)
                if role_of(turn[who]) in _MET:
                    met[turn[who]] = message.role
        if always and (not said or said[0].role != "system"):
            said[:0] = system(record)
        return _new(Conversation, (tuple(said), None))

    def parts(record: Record) -> Iterator[Callable[[], object]]:
        try:
            turns = turn_list(record.get(name), name)
        except ConvertError as error:
            yield partial(_fail, error)
            return
        for place, turn in enumerate(turns):
            yield partial(one, turn, f"{name}[{place}]")
        yield partial(system, record)

    return Steps(convert, parts)


_MET = frozenset(("system", "user", "assistant"))


def _place(turns: list[Any], turn: Any) -> int:
    return next(place for place, one in enumerate(turns) if one is turn)


def _sides(mapping: Mapping, turn: Any, where: str, role: str) -> list[Message]:
    """Return the messages of an item of `pairs`; `role` is set where the items are texts in turns."""
    if role:
        return [_side(mapping, role, turn, where)]
    if isinstance(turn, list) and len(turn) == 2:
        return [
            _side(mapping, role, text, f"{where}[{side}]")
            for side, (role, text) in enumerate(zip(("user", "assistant"), turn, strict=True))
        ]
    both = next((pair for pair in names().pairs if isinstance(turn, dict) and pair[0] in turn), None)
    if both is None:
        raise ConvertError("convert.bad_turn", field=where)
    return [
        _side(mapping, role, turn.get(key), f"{where}.{key}")
        for role, key in zip(("user", "assistant"), both, strict=True)
    ]


def _side(mapping: Mapping, role: str, value: Any, where: str) -> Message:
    said = spoken(value, where)
    if role == "assistant" and mapping.reasoning == "drop":
        said = unthought(said)
    return Message(role, said)


def _led(system: tuple[Message, ...], said: list[Message]) -> Conversation:
    if said and said[0].role == "system":
        return Conversation(tuple(said))
    return Conversation((*system, *said))


def _fail(error: ConvertError) -> list[Message]:
    raise error
