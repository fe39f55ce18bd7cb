"""The places to train and what they accept, as `lib/targets.toml` says."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A place to train and what it accepts.

    `rules`: rule -> "error" or "warning"; one that is not there is not looked at. `checked`: the day `source`
    was read; `sources`: rule -> where that one stands, if elsewhere. `max_tokens`: of a row, by estimate;
    `max_chars`: of a message. `min_rows`, `max_rows`, `max_bytes`: of a file. Of these, 0 means that no limit
    is known. `keys`, `message_keys`: the only names a row and a message may have; empty: any. `tools`:
    whether tool calls and tools are taken.
    """

    name: str
    source: str
    checked: str
    endings: tuple[str, ...]
    roles: tuple[str, ...]
    max_tokens: int
    rules: dict[str, str]
    sources: dict[str, str] = field(default_factory=dict)
    max_chars: int = 0
    min_rows: int = 0
    max_rows: int = 0
    max_bytes: int = 0
    keys: tuple[str, ...] = ()
    message_keys: tuple[str, ...] = ()
    tools: bool = False

    def source_of(self, rule: str) -> str:
        """Return where a rule stands."""
        return self.sources.get(rule, self.source)


@cache
def targets() -> dict[str, Target]:
    """Return every target by its short name; the strictest, and the default, comes first."""
    read = tomllib.loads(FILE.read_text(encoding="utf-8"))
    rules = read.pop("rules")
    return {short: _target(given, rules) for short, given in read.items()}


def _target(given: dict[str, Any], rules: dict[str, str]) -> Target:
    idle = {rule for name, needing in _NEEDED.items() if not given.get(name) for rule in needing}
    idle |= {"tools_not_taken"} if given["tools"] else set()
    weights = {rule: weight for rule, weight in (rules | given.get("rules", {})).items() if rule not in idle}
    lists = {name: tuple(given.get(name, ())) for name in ("endings", "roles", "keys", "message_keys")}
    return Target(
        name=given["name"],
        source=given["source"],
        checked=str(given["checked"]),
        rules={rule: weight for rule, weight in weights.items() if weight != "off"},
        sources=given.get("sources", {}),
        max_tokens=given["max_tokens"],
        max_chars=given.get("max_chars", MAX_CHARS),
        min_rows=given.get("min_rows", 0),
        max_rows=given.get("max_rows", 0),
        max_bytes=given.get("max_bytes", 0),
        tools=given["tools"],
        **lists,
    )


# What a target must say for a rule to be broken at all.
_NEEDED = {
    "min_rows": ("too_few_rows",),
    "max_rows": ("too_many_rows",),
    "max_bytes": ("file_too_large",),
    "keys": ("extra_key",),
    "message_keys": ("extra_message_key",),
    "tools": (
        *("bad_tools", "bad_tool_calls", "bad_arguments"),
        *("no_tool_call_id", "unknown_tool_call", "tool_not_answered"),
    ),
}
FILE = Path(__file__).parent.with_name("targets.toml")
# Characters of one message from which it is told to be very long, unless a target says otherwise. Ours: 20
# pages of Chinese, more than any of the targets' row by far.
MAX_CHARS = 20_000
