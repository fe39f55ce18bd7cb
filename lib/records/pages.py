"""Some rows of a file without reading the others: its head, a page, rows by number, a sample."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from lib.records import kept
from lib.records.index import Index
from lib.records.row import Piece
from lib.records.shape import Shape
from lib.records.stream import read
from lib.records.stream import rows as read_from


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a file from the `start`-th on, counted from 0. `total` is the number of all."""

    start: int
    rows: tuple[Piece, ...]
    total: int


def head(path: Path, n: int) -> list[Piece]:
    """Return the first `n` rows at once, without an index."""
    reading = read(path)
    found = list(islice(reading, n))
    reading.close()
    return found


def page(path: Path, start: int, n: int, keep: Path | None = None) -> Page:
    """Return at most `n` rows of a file from the `start`-th on, counted from 0.

    Uses what `prepare` left in the folder `keep`. Else the first call on a file reads it once to know where
    its rows are; that is remembered until the file changes, and every later page takes milliseconds. Raises
    what `read` raises.
    """
    shape, index = kept.known(path, keep)
    start = max(0, start)
    return Page(start, tuple(_some(shape, index, start + 1, start + n)), index.total)


def rows(path: Path, numbers: Sequence[int], keep: Path | None = None) -> list[Piece]:
    """Return the rows of these numbers, counted from 1, in the order asked for; those there are."""
    shape, index = kept.known(path, keep)
    found: dict[int, Piece] = {}
    wanted = sorted(number for number in set(numbers) if 1 <= number <= index.total)
    # what is packed is read from its beginning each time: once, then
    for _, near in groupby(wanted, lambda number: 0 if shape.packed else index.before(number).offset):
        some = list(near)
        here = set(some)
        for piece in _some(shape, index, some[0], some[-1]):
            if piece.number in here:
                found[piece.number] = piece
    return [found[number] for number in numbers if number in found]


def sample(path: Path, n: int, seed: int, keep: Path | None = None) -> list[Piece]:
    """Return `n` rows drawn at random, the same ones for the same seed and number of rows, by number."""
    total = kept.known(path, keep)[1].total
    return rows(path, sorted(random.Random(seed).sample(range(1, total + 1), min(n, total))), keep)


def _some(shape: Shape, index: Index, first: int, last: int) -> Iterator[Piece]:
    """Yield the rows numbered `first` to `last`."""
    if first > min(last, index.total):
        return
    reading = read_from(shape, index.before(first), None, None)
    for piece in reading:
        if piece.number >= first:
            yield piece
        if piece.number >= last:
            break
    reading.close()
