"""A file's records one after the other, whatever its kind; and all of them, or those of one stretch of it.

To add a kind of file: a reader that yields `Record` and `Broken`, a marker that tells where rows begin, a row
for each in `READERS` and `MARKERS`, a branch in `sniff`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import RecordError
from lib.records import arrays, lines, parquet, tables
from lib.records.row import Marker, Piece, Progress, Reader, Start
from lib.records.shape import Shape
from lib.records.sniffing import sniff

READERS: dict[str, Reader] = {
    "array": arrays.read,
    "objects": arrays.read,
    "lines": lines.read,
    "csv": tables.read,
    "parquet": parquet.read,
}

MARKERS: dict[str, Marker] = {
    "array": arrays.marks,
    "objects": arrays.marks,
    "lines": lines.marks,
    "csv": tables.marks,
    "parquet": parquet.marks,
}


def read(
    path: Path, progress: Progress = None, *, begin: int = 0, stop: int | None = None
) -> Generator[Piece, None, Start]:
    """Yield every row of a file, in order, in bounded memory; return the `Start` reached.

    `begin` and `stop` are places as `cuts` gives them. Rows and lines are counted from 1 at `begin`; reading
    ends at the first row that begins at `stop` or behind it, so a row that begins at `stop` proves the cut.
    At the end of the data, the offset returned is at least the file's size.

    `progress` is told, every block or so, how many bytes of the file are behind. Raises `RecordError` where
    the file as a whole is no data file: missing, empty, a web page, an archive, an unknown encoding.
    """
    return (yield from rows(sniff(path), Start(begin), stop, progress))


def rows(shape: Shape, start: Start, stop: int | None, progress: Progress) -> Generator[Piece, None, Start]:
    """Yield the rows of a file already looked at, from a known place on."""
    with told(shape.path):
        return (yield from READERS[shape.kind](shape, start, stop, progress))


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the operating system's complaints into a `RecordError`."""
    try:
        yield
    except FileNotFoundError:
        raise RecordError("record.missing_file", file=str(path)) from None
    except PermissionError:
        raise RecordError("record.not_readable", file=str(path)) from None
