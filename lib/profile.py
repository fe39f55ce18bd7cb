"""What is in a file: its columns, the length of their texts, what repeats, which languages; in one pass.

    profile(path)            read the file once and count, in several processes if asked
    keep(…), kept(…)         the counts as JSON in a folder, valid until the file changes
    Histogram                lengths in buckets; its docstring says how exact it is

Each process counts one stretch of the file (`collect`); the parts add up to the same profile wherever the
file was cut. Rows are taken 128 at a time, column by column, so that the loops over them run in C, and what
was found of 8,192 of them goes to numpy at once.

Memory: eight bytes a row for finding repeated rows, two to three times that at the end, and 20 kB a column.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from xxhash import xxh3_64_intdigest

from lib import records
from lib.estimate import whole_tokens
from lib.records import Broken, Piece, Record
from lib.records.row import Progress
from lib.workspace import read_json, write_json

SHOWN = 100  # row numbers kept of broken, noted and repeated rows
EXTREMES = 10  # rows kept of the longest and of the shortest
LOOKED_AT = 2000  # rows, to twice as many, whose language and text are looked at more closely
COLUMNS = 500  # columns kept; of more, those whose names come first in the alphabet
VERSION = 1

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: how many values lie from `low` to `high`, both included."""

    low: int
    high: int
    count: int


class Histogram:
    """How often whole numbers from 0 on occur, in buckets that grow with the numbers.

    Each doubling is cut into 32: up to 64 every number has a bucket of its own, from there to 128 two share
    one, then four, and so on. A bucket reaches up to and including its border, so counts of "more than n" are
    exact for every n up to 64, for every multiple of 2 up to 128, of 64 up to 4,096, of 128 up to 8,192;
    between borders they are interpolated and off by less than what the bucket holds. `quantile` is off by at
    most 1/64 of the value, 1.6 %. `total`, `mean`, `least` and `most` are exact.
    """

    __slots__ = ("_counts", "least", "most", "sum", "total")

    def __init__(self) -> None:
        self.total = self.sum = self.least = self.most = 0
        self._counts: Ints = np.zeros(_BUCKETS, np.int64)

    def add(self, values: Ints) -> None:
        """Count some numbers."""
        if not len(values):
            return
        least, most = int(values.min()), int(values.max())
        self.least = min(self.least, least) if self.total else least
        self.most = max(self.most, most)
        self.total += len(values)
        self.sum += int(values.sum())
        self._counts += np.bincount(_bucket(values), minlength=_BUCKETS)

    def merge(self, other: Histogram) -> None:
        """Count what another one has counted."""
        if other.total:
            self.least = min(self.least, other.least) if self.total else other.least
            self.most = max(self.most, other.most)
            self.total += other.total
            self.sum += other.sum
            self._counts += other._counts

    @property
    def mean(self) -> float:
        """The mean of all numbers; 0 where there are none."""
        return self.sum / self.total if self.total else 0.0

    def quantile(self, share: float) -> int:
        """Return the number that `share` (0 to 1) of all numbers do not exceed."""
        if not self.total:
            return 0
        rank = min(self.total, max(1, math.ceil(share * self.total)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        middle = (_border(bucket - 1) + 1 + _border(bucket)) // 2
        return min(self.most, max(self.least, middle))

    def share_above(self, n: int) -> float:
        """Return the share (0 to 1) of the numbers above `n`: of texts that would lose their end there."""
        if not self.total or n >= self.most:
            return 0.0
        if n < self.least:
            return 1.0
        bucket = int(_bucket(np.array([n], np.int64))[0])
        low, high = _border(bucket - 1), min(_border(bucket), self.most)
        within = int(self._counts[bucket]) * (high - n) / (high - low) if high > n else 0.0
        return float(int(self._counts[bucket + 1 :].sum()) + within) / self.total

    def bars(self, n: int) -> list[Bar]:
        """Return at most `n` bars, from the least number to the largest, that grow as the buckets do."""
        if not self.total:
            return []
        first, last = (int(bucket) for bucket in _bucket(np.array([self.least, self.most], np.int64)))
        made: list[Bar] = []
        low, begin = self.least, first
        for bar in range(1, n + 1):
            end = first + (last + 1 - first) * bar // n
            high = self.most if bar == n else min(_border(end - 1), self.most)
            if high < low:
                continue
            made.append(Bar(low, high, int(self._counts[begin:end].sum())))
            low, begin = high + 1, end
        return made

    def as_json(self) -> dict[str, Any]:
        """Return plain values; buckets that are empty are left out."""
        filled = np.flatnonzero(self._counts)
        return {
            "total": self.total,
            "sum": self.sum,
            "least": self.least,
            "most": self.most,
            "buckets": [[int(bucket), int(self._counts[bucket])] for bucket in filled],
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Histogram:
        """Return the histogram `as_json` told."""
        made = cls()
        made.total, made.sum, made.least, made.most = (
            int(told[name]) for name in ("total", "sum", "least", "most")
        )
        for bucket, count in told["buckets"]:
            made._counts[bucket] = count
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.as_json() == other.as_json()

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `kinds` counts the rows that have it, by the kind of value in it.

    A kind is "null", "boolean", "integer", "float", "text", "list", "object" or "other" (Parquet's dates
    and bytes). `missing` rows lack the column; `empty` ones have a text of no character. `characters` and
    `tokens` (estimated) are the lengths of texts, and of lists and objects as compact JSON. `hints`: of the
    `looked_at` texts, how many read as a "number", a "date" or "json".
    """

    name: str
    kinds: dict[str, int]
    missing: int
    empty: int
    characters: Histogram
    tokens: Histogram
    hints: dict[str, int]
    looked_at: int

    @property
    def null(self) -> int:
        """How many rows have the column and null in it."""
        return self.kinds.get("null", 0)

    @property
    def kind(self) -> str:
        """The commonest kind of value besides null; "null" where there is no other."""
        real = {kind: count for kind, count in self.kinds.items() if kind != "null"}
        return max(real, key=lambda kind: real[kind]) if real else "null"


@dataclass(frozen=True, slots=True)
class Profile:
    """What is in a file of `size` bytes, last changed at `changed` (nanoseconds since 1970).

    `rows` counts all, `broken` and `noted` (kept, but not proper JSON) ones too; `broken_why` counts the
    reasons. `longest` and `shortest` are (row, characters in all), the longest and shortest first; of rows
    equally long the earlier. `repeats` rows are exactly like an earlier one, but for the order of fields.
    `languages` counts `looked_at` rows, a sample chosen by their content: an estimate, within 2 of 100 rows
    where 2,400 were looked at. `columns_left_out` is whether there were too many to keep.
    """

    path: str
    size: int
    changed: int
    rows: int
    columns: tuple[Column, ...]
    broken: int
    broken_rows: tuple[int, ...]
    broken_why: dict[str, int]
    noted: int
    noted_rows: tuple[int, ...]
    repeats: int
    repeat_rows: tuple[int, ...]
    longest: tuple[tuple[int, int], ...]
    shortest: tuple[tuple[int, int], ...]
    languages: dict[str, int]
    looked_at: int
    columns_left_out: bool

    def column(self, name: str) -> Column | None:
        """Return the column of this name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """Return plain values. Half a character in a column's name (a lone surrogate) is written out."""
        told = {name: getattr(self, name) for name in self.__slots__ if name != "columns"}
        told["columns"] = [
            {name: getattr(column, name) for name in column.__slots__}
            | {
                "name": column.name.encode("utf-8", "backslashreplace").decode("utf-8"),
                "characters": column.characters.as_json(),
                "tokens": column.tokens.as_json(),
            }
            for column in self.columns
        ]
        return told

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Profile:
        """Return the profile `as_json` told. Raises KeyError, TypeError or ValueError for anything else."""
        lengths = ("characters", "tokens")
        columns = tuple(
            Column(**(column | {name: Histogram.from_json(column[name]) for name in lengths}))
            for column in told["columns"]
        )
        rows = {name: tuple(told[name]) for name in ("broken_rows", "noted_rows", "repeat_rows")}
        extremes = {
            name: tuple((int(row), int(length)) for row, length in told[name])
            for name in ("longest", "shortest")
        }
        return cls(**(told | rows | extremes | {"columns": columns}))


def profile(path: Path, progress: Progress = None, *, processes: int = 1) -> Profile:
    """Read a file once and count what is in it; the same profile for any number of `processes`.

    `progress` is told how many bytes are behind. Raises what `records.read` raises.
    """
    stat = path.stat() if path.exists() else None
    part = Part()
    collected = records.spread(path, collector(path), processes=processes, progress=progress)
    for base, found in collected:
        part.merge(found, base.number - 1)
    return part.finished(path, stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0)


def collector(path: Path) -> Callable[[Iterator[Piece]], Part]:
    """Return what counts a stretch of the file: it can be sent to another process.

    Which rows are looked at closely depends on their content and on how large the file is, not on where it is
    cut: those whose hash is so small that LOOKED_AT to twice as many are to be expected, going by the first
    hundred rows; fewer where these are shorter than most or escapes make the file larger than it need be.
    """
    first = [_json(piece.value) for piece in records.head(path, 100) if isinstance(piece, Record)]
    usual = sum(map(len, first)) / max(1, len(first))
    expected = path.stat().st_size / max(1.0, usual)
    halvings = int(math.log2(max(1.0, expected / LOOKED_AT)))
    return partial(collect, below=_ALL >> halvings)


def collect(pieces: Iterator[Piece], below: int = 1 << 64) -> Part:
    """Count the rows of one stretch; those whose hash is less than `below` are looked at closely."""
    part, block = Part(), _Block()
    while some := list(islice(pieces, _FEW)):
        try:
            values = list(map(_VALUE, some))
        except AttributeError:
            values = part.without_broken(some, block)
        part.note(some, block.rows)
        hashes = block.take(values)
        for place in [place for place, hashed in enumerate(hashes) if hashed < below]:
            if values[place] and hashes[place] not in part.looks:
                part.looks[hashes[place]] = _look(values[place])
        if block.full:
            part.add(block)
    part.add(block)
    return part


def keep(profile: Profile, folder: Path) -> None:
    """Write a profile into a folder, whole or not at all."""
    write_json(_file(Path(profile.path), folder), {"version": VERSION} | profile.as_json())


def kept(path: Path, folder: Path) -> Profile | None:
    """Return the profile of a file that lies in a folder, if the file is still as it was."""
    told = read_json(_file(path, folder))
    try:
        stat = path.stat()
        if told.pop("version") != VERSION:
            return None
        found = Profile.from_json(told)
    except (OSError, AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None
    return found if (found.size, found.changed) == (stat.st_size, stat.st_mtime_ns) else None


def language(text: str) -> str:
    """Return what the first 200 characters of a text are written in, by their scripts; a guess.

    "zh", "ja", "ko", "ru", "en", "latin" (another language in Latin letters), "other" (another script),
    "mixed" (two scripts, each with a good part), "code", or "none" where there is hardly a letter.
    """
    text = text[:200]
    signs = _count(_SIGN, text)
    if text.isascii():
        if _count(_LATIN, text) < 2:
            return "none"
        if signs * 10 > len(text) or _CODE.search(text):
            return "code"
        return _latin(text)
    han = _count(_HAN, text)
    if han * 5 > len(text) * 4:
        return "zh"
    kana, hangul = _count(_KANA, text), _count(_HANGUL, text)
    cyrillic, latin = _count(_CYRILLIC, text), _count(_LATIN, text)
    other = _count(_LETTER, text) - han - kana - hangul - cyrillic - latin
    # a Han character says as much as three letters
    scripts = {
        "ja" if kana * 10 > han + kana else "zh": 3 * (han + kana),
        "ko": 2 * hangul,
        "ru": cyrillic,
        "latin": latin,
        "other": max(0, other),
    }
    whole = sum(scripts.values())
    if whole < 2:
        return "none"
    first, second, *_ = sorted(scripts, key=lambda script: -scripts[script])
    if scripts[second] * 4 > whole:
        return "mixed"
    if first == "latin":
        return "code" if signs * 10 > len(text) else _latin(text)
    return first


class Part:
    """What was counted in one stretch, and in several put together in the file's order.

    Row numbers count from 1 at the stretch's beginning. `hashes` has eight bytes for each row, all of them
    zero for a broken one.
    """

    def __init__(self) -> None:
        self.rows = self.broken = self.noted = 0
        self.broken_rows: list[int] = []
        self.broken_why: Counter[str] = Counter()
        self.noted_rows: list[int] = []
        self.columns: dict[str, _Tally] = {}
        self.left_out = False
        self.hashes = bytearray()
        self.longest: list[tuple[int, int]] = []
        self.shortest: list[tuple[int, int]] = []
        self.looks: dict[int, _Look] = {}

    def without_broken(self, pieces: Sequence[Piece], block: _Block) -> list[Any]:
        """Count the broken ones among some pieces; return all values, an empty record for each broken one."""
        values: list[Any] = []
        for piece in pieces:
            if isinstance(piece, Broken):
                self.broken += 1
                self.broken_why[piece.reason] += 1
                self.broken_rows += [self.rows + block.rows + len(values) + 1]
                block.broken.append(block.rows + len(values))
                values.append({})
            else:
                values.append(piece.value)
        del self.broken_rows[SHOWN:]
        return values

    def note(self, pieces: Sequence[Piece], before: int) -> None:
        """Count the rows that were kept although they are not proper JSON."""
        if noted := [place for place, piece in enumerate(pieces, 1) if getattr(piece, "note", None)]:
            self.noted += len(noted)
            self.noted_rows += [self.rows + before + place for place in noted]
            del self.noted_rows[SHOWN:]

    def add(self, block: _Block) -> None:
        """Count a block of rows and empty it."""
        n = block.rows
        if not n:
            return
        lengths = np.zeros(n, np.int64)
        hashes = np.array(block.hashes, np.uint64)
        self._admit(block.cells)
        while block.cells:
            name, cells = block.cells.popitem()
            tags, words, characters = cells.arrays(n)
            lengths += characters
            hashes += _mixed(tags, words, name)
            if name in self.columns:
                self.columns[name].add(tags, words, characters)
        hashes[hashes == 0] = 1
        hashes[block.broken] = 0
        numbers = np.delete(np.arange(self.rows + 1, self.rows + n + 1), block.broken)
        lengths = np.delete(lengths, block.broken)
        self.longest = _extremes(self.longest, numbers, lengths, -1)
        self.shortest = _extremes(self.shortest, numbers, lengths, 1)
        self.hashes += hashes.tobytes()
        self.rows += n
        self._forget()
        block.clear()

    def merge(self, later: Part, before: int) -> None:
        """Add what was counted in a later stretch, with `before` rows before its first."""
        self._admit(later.columns)
        for name, tally in later.columns.items():
            if name in self.columns:
                self.columns[name].merge(tally)
        for mine, theirs in ((self.broken_rows, later.broken_rows), (self.noted_rows, later.noted_rows)):
            mine += [before + row for row in theirs]
            del mine[SHOWN:]
        self.broken += later.broken
        self.broken_why.update(later.broken_why)
        self.noted += later.noted
        self.longest = sorted(
            self.longest + [(before + row, length) for row, length in later.longest],
            key=lambda one: (-one[1], one[0]),
        )[:EXTREMES]
        self.shortest = sorted(
            self.shortest + [(before + row, length) for row, length in later.shortest],
            key=lambda one: (one[1], one[0]),
        )[:EXTREMES]
        self.hashes += later.hashes
        for hashed, look in later.looks.items():
            self.looks.setdefault(hashed, look)
        self._forget()
        self.rows += later.rows
        self.left_out |= later.left_out

    def finished(self, path: Path, size: int, changed: int) -> Profile:
        """Return the profile of the file that these rows are all of."""
        repeats, repeat_rows = _repeats(np.frombuffer(self.hashes, np.uint64))
        hints: dict[str, Counter[str]] = {}
        for _, texts in self.looks.values():
            for name, hint in texts:
                hints.setdefault(name, Counter())[hint] += 1
        languages = Counter(language for language, _ in self.looks.values())
        return Profile(
            path=str(path),
            size=size,
            changed=changed,
            rows=self.rows,
            columns=tuple(
                tally.finished(name, self.rows - self.broken, hints.get(name, Counter()))
                for name, tally in self.columns.items()
            ),
            broken=self.broken,
            broken_rows=tuple(self.broken_rows),
            broken_why=dict(sorted(self.broken_why.items())),
            noted=self.noted,
            noted_rows=tuple(self.noted_rows),
            repeats=repeats,
            repeat_rows=repeat_rows,
            longest=tuple(self.longest),
            shortest=tuple(self.shortest),
            languages=dict(sorted(languages.items(), key=lambda one: (-one[1], one[0]))),
            looked_at=len(self.looks),
            columns_left_out=self.left_out,
        )

    def _admit(self, names: Iterable[str]) -> None:
        """Take new columns in; of too many, those whose names come first in the alphabet."""
        names = dict.fromkeys([*self.columns, *names])
        if len(names) > COLUMNS:
            first = set(sorted(names)[:COLUMNS])
            names = {name: None for name in names if name in first}
            self.left_out = True
        self.columns = {name: self.columns.get(name) or _Tally() for name in names}

    def _forget(self) -> None:
        """Keep of too many looks those with the smallest hashes."""
        if len(self.looks) > 4 * LOOKED_AT:
            self.looks = {hashed: self.looks[hashed] for hashed in sorted(self.looks)[: 4 * LOOKED_AT]}


class _Tally:
    """What was counted of one column."""

    def __init__(self) -> None:
        self.kinds: Ints = np.zeros(len(_KINDS), np.int64)
        self.empty = 0
        self.characters, self.tokens = Histogram(), Histogram()

    def add(self, tags: npt.NDArray[np.uint8], words: Ints, characters: Ints) -> None:
        kinds = np.bincount(tags, minlength=len(_KINDS))
        self.kinds += kinds
        if kinds[_TEXT]:
            self.empty += int(np.count_nonzero((tags == _TEXT) & (words == 0)))
        measured = int(kinds[_TEXT:].sum())
        if measured < len(tags):
            those = tags >= _TEXT
            characters, words = characters[those], words[those]
        self.characters.add(characters)
        self.tokens.add(whole_tokens(characters, words))

    def merge(self, other: _Tally) -> None:
        self.kinds += other.kinds
        self.empty += other.empty
        self.characters.merge(other.characters)
        self.tokens.merge(other.tokens)

    def finished(self, name: str, rows: int, hints: Counter[str]) -> Column:
        kinds = {kind: int(count) for kind, count in zip(_KINDS[1:], self.kinds[1:], strict=True) if count}
        return Column(
            name,
            kinds,
            rows - sum(kinds.values()),
            self.empty,
            self.characters,
            self.tokens,
            {hint: hints[hint] for hint in _HINTS if hints[hint]},
            hints.total(),
        )


class _Block:
    """Some thousand rows, by column, as numbers; `hashes` are of the bytes of each row's texts."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.getters: list[Callable[[Any], Any]] = []
        self.clear()

    def clear(self) -> None:
        self.cells: dict[str, _Cells] = {}
        self.hashes: list[int] = []
        self.broken: list[int] = []

    @property
    def rows(self) -> int:
        return len(self.hashes)

    @property
    def full(self) -> bool:
        return self.rows >= _MANY or self.rows * len(self.cells) > _CELLS

    def take(self, values: list[Any]) -> list[int]:
        """Add some rows; return the hashes of their texts."""
        rows = len(self.hashes)
        try:
            columns = [list(map(getter, values)) for getter in self.getters]
            known = 0 < len(columns) <= COLUMNS and sum(map(len, values)) == len(values) * len(columns)
        except (KeyError, TypeError):
            known = False
        if not known:
            # what is no record, or has too many fields to be one, is a column of its own
            values = [
                value if type(value) is dict and len(value) <= COLUMNS else {"": value} for value in values
            ]
            names = dict.fromkeys(chain.from_iterable(values))
            if len(names) * len(values) > _CELLS and len(values) > 1:
                half = len(values) // 2
                return self.take(values[:half]) + self.take(values[half:])
            for name in names:
                if name not in self.cells:
                    self.cells[name] = _Cells()
            self.names = sorted(names)
            self.getters = [itemgetter(name) for name in self.names]
            columns = [[value.get(name, _MISSING) for value in values] for name in self.names]
        elif not self.cells:
            self.cells = {name: _Cells() for name in values[0]}
        parts = [
            self.cells[name].take(column, rows) for name, column in zip(self.names, columns, strict=True)
        ]
        texts = map(b"".join, zip(*parts, strict=True)) if parts else [b""] * len(values)
        found = list(map(xxh3_64_intdigest, texts))
        self.hashes += found
        return found


class _Cells:
    """The values of one column as numbers, a place for each row.

    `tags` are the kinds; `words` a whole number's value, the bits of a float, the size in bytes of anything
    that has bytes; `characters` the lengths of what has characters.
    """

    def __init__(self) -> None:
        self.tags = bytearray()
        self.words, self.characters = array("q"), array("q")

    def take(self, column: list[Any], at: int) -> Iterable[bytes]:
        """Add values from row `at` on; return the bytes of each that its word does not tell."""
        self._pad(at)
        try:
            parts = list(map(str.encode, column))
        except (TypeError, UnicodeEncodeError):
            return self._numbers(column) or self._nested(column) or self._mixed(column)
        self.tags += _TAGS[_TEXT] * len(column)
        self.words.fromlist(list(map(len, parts)))
        self.characters.fromlist(list(map(len, column)))
        return parts

    def arrays(self, rows: int) -> tuple[npt.NDArray[np.uint8], Ints, Ints]:
        """Return tags, words and characters of `rows` rows."""
        self._pad(rows)
        return (
            np.frombuffer(self.tags, np.uint8),
            np.frombuffer(self.words, np.int64),
            np.frombuffer(self.characters, np.int64),
        )

    def _pad(self, rows: int) -> None:
        missing = rows - len(self.tags)
        if missing:
            self.tags += bytes(missing)
            self.words.frombytes(bytes(8 * missing))
            self.characters.frombytes(bytes(8 * missing))

    def _numbers(self, column: list[Any]) -> Iterable[bytes] | None:
        """Add a column of numbers of one kind."""
        kinds = set(map(type, column))
        if kinds == {float}:
            self.words.frombytes(array("d", column).tobytes())
            self.tags += _TAGS[_FLOAT] * len(column)
        elif kinds == {int}:
            try:
                self.words += array("q", column)
            except OverflowError:
                return None
            self.tags += _TAGS[_INTEGER] * len(column)
        else:
            return None
        self.characters.frombytes(bytes(8 * len(column)))
        return repeat(b"", len(column))

    def _nested(self, column: list[Any]) -> Iterable[bytes] | None:
        """Add a column of lists and objects."""
        kinds = set(map(type, column))
        if not kinds <= {list, dict}:
            return None
        try:
            parts = list(map(orjson.dumps, column, repeat(None), repeat(orjson.OPT_SORT_KEYS)))
        except TypeError:
            return None
        if len(kinds) == 1:
            self.tags += _TAGS[_LIST if list in kinds else _OBJECT] * len(column)
        else:
            self.tags += bytes([_LIST if type(value) is list else _OBJECT for value in column])
        sizes = list(map(len, parts))
        self.words.fromlist(sizes)
        plain = all(map(bytes.isascii, parts))
        self.characters.fromlist(sizes if plain else [len(part.decode()) for part in parts])
        return parts

    def _mixed(self, column: list[Any]) -> Iterable[bytes]:
        """Add a column of several kinds, mostly texts."""
        others = [place for place, value in enumerate(column) if type(value) is not str]
        texts = column.copy()
        for place in others:
            texts[place] = ""
        try:
            parts = list(map(str.encode, texts))
        except UnicodeEncodeError:
            parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        tags, words, characters = (
            bytearray(_TAGS[_TEXT] * len(texts)),
            list(map(len, parts)),
            list(map(len, texts)),
        )
        for place in others:
            tags[place], words[place], characters[place], parts[place] = _cell(column[place])
        self.tags += tags
        self.words.fromlist(words)
        self.characters.fromlist(characters)
        return parts


def _cell(value: Any) -> tuple[int, int, int, bytes]:
    """Return kind, word, characters and bytes of a value that is no text, as `_Cells` wants them."""
    kind = type(value)
    if value is None:
        return _NULL, 0, 0, b""
    if value is _MISSING:
        return 0, 0, 0, b""
    if kind is bool:
        return _BOOLEAN, int(value), 0, b""
    if kind is float:
        return _FLOAT, *struct.unpack("q", struct.pack("d", value)), 0, b""
    if kind is int and -(1 << 63) <= value < 1 << 63:
        return _INTEGER, value, 0, b""
    part = _json(value)
    if kind is list or kind is dict:
        return _LIST if kind is list else _OBJECT, len(part), len(part.decode("utf-8", "surrogatepass")), part
    return _INTEGER if kind is int else _OTHER, len(part), 0, part


def _json(value: Any) -> bytes:
    """Return a value as JSON with its keys in order; what JSON has not (dates, bytes) as its text."""
    try:
        return orjson.dumps(value, None, orjson.OPT_SORT_KEYS)
    except TypeError:
        text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def _mixed(tags: npt.NDArray[np.uint8], words: Ints, name: str) -> Words:
    """Return what a column adds to the hashes of its rows; 0 where it is missing."""
    salt = np.uint64(xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")))
    mixed = words.view(np.uint64) * _ODD + tags * _OTHER_ODD + salt
    mixed ^= mixed >> np.uint64(32)
    mixed *= _ODD
    mixed ^= mixed >> np.uint64(29)
    mixed *= tags != 0
    return mixed


def _repeats(hashes: Words) -> tuple[int, tuple[int, ...]]:
    """Return how many rows are like an earlier one, and the numbers of the first SHOWN of them."""
    ordered = np.sort(hashes)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    again = again[again != 0]
    count, several = len(again), np.unique(again)
    del ordered
    rows: list[int] = []
    seen = np.zeros(len(several), np.bool_)
    for begin in range(0, len(hashes) if count else 0, _SLICE):
        some = hashes[begin : begin + _SLICE]
        place = np.minimum(np.searchsorted(several, some), len(several) - 1)
        for row in np.flatnonzero(several[place] == some):
            if seen[place[row]]:
                rows.append(begin + int(row) + 1)
                if len(rows) == min(SHOWN, count):
                    return count, tuple(rows)
            seen[place[row]] = True
    return count, tuple(rows)


def _extremes(known: list[tuple[int, int]], numbers: Ints, lengths: Ints, sign: int) -> list[tuple[int, int]]:
    """Return the rows with the smallest `sign * length`, the earlier first among equals."""
    keys = sign * lengths
    if len(known) == EXTREMES:
        better = keys < sign * known[-1][1]
        keys, numbers, lengths = keys[better], numbers[better], lengths[better]
    first = np.argsort(keys, kind="stable")[:EXTREMES]
    found = known + list(zip(numbers[first].tolist(), lengths[first].tolist(), strict=True))
    return sorted(found, key=lambda one: (sign * one[1], one[0]))[:EXTREMES]


def _look(value: Any) -> _Look:
    """Look at a row closely: its language, and of each column that is a text what it reads as."""
    texts = sorted(value.items()) if isinstance(value, dict) else [("", value)]
    longest = ""
    for text in _leaves(value):
        if len(text) > len(longest):
            longest = text
    return language(longest), tuple((name, _hint(text)) for name, text in texts if isinstance(text, str))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one)


def _hint(text: str) -> str:
    text = text[:10_000].strip() if len(text) < 10_000 else ""
    if not text:
        return ""
    if len(text) <= 40 and _NUMBER.fullmatch(text):
        return "number"
    if len(text) <= 40 and _DATE.fullmatch(text):
        return "date"
    if text[0] + text[-1] in ("{}", "[]"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return ""
        return "json"
    return ""


def _count(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def _latin(text: str) -> str:
    english, foreign = len(_ENGLISH.findall(text)), len(_FOREIGN.findall(text))
    return "en" if english > foreign or (english == foreign and text.isascii()) else "latin"


def _bucket(values: Ints) -> Ints:
    """Return the buckets of numbers: exponent and first five bits of the float just below each."""
    below = values.astype(np.float64).view(np.int64) - 1
    buckets: Ints = np.clip((below >> 47) - (1023 << 5) + 2, 0, _BUCKETS - 1)
    return buckets


def _border(bucket: int) -> int:
    """Return the largest number in a bucket."""
    if bucket <= 0:
        return bucket
    doublings, part = divmod(bucket - 1, 32)
    return (32 + part << doublings) >> 5


def _file(path: Path, folder: Path) -> Path:
    named = hashlib.blake2b(str(path).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return folder / f"profile-{named}.json"


_Look = tuple[str, tuple[tuple[str, str], ...]]

_FEW, _MANY = 128, 8192  # rows; of more than 128 the values no longer fit the cache
_CELLS = 1 << 22
_SLICE = 1 << 18
_ALL = 1 << 64
_BUCKETS = 32 * 40 + 2
_ODD, _OTHER_ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_VALUE = attrgetter("value")
_MISSING = object()

_KINDS = ("missing", "null", "boolean", "integer", "float", "other", "text", "list", "object")
_NULL, _BOOLEAN, _INTEGER, _FLOAT, _OTHER, _TEXT, _LIST, _OBJECT = range(1, 9)
_TAGS = [bytes([tag]) for tag in range(9)]
_HINTS = ("number", "date", "json")

_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(\.[0-9]+)?([eE][-+]?[0-9]+)?\s?%?")
_DATE = re.compile(
    r"[0-9]{4}(-|/|\.|\u5e74)[0-9]{1,2}(-|/|\.|\u6708)[0-9]{1,2}\u65e5?"
    r"([ T][0-9]{1,2}:[0-9]{2}(:[0-9.]+)?(Z|[-+][0-9:]+)?)?|[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{4}"
)
_SIGN = re.compile(r"[{}()\[\];=<>_$/\\|&]+")
_CODE = re.compile(
    r"(?m)^\s*(from [\w.]+ import\b|import [\w.]+( as \w+)?;?$|def \w+\(|class \w+[:({]|function \w*\("
    r"|#include|(const|let|var) \w+ ?=|public (static|class)|SELECT .* FROM)"
)
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_KANA = re.compile(r"[\u3040-\u30ff]+")
_HANGUL = re.compile(r"[\u1100-\u11ff\uac00-\ud7af]+")
_LETTER = re.compile(r"[^\W\d_]+")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]+")
_ENGLISH = re.compile(
    r"(?i)\b(and|are|but|can|for|from|has|have|how|is|it|not|of|or|that|the|they|this|to|was|what|when|which|will"
    r"|with|would|you|your)\b"
)
_FOREIGN = re.compile(
    r"(?i)\b(auf|che|con|das|de|del|den|der|des|di|du|ein|el|em|est|et|het|il|ist|la|las|le|les|los|mit|nicht|niet"
    r"|non|para|per|por|pour|que|qui|sono|sur|um|uma|una|und|une|van|von|zu)\b"
)
