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

To add a kind of file: a reader that yields `Record` and `Broken`, a row in `_READERS`, a branch in `sniff`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lib.errors import RecordError
from lib.records import arrays, index, lines, tables
from lib.records.row import Broken, Piece, Progress, Record, Start
from lib.records.shape import Shape, sniff

__all__ = [
    "ENDINGS",
    "Broken",
    "Page",
    "Piece",
    "Record",
    "Shape",
    "columns",
    "find",
    "page",
    "read",
    "sniff",
]

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a file from the `start`-th on, counted from 0. `total` is the number of all."""

    start: int
    rows: tuple[Piece, ...]
    total: int


def read(path: Path, progress: Progress = None) -> Iterator[Piece]:
    """Yield every row of a file, in order, in bounded memory.

    `progress` is told, every block or so, how many bytes of the file are behind. Raises `RecordError` where
    the file as a whole is no data file: missing, empty, a web page, an archive, an unknown encoding.
    """
    shape = sniff(path)
    with _told(path):
        yield from _READERS[shape.kind](shape, Start(), progress, None)


def page(path: Path, start: int, n: int) -> Page:
    """Return at most `n` rows of a file from the `start`-th on, counted from 0.

    The first call on a file reads it once to know where its rows are; that is remembered until the file
    changes, and every later page takes milliseconds. Raises what `read` raises.
    """
    shape = sniff(path)
    start = max(0, start)
    with _told(path):
        known = index.of(shape, _READERS[shape.kind])
        rows: list[Piece] = []
        if n > 0 and start < known.total:
            nearby = _READERS[shape.kind](shape, known.before(start + 1), None, None)
            rows += islice((row for row in nearby if row.number > start), n)
        return Page(start, tuple(rows), known.total)


def columns(values: Iterable[Any]) -> list[str]:
    """Return the names of all fields of some rows' values, in the order of their first appearance."""
    return list(dict.fromkeys(name for value in values if isinstance(value, dict) for name in value))


def find(folder: Path) -> list[Path]:
    """Return the data files in a folder and below it, by path; what describes or loads a dataset is none."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.name.lower() not in _DESCRIPTIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the operating system's complaints into a `RecordError`."""
    try:
        yield
    except FileNotFoundError:
        raise RecordError("record.missing_file", file=str(path)) from None
    except PermissionError:
        raise RecordError("record.not_readable", file=str(path)) from None


_READERS: dict[str, index.Reader] = {
    "array": arrays.read,
    "objects": arrays.read,
    "lines": lines.read,
    "csv": tables.read_csv,
    "parquet": tables.read_parquet,
}

_DESCRIPTIONS = {"dataset.json", "dataset_info.json", "dataset_infos.json", "config.json", "requirements.txt"}
