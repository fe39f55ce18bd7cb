"""What a reader yields: a `Record` for every row, a `Broken` for every piece that is none."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from lib.errors import Fact, RecordError
from lib.records.shape import Shape

# Characters kept of what is no row: enough to mend it by hand.
RAW = 20_000


class Lines(Protocol):
    """Knows on which lines some rows begin, but counts only when asked."""

    def of(self, number: int) -> int:
        """Return the line of the row numbered `number`."""


class Record:
    """One row: its number in the file (from 1), its value, and the line it begins on.

    The value is a dict of fields in any file that holds records; a JSON file may hold anything else. `note`
    tells what was kept though the format does not know it: "record.not_a_number", with line and column.
    """

    __slots__ = ("_line", "note", "number", "value")

    def __init__(
        self, number: int, value: Any, line: int | Lines | None, note: RecordError | None = None
    ) -> None:
        self.number = number
        self.value = value
        self._line = line
        self.note = note

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
    """A piece of a file that is no row: where it is and why.

    `error` is what to tell; `line` and `column` (among its facts too) point at the fault itself, in
    characters from 1, None where a format has none. `raw` is the piece, or how it begins: RAW characters
    at most, and 200 where it is not known where it ends.
    """

    number: int
    error: RecordError
    line: int | None
    column: int | None
    raw: str

    @property
    def reason(self) -> str:
        """The last part of the error's key, such as `bad_json`."""
        return self.error.key.rpartition(".")[2]


def broken(
    shape: Shape,
    number: int,
    key: str,
    line: int | None,
    column: int | None,
    raw: str,
    *,
    near: str | None = None,
    **facts: Fact,
) -> Broken:
    """Make a `Broken` with `RecordError` "record.KEY"; `near` is the text at the fault, else `raw`."""
    near = (raw if near is None else near)[:30]
    error = RecordError(
        f"record.{key}", file=shape.path.name, row=number, line=line, column=column, near=near, **facts
    )
    return Broken(number, error, line, column, raw[:RAW])


Piece = Record | Broken


@dataclass(frozen=True, slots=True)
class Start:
    """A place to read on from: a byte offset, and the number and line of the row that begins there.

    For Parquet, `offset` is the number of a row group.
    """

    offset: int = 0
    number: int = 1
    line: int = 1


def moved(piece: Piece, base: Start) -> Piece:
    """Return a row of a stretch with its number and lines counted from the file's beginning."""
    number = piece.number + base.number - 1
    line = None if piece.line is None else piece.line + base.line - 1
    if isinstance(piece, Record):
        return Record(number, piece.value, line, piece.note and _moved(piece.note, base))
    return Broken(number, _moved(piece.error, base), line, piece.column, piece.raw)


def _moved(error: RecordError, base: Start) -> RecordError:
    facts = dict(error.facts)
    for name, add in (("row", base.number - 1), ("line", base.line - 1), ("to_line", base.line - 1)):
        if isinstance(known := facts.get(name), int):
            facts[name] = known + add
    return RecordError(error.key, **facts)


# Marks lie as many rows or bytes apart, whichever is nearer: what is between is read to get at one row.
EVERY, APART = 64, 1 << 15
Mark = Callable[[Start], None]
Progress = Callable[[int], None] | None

# Yields a file's rows from a start to a stop, tells progress, returns the start reached.
Reader = Callable[[Shape, Start, int | None, Progress], Generator[Piece, None, Start]]
# Goes the same way, only to tell where some rows begin.
Marker = Callable[[Shape, Start, int | None, Progress, Mark], Start]
