"""Read records, map them to conversations, check them, split them, write them; and a ledger that adds up.

    train.jsonl        the rows to learn from, in the order of the files
    validation.jsonl   the rows kept back
    set_aside.jsonl    every other row: where it stood, why, and what it was
    manifest.json      written last: sources with SHA-256, mapping, target, seed, counts

Rows are read once (lib/sift.py) and written as lines beside the target, with sixteen bytes a row in memory of
what they ask and are; only when all are known is it decided which are kept back: those whose first question
has the smallest keyed hash. So the same question is never on both sides, the number is exact to within one
question, and neither the order of the rows nor the kind of file nor the number of processes matters. The same
files and options give the same bytes, the manifest's date aside. Until the end nothing in the folder is
touched; an earlier conversion survives a stop and a full disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import IO, Any, NoReturn

import numpy as np
import orjson
import psutil

from lib import check, edits, formats, outputs, records, sift
from lib.check import leaks
from lib.errors import ConvertError, RecordError, UsageError
from lib.records import Start
from lib.repeats import repeats
from lib.workspace import read_json, writing
from lib.workspace import told as disk

# Raised whenever the same files and options begin to give other bytes.
VERSION = 2
# Seconds between two reports of progress, which may each write a file.
EVERY = 0.1

# Up to so many rows leaks are looked for unasked, which takes 0.2 s; beyond, with the fix or `lib check`.
LEAKS_LOOKED_AT = 20_000
# The largest share that can be kept back.
MOST_KEPT = 0.9
# The files of a conversion; the manifest, which says that it is whole, gets its name last.
FILES = ("manifest.json", "set_aside.jsonl", "validation.jsonl", "train.jsonl")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert and how.

    `validation`: the share kept back, 0 to 0.9. `target`: one of targets.toml. `edits`: the patch file
    (lib/edits.py). `group`: a column whose rows stay on one side of the split, and which some row must have;
    "": the same question does. `max_tokens`: where the fix `cut` cuts; 0: at what the target takes. `also`:
    other shapes to write (lib/outputs.py). `processes`: 0 for one on each core; the bytes are the same with
    any number.
    """

    files: tuple[Path, ...]
    out: Path
    mapping: formats.Mapping
    validation: float = 0.1
    seed: int = 0
    target: str = "siliconflow"
    edits: Path | None = None
    group: str = ""
    max_tokens: int = 0
    also: tuple[str, ...] = ()
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of the rows: `read` = `train` + `validation` + `set_aside`, always.

    `reasons` counts the rows set aside by reason (`reason.NAME` in each language), the commonest first;
    `warnings` counts what was noticed about rows that are in (`check.RULE`); `mended` counts the fixes that
    were made, `edited` the rows that the patch file changed.
    """

    read: int
    train: int
    validation: int
    set_aside: int
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    edited: int = 0


def convert(request: Request, progress: Progress | None = None) -> Ledger:
    """Convert files into the folder `request.out`; return the ledger.

    `progress` is told the bytes behind and the bytes in all, at most ten times a second; whatever it raises
    stops the conversion. Raises `ConvertError` where the mapping cannot work or no row is left, `RecordError`
    where a file cannot be read, `WorkspaceError` where the disk refuses, `UsageError` for options that cannot
    be; then nothing has changed on disk.
    """
    check_request(request)
    stamps = [stamp(path) for path in request.files]
    new = [folder for folder in (request.out, *request.out.parents) if not folder.exists()]
    try:
        with ExitStack() as stack:
            # renamed in reverse order, the manifest last
            book, aside, kept, train = (stack.enter_context(writing(request.out / name)) for name in FILES)
            spool = stack.enter_context(_spool(request.out))
            digests = stack.enter_context(_digests(request.files))
            with disk(spool):
                rows = _Rows(request, spool, aside)
                for path, report in reports(request.files, progress):
                    rows.take(path, report)
                ledger = rows.deal(train, kept)
            sources = [
                {"file": path.name, "path": str(path), "bytes": before[0], "sha256": digest.result()}
                for path, before, digest in zip(request.files, stamps, digests, strict=True)
            ]
            changed = [
                path for path, before in zip(request.files, stamps, strict=True) if stamp(path) != before
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
    if request.also:
        outputs.write(request.out, request.also)
    if progress:
        progress(sum(size for size, _ in stamps), sum(size for size, _ in stamps))
    return ledger


def manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished conversion, or None where there is none."""
    found = read_json(folder / "manifest.json")
    return found if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Where the lines of one stretch lie, and what its rows are counted from."""

    part: sift.Part
    name: str
    base: Start


# Where a line can go: to be learned from, kept back, set aside as a duplicate.
_TRAIN, _KEPT, _REPEATED = range(3)
_BLOCK = 1 << 20


class _Rows:
    """The rows on their way: those that are in lie in the spool as lines, the others are put aside."""

    def __init__(self, request: Request, spool: Path, aside: IO[bytes]) -> None:
        self.request, self.aside = request, aside
        self.plan = plan(request, spool)
        self.names = edits.names(request.files)
        self.processes = sift.cores(request.processes)
        self.fixes = edits.load(request.edits).fixes
        self.read = self.edited = 0
        self.reasons: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.mended: Counter[str] = Counter()
        self.worst: dict[str, tuple[str, int, str]] = {}  # reason -> file, row and field of the first
        self.columns: list[str] = []
        self.stretches: list[_Stretch] = []
        self.kept: list[tuple[str, int]] = []  # file and row of each line kept back, where leaks are dropped
        self._questions, self._digests = bytearray(), bytearray()

    def take(self, path: Path, report: Callable[[int], None]) -> None:
        """Sift a file."""
        name = self.names[path]
        for base, part in sift.parts(path, name, self.plan, self.processes, report):
            self.read += part.read
            self.edited += part.edited
            self.warnings.update(part.warnings)
            self.mended.update(part.mended)
            self.reasons.update(part.reasons)
            self.columns = self.columns or part.columns
            for reason, (row, field_) in part.worst.items():
                self.worst.setdefault(reason, (name, row + base.number - 1, field_))
            self._questions = _joined(self._questions, part.questions)
            self._digests = _joined(self._digests, part.digests)
            part.questions = part.digests = bytearray()
            self._put_aside(part, name, base)
            self.stretches.append(_Stretch(part, name, base))

    def deal(self, train: IO[bytes], kept: IO[bytes]) -> Ledger:
        """Deal the lines out to the two files; return the ledger. Raises where there is nothing to deal."""
        if not self._questions:
            self._complain()
        group = self.request.group
        if group and not any(stretch.part.grouped for stretch in self.stretches):
            raise UsageError("convert.unknown_column", column=group, columns=self._known_columns())
        sides = self._sides()
        counts = np.bincount(sides, minlength=3)
        before = 0
        for stretch in self.stretches:
            self._write(stretch, sides[before : before + stretch.part.rows], train, kept)
            before += stretch.part.rows
        if counts[_REPEATED]:
            self.reasons["duplicate"] += int(counts[_REPEATED])
            self.mended["drop_duplicate"] += int(counts[_REPEATED])
        validation = int(counts[_KEPT])
        if "drop_leaked" in self.fixes:
            validation -= self._drop_leaked(train, kept)
        elif len(sides) <= LEAKS_LOOKED_AT:
            self.warnings.update(leak.rule for leak in self._leaks(train, kept))
        return Ledger(
            read=self.read,
            train=int(counts[_TRAIN]),
            validation=validation,
            set_aside=sum(self.reasons.values()),
            reasons=dict(self.reasons.most_common()),
            warnings=dict(self.warnings.most_common()),
            mended=dict(self.mended.most_common()),
            edited=self.edited,
        )

    def _sides(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return for each line where it goes; uses up the hashes."""
        digests = np.frombuffer(self._digests, dtype="<u8")
        sides = np.zeros(len(digests), dtype=np.uint8)
        if "drop_duplicate" in self.fixes:
            sides[repeats(digests)[0]] = _REPEATED
        else:
            digests.sort()  # in place: nobody needs their order
            if count := int(np.count_nonzero(digests[1:] == digests[:-1])):
                self.warnings["duplicate"] = count
        del digests
        self._digests = bytearray()
        questions = np.frombuffer(self._questions, dtype="<u8")
        staying = sides == _TRAIN
        sides[staying & (questions < split_limit(questions[staying], self.request.validation))] = _KEPT
        return sides

    def _leaks(self, train: IO[bytes], kept: IO[bytes]) -> list[leaks.Leak]:
        train.flush()
        kept.flush()
        if not train.tell() or not kept.tell():
            return []
        return leaks.leaks(Path(train.name), Path(kept.name), check.targets()[self.request.target]).found

    def _drop_leaked(self, train: IO[bytes], kept: IO[bytes]) -> int:
        """Set aside the validation rows whose question is trained on; return how many."""
        leaked = {leak.line: leak.rule for leak in self._leaks(train, kept)}
        if not leaked:
            return 0
        with Path(kept.name).open("rb") as file:
            lines = list(file)
        kept.seek(0)
        kept.truncate()
        for number, (line, (name, row)) in enumerate(zip(lines, self.kept, strict=True), 1):
            if number in leaked:
                self._aside_line(name, row, leaked[number], line)
            else:
                kept.write(line)
        for rule, count in Counter(leaked.values()).items():
            self.reasons[rule] += count
        self.mended["drop_leaked"] += len(leaked)
        return len(leaked)

    def _aside_line(self, name: str, row: int, reason: str, line: bytes) -> None:
        told = {"reason": reason, "facts": {}, "value": orjson.loads(line)}
        self.aside.write(_told(name, row, 0, sift.exact_json(told)))

    def _write(
        self, stretch: _Stretch, sides: np.ndarray[Any, np.dtype[np.uint8]], train: IO[bytes], kept: IO[bytes]
    ) -> None:
        """Copy the lines of a stretch to where they go, many at a time; then delete them."""
        part = stretch.part
        assert part.lines and part.places
        places = np.fromfile(part.places, dtype=sift.PLACE)
        rows = places["row"] + (stretch.base.number - 1)
        ends = np.concatenate(([0], np.cumsum(places["length"], dtype=np.int64)))
        if "drop_leaked" in self.fixes:
            self.kept += [(stretch.name, row) for row in rows[sides == _KEPT].tolist()]
        first = 0
        with part.lines.open("rb") as lines:
            while first < len(sides):
                last = max(first + 1, int(np.searchsorted(ends, ends[first] + _BLOCK, "right")) - 1)
                block = memoryview(lines.read(int(ends[last] - ends[first])))
                borders = first + np.flatnonzero(np.diff(sides[first:last], prepend=3, append=3))
                dealt: tuple[list[memoryview], ...] = ([], [], [])
                cuts = (ends[borders] - ends[first]).tolist()
                for side, (begin, end) in zip(sides[borders[:-1]].tolist(), pairwise(cuts), strict=True):
                    dealt[side].append(block[begin:end])
                train.write(b"".join(dealt[_TRAIN]))
                kept.write(b"".join(dealt[_KEPT]))
                repeated = b"".join(dealt[_REPEATED]).splitlines()
                for place, line in zip(np.flatnonzero(sides[first:last] == _REPEATED), repeated, strict=True):
                    self._aside_line(stretch.name, int(rows[first + place]), "duplicate", line)
                first = last
        part.lines.unlink()
        part.places.unlink()

    def _put_aside(self, part: sift.Part, name: str, base: Start) -> None:
        """Copy the rows of a stretch that are not used, with their place in the file."""
        assert part.aside
        with part.aside.open("rb") as rows:
            for row in rows:
                number, line, rest = row.split(b"\t", 2)
                at = int(line) + base.line - 1 if int(line) else 0
                self.aside.write(_told(name, int(number) + base.number - 1, at, rest))
        part.aside.unlink()

    def _complain(self) -> NoReturn:
        """Say why nothing is left: the commonest reason."""
        if not self.read:
            raise RecordError("record.no_rows", file=self.request.files[0].name)
        reason, count = self.reasons.most_common(1)[0]
        file, row, name = self.worst[reason]
        raise ConvertError(
            "convert.nothing_left",
            read=self.read,
            reason=reason,
            n=count,
            field=name,
            file=file,
            row=row,
            columns=self._known_columns(),
        )

    def _known_columns(self) -> str:
        """Return the first row's columns as a sentence names them; half a character in one becomes `?`."""
        return ", ".join(self.columns).encode("utf-8", "replace").decode("utf-8")


def plan(request: Request, folder: Path | None) -> sift.Plan:
    """Return how a request's rows are treated; `folder` is where lines are put, None for nowhere."""
    return sift.Plan(
        request.mapping,
        request.target,
        request.seed,
        request.group,
        request.edits,
        request.max_tokens,
        folder,
    )


def split_limit(values: np.ndarray[Any, Any], share: float) -> int:
    """Return the hash below which a row is kept back; sorts the hashes in place.

    The number of rows kept back is as near to the share as whole questions allow: at least one question
    where there are two, and never all.
    """
    values.sort()
    wanted = int(len(values) * share + 0.5) or 1
    if not share or len(values) < 2:
        return 0
    border = values[wanted - 1]
    low, high = (int(np.searchsorted(values, border, side)) for side in ("left", "right"))
    kept = high if high - wanted <= wanted - low or not low else low
    if kept == len(values):
        kept = low
    return int(values[kept])


def check_request(request: Request) -> None:
    """Raise for what cannot work whatever the files hold."""
    formats.check_mapping(request.mapping)
    if request.target not in check.targets():
        known = ", ".join(check.targets())
        raise UsageError("convert.unknown_target", target=request.target, known=known)
    if not 0 <= request.validation <= MOST_KEPT:
        raise UsageError("convert.bad_share", value=request.validation, most=MOST_KEPT)
    if not request.files:
        raise UsageError("convert.no_files")
    for name in request.also:
        if name not in outputs.OUTPUTS:
            raise UsageError("convert.unknown_output", name=name, known=", ".join(outputs.OUTPUTS))
    edits.load(request.edits)
    for path in request.files:
        records.sniff(path)
        if path.resolve() in [(request.out / name).resolve() for name in FILES]:
            raise UsageError("convert.overwrites_source", file=str(path))


def _joined(first: bytearray, more: bytearray) -> bytearray:
    """Return both as one, without a copy where there is only one."""
    if not first:
        return more
    first += more
    return first


def stamp(path: Path) -> tuple[int, int]:
    """Return a file's size and the time of its last change in nanoseconds; zeros where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _told(name: str, row: int, line: int, rest: bytes) -> bytes:
    """Return a row that is set aside as a line: where it stood, then why and what it was."""
    place = {"file": name, "row": row, "line": line or None}
    return orjson.dumps(place)[:-1] + b", " + rest.strip()[1:] + b"\n"


@contextmanager
def _spool(out: Path) -> Iterator[Path]:
    """Make a folder for the lines; those of processes that were killed are deleted."""
    for old in out.glob(".spool-*"):
        if not psutil.pid_exists(int("0" + old.name.split("-")[1])):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".spool-{os.getpid()}-", dir=out) as folder:
        yield Path(folder)


def reports(files: Sequence[Path], progress: Progress | None) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """Yield each file with what it tells its bytes to; passed on as bytes of all files, not too often."""
    sizes = [stamp(path)[0] for path in files]
    total, before, due = sum(sizes), 0, 0.0

    def report(done: int) -> None:
        nonlocal due
        if progress and time.monotonic() >= due:
            due = time.monotonic() + EVERY
            progress(before + done, total)

    for path, size in zip(files, sizes, strict=True):
        yield path, report
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
        "group": request.group,
        "max_tokens": request.max_tokens,
        "edits": edits.load(request.edits).digest,
        "versions": {"convert": VERSION, "orjson": orjson.__version__, "python": platform.python_version()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
