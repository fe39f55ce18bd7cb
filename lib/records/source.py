"""A file's bytes as UTF-8, whatever its encoding."""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO, cast

from lib.records.shape import Shape


def open_utf8(shape: Shape, offset: int) -> BinaryIO:
    """Open the file as UTF-8 bytes without a byte order mark, at byte `offset` of that UTF-8.

    Other encodings are recoded on the fly, always from the beginning. What does not belong to the encoding
    stays in as it is, so that whoever decodes the bytes finds them broken.
    """
    file = shape.path.open("rb")
    if shape.encoding == "utf-8":
        file.seek(offset)
        return file
    recoded = io.BufferedReader(_Recoded(file, shape.encoding), 1 << 16)
    while offset > 0 and (skipped := recoded.read(min(offset, 1 << 16))):
        offset -= len(skipped)
    return cast(BinaryIO, recoded)


def behind(file: BinaryIO) -> int:
    """Return how many bytes of the file itself have been read, for progress."""
    raw = getattr(file, "raw", None)
    return raw.source.tell() if isinstance(raw, _Recoded) else file.tell()


class _Recoded(io.RawIOBase):
    def __init__(self, source: BinaryIO, encoding: str) -> None:
        self.source = source
        # utf-16 has no bytes to escape, but halves of pairs that UTF-8 then refuses
        self._errors = "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        self._ready = b""
        self._ended = False
        self._first = True

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        view = memoryview(target)  # type: ignore[arg-type]
        while not self._ready and not self._ended:
            block = self.source.read(1 << 16)
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
