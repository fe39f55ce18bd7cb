"""Every rule a conversation can break, for the place it is meant for.

    targets.py    the places to train, out of `lib/targets.toml`: which rules each has, how much they weigh
    rules.py      what a row must look like, and who speaks when
    content.py    what a text should not hold: refusals, broken characters, leftovers, secrets, personal data
    leaks.py      questions that stand, nearly alike, on both sides of a split

A finding names the file, the line, the field, the rule, the value and the fix (lib/fixes.py) that mends it;
the rule's sentence is `check.RULE` in each language.

To add a rule: yield it in `rules.py` or `content.py`, a weight in `lib/targets.toml`, its sentence; and where
a fix mends it, a row in `rules.MENDED_BY`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from lib import estimate, records
from lib.chat import Conversation, Message
from lib.check import content, leaks, rules
from lib.check.leaks import near
from lib.check.targets import Target, targets
from lib.repeats import repeats

__all__ = [
    "MOST",
    "Finding",
    "Report",
    "Target",
    "check_conversation",
    "check_file",
    "check_split",
    "checker",
    "near",
    "shown",
    "targets",
]

# Findings kept of one file; what is beyond is counted only.
MOST = 100_000
# Orders of roles whose verdict is remembered.
_ORDERS = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule: the line of the file (0: the file itself), where in the row, what stands there.

    `fix` is the name of what mends it, "" where nothing does; `row` counts from 1, 0 for the file itself.
    """

    line: int
    field: str
    rule: str
    severity: str
    value: str
    fix: str = ""
    row: int = 0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a file of so many `rows` and `size` bytes.

    `counts`: rule -> how often, also of findings beyond the first MOST.
    """

    rows: int
    findings: list[Finding]
    counts: dict[str, int]
    size: int = 0

    @property
    def errors(self) -> list[Finding]:
        """The findings that a place refuses a file for."""
        return [finding for finding in self.findings if finding.severity == "error"]


Checker = Callable[[Conversation], Sequence[Finding]]


def checker(target: Target, max_tokens: int = 0, *, written: bool = False) -> Checker:
    """Return a function that returns every rule a conversation breaks; () at once where it breaks none.

    `max_tokens` takes the place of the target's limit, if given. `written`: it is given only what has been
    written as UTF-8, so it need not try. Where nothing is wrong it takes 3 to 4 microseconds for 900 Chinese
    characters (measured 2026-11).
    """
    most_tokens = max_tokens or target.max_tokens
    sure = min(most_tokens / estimate.CJK, target.max_chars or most_tokens / estimate.CJK)
    known: dict[tuple[str, ...], bool] = {}
    clean, clean_answer = content.clean, content.clean_answer
    is_blank, space = rules.is_blank, rules.SPACE

    def in_order(roles: tuple[str, ...]) -> bool:
        if len(known) > _ORDERS:
            known.clear()
        wrong = {broke.rule for broke in rules.order(roles, target)} & target.rules.keys()
        known[roles] = fine = not wrong and set(roles) <= set(target.roles)
        return fine

    def short(texts: list[str]) -> bool:
        if target.max_chars and max(map(len, texts)) > target.max_chars:
            return False
        return sum(map(estimate.tokens, texts)) <= most_tokens

    def check(conversation: Conversation) -> Sequence[Finding]:
        messages, tools = conversation
        if not tools:
            padded = False
            roles, texts = [], []
            for role, text, extra in messages:
                if extra:
                    break
                bare = text.strip(space)
                if not bare or (bare[0].isspace() and is_blank(text)):
                    break
                padded = padded or bare != text
                if role == "assistant" and not clean_answer(text):
                    break
                roles.append(role)
                texts.append(text)
            else:
                order, joined = tuple(roles), "\n".join(texts)
                if (
                    (known.get(order) or in_order(order))
                    and (len(joined) <= sure or short(texts))
                    and clean(joined, written=written)
                ):
                    return _padded(texts, target) if padded else ()
        return check_conversation(conversation, target, max_tokens=max_tokens)

    return check


def check_conversation(
    conversation: Conversation, target: Target, line: int = 0, max_tokens: int = 0
) -> list[Finding]:
    """Return every rule one conversation breaks."""
    broken = rules.broken(conversation.as_json(), target, max_tokens)
    return [_finding(target, line, *broke) for broke in broken]


def check_file(
    path: Path, target: Target, progress: Callable[[int], None] | None = None, most: int = MOST
) -> Report:
    """Check a chat JSONL file, every row against every rule, in 16 bytes of memory a row.

    Raises `RecordError` where the file as a whole cannot be read. `progress` is told the bytes behind.
    """
    findings: list[Finding] = []
    counts: dict[str, int] = {}
    hashes, lines = array("q"), array("q")
    check = checker(target)
    rows = 0

    def found(line: int, row: int, rule: str, field: str, value: Any) -> None:
        if rule in target.rules:
            counts[rule] = counts.get(rule, 0) + 1
            if len(findings) < most:
                findings.append(_finding(target, line, rule, field, value, row, path.name))

    if path.suffix.lower() not in target.endings:
        found(0, 0, "ending", "", path.name)
    size = path.stat().st_size if path.is_file() else 0
    if target.max_bytes and size > target.max_bytes:
        found(0, 0, "file_too_large", "", size)
    for piece in records.read(path, progress):
        rows += 1
        line = piece.line or piece.number
        if isinstance(piece, records.Broken):
            found(line, piece.number, "not_json", "", piece.raw)
            continue
        value = piece.value
        plain = _plain(value, target)
        if plain is None or check(plain):
            for rule, field, wrong in rules.broken(value, target):
                found(line, piece.number, rule, field, wrong)
        hashes.append(hash(_canonical(value)))
        lines.append(line)
    if rows < target.min_rows:
        found(0, 0, "too_few_rows", "", rows)
    if target.max_rows and rows > target.max_rows:
        found(0, 0, "too_many_rows", "", rows)
    later_ones, first_ones = repeats(np.array(hashes, dtype=np.int64))
    for later, first in zip(later_ones.tolist(), first_ones.tolist(), strict=True):
        found(lines[later], 0, "duplicate", "messages", lines[first])
    findings.sort(key=lambda finding: finding.line)
    return Report(rows, findings, counts, size)


def check_split(train: Path, validation: Path, target: Target) -> list[Finding]:
    """Return the validation rows whose question is in the training file, the same or nearly.

    Nearly is as lib/check/leaks.py says. The value is where it is trained on: `train.jsonl:17`. Where there
    are more validation questions than are compared for near likeness, a first finding, `near_leak_partly`,
    says how many were. Raises `RecordError` where a file cannot be read.
    """
    seen = leaks.leaks(train, validation, target)
    found = [
        Finding(
            leak.line,
            "messages",
            leak.rule,
            target.rules[leak.rule],
            f"{train.name}:{leak.train_line}",
            rules.MENDED_BY[leak.rule],
            leak.row,
            validation.name,
        )
        for leak in seen.found[:MOST]
    ]
    if 0 < seen.compared < seen.questions and "near_leak_partly" in target.rules:
        value = f"{seen.compared} / {seen.questions}"
        weight = target.rules["near_leak_partly"]
        found.insert(0, Finding(0, "", "near_leak_partly", weight, value, file=validation.name))
    return found


def shown(value: Any) -> str:
    """Return a value as it is shown: 200 characters at most, nothing personal in full."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > 10:
        text = content.masked(text[:1000])
    return text[:200].encode("utf-8", "replace").decode("utf-8")


def _padded(texts: list[str], target: Target) -> Sequence[Finding]:
    """Return the texts with space around them, of a conversation that breaks no other rule.

    Datasets have it in half of their rows, so it gets a short way of its own: 3 microseconds instead of 16.
    """
    severity = target.rules.get("padded")
    if not severity:
        return ()
    return [
        Finding(0, f"messages[{place}].content", "padded", severity, text[:200], rules.MENDED_BY["padded"])
        for place, text in enumerate(texts)
        if text.strip(rules.SPACE) != text
    ]


def _finding(
    target: Target, line: int, rule: str, field: str, value: Any, row: int = 0, file: str = ""
) -> Finding:
    fix = rules.MENDED_BY.get(rule, "")
    return Finding(line, field, rule, target.rules[rule], shown(value), fix, row, file)


def _plain(row: Any, target: Target) -> Conversation | None:
    """Return a row as a conversation where it is nothing but one, else None."""
    if type(row) is not dict or (target.keys and len(row) != 1) or row.get("tools"):
        return None
    messages = row.get("messages")
    if type(messages) is not list or not messages:
        return None
    turns = []
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        role, text = message.get("role"), message.get("content")
        if type(role) is not str or type(text) is not str:
            return None
        turns.append(Message(role, text))
    return Conversation(tuple(turns))


def _canonical(row: Any) -> bytes:
    """Return the same bytes for the same messages, whatever else stands in the row."""
    value = row.get("messages", row) if isinstance(row, dict) else row
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError):
        return repr(value).encode("utf-8", "surrogatepass")
