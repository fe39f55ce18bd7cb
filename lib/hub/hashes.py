"""Are these the bytes that were promised? SHA-256 for large files, git's SHA-1 for small ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lib.hub.listing import RemoteFile

if TYPE_CHECKING:
    from hashlib import _Hash

# From this size on a file is hashed while it arrives; smaller ones are read again in a moment.
LARGE = 4 << 20
PIECE = 1 << 20
LOOK = 0.02  # seconds until a thread that has read all there is looks again


def is_right(file: RemoteFile, path: Path, go_on: Callable[[], None] = lambda: None) -> bool:
    """Return whether `path` has the file's size and hash; where the endpoint told no hash, its size.

    `go_on` is called between pieces of a megabyte, and may raise to leave.
    """
    try:
        with path.open("rb", buffering=0) as bytes_:
            if bytes_.seek(0, 2) != file.size:
                return False
            if not _promised(file):
                return True
            bytes_.seek(0)
            digest, buffer = _digest(file), memoryview(bytearray(min(PIECE, file.size + 1)))
            while got := bytes_.readinto(buffer):
                digest.update(buffer[:got])
                go_on()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    return digest.hexdigest() == _promised(file)


@contextmanager
def following(file: RemoteFile, path: Path, halted: threading.Event) -> Iterator[Callable[[], bool]]:
    """Hash the growing `path` behind its writer; give a function that says whether all of it is right.

    It is to be called once the writer is through. What is there already is read while the rest arrives, so
    that a large file is known to be right a moment after its last byte.
    """
    if file.size < LARGE or not _promised(file):
        yield lambda: is_right(file, path)
        return
    follower = _Follower(file, path, halted)
    follower.start()
    try:
        yield follower.is_right
    finally:
        follower.over.set()
        follower.join()


class _Follower(threading.Thread):
    def __init__(self, file: RemoteFile, path: Path, halted: threading.Event) -> None:
        super().__init__(name="hub-hash", daemon=True)
        self.file, self.path, self.halted = file, path, halted
        self.digest = _digest(file)
        self.hashed = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Read behind the writer until all is read, or the writer has left."""
        buffer = memoryview(bytearray(PIECE))
        while not self.path.exists():
            if self.over.wait(LOOK) or self.halted.is_set():
                return
        with suppress(OSError), self.path.open("rb", buffering=0) as bytes_:
            while self.hashed < self.file.size and not self.over.is_set() and not self.halted.is_set():
                got = bytes_.readinto(buffer)
                if got:
                    self.digest.update(buffer[:got])
                    self.hashed += got
                else:
                    self.over.wait(LOOK)

    def is_right(self) -> bool:
        """Wait for the last byte's turn, and compare. The writer must have written all."""
        self.join()
        if self.hashed == self.file.size:
            return self.digest.hexdigest() == _promised(self.file)
        return not self.halted.is_set() and is_right(self.file, self.path)


def _promised(file: RemoteFile) -> str:
    return (file.sha256 or file.git_sha1).lower()


def _digest(file: RemoteFile) -> _Hash:
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
