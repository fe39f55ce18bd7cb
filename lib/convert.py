"""Read records, map them to conversations, check them, split them, write them; and a ledger that adds up.

    train.jsonl        the rows to learn from, in the order of the files
    validation.jsonl   the rows kept back
    set_aside.jsonl    every other row: where it stood, why, and what it was
    manifest.json      written last: sources with SHA-256, mapping, target, seed, counts

Rows are read once and written to a spool beside the target, with eight bytes a row of what they ask; only
when all are known is it decided which are kept back: those whose first question has the smallest keyed hash.
So the same question is never on both sides, the number is exact to within one question, and neither the order
of the rows nor the kind of file matters. The same files and options give the same bytes, the manifest's date
aside. Until the end nothing in the folder is touched; an earlier conversion survives a stop and a full disk.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import IO, Any

import numpy as np
import orjson

from lib import check, formats, records
from lib.chat import Conversation
from lib.errors import ConvertError, RecordError
from lib.workspace import read_json, told, writing

# Raised whenever the same files and options begin to give other bytes.
VERSION = 1
# Seconds between two reports of progress, which may each write a file.
EVERY = 0.1

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert and how. `validation` is the share to keep back, 0 to 0.9; `target` one of targets.toml."""

    files: tuple[Path, ...]
    out: Path
    mapping: formats.Mapping
    validation: float = 0.1
    seed: int = 0
    target: str = "siliconflow"


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of the rows: `read` = `train` + `validation` + `set_aside`, always.

    `reasons` counts the rows set aside by reason (`reason.NAME` in each language), the commonest first;
    `warnings` counts what was noticed about rows that are in (`check.RULE`).
    """

    read: int
    train: int
    validation: int
    set_aside: int
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


def convert(request: Request, progress: Progress | None = None) -> Ledger:
    """Convert files into the folder `request.out`; return the ledger.

    `progress` is told the bytes behind and the bytes in all, at most ten times a second; whatever it raises
    stops the conversion. Raises `ConvertError` where the mapping cannot work or no row is left, `RecordError`
    where a file cannot be read, `WorkspaceError` where the disk refuses; then nothing has changed on disk.
    """
    _check_request(request)
    made = _missing_folders(request.out)
    try:
        with told(request.out):
            request.out.mkdir(parents=True, exist_ok=True)
        return _convert(request, progress)
    except BaseException:
        for folder in made:
            with _ignored():
                folder.rmdir()
        raise


def manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished conversion, or None where there is none."""
    found = read_json(folder / "manifest.json")
    return found if isinstance(found, dict) else None
