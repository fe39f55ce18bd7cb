"""field_names.toml, ready for looking up: what datasets call their fields and who speaks in them."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parent.with_name("field_names.toml")


@dataclass(frozen=True, slots=True)
class Names:
    """The names, plain (`plain`). `fields`: role -> name -> place, the first being the best."""

    fields: dict[str, dict[str, int]]
    other: frozenset[str]
    endings: tuple[str, ...]
    titles: frozenset[str]
    running: frozenset[str]
    filling: frozenset[str]
    roles: dict[str, str]
    turns: dict[str, tuple[str, tuple[str, ...]]]
    pairs: tuple[tuple[str, str], ...]
    reasoning: tuple[str, ...]
    instruction: frozenset[str]
    preferences: tuple[tuple[str, str], ...]
    verdicts: frozenset[str]
    marks: dict[str, str]
    preambles: tuple[str, ...]


def plain(name: str) -> str:
    """Return a name as it is compared: lower case, no accents, no spaces, hyphens and underscores."""
    return _plain(re.sub(r"[\s_\-]+", "", name))


def tokens(name: str) -> list[str]:
    """Return the words a name is made of, plain, without remarks in brackets."""
    name = re.sub(r"[(\[\uff08\u3010].*?[)\]\uff09\u3011]", " ", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [_plain(token) for token in re.split(r"[\W_]+", name) if token]


def _plain(name: str) -> str:
    apart = unicodedata.normalize("NFKD", name)
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", apart)).casefold()


@cache
def names() -> Names:
    """Return what field_names.toml holds."""
    read = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    turn = read["turn"]
    return Names(
        fields={
            role: {plain(name): place for place, name in reversed(list(enumerate(names)))}
            for role, names in read["fields"].items()
        },
        other=_all(read["other"]["names"]),
        endings=tuple(read["other"]["endings"]),
        titles=_all(read["other"]["titles"]),
        running=_all(read["other"]["running"]),
        filling=_all(read["other"]["filling"]),
        roles={plain(name): role for role, names in read["roles"].items() for name in names},
        turns={
            shape: (turn[shape]["role"], tuple(turn[shape]["content"])) for shape in ("messages", "sharegpt")
        },
        pairs=tuple((side, other) for side, other in turn["pairs"]),
        reasoning=tuple(turn["reasoning"]),
        instruction=_all(read["alpaca"]["instruction"]),
        preferences=tuple((good, bad) for good, bad in read["preference"]["pairs"]),
        verdicts=_all(read["preference"]["verdicts"]),
        marks={mark: role for role, marks in read["rendered"]["marks"].items() for mark in marks},
        preambles=tuple(read["rendered"]["preambles"]),
    )


def _all(written: list[str]) -> frozenset[str]:
    return frozenset(map(plain, written))
