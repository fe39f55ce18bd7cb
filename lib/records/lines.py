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

from lib.records.json_text import BadNumber, doubtful, loads
from lib.records.row import Broken, Mark, Piece, Progress, Record, Start
from lib.records.shape import MOST, Shape
from lib.records.source import behind, open_utf8

_EVERY = 64


def read(shape: Shape, start: Start, progress: Progress) -> Iterator[Piece]:
    """Yield the records of a JSON lines file; a line that is no JSON object is `Broken`, blank ones are not counted."""
    number, line = start.number - 1, start.line - 1
    with open_utf8(shape, start.offset) as file:
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
            if type(value) is dict and not doubtful(value):
                yield Record(number, value, line)
            else:
                yield _slowly(text, number, line)
                while len(text) == MOST and not text.endswith(b"\n"):
                    text = file.readline(MOST)
        if progress:
            progress(shape.size)


def marks(shape: Shape, mark: Mark) -> int:
    """Tell `mark` where every 64th row begins; return how many rows there are."""
    number = line = offset = 0
    with open_utf8(shape) as file:
        offset = file.tell()
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


def _slowly(text: bytes, number: int, line: int) -> Piece:
    """Read one line exactly, or say why it cannot be."""
    shown = text[:800].decode("utf-8", "replace").strip()
    if len(text) == MOST and not text.endswith(b"\n"):
        return Broken.at(number, "too_long", line, None, shown, most=MOST)
    try:
        value = loads(text.removeprefix(codecs.BOM_UTF8))
    except json.JSONDecodeError as error:
        near = error.doc[error.pos : error.pos + 30].strip() or shown[-30:]
        cut = not text.endswith(b"\n") and ended_early(error)
        key = "truncated" if cut else "bad_json"
        return Broken.at(number, key, line, error.pos + 1, shown, near=near)
    except UnicodeDecodeError as error:
        column = len(text[: error.start].decode("utf-8")) + 1
        return Broken.at(number, "bad_bytes", line, column, shown)
    except BadNumber as error:
        return Broken.at(number, "bad_number", line, None, shown, near=str(error))
    except RecursionError:
        return Broken.at(number, "too_deep", line, None, shown)
    if not isinstance(value, dict):
        return Broken.at(number, "not_object", line, 1, shown)
    return Record(number, value, line)


def ended_early(error: json.JSONDecodeError) -> bool:
    """Return whether a parser's complaint may only mean that the text stops too soon.

    It complains at the very end then, at most the length of `-Infinity` before it, or about a string
    that nothing closes.
    """
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip()) - 9
