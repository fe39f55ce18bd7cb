"""Tables: CSV and TSV, whose first row names the fields and whose values are all text.

    question,answer
    "What is ""rust""?","A language,
    or iron oxide"

Rows are read by the block, cut at the line breaks that no quote encloses; where that leaves a doubt, line by
line.
"""

from __future__ import annotations

import csv
import io
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterator
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from lib.errors import RecordError
from lib.records.row import RAW, Mark, Piece, Progress, Record, Start, broken
from lib.records.shape import MOST, Shape
from lib.records.source import behind, faults, open_utf8

# The widest cell of a table: csv keeps four bytes a character while it reads one.
_WIDEST = 1 << 23
_BLOCK = 1 << 16
_EVERY = 64
_NEWLINE, _QUOTE = b'\n"'


def read(shape: Shape, start: Start, stop: int | None, progress: Progress) -> Generator[Piece, None, Start]:
    """Yield the rows of a CSV file. Line breaks inside quotes belong to the value, as they are.

    A quote that nothing closes does not take the rest of the file with it: reading goes on at the next line
    that is a row of its own.
    """
    return (yield from _pieces(shape, start, stop, progress, None))


def marks(shape: Shape, start: Start, stop: int | None, progress: Progress, mark: Mark) -> Start:
    """Tell `mark` where the rows of a CSV file begin; return the `Start` reached."""
    reading = _pieces(shape, start, stop, progress, mark)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            reached: Start = end.value
            return reached


def _pieces(
    shape: Shape, start: Start, stop: int | None, progress: Progress, mark: Mark | None
) -> Generator[Piece, None, Start]:
    csv.field_size_limit(_WIDEST)
    names, begin = header(shape)
    if start.offset:
        begin = start
    width, number = len(names), start.number
    with open_utf8(shape, begin.offset) as raw, io.BufferedReader(raw, _BLOCK) as file:
        lines = _Lines(file, begin)
        for offset, line, row in _rows(lines, shape.delimiter, width, stop):
            if mark:
                mark(Start(offset, number, line))
            if isinstance(row, str):
                first, end = lines.first, lines.number
                yield broken(shape, number, row, line, None, first, to_line=end, most=_WIDEST)
            elif len(row) == width:
                yield Record(number, dict(zip(names, row, strict=True)), line)
            else:
                text = shape.delimiter.join(row)
                yield broken(shape, number, "bad_row", line, None, text, found=len(row), wanted=width)
            if progress and not number % _EVERY:
                progress(behind(raw))
            number += 1
        if lines.ended:
            for fault in faults(shape, raw, number, lines.number + 1):
                yield fault
                number += 1
    if progress and lines.ended:
        progress(shape.size)
    return Start(lines.offset, number, lines.number + 1)


def _rows(
    lines: _Lines, delimiter: str, width: int, stop: int | None
) -> Iterator[tuple[int, int, list[str] | str]]:
    """Yield offset, line and fields of each row that is not blank, or the key of what is wrong with it."""
    pattern = row_pattern(delimiter, width)
    while not lines.ended and (stop is None or lines.offset < stop):
        for offset, line, row in lines.block(delimiter, stop):
            if row:
                yield offset, line, row
        slowly = csv.reader(lines, delimiter=delimiter, strict=True)
        while lines.again and (stop is None or lines.offset < stop):
            offset, line = lines.offset, lines.number + 1
            lines.row.clear()
            lines.damaged = False
            try:
                row = next(slowly)
            except csv.Error as error:
                yield offset, line, lines.recover(str(error), pattern, alone=width == 1)
                slowly = csv.reader(lines, delimiter=delimiter, strict=True)
            else:
                if row:
                    yield offset, line, "bad_bytes" if lines.damaged else row


def row_pattern(delimiter: str, width: int) -> re.Pattern[bytes]:
    """Return what matches a row of `width` fields that has no quote where none belongs."""
    mark = re.escape(delimiter.encode())
    field = rb'(?:"(?:[^"]|"")*"|[^"\r\n%b]*)' % mark
    return re.compile(rb"%b(?:%b%b){%d}(?:\r?\n|\Z)" % (field, mark, field, width - 1))


class _Lines:
    """The lines of a file, with the offset of the next one and the number of the last.

    `block` takes many rows at once. What it is not sure of lies in `again`, to be taken line by line: `row`
    are the lines taken since it was cleared, `damaged` says that one of them was not UTF-8.
    """

    def __init__(self, file: BinaryIO, start: Start) -> None:
        self._file = file
        self._rest = b""
        self.again: deque[bytes] = deque()
        self.offset, self.number = start.offset, start.line - 1
        self.row: list[bytes] = []
        self.damaged = self.ended = False

    @property
    def first(self) -> str:
        """How the row begins."""
        return self.row[0][: 4 * RAW].decode("utf-8", "replace") if self.row else ""

    def block(self, delimiter: str, stop: int | None) -> list[tuple[int, int, list[str]]]:
        """Take the rows of a block, with their offsets and lines; none, but lines in `again`, if in doubt.

        A line break with an even number of quotes before it should end a row. It did if csv makes exactly one
        row of each piece: a piece that ends inside quotes would take in the next one.
        """
        part = self._file.read(max(_BLOCK, len(self._rest)))
        text, last = self._rest + part, not part
        if not text:
            self.ended = True
            return []
        signs = np.frombuffer(text, np.uint8)
        breaks = np.flatnonzero(signs == _NEWLINE)
        quotes = np.flatnonzero(signs == _QUOTE)
        even = np.flatnonzero(np.searchsorted(quotes, breaks) % 2 == 0)
        ends = (breaks[even] + 1).tolist()
        numbers = [0, *(even + 1).tolist()]
        if last and (ends[-1] if ends else 0) < len(text):
            ends.append(len(text))
            numbers.append(len(breaks))
        if stop is not None:
            keep = bisect_left(ends, stop - self.offset) + 1
            ends, numbers = ends[:keep], numbers[: keep + 1]
        starts = [0, *ends]
        self._rest = text[starts[-1] :]
        if not ends and not last and len(text) < _WIDEST:
            return []
        try:
            pieces = [text[begin:end].decode("utf-8") for begin, end in pairwise(starts)]
            rows = list(csv.reader(pieces, delimiter=delimiter, strict=True))
        except (csv.Error, UnicodeDecodeError):
            rows = []
        if not ends or len(rows) != len(ends):
            text += b"" if last else self._file.readline(MOST)
            self.again.extend(io.BytesIO(text))
            self._rest = b""
            return []
        found = [
            (self.offset + begin, self.number + 1 + line, row)
            for begin, line, row in zip(starts, numbers, rows, strict=False)
        ]
        self.offset += starts[-1]
        self.number += numbers[-1]
        self.ended = last and not self._rest
        return found

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else self._file.readline(MOST)
        if not line:
            raise StopIteration
        self.number += 1
        self.offset += len(line)
        self.row.append(line)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.damaged = True
            return line.decode("utf-8", "surrogateescape")

    def recover(self, error: str, row: re.Pattern[bytes], *, alone: bool) -> str:
        """After a row that cannot be read, go back to the next line that is one; return what to call it.

        If nothing closes a quote, or if most lines up to where it seems to be closed are rows, it was opened
        by mistake. With one field `alone` in a row, any line would be one.
        """
        self.damaged = False
        ended = "end of data" in error
        endless = "field larger" in error
        others = self.row[1:]
        fits = [place for place, line in enumerate(others) if row.fullmatch(line)]
        if not ended and not endless and (alone or not fits or 2 * len(fits) < len(others) - 1):
            return "bad_quote"
        back = others[fits[0] :] if fits else []
        del self.row[len(self.row) - len(back) :]
        self.again.extendleft(reversed(back))
        self.number -= len(back)
        self.offset -= sum(map(len, back))
        return "too_long" if endless and not fits else "open_quote"


def header(shape: Shape) -> tuple[list[str], Start]:
    """Return the fields' names, empty and repeated ones numbered, and where the rows begin."""
    csv.field_size_limit(_WIDEST)
    with open_utf8(shape, shape.begin) as raw, io.BufferedReader(raw, _BLOCK) as file:
        lines = _Lines(file, Start(shape.begin))
        try:
            header = next(row for row in csv.reader(lines, delimiter=shape.delimiter, strict=True) if row)
        except (StopIteration, csv.Error):
            header = []
    if not header or lines.damaged:
        raise RecordError("record.bad_header", file=shape.path.name, text=lines.first[:80])
    names: list[str] = []
    for place, name in enumerate(header, 1):
        name = name.strip() or f"column_{place}"
        names.append(f"{name}_{place}" if name in names else name)
    return names, Start(lines.offset, 1, lines.number + 1)
