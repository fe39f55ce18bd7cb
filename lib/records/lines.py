"""JSON lines: one record on each line, split on the newline byte alone.

    {"Question": "…", "Response": "…"}
    {"Question": "…", "Response": "…"}

Python's own `splitlines` would also cut at U+2028 and others, which are allowed inside JSON text. Lines are
read by the block: what orjson gives for a block is proved in one go, and only where that fails line by line.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import secrets
from collections.abc import Generator, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import orjson

from lib.records.json_text import BadNumberError, Exact, Proof, odd_place, sure, twice_place
from lib.records.row import APART, EVERY, RAW, Mark, Piece, Progress, Record, Start, broken
from lib.records.shape import MOST, Shape
from lib.records.source import behind, faults, open_utf8

# Larger blocks are slower: their strings no longer fit the cache.
BLOCK = 1 << 16


def read(shape: Shape, start: Start, stop: int | None, progress: Progress) -> Generator[Piece, None, Start]:
    """Yield the rows of a JSON lines file; a line that is not JSON is `Broken`, a blank one is nothing."""
    offset, number, line = start.offset or shape.begin, start.number, start.line
    exact, proof = Exact(), Proof()
    with open_utf8(shape, offset) as file:
        rest, ended = b"", False
        while not ended and (stop is None or offset < stop):
            part = file.read(min(max(BLOCK, len(rest)), MOST - len(rest))) or b""
            ended = not part
            text = rest + part
            if ended:
                end = len(text)
            elif stop is None or stop - offset > len(text):
                end = text.rfind(b"\n") + 1
            else:
                end = text.find(b"\n", stop - offset - 1) + 1
            if not end and len(text) >= MOST:
                yield broken(shape, number, "too_long", line, None, _shown(text), most=MOST)
                rest, passed = _next_line(file)
                offset, number, line = offset + len(text) + passed, number + 1, line + 1
                continue
            rest, text = text[end:], text[:end]
            places, values, count = _parsed(text, proof)
            if values is None:
                for place, one in enumerate(text.split(b"\n")):
                    if one and not one.isspace():
                        cut = ended and place == count - 1 and not text.endswith(b"\n")
                        yield _slowly(exact, shape, one, number, line + place, cut=cut)
                        number += 1
            else:
                for place, value in zip(places, values, strict=True):
                    yield Record(number, value, line + place)
                    number += 1
            line += count
            offset += end
            if progress:
                progress(behind(file))
        if ended:
            for fault in faults(shape, file, number, line):
                yield fault
                number += 1
            if progress:
                progress(shape.size)
    return Start(offset, number, line)


def marks(shape: Shape, start: Start, stop: int | None, progress: Progress, mark: Mark) -> Start:
    """Tell `mark` where some rows begin; return the `Start` reached. Nothing is parsed."""
    offset, number, line = start.offset or shape.begin, start.number, start.line
    with open_utf8(shape, offset) as file:
        rest = b""
        while stop is None or offset < stop:
            size = _SCAN if stop is None else min(_SCAN, stop - offset - len(rest))
            part = file.read(size) or b""
            text = rest + part
            end = text.rfind(b"\n") + 1 if part else len(text)
            if not end and len(text) >= MOST:
                mark(Start(offset, number, line))
                rest, passed = _next_line(file)
                offset, number, line = offset + len(text) + passed, number + 1, line + 1
                continue
            rest = text[end:]
            starts, lines, total = _rows(text[:end])
            every = max(1, min(EVERY, APART * len(starts) // (end or 1)))
            for place in range(0, len(starts), every):
                mark(Start(offset + int(starts[place]), number + place, line + int(lines[place])))
            offset, number, line = offset + end, number + len(starts), line + total
            if progress:
                progress(behind(file))
            if not part:
                number += sum(1 for _ in faults(shape, file, number, line))
                break
    return Start(offset, number, line)


def _rows(text: bytes) -> tuple[_Places, _Places, int]:
    """Return where the lines that are not blank begin, which they are, and how many lines there are."""
    signs = np.frombuffer(text, np.uint8)
    starts = np.flatnonzero(signs == ord("\n")) + 1
    starts = np.concatenate((np.zeros(1, np.int64), starts))
    if len(text) == starts[-1]:
        starts = starts[:-1]
    numbers = np.arange(len(starts))
    spaces = np.flatnonzero(signs[starts] <= ord(" "))
    if len(spaces):
        ends = np.append(starts[1:], len(text))
        blank = [place for place in spaces if text[starts[place] : ends[place]].isspace()]
        return np.delete(starts, blank), np.delete(numbers, blank), len(starts)
    return starts, numbers, len(starts)


def _parsed(text: bytes, proof: Proof) -> tuple[Iterable[int], list[Any] | None, int]:
    """Return which lines are not blank, their values, and how many lines there are; no values if in doubt."""
    values = _joined(text)
    if values is not None:
        array = b"[%b]" % text.removesuffix(b"\n").replace(b"\n", b",")
        return range(len(values)), values if proof.holds(values, array) else None, len(values)
    starts, numbers, count = _rows(text)
    view, places = memoryview(text), numbers.tolist()
    try:
        values = [orjson.loads(view[start:end]) for start, end in pairwise([*starts.tolist(), len(text)])]
    except orjson.JSONDecodeError:
        return places, None, count
    return places, values if sure(values, text) else None, count


def _joined(text: bytes) -> list[Any] | None:
    """Return the values of some lines, parsed as one array; None where one is blank, or no JSON of its own.

    Between two lines a number is put that no file can know. Where it stands between all values and nowhere
    else, each line was a value: no line break lay inside one, and no line held two.
    """
    body = text.removesuffix(b"\n")
    joined = body.replace(b"\n", _BETWEEN)
    breaks = (len(joined) - len(body)) // (len(_BETWEEN) - 1)
    try:
        values: list[Any] = orjson.loads(b"[%b]" % joined)
    except orjson.JSONDecodeError:
        return None
    if len(values) != 2 * breaks + 1 or values[1::2].count(_UNKNOWN) != breaks:
        return None
    return values[::2]


def _next_line(file: io.RawIOBase) -> tuple[bytes, int]:
    """Skip the rest of a line; return what was read of the next one, and how many bytes were skipped."""
    passed = 0
    while part := file.read(BLOCK) or b"":
        if end := part.find(b"\n") + 1:
            return part[end:], passed + end
        passed += len(part)
    return b"", passed


def _slowly(exact: Exact, shape: Shape, text: bytes, number: int, line: int, *, cut: bool) -> Piece:
    """Read one line exactly, or say why it cannot be. `cut`: the file ends in it."""
    shown = _shown(text)
    try:
        value = exact.loads(text.removeprefix(codecs.BOM_UTF8))
    except json.JSONDecodeError as error:
        near = error.doc[error.pos : error.pos + 30].strip() or shown[-30:]
        key = "truncated" if cut and ended_early(error) else "bad_json"
        return broken(shape, number, key, line, error.pos + 1, shown, near=near)
    except UnicodeDecodeError as error:
        column = len(text[: error.start].decode("utf-8")) + 1
        return broken(shape, number, "bad_bytes", line, column, shown)
    except BadNumberError as error:
        return broken(shape, number, "bad_number", line, None, shown, near=str(error))
    except RecursionError:
        return broken(shape, number, "too_deep", line, None, shown)
    if exact.twice is None and not exact.odd:
        return Record(number, value, line)
    whole = text.decode("utf-8")
    twice = exact.twice
    place = odd_place(whole, 0) if twice is None else twice_place(whole, 0, twice)
    near = whole[place : place + 30]
    if twice is not None:
        return broken(shape, number, "duplicate_key", line, place + 1, shown, near=near, name=twice[:80])
    note = broken(shape, number, "not_a_number", line, place + 1, shown, near=near).error
    return Record(number, value, line, note)


def _shown(text: bytes) -> str:
    return text[: 4 * RAW].decode("utf-8", "replace").strip()


def ended_early(error: json.JSONDecodeError) -> bool:
    """Return whether a parser's complaint may only mean that the text stops too soon.

    It complains then about a string that nothing closes, at the very end, or about the beginning of
    something at the end: `tru`, `-Infin`, `1.`, `"\\u4f`.
    """
    rest = error.doc[error.pos : error.pos + 12].rstrip()
    return error.msg.startswith("Unterminated string") or (
        error.pos + len(rest) >= len(error.doc.rstrip())
        and (bool(_BEGUN.fullmatch(rest)) or any(name.startswith(rest) for name in _NAMES))
    )


_SCAN = 1 << 20
_UNKNOWN = 10**17 + secrets.randbelow(10**17)
_BETWEEN = b",%d," % _UNKNOWN
_Places = np.ndarray[tuple[int], np.dtype[np.int64]]
_NAMES = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_BEGUN = re.compile(r"[.eE][-+]?|\\?u?[0-9a-fA-F]{0,4}|\\.?")
