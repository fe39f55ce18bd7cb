"""The rows of a JSON array, cut out of the file block by block.

    [{"Question": "…", …}, {"Question": "…", …}]
    {"rows": [{"row_idx": 0, "row": {"Question": "…", …}}, …]}

compact or pretty-printed.

In each block the last place is sought where a record like the first one seems to begin; what lies before it
is parsed in one go. A parse that succeeds proves the cut: no beginning of a row of JSON values ends inside a
string or an object. Where the proof fails, and for everything orjson does not keep exactly, values are read
one at a time by Python's own parser. Objects that follow each other without an array around them are read
that way too.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import orjson

from lib.errors import Fact, RecordError
from lib.records.json_text import BadNumberError, Exact, Proof, odd_place, twice_place, value_end
from lib.records.lines import ended_early
from lib.records.row import RAW, Broken, Mark, Piece, Progress, Record, Start, broken
from lib.records.ruler import Ruler
from lib.records.shape import MOST, Shape
from lib.records.source import behind, faults, open_utf8

# Larger blocks are slower: 4 MB ones take 2.5 times the CPU, their strings no longer fit the cache.
BLOCK = 1 << 16
_TRIES = 3
_COMMA = ord(",")
_SPACE = re.compile(r"[ \t\r\n]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")


def read(shape: Shape, start: Start, stop: int | None, progress: Progress) -> Generator[Piece, None, Start]:
    """Yield the rows of an array, or of objects one after the other (kind "objects")."""
    reader = _Reader(shape, start, stop)
    with closing(reader):
        while not reader.over and not reader.arrived:
            reader.fill()
            yield from reader.many() or reader.one_by_one()
            if progress:
                progress(behind(reader.file))
        yield from reader.complaints()
    if progress and not reader.arrived:
        progress(shape.size)
    return reader.reached


def marks(shape: Shape, start: Start, stop: int | None, progress: Progress, mark: Mark) -> Start:
    """Tell `mark` where some rows begin; return the `Start` reached. Nothing is checked that moves no row."""
    reader = _Reader(shape, start, stop)
    with closing(reader):
        while not reader.over and not reader.arrived:
            reader.fill()
            if reader.steady:
                mark(reader.reached)
            if not reader.count():
                for _ in reader.one_by_one():
                    pass
            if progress:
                progress(behind(reader.file))
        for _ in reader.complaints():
            pass
    return reader.reached


class _Block:
    """Rows parsed in one go; their lines are counted only when somebody asks."""

    def __init__(self, text: bytes, first: int, line: int) -> None:
        self._text, self._first, self._line = text, first, line
        self._lines: list[int] = []

    def of(self, number: int) -> int:
        if not self._lines:
            text, at, line = self._text.decode("utf-8"), 0, self._line
            exact = Exact()
            while (begin := _after_space(text, at)) < len(text):
                line += text.count("\n", at, begin)
                self._lines.append(line)
                end = exact.decode(text, begin)[1]
                comma = text.index(",", end)
                line += text.count("\n", begin, comma)
                at = comma + 1
        return self._lines[number - self._first]


class _Reader:
    """A window on the file: `buffer` from `at` to `end`, which is byte `offset` of the file, on line `line`.

    `span` bytes of it are looked at; it doubles while no whole row fits, so that a huge row costs no more
    than twice its size. `number` is that of the next row. `fault` is a broken row whose end is still sought.
    The reader has `arrived` at the first row that begins at `stop` or behind it.
    """

    def __init__(self, shape: Shape, start: Start, stop: int | None) -> None:
        self.shape = shape
        self.number = start.number
        self.offset = start.offset or shape.begin
        self.line = start.line if start.offset else shape.begin_line
        self.span = BLOCK
        # one byte before the window is free, for the bracket that makes some rows an array
        self.buffer, self.at, self.end = bytearray(1 + BLOCK), 1, 1
        self.file = open_utf8(shape, self.offset)
        self.ended = self.over = False
        self.stop = sys.maxsize if stop is None else stop
        self.arrived = self.offset >= self.stop
        self.inside = shape.kind == "array"  # between the brackets of an array
        self.comma = self.offset > shape.begin  # a comma came, and no row after it yet
        self.fault: Broken | None = None
        self._exact, self._proof = Exact(), Proof()
        self._next_row = _next_row(shape.key)
        self._ruler = Ruler(shape)
        self._seen = (0, 0)

    def close(self) -> None:
        self.file.close()
        self._ruler.close()

    @property
    def steady(self) -> bool:
        """Whether a reader could start afresh here."""
        return not self.fault and self.inside == (self.shape.kind == "array")

    def fill(self) -> None:
        """Read on until `span` bytes are there or the file ends."""
        left = self.end - self.at
        if left >= self.span or self.ended:
            return
        # a window that has grown for one huge row does not stay that large
        size = 1 + self.span
        buffer = self.buffer if len(self.buffer) == size else bytearray(size)
        buffer[1 : 1 + left] = self.buffer[self.at : self.end]
        self.buffer, self.at, self.end = buffer, 1, 1 + left
        with memoryview(buffer) as view:
            while self.end < size:
                count = self.file.readinto(view[self.end :])
                if not count:
                    self.ended = True
                    return
                self.end += count

    @property
    def reached(self) -> Start:
        """The place of the next row; behind the file's last byte where none can follow."""
        offset = self.offset if self.arrived or not self.over else max(self.offset, self.shape.size)
        return Start(offset, self.number, self.line)

    def many(self) -> list[Piece]:
        """Take all rows up to the last place in the window where one seems to begin; [] if unproven."""
        found = self._block(checked=True)
        if not found:
            return []
        values, end = found
        line: int | _Block = self.line
        if self.buffer.find(b"\n", self.at, end) >= 0:
            line = _Block(bytes(self.buffer[self.at : end]), self.number, self.line)
        if self.shape.unwrap:
            values = [self._unwrapped(value) for value in values]
        pieces: list[Piece] = [
            Record(number, value, line) for number, value in enumerate(values, self.number)
        ]
        self._pass(len(values), end)
        return pieces

    def count(self) -> bool:
        """Pass the rows that `many` would take, or return False."""
        found = self._block(checked=False)
        if found:
            self._pass(len(found[0]), found[1])
        return bool(found)

    def _block(self, *, checked: bool) -> tuple[list[Any], int] | None:
        """Return values and end of all rows that the window surely holds; if `checked`, only exact ones."""
        key, buffer = self.shape.key, self.buffer
        if not key or not self.inside or self.fault:
            return None
        end = min(self.at + self.span, self.end, self.at + self.stop - self.offset + len(key))
        for _ in range(_TRIES):
            end = buffer.rfind(key, self.at + 1, end)
            if end < 0:
                return None
            comma = end - 1
            while buffer[comma] in b" \t\r\n":
                comma -= 1
            if buffer[comma] != _COMMA or comma <= self.at:
                continue
            buffer[self.at - 1], buffer[comma] = b"[]"
            try:
                with memoryview(buffer)[self.at - 1 : comma + 1] as text:
                    values = orjson.loads(text)
                    return (values, end) if not checked or self._proof.holds(values, text) else None
            except orjson.JSONDecodeError:
                continue
            finally:
                buffer[comma] = _COMMA
        return None

    def _pass(self, rows: int, end: int) -> None:
        self._take(end - self.at)
        self.number += rows
        self.comma = True
        self.arrived = self.offset >= self.stop

    def complaints(self) -> Iterator[Broken]:
        """Say what is wrong with the file as a whole, once it is read to its end."""
        if not self.arrived:
            for fault in faults(self.shape, self.file, self.number, self.line):
                self.number += 1
                yield fault

    def one_by_one(self) -> Iterator[Piece]:
        """Take the rows of the window singly, and say what is broken."""
        text, whole = self._text()
        self._seen = (0, self.line)
        at, stop = 0, self._stop(text)
        while not self.over:
            if self.fault:
                found = self._next_row.search(text, at)
                if not found and not self._final:
                    at = max(at, len(text) - 200)  # a row's beginning may be cut here
                    break
                if found and self.fault.reason == "truncated":
                    self.fault = replace(
                        self.fault, error=RecordError("record.bad_json", **self.fault.error.facts)
                    )
                yield self.fault
                self.fault, self.over = None, not found
                at = found.end() if found else len(text)
                continue
            at = _after_space(text, at)
            if at == len(text):
                if not self._final:
                    break
                self.over = True
                if self.inside:
                    yield self._broken("truncated", text, at)
            elif at >= stop and self.steady and text[at] != "]":
                self.arrived = True
                break
            elif self.inside and text[at] == "]":
                if self.comma:
                    yield self._broken("trailing_comma", text, at)
                at += 1
                self.inside = self.comma = False
                self.over = self.shape.nested
            elif not self.inside and self.shape.kind == "array":
                yield self._broken("after_end", text, at)
                self.inside = text[at] == "["
                self.over = not self.inside
                at += 1
            else:
                deep = False
                try:
                    value, end = self._exact.decode(text, at)
                except (json.JSONDecodeError, BadNumberError, RecursionError) as error:
                    early = isinstance(error, json.JSONDecodeError) and ended_early(error)
                    deep = isinstance(error, RecursionError)
                    end = value_end(text, at) if deep else -1
                    if (early or deep) and end < 0 and not self._final and self.span < MOST:
                        break
                    if end < 0:
                        self.fault = self._complaint(error, early, text, at)
                        at += 1
                        continue
                following = _after_space(text, end)
                if following == len(text) and not self._final:
                    break
                escaped = None if whole else _NOT_UTF8.search(text, at, end)
                if deep:
                    yield self._broken("too_deep", text, at, text[at : at + 200])
                elif escaped:
                    yield self._broken("bad_bytes", text, escaped.start(), text[at:end])
                elif (twice := self._exact.twice) is not None:
                    place = twice_place(text, at, twice)
                    yield self._broken("duplicate_key", text, place, text[at:end], name=twice[:80])
                else:
                    line = self._line(text, at)
                    note = None
                    if self._exact.odd:
                        note = self._broken("not_a_number", text, odd_place(text, at)).error
                    else:
                        self.number += 1
                    yield Record(self.number - 1, self._unwrapped(value), line, note)
                after = text[following : following + 1]
                self.comma = after == ","
                at = following + self.comma
                if self.inside and after == "{":
                    yield self._broken("missing_comma", text, at)
                elif self.inside and after and after not in ",]":
                    self.fault = self._broken("bad_json", text, at)
        self._take(len(text[:at].encode("utf-8", "surrogateescape")))
        if not at and not self.arrived:
            self.span *= 2

    def _unwrapped(self, value: Any) -> Any:
        name = self.shape.unwrap
        return value[name] if name and isinstance(value, dict) and name in value else value

    @property
    def _final(self) -> bool:
        return self.ended and self.end - self.at <= self.span

    def _take(self, size: int) -> None:
        """Put `size` bytes behind."""
        if self.buffer.find(b"\n", self.at, self.at + size) >= 0:  # to find none is much faster than to count
            self.line += self.buffer.count(b"\n", self.at, self.at + size)
        self.offset += size
        self.at += size
        if size:
            self.span = BLOCK

    def _text(self) -> tuple[str, bool]:
        """Decode the window; say whether all of it is UTF-8. Bytes that are not come as lone surrogates."""
        window = bytes(self.buffer[self.at : min(self.at + self.span, self.end)])
        try:
            return codecs.utf_8_decode(window, "strict", self._final)[0], True
        except UnicodeDecodeError:
            return codecs.utf_8_decode(window, "surrogateescape", self._final)[0], False

    def _stop(self, text: str) -> int:
        """Return where in the window's text the reader is to stop."""
        left = self.stop - self.offset
        if left >= min(self.span, self.end - self.at):
            return len(text) + 1
        front = bytes(self.buffer[self.at : self.at + max(left, 0)])
        return len(codecs.utf_8_decode(front, "surrogateescape", False)[0])

    def _broken(self, key: str, text: str, at: int, piece: str | None = None, **facts: Fact) -> Broken:
        """Make the fault at `text[at]` and count it in."""
        self.number += 1
        newline = text.rfind("\n", 0, at)
        column = at - newline + (0 if newline >= 0 else self._ruler.before(self.offset))
        near = _clean(text[at : at + 30])
        raw = near if piece is None else _clean(piece[:RAW])
        line = self._line(text, at)
        return broken(self.shape, self.number - 1, key, line, column, raw, near=near, **facts)

    def _complaint(self, error: Exception, early: bool, text: str, at: int) -> Broken:
        where = error.pos if isinstance(error, json.JSONDecodeError) else at
        if isinstance(error, BadNumberError):
            key = "bad_number"
        elif isinstance(error, RecursionError):
            key = "too_deep"
        elif early:
            key = "truncated" if self._final else "too_long"
        else:
            key = "bad_json"
        return self._broken(key, text, where, text[at : at + 200])

    def _line(self, text: str, at: int) -> int:
        """Return the line of `text[at]`; asked in order, so that the window is counted once."""
        seen, line = self._seen
        if at < seen:
            seen, line = 0, self.line
        line += text.count("\n", seen, at)
        self._seen = (at, line)
        return line


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found
    return found.end()


def _next_row(key: bytes) -> re.Pattern[str]:
    """Return what finds, behind a broken row, the beginning of one that has the first row's first field."""
    name = re.search(r'"(?:[^"\\]|\\.)*"', key.decode("utf-8", "replace"))
    field = rf"{re.escape(name[0])}\s*:" if name else r'["}]'
    return re.compile(rf"[,}}\]]\s*(?=\{{\s*{field})")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
