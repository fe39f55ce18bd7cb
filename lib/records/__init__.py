"""Any data file as a stream of records, in bounded memory.

    shape.py      what a file is, by its content: JSON array, JSON lines, CSV, Parquet, and its encoding
    json_text.py  JSON parsed fast where that is exact, exactly where it is not
    arrays.py     the rows of a JSON array, cut out of the file block by block
    lines.py      JSON lines
    tables.py     CSV, TSV and Parquet
    index.py      where every so-manyth row begins, for paging

`read` yields a `Record` for every row and a `Broken` for every piece that is none; the numbers of both
together count 1, 2, 3 … without a gap, so a ledger over them adds up. What a value is in the file, it is in
the record: what cannot be kept exactly is `Broken`, never changed in silence.

To add a kind of file: a reader that yields `Record` and `Broken`, a row in `_READERS`, a branch in `shape.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.errors import RecordError
from lib.records import arrays, index, lines, tables
from lib.records.row import Broken, Piece, Progress, Record, Start
from lib.records.shape import Shape, sniff

__all__ = ["Broken", "Page", "Piece", "Record", "Shape", "page", "read", "sniff", "total"]

@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a file. `total` counts every row and broken piece of the file."""

    rows: tuple[Piece, ...]
    total: int
    shape: Shape

    @property
    def records(self) -> tuple[Record, ...]:
        """The rows that could be read."""
        return tuple(row for row in self.rows if isinstance(row, Record))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all fields of the page's records, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for record in self.records for name in record.value))


def read(path: Path, progress: Progress = None) -> Iterator[Piece]:
    """Yield every row of a file, in order, in bounded memory.

    `progress` is told, every block or so, how many bytes of the file are behind. Raises `RecordError` where
    the file as a whole is no data file: missing, empty, a web page, an archive, an unknown encoding.
    """
    shape = sniff(path)
    with _told(path):
        yield from _READERS[shape.kind](shape, Start(), progress)


def page(path: Path, first: int, most: int) -> Page:
    """Return at most `most` rows from the row numbered `first` (1 is the file's first).

    The first call on a file reads it once to know where its rows are; that is remembered until the file
    changes, and every later page takes milliseconds. Raises what `read` raises.
    """
    shape = sniff(path)
    with _told(path):
        known = index.of(shape, _READERS[shape.kind])
        start = known.before(max(1, first))
        rows = []
        for row in _READERS[shape.kind](shape, start, None):
            if row.number >= first:
                if len(rows) == most:
                    break
                rows.append(row)
        return Page(tuple(rows), known.total, shape)


def total(path: Path) -> int:
    """Return how many rows and broken pieces a file has."""
    shape = sniff(path)
    with _told(path):
        return index.of(shape, _READERS[shape.kind]).total
