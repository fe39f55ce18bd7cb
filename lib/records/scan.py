"""Search: the rows of a file that hold a text.

The bytes of the file are searched for every way the text may be written, which is many times faster than
parsing them. Where one is found, the rows nearby are read and looked at properly; so what is written alike
but is something else is no hit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lib.records import kept, parquet, tables
from lib.records.row import Piece, Record, Start
from lib.records.shape import Shape
from lib.records.sniffing import sniff
from lib.records.source import open_utf8
from lib.records.stream import rows, told

_BLOCK = 1 << 20
# Signs that some programs escape in JSON though they need not, for the sake of web pages.
_WEB = "<>&'+="
# Signs a number can hold, `nan` and `inf` included.
_NUMBER = set("0123456789.+-enaif")
_ROWS = 1 << 11


def search(path: Path, text: str, keep: Path | None = None, most: int = 100) -> Iterator[Piece]:
    """Yield the first `most` rows that hold `text`, exact in case, in any value or key, as they are found.

    Uses what `prepare` left in the folder `keep`, or the index in memory; without one, all rows are read.
    A broken row is found by how it begins. Raises what `read` raises.
    """
    return islice(_found(path, text, keep), most)


def holds(value: Any, text: str) -> bool:
    """Return whether a value, a key or anything inside it holds a text; numbers as JSON writes them."""
    if isinstance(value, str):
        return text in value
    if isinstance(value, dict):
        return any(text in key or holds(inner, text) for key, inner in value.items())
    if isinstance(value, list):
        return any(holds(inner, text) for inner in value)
    if value is None or isinstance(value, bool):
        return False
    return text in str(value)


def _found(path: Path, text: str, keep: Path | None) -> Iterator[Piece]:
    if not text:
        return
    shape = sniff(path)
    if shape.kind == "parquet":
        with told(path):
            yield from _in_parquet(shape, text)
        return
    known = kept.recalled(path, keep)
    named = shape.kind == "csv" and any(text in name for name in tables.header(shape)[0])
    if not known or known[0].packed or named:
        yield from _hits(rows(shape, Start(), None, None), text)
        return
    shape, index = known
    ways = _ways(text, shape)
    overlap = max(map(len, ways)) - 1
    with told(path), open_utf8(shape) as file:
        offset, block, at = 0, b"", 0
        while part := file.read(_BLOCK):
            rest = block[max(at, len(block) - overlap) :]
            offset, block, at = offset + len(block) - len(rest), rest + part, 0
            found = {way: place for way in ways if (place := block.find(way)) >= 0}
            while found:
                start, stop = index.around(offset + min(found.values()))
                yield from _hits(rows(shape, start, stop, None), text)
                if stop is None:
                    return
                at = stop - offset
                for way in [way for way, place in found.items() if place < at]:
                    found[way] = block.find(way, at)
                    if found[way] < 0:
                        del found[way]
            if at > len(block):
                offset, block, at = offset + at, b"", 0
                file.seek(offset)


def _hits(pieces: Iterator[Piece], text: str) -> Iterator[Piece]:
    for piece in pieces:
        if isinstance(piece, Record):
            if holds(piece.value, text):
                yield piece
        elif text in piece.raw:
            yield piece


def _ways(text: str, shape: Shape) -> set[bytes]:
    """Return the bytes by which a text may be written in a file of this kind."""
    if shape.kind == "csv":
        return {way.encode("utf-8", "surrogatepass") for way in (text, text.replace('"', '""'))}
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    escaped = json.dumps(text)[1:-1]
    ways = {plain, escaped}
    ways |= {_escaped(way, _WEB) for way in ways}
    ways |= {_escaped(way, '"') for way in ways}
    ways |= {_upper(way) for way in ways}
    ways |= {way.replace("/", "\\/") for way in ways}
    # text that stands as it is in a row that is broken
    return {way.encode("utf-8", "surrogatepass") for way in (*ways, text)}


def _escaped(way: str, signs: str) -> str:
    for sign in signs:
        way = way.replace("\\" + sign if sign == '"' else sign, f"\\u{ord(sign):04x}")
    return way


def _upper(way: str) -> str:
    """Write the hexadecimal digits of all escapes in capitals."""
    parts = way.split("\\\\")
    for place, part in enumerate(parts):
        head, *escapes = part.split("\\u")
        parts[place] = head + "".join("\\u" + escape[:4].upper() + escape[4:] for escape in escapes)
    return "\\\\".join(parts)


def _in_parquet(shape: Shape, text: str) -> Iterator[Piece]:
    """Search all columns of text, also those inside others, and look closely only at batches with a find."""
    with parquet.opened(shape) as file:
        everywhere = any(_named(field, text) for field in file.schema_arrow)
        number = 1
        for batch in file.iter_batches(_ROWS, use_threads=False):
            hit = np.full(len(batch), everywhere)
            for column in batch.columns:
                if everywhere:
                    continue
                if _is_text(column):
                    hit[_matched(column, text)] = True
                elif any(_may_hold(leaf, text) for leaf in _leaves(column)):
                    hit |= np.array([holds(value, text) for value in column.to_pylist()], bool)
            for place in np.flatnonzero(hit):
                value = batch.slice(int(place), 1).to_pylist()[0]
                yield Record(number + int(place), value, None)
            number += len(batch)


def _named(field: Any, text: str) -> bool:
    """Return whether a field of a table, or one inside it, has the text in its name."""
    import pyarrow

    inner = [field.type.field(place) for place in range(field.type.num_fields)]
    if not pyarrow.types.is_struct(field.type):  # what Arrow calls the elements of a list is no key
        return text in field.name or any(_named(one, text) for one in inner if one.type.num_fields)
    return text in field.name or any(_named(one, text) for one in inner)


def _leaves(column: Any) -> Iterator[Any]:
    """Yield a column, or what lies inside it at the bottom."""
    from pyarrow import types

    kind = column.type
    if types.is_struct(kind):
        for inner in column.flatten():
            yield from _leaves(inner)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        yield from _leaves(column.flatten())
    else:
        yield column


def _may_hold(leaf: Any, text: str) -> bool:
    """Return whether a column without inner ones may hold a text."""
    from pyarrow import types

    if _is_text(leaf):
        return bool(_matched(leaf, text))
    if types.is_integer(leaf.type) or types.is_floating(leaf.type):
        return set(text) <= _NUMBER
    return not (types.is_boolean(leaf.type) or types.is_null(leaf.type))


def _is_text(column: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(column.type) or types.is_large_string(column.type))


def _matched(column: Any, text: str) -> list[int]:
    """Return which rows of a column of text hold it; Arrow's own search takes three times as long."""
    from pyarrow import types

    _, places, data = column.buffers()  # one text behind the other, and where each begins
    if not data:
        return []
    size = np.int64 if types.is_large_string(column.type) else np.int32
    ends = np.frombuffer(places, size)[column.offset : column.offset + len(column) + 1]
    needle, signs = text.encode("utf-8", "surrogatepass"), data.to_pybytes()
    at, found = int(ends[0]), []
    while (at := signs.find(needle, at, int(ends[-1]))) >= 0:
        row = int(np.searchsorted(ends, at, "right")) - 1
        if at + len(needle) <= ends[row + 1]:
            found.append(row)
            at = int(ends[row + 1])
        else:
            at += 1
    return found
