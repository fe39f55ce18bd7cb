"""The first rows of a remote file, without fetching it all.

    text       one Range request for its first RANGE bytes, read as any data file; the row it cuts is left out
    Parquet    the footer, then what the first rows need: the first row group where it is small, else the
               first pages of its columns, the cheap columns first, and never more than `most` bytes in all

A server that ignores Range is read as far as that and no further.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any

import requests

from lib import records
from lib.errors import HubError, RecordError
from lib.hub.endpoint import token_for
from lib.hub.failures import Asked
from lib.hub.listing import Listing, RemoteFile, list_files
from lib.hub.redirects import opened
from lib.hub.reference import Ref
from lib.hub.transfer import first_byte
from lib.records import parquet as parquet_rows
from lib.records.source import faults, open_utf8

RANGE = 256 * 1024  # bytes of a text file
UNPACKED = 4 * RANGE  # bytes of text that are looked at, however much RANGE bytes unpack to
MOST = 8 << 20  # bytes of a Parquet file
WHOLE = 1 << 20  # a row group up to this size is fetched by one request
PAGE = 64 * 1024  # the first bytes of a column; what follows is fetched in doubling steps
CONVERTED = "refs/convert/parquet"  # the revision where the Hub keeps a copy of a dataset as Parquet


@dataclass(frozen=True, slots=True)
class Look:
    """The first rows of a file.

    `whole`: there are no others. `fetched` are the bytes that came for it. `note` is "empty", "no_range" (the
    server gives no parts of files), "columns" (those of `left_out` would have been too much), or "".
    """

    file: RemoteFile
    rows: tuple[records.Piece, ...]
    columns: tuple[str, ...]
    fetched: int
    size: int
    whole: bool
    note: str = ""
    left_out: tuple[str, ...] = ()


def look(
    listing: Listing,
    file: RemoteFile,
    *,
    rows: int = 20,
    token: str | None = None,
    anywhere: bool = False,
    timeout: float = 20.0,
    most: int = MOST,
) -> Look:
    """Return the first `rows` rows of `file`, fetching at most RANGE bytes of text or `most` of Parquet.

    Ends within `timeout` seconds. The token goes where `list_files` sends it. A row that is really broken is
    shown as broken.

    Raises `HubError`: `hub.look_too_large` where the first row doesn't fit, `hub.look_unknown` for what is no
    data file that can be read in part, and what asking a Hub raises.
    """
    token = token_for(listing.endpoint, token, anywhere=anywhere, site=listing.ref.site)
    asked = Asked(listing.ref, listing.endpoint, timeout, token_sent=token is not None, file=file.path)
    if not file.size:
        return Look(file, (), (), 0, 0, whole=True, note="empty")
    remote = _Remote(asked, file, listing.ref.file(listing.endpoint, listing.commit, file.path), token)

    def found() -> Look:
        with remote.session:
            if PurePosixPath(file.path).suffix.lower() == ".parquet":
                return _parquet(remote, rows, most, {})
            return _text(remote, rows, most)

    return asked.in_time(found)


def converted(
    ref: Ref,
    endpoint: str = "",
    *,
    token: str | None = None,
    anywhere: bool = False,
    timeout: float = 15.0,
) -> Listing | None:
    """Return what the Hub keeps of a dataset as Parquet: to look at where its own files are no tables.

    None where there is no such copy: for a model, on ModelScope, for a dataset the Hub could not read. Raises
    `HubError` for what goes wrong in asking.
    """
    if ref.kind != "dataset" or ref.site != "hub":
        return None
    copy = replace(ref, revision=CONVERTED, path="")
    try:
        return list_files(copy, endpoint, token=token, anywhere=anywhere, timeout=timeout)
    except HubError as error:
        if error.key in ("hub.revision_not_found", "hub.not_found", "hub.no_files"):
            return None
        raise


class _TooMuchError(Exception):
    """More bytes are wanted than may be fetched."""


class _NoRangeError(Exception):
    """The server gives a file from its beginning or not at all."""


class _Remote:
    """A file on a server, asked for in parts. Where the redirects ended is asked again, while that works."""

    def __init__(self, asked: Asked, file: RemoteFile, address: str, token: str | None) -> None:
        self.asked, self.file, self.token = asked, file, token
        self.session = requests.Session()
        self.home = self.onward = address
        self.until = monotonic() + 0.9 * asked.timeout  # so that what has come can still be shown
        self.fetched = 0
        self.ranges = True  # as far as is known

    def part(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`, on the third try at last.

        Raises `_NoRangeError` where only the beginning can be had.
        """
        body = bytearray()
        for left in (2, 1, 0):
            try:
                self.ask(self.onward, start + len(body), stop, body)
                return bytes(body)
            except _NoRangeError:
                if start or not body:
                    raise
                body.clear()
            except HubError as error:
                moved = error.key == "hub.server_error" and self.onward != self.home
                if not left or not (moved or error.facts.get("why") in ("reset", "closed")):
                    raise
                self.onward = self.home
        raise self.asked.error("no_connection", why="closed")

    def ask(self, address: str, start: int, stop: int, body: bytearray) -> None:
        """Add the bytes from `start` up to `stop` to `body`."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        way: list[str] = []
        with opened(
            self.session,
            self.asked,
            address,
            token=self.token,
            headers=headers,
            patience=self.left,
            passing=way.append,
        ) as answer:
            self.onward = way[-1]
            first = first_byte(answer, self.file, self.asked)
            if "Content-Range" not in answer.headers and stop - start < self.file.size:
                self.ranges = False
            if first < start:
                raise _NoRangeError
            if first > start:
                raise self.asked.error("corrupt")
            while start < stop:
                self.left()
                piece = answer.raw.read1(stop - start, decode_content=False)
                if not piece:
                    raise self.asked.error("no_connection", why="closed")
                body += piece
                start += len(piece)
                self.fetched += len(piece)

    def left(self) -> float:
        """Return the seconds that are left."""
        left = self.until - monotonic()
        if left <= 0:
            raise self.asked.error("timeout", seconds=self.asked.timeout)
        return left


# Text


def _text(remote: _Remote, rows: int, most: int) -> Look:
    file, asked = remote.file, remote.asked
    front = remote.part(0, min(RANGE, file.size))
    if front.startswith(b"PAR1"):
        return _parquet(remote, rows, most, {0: front})
    with tempfile.TemporaryDirectory(prefix="look-") as folder, _understood(asked):
        name = re.sub(r"[^\w.-]", "_", PurePosixPath(file.path).name)[-100:]
        (Path(folder) / "text").mkdir()
        raw, text = Path(folder) / name, Path(folder) / "text" / name
        raw.write_bytes(front)
        shape = records.sniff(raw)
        whole = len(front) == file.size
        if whole:
            pieces = records.head(raw, rows + 1)
            whole = len(pieces) <= rows
        else:
            broken = _beginning(shape, text)
            if not text.stat().st_size:
                raise asked.error("look_too_large", most=RANGE)
            lines = text.read_bytes().count(b"\n")
            pieces = _uncut(list(records.read(text)), lines)
            behind = records.Start(0, len(pieces) + 1, lines + 1)
            pieces += [records.moved(one, behind) for one in broken]
    shown = tuple(pieces[:rows])
    if not shown and not whole:
        raise asked.error("look_too_large", most=RANGE)
    columns = records.columns(piece.value for piece in shown if isinstance(piece, records.Record))
    note = "" if remote.ranges or whole else "no_range"
    return Look(file, shown, tuple(columns), remote.fetched, file.size, whole, note)


@contextmanager
def _understood(asked: Asked) -> Iterator[None]:
    """Tell apart a page that came instead of the file, what can't be unpacked yet, and what is no data."""
    try:
        yield
    except RecordError as error:
        if error.key == "record.cut_archive":
            raise asked.error("look_too_large", most=RANGE) from error
        raise asked.error("not_a_hub" if error.key == "record.html" else "look_unknown") from error


def _beginning(shape: records.Shape, to: Path) -> list[records.Broken]:
    """Write the text of a cut file, unpacked, as UTF-8, and up to the last line it holds whole.

    Return what is wrong with its packing; that it ends too early is not.
    """
    with open_utf8(shape) as file:
        text = bytearray()
        while len(text) < UNPACKED and (part := file.read(UNPACKED - len(text))):
            text += part
        if shape.kind in ("lines", "csv"):
            del text[text.rfind(b"\n") + 1 :]
        to.write_bytes(text)
        return [fault for fault in faults(shape, file, 1, 1) if fault.reason != "cut_archive"]


def _uncut(pieces: list[records.Piece], lines: int) -> list[records.Piece]:
    """Leave out what is broken only because the text ends here.

    That is what an array ends in, and a quote that nothing closes. Such a quote may also have been opened by
    mistake: then most of the lines behind it are rows.
    """
    for at, piece in enumerate(pieces):
        if not isinstance(piece, records.Broken):
            continue
        if piece.reason == "truncated":
            return pieces[:at]
        if piece.reason == "open_quote":
            behind = sum(isinstance(one, records.Record) for one in pieces[at + 1 :])
            if not behind or 2 * behind < lines - (piece.line or 0):
                return pieces[:at]
    return pieces


# Parquet


def _parquet(remote: _Remote, rows: int, most: int, known: dict[int, bytes]) -> Look:
    """Read the first rows column by column, those first of which the least lies in the file."""
    import pyarrow
    from pyarrow import parquet

    file, asked = remote.file, remote.asked
    source = _Seekable(remote, most, known)
    try:
        if file.size <= RANGE:
            source.fetch(0, file.size)
        opened_file = parquet.ParquetFile(source, buffer_size=PAGE, pre_buffer=False)
        names = list(dict.fromkeys(opened_file.schema_arrow.names))
        total = opened_file.metadata.num_rows
        if not total or not names:
            return Look(file, (), tuple(names), remote.fetched, file.size, whole=True, note="empty")
        groups = _groups(opened_file.metadata, rows)
        chunks = _chunks(opened_file.metadata, groups, names)
        begin = min(start for spans in chunks.values() for start, _ in spans)
        end = max(stop for spans in chunks.values() for _, stop in spans)
        if end - begin <= WHOLE and source.allowed(end - begin):
            source.keep(begin, end)
        found: dict[str, Any] = {}
        for name in sorted(names, key=lambda name: sum(stop - start for start, stop in chunks[name])):
            try:
                batches = opened_file.iter_batches(rows, row_groups=groups, columns=[name], use_threads=False)
                found[name] = _first(batches, rows)
            except Exception:
                if not isinstance(source.failure, _TooMuchError) and not (found and _late(source.failure)):
                    raise
                break
    except Exception as error:
        if isinstance(source.failure, _TooMuchError | _NoRangeError):
            raise asked.error("look_too_large", most=most) from source.failure
        if source.failure:
            raise source.failure from None
        if isinstance(error, pyarrow.ArrowException | OSError):
            raise asked.error("look_unknown") from error
        raise
    if not found:
        raise asked.error("look_too_large", most=most)
    shown = [name for name in names if name in found]
    batch = pyarrow.RecordBatch.from_arrays([found[name] for name in shown], shown)
    shape = records.Shape(Path(PurePosixPath(file.path).name), file.size, "parquet")
    left_out = tuple(name for name in names if name not in found)
    note = "columns" if left_out else "" if remote.ranges else "no_range"
    pieces = tuple(parquet_rows.pieces(shape, batch, 1))
    whole = len(pieces) == total
    return Look(file, pieces, tuple(shown), remote.fetched, file.size, whole, note, left_out)


def _late(error: Exception | None) -> bool:
    return isinstance(error, HubError) and "timeout" in (
        error.key.removeprefix("hub."),
        error.facts.get("why"),
    )


def _groups(known: Any, rows: int) -> list[int]:
    """Return the first row groups that have `rows` rows together."""
    found, count = [], 0
    for group in range(known.num_row_groups):
        found.append(group)
        count += known.row_group(group).num_rows
        if count >= rows:
            break
    return found


def _chunks(known: Any, groups: list[int], names: list[str]) -> dict[str, list[tuple[int, int]]]:
    """Return for each column where its bytes of these row groups begin and end."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for group in groups:
        for place in range(known.num_columns):
            chunk = known.row_group(group).column(place)
            name = next(one for one in names if f"{chunk.path_in_schema}.".startswith(f"{one}."))
            start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
            found[name].append((start, start + chunk.total_compressed_size))
    return found


def _first(batches: Iterator[Any], rows: int) -> Any:
    """Return the first `rows` values of the one column that the batches have."""
    import pyarrow

    parts, count = [], 0
    for batch in batches:
        parts.append(batch.column(0))
        count += len(batch)
        if count >= rows:
            break
    return pyarrow.concat_arrays(parts).slice(0, rows)


class _Seekable(io.RawIOBase):
    """A remote file as one that can be read anywhere; what came is kept, never more than `most` bytes.

    What goes wrong is also kept, in `failure`: pyarrow wraps it in an exception of its own.
    """

    def __init__(self, remote: _Remote, most: int, known: dict[int, bytes]) -> None:
        self.remote, self.most = remote, most
        self.kept = dict(known)  # where it begins -> bytes
        self.steps: dict[int, int] = {}  # where a fetch ended -> how much it was
        self.at = 0
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.remote.file.size}[whence]
        self.at = base + offset
        return self.at

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, fewer only where the file ends."""
        size = self.remote.file.size - self.at if size < 0 else size
        stop = min(self.at + size, self.remote.file.size)
        parts = []
        while self.at < stop:
            begin, held = self.holding(self.at) or self.fetch(self.at, self.ahead(stop))
            part = held[self.at - begin : stop - begin]
            parts.append(part)
            self.at += len(part)
        return b"".join(parts)

    def keep(self, start: int, stop: int) -> None:
        """Fetch what is to be read soon, where it is not there."""
        held = self.holding(start)
        if not held or held[0] + len(held[1]) < stop:
            self.fetch(start, stop)

    def holding(self, place: int) -> tuple[int, bytes] | None:
        """Return what is kept around a place, and where it begins."""
        return next(((b, held) for b, held in self.kept.items() if b <= place < b + len(held)), None)

    def ahead(self, stop: int) -> int:
        """Return how far to fetch where bytes up to `stop` are wanted: who reads on gets more each time."""
        wished = max(stop, self.at + min(2 * self.steps.get(self.at, 0), WHOLE))
        wished = min(wished, *(place for place in self.kept if place > self.at), self.remote.file.size)
        return wished if self.allowed(wished - self.at) else min(stop, wished)

    def allowed(self, size: int) -> bool:
        return self.remote.fetched + size <= self.most

    def fetch(self, start: int, stop: int) -> tuple[int, bytes]:
        """Fetch bytes and keep them. Where only whole files are given, it is the whole file or nothing."""
        try:
            if not self.allowed(stop - start):
                raise _TooMuchError
            try:
                self.kept[start] = self.remote.part(start, stop)
                self.steps[stop] = stop - start
            except _NoRangeError:
                if not self.allowed(self.remote.file.size):
                    raise
                start = 0
                self.kept = {0: self.remote.part(0, self.remote.file.size)}
        except Exception as error:
            self.failure = error
            raise
        return start, self.kept[start]
