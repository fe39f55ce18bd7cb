"""A file's bytes as UTF-8, whatever its encoding."""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO, cast

from lib.records.shape import Shape


def open_utf8(shape: Shape, offset: int = 0) -> BinaryIO:
    """Open the file at `offset` as UTF-8 bytes without a byte order mark.

    Other encodings are recoded on the fly, and only from the beginning (`offset` 0). What does not belong
    to the encoding stays in as it is, so that whoever decodes the bytes finds them broken.
    """
    file = shape.path.open("rb")
    if shape.encoding == "utf-8":
        if file.read(3) != codecs.BOM_UTF8 or offset:
            file.seek(offset)
        return file
    return cast(BinaryIO, io.BufferedReader(_Recoded(file, shape.encoding), 1 << 16))


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
            self._ready = text.encode("utf-8", self._errors if "\udcff" != text else "surrogateescape")
        size = min(len(view), len(self._ready))
        view[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self.source.close()
        super().close()
