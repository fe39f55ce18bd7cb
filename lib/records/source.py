"""A file's bytes as UTF-8, whatever it is packed in and whatever its encoding.

    file on disk  →  unpacked (gzip, bzip2, xz, zstd)  →  recoded (UTF-16, GB18030)  →  UTF-8

Each step gives as many bytes as it is asked for and holds little more, so that a small file that unpacks to
a huge one costs time but no memory.
"""

from __future__ import annotations

import bz2
import codecs
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any, Protocol

from lib.records.row import Broken, broken
from lib.records.shape import Shape

_BLOCK, _STEP = 1 << 16, 1 << 14


def open_utf8(shape: Shape, offset: int = 0) -> io.RawIOBase:
    """Open the file as UTF-8 bytes without a byte order mark, at byte `offset` of that UTF-8.

    What is packed or recoded is read from its beginning each time, unless an unpacked copy is known. What
    does not belong to the encoding stays in as it is, so that whoever decodes the bytes finds them broken.
    Where packed data is cut or damaged the stream ends; `faults` tells.
    """
    file: io.RawIOBase = (shape.copy or shape.path).open("rb", buffering=0)
    if not shape.packed:
        file.seek(offset)
        return file
    if shape.compression:
        file = Unpacked(file, shape.compression)
    if shape.encoding != "utf-8":
        file = _Recoded(file, shape.encoding)
    while offset > 0 and (skipped := file.read(min(offset, _BLOCK))):
        offset -= len(skipped)
    return file


def read_fully(file: IO[bytes] | io.RawIOBase, size: int) -> bytes:
    """Read `size` bytes, fewer only where the file ends."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def behind(file: Any) -> int:
    """Return how many bytes of the file itself have been read, for progress."""
    while hasattr(file, "source"):
        file = file.source
    return int(file.tell())


def faults(shape: Shape, file: Any, number: int, line: int) -> Iterator[Broken]:
    """Yield what is wrong with the packing of a file read to its end."""
    while hasattr(file, "source"):
        if isinstance(file, Unpacked) and file.fault:
            yield broken(shape, number, file.fault, line, None, "", archive=shape.compression)
        file = file.source


class _Stream(Protocol):
    """One member of a packed file; `eof` once its end was seen."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Unpacked(io.RawIOBase):
    """Give what a packed file holds, member after member; `fault` is "cut_archive", "bad_archive" or ""."""

    def __init__(self, source: io.RawIOBase, compression: str) -> None:
        self.source = source
        self.fault = ""
        self._compression = compression
        self._stream: _Stream | None = None
        self._input = self._ready = b""
        self._zstd: Any = None
        if compression == "zstd":
            import pyarrow

            self._zstd = pyarrow.CompressedInputStream(pyarrow.PythonFile(source, "r"), "zstd")

    def readable(self) -> bool:
        """Say yes, for `io`."""
        return True

    def readinto(self, target: Any) -> int:
        """Read some bytes; 0 at the end, and where the packed data is cut or damaged."""
        view = memoryview(target)
        if not self._ready and not self.fault:
            self._ready = self._next()
        size = min(len(view), len(self._ready))
        view[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        """Close the file itself too."""
        self.source.close()
        super().close()

    def _next(self) -> bytes:
        """Unpack a step, the same ones whoever reads: what a failing step had ready is lost."""
        try:
            return self._zstd.read(_STEP) if self._zstd else self._inflated()
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            cut = isinstance(error, EOFError) or "Truncated" in str(error)
            self.fault = "cut_archive" if cut else "bad_archive"
            return b""

    def _inflated(self) -> bytes:
        while True:
            if self._stream is None or self._stream.eof:
                rest = self._stream.unused_data if self._stream else b""
                while not (rest := rest.lstrip(b"\0")):  # some programs fill up to whole blocks
                    rest = self.source.read(_BLOCK) or b""
                    if not rest:
                        return b""
                self._input, self._stream = rest, _STREAMS[self._compression]()
            ended = False
            if not self._input and getattr(self._stream, "needs_input", True):
                self._input = self.source.read(_BLOCK) or b""
                ended = not self._input
            part = self._stream.decompress(self._input, _STEP)
            self._input = getattr(self._stream, "unconsumed_tail", b"")
            if part:
                return part
            if ended and not self._stream.eof:
                raise EOFError


class _Recoded(io.RawIOBase):
    def __init__(self, source: io.RawIOBase, encoding: str) -> None:
        self.source = source
        # utf-16 has no bytes to escape, but halves of pairs that UTF-8 then refuses
        self._errors = "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        self._ready = b""
        self._ended = False
        self._first = True

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        view = memoryview(target)
        while not self._ready and not self._ended:
            block = self.source.read(_BLOCK) or b""
            self._ended = not block
            try:
                text = self._decoder.decode(block, final=self._ended)
            except UnicodeDecodeError:  # half a character at the end of the file
                text = "\udcff"
            if self._first and text:
                text, self._first = text.removeprefix("\ufeff"), False
            self._ready = text.encode("utf-8", self._errors if text != "\udcff" else "surrogateescape")
        size = min(len(view), len(self._ready))
        view[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self.source.close()
        super().close()


_STREAMS: dict[str, Any] = {
    "gzip": lambda: zlib.decompressobj(31),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
}
