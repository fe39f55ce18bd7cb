"""Where the rows of a file are, so that any page of it is read from nearby: 24 bytes for 64 rows or 32 kB."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from lib.records.row import APART, EVERY, Progress, Start
from lib.records.shape import Shape
from lib.records.stream import MARKERS, told
from lib.records.stretches import proved

Places = np.ndarray[tuple[int, int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Index:
    """Where some rows begin, as columns offset, number and line; and how many rows there are.

    For Parquet, the offset is that of a row group, and the line the number of its first row.
    """

    places: Places
    total: int
    grouped: bool

    def before(self, number: int) -> Start:
        """Return the last known place from which row `number` can be reached."""
        start = self._at(bisect_right(self.places[:, 1], number) - 1)
        if self.grouped:  # a reader of row groups skips within one at no cost
            return Start(start.offset, max(number, start.number), start.line)
        return start

    def around(self, offset: int) -> tuple[Start, int | None]:
        """Return the last known place at or before a byte, and the offset of the next one."""
        place = bisect_right(self.places[:, 0], offset)
        return self._at(place - 1), int(self.places[place, 0]) if place < len(self.places) else None

    def _at(self, place: int) -> Start:
        return Start(*map(int, self.places[place])) if place >= 0 else Start()


def build(shape: Shape, progress: Progress = None, *, processes: int = 1) -> Index:
    """Go through a file once and note where its rows are. Raises what reading raises."""
    parts, total = [], 0
    if shape.kind not in (
        "array",
        "csv",
    ):  # the others are not parsed for it, and done before a process starts
        processes = 1
    with told(shape.path):
        for base, (places, rows) in proved(shape, _marked, processes=processes, progress=progress):
            places += (0, base.number - 1, base.line - 1)
            parts.append(places)
            total = base.number - 1 + rows
    return Index(np.concatenate(parts), total, shape.kind == "parquet")


def _marked(
    shape: Shape, begin: int, stop: int | None, progress: Progress
) -> tuple[Start, tuple[Places, int]]:
    """Return the marks of a stretch, and how many rows it has."""
    found: list[tuple[int, int, int]] = []

    def mark(start: Start) -> None:
        if (
            not found
            or shape.kind == "parquet"
            or start.number - found[-1][1] >= EVERY
            or start.offset - found[-1][0] >= APART
        ):
            found.append((start.offset, start.number, start.line))

    reached = MARKERS[shape.kind](shape, Start(begin), stop, progress, mark)
    places = np.array(found, np.int64).reshape(-1, 3)
    return reached, (places, reached.number - 1)
