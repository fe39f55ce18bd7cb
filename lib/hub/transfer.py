"""One request for what is missing of a file, and the bytes that come, written behind those that are there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from lib.hub.endpoint import origin
from lib.hub.failures import Asked
from lib.hub.listing import RemoteFile
from lib.hub.redirects import Session, opened

CHUNK = 256 * 1024


class HaltedError(Exception):
    """Thrown in the workers to leave."""


def first_byte(answer: requests.Response, file: RemoteFile, about: Asked) -> int:
    """Return the place in the file of the body's first byte.

    Raises `HubError` unless the answer has this file's bytes, as far as its headers tell. ModelScope sends
    parts with status 200 too.
    """
    status, headers = answer.status_code, answer.headers
    if status >= 400 and origin(answer.url) != origin(about.endpoint):
        # the signed address of a storage host: expired, most likely, so that the next try gets a fresh one
        raise about.error("server_error", status=status, host=urlsplit(answer.url).hostname)
    if status == 416:  # there is no such place in the file, says a server that has another one
        raise about.error("corrupt")
    if status >= 400:
        raise about.answered(status, headers)
    is_page = file.path.lower().endswith((".html", ".htm"))
    if status not in (200, 203, 206) or ("html" in headers.get("Content-Type", "") and not is_page):
        raise about.error("not_a_hub")
    told = re.match(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    size = told[2] if told else headers.get("Content-Length", "*")
    packed = headers.get("Content-Encoding", "identity") != "identity"
    if packed or (size.isdigit() and int(size) != file.size) or (status == 206 and not told):
        raise about.error("corrupt")
    return int(told[1]) if told else 0


class Line:
    """One worker's connections. After `halt`, and once `writing` was free, it writes nothing more."""

    def __init__(self, halted: threading.Event, timeout: float) -> None:
        self.session = Session()
        self.halted = halted
        self.patience = (min(10.0, timeout), timeout)  # seconds to connect, seconds of silence
        self.writing = threading.Lock()
        self.answer: requests.Response | None = None

    def halt(self) -> None:
        """End what it waits for in the network, if it can be ended; `halted` is set already."""
        with self.writing:
            answer = self.answer
        if answer is not None:
            with suppress(Exception):  # it may be ending by itself
                answer.raw.shutdown()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Do something to the disk, unless the download was halted."""
        with self.writing:
            self.go_on()
            yield

    def go_on(self, pause: float = 0.0) -> None:
        """Return after `pause` seconds, or leave at once when the download was halted."""
        if self.halted.wait(pause) if pause > 0 else self.halted.is_set():
            raise HaltedError

    @contextmanager
    def asking(
        self, about: Asked, address: str, token: str | None, file: RemoteFile, have: int
    ) -> Iterator[requests.Response]:
        """Ask for a file from byte `have` on, through redirects; give an answer that has the bytes.

        Raises `HubError`.
        """
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with opened(
            self.session,
            about,
            address,
            token=token,
            headers=headers,
            patience=lambda: self.patience,
            passing=lambda _: self.go_on(),
        ) as answer:
            with self.writing:
                self.answer = answer
            try:
                self.go_on()
                if first_byte(answer, file, about) > have:
                    raise about.error("corrupt")
                yield answer
            finally:
                with self.writing:
                    self.answer = None

    def receive(
        self,
        answer: requests.Response,
        part: IO[bytes],
        file: RemoteFile,
        have: int,
        about: Asked,
        wrote: Callable[[int], None],
    ) -> None:
        """Write the body behind the `have` bytes that are there, as it comes; tell `wrote` how many bytes.

        What is there already, of a server that ignores Range, is passed over. Raises `HubError` where the
        body ends too early.
        """
        known = have - first_byte(answer, file, about)
        while have < file.size:
            piece = self._piece(answer, about)
            fresh = piece[known : known + file.size - have] if known else piece[: file.size - have]
            known = max(0, known - len(piece))
            with self.allowed():
                _write(part, fresh)
            have += len(fresh)
            if fresh:
                wrote(len(fresh))

    def _piece(self, answer: requests.Response, about: Asked) -> bytes:
        try:
            piece: bytes = answer.raw.read1(CHUNK, decode_content=False)
        except _NETWORK as error:
            self.go_on()
            told = about.broken(error)
            assert told
            raise told from error
        if not piece:
            raise about.error("no_connection", why="closed")
        return piece


def _write(part: IO[bytes], fresh: bytes) -> None:
    """Write all of it; an unbuffered file may take less than it is given."""
    left = memoryview(fresh)
    while left:
        left = left[part.write(left) :]


_NETWORK = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)
