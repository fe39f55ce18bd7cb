"""What was changed by hand, kept beside the dataset as a small patch file and replayed at every conversion.

One JSON object a line; a row is told by its file's name and its number, and `was`, the fingerprint of what it
was just before, keeps an edit from falling on another row when the file has changed:

    {"file": "a.json", "row": 12, "was": "16 hex", "set": {"Response": "new", "conversations[0].value": "x"}}
    {"file": "a.json", "row": 13, "was": "16 hex", "record": {…}}     the whole row anew, a broken one too
    {"file": "a.json", "row": 14, "was": "16 hex", "drop": true}
    {"fix": "trim"}                                                   a fix (lib/fixes.py) for every row
    {"fix": "merge_turns", "file": "a.json", "row": 3, "was": "16 hex"}   or for one

Several edits of a row are made in their order. A path names a value in a record: `talk[0].value`; a name that
holds a dot, a bracket, a quote, a space or nothing is written as JSON in brackets: `["a.b"][0]`. "" is the
record itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from lib.errors import ConvertError, UsageError
from lib.fixes import FIXES
from lib.records import Broken, Piece, Record
from lib.workspace import writing

# One line of the patch file.
Edit = Mapping[str, Any]
Steps = tuple[str | int, ...]


class Counts(NamedTuple):
    """What a patch file does: rows `edited` and `dropped`, `fixes` for all rows, fixes -> single rows."""

    edited: int
    dropped: int
    fixes: tuple[str, ...]
    row_fixes: dict[str, int]


class Edits:
    """A patch file. `fixes` are those for every row, in order; `active`: there are edits of single rows."""

    path: Path | None
    lines: list[Edit]
    fixes: tuple[str, ...]
    active: bool

    def __init__(self, path: Path | None = None, lines: Iterable[Edit] = ()) -> None:
        self.path = path
        self._set(lines)

    @property
    def digest(self) -> str:
        """A fingerprint of all lines; "" where there are none."""
        if not self.lines:
            return ""
        return hashlib.blake2b(b"\n".join(canonical(line) for line in self.lines), digest_size=8).hexdigest()

    def rows_of(self, file: str) -> Collection[int]:
        """Return the numbers of the rows of a file that an edit or a fix of their own is for."""
        return self._rows.get(file, {}).keys()

    def for_row(self, file: str, row: int) -> Sequence[Edit]:
        """Return the edits and fixes of one row, in order."""
        return self._rows.get(file, {}).get(row, ())

    def row_fixes(self, file: str, row: int) -> tuple[str, ...]:
        """Return the fixes that are for one row only."""
        return tuple(edit["fix"] for edit in self.for_row(file, row) if "fix" in edit)

    def apply(self, piece: Piece, file: str) -> Piece | None:
        """Return a row as its edits leave it, the same object where it has none; None: it is dropped.

        Its fixes are not made here but when it is a conversation. Raises `ConvertError`: "edit.stale" where
        the row is not the one that was edited, "edit.no_field" where a path leads nowhere.
        """
        edits = self.for_row(file, piece.number)
        if not edits:
            return piece
        now = piece
        for edit in edits:
            if fingerprint(now) != edit["was"]:
                raise ConvertError("edit.stale", file=file, row=piece.number)
            if "drop" in edit:
                return None
            if "record" in edit:
                now = Record(piece.number, edit["record"], piece.line)
            elif "set" in edit:
                now = _with(now, edit["set"], file)
        return now

    def add(self, edit: Edit) -> None:
        """Add a line and write the file. Raises `UsageError` "edit.bad_line" for what is no edit.

        The file is read again first: another page may have written to it.
        """
        self._read()
        self._take(_valid(edit, self.path.name if self.path else "", len(self.lines) + 1))
        self._write()

    def undo(self) -> Edit | None:
        """Take the last line back, write the file and return it; None where there is none."""
        self._read()
        if not self.lines:
            return None
        *lines, last = self.lines
        self._set(lines)
        self._write()
        return last

    def counts(self) -> Counts:
        """Count what is done, each row once: a dropped one is not edited too."""
        edited = dropped = 0
        single: Counter[str] = Counter()
        for rows in self._rows.values():
            for edits in rows.values():
                single.update({edit["fix"] for edit in edits if "fix" in edit})
                if any("drop" in edit for edit in edits):
                    dropped += 1
                elif any("set" in edit or "record" in edit for edit in edits):
                    edited += 1
        return Counts(edited, dropped, self.fixes, dict(single))

    def files(self) -> list[str]:
        """Return the names of the files that single rows are edited of."""
        return list(self._rows)

    def _set(self, lines: Iterable[Edit]) -> None:
        self.lines, self.fixes, self.active = [], (), False
        self._rows: dict[str, dict[int, list[Edit]]] = {}
        for line in lines:
            self._take(line)

    def _take(self, edit: Edit) -> None:
        self.lines.append(edit)
        if "file" in edit:
            self.active = True
            self._rows.setdefault(edit["file"], {}).setdefault(edit["row"], []).append(edit)
        elif edit["fix"] not in self.fixes:
            self.fixes = (*self.fixes, edit["fix"])

    def _read(self) -> None:
        if self.path:
            self._set(_lines(self.path))

    def _write(self) -> None:
        if self.path:
            with writing(self.path) as file:
                for line in self.lines:
                    file.write(_exact(line) + b"\n")


def load(path: Path | None) -> Edits:
    """Read a patch file; a missing one, or None, is empty.

    Raises `UsageError` "edit.bad_line" that names the file and the line. What is returned is remembered until
    the file changes, and not to be shared by who adds to it: `add` and `undo` read it again.
    """
    if path is None:
        return Edits()
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Edits(path)
    return Edits(path, _remembered(path, stat.st_ino, stat.st_size, stat.st_mtime_ns))


def fingerprint(piece: Piece) -> str:
    """Return 16 hexadecimal digits that change with a row's value, or with a broken row's text."""
    text = piece.raw.encode("utf-8", "surrogatepass") if isinstance(piece, Broken) else canonical(piece.value)
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def canonical(value: Any) -> bytes:
    """Return a value as JSON that does not depend on the order of its names."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError):  # beyond 64 bits, or half of a surrogate pair
        return json.dumps(value, sort_keys=True, default=str).encode()


def leaves(value: Any, before: Steps = ()) -> list[tuple[str, str]]:
    """Return every text in a value with its path: what can be edited in place."""
    if isinstance(value, str):
        return [(path_of(before), value)]
    inside: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    return [leaf for step, one in inside for leaf in leaves(one, (*before, step))]


def path_of(path: Steps) -> str:
    """Return how names and places one after the other are written: `talk[0].value`."""
    written = ""
    for step in path:
        if isinstance(step, int):
            written += f"[{step}]"
        elif _PLAIN(step):
            written += f".{step}" if written else step
        else:
            written += f"[{json.dumps(step, ensure_ascii=False)}]"
    return written


def steps(path: str) -> Steps:
    """Return the names and places a path is made of. Raises `ValueError` for what is no path."""
    found: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP(path, at)
        if match is None or (match["name"] and bool(match["dot"]) != bool(found)):
            raise ValueError(path)
        if match["name"] is not None:
            found.append(match["name"])
        elif match["place"] is not None:
            found.append(int(match["place"]))
        else:
            found.append(json.loads(match["quoted"]))
        at = match.end()
    return tuple(found)


def put(value: Any, path: Steps, new: Any) -> Any:
    """Return a copy of a value with another one at `path`; only what lies on the way is copied.

    A name that a dict has not is added at the path's end only. Raises `LookupError` where it leads nowhere.
    """
    if not path:
        return new
    step, *rest = path
    if isinstance(value, dict) and isinstance(step, str):
        if rest and step not in value:
            raise KeyError(step)
        return {**value, step: put(value.get(step), tuple(rest), new)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return [*value[:step], put(value[step], tuple(rest), new), *value[step + 1 :]]
    raise LookupError(step)


def names(files: Sequence[Path]) -> dict[Path, str]:
    """Return what each file is called in the patch file: its name, or a path where two files share a name.

    The path begins at the folder that all of `files` lie in.
    """
    shared = Counter(path.name for path in set(files))
    doubled = [path for path in files if shared[path.name] > 1]
    folder = Path(os.path.commonpath([path.absolute().parent for path in files])) if doubled else Path()
    return {
        path: path.absolute().relative_to(folder).as_posix() if shared[path.name] > 1 else path.name
        for path in files
    }


def _with(piece: Piece, changes: Mapping[str, Any], file: str) -> Record:
    value = None if isinstance(piece, Broken) else piece.value
    for path, new in changes.items():
        try:
            value = put(value, steps(path), new)
        except LookupError:
            raise ConvertError("edit.no_field", file=file, row=piece.number, field=path) from None
    return Record(piece.number, value, piece.line, None if isinstance(piece, Broken) else piece.note)


@lru_cache(maxsize=8)
def _remembered(path: Path, _file: int, _size: int, _changed: int) -> list[Edit]:
    return _lines(path)


def _lines(path: Path) -> list[Edit]:
    """Read every line of a patch file; blank ones count but say nothing."""
    try:
        written = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [_valid(line, path.name, number) for number, line in enumerate(written, 1) if line.strip()]


def _valid(line: bytes | Edit, file: str, number: int) -> Edit:
    """Return an edit that can be applied. Raises `UsageError` that says where and why it is none."""
    try:
        edit = json.loads(line) if isinstance(line, bytes) else line
    except ValueError:
        edit = None
    reason = _fault(edit)
    if reason:
        raise UsageError("edit.bad_line", file=file, line=number, reason=reason)
    assert isinstance(edit, Mapping)
    return edit


def _fault(edit: Any) -> str:
    """Return why something is no edit, as a key of `reason`, or ""."""
    if not isinstance(edit, Mapping):
        return "edit_no_object"
    kinds = [kind for kind in ("set", "record", "drop", "fix") if kind in edit]
    if len(kinds) != 1 or not edit.keys() <= {"file", "row", "was", *kinds}:
        return "edit_kind"
    for_all = kinds == ["fix"] and len(edit) == 1
    if not for_all and not (
        isinstance(edit.get("file"), str)
        and type(edit.get("row")) is int
        and edit["row"] > 0
        and isinstance(edit.get("was"), str)
        and _HEX(edit["was"])
    ):
        return "edit_place"
    if kinds == ["fix"] and edit["fix"] not in FIXES:
        return "edit_fix"
    if kinds == ["fix"] and not for_all and FIXES[edit["fix"]].scope == "rows":
        return "edit_fix"
    if kinds == ["drop"] and edit["drop"] is not True:
        return "edit_kind"
    if kinds == ["set"]:
        if not isinstance(edit["set"], Mapping) or not edit["set"]:
            return "edit_path"
        for path in edit["set"]:
            try:
                steps(path)
            except ValueError:
                return "edit_path"
    return ""


def _exact(edit: Edit) -> bytes:
    """Return a line as it is written: UTF-8, and every value as it is."""
    try:
        return json.dumps(edit, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(edit).encode()


_HEX = re.compile("[0-9a-f]{16}").fullmatch
_PLAIN = re.compile(r"[^.\[\]\"\s]+").fullmatch
_STEP = re.compile(
    r"""(?P<dot>\.)?(?P<name>[^.\[\]"\s]+)|\[(?P<place>[0-9]+)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]"""
).match
