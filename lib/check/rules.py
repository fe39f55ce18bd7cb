"""What a row must look like, and who speaks when.

`broken` yields every rule that one row breaks, not the first one: the rule, where in the row, and what stands
there. It takes any JSON value, as a line of a file may hold any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from lib import estimate
from lib.check import content
from lib.check.targets import Target

# What is cut off a message's ends. Not U+3000: Chinese paragraphs begin with two of them on purpose.
SPACE = " \t\r\n\x0b\x0c\u200b\ufeff"

# The fix (lib/fixes.py) that mends a broken rule.
MENDED_BY = {
    "padded": "trim",
    "empty_content": "drop_empty_turn",
    "not_alternating": "merge_turns",
    "system_not_first": "move_system",
    "unanswered": "drop_last_user",
    "first_not_user": "drop_first_assistant",
    "too_long": "cut",
    "template_end": "strip_markup",
    "duplicate": "drop_duplicate",
    "leaked": "drop_leaked",
    "near_leak": "drop_leaked",
    **dict.fromkeys(sorted(content.PERSONAL), "mask"),
}


class Broke(NamedTuple):
    """One broken rule: where in the row, and what stands there."""

    rule: str
    field: str
    value: Any


def broken(row: Any, target: Target, max_tokens: int = 0) -> Iterator[Broke]:
    """Yield every rule of the target that one row breaks; `max_tokens` in place of the target's, if given."""
    return (broke for broke in _broken(row, target, max_tokens) if broke.rule in target.rules)


def order(roles: Sequence[str], target: Target) -> Iterator[Broke]:
    """Yield what is wrong with who speaks when: system first, then user and assistant in turns.

    Tools speak between an assistant's turns.
    """
    last = ""
    for place, role in enumerate(roles):
        where = f"messages[{place}].role"
        if role == "system":
            if place:
                yield Broke("system_not_first", where, role)
            continue
        if not last and role != "user":
            yield Broke("first_not_user", where, role)
        elif last == role and not is_tool_turn(role, target):
            yield Broke("not_alternating", where, role)
        last = role
    if last != "assistant":
        yield Broke("unanswered", f"messages[{len(roles) - 1}].role", last or "system")
    if "assistant" not in roles:
        yield Broke("no_answer", "messages", ", ".join(roles))


def tokens(messages: Sequence[tuple[str, dict[str, Any] | None]]) -> float:
    """Return about how many tokens some texts are, with what else their turns say."""
    total = 0.0
    for text, extra in messages:
        total += estimate.tokens(text)
        if extra:
            total += estimate.tokens(_json(extra))
    return total


def is_blank(text: str) -> bool:
    """Return whether a text holds nothing one could see."""
    return not text or text.isspace() or not text.strip(SPACE + "\u3000")


def may_be_empty(role: str, message: dict[str, Any], target: Target) -> bool:
    """Return whether a turn need not say anything: it calls a tool, or a tool had nothing to say."""
    return bool(message.get("tool_calls") or message.get("function_call")) or is_tool_turn(role, target)


def is_tool_turn(role: str, target: Target) -> bool:
    """Return whether a turn is a tool's, where the target takes those; several may follow one another."""
    return role in _TOOLS and role in target.roles


def _broken(row: Any, target: Target, max_tokens: int) -> Iterator[Broke]:
    if not isinstance(row, dict):
        yield Broke("not_object", "", row)
        return
    if target.keys:
        for key in row:
            if key not in target.keys:
                yield Broke("extra_key", str(key), key)
    messages = row.get("messages")
    if not isinstance(messages, list):
        yield Broke("no_messages", "messages", ", ".join(map(str, row)) if messages is None else messages)
        return
    if not messages:
        yield Broke("empty_messages", "messages", messages)
        return
    roles: list[str] = []
    texts: list[tuple[str, dict[str, Any] | None]] = []
    talk = [
        one["content"] for one in messages if isinstance(one, dict) and isinstance(one.get("content"), str)
    ]
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, dict):
            yield Broke("not_a_message", where, message)
            continue
        role = message.get("role")
        if role is None:
            yield Broke("no_role", f"{where}.role", ", ".join(map(str, message)))
        elif role not in target.roles:
            yield Broke("bad_role", f"{where}.role", role)
        roles.append(role if isinstance(role, str) else "")
        yield from _names(message, where, target)
        yield from _content(message, f"{where}.content", target, talk)
        if isinstance(message.get("content"), str):
            extra = {key: value for key, value in message.items() if key not in ("role", "content")}
            texts.append((message["content"], extra))
    yield from order(roles, target)
    yield from _tools(row, messages, target)
    most = max_tokens or target.max_tokens
    long = tokens(texts)
    if most and long > most:
        yield Broke("too_long", "messages", round(long))


def _names(message: dict[str, Any], where: str, target: Target) -> Iterator[Broke]:
    """Yield what is wrong with the names a message has beside role and content."""
    if len(message) == 2 and "content" in message and "role" in message:
        return
    if target.message_keys:
        for key in message:
            if key not in target.message_keys:
                yield Broke("extra_message_key", f"{where}.{key}", key)
    if "weight" in message:
        weight = message["weight"]
        if not isinstance(weight, int) or isinstance(weight, bool) or weight not in (0, 1):
            yield Broke("bad_weight", f"{where}.weight", weight)


def _content(message: dict[str, Any], where: str, target: Target, talk: Sequence[str]) -> Iterator[Broke]:
    """Yield what is wrong with a message's content."""
    text, role = message.get("content"), message.get("role")
    if text is None:
        if not (message.get("tool_calls") or message.get("function_call")):
            yield Broke("no_content", where, ", ".join(map(str, message)))
        return
    if not isinstance(text, str):
        yield Broke("not_text", where, text)
        return
    if is_blank(text):
        if not may_be_empty(str(role), message, target):
            yield Broke("empty_content", where, text)
        return
    if not _writable(text):
        yield Broke("bad_characters", where, text)
    if text.strip(SPACE) != text:
        yield Broke("padded", where, text)
    if target.max_chars and len(text) > target.max_chars:
        yield Broke("long_message", where, len(text))
    for rule, value in content.found(text, role if isinstance(role, str) else "", talk):
        yield Broke(rule, where, value)


def _tools(row: dict[str, Any], messages: list[Any], target: Target) -> Iterator[Broke]:
    """Yield what is wrong with tools, the calls of them and their answers."""
    tools = row.get("tools")
    if tools:
        if not target.tools:
            yield Broke("tools_not_taken", "tools", tools)
        elif not isinstance(tools, list) or not all(_is_tool(tool) for tool in tools):
            yield Broke("bad_tools", "tools", tools)
    asked: dict[str, int] = {}  # a call's id -> its message's place
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        where = f"messages[{place}]"
        if calls := message.get("tool_calls"):
            if not target.tools:
                yield Broke("tools_not_taken", f"{where}.tool_calls", calls)
                continue
            yield from _calls(calls, f"{where}.tool_calls")
            asked.update((call, place) for call in _ids(calls))
            following = messages[place + 1] if place + 1 < len(messages) else None
            if isinstance(following, dict) and following.get("role") not in _TOOLS:
                yield Broke("tool_not_answered", f"{where}.tool_calls", calls)
        elif message.get("role") == "tool" and target.tools:
            call = message.get("tool_call_id")
            if call is None:
                yield Broke("no_tool_call_id", f"{where}.tool_call_id", ", ".join(map(str, message)))
            elif call not in asked:
                yield Broke("unknown_tool_call", f"{where}.tool_call_id", call)
            following = messages[place + 1] if place + 1 < len(messages) else None
            if isinstance(following, dict) and following.get("role") in ("user", "system"):
                yield Broke("tool_not_answered", where, following.get("role"))


def _calls(calls: Any, where: str) -> Iterator[Broke]:
    if not isinstance(calls, list):
        yield Broke("bad_tool_calls", where, calls)
        return
    for place, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            yield Broke("bad_tool_calls", f"{where}[{place}]", call)
            continue
        if call.get("type", "function") != "function":
            yield Broke("bad_tool_calls", f"{where}[{place}].type", call["type"])
        if not _is_json_object(function.get("arguments")):
            yield Broke("bad_arguments", f"{where}[{place}].function.arguments", function.get("arguments"))


def _ids(calls: Any) -> list[str]:
    if not isinstance(calls, list):
        return []
    ids = [call.get("id") for call in calls if isinstance(call, dict)]
    return [one for one in ids if isinstance(one, str)]


def _is_tool(tool: Any) -> bool:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _is_json_object(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _writable(text: str) -> bool:
    """Return whether a text can be written as UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):
        return repr(value)


_TOOLS = ("tool", "function")
