"""How far along its line a place is, in characters: asked only where something is wrong."""

from __future__ import annotations

import codecs
import io

import numpy as np

from lib.records.shape import Shape
from lib.records.source import open_utf8, read_fully

_BLOCK = 1 << 20


class Ruler:
    """Counts the characters before places of a file, which are asked in order.

    In an array on a single line that means to count from the file's beginning. It goes on where it left off;
    and where another one of this process did, as the stretches of a file are often measured in order too.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._file: io.RawIOBase | None = None
        self._at = self._count = 0

    def before(self, offset: int) -> int:
        """Return how many characters stand before byte `offset` on its line."""
        global _LAST
        file = self._file or self._open(offset)
        while self._at < offset and (block := read_fully(file, min(_BLOCK, offset - self._at))):
            if not self._at and block.startswith(codecs.BOM_UTF8):
                self._count = -1
            newline = block.rfind(b"\n")
            if newline >= 0:
                self._count = 0
            signs = np.frombuffer(block, np.uint8)[newline + 1 :]
            self._count += int(
                np.count_nonzero(signs & 0xC0 != 0x80)
            )  # all but the later bytes of a character
            self._at += len(block)
        if not self._shape.packed:
            _LAST = (self._shape, self._at, self._count)
        return self._count

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._file:
            self._file.close()

    def _open(self, offset: int) -> io.RawIOBase:
        """Open the file where counting can begin: at the line's beginning, or where it was left."""
        self._file = file = open_utf8(self._shape)
        if self._shape.packed:
            return file
        shape, known, count = _LAST
        if shape == self._shape and known <= offset:
            self._at, self._count = known, count
        end = offset
        while end > self._at:
            begin = max(self._at, end - _BLOCK)
            file.seek(begin)
            newline = read_fully(file, end - begin).rfind(b"\n")
            if newline >= 0:
                self._at, self._count = begin + newline + 1, 0
                break
            end = begin
        file.seek(self._at)
        return file


_LAST: tuple[Shape | None, int, int] = (None, 0, 0)
