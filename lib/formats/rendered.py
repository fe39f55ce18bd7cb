"""Records whose conversation is one text, with the marks of a chat template in it.

    <|im_start|>user … <|im_end|>                ChatML
    <|start_header_id|>user<|end_header_id|> …   Llama 3 and 4
    <start_of_turn>user … <end_of_turn>          Gemma
    <s>[INST] <<SYS>>…<</SYS>> … [/INST] … </s>  Llama 2, Mistral
    <|user|> … </s> <|assistant|> …              Zephyr, Phi, GLM, DeepSeek
    ### Instruction: … ### Response: …           Alpaca, guanaco's ### Human: too
    USER: … ASSISTANT: …</s>                     Vicuna
    Human: … Assistant: …                        at the beginning of lines, as in hh-rlhf

The marks and the white space around them belong to the template; the words between them stay as they are.
Words before the first mark are the system prompt; the sentences every Alpaca text begins with are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from lib.chat import Conversation, Message
from lib.errors import ConvertError
from lib.formats.mapping import Mapping, Record, Steps, named, system_of, unthought, words
from lib.formats.names import names, plain
from lib.formats.turns import speakers


class _Said(NamedTuple):
    who: str
    text: str


def rendered(mapping: Mapping) -> Steps:
    """One text that holds a rendered conversation."""
    name, system = named(mapping, "messages"), system_of(mapping)
    role_of, split = speakers(mapping), _splitter(tuple(mapping.roles))
    marks = {plain(mark): role for mark, role in names().marks.items()}

    def talk(record: Record) -> list[Message]:
        said: list[Message] = []
        context = ""
        for who, text in split(words(record.get(name), name), name):
            role = role_of(who)
            role = marks.get(plain(who)) if role is None or plain(who) == "input" else role
            if role is None:
                raise ConvertError("convert.bad_role", field=name, role=who[:80])
            if role == "tool":
                raise ConvertError("convert.tool_turn", field=name, role=who[:80])
            if role == "input":
                if said and said[-1].role == "user":
                    said[-1] = Message("user", f"{said[-1].content}\n{text}" if text else said[-1].content)
                else:
                    context = text
            elif role == "user" and context:
                said.append(Message("user", f"{context}\n\n{text}"))
                context = ""
            elif role == "assistant" and mapping.reasoning == "drop":
                said.append(Message(role, unthought(text)))
            elif role:
                said.append(Message(role, text))
        if context:
            raise ConvertError("convert.not_rendered", field=name)
        return said

    def convert(record: Record) -> Conversation:
        said = talk(record)
        if not said or said[0].role != "system":
            said[:0] = system(record)
        return Conversation(tuple(said))

    def parts(record: Record) -> Iterator[Callable[[], object]]:
        yield lambda: talk(record)
        yield lambda: system(record)

    return Steps(convert, parts)


def looks_rendered(text: str) -> bool:
    """Return whether a text begins as a rendered conversation does and holds a question and an answer."""
    try:
        said = _splitter(())(text, "")
    except ConvertError:
        return False
    known = {plain(mark): role for mark, role in names().marks.items()} | names().roles
    roles = [known.get(plain(who)) for who, _ in said]
    if roles[0] == "system" and len(said[0].text) > _PREAMBLE:
        return False
    return {"user", "assistant"} <= set(roles)


# Running text may hold a dialogue far from its beginning; that does not make it a conversation.
_PREAMBLE = 2000

_OUTER = re.compile(
    r"\s*(?:<s>|</s>|<bos>|<eos>|<\|begin_of_text\|>|<\|end_of_text\|>|<\|endoftext\|>|<\|startoftext\|>"
    r"|\[gMASK\]|<sop>|<[|\uff5c](?:begin|end)\u2581of\u2581sentence[|\uff5c]>)\s*"
)

# Where a turn begins, who speaks being the first group; and what ends it.
_WRAPPED: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"<\|im_start\|>([^\n<]*)(?:\n|<\|im_sep\|>)"), ("<|im_end|>",)),
    (
        re.compile(r"<\|start_header_id\|>([^\n<]*)<\|end_header_id\|>"),
        ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    ),
    (re.compile(r"<\|header_start\|>([^\n<]*)<\|header_end\|>"), ("<|eot|>", "<|end_of_text|>")),
    (re.compile(r"<\|start_of_role\|>([^\n<]*)<\|end_of_role\|>"), ("<|end_of_text|>",)),
    (re.compile(r"<start_of_turn>[ \t]*(\w+)[ \t]*\n"), ("<end_of_turn>", "<eos>")),
    (
        re.compile(
            r"(?i)<[|\uff5c][ \t]*(system|user|human|prompter|assistant|bot|model|observation|tool)"
            r"[ \t]*[|\uff5c]>"
        ),
        ("</s>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    ),
)


@cache
def _splitter(more: tuple[str, ...]) -> Callable[[str, str], list[_Said]]:
    """Return what cuts a text into turns, or raises `ConvertError`; `more`: further names of speakers."""
    marks = "|".join(re.escape(mark) for mark in sorted((*names().marks, *more), key=len, reverse=True))
    hashes = re.compile(rf"(?i)#{{2,4}}[ \t]*({marks})[ \t]*(?:[:\uff1a]|(?=\n))")
    upper = re.compile(r"(?:\A|(?<=\s)|(?<=</s>))(USER|ASSISTANT|SYSTEM):")
    lines = re.compile(rf"(?im)^[ \t]*[<\[]?({marks})[>\]]?[ \t]*[:\uff1a]")

    def split(text: str, where: str) -> list[_Said]:
        for header, ends in _WRAPPED:
            if header.search(text):
                return _between(text, header, ends, where)
        if "[INST]" in text:
            return _instructed(text, where)
        for header in (hashes, upper, lines):
            if header.search(text):
                return _after(text, header, more)
        raise ConvertError("convert.not_rendered", field=where)

    return split


def _between(text: str, header: re.Pattern[str], ends: tuple[str, ...], where: str) -> list[_Said]:
    """Cut a text whose turns have a beginning and an end."""
    starts = list(header.finditer(text))
    lead = _bare(text[: starts[0].start()])
    said = [_Said("system", lead)] if lead else []
    stops = [start.start() for start in starts[1:]] + [len(text)]
    for start, stop in zip(starts, stops, strict=True):
        turn = text[start.end() : stop]
        end = min((at for one in ends if (at := turn.find(one)) >= 0), default=len(turn))
        rest = turn[end:]
        for one in ends:
            rest = rest.replace(one, " ")
        if _bare(rest):
            raise ConvertError("convert.not_rendered", field=where)
        said.append(_Said(start[1].strip(), turn[:end].strip()))
    return said


def _after(text: str, header: re.Pattern[str], more: tuple[str, ...]) -> list[_Said]:
    """Cut a text whose turns end where the next begins."""
    starts = _one_name_each(header.finditer(text), more)
    lead = _bare(text[: starts[0].start()])
    said = [_Said("system", lead)] if lead and not lead.startswith(names().preambles) else []
    stops = [start.start() for start in starts[1:]] + [len(text)]
    return said + [
        _Said(start[1], _bare(text[start.end() : stop])) for start, stop in zip(starts, stops, strict=True)
    ]


def _one_name_each(starts: Iterator[re.Match[str]], more: tuple[str, ...]) -> list[re.Match[str]]:
    """Return the marks that begin a turn.

    Who asks and who answers is called the same throughout a text, so that "Q:" in an answer of "Assistant:"
    is part of that answer. A system prompt stands first, an input never behind an answer.
    """
    roles = {plain(mark): role for mark, role in names().marks.items()} | dict.fromkeys(map(plain, more), "")
    kept: list[re.Match[str]] = []
    called: dict[str, str] = {}
    last = ""
    for start in starts:
        role = roles[plain(start[1])]
        if role == "system" and kept:
            continue
        if role == "input" and last == "assistant":
            continue
        if role in ("user", "assistant") and called.setdefault(role, start[1]) != start[1]:
            continue
        kept.append(start)
        last = role
    return kept


_SYSTEM = re.compile(r"<<SYS>>(.*?)<</SYS>>|\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\]", re.DOTALL)


def _instructed(text: str, where: str) -> list[_Said]:
    """Cut a text of Llama 2 or Mistral."""
    if "[TOOL_CALLS]" in text or "[AVAILABLE_TOOLS]" in text:
        raise ConvertError("convert.tool_turn", field=where, role="[TOOL_CALLS]")
    lead, *turns = text.split("[INST]")
    said = []
    found = _SYSTEM.search(lead) or _SYSTEM.search(turns[0])
    if found:
        said.append(_Said("system", (found[1] or found[2] or "").strip()))
        lead = _SYSTEM.sub("", lead, count=1)
        turns[0] = _SYSTEM.sub("", turns[0], count=1)
    if _bare(lead):
        raise ConvertError("convert.not_rendered", field=where)
    for turn in turns:
        question, closed, answer = turn.partition("[/INST]")
        if not closed or "[/INST]" in answer:
            raise ConvertError("convert.not_rendered", field=where)
        said.append(_Said("user", question.strip()))
        if answer := _bare(answer):
            said.append(_Said("assistant", answer))
    return said


def _bare(text: str) -> str:
    """Return a text without white space and without the tokens that begin and end a whole text."""
    begin = 0
    while found := _OUTER.match(text, begin):
        begin = found.end()
    text = text[begin:].strip()
    while (tail := text.rfind("<")) >= 0 and _OUTER.fullmatch(text, tail):
        text = text[:tail].rstrip()
    return text
