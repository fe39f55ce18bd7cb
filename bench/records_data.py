"""The blog post's data, made up: the same rows for the same seed, in every kind of file.

    {"Question": …, "Complex_CoT": …, "Response": …, "tags": [...], "meta": {...}, "score": 0.52}

About 2.2 kB a row: three quarters Chinese, the rest English; emoji, quotes, backslashes, "}, {" and U+2028
inside the text; a reasoning in 65 % of the rows, null or missing in the others; a `meta` that is something
else in every row; one row in 500 without a question or an answer; 2 % of the rows seen before. What is true
of all that (how many rows, pairs, duplicates, hits of the needle) is counted while it is written: `Facts`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

# Raised whenever the same seed begins to give other rows; part of the files' names.
VERSION = 1
COLUMNS = ("Question", "Complex_CoT", "Response", "tags", "meta", "score")
ENDINGS = {
    "array": ".json",
    "jsonl": ".jsonl",
    "csv": ".csv",
    "parquet": ".parquet",
    "hub": ".hub.parquet",  # row groups of 1,000 as the Hub's converter writes; pyarrow's default is 2**20
}

# Seven Chinese characters that the generated text cannot hold, in one row of 5,312: 170 hits in 2 GB.
NEEDLE = "".join(map(chr, (0x9F98, 0x9F49, 0x9EA4, 0x9F98, 0x9750, 0x9F49, 0x9EA4)))
NEEDLE_EVERY, GAP_EVERY, REPEATED = 5312, 500, 0.02

_SPRINKLED = (
    *('"', "\\", "\n", "\n\n", "}, {", '"}, {"', '{"Question": "', "\u2028", "\t", "/", "\\n", "\u00e9"),
    *map(chr, (0x1F52E, 0x2728, 0x1F600, 0x1F409)),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of the rows, whatever file they are in.

    `pairs` is the number of rows with a question and an answer, `digest` that of `digest_of` over them;
    `duplicates` counts the rows that came before; `hits` the rows that hold `NEEDLE`.
    """

    rows: int
    pairs: int
    digest: str
    duplicates: int
    hits: int


class Digest:
    """A sum over (question, answer) pairs that does not depend on their order but counts each of them."""

    def __init__(self) -> None:
        self.pairs = self._sum = 0

    def add(self, question: str, answer: str) -> None:
        """Count one pair."""
        hashed = blake2b(f"{question}\0{answer}".encode(), digest_size=8).digest()
        self.pairs += 1
        self._sum += int.from_bytes(hashed)

    def __str__(self) -> str:
        return f"{self._sum % 2**64:016x}"


def digest_of(paths: Iterable[Path]) -> Digest:
    """Return the digest of chat JSONL files. Raises `ValueError` where a line is no question and answer."""
    loads, digest = import_module("orjson").loads, Digest()
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                turns = loads(line)["messages"]
                if [turn["role"] for turn in turns] != ["user", "assistant"]:
                    raise ValueError(f"{path}: not a question and an answer: {line[:200]!r}")
                digest.add(turns[0]["content"], turns[1]["content"])
    return digest


def make(folder: Path, size: int, seed: int, kinds: Sequence[str]) -> tuple[dict[str, Path], Facts]:
    """Write the files that are not there yet; `size` is the array's in bytes. Return where they are.

    Files are written under another name first, so a file that is there is whole.
    """
    stem = f"blog-{size}-seed{seed}-v{VERSION}"
    paths = {kind: folder / f"{stem}{ENDINGS[kind]}" for kind in kinds}
    book = folder / f"{stem}.facts"
    missing = {kind: path for kind, path in paths.items() if not path.exists()}
    if missing or not book.exists():
        folder.mkdir(parents=True, exist_ok=True)
        drafts = {kind: path.with_name(f"{path.name}.tmp") for kind, path in missing.items()}
        book.write_text(json.dumps(asdict(_write(drafts, size, seed))), encoding="utf-8")
        for kind, draft in drafts.items():
            draft.rename(paths[kind])
    return paths, Facts(**json.loads(book.read_text(encoding="utf-8")))


def _write(paths: dict[str, Path], size: int, seed: int) -> Facts:
    dumps = import_module("orjson").dumps
    digest, count, duplicates, hits, length = Digest(), 0, 0, 0, 1
    with ExitStack() as stack:
        writers = [_WRITERS[kind](path, stack) for kind, path in paths.items()]
        for row, repeated in rows(seed):
            line: bytes = dumps(row)
            length += len(line) + 1
            if length > size and count:
                break
            for write in writers:
                write(row, line)
            count += 1
            duplicates += repeated
            question, answer = row.get("Question"), row.get("Response")
            if question and answer:
                digest.add(question, answer)
                hits += NEEDLE in answer
    return Facts(count, digest.pairs, str(digest), duplicates, hits)


def rows(seed: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield rows without end, and whether each was there before."""
    random = Random(seed)
    chinese, english = _chinese(random), _english(random)
    earlier: list[dict[str, Any]] = []
    number = 0
    while True:
        number += 1
        if earlier and random.random() < REPEATED:
            yield earlier[int(random.random() * len(earlier))], True
            continue
        pool, longer = (chinese, 1.0) if random.random() < 0.75 else (english, 2.2)
        row = _row(random, pool, longer)
        if number % GAP_EVERY == 5:
            _take_out(row, number // GAP_EVERY)
        elif number % NEEDLE_EVERY == 17:
            row["Response"] = f"{row['Response'][:40]}{NEEDLE}{row['Response'][40:]}"
        elif len(earlier) < 1000:
            earlier.append(row)
        else:
            earlier[int(random.random() * 1000)] = row
        yield row, False


def _row(random: Random, pool: str, longer: float) -> dict[str, Any]:
    def text(shortest: int, longest: int) -> str:
        length = int((shortest + random.random() * (longest - shortest)) * longer)
        begin = int(random.random() * (len(pool) - length))
        words = pool[begin : begin + length].strip() or "?"
        while random.random() < 0.5:
            place = 1 + int(random.random() * len(words))
            words = words[:place] + _SPRINKLED[int(random.random() * len(_SPRINKLED))] + words[place:]
        return words.strip() or "?"

    stretch = 8 if random.random() < 0.01 else 1  # a few rows are long
    row: dict[str, Any] = {"Question": text(20, 160)}
    chance = random.random()
    if chance < 0.65:
        row["Complex_CoT"] = text(100, 550)
    elif chance < 0.75:
        row["Complex_CoT"] = None
    row["Response"] = text(120, 640 * stretch)
    row["tags"] = [text(2, 5) for _ in range(int(random.random() * 4))]
    row["meta"] = _meta(random, text)
    row["score"] = round(random.random(), 6)
    return row


def _meta(random: Random, text: Callable[[int, int], str]) -> dict[str, Any]:
    number, kind = int(random.random() * 1e9), random.random()
    if kind < 0.4:
        return {"source": text(4, 12), "id": number, "checked": True}
    if kind < 0.6:
        return {"source": None, "notes": [text(3, 9), number, None, {"by": text(2, 4), "at": [1, 2.5]}]}
    if kind < 0.8:
        return {"source": {"name": text(3, 9), "pages": [number % 97, number % 89]}, "id": str(number)}
    return {"weight": number / 1024} if kind < 0.95 else {}


def _take_out(row: dict[str, Any], turn: int) -> None:
    name = ("Question", "Response")[turn % 2]
    if turn % 4 < 2:
        row[name] = None
    else:
        del row[name]


def _chinese(random: Random) -> str:
    """Return a million characters, the common ones common: the n-th of 3,000 in proportion to 1/(n + 10)."""
    letters = [*map(chr, range(0x4E00, 0x4E00 + 3000)), chr(0xFF0C), chr(0x3002)]
    weights = [1 / (n + 10) for n in range(3000)] + [0.35, 0.15]
    return "".join(random.choices(letters, cum_weights=list(accumulate(weights)), k=1_000_000))


def _english(random: Random) -> str:
    """Return two million characters of made-up words, the common ones common and short."""
    syllables = [a + b for a in "bcdfghlmnprstvw" for b in ("a", "e", "i", "o", "ar", "en", "ing", "is")]
    words = ["".join(random.choices(syllables, k=1 + n % 3)) for n in range(4000)]
    words += [word + mark for word in words[:40] for mark in (",", ".")]
    weights = [1 / (n % 4000 + 10) for n in range(len(words))]
    return " ".join(random.choices(words, cum_weights=list(accumulate(weights)), k=330_000))


Write = Callable[[dict[str, Any], bytes], object]


def _array(path: Path, stack: ExitStack) -> Write:
    file = stack.enter_context(path.open("wb"))
    stack.callback(lambda: file.write(b"]"))
    comma = b"["

    def write(_row: dict[str, Any], line: bytes) -> None:
        nonlocal comma
        file.write(comma + line)
        comma = b","

    return write


def _lines(path: Path, stack: ExitStack) -> Write:
    file = stack.enter_context(path.open("wb"))
    return lambda _row, line: file.write(line + b"\n")


def _csv(path: Path, stack: ExitStack) -> Write:
    table = csv.writer(stack.enter_context(path.open("w", encoding="utf-8", newline="")), lineterminator="\n")
    table.writerow(COLUMNS)
    return lambda row, _line: table.writerow(_cells(row))


def _parquet(group: int | None) -> Callable[[Path, ExitStack], Write]:
    def writer(path: Path, stack: ExitStack) -> Write:
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
        types = {"tags": pa.list_(pa.string()), "score": pa.float64()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        file = stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
        waiting: list[dict[str, Any]] = []
        batches: list[Any] = []

        def flush() -> None:
            if waiting:
                batches.append(pa.RecordBatch.from_pylist(waiting, schema))
                waiting.clear()

        def write(row: dict[str, Any], _line: bytes) -> None:
            waiting.append(row | {"meta": _json(row["meta"])})
            if len(waiting) == 1000:
                flush()
                if group:
                    end()

        # Without a group size all rows are written as one table, as users do: as much memory as text.
        def end() -> None:
            flush()
            if batches:
                file.write_table(pa.Table.from_batches(batches))
                batches.clear()

        stack.callback(end)
        return write

    return writer


def _cells(row: dict[str, Any]) -> list[Any]:
    return [_json(row[name]) if name in ("tags", "meta") else row.get(name) for name in COLUMNS]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_WRITERS: dict[str, Callable[[Path, ExitStack], Write]] = {
    "array": _array,
    "jsonl": _lines,
    "csv": _csv,
    "parquet": _parquet(None),
    "hub": _parquet(1000),
}
