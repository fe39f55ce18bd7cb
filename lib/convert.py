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

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import IO, Any, NoReturn

import numpy as np
import orjson

from lib import check, formats, records
from lib.chat import Conversation
from lib.errors import ConvertError, RecordError, UsageError
from lib.workspace import read_json, writing

# Raised whenever the same files and options begin to give other bytes.
VERSION = 1
# Seconds between two reports of progress, which may each write a file.
EVERY = 0.1

# The largest share that can be kept back.
MOST_KEPT = 0.9
# The files of a conversion; the manifest, which says that it is whole, gets its name last.
FILES = ("manifest.json", "set_aside.jsonl", "validation.jsonl", "train.jsonl")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert and how. `validation`: the share kept back, 0 to 0.9; `target`: one of targets.toml."""

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
    where a file cannot be read, `WorkspaceError` where the disk refuses, `UsageError` for options that cannot
    be; then nothing has changed on disk.
    """
    _check(request)
    stamps = [_stamp(path) for path in request.files]
    new = [folder for folder in (request.out, *request.out.parents) if not folder.exists()]
    try:
        with ExitStack() as stack:
            # renamed in reverse order, the manifest last
            book, aside, kept, train = (stack.enter_context(writing(request.out / name)) for name in FILES)
            spool = stack.enter_context(tempfile.TemporaryFile(dir=request.out, buffering=1 << 20))
            digests = stack.enter_context(_digests(request.files))
            rows = _Rows(request, spool, aside)
            for path, report in zip(request.files, _reports(stamps, progress), strict=True):
                rows.take(path, report)
            ledger = rows.split(train, kept)
            sources = [
                {"file": path.name, "path": str(path), "bytes": stamp[0], "sha256": digest.result()}
                for path, stamp, digest in zip(request.files, stamps, digests, strict=True)
            ]
            changed = [
                path for path, stamp in zip(request.files, stamps, strict=True) if _stamp(path) != stamp
            ]
            if changed:
                raise RecordError("record.changed", file=changed[0].name)
            book.write(_manifest(request, ledger, sources))
            for file in (train, kept, aside, book):  # a full disk shows here, before anything is renamed
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    if progress:
        progress(sum(size for size, _ in stamps), sum(size for size, _ in stamps))
    return ledger


def manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished conversion, or None where there is none."""
    found = read_json(folder / "manifest.json")
    return found if isinstance(found, dict) else None


class _Rows:
    """The rows on their way: those that are in go to the spool, the others aside.

    Kept for each row in the spool: 8 bytes of a keyed hash of its first question, and 8 of its line.
    """

    def __init__(self, request: Request, spool: IO[bytes], aside: IO[bytes]) -> None:
        self.request, self.spool, self.aside = request, spool, aside
        self.read = 0
        self.reasons: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.worst: dict[str, dict[str, Any]] = {}  # reason -> the first row set aside for it
        self.columns: list[str] = []
        self._questions = bytearray()
        self._lines = array("q")

    def take(self, path: Path, report: Callable[[int], None]) -> None:
        """Read a file's rows; put each on the spool or aside."""
        mapping, target = self.request.mapping, check.targets()[self.request.target]
        fits = check.quick(target)
        key = f"firsttune {self.request.seed}".encode()
        for piece in records.read(path, report):
            self.read += 1
            if isinstance(piece, records.Broken):
                self.put_aside(path, piece, piece.reason, field="", facts=piece.error.facts)
                continue
            if not self.columns:
                self.columns = records.columns([piece.value])
            try:
                conversation = formats.to_conversation(piece.value, mapping)
            except ConvertError as error:
                name = str(error.facts.get("field", ""))
                self.put_aside(path, piece, error.key.rpartition(".")[2], field=name, facts=error.facts)
                continue
            line = _line(conversation)
            if line is None or not fits(conversation):
                findings = check.check_conversation(conversation, target)
                wrong = [finding for finding in findings if finding.severity == "error"]
                if wrong or line is None:
                    rules = [f"{finding.rule} {finding.field}" for finding in wrong]
                    first = wrong[0] if wrong else None
                    reason = first.rule if first else "bad_characters"
                    self.put_aside(path, piece, reason, first.field if first else "", {"rules": rules})
                    continue
                self.warnings.update(finding.rule for finding in findings)
            question = (conversation.first("user") or conversation.messages[0].content).strip()
            self._questions += hashlib.blake2b(question.encode(), digest_size=8, key=key).digest()
            self._lines.append(hash(line))
            self.spool.write(line)

    def put_aside(
        self, path: Path, piece: records.Piece, reason: str, field: str, facts: Mapping[str, Any]
    ) -> None:
        """Write a row that is not used, with the reason."""
        row: dict[str, Any] = {"file": path.name, "row": piece.number, "line": piece.line, "reason": reason}
        if field:
            row["field"] = field
        row["facts"] = {name: fact for name, fact in facts.items() if name not in ("file", "row", "field")}
        if isinstance(piece, records.Broken):
            row["raw"] = piece.raw
        else:
            row["value"] = piece.value
        self.reasons[reason] += 1
        self.worst.setdefault(reason, row)
        self.aside.write(_exact_json(row))

    def split(self, train: IO[bytes], kept: IO[bytes]) -> Ledger:
        """Deal the spool out to the two files; return the ledger. Raises where there is nothing to deal."""
        rows = len(self._lines)
        if not rows:
            self._complain()
        if repeated := _repeats(self._lines):
            self.warnings["duplicate"] = repeated
        self._lines = array("q")
        limit = _limit(self._questions, self.request.validation)
        questions = memoryview(self._questions).cast("Q")
        self.spool.seek(0)
        validation = 0
        for question, line in zip(questions, self.spool, strict=True):
            if question < limit:
                validation += 1
                kept.write(line)
            else:
                train.write(line)
        return Ledger(
            read=self.read,
            train=rows - validation,
            validation=validation,
            set_aside=sum(self.reasons.values()),
            reasons=dict(self.reasons.most_common()),
            warnings=dict(self.warnings.most_common()),
        )

    def _complain(self) -> NoReturn:
        """Say why nothing is left: the commonest reason."""
        if not self.read:
            raise RecordError("record.no_rows", file=self.request.files[0].name)
        reason, count = self.reasons.most_common(1)[0]
        worst = self.worst[reason]
        raise ConvertError(
            "convert.nothing_left",
            read=self.read,
            reason=reason,
            n=count,
            field=worst.get("field", ""),
            file=worst["file"],
            row=worst["row"],
            columns=", ".join(self.columns).encode("utf-8", "replace").decode("utf-8"),
        )


def _check(request: Request) -> None:
    """Raise for what cannot work whatever the files hold."""
    formats.check_mapping(request.mapping)
    if request.target not in check.targets():
        known = ", ".join(check.targets())
        raise UsageError("convert.unknown_target", target=request.target, known=known)
    if not 0 <= request.validation <= MOST_KEPT:
        raise UsageError("convert.bad_share", value=request.validation, most=MOST_KEPT)
    if not request.files:
        raise UsageError("convert.no_files")
    for path in request.files:
        records.sniff(path)
        if path.resolve() in [(request.out / name).resolve() for name in FILES]:
            raise UsageError("convert.overwrites_source", file=str(path))


def _stamp(path: Path) -> tuple[int, int]:
    """Return size and time of change."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _line(conversation: Conversation) -> bytes | None:
    """Return a conversation as one line of the file, or None where it is not Unicode text."""
    # written out here: orjson takes 2.5 times as long over a dataclass (measured 2026-11)
    told = {"messages": [{"role": m.role, "content": m.content} for m in conversation.messages]}
    try:
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return None


def _exact_json(row: Any) -> bytes:
    """Return a row as one line, every value as it was read: orjson would write NaN as null."""
    try:
        return json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, default=str).encode() + b"\n"


def _repeats(lines: array[int]) -> int:
    """Return how many lines came before; sorts them in place."""
    values = np.frombuffer(lines, dtype=np.int64)
    values.sort()
    return int(np.count_nonzero(values[1:] == values[:-1]))


def _limit(questions: bytearray, share: float) -> int:
    """Return the hash below which a row is kept back.

    The number of rows kept back is as near to the share as whole questions allow: at least one question
    where there are two, and never all.
    """
    values = np.sort(np.frombuffer(questions, dtype=np.uint64))
    wanted = int(len(values) * share + 0.5) or 1
    if not share or len(values) < 2:
        return 0
    border = values[wanted - 1]
    low, high = (int(np.searchsorted(values, border, side)) for side in ("left", "right"))
    kept = high if high - wanted <= wanted - low or not low else low
    if kept == len(values):
        kept = low
    return int(values[kept])


def _reports(stamps: list[tuple[int, int]], progress: Progress | None) -> Iterator[Callable[[int], None]]:
    """Yield for each file what it tells its bytes to; passed on as bytes of all files, not too often."""
    total, before, due = sum(size for size, _ in stamps), 0, 0.0

    def report(done: int) -> None:
        nonlocal due
        if progress and time.monotonic() >= due:
            due = time.monotonic() + EVERY
            progress(before + done, total)

    for size, _ in stamps:
        yield report
        before += size


@contextmanager
def _digests(paths: Sequence[Path]) -> Iterator[list[Future[str]]]:
    """Compute the files' SHA-256 on a second core meanwhile; given up when the block fails."""
    enough = Event()

    def digest(path: Path) -> str:
        state = hashlib.sha256()
        with path.open("rb") as file:
            while not enough.is_set() and (block := file.read(1 << 20)):
                state.update(block)
        return state.hexdigest()

    with ThreadPoolExecutor(1) as pool:
        try:
            yield [pool.submit(digest, path) for path in paths]
        finally:
            enough.set()


def _manifest(request: Request, ledger: Ledger, sources: list[dict[str, Any]]) -> bytes:
    told = {
        "counts": asdict(ledger),
        "sources": sources,
        "mapping": asdict(request.mapping),
        "target": request.target,
        "validation": request.validation,
        "seed": request.seed,
        "versions": {"convert": VERSION, "orjson": orjson.__version__, "python": platform.python_version()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
