"""Every rule a conversation can break, for the place it is meant for.

Which rules a target has, and how much each weighs, is in `lib/targets.toml`. A finding names the line, the
field, the rule and the value; the rule's sentence is `check.RULE` in each language.

To add a rule: yield it in `_broken`, `_order` or `check_file`, a line for each target that has it, its
sentence.
"""

from __future__ import annotations

import tomllib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from lib import estimate, records
from lib.chat import Conversation

# Findings kept of one file; what is beyond is counted only.
MOST = 100_000


@dataclass(frozen=True, slots=True)
class Target:
    """A place to train and what it accepts.

    `rules`: rule -> "error" or "warning". `max_tokens`: of a row, by estimate. `checked`: the day `source`
    was read.
    """

    name: str
    source: str
    checked: str
    endings: tuple[str, ...]
    roles: tuple[str, ...]
    max_tokens: int
    rules: dict[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule: the line of the file (0: the file itself), where in the row, what stands there."""

    line: int
    field: str
    rule: str
    severity: str
    value: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a file. `counts`: rule -> how often, also of findings beyond the first MOST."""

    rows: int
    findings: list[Finding]
    counts: dict[str, int]


@cache
def targets() -> dict[str, Target]:
    """Return every target by its short name; the strictest, and the default, comes first."""
    read = tomllib.loads(Path(__file__).with_name("targets.toml").read_text(encoding="utf-8"))
    return {
        short: Target(
            name=given["name"],
            source=given["source"],
            checked=str(given["checked"]),
            endings=tuple(given["endings"]),
            roles=tuple(given["roles"]),
            max_tokens=given["max_tokens"],
            rules=given["rules"],
        )
        for short, given in read.items()
    }


def check_file(
    path: Path, target: Target, progress: Callable[[int], None] | None = None, most: int = MOST
) -> Report:
    """Check a chat JSONL file, every row against every rule.

    Raises `RecordError` where the file as a whole cannot be read. `progress` is told the bytes behind.
    """
    findings: list[Finding] = []
    counts: dict[str, int] = {}
    hashes, lines = array("q"), array("q")
    rows = 0

    def found(line: int, rule: str, field: str, value: Any) -> None:
        severity = target.rules.get(rule)
        if severity:
            counts[rule] = counts.get(rule, 0) + 1
            if len(findings) < most:
                findings.append(Finding(line, field, rule, severity, _shown(value)))

    if path.suffix.lower() not in target.endings:
        found(0, "ending", "", path.name)
    for piece in records.read(path, progress):
        rows += 1
        line = piece.line or piece.number
        if isinstance(piece, records.Broken):
            found(line, "not_json", "", piece.raw)
            continue
        for rule, field, value in _row(piece.value, target):
            found(line, rule, field, value)
        hashes.append(hash(_canonical(piece.value)))
        lines.append(line)
    for later, first in _repeated(hashes):
        found(lines[later], "duplicate", "messages", lines[first])
    findings.sort(key=lambda finding: finding.line)
    return Report(rows, findings, counts)


def check_conversation(conversation: Conversation, target: Target, line: int = 0) -> list[Finding]:
    """Return every rule one conversation breaks."""
    return [
        Finding(line, field, rule, target.rules[rule], _shown(value))
        for rule, field, value in _row(conversation.as_json(), target)
    ]


def quick(target: Target) -> Callable[[Conversation], bool]:
    """Return a function that says whether a conversation surely breaks no rule, at a tenth of the cost."""
    known: dict[tuple[str, ...], bool] = {}

    def fits(conversation: Conversation) -> bool:
        size = 0
        for message in conversation.messages:
            content = message.content
            if not content or content.isspace():
                return False
            size += len(content)
        if size * estimate.CJK > target.max_tokens:
            return False
        roles = tuple([message.role for message in conversation.messages])
        if roles not in known:
            dummy = {"messages": [{"role": role, "content": "x"} for role in roles]}
            known[roles] = next(_row(dummy, target), None) is None
        return known[roles]

    return fits


Broke = tuple[str, str, Any]  # rule, field, value


def _row(row: Any, target: Target) -> Iterator[Broke]:
    """Yield every rule of the target that one row breaks."""
    return (broke for broke in _broken(row, target) if broke[0] in target.rules)


def _broken(row: Any, target: Target) -> Iterator[Broke]:
    if not isinstance(row, dict):
        yield "not_object", "", row
        return
    messages = row.get("messages")
    if not isinstance(messages, list):
        yield "no_messages", "messages", ", ".join(map(str, row)) if messages is None else messages
        return
    if not messages:
        yield "empty_messages", "messages", messages
        return
    roles: list[str] = []
    texts: list[str] = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, dict):
            yield "not_a_message", where, message
            continue
        role = message.get("role")
        if role is None:
            yield "no_role", f"{where}.role", ", ".join(map(str, message))
        elif role not in target.roles:
            yield "bad_role", f"{where}.role", role
        roles.append(role if isinstance(role, str) else "")
        content = message.get("content")
        if content is None:
            yield "no_content", f"{where}.content", ", ".join(map(str, message))
        elif not isinstance(content, str):
            yield "not_text", f"{where}.content", content
        elif not content or content.isspace():
            yield "empty_content", f"{where}.content", content
        else:
            texts.append(content)
            if not _writable(content):
                yield "bad_characters", f"{where}.content", content
    yield from _order(roles)
    tokens = _tokens(texts, target.max_tokens)
    if tokens > target.max_tokens:
        yield "too_long", "messages", round(tokens)


def _order(roles: list[str]) -> Iterator[Broke]:
    """Yield what is wrong with who speaks when: system first, then user and assistant in turns."""
    last = ""
    for place, role in enumerate(roles):
        where = f"messages[{place}].role"
        if role == "system":
            if place:
                yield "system_not_first", where, role
            continue
        if not last and role != "user":
            yield "first_not_user", where, role
        elif last == role:
            yield "not_alternating", where, role
        last = role
    if last != "assistant":
        yield "unanswered", f"messages[{len(roles) - 1}].role", last
    if "assistant" not in roles:
        yield "no_answer", "messages", last


def _tokens(texts: list[str], most: int) -> float:
    """Return about how many tokens some texts are (lib/estimate.py), an upper bound where that suffices."""
    at_most = sum(map(len, texts)) * estimate.CJK
    return sum(map(estimate.tokens, texts)) if at_most > most else at_most


def _writable(text: str) -> bool:
    """Return whether a text can be written as UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _canonical(row: Any) -> bytes:
    """Return the same bytes for the same messages, whatever else stands in the row."""
    value = row.get("messages", row) if isinstance(row, dict) else row
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError):
        return repr(value).encode("utf-8", "surrogatepass")


def _repeated(hashes: array[int]) -> Iterator[tuple[int, int]]:
    """Yield, for each value that came before, its place and the place it came first; 8 bytes a value."""
    values = np.array(hashes, dtype=np.int64)
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(values[order][1:] == values[order][:-1])
    first = -1
    for place in same.tolist():
        here, following = int(order[place]), int(order[place + 1])
        if first < 0 or values[first] != values[here]:
            first = here
        yield following, first


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text[:200].encode("utf-8", "replace").decode("utf-8")
