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
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from lib.errors import RecordError
from lib.records.json_text import BadNumberError, decode, doubtful
from lib.records.lines import ended_early
from lib.records.row import Broken, Mark, Piece, Progress, Record, Start, broken
from lib.records.shape import MOST, Shape
from lib.records.source import behind, open_utf8

# Larger blocks are slower: 4 MB ones take 2.5 times the CPU, their strings no longer fit the cache.
BLOCK = 1 << 16
_TRIES = 3
_SPACE = re.compile(r"[ \t\r\n]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_CONTINUATION = bytes(range(0x80, 0xC0))


def read(shape: Shape, start: Start, progress: Progress, mark: Mark | None = None) -> Iterator[Piece]:
    """Yield the rows of an array, or of objects one after the other (kind "objects").

    `mark` is told where each block of rows begins.
    """
    reader = _Reader(shape, start)
    with reader.file:
        while not reader.over:
            reader.fill()
            if mark and reader.steady:
                mark(Start(reader.offset, reader.number, reader.line))
            yield from reader.many() or reader.one_by_one()
            if progress:
                progress(behind(reader.file))
    if progress:
        progress(shape.size)


class _Block:
    """Rows parsed in one go; their lines are counted only when somebody asks."""

    def __init__(self, text: bytes, first: int, line: int) -> None:
        self._text, self._first, self._line = text, first, line
        self._lines: list[int] = []

    def of(self, number: int) -> int:
        if not self._lines:
            text, at, line = self._text.decode("utf-8"), 0, self._line
            while (begin := _after_space(text, at)) < len(text):
                line += text.count("\n", at, begin)
                self._lines.append(line)
                end = decode(text, begin)[1]
                comma = text.index(",", end)
                line += text.count("\n", begin, comma)
                at = comma + 1
        return self._lines[number - self._first]


class _Reader:
    """A window on the file: `buffer` from `at` on, which is byte `offset` of the file, on line `line`.

    `span` bytes of it are looked at; it doubles while no whole row fits, so that a huge row costs no more
    than twice its size. `number` is that of the next row. `fault` is a broken row whose end is still sought.
    """

    def __init__(self, shape: Shape, start: Start) -> None:
        self.shape = shape
        self.number = start.number
        self.offset = start.offset or shape.begin
        self.line = start.line if start.offset else shape.begin_line
        self.buffer, self.at, self.span = b"", 0, BLOCK
        self.file = open_utf8(shape, self.offset)
        self.ended = self.over = False
        self.inside = shape.kind == "array"  # between the brackets of an array
        self.comma = self.offset > shape.begin  # a comma came, and no row after it yet
        self.fault: Broken | None = None
        self._next_row = _next_row(shape.key)
        self._counted = (0, 0)
        self._seen = (0, 0)

    @property
    def steady(self) -> bool:
        """Whether a reader could start afresh here."""
        return not self.fault and self.inside == (self.shape.kind == "array")

    def fill(self) -> None:
        """Read on until `span` bytes are there or the file ends."""
        missing = self.span - (len(self.buffer) - self.at)
        if missing > 0 and not self.ended:
            part = self.file.read(max(missing, BLOCK))
            self.ended = len(part) < max(missing, BLOCK)  # a buffered reader gives less only at the end
            self.buffer, self.at = self.buffer[self.at :] + part, 0

    def many(self) -> list[Piece]:
        """Take all rows up to the last place in the window where one seems to begin; [] if unproven."""
        key = self.shape.key
        if not key or not self.inside or self.fault:
            return []
        end = min(self.at + self.span, len(self.buffer))
        for _ in range(_TRIES):
            end = self.buffer.rfind(key, self.at + 1, end)
            if end < 0:
                return []
            text = self.buffer[self.at : end]
            rows = text.rstrip()
            if not rows.endswith(b","):
                continue
            try:
                values = orjson.loads(b"[%b]" % rows[:-1])
            except orjson.JSONDecodeError:
                continue
            if doubtful(values):
                return []
            block = _Block(text, self.number, self.line)
            if self.shape.unwrap:
                values = [self._unwrapped(value) for value in values]
            pieces: list[Piece] = [
                Record(number, value, block) for number, value in enumerate(values, self.number)
            ]
            self._take(len(text))
            self.number += len(values)
            self.comma = True
            return pieces
        return []

    def one_by_one(self) -> Iterator[Piece]:
        """Take the rows of the window singly, and say what is broken."""
        text, whole = self._text()
        self._seen = (0, self.line)
        at = 0
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
                try:
                    value, end = decode(text, at)
                except (json.JSONDecodeError, BadNumberError, RecursionError) as error:
                    early = isinstance(error, json.JSONDecodeError) and ended_early(error)
                    if early and not self._final and self.span < MOST:
                        break
                    self.fault = self._complaint(error, early, text, at)
                    at += 1
                    continue
                following = _after_space(text, end)
                if following == len(text) and not self._final:
                    break
                escaped = None if whole else _NOT_UTF8.search(text, at, end)
                if escaped:
                    yield self._broken("bad_bytes", text, escaped.start(), text[at:])
                else:
                    self.number += 1
                    yield Record(self.number - 1, self._unwrapped(value), self._line(text, at))
                after = text[following : following + 1]
                self.comma = after == ","
                at = following + self.comma
                if self.inside and after == "{":
                    yield self._broken("missing_comma", text, at)
                elif self.inside and after and after not in ",]":
                    self.fault = self._broken("bad_json", text, at)
        self._take(len(text[:at].encode("utf-8", "surrogateescape")))
        if not at:
            self.span *= 2

    def _unwrapped(self, value: Any) -> Any:
        name = self.shape.unwrap
        return value[name] if name and isinstance(value, dict) and name in value else value

    @property
    def _final(self) -> bool:
        return self.ended and len(self.buffer) - self.at <= self.span

    def _take(self, size: int) -> None:
        """Put `size` bytes behind."""
        self.line += self.buffer.count(b"\n", self.at, self.at + size)
        self.offset += size
        self.at += size
        if size:
            self.span = BLOCK

    def _text(self) -> tuple[str, bool]:
        """Decode the window; say whether all of it is UTF-8. Bytes that are not come as lone surrogates."""
        window = self.buffer[self.at : self.at + self.span]
        try:
            return codecs.utf_8_decode(window, "strict", self._final)[0], True
        except UnicodeDecodeError:
            return codecs.utf_8_decode(window, "surrogateescape", self._final)[0], False

    def _broken(self, key: str, text: str, at: int, piece: str | None = None) -> Broken:
        """Make the fault at `text[at]` and count it in."""
        self.number += 1
        newline = text.rfind("\n", 0, at)
        column = at - newline + (0 if newline >= 0 else self._characters_before())
        near = _clean(text[at : at + 30])
        raw = near if piece is None else _clean(piece[:200])
        line = self._line(text, at)
        return broken(self.shape, self.number - 1, key, line, column, raw, near=near)

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

    def _characters_before(self) -> int:
        """Count the characters before the window on the line it begins on. Only faults ask."""
        at, count = self._counted
        with open_utf8(self.shape, at) as file:
            while at < self.offset and (block := file.read(min(1 << 20, self.offset - at))):
                if not at and block.startswith(codecs.BOM_UTF8):
                    count = -1
                newline = block.rfind(b"\n")
                if newline >= 0:
                    count = 0
                count += len(block[newline + 1 :].translate(None, _CONTINUATION))
                at += len(block)
        self._counted = (at, count)
        return count


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
