"""Tables: CSV and TSV, whose first row names the fields and whose values are all text; and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from lib.errors import RecordError
from lib.records.row import Broken, Mark, Piece, Progress, Record, Start
from lib.records.shape import MOST, Shape
from lib.records.source import behind, open_utf8

_EVERY = 64
_BATCH = 256


def read_csv(shape: Shape, start: Start, progress: Progress, mark: Mark | None = None) -> Iterator[Piece]:
    """Yield the rows of a CSV file. Line breaks inside quotes belong to the value."""
    csv.field_size_limit(MOST)
    with open_utf8(shape) as file:
        lines = _Lines(file)
        header = next(csv.reader(lines, delimiter=shape.delimiter, strict=True), [])
        names = _names(header)
        if start.offset:
            lines.move(start)
        rows = csv.reader(lines, delimiter=shape.delimiter, strict=True)
        number = start.number
        while True:
            here = Start(lines.offset, number, lines.line + 1)
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield _complaint(error, here, lines)
                number += 1
                continue
            except UnicodeDecodeError:
                yield Broken.at(number, "bad_bytes", lines.line, None, lines.text)
                number += 1
                rows = csv.reader(lines, delimiter=shape.delimiter, strict=True)
                continue
            if row is None:
                break
            if not row:
                continue
            if mark and not (number - 1) % _EVERY:
                mark(here)
            if len(row) == len(names):
                yield Record(number, dict(zip(names, row, strict=True)), here.line)
            else:
                shown = shape.delimiter.join(row)
                yield Broken.at(
                    number, "bad_row", here.line, None, shown, found=len(row), wanted=len(names)
                )
            if progress and not number % _EVERY:
                progress(behind(file))
            number += 1
        if progress:
            progress(shape.size)
