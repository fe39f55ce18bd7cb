"""A few of the visitor's own rows for the playground: some to train on, some held back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from lib.playground.model import Pair

TRAINED, HELD_BACK = 96, 24  # rows: 96 in piles of 32, three times over, are nine steps
LOOKED_AT = 2000  # lines of a file that the rows are drawn from


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as questions and answers. `held_back` is the mock exam; none of it is trained on."""

    trained: tuple[Pair, ...]
    held_back: tuple[Pair, ...]


def sample(folder: Path, rows: int = TRAINED) -> Sample:
    """Return some rows of a conversion's folder, `rows` of them to train on where there are so many.

    Where the conversion kept no rows back, a fifth of those drawn are held back here. Fewer `rows` are the
    first of the many, and the mock exam stays the same, so that what differs comes from their number alone.
    """
    whole = _sample(*(_stamped(folder / f"{name}.jsonl") for name in ("train", "validation")))
    return Sample(whole.trained[:rows], whole.held_back)


@lru_cache(maxsize=8)
def _sample(train: tuple[str, int, int], validation: tuple[str, int, int]) -> Sample:
    trained, held_back = _pairs(train[0]), _pairs(validation[0])
    if len(held_back) < 2:
        drawn = _drawn(trained, TRAINED + HELD_BACK)
        held_back = drawn[: min(HELD_BACK, len(drawn) // 5)]
        trained = drawn[len(held_back) :]
    return Sample(tuple(_drawn(trained, TRAINED)), tuple(_drawn(held_back, HELD_BACK)))


def _drawn(pairs: list[Pair], most: int) -> list[Pair]:
    """Return at most `most` of some rows, drawn with one fixed seed."""
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[place] for place in order[:most]]


def _stamped(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return str(path), 0, 0
    return str(path), stat.st_size, stat.st_mtime_ns


def _pairs(file: str) -> list[Pair]:
    """Return the first question and its answer of the first lines of a chat JSONL file."""
    pairs: list[Pair] = []
    path = Path(file)
    if not path.is_file():
        return pairs
    with path.open("rb") as lines:
        for line in islice(lines, LOOKED_AT):
            said = {"user": "", "assistant": ""}
            for message in orjson.loads(line)["messages"]:
                role, content = message["role"], message.get("content")
                if role in said and isinstance(content, str):
                    said[role] = said[role] or content
            if said["assistant"].strip():
                pairs.append((said["user"], said["assistant"]))
    return pairs
