"""The curves of a run: what `metrics.jsonl` holds, column by column, and fit to be drawn.

A page looks every second, so a file is read from where the last look ended. A run of 100,000 points is drawn
with as many as fit a screen: `thinned` keeps the extremes of every stretch, so that no spike is lost.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

Numbers = npt.NDArray[np.float64]

# The columns that are kept, where a run writes them.
NAMES = ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory")
MOST_POINTS = 1000  # the browser draws more only slower; measured 2026-11: 54 ms for 1,000, 237 ms for 10,000


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: as many steps and epochs as values, in the order they were written."""

    steps: Numbers
    epochs: Numbers
    values: Numbers

    def __len__(self) -> int:
        return len(self.values)

    def at(self, places: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Series:
        """Return only the points at some places."""
        return Series(self.steps[places], self.epochs[places], self.values[places])


class Curves:
    """The curves of one job's folder as far as they have been read. Safe to share between visitors."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        self._turn = Lock()
        self._end, self._tail = 0, b""  # bytes behind, and the line they end in
        self._forget()

    def read(self) -> None:
        """Read what has been written since the last time.

        A line that is still being written is left for next time. A file that was replaced by another, as a
        run that goes on from its checkpoint does, is read anew.
        """
        with self._turn:
            try:
                with self._path.open("rb") as file:
                    start = self._end - len(self._tail)
                    file.seek(start)
                    text = file.read()
                    if not text.startswith(self._tail):
                        self._forget()
                        file.seek(0)
                        text = file.read()
            except FileNotFoundError:
                self._forget()
                return
            new = text[len(self._tail) : text.rfind(b"\n") + 1]
            if new:
                self._end += len(new)
                self._tail = new[new.rfind(b"\n", 0, -1) + 1 :]  # the last line: it knows this file again
                self._take(_rows(new))

    def series(self, name: str) -> Series:
        """Return one of NAMES as far as it has been read; empty where the run does not write it."""
        with self._turn:
            return Series(*(np.array(column, dtype=np.float64) for column in self._columns[name]))

    def last(self, name: str) -> float | None:
        """Return the last value of a column, or None before the first."""
        with self._turn:
            values = self._columns[name][2]
            return values[-1] if values else None

    @property
    def rows(self) -> int:
        """How many losses there are to draw, of training and validation."""
        return sum(len(self._columns[name][2]) for name in ("loss", "eval_loss"))

    @property
    def epoch(self) -> float:
        """How far the run was at its last row, in epochs."""
        return self._epoch

    @property
    def broken(self) -> bool:
        """Whether a loss was no number any more."""
        return self._broken

    def _forget(self) -> None:
        self._end, self._tail = 0, b""
        self._epoch = 0.0
        self._broken = False
        self._columns = {name: (array("d"), array("d"), array("d")) for name in NAMES}

    def _take(self, rows: list[dict[str, Any]]) -> None:
        # column by column, and the two kinds of rows apart, since those of a kind have the same columns:
        # a third of the time it takes row by row
        for some in ([row for row in rows if "loss" in row], [row for row in rows if "loss" not in row]):
            if some:
                self._take_alike(some)
        if rows:
            self._epoch = float(_numbers([rows[-1].get("epoch", 0.0)])[0])

    def _take_alike(self, rows: list[dict[str, Any]]) -> None:
        every = _places(rows)
        for name, columns in self._columns.items():
            places = every
            try:
                values = _numbers([row[name] for row in rows])
            except KeyError:
                found = [row for row in rows if name in row]
                if not found:
                    continue
                places, values = _places(found), _numbers([row[name] for row in found])
            known = np.isfinite(values)
            self._broken = self._broken or (name in ("loss", "eval_loss") and not known.all())
            for column, new in zip(columns, (*places, values), strict=True):
                column.frombytes(new[known].tobytes())


def thinned(series: Series, most: int = MOST_POINTS) -> Series:
    """Return at most `most` points: of each stretch its lowest and highest, and always the first and last."""
    if len(series) <= most:
        return series
    size = -(-len(series) // max(1, (most - 2) // 2))
    whole = len(series) // size * size
    stretches = series.values[:whole].reshape(-1, size)
    starts = np.arange(0, whole, size)
    places = [starts + stretches.argmin(axis=1), starts + stretches.argmax(axis=1)]
    if whole < len(series):
        rest = series.values[whole:]
        places.append(np.array([whole + rest.argmin(), whole + rest.argmax()]))
    places.append(np.array([0, len(series) - 1]))
    return series.at(np.unique(np.concatenate(places)))


def smoothed(series: Series, weight: float) -> Series:
    """Return the running mean of a curve; of each value before it, `weight` (0 to below 1) is kept.

    The first values are corrected for having none before them, so the curve does not begin at zero.
    """
    if not 0 < weight < 1 or not len(series):
        return series
    means = accumulate(
        series.values.tolist(), lambda mean, value: weight * mean + (1 - weight) * value, initial=0.0
    )
    next(means)
    sums = np.fromiter(means, dtype=np.float64, count=len(series))
    weights = 1 - weight ** np.arange(1, len(series) + 1, dtype=np.float64)
    return Series(series.steps, series.epochs, sums / weights)


def lowest(series: Series) -> int | None:
    """Return the place of the lowest value, the earliest of several; None where there is no value."""
    return int(series.values.argmin()) if len(series) else None


def _rows(text: bytes) -> list[dict[str, Any]]:
    """Return the rows of whole lines. A crash can leave half a line in the middle; the rest still counts."""
    try:
        # one call for all lines takes a third of the time of one for each
        rows = orjson.loads(b"[" + text[:-1].replace(b"\n", b",") + b"]")
    except orjson.JSONDecodeError:
        rows = []
        for line in text.split(b"\n"):
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue
    return [row for row in rows if isinstance(row, dict) and "step" in row]


def _places(rows: list[dict[str, Any]]) -> tuple[Numbers, Numbers]:
    """Return the steps and the epochs of rows."""
    return _numbers([row["step"] for row in rows]), _numbers([row.get("epoch", 0.0) for row in rows])


def _numbers(values: list[Any]) -> Numbers:
    """Return values as numbers; what is none of them is NaN."""
    try:
        return np.array(array("d", values))
    except TypeError:
        return np.array([value if isinstance(value, int | float) else math.nan for value in values])
