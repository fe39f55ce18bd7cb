"""JSON parsed fast where that is exact, and exactly where it is not.

orjson turns an integer beyond 64 bits into a float without a word, and refuses NaN, lone surrogates and deep
nesting; Python's own parser keeps the first three. `loads` uses orjson and takes the slow way only then.
Duplicate keys: the last one counts, in both.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

# Integers beyond 64 bits come out of orjson as floats of at least this size.
_LIMIT = float(1 << 63)
# Levels of nesting that are read; Python gives up at some 1000, in one place sooner than in another.
DEEPEST = 200


class BadNumberError(ValueError):
    """A number no Python value keeps: beyond the range of a float, or thousands of digits."""


def loads(line: bytes) -> Any:
    """Return the value of one JSON text, exactly.

    Raises json.JSONDecodeError, UnicodeDecodeError, BadNumberError or RecursionError.
    """
    try:
        value = orjson.loads(line)
        if not doubtful(value):
            return value
    except orjson.JSONDecodeError:
        pass
    text = line.decode("utf-8")
    value, end = decode(text, len(text) - len(text.lstrip(" \t\r\n")))
    if rest := text[end:].strip(" \t\r\n"):
        raise json.JSONDecodeError("Extra data", text, text.index(rest, end))
    return value


def decode(text: str, at: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `at`, exactly, and where it ends. Raises as `loads` does."""
    try:
        value, end = _EXACT.raw_decode(text, at)
    except (json.JSONDecodeError, BadNumberError):
        raise
    except ValueError as error:  # an integer of more than 4300 digits
        raise BadNumberError(str(error)) from error
    if _deeper(value, DEEPEST):
        raise RecursionError
    return value, end


def doubtful(value: Any, left: int = DEEPEST) -> bool:
    """Return whether `value` must be read again slowly.

    So it is where orjson may have changed a number, a float as large as an integer it cannot hold, and where
    nesting goes deeper than `left` levels.
    """
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return type(value) is float and not -_LIMIT < value < _LIMIT
    for one in value:
        kind = type(one)
        if kind is str or kind is int:
            continue
        if kind is float:
            if not -_LIMIT < one < _LIMIT:
                return True
        elif one and (kind is dict or kind is list) and (not left or doubtful(one, left - 1)):
            return True
    return False


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


_EXACT = json.JSONDecoder(parse_float=_finite)
