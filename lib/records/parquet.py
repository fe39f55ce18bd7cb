"""Parquet: read in small batches, one row group after the other.

A place in a Parquet file is the number of a row group. `Start.line` is then the number of its first row.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import IO, Any

from lib.errors import RecordError
from lib.records.row import Mark, Piece, Progress, Record, Start, broken
from lib.records.shape import Shape

_BATCH = 256
_BUFFER = 1 << 16
# Rows of a group that are passed over in some 10 ms, and rows of the groups that are written instead.
_LARGE, _GROUP = 10_000, 1_000


def read(shape: Shape, start: Start, stop: int | None, progress: Progress) -> Generator[Piece, None, Start]:
    """Yield the rows of a Parquet file."""
    with opened(shape) as file:
        groups = min(file.metadata.num_row_groups, sys.maxsize if stop is None else stop)
        number, skip = start.line, start.number - start.line
        for group in range(start.offset, groups):
            for batch in file.iter_batches(_BATCH, row_groups=[group], use_threads=False):
                if skip >= len(batch):
                    skip, number = skip - len(batch), number + len(batch)
                    continue
                yield from pieces(shape, batch.slice(skip), number + skip)
                skip, number = 0, number + len(batch)
            if progress:
                progress(shape.size * (group + 1) // (file.metadata.num_row_groups + 1))
    if progress and stop is None:
        progress(shape.size)
    return Start(groups, number, number)


def pieces(shape: Shape, batch: Any, number: int) -> Iterator[Piece]:
    """Yield the rows of a batch, of which the first has this number."""
    try:
        values = batch.to_pylist()
    except ValueError:
        values = [_value(batch.slice(place, 1)) for place in range(len(batch))]
    for value in values:
        if isinstance(value, ValueError):
            yield broken(shape, number, "bad_bytes", None, None, str(value))
        else:
            yield Record(number, value, None)
        number += 1


def _value(row: Any) -> Any:
    """Return the value of a single row, or the error that keeps it from being one."""
    try:
        return row.to_pylist()[0]
    except ValueError as error:  # text that is not UTF-8
        return error


def marks(shape: Shape, start: Start, stop: int | None, _progress: Progress, mark: Mark) -> Start:
    """Tell `mark` where each row group begins, from the file's footer; return the `Start` reached."""
    with opened(shape) as file:
        groups = min(file.metadata.num_row_groups, sys.maxsize if stop is None else stop)
        number = start.line
        for group in range(start.offset, groups):
            if rows := file.metadata.row_group(group).num_rows:
                mark(Start(group, number, number))
                number += rows
        return Start(groups, number, number)


def cuts(shape: Shape, size: int) -> list[int]:
    """Return numbers of row groups, about `size` bytes of the file apart; the first is 0."""
    places, since = [0], 0
    with opened(shape) as file:
        known = file.metadata
        for group in range(known.num_row_groups):
            if since >= size:
                places.append(group)
                since = 0
            columns = (known.row_group(group).column(place) for place in range(known.num_columns))
            since += sum(column.total_compressed_size for column in columns)
    return places


def large_groups(shape: Shape) -> bool:
    """Return whether a Parquet file has row groups too large to find a row in one quickly."""
    with opened(shape) as file:
        groups = range(file.metadata.num_row_groups)
        return any(file.metadata.row_group(group).num_rows > _LARGE for group in groups)


def regroup(shape: Shape, out: IO[bytes], progress: Progress) -> None:
    """Write a Parquet file anew, in row groups small enough to find a row quickly."""
    from pyarrow import parquet

    with opened(shape) as file, parquet.ParquetWriter(out, file.schema_arrow, compression="lz4") as to:
        rows = 0
        for batch in file.iter_batches(_GROUP, use_threads=False):
            to.write_batch(batch, row_group_size=_GROUP)
            rows += len(batch)
            if progress:
                progress(shape.size * rows // (file.metadata.num_rows + 1))


@contextmanager
def opened(shape: Shape) -> Iterator[Any]:
    """Open a Parquet file so that reading it takes little memory; make Arrow's complaints `RecordError`."""
    import pyarrow
    from pyarrow import parquet

    # What this allocator is given back it returns; Arrow's own keeps some 30 MB, and is no faster here.
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    try:
        # without a buffer size, each column of a row group is read as a whole
        with parquet.ParquetFile(shape.copy or shape.path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except (FileNotFoundError, PermissionError):
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordError("record.bad_parquet", file=shape.path.name, why=str(error)[:200]) from error
