"""Where the rows of a file are, so that any page of it is read from nearby: one entry for some 64 rows."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock

from lib.records import lines, tables
from lib.records.row import Mark, Piece, Progress, Start
from lib.records.shape import Shape

Reader = Callable[[Shape, Start, Progress, Mark | None], Iterator[Piece]]

_KEPT = 16
_EVERY = 64


class Index:
    """The beginnings of some rows of a file, 24 bytes each, and the number of its rows."""

    def __init__(self, shape: Shape, reader: Reader) -> None:
        self._offsets, self._numbers, self._lines = array("q"), array("q"), array("q")
        self._grouped = shape.kind == "parquet"
        if shape.kind == "lines":
            self.total = lines.marks(shape, self._mark)
        elif self._grouped:
            self.total = tables.parquet_marks(shape, self._mark)
        else:
            self.total = 0
            for piece in reader(shape, Start(), None, self._mark):
                self.total = piece.number

    def before(self, number: int) -> Start:
        """Return the last known place from which row `number` can be reached."""
        place = bisect_right(self._numbers, number) - 1
        if place < 0:
            return Start()
        if self._grouped:  # a reader of row groups skips within one at no cost
            return Start(self._offsets[place], number, self._numbers[place])
        return Start(self._offsets[place], self._numbers[place], self._lines[place])

    def _mark(self, start: Start) -> None:
        if self._grouped or not self._numbers or start.number - self._numbers[-1] >= _EVERY:
            self._offsets.append(start.offset)
            self._numbers.append(start.number)
            self._lines.append(start.line)


def of(shape: Shape, reader: Reader) -> Index:
    """Return a file's index, built at the first call and kept in memory until the file changes."""
    key = (shape.path, shape.size, shape.path.stat().st_mtime_ns)
    with _LOCK:
        if key in _INDEXES:
            _INDEXES.move_to_end(key)
            return _INDEXES[key]
    index = Index(shape, reader)
    with _LOCK:
        _INDEXES[key] = index
        while len(_INDEXES) > _KEPT:
            _INDEXES.popitem(last=False)
    return index


_INDEXES: OrderedDict[object, Index] = OrderedDict()
_LOCK = Lock()
