"""Any data file as a stream of records, in bounded memory.

    shape.py      what a file is: JSON array, JSON lines, CSV, Parquet, and its encoding
    sniffing.py   how that is found out, by its content
    json_text.py  JSON parsed fast where that is exact, exactly where it is not
    arrays.py     the rows of a JSON array, cut out of the file block by block
    lines.py      JSON lines
    tables.py     CSV and TSV
    parquet.py    Parquet
    ruler.py      in which column a fault is
    source.py     the bytes of a file, unpacked and recoded
    stream.py     the stream itself, of a whole file or a stretch of it
    stretches.py  several processes on one file, cut into stretches
    index.py      where every so-manyth row begins
    kept.py       the index and an unpacked copy, kept beside a dataset
    pages.py      some rows: the head, a page, a sample
    scan.py       search

`read` yields a `Record` for every row and a `Broken` for every piece that is none; the numbers of both
together count 1, 2, 3 … without a gap, so a ledger over them adds up. What a value is in the file, it is in
the record: what cannot be kept exactly is `Broken`, never changed in silence.

To add a kind of file, see stream.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib.records.kept import prepare, prepared
from lib.records.pages import Page, head, page, rows, sample
from lib.records.row import Broken, Piece, Record, Start, moved
from lib.records.scan import search
from lib.records.shape import Shape
from lib.records.sniffing import PACKED, ending, sniff
from lib.records.stream import read
from lib.records.stretches import cuts, spread

__all__ = [
    "ENDINGS",
    "Broken",
    "Page",
    "Piece",
    "Record",
    "Shape",
    "Start",
    "columns",
    "cuts",
    "ending",
    "find",
    "head",
    "moved",
    "page",
    "prepare",
    "prepared",
    "read",
    "rows",
    "sample",
    "search",
    "sniff",
    "spread",
]

_PLAIN = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
ENDINGS = (*_PLAIN, ".parquet", *(plain + packed for packed in PACKED for plain in _PLAIN))


def columns(values: Iterable[Any]) -> list[str]:
    """Return the names of all fields of some rows' values, in the order of their first appearance."""
    return list(dict.fromkeys(name for value in values if isinstance(value, dict) for name in value))


def find(folder: Path) -> list[Path]:
    """Return the data files in a folder and below it, by path; what describes or loads a dataset is none."""
    return sorted(
        path
        for path in folder.rglob("*")
        if ending(path) in ENDINGS
        and path.name.lower() not in _DESCRIPTIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


_DESCRIPTIONS = {"dataset.json", "dataset_info.json", "dataset_infos.json", "config.json", "requirements.txt"}
