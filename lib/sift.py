"""What becomes of each row of a file: a line of chat JSONL, or a reason why not.

This is the inner loop of a conversion (lib/convert.py) and of the examination before it (lib/examine.py):
read, edit, map, check, mend, write. It runs over stretches of a file, in as many processes as asked for;
whoever puts the stretches together adds the rows and lines before each of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import xxhash

from lib import check, edits, estimate, fixes, formats, records
from lib.chat import Conversation
from lib.errors import ConvertError
from lib.records import Broken, Piece, Record, Start

# Findings kept in all; what is beyond is counted only.
MOST = 100_000
# The most processes worth starting: beyond that one reader's disk is the limit.
MOST_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How the rows of some files are treated. `folder`: where lines are put; None: nothing is written.

    `group` names the column whose rows stay together ("": the question does); `edits` is the patch file;
    `max_tokens` is what a row is cut at where the fix `cut` is on (0: what the target takes).
    """

    mapping: formats.Mapping
    target: str
    seed: int = 0
    group: str = ""
    edits: Path | None = None
    max_tokens: int = 0
    folder: Path | None = None


@dataclass(slots=True)
class Part:
    """What came of one stretch of a file; rows and lines are counted from its beginning.

    For each of the `rows` that are in, in order: 8 bytes of `questions` (keyed hash of what it asks, or of
    its group) and 8 of `digests` (hash of the line). Lines that are written are in the file `lines`, with a
    `PLACE` for each in `places`; `aside` holds the rows that are not in, as "row, line, rest of a JSON
    object", parted by tabs. Else `numbers` are the rows' numbers and `tokens` their estimated lengths,
    `findings` is what was found and `rules` how often. `grouped`: whether a row has the group's column.
    """

    read: int = 0
    edited: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    worst: dict[str, tuple[int, str]] = field(default_factory=dict)  # reason -> row and field of the first
    columns: list[str] = field(default_factory=list)
    rows: int = 0
    grouped: bool = False
    questions: bytearray = field(default_factory=bytearray)
    digests: bytearray = field(default_factory=bytearray)
    lines: Path | None = None
    places: Path | None = None
    aside: Path | None = None
    numbers: array[int] = field(default_factory=lambda: array("I"))
    tokens: array[int] = field(default_factory=lambda: array("I"))
    findings: list[check.Finding] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one row: a conversation, or none and why.

    `why` is "", "dropped" (left out by hand), "broken" (nothing could be read), "refused" (`error` says why
    it is no conversation) or "nothing_left" (once it was mended). `found` is what is still wrong with it,
    `mended` the fixes that were made, `edited` whether the patch file changed it.
    """

    conversation: Conversation | None
    why: str = ""
    error: ConvertError | None = None
    found: Sequence[check.Finding] = ()
    mended: Sequence[str] = ()
    edited: bool = False

    @property
    def good(self) -> bool:
        """Whether it will be in."""
        return self.conversation is not None and not any(one.severity == "error" for one in self.found)


# The number of the row a line came from, and the line's length in bytes.
PLACE = np.dtype([("row", "u4"), ("length", "u4")])


def cores(asked: int = 0) -> int:
    """Return how many processes to use: as many as asked for, else one for each core we may use."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(asked or free, MOST_PROCESSES))


def parts(
    path: Path, name: str, plan: Plan, processes: int, progress: Callable[[int], None] | None = None
) -> Iterator[tuple[Start, Part]]:
    """Sift a file; yield its stretches in order: where each begins, and what came of it.

    `name` is what the file is called in edits and in `set_aside.jsonl`. A file with edited rows is one
    stretch: what is edited is told by its number, which only who has read from the beginning knows.
    """
    if edits.load(plan.edits).rows_of(name) or records.sniff(path).kind == "parquet":
        processes = 1  # Parquet: pyarrow takes 60 MB in every process, and gains a sixth of the time
    work = partial(sift, plan, name)
    yield from records.spread(path, work, processes=processes, progress=progress)


def outcome(plan: Plan, name: str, piece: Piece) -> Outcome:
    """Return what becomes of one row of the file called `name`."""
    patch, target = edits.load(plan.edits), check.targets()[plan.target]
    try:
        now = patch.apply(piece, name)
        if now is None:
            return Outcome(None, "dropped", edited=True)
        if isinstance(now, Broken):
            return Outcome(None, "broken")
        conversation = formats.to_conversation(now.value, plan.mapping)
    except ConvertError as error:
        return Outcome(None, "refused", error)
    wrong = check.checker(target, plan.max_tokens)
    wanted = {*patch.fixes, *patch.row_fixes(name, piece.number)}
    mended, found, used = _mended(conversation, wrong(conversation), wanted, wrong, target, plan.max_tokens)
    why = "nothing_left" if mended is None else ""
    return Outcome(mended, why, None, found, sorted(used), now is not piece)


def sift(plan: Plan, name: str, pieces: Iterable[Piece]) -> Part:
    """Sift the rows of one stretch of the file called `name`."""
    with ExitStack() as stack:
        rows = _Rows(plan, name, stack)
        rows.take(rows.edited(pieces) if rows.patch.active else pieces)
        return rows.part


class _Rows:
    """The loop over one stretch, and where its rows go."""

    def __init__(self, plan: Plan, name: str, stack: ExitStack) -> None:
        self.plan, self.name, self.part = plan, name, Part()
        self.target = check.targets()[plan.target]
        self.wrong = check.checker(self.target, plan.max_tokens)
        self.wrong_if_written = check.checker(self.target, plan.max_tokens, written=True)
        self.patch = edits.load(plan.edits)
        self.row_fixes: tuple[str, ...] = ()  # those wanted for the row at hand only
        self.dry = plan.folder is None
        if plan.folder:
            self.lines, self.places, self.aside = (
                stack.enter_context(self._file(ending)) for ending in ("lines", "places", "aside")
            )

    def edited(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Yield the pieces as the patch file leaves them; what it drops is set aside."""
        for piece in pieces:
            self.row_fixes = self.patch.row_fixes(self.name, piece.number)
            try:
                now = self.patch.apply(piece, self.name)
            except ConvertError as error:
                self.part.read += 1
                self._refuse(piece, [error])
                continue
            if now is None:
                self.part.read += 1
                self._put_aside(piece, "dropped", "", {})
                continue
            self.part.edited += now is not piece
            yield now

    def take(self, pieces: Iterable[Piece]) -> None:
        """Take every row."""
        part, dry, wrong, group = self.part, self.dry, self.wrong_if_written, self.plan.group
        convert = formats.compiled(self.plan.mapping)
        keyed = hashlib.blake2b(digest_size=8, key=f"firsttune {self.plan.seed}".encode())
        digest = xxhash.xxh3_64_digest
        questions, digests = part.questions, part.digests
        places = array("I")
        read = 0
        for piece in pieces:
            read += 1
            if isinstance(piece, Broken):
                self._break(piece)
                continue
            value = piece.value
            if not part.columns and isinstance(value, dict):
                part.columns = list(value)
            grouped = bool(group) and isinstance(value, dict) and group in value
            part.grouped = part.grouped or grouped
            if piece.note:
                self._note(piece)
            try:
                conversation = convert(value)
            except ConvertError as error:
                self._refuse(piece, formats.problems(value, self.plan.mapping) or [error])
                continue
            try:
                line = line_of(conversation)
                found = wrong(conversation)
            except ConvertError:
                line, found = b"", self.wrong(conversation)
            if found:
                judged = self._judge(piece, conversation, found)
                if judged is None:
                    continue
                if judged is not conversation:
                    conversation, line = judged, b""
            if not line:
                try:
                    line = line_of(conversation)
                except ConvertError as error:
                    self._refuse(piece, [error])
                    continue
            first = conversation.messages[0]
            question = (first[1] if first[0] == "user" else conversation.first("user") or first[1]).strip()
            hashed = keyed.copy()
            together = str(value[group]) if grouped else question
            hashed.update(together.encode("utf-8", "surrogatepass"))
            questions += hashed.digest()
            digests += digest(line)
            places.append(piece.number)
            if dry:
                part.tokens.append(round(sum(estimate.tokens(m.content) for m in conversation.messages)))
                continue
            places.append(len(line))
            self.lines.write(line)
            if len(places) >= _FLUSH:
                places.tofile(self.places)
                del places[:]
        if dry:
            part.numbers = places
        else:
            places.tofile(self.places)
        part.read += read
        part.rows = len(questions) // 8

    def _judge(
        self, piece: Record, conversation: Conversation, found: Sequence[check.Finding]
    ) -> Conversation | None:
        """Mend what is to be mended; return the conversation, or None where it must be set aside."""
        wanted = {*self.patch.fixes, *self.row_fixes}
        mended, left, used = _mended(
            conversation, found, wanted, self.wrong, self.target, self.plan.max_tokens
        )
        if mended is None:
            self._put_aside(piece, found[0].rule, found[0].field, {})
            return None
        self.part.mended.update(used)
        conversation, found = mended, left
        for finding in found:
            self._tell(piece, finding)
        errors = [finding for finding in found if finding.severity == "error"]
        if errors:
            rules = [f"{finding.rule} {finding.field}" for finding in errors]
            self._put_aside(piece, errors[0].rule, errors[0].field, {"rules": rules})
            return None
        self.part.warnings.update(finding.rule for finding in found)
        return conversation

    def _break(self, piece: Broken) -> None:
        facts = piece.error.facts
        self._tell(piece, check.Finding(0, "", piece.reason, "error", piece.raw))
        self._put_aside(piece, piece.reason, "", facts)

    def _note(self, piece: Record) -> None:
        assert piece.note
        rule = piece.note.key.rpartition(".")[2]
        self.part.warnings[rule] += 1
        self._tell(piece, check.Finding(0, "", rule, "warning", str(piece.note.facts.get("near", ""))))

    def _refuse(self, piece: Piece, errors: Sequence[ConvertError]) -> None:
        fields = piece.value if isinstance(piece, Record) and isinstance(piece.value, dict) else {}
        for error in errors:
            name = str(error.facts.get("field", ""))
            value = check.shown(fields.get(name, ""))
            self._tell(piece, check.Finding(0, name, _reason(error), "error", value))
        first = errors[0]
        self._put_aside(piece, _reason(first), str(first.facts.get("field", "")), first.facts)

    def _tell(self, piece: Piece, finding: check.Finding) -> None:
        """Keep a finding, where somebody wants to see them."""
        if self.dry:
            self.part.rules[finding.rule] += 1
            if len(self.part.findings) < MOST:
                self.part.findings.append(
                    replace(finding, file=self.name, row=piece.number, line=piece.line or 0)
                )

    def _put_aside(self, piece: Piece, reason: str, field: str, facts: Mapping[str, Any]) -> None:
        """Count a row that is not used, and write it down with the reason."""
        self.part.reasons[reason] += 1
        self.part.worst.setdefault(reason, (piece.number, field))
        if self.dry:
            return
        row: dict[str, Any] = {"reason": reason}
        if field:
            row["field"] = field
        row["facts"] = {name: fact for name, fact in facts.items() if name not in _TOLD}
        if isinstance(piece, Broken):
            row["raw"] = piece.raw
        else:
            row["value"] = piece.value
        self.aside.write(b"%d\t%d\t%b\n" % (piece.number, piece.line or 0, exact_json(row)))

    @contextmanager
    def _file(self, ending: str) -> Iterator[IO[bytes]]:
        handle, name = tempfile.mkstemp(f".{ending}", dir=self.plan.folder)
        setattr(self.part, ending, Path(name))
        with os.fdopen(handle, "wb", buffering=1 << 18) as file:
            yield file


def _mended(
    conversation: Conversation,
    found: Sequence[check.Finding],
    wanted: set[str],
    wrong: check.Checker,
    target: check.Target,
    max_tokens: int,
) -> tuple[Conversation | None, Sequence[check.Finding], set[str]]:
    """Mend what is found and wanted; return what it becomes, what is found in that, and the fixes used.

    None, and what was found before, where nothing is left of it.
    """
    used = {finding.fix for finding in found} & wanted
    if not used:
        return conversation, found, used
    mended = fixes.mend(conversation, tuple(wanted), target, max_tokens)
    return mended, found if mended is None else wrong(mended), used


def line_of(conversation: Conversation) -> bytes:
    """Return a conversation as one line of chat JSONL. Raises `ConvertError` where JSON cannot hold it."""
    messages, tools = conversation
    try:
        if messages and not tools:
            # put together from its parts: faster than building dicts to take them apart (measured 2026-11)
            parts = [b'{"messages":[']
            for role, content, extra in messages:
                if extra is not None:
                    break
                parts += (_HEADS.get(role) or _head(role), orjson.dumps(content), b"},")
            else:
                parts[-1] = b"}]}\n"
                return b"".join(parts)
        told = conversation.as_json()
        json.dumps(told, allow_nan=False)  # orjson would write NaN as null
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:  # half of a surrogate pair, or an integer beyond 64 bits
        key = "bad_characters" if "surrogate" in str(error) else "bad_tools"
        raise ConvertError(f"convert.{key}", field="" if key == "bad_characters" else "tools") from None
    except ValueError:
        raise ConvertError("convert.bad_tools", field="tools") from None


def _head(role: str) -> bytes:
    """Return what stands before a message's content."""
    _HEADS[role] = head = b'{"role":%b,"content":' % orjson.dumps(role)
    return head


def exact_json(row: Any) -> bytes:
    """Return a row as JSON on one line, every value as it was read: orjson would write NaN as null."""
    try:
        return json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return json.dumps(row, default=str).encode()


def _reason(error: ConvertError) -> str:
    return error.key.rpartition(".")[2]


_TOLD = ("file", "row", "line", "field")
_FLUSH = 1 << 14
_HEADS: dict[str, bytes] = {}  # one for each of a handful of roles
