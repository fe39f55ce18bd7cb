"""JSON lines: one record on each line, split on the newline byte alone.

    {"Question": "…", "Response": "…"}
    {"Question": "…", "Response": "…"}

Python's own `splitlines` would also cut at U+2028 and others, which are allowed inside JSON text.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from functools import partial

import orjson

from lib.records.json_text import BadNumberError, doubtful, loads
from lib.records.row import Mark, Piece, Progress, Record, Start, broken
from lib.records.shape import MOST, Shape
from lib.records.source import behind, open_utf8

_EVERY = 64


def read(shape: Shape, start: Start, progress: Progress, _mark: Mark | None = None) -> Iterator[Piece]:
    """Yield the rows of a JSON lines file; a line that is not JSON is `Broken`, a blank one is nothing."""
    number, line = start.number - 1, start.line - 1
    with open_utf8(shape, start.offset or shape.begin) as file:
        for text in iter(partial(file.readline, MOST), b""):
            line += 1
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                if text.isspace():
                    continue
                value = _Refused
            number += 1
            if progress and not number % _EVERY:
                progress(behind(file))
            if value is not _Refused and not doubtful(value):
                yield Record(number, value, line)
            else:
                yield _slowly(shape, text, number, line)
                while len(text) == MOST and not text.endswith(b"\n"):
                    text = file.readline(MOST)
        if progress:
            progress(shape.size)


def marks(shape: Shape, mark: Mark) -> int:
    """Tell `mark` where every 64th row begins; return how many rows there are."""
    number = line = 0
    offset = shape.begin
    with open_utf8(shape, offset) as file:
        whole = True
        for text in iter(partial(file.readline, MOST), b""):
            if whole:
                line += 1
                if not text.isspace():
                    if not number % _EVERY:
                        mark(Start(offset, number + 1, line))
                    number += 1
            whole = text.endswith(b"\n")
            offset += len(text)
    return number


class _Refused:
    """Stands for what orjson did not take."""


def _slowly(shape: Shape, text: bytes, number: int, line: int) -> Piece:
    """Read one line exactly, or say why it cannot be."""
    shown = text[:800].decode("utf-8", "replace").strip()
    if len(text) == MOST and not text.endswith(b"\n"):
        return broken(shape, number, "too_long", line, None, shown, most=MOST)
    try:
        value = loads(text.removeprefix(codecs.BOM_UTF8))
    except json.JSONDecodeError as error:
        near = error.doc[error.pos : error.pos + 30].strip() or shown[-30:]
        cut = not text.endswith(b"\n") and ended_early(error)
        key = "truncated" if cut else "bad_json"
        return broken(shape, number, key, line, error.pos + 1, shown, near=near)
    except UnicodeDecodeError as error:
        column = len(text[: error.start].decode("utf-8")) + 1
        return broken(shape, number, "bad_bytes", line, column, shown)
    except BadNumberError as error:
        return broken(shape, number, "bad_number", line, None, shown, near=str(error))
    except RecursionError:
        return broken(shape, number, "too_deep", line, None, shown)
    return Record(number, value, line)


def ended_early(error: json.JSONDecodeError) -> bool:
    """Return whether a parser's complaint may only mean that the text stops too soon.

    It complains at the very end then, at most the length of `-Infinity` before it, or about a string
    that nothing closes.
    """
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip()) - 9
