"""JSON parsed fast where that is exact, and exactly where it is not.

orjson turns an integer beyond 64 bits into a float without a word, keeps only the last of two values under
one key, and refuses NaN, lone surrogates and deep nesting. So what it gives is checked: `Proof` writes it
again, which gives the same bytes where nothing was lost and nothing was written otherwise; else `keys_of`
looks at every number and counts the keys that arrived, `keys_in` those that were sent. Where that leaves a
doubt, `Exact` reads again: Python's own parser, which keeps what can be kept and tells what it met.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

# Integers beyond 64 bits come out of orjson as floats of at least this size.
_LIMIT = float(1 << 63)
# Levels of nesting below a row's own that are read: as many as orjson writes, so that it does not matter
# which way a row is proved. Python gives up at some 1000, in one place sooner than in another.
DEEPEST = 252


class BadNumberError(ValueError):
    """A number no Python value keeps: beyond the range of a float, or thousands of digits."""


class Proof:
    """Tells whether what orjson made of the parts of a file is exactly what stands there.

    To write it again takes a third of the time of counting (measured 2026-11), and proves it where the file
    was written as orjson writes: without spaces, nothing escaped that need not be. That is tried until a part
    of the file is not.
    """

    def __init__(self) -> None:
        self.alike = True

    def holds(self, values: list[Any], text: bytes | bytearray | memoryview) -> bool:
        """Return whether `values` are exactly what stands in `text`, a JSON array."""
        if self.alike:
            try:
                if orjson.dumps(values) == bytes(text):
                    return True
            except orjson.JSONEncodeError:  # too deep
                pass
            self.alike = False
        return sure(values, text)


def sure(values: list[Any], text: bytes | bytearray | memoryview) -> bool:
    """Return whether the values orjson made of `text` are exactly what stands there."""
    keys = keys_of(values)
    return keys >= 0 and keys_in(text, keys)


def keys_of(values: list[Any]) -> int:
    """Count the keys of all objects in some values; -1 where the values are in doubt.

    So they are where orjson may have changed a number, a float as large as an integer it cannot hold, and
    where nesting goes too deep.
    """
    keys = 0
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        deeper = []
        for value in level:
            if type(value) is dict:
                keys += len(value)
                value = value.values()
            for one in value:
                kind = type(one)
                if kind is str or kind is int:
                    continue
                if kind is float:
                    if not -_LIMIT < one < _LIMIT:
                        return -1
                elif one and (kind is dict or kind is list):
                    deeper.append(one)
        if not deeper:
            return keys
        level = deeper
    return -1


def keys_in(text: bytes | bytearray | memoryview, keys: int) -> bool:
    """Return whether valid JSON surely holds no more than `keys` keys.

    A key is a quote, then perhaps space, then a colon. Strings may hold the same, so what is counted here is
    at least as much as there are: only an equal count proves. The bytes are compared all at once, as a loop
    over them would take longer than the parsing.
    """
    signs = np.frombuffer(text, np.uint8)
    colon, before = signs[1:] == _COLON, signs[:-1]
    quoted = colon & (before == _QUOTE)
    count = int(np.count_nonzero(quoted))
    spaced = int(np.count_nonzero(colon & (before <= _SPACE)))
    if count + spaced == keys:
        return True
    # behind one backslash a quote lies inside a string; behind two it may end a key
    inside = quoted[2:] & (signs[1:-2] == _BACKSLASH) & (signs[:-3] != _BACKSLASH)
    count -= int(np.count_nonzero(inside))
    if count + spaced == keys or not spaced:
        return count + spaced == keys
    places = np.flatnonzero(colon & (before <= _SPACE))
    for _ in range(_SPACES):
        far = signs[places] <= _SPACE
        if not far.any():
            return count + int(np.count_nonzero(signs[places] == _QUOTE)) == keys
        places = places - far
    return False


class Exact:
    """Python's own parser, told to say what it met.

    After `decode`, `twice` is a key that stands twice in one object, or None; `odd` says whether there was
    NaN or Infinity, which are kept but are no JSON.
    """

    def __init__(self) -> None:
        self.twice: str | None = None
        self.odd = False
        self._decoder = json.JSONDecoder(
            parse_float=_finite, parse_constant=self._constant, object_pairs_hook=self._object
        )

    def decode(self, text: str, at: int) -> tuple[Any, int]:
        """Return the JSON value that begins at `at`, exactly, and where it ends.

        Raises json.JSONDecodeError, BadNumberError or RecursionError.
        """
        self.twice, self.odd = None, False
        try:
            value, end = self._decoder.raw_decode(text, at)
        except (json.JSONDecodeError, BadNumberError):
            raise
        except ValueError as error:  # an integer of more than 4300 digits
            raise BadNumberError(str(error)) from error
        if _deeper(value, DEEPEST):
            raise RecursionError
        return value, end

    def loads(self, line: bytes) -> Any:
        """Return the value of one JSON text, exactly. Raises as `decode` does, and UnicodeDecodeError."""
        text = line.decode("utf-8")
        value, end = self.decode(text, len(text) - len(text.lstrip(" \t\r\n")))
        if rest := text[end:].strip(" \t\r\n"):
            raise json.JSONDecodeError("Extra data", text, text.index(rest, end))
        return value

    def _constant(self, name: str) -> float:
        self.odd = True
        return float(name)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs) and self.twice is None:
            counts = Counter(name for name, _ in pairs)
            self.twice = next(name for name, count in counts.items() if count > 1)
        return value


def odd_place(text: str, at: int) -> int:
    """Return where the first NaN or Infinity behind `at` stands."""
    return next(place for place, token in _tokens(text, at) if token[0] in "NI-")


def twice_place(text: str, at: int, name: str) -> int:
    """Return where in the value at `at` the key `name` stands for the second time in one object."""
    seen: list[bool] = []
    for place, token in _tokens(text, at):
        if token in "{[":
            seen.append(False)
        elif token in "}]":
            seen.pop()
        elif _COLON_NEXT.match(text, place + len(token)) and json.loads(token, strict=False) == name:
            if seen[-1]:
                return place
            seen[-1] = True
    return at


def value_end(text: str, at: int) -> int:
    """Return where the object or array at `at` ends, however deep it is; -1 where the text ends before."""
    depth = 0
    for place, token in _tokens(text, at):
        depth += (token in "{[") - (token in "}]")
        if not depth:
            return place + 1
    return -1


def _tokens(text: str, at: int) -> Iterator[tuple[int, str]]:
    return ((found.start(), found[0]) for found in _TOKEN.finditer(text, at))


def _deeper(value: Any, left: int) -> bool:
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return False
    return any(not left or _deeper(one, left - 1) for one in value if type(one) in (dict, list))


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadNumberError(text)
    return value


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|NaN|-?Infinity', re.DOTALL)
_COLON_NEXT = re.compile(r"[ \t\r\n]*:")
_QUOTE, _COLON, _BACKSLASH, _SPACE = b'":\\ '
_SPACES = 64
