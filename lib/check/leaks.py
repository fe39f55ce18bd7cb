"""Questions that stand, the same or nearly, on both sides of a split: what was learned is then no test.

The same is what is the same in `normal`: letters, digits and signs, whatever their case, width, spaces and
punctuation. Nearly the same are two whose sets of four characters in a row overlap by NEAR (Jaccard). Of each
validation question only its rarest fours are looked up, as many as two such sets cannot both lack (prefix
filtering, Bayardo et al. 2007), so that the comparison is exact but for the limit on how many are compared.
"""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from lib import records
from lib.check.targets import Target

# Two questions are nearly the same from this share of common fours. Ours.
NEAR = 0.8
# Validation questions compared for near likeness at most, and their characters: 100 MB of memory or so.
MOST_COMPARED = 20_000
MOST_CHARACTERS = 4_000_000
# Of one question; what differs only beyond is nearly the same.
MOST_LENGTH = 20_000

Ints = npt.NDArray[Any]


class Leak(NamedTuple):
    """A validation row whose question stands in a row to train on: `rule` is "leaked" or "near_leak"."""

    line: int
    row: int
    rule: str
    train_line: int


class Leaks(NamedTuple):
    """What was found, by line. `compared` of `questions` were looked at for near likeness."""

    found: list[Leak]
    compared: int
    questions: int


def near(text: str) -> bytes:
    """Return eight bytes that are the same for texts that are the same in `normal`."""
    return xxhash.xxh3_64_digest(normal(text))


def normal(text: str) -> bytes:
    """Return what is left of a text without case, width, spaces and punctuation, in UTF-8.

    Signs one calculates with remain: 3+5 is not 35. A text of nothing else remains as it is.
    """
    if text.isascii():
        left = text.encode().translate(_LOWER, _DROPPED)
    elif _PLAIN(text):
        left = _MARKS("", text).encode().translate(_LOWER, _DROPPED)
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        left = folded.translate(_KEPT).encode("utf-8", "surrogatepass")
    return left or text.strip().encode("utf-8", "surrogatepass")


def leaks(train: Path, validation: Path, target: Target, most: int = MOST_COMPARED) -> Leaks:
    """Find the validation rows whose question is in the training file; each is named once.

    Takes 32 bytes a validation row, and what MOST_COMPARED says. Raises `RecordError` where a file cannot be
    read.
    """
    hashes, lines, rows = array("Q"), array("q"), array("q")
    texts: list[str] = []
    characters = 0
    compare = "near_leak" in target.rules
    for question, line, row in _questions(validation):
        left = normal(question)
        hashes.append(xxhash.xxh3_64_intdigest(left))
        lines.append(line)
        rows.append(row)
        if compare and len(texts) == len(lines) - 1 and len(texts) < most and characters < MOST_CHARACTERS:
            texts.append(_text(left))
            characters += len(texts[-1])
    if not hashes:
        return Leaks([], 0, 0)
    known = _Known(texts)
    values = np.array(hashes, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    same: dict[int, int] = {}  # place among the validation questions -> line to train on
    like: dict[int, int] = {}
    for batch, numbers in _batches(train):
        digests = np.array([xxhash.xxh3_64_intdigest(left) for left in batch], dtype=np.uint64)
        first, last = np.searchsorted(ordered, digests), np.searchsorted(ordered, digests, "right")
        for place in np.flatnonzero(last > first).tolist():
            for one in order[first[place] : last[place]].tolist():
                same.setdefault(one, numbers[place])
        for place, one in known.alike([_text(left) for left in batch], same):
            like.setdefault(one, numbers[place])
    found = [Leak(lines[one], rows[one], "leaked", line) for one, line in same.items()]
    found += [Leak(lines[one], rows[one], "near_leak", line) for one, line in like.items() if one not in same]
    found = sorted(leak for leak in found if leak.rule in target.rules)
    return Leaks(found, len(texts) if compare else 0, len(lines))


class _Known:
    """The validation questions as sets of fours, to be looked up by their rarest ones."""

    def __init__(self, texts: list[str]) -> None:
        fours, owner = _fours(texts)
        pairs = np.unique((owner.astype(np.uint64) << np.uint64(32)) | fours)
        self.owner = (pairs >> np.uint64(32)).astype(np.int64)
        self.fours = (pairs & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        self.begins = np.searchsorted(self.owner, np.arange(len(texts) + 1))
        self.sizes = np.diff(self.begins)
        self.names, counts = np.unique(self.fours, return_counts=True)
        self.rank = np.empty(len(self.names), dtype=np.int64)  # rarest first
        self.rank[np.lexsort((self.names, counts))] = np.arange(len(self.names))
        self.seen = np.zeros(1 << 24, dtype=np.bool_)
        self.seen[self.names >> np.uint32(8)] = True
        rank = self.rank[np.searchsorted(self.names, self.fours)]
        by_rank = np.lexsort((rank, self.owner))
        inside = np.arange(len(by_rank)) - np.repeat(self.begins[:-1], self.sizes)
        prefix = self.sizes - np.ceil(self.sizes * NEAR).astype(np.int64) + 1
        kept = by_rank[inside < np.repeat(prefix, self.sizes)]
        by_four = kept[np.argsort(self.fours[kept], kind="stable")]
        self.index_fours, self.index_owner = self.fours[by_four], self.owner[by_four]

    def alike(self, texts: list[str], skip: dict[int, int]) -> Iterator[tuple[int, int]]:
        """Yield, for questions to train on, their place and that of a validation question nearly the same."""
        if not len(self.names):
            return
        fours, owner = _fours(texts)
        seen = np.bincount(owner[self.seen[fours >> np.uint32(8)]], minlength=len(texts))
        every = np.bincount(owner, minlength=len(texts))
        begins = np.searchsorted(owner, np.arange(len(texts) + 1))
        done = np.zeros(len(self.sizes), dtype=np.bool_)
        done[[one for one in skip if one < len(done)]] = True
        for place in np.flatnonzero((seen * 2 > every) & (every > 0)).tolist():
            for one in self._like(np.unique(fours[begins[place] : begins[place + 1]]), done):
                done[one] = True
                yield place, one

    def _like(self, fours: Ints, done: Ints) -> Iterator[int]:
        size = len(fours)
        at = np.minimum(np.searchsorted(self.names, fours), len(self.names) - 1)
        known = self.names[at] == fours
        least = math.ceil(size * NEAR)
        take = (
            size - least + 1 - int(size - known.sum())
        )  # fours that nobody has come first, and find nothing
        if take <= 0:
            return
        ranks = self.rank[at[known]]
        rarest = fours[known][np.argsort(ranks, kind="stable")[:take]]
        first, last = (np.searchsorted(self.index_fours, rarest, side) for side in ("left", "right"))
        owners = [self.index_owner[low:high] for low, high in zip(first.tolist(), last.tolist(), strict=True)]
        candidates = np.unique(np.concatenate(owners))
        sizes = self.sizes[candidates]
        fits = (sizes >= size * NEAR) & (size >= sizes * NEAR) & ~done[candidates]
        for one in candidates[fits].tolist():
            theirs = self.fours[self.begins[one] : self.begins[one + 1]]
            common = len(np.intersect1d(fours, theirs, assume_unique=True))
            if common >= NEAR * (size + len(theirs) - common):
                yield one


def _text(left: bytes) -> str:
    return left[: 4 * MOST_LENGTH].decode("utf-8", "replace")[:MOST_LENGTH]


def _fours(texts: list[str]) -> tuple[Ints, Ints]:
    """Return the hash of every four characters in a row, and whose they are; in order of the texts."""
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    codes = np.frombuffer("".join(texts).encode(_UTF32, "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < 4:
        return np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int64)
    hashed = codes[:-3]
    for step in (1, 2, 3):
        hashed = hashed * _ODD + codes[step : len(codes) - 3 + step]
    hashed = (hashed * _ODD) ^ (hashed >> np.uint64(29))
    owner = np.repeat(np.arange(len(texts)), sizes)
    whole = owner[:-3] == owner[3:]
    return ((hashed * _ODD) >> np.uint64(32)).astype(np.uint32)[whole], owner[:-3][whole]


def _batches(path: Path) -> Iterator[tuple[list[bytes], list[int]]]:
    """Yield what the rows of a file ask, normalised, and their lines, some at a time."""
    batch: list[bytes] = []
    numbers: list[int] = []
    size = 0
    for question, line, _ in _questions(path):
        batch.append(normal(question))
        numbers.append(line)
        size += len(batch[-1])
        if size > 1 << 20:
            yield batch, numbers
            batch, numbers, size = [], [], 0
    if batch:
        yield batch, numbers


def _questions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield what each row of a chat JSONL file asks first, its line and its number."""
    for piece in records.read(path):
        if isinstance(piece, records.Broken) or not isinstance(piece.value, dict):
            continue
        messages = piece.value.get("messages")
        turns = [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
        asked = [one for one in turns if one.get("role") == "user"] or turns
        text = asked[0].get("content") if asked else None
        if isinstance(text, str):
            yield text, piece.line or piece.number, piece.number


class _Categories(dict[int, int | None]):
    """What `str.translate` makes of a character: itself, or nothing; looked up once."""

    def __missing__(self, code: int) -> int | None:
        kind = unicodedata.category(chr(code))
        dropped = kind[0] in "PZC" and kind != "Cs" and chr(code) not in _CALCULATING
        self[code] = kept = None if dropped else code
        return kept


# Punctuation to Unicode, but not to who calculates or names things with it.
_CALCULATING = "#%&*-/@\\"
_KEPT = _Categories()
_LOWER = bytes(range(256)).lower()
_DROPPED = bytes(code for code in range(128) if _KEPT[code] is None)
# Punctuation that Chinese questions are full of. The rest of these is the same in every normal form.
_CHINESE = (
    "\u3000-\u3003\u3008-\u3011\u2014\u2018\u2019\u201c\u201d\u00b7\uff0c\uff1f\uff01\uff1a\uff1b\uff08\uff09"
)
_PLAIN = re.compile(f"[\x00-\x7f\u4e00-\u9fff{_CHINESE}]*").fullmatch
_MARKS = re.compile(f"[{_CHINESE}]+").sub
_ODD = np.uint64(0x9E3779B97F4A7C15)
_UTF32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
