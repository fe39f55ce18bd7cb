"""What mends a broken rule without asking for every row: `mend` applies the ones that are wanted.

A fix is named by the rules it mends (`check.rules.MENDED_BY`); `fix.NAME` is its label, `fix_told.NAME` says
in a sentence what it does. Those of scope "rows" need to know all rows; whoever writes them applies them
(lib/convert.py), here they only have a name.

To add a fix: a function from messages to messages in `_MENDS`, in the order they are best made; its rules in
`MENDED_BY`; label and sentence in every language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from lib import estimate
from lib.chat import Conversation, Message
from lib.check import content, rules
from lib.check.targets import Target

Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Fix:
    """One fix: the rules it mends, and whether it mends a "conversation" or picks among "rows"."""

    name: str
    scope: str
    rules: tuple[str, ...]


def mend(
    conversation: Conversation, names: Collection[str], target: Target, max_tokens: int = 0
) -> Conversation | None:
    """Return a conversation as the named fixes leave it, the same object where they find nothing to do.

    None where nothing is left of it but a system message. One fix can make work for another, as an
    empty turn between two of the same role does: they are made again until nothing changes. `max_tokens`:
    where `cut` cuts, if that is less than the target takes.
    """
    if 0 < max_tokens < target.max_tokens:
        target = replace(target, max_tokens=max_tokens)
    wanted = [make for name, make in _MENDS.items() if name in names]
    turns = conversation.messages
    for _ in range(_ROUNDS):
        before = turns
        for make in wanted:
            turns = make(turns, target)
        if turns == before:
            break
    if turns == conversation.messages:
        return conversation
    if not any(turn.role != "system" for turn in turns):
        return None
    return conversation._replace(messages=turns)


def _mask(turns: Turns, _target: Target) -> Turns:
    return _texts(turns, content.without_personal)


def _strip_markup(turns: Turns, _target: Target) -> Turns:
    return _texts(turns, content.without_end)


def _trim(turns: Turns, _target: Target) -> Turns:
    return _texts(turns, lambda text: text.strip(rules.SPACE))


def _drop_empty_turn(turns: Turns, target: Target) -> Turns:
    return tuple(
        turn
        for turn in turns
        if not rules.is_blank(turn.content) or rules.may_be_empty(turn.role, turn.extra or {}, target)
    )


def _move_system(turns: Turns, _target: Target) -> Turns:
    system = [turn for turn in turns if turn.role == "system"]
    if not system or (len(system) == 1 and turns[0].role == "system"):
        return turns
    text = "\n\n".join(turn.content for turn in system if turn.content)
    first = Message("system", text, _joined(*(turn.extra for turn in system)))
    return (first, *(turn for turn in turns if turn.role != "system"))


def _drop_first_assistant(turns: Turns, _target: Target) -> Turns:
    system = tuple(turn for turn in turns if turn.role == "system")
    rest = [turn for turn in turns if turn.role != "system"]
    if not rest or rest[0].role == "user":
        return turns
    asked = next((place for place, turn in enumerate(rest) if turn.role == "user"), len(rest))
    return (*system, *rest[asked:])


def _merge_turns(turns: Turns, target: Target) -> Turns:
    merged: list[Message] = []
    for turn in turns:
        last = merged[-1] if merged else None
        if last and last.role == turn.role and not rules.is_tool_turn(turn.role, target):
            text = "\n\n".join(part for part in (last.content, turn.content) if part)
            merged[-1] = Message(turn.role, text, _joined(last.extra, turn.extra))
        else:
            merged.append(turn)
    return tuple(merged) if len(merged) < len(turns) else turns


def _drop_last_user(turns: Turns, _target: Target) -> Turns:
    end = len(turns)
    while end and turns[end - 1].role != "assistant":
        end -= 1
    return turns[:end]


def _cut(turns: Turns, target: Target) -> Turns:
    """Shorten the last answer; where no answer is left, the last exchange goes, and so on."""
    while turns and _tokens(turns) > target.max_tokens:
        last = turns[-1]
        shorter = ""
        if last.role == "assistant" and not last.extra:
            shorter = _shortened(last.content, target.max_tokens - _tokens(turns[:-1]))
        if shorter:
            turns = (*turns[:-1], last._replace(content=shorter))
            continue
        turns = turns[:-1]
        while turns and turns[-1].role not in ("assistant", "system"):
            turns = turns[:-1]
    return turns


def _shortened(text: str, limit: float) -> str:
    """Return how a text begins, `limit` tokens at most, to the end of a sentence where there is one."""
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate.tokens(text[:middle]) <= limit else (low, middle - 1)
    fitting = text[:low]
    ends = [match.end() for match in _SENTENCE_END(fitting)]
    if ends and ends[-1] * 2 > low:
        fitting = fitting[: ends[-1]]
    elif (space := fitting.rfind(" ")) * 2 > low:
        fitting = fitting[:space]
    fitting = fitting.strip(rules.SPACE)
    return "" if len(fitting) == len(text) else fitting


def _tokens(turns: Turns) -> float:
    return rules.tokens([(turn.content, turn.extra) for turn in turns])


def _texts(turns: Turns, change: Callable[[str], str]) -> Turns:
    changed = tuple(turn._replace(content=change(turn.content)) for turn in turns)
    return changed if changed != turns else turns


def _joined(*extras: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what several turns say beside their content: calls one after the other, else the first word."""
    joined: dict[str, Any] = {}
    for extra in extras:
        for name, value in (extra or {}).items():
            if isinstance(value, list) and isinstance(joined.get(name), list):
                joined[name] = [*joined[name], *value]
            else:
                joined.setdefault(name, value)
    return joined or None


_ROUNDS = 50
_SENTENCE_END = re.compile(
    f"[{re.escape(content.SENTENCE_ENDS)}]+[\"'\u201d\u2019\u300d\uff09)]*|[.](?=\\s)"
).finditer

# In the order they are made: what shortens texts, what drops and moves turns, what cuts what is left.
_MENDS: dict[str, Callable[[Turns, Target], Turns]] = {
    "mask": _mask,
    "strip_markup": _strip_markup,
    "trim": _trim,
    "drop_empty_turn": _drop_empty_turn,
    "move_system": _move_system,
    "drop_first_assistant": _drop_first_assistant,
    "merge_turns": _merge_turns,
    "drop_last_user": _drop_last_user,
    "cut": _cut,
}
FIXES: dict[str, Fix] = {
    name: Fix(name, scope, tuple(rule for rule, fix in rules.MENDED_BY.items() if fix == name))
    for names, scope in ((tuple(_MENDS), "conversation"), (("drop_duplicate", "drop_leaked"), "rows"))
    for name in names
}
