"""Find out what a file is by its content, not by its ending: its kind and encoding, where its data begins."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import orjson

from lib.errors import RecordError
from lib.records.shape import Shape
from lib.records.source import Unpacked, read_fully

_HEAD = 1 << 20
_SAMPLE = 1 << 16


def sniff(path: Path) -> Shape:
    """Look into a file and say what it is. Raises `RecordError` where it is no data file."""
    try:
        stat = path.stat()
        if path.is_dir():
            raise RecordError("record.folder", file=path.name)
        if not stat.st_size:
            raise RecordError("record.empty", file=path.name)
        return _sniff(path, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        raise RecordError("record.missing_file", file=str(path)) from None
    except PermissionError:
        raise RecordError("record.not_readable", file=str(path)) from None


@lru_cache(maxsize=64)
def _sniff(path: Path, size: int, _changed: int) -> Shape:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        samples = [head]
        for place in (size // 3, size * 2 // 3, size - _SAMPLE):
            if place > _HEAD:
                file.seek(place)
                samples.append(file.read(_SAMPLE))
    compression = next((name for magic, name in _PACKED.items() if re.match(magic, head)), "")
    whole = len(head) == size
    if compression:
        head, whole = _unpacked_head(path, compression)
        samples = [head]
    if head.startswith(b"PAR1"):
        if compression:
            raise RecordError("record.packed_parquet", file=path.name, archive=compression)
        return Shape(path, size, "parquet")
    _refuse_foreign(path, head)
    encoding = _encoding(path, samples)
    shape = _of_text(path, size, head, encoding, whole)
    return replace(shape, compression=compression)


def ending(path: Path) -> str:
    """Return the ending of a file's name in lower case, both parts of a packed one: `.jsonl.gz`."""
    last = path.suffix.lower()
    return Path(path.stem).suffix.lower() + last if last in PACKED else last


def _unpacked_head(path: Path, compression: str) -> tuple[bytes, bool]:
    """Return how the packed text begins, and whether that is all of it."""
    with Unpacked(path.open("rb", buffering=0), compression) as file:
        head = read_fully(file, _HEAD)
        whole = not file.read(1)
        if file.fault and not head:
            raise RecordError(f"record.{file.fault}", file=path.name, archive=compression)
    return head, whole


def _of_text(path: Path, size: int, head: bytes, encoding: str, whole: bool) -> Shape:
    text = _utf8(head, encoding, whole=whole)
    front = text.lstrip()
    if not front.strip(b"\0"):
        raise RecordError("record.empty", file=path.name)
    if _HTML.match(front):
        raise RecordError("record.html", file=path.name)
    mark = len(codecs.BOM_UTF8) if encoding == "utf-8" and head.startswith(codecs.BOM_UTF8) else 0
    begin = mark + len(text) - len(front)
    first, _, following = front.partition(b"\n")
    if front[:1] == b"[" and not (following.lstrip()[:1] == b"{" and _is_json(first)):
        line = 1 + text.count(b"\n", 0, len(text) - len(front))
        return _array(Shape(path, size, "array", encoding, begin + 1, line), front[1:])
    if front[:1] == b"[":  # JSON lines, of which the first is no object
        return Shape(path, size, "lines", encoding, mark)
    if front[:1] == b"{":
        return _objects(Shape(path, size, "lines", encoding, mark), text, front, begin, whole)
    return _table(Shape(path, size, "csv", encoding, mark), text, whole)


def _refuse_foreign(path: Path, head: bytes) -> None:
    """Raise for what is recognised by its first bytes as something else than data."""
    if head.startswith(b"PK\x03\x04") and (b"xl/" in head or path.suffix.lower() in (".xlsx", ".xlsm")):
        raise RecordError("record.spreadsheet", file=path.name)
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            raise RecordError("record.compressed", file=path.name, archive=name)
    if head[257:262] == b"ustar":
        raise RecordError("record.compressed", file=path.name, archive="tar")
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise RecordError("record.lfs_pointer", file=path.name)


def _encoding(path: Path, samples: list[bytes]) -> str:
    """Return "utf-8", "gb18030", "utf-16-le" or "utf-16-be"; raise where it is none of them."""
    head = samples[0]
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    zeros = head[:4096].count(0)
    if zeros:
        even, odd = head[:4096:2].count(0), head[1:4096:2].count(0)
        name = "utf-16-be" if even > odd else "utf-16-le"
        if min(even, odd) * 10 < max(even, odd) and _is_text(head, name):
            return name
        raise RecordError("record.not_records", file=path.name)
    faulty = [sample for sample in samples if not _is_utf8(sample)]
    if not faulty:
        return "utf-8"
    sample = faulty[0]
    replaced = sample.decode("utf-8", "replace")
    wrong = replaced.count("\ufffd")
    strange = sum(1 for character in replaced if character > "\x7f")
    if wrong * 20 <= strange:
        return "utf-8"  # a few damaged characters in a text that is UTF-8; their rows are reported
    if _is_chinese(sample):
        return "gb18030"
    rows = [row for row in replaced.split("\n") if row.strip()]
    if 2 * sum("\ufffd" in row for row in rows) <= len(rows):
        return "utf-8"
    raise RecordError("record.bad_encoding", file=path.name)


def _is_text(head: bytes, encoding: str) -> bool:
    """Return whether the beginning of a file is text in an encoding, without control signs."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head[:4096])
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def _is_utf8(sample: bytes) -> bool:
    """Return whether a sample, cut out anywhere, is UTF-8."""
    start = next((n for n in range(min(3, len(sample))) if not 0x80 <= sample[n] < 0xC0), 0)
    try:
        codecs.utf_8_decode(sample[start:], "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _is_chinese(sample: bytes) -> bool:
    """Return whether a sample reads as GB18030 text that is mostly Chinese."""
    for start in (0, 1):
        try:
            text = codecs.getincrementaldecoder("gb18030")().decode(sample[start:])
        except UnicodeDecodeError:
            continue
        strange = "".join(character for character in text if character > "\x7f")
        usual = len(strange.encode("gb2312", "ignore")) // 2  # the 6763 characters in everyday use
        if len(strange) > 50:  # enough to be told by where they lie alone, rare and old forms included
            usual = max(usual, len(_CHINESE.findall(strange)))
        if len(strange) > 1 and usual * 10 >= len(strange) * 9:
            return True
    return False


def _utf8(head: bytes, encoding: str, *, whole: bool) -> bytes:
    """Return the head as UTF-8 without a byte order mark; what is cut or damaged stays or is left out."""
    if encoding == "utf-8":
        return head.removeprefix(codecs.BOM_UTF8)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head, final=whole)
    return text.removeprefix("\ufeff").encode("utf-8", "replace")


def _array(shape: Shape, rest: bytes) -> Shape:
    """Complete the shape of an array from what stands behind its bracket."""
    found = _FIRST_KEY.match(rest)
    return replace(shape, key=found[1] if found else b"", unwrap="row" if _WRAPPED.match(rest) else "")


def _objects(shape: Shape, text: bytes, front: bytes, begin: int, whole: bool) -> Shape:
    """Tell JSON lines from pretty-printed objects and from one object that holds an array of records."""
    first = front.split(b"\n", 1)[0]
    values: list[tuple[str, int]] = []
    end = 0
    for name, place in _top(front):
        if name is None:
            end = place
        else:
            values.append((name, place))
    alone = bool(end) and whole and not front[end:].strip()
    if alone or not end:
        # in a file that calls itself JSON lines, one line is one record, unless its only key says otherwise
        one_line = _inner(shape.path) in _LINES and b"\n" not in front[:end].strip()
        nested = _nested(front, values, any_name=not one_line)
        following = front[len(first) :].lstrip()
        if nested and (alone or not following.startswith(b"{")):
            name, place = nested
            line = 1 + text.count(b"\n", 0, len(text) - len(front) + place)
            inner = replace(shape, kind="array", begin=begin + place + 1, begin_line=line, inside=name)
            return _array(inner, front[place + 1 :])
        if not one_line and _by_columns(front, values):
            raise RecordError("record.by_columns", file=shape.path.name)
    if end and b"\n" in front[:end].strip() and not _is_json(first):
        # an object over several lines; but a first line that is broken must not spoil JSON lines
        second = front.split(b"\n", 2)[1]
        if not _is_json(second):
            key = _FIRST_KEY.match(front)
            return Shape(shape.path, shape.size, "objects", shape.encoding, begin, key=key[1] if key else b"")
    return shape


def _top(text: bytes) -> Iterator[tuple[str | None, int]]:
    """Yield each key of the object `text` begins with and where its value begins; last (None, its end)."""
    depth = 0
    for token in _TOKEN.finditer(text):
        sign = token[0][:1]
        if sign in b"{[":
            depth += 1
        elif sign in b"}]":
            depth -= 1
            if not depth:
                yield None, token.end()
                return
        elif depth == 1 and (colon := _COLON.match(text, token.end())):
            yield token[0][1:-1].decode("utf-8", "replace"), colon.end()


def _nested(text: bytes, values: list[tuple[str, int]], *, any_name: bool) -> tuple[str, int] | None:
    """Return name and place of the array of records among an object's values; turns of a talk are none."""
    found = {
        name: place
        for name, place in values
        if (first := _FIRST_KEY.match(text, place + 1))
        and text[place : place + 1] == b"["
        and not _TURN.search(first[1])
    }
    for name in (*_HOLDERS, *(found if any_name else ())):
        if name in found:
            return name, found[name]
    return None


def _by_columns(text: bytes, values: list[tuple[str, int]]) -> bool:
    """Return whether an object holds columns instead of rows: pandas' to_json without `orient`."""
    starts = [text[place : place + 40] for _, place in values]
    if starts and all(_NUMBERED.match(start) for start in starts):
        return True
    return len(starts) > 1 and all(_LISTED.match(start) for start in starts)


def _table(shape: Shape, text: bytes, whole: bool) -> Shape:
    """Find the delimiter of a table, or refuse the file."""
    named = _inner(shape.path)
    if named in (".json", *_LINES):
        if any(line[:1] in b"{[" and _is_json(line) for line in islice(_lines(text), 1000) if line):
            return replace(shape, kind="lines")
        raise RecordError("record.not_records", file=shape.path.name)
    lines = text.decode("utf-8", "replace").split("\n")
    if not whole:
        lines = lines[:-1]
    lines = [line + "\n" for line in lines[:2000]]
    best = ("", 1)
    for delimiter in "\t,;|":
        try:
            rows = [row for row in islice(csv.reader(lines, delimiter=delimiter), 50) if row]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        even = sum(len(row) == width for row in rows)
        if width > best[1] and len(rows) > 1 and even * 10 >= len(rows) * 9:
            best = (delimiter, width)
    known = {".csv": ",", ".tsv": "\t"}.get(named, "")
    delimiter = best[0] or known
    if not delimiter:
        raise RecordError("record.not_records", file=shape.path.name)
    return replace(shape, delimiter=delimiter)


def _inner(path: Path) -> str:
    """Return the ending that names what a file holds, packed or not."""
    return "." + ending(path).split(".")[1] if path.suffix else ""


def _lines(text: bytes) -> Iterator[bytes]:
    return (line.strip() for line in text.split(b"\n"))


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


_HTML = re.compile(rb"(?i)<(!doctype|html|head|body|\?xml|!--|script)")
# The beginnings and endings of files that are unpacked while they are read.
_PACKED = {
    rb"\x1f\x8b": "gzip",
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": "zstd",
    rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)": "bzip2",
    rb"\xfd7zXZ\x00": "xz",
}
PACKED = (".gz", ".zst", ".bz2", ".xz")
_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_STRING = rb'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
_FIRST_KEY = re.compile(rb"\s*(\{\s*" + _STRING + rb"\s*:)")
_WRAPPED = re.compile(rb'\s*\{\s*"row_idx"\s*:\s*\d+\s*,\s*"row"\s*:\s*\{')
_TURN = re.compile(rb'"(role|from|content|value|human|assistant|user|input)"')
_NUMBERED = re.compile(rb'\{\s*"0"\s*:')
_LISTED = re.compile(rb'\[\s*("|-?\d|null|true|false)')
_LINES = (".jsonl", ".ndjson")
_HOLDERS = ("data", "rows", "train", "records", "items", "examples", "samples")
