"""What was promised, and whether it was kept.

To add a target: a function from a table and our row to a number, and a row in TARGETS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import records_data as data
from bench import records_engines as engines
from bench.records_runs import TASKS, Row

OURS, TWO = "ours", "ours, 2 processes"
EITHER = (OURS, TWO)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one task on one file."""

    task: str
    kind: str
    size: int
    facts: data.Facts
    rows: list[Row]

    def seconds(self, name: str, task: str = "") -> float | None:
        """Return an engine's median, None where it did not do its work."""
        found = self.row(name, task)
        return found.of("seconds") if found else None

    def row(self, name: str, task: str = "") -> Row | None:
        """Return an engine's row, None where it did not do its work."""
        good = (row for row in self.rows if row.said == "same" and row.name == name)
        return next((row for row in good if row.task == (task or self.task)), None)

    def ratio(self, name: str, ours: Row) -> float | None:
        """Return how many times as long as ours an engine took."""
        theirs = self.seconds(name, "mapping" if name == "script" else ours.task)
        return theirs / ours.of("seconds") if theirs else None


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: `value` of our row is at least (or at most) `limit`.

    `show` says the value; `who` of ours may keep it, in one process where nothing is said; `sizes`: of
    files from … to below … bytes.
    """

    task: str
    text: str
    value: Callable[[Table, Row], float | None]
    limit: float
    at_least: bool = False
    show: str = "{:.2f} times"
    who: tuple[str, ...] = (OURS,)
    kinds: tuple[str, ...] = engines.ALL
    sizes: tuple[float, float] = (0, float("inf"))


def _fastest_other(table: Table, ours: Row) -> float | None:
    others = [
        row.of("seconds")
        for row in table.rows
        if row.said == "same" and row.task == ours.task and not row.name.startswith(("ours", "orjson"))
    ]
    return min(others) / ours.of("seconds") if others else None


def _duckdb_best(table: Table, ours: Row) -> float | None:
    found = [table.seconds(name, ours.task) for name in ("DuckDB", "DuckDB, 1 thread")]
    times = [one for one in found if one]
    return ours.of("seconds") / min(times) if times else None


def _parsing(table: Table, ours: Row) -> float | None:
    bare = table.ratio("orjson, parsing only", ours)
    return 1 / bare if bare else None


def _profile_times(table: Table, ours: Row) -> float | None:
    theirs = table.ratio("DuckDB", ours)
    return 1 / theirs if theirs else None


def _memory_of_limit(table: Table, ours: Row) -> float:
    """Return the share of the limit that was taken; what several processes share is counted once."""
    held = ours.of("shared_counted_once") if "shared_counted_once" in ours.runs[0] else ours.of("peak")
    return held / (120e6 + 16 * table.facts.rows)


def _script_times(table: Table, ours: Row) -> float | None:
    return table.ratio("script", ours)


def _seconds(_table: Table, ours: Row) -> float:
    return ours.of("seconds")


def _rate(table: Table, ours: Row) -> float:
    return table.size / ours.of("seconds") / 1e9


# The promises were made for arrays of 2 GB and 200 MB; in less, starting up is most of it.
_BIG, _SMALL, _EITHER, _ARRAY = (1e9, float("inf")), (1e8, 1e9), (1e8, float("inf")), ("array",)
_LITTLE_MEMORY = ("memory under 120 MB + 16 bytes a row", _memory_of_limit, 1, False, "{:.0%} of it")
TARGETS = (
    Target("mapping", "8 times as fast as the script", _script_times, 8, True, kinds=_ARRAY, sizes=_BIG),
    Target("mapping", "5 times as fast as the script", _script_times, 5, True, kinds=_ARRAY, sizes=_SMALL),
    Target("mapping", "never slower than the script", _script_times, 1, True),
    Target("mapping", "ahead of every other engine", _fastest_other, 1, True, sizes=_EITHER),
    Target(
        "mapping",
        "within 2.5 times of orjson's bare parsing",
        _parsing,
        2.5,
        kinds=engines.JSON,
        sizes=_EITHER,
    ),
    Target("mapping", *_LITTLE_MEMORY),
    Target(
        "convert",
        "4 times as fast as the script",
        _script_times,
        4,
        True,
        who=EITHER,
        kinds=_ARRAY,
        sizes=_BIG,
    ),
    Target("convert", "never slower than the script", _script_times, 1, True),
    Target("convert", *_LITTLE_MEMORY, who=(TWO,)),
    Target("first rows", "in 0.1 s without an index", _seconds, 0.1, show="{:.4f} s"),
    Target("index", "1 GB/s or more", _rate, 1, True, "{:.2f} GB/s", EITHER, sizes=_BIG),
    Target("page 10,000", "in 20 ms", _seconds, 0.02, show="{:.4f} s"),
    Target(
        "profile", "within 1.5 times of DuckDB's statistics", _profile_times, 1.5, who=EITHER, sizes=_EITHER
    ),
    Target("profile", *_LITTLE_MEMORY, who=(TWO,)),
    Target("search", "not slower than DuckDB", _duckdb_best, 1, sizes=_EITHER),
)


def judged(table: Table) -> list[dict[str, Any]]:
    """Return every target of a table: what was measured for each of ours, and whether it was kept.

    `said` is "met", "missed by …" or "not measured".
    """
    found = []
    for target in TARGETS:
        low, high = target.sizes
        if target.task not in TASKS[table.task] or table.kind not in target.kinds:
            continue
        if not low <= table.size < high:
            continue
        values = {}
        for name in EITHER:
            ours = table.row(name, target.task)
            value = target.value(table, ours) if ours else None
            if value is not None:
                values[name] = value
        said = _said(target, [values[name] for name in target.who if name in values])
        shown = "; ".join(f"{name}: {target.show.format(value)}" for name, value in values.items())
        found.append(
            {"target": f"{target.task}: {target.text}", "said": said, "shown": shown, "values": values}
        )
    return found


def _said(target: Target, values: list[float]) -> str:
    if not values:
        return "not measured"
    best = max(values) if target.at_least else min(values)
    if best >= target.limit if target.at_least else best <= target.limit:
        return "met"
    return f"missed by {abs(best / target.limit - 1):.1%}"
