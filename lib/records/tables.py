"""Tables: CSV and TSV, whose first row names the fields and whose values are all text; and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from lib.errors import RecordError
from lib.records.row import Mark, Piece, Progress, Record, Start, broken
from lib.records.shape import MOST, Shape
from lib.records.source import behind, open_utf8

_EVERY = 64
_BATCH = 256


def read_csv(shape: Shape, start: Start, progress: Progress, mark: Mark | None = None) -> Iterator[Piece]:
    """Yield the rows of a CSV file. Line breaks inside quotes belong to the value, as they are.

    `mark` is told where every 64th row begins.
    """
    csv.field_size_limit(MOST)
    names, begin = _header(shape)
    if start.offset:
        begin = start
    with open_utf8(shape, begin.offset) as file:
        lines = _Lines(file, begin)
        rows = csv.reader(lines, delimiter=shape.delimiter, strict=True)
        number = start.number
        while True:
            offset, line = lines.offset, lines.number + 1
            try:
                row = next(rows, None)
            except (csv.Error, UnicodeDecodeError) as error:
                ended = "end of data" in str(error)
                key = (
                    "bad_bytes" if isinstance(error, UnicodeError) else "open_quote" if ended else "bad_quote"
                )
                yield broken(shape, number, key, line, None, lines.last, to_line=lines.number)
                rows = csv.reader(lines, delimiter=shape.delimiter, strict=True)
                number += 1
                continue
            if row is None:
                break
            if not row:  # a blank line
                continue
            if mark and not (number - 1) % _EVERY:
                mark(Start(offset, number, line))
            if len(row) == len(names):
                yield Record(number, dict(zip(names, row, strict=True)), line)
            else:
                text = shape.delimiter.join(row)
                yield broken(shape, number, "bad_row", line, None, text, found=len(row), wanted=len(names))
            if progress and not number % _EVERY:
                progress(behind(file))
            number += 1
    if progress:
        progress(shape.size)


def read_parquet(shape: Shape, start: Start, progress: Progress, mark: Mark | None = None) -> Iterator[Piece]:
    """Yield the rows of a Parquet file. `start.line` is the number of the first row of group `start.offset`.

    `mark` is told where each row group begins.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(shape.path, memory_map=True) as file:
            groups = file.metadata.num_row_groups
            number, skip = start.line, start.number - start.line
            for group in range(start.offset, groups):
                if mark and file.metadata.row_group(group).num_rows:
                    mark(Start(group, number, number))
                for batch in file.iter_batches(_BATCH, row_groups=[group], use_threads=False):
                    if skip >= len(batch):
                        skip, number = skip - len(batch), number + len(batch)
                        continue
                    number, batch, skip = number + skip, batch.slice(skip), 0
                    for value in batch.to_pylist():
                        yield Record(number, value, None)
                        number += 1
                if progress:
                    progress(shape.size * (group + 1) // (groups + 1))
    except pyarrow.ArrowException as error:
        raise RecordError("record.bad_parquet", file=shape.path.name, why=str(error)[:200]) from error
    if progress:
        progress(shape.size)


def parquet_marks(shape: Shape, mark: Mark) -> int:
    """Tell `mark` where each row group begins, from the file's footer; return how many rows there are."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(shape.path, memory_map=True) as file:
            number = 1
            for group in range(file.metadata.num_row_groups):
                mark(Start(group, number, number))
                number += file.metadata.row_group(group).num_rows
            return number - 1
    except pyarrow.ArrowException as error:
        raise RecordError("record.bad_parquet", file=shape.path.name, why=str(error)[:200]) from error


class _Lines:
    """The lines of a file as text, with the offset of the next one and the number of the last."""

    def __init__(self, file: BinaryIO, start: Start) -> None:
        self._file = file
        self.offset, self.number = start.offset, start.line - 1
        self.last = ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        text = self._file.readline(MOST)
        if not text:
            raise StopIteration
        self.number += 1
        self.offset += len(text)
        self.last = text[:800].decode("utf-8", "replace")
        return text.decode("utf-8")


def _header(shape: Shape) -> tuple[list[str], Start]:
    """Return the fields' names, empty and repeated ones numbered, and where the rows begin."""
    with open_utf8(shape, shape.begin) as file:
        lines = _Lines(file, Start(shape.begin))
        try:
            header = next(row for row in csv.reader(lines, delimiter=shape.delimiter, strict=True) if row)
        except (StopIteration, csv.Error, UnicodeDecodeError):
            raise RecordError("record.bad_header", file=shape.path.name, text=lines.last[:80]) from None
    names: list[str] = []
    for place, name in enumerate(header, 1):
        name = name.strip() or f"column_{place}"
        names.append(f"{name}_{place}" if name in names else name)
    return names, Start(lines.offset, 1, lines.number + 1)
