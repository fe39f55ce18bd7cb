"""What a reader yields: a `Record` for every row, a `Broken` for every piece that is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lib.errors import Fact, RecordError


class Lines(Protocol):
    """Knows on which lines some rows begin, but counts only when asked."""

    def of(self, number: int) -> int:
        """Return the line of the row numbered `number`."""


class Record:
    """One row: its number in the file (from 1), its fields, and the line it begins on."""

    __slots__ = ("_line", "number", "value")

    def __init__(self, number: int, value: dict[str, Any], line: int | Lines | None) -> None:
        self.number = number
        self.value = value
        self._line = line

    @property
    def line(self) -> int | None:
        """The line of the file the row begins on, from 1; None where a format has no lines (Parquet)."""
        if self._line is None or isinstance(self._line, int):
            return self._line
        return self._line.of(self.number)

    def __repr__(self) -> str:
        return f"Record({self.number}, {self.value!r})"


@dataclass(frozen=True, slots=True)
class Broken:
    """A piece of a file that is no record: where it is, why, and how it begins.

    `key` and `facts` are those of a `RecordError`. `line` and `column` count characters from 1 and point at
    the fault itself; `text` is the beginning of the piece, at most 200 characters.
    """

    number: int
    key: str
    line: int | None
    column: int | None
    text: str
    facts: dict[str, Fact]

    @classmethod
    def at(
        cls, number: int, key: str, line: int | None, column: int | None, text: str, **facts: Fact
    ) -> Broken:
        """Make one, with line, column and the fault's first characters among its facts."""
        near = str(facts.pop("near", text))[:30]
        told: dict[str, Fact] = {"line": line, "column": column, "near": near, **facts}
        return cls(number, f"record.{key}", line, column, text[:200], told)

    @property
    def reason(self) -> str:
        """The key's last part: `bad_json`, `truncated`, …"""
        return self.key.rpartition(".")[2]

    def error(self) -> RecordError:
        """Return what to raise where one broken piece is one too many."""
        return RecordError(self.key, **self.facts)


Piece = Record | Broken


@dataclass(frozen=True, slots=True)
class Start:
    """A place to read on from: a byte offset, and the number and line of the row that begins there.

    For Parquet, `offset` is the number of a row group.
    """

    offset: int = 0
    number: int = 1
    line: int = 1


Mark = Callable[[Start], None]
Progress = Callable[[int], None] | None
