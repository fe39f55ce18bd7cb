"""The curves of a run: what `metrics.jsonl` holds, column by column, and fit to be drawn.

A page looks every second, so a file is read from where the last look ended. A run of 100,000 points is drawn
with as many as fit a screen: `thinned` keeps the extremes of every stretch, so that no spike is lost.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from pyarrow import json

Numbers = npt.NDArray[np.float64]

# The columns that are kept, where a run writes them.
NAMES = ("loss", "eval_loss", "known_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory")
_AS_NUMBERS = json.ParseOptions(
    explicit_schema=pa.schema([(name, pa.float64()) for name in ("step", "epoch", *NAMES)]),
    unexpected_field_behavior="ignore",
)
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
                self._take(_read(new))

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

    def _take(self, columns: dict[str, Numbers]) -> None:
        steps, epochs = columns["step"], np.nan_to_num(columns["epoch"])
        if not len(steps):
            return
        for name, kept in self._columns.items():
            known = np.isfinite(columns[name])
            for column, new in zip(kept, (steps, epochs, columns[name]), strict=True):
                column.frombytes(new[known].tobytes())
        measured = np.isfinite(columns["loss"]) | np.isfinite(columns["eval_loss"])
        self._broken = self._broken or not measured.all()
        self._epoch = float(epochs[-1])


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
    # cut into stretches and taken through all of them at once, as if nothing were before each; then what is
    # carried over from stretch to stretch is added: a twentieth of the time of a loop over all values
    size = math.isqrt(len(series))
    means = np.zeros((-(-len(series) // size), size))
    means.reshape(-1)[: len(series)] = (1 - weight) * series.values
    for place in range(1, size):
        means[:, place] += weight * means[:, place - 1]
    ends = means[:-1, -1].tolist()
    carried = accumulate(ends, lambda before, end: before * weight**size + end, initial=0.0)
    means += np.outer(list(carried), weight ** np.arange(1, size + 1))
    weights = np.ones(len(series))
    early = min(len(series), math.ceil(-40 / math.log(weight)))  # later weights are 1 to the last digit
    weights[:early] -= weight ** np.arange(1, early + 1)
    return Series(series.steps, series.epochs, means.reshape(-1)[: len(series)] / weights)


def lowest(series: Series) -> int | None:
    """Return the place of the lowest value, the earliest of several; None where there is no value."""
    return int(series.values.argmin()) if len(series) else None


def _read(text: bytes) -> dict[str, Numbers]:
    """Return the columns of whole lines that have a step; where a row has no such number, NaN."""
    try:
        # straight into columns: less than half the time of orjson, which makes an object of every row
        table = json.read_json(pa.BufferReader(text), json.ReadOptions(use_threads=False), _AS_NUMBERS)
        columns = {name: table.column(name).to_numpy() for name in _AS_NUMBERS.explicit_schema.names}
    except pa.ArrowInvalid:
        # a crash can leave half a line in the middle; the rest still counts
        rows = list(_rows(text))
        columns = {
            name: np.array([_number(row.get(name)) for row in rows], dtype=np.float64)
            for name in _AS_NUMBERS.explicit_schema.names
        }
    real = np.isfinite(columns["step"])
    return columns if real.all() else {name: column[real] for name, column in columns.items()}


def _rows(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.split(b"\n"):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield row


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
