"""Records that hold one question and one answer, each in a field of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lib.chat import Conversation, Message
from lib.errors import ConvertError
from lib.formats import template
from lib.formats.mapping import (
    Mapping,
    Record,
    Steps,
    named,
    optional,
    spoken,
    system_of,
    thought,
    unpacked,
    unthought,
    words,
)

_new = tuple.__new__


def alpaca(mapping: Mapping) -> Steps:
    """The extra input follows the instruction on a line of its own, as in LLaMA-Factory."""
    return _steps(mapping, lambda question, extra: f"{question}\n{extra}")


def qa(mapping: Mapping) -> Steps:
    """A context is read before the question about it."""
    return _steps(mapping, lambda question, context: f"{context}\n\n{question}")


def _steps(mapping: Mapping, join: Callable[[str, str], str]) -> Steps:
    asked, answered, system = _question(mapping, join), answer(mapping), system_of(mapping)
    earlier = mapping.fields.get("history", "")

    def before(record: Record) -> tuple[Message, ...]:
        return history(record.get(earlier), earlier) if earlier else ()

    def whole(record: Record) -> Conversation:
        turns = (Message("user", asked(record)), Message("assistant", answered(record)))
        return Conversation((*system(record), *before(record), *turns))

    def parts(record: Record) -> Iterator[Callable[[], object]]:
        yield lambda: asked(record)
        yield lambda: answered(record)
        yield lambda: before(record)
        yield lambda: system(record)

    if mapping.template or mapping.reasoning == "think" or {"system", "history"} & set(mapping.fields):
        return Steps(whole, parts)
    return Steps(_quick(mapping, join, whole), parts)


def _quick(
    mapping: Mapping, join: Callable[[str, str], str], whole: Callable[[Record], Conversation]
) -> Callable[[Record], Conversation]:
    """Return `whole` for the plain case: question and answer are text, nothing stands before them.

    Written out, without one call more than needed: rows come by the million.
    """
    user, extra, assistant = (mapping.fields.get(role, "") for role in ("user", "input", "assistant"))
    lead = (Message("system", mapping.system),) if mapping.system else ()
    drop = mapping.reasoning == "drop"

    def convert(record: Record) -> Conversation:
        question, reply = record.get(user), record.get(assistant)
        if (
            type(question) is not str
            or type(reply) is not str
            or not question
            or not reply
            or question.isspace()
            or reply.isspace()
            or (drop and reply[:1] <= "<")
        ):
            return whole(record)
        if extra and (more := record.get(extra)) != "" and more is not None:
            if type(more) is not str:
                return whole(record)
            if not more.isspace():
                question = join(question, more)
        turns = _new(Message, ("user", question, None)), _new(Message, ("assistant", reply, None))
        return _new(Conversation, (lead + turns if lead else turns, None))

    return convert


def _question(mapping: Mapping, join: Callable[[str, str], str]) -> Callable[[Record], str]:
    if mapping.template:
        return template.filler(mapping.template)
    user, extra = named(mapping, "user"), mapping.fields.get("input", "")

    def question(record: Record) -> str:
        asked = words(record.get(user), user)
        more = optional(record.get(extra), extra) if extra else ""
        return join(asked, more) if more else asked

    return question


def answer(mapping: Mapping) -> Callable[[Record], str]:
    """Return a function that gives a record's answer, with its thoughts as the mapping wants them."""
    name, thoughts = named(mapping, "assistant"), mapping.fields.get("reasoning", "")

    def answered(record: Record) -> str:
        said = words(record.get(name), name)
        if mapping.reasoning == "think" and thoughts:
            return thought(optional(record.get(thoughts), thoughts), said)
        if mapping.reasoning == "drop":
            said = unthought(said)
            if not said or said.isspace():
                raise ConvertError("convert.only_reasoning", field=name)
        return said

    return answered


def history(value: Any, name: str) -> tuple[Message, ...]:
    """Return earlier turns, given as [[question, answer], …]."""
    turns = unpacked(value)
    if turns is None or turns == [] or (isinstance(turns, str) and not turns.strip()):
        return ()
    if not isinstance(turns, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in turns):
        raise ConvertError("convert.bad_history", field=name)
    return tuple(
        Message(role, spoken(said, f"{name}[{place}][{side}]"))
        for place, pair in enumerate(turns)
        for side, (role, said) in enumerate(zip(("user", "assistant"), pair, strict=True))
    )
