"""The download that does not give up: several files at once, resumed at the byte, verified, stoppable.

    FOLDER/name          a whole, verified file
    FOLDER/name.part     its beginning; the next run goes on behind its last byte
    FOLDER/.hub/         lock: one download at a time; parts.json: which bytes each beginning is the beginning of

The bytes come from `/resolve/COMMIT/name`, so that what is resumed tomorrow is what was begun today; each try
starts there again, because the signed address it redirects to expires. A file takes its name when its SHA-256
(or git SHA-1) is the one the listing promised.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.parse import urljoin, urlsplit

import requests
from filelock import FileLock, Timeout
from huggingface_hub.utils import build_hf_headers

from lib import workspace
from lib.errors import HubError, WorkspaceError
from lib.hub.endpoint import token_for
from lib.hub.failures import Asked
from lib.hub.listing import AGENT, PASSING, Listing, RemoteFile

WORKERS = 3
CHUNK = 256 * 1024
TICK = 0.1  # seconds between two looks at `stop`
ENOUGH = 256 * 1024  # bytes that make a try worth it: the count of failures starts again
LONGEST_PAUSE = 30.0
LONGEST_ASKED = 330.0  # the Hub counts requests in windows of five minutes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is. `phase` is "waiting" (another one works in the folder), "fetching" or "checking"."""

    phase: str
    done: int  # bytes on disk, of all files, those of earlier runs included
    total: int
    speed: float  # bytes per second, smoothed over about five seconds
    files_done: int
    files: int
    file: str = ""  # one of those being fetched
    retries: int = 0
    trouble: str = ""  # the key of the last failure, while nothing has arrived since
    pause: float = 0.0  # seconds until the next try, where every worker waits

    @property
    def left(self) -> float | None:
        """Seconds left at this speed; None while nothing arrives."""
        return (self.total - self.done) / self.speed if self.speed > 0 else None


def download(
    listing: Listing,
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    token: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    workers: int = WORKERS,
    timeout: float = 20.0,
    tries: int = 8,
    pause: float = 0.5,
) -> list[Path]:
    """Fetch `files` of `listing` into `folder`; return where they are, in the same order.

    Files that are there and have the right bytes are not fetched again. A connection that is cut, or gives
    nothing for `timeout` seconds, is taken up again; a file is given up after `tries` failures without progress,
    with growing pauses from `pause` seconds on. The token is sent to huggingface.co only.

    `on_progress` and `stop` are called from this thread, about four and ten times a second. Once `stop()` is
    true it ends within a second with `hub.stopped`; what has arrived stays for the next run.

    Raises `HubError`, or `WorkspaceError` for a disk that is full or refuses and names that leave `folder`.
    """
    asked = Asked(listing.reference, listing.endpoint, timeout)
    if not files:
        raise asked.error("no_files")
    with workspace.told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        own = workspace.inside(folder, ".hub")
        own.mkdir(exist_ok=True)
    items = _items(files, folder, asked)
    running = _Download(listing, items, folder, token_for(listing.endpoint, token), asked, tries, pause)
    with _locked(own / "lock", running, on_progress, stop):
        _forget_foreign_parts(own / "parts.json", items, listing)
        _check_space(items, folder)
        running.run(workers, on_progress, stop)
    return [item.path for item in items]


@dataclass(slots=True)
class _Item:
    file: RemoteFile
    path: Path
    part: Path
    have: int = 0  # bytes counted in the progress


@dataclass
class _Download:
    """The state the workers share. `turn` guards all of it, and every write: nothing is written after `halted`."""

    listing: Listing
    items: list[_Item]
    folder: Path
    token: str | None
    asked: Asked
    tries: int
    pause: float
    turn: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)  # everything is done, or something failed
    halted: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None
    finished: int = 0
    fetching: dict[str, None] = field(default_factory=dict)  # names, in the order they began
    arrived: int = 0  # bytes received by this run, for the speed
    retries: int = 0
    trouble: str = ""
    not_before: float = 0.0  # no request earlier than this: the server asked us to wait
    open: set[requests.Response] = field(default_factory=set)

    def run(
        self, workers: int, on_progress: Callable[[Progress], None] | None, stop: Callable[[], bool] | None
    ) -> None:
        """Let the workers work, and tell how far they are, until all is done or something fails."""
        # the largest first, so that no worker is left alone with it at the end
        self.queue = deque(sorted(self.items, key=lambda item: -item.file.size))
        threads = [
            threading.Thread(target=self.work, name=f"hub-download-{n}", daemon=True)
            for n in range(min(workers, len(self.items)))
        ]
        meter = _Meter()
        ticks = 0
        for thread in threads:
            thread.start()
        try:
            while not self.ended.wait(TICK):
                if stop and stop():
                    done, total = self.progress(0).done, self.progress(0).total
                    raise self.asked.error("stopped", done=done, total=total)
                speed = meter.read(self.arrived)
                if on_progress and ticks % 3 == 0:
                    on_progress(self.progress(speed))
                ticks += 1
        finally:
            self.halt(threads)
        if self.failure:
            raise self.failure
        if on_progress:
            on_progress(self.progress(meter.read(self.arrived)))

    def halt(self, threads: list[threading.Thread]) -> None:
        """End the workers. One that hangs in the network is left to its timeout: it can't write any more."""
        self.halted.set()
        with self.turn:
            waiting = list(self.open)
        for response in waiting:
            with suppress(Exception):  # it may end by itself in this moment
                response.raw.shutdown()
        until = monotonic() + 0.5
        for thread in threads:
            thread.join(max(0.0, until - monotonic()))

    def progress(self, speed: float, phase: str = "") -> Progress:
        """Return how far it is."""
        with self.turn:
            return Progress(
                phase=phase or ("fetching" if self.fetching else "checking"),
                done=sum(item.have for item in self.items),
                total=sum(item.file.size for item in self.items),
                speed=speed,
                files_done=self.finished,
                files=len(self.items),
                file=next(iter(self.fetching), ""),
                retries=self.retries,
                trouble=self.trouble,
                pause=max(0.0, self.not_before - monotonic()),
            )

    def work(self) -> None:
        """Take files from the queue until it is empty. The first failure ends the whole download."""
        with requests.Session() as session:
            while not self.halted.is_set():
                with self.turn:
                    item = self.queue.popleft() if self.queue else None
                if item is None:
                    return
                try:
                    self.bring(session, item)
                except _Halted:
                    return
                except BaseException as error:
                    with self.turn:
                        self.failure = self.failure or error
                    self.ended.set()
                    return
                with self.turn:
                    self.finished += 1
                    if self.finished == len(self.items):
                        self.ended.set()

    def bring(self, session: requests.Session, item: _Item) -> None:
        """Make sure that the file is there, whole and verified."""
        with workspace.told(item.path):
            if item.path.is_file() and item.path.stat().st_size == item.file.size and self.right(item, item.path):
                item.have = item.file.size
                return
            item.path.parent.mkdir(parents=True, exist_ok=True)
            for again in (True, False):
                try:
                    self.fetch(session, item)
                    whole = self.right(item, item.part)
                except _WrongBytes:
                    whole = False
                if whole:
                    break
                item.part.unlink(missing_ok=True)
                item.have = 0
                self.count(retry="hub.corrupt")
                if not again:
                    raise self.about(item).error("corrupt")
            item.part.replace(item.path)

    def fetch(self, session: requests.Session, item: _Item) -> None:
        """Add to the part until it has the file's size, through as many failures as it takes."""
        failures = 0
        with self.turn:
            self.fetching[item.file.path] = None
        try:
            while True:
                before = item.part.stat().st_size if item.part.exists() else 0
                try:
                    return self.attempt(session, item, before)
                except HubError as error:
                    if not _passing(error):
                        raise
                    failures = 1 if item.have - before >= ENOUGH else failures + 1
                    if failures >= self.tries or float(error.facts.get("seconds") or 0) > LONGEST_ASKED:
                        raise
                    failed = error
                self.count(retry=failed.key)
                self.wait(failed, failures)
        finally:
            with self.turn:
                self.fetching.pop(item.file.path, None)

    def wait(self, failed: HubError, failures: int) -> None:
        """Wait before the next try; where the server asked for it, everyone waits."""
        if failed.key == "hub.rate_limited":
            with self.turn:
                self.not_before = max(self.not_before, monotonic() + float(failed.facts["seconds"] or 0))
        else:
            pause = min(LONGEST_PAUSE, self.pause * 2 ** (failures - 1)) * random.uniform(0.8, 1.2)
            if self.halted.wait(pause):
                raise _Halted

    def attempt(self, session: requests.Session, item: _Item, have: int) -> None:
        """Ask once for what is missing, and add what comes."""
        size = item.file.size
        if have > size:
            raise _WrongBytes
        item.have = have
        with item.part.open("ab") as part:
            if have < size:
                with self.answer(session, item, have) as response:
                    self.receive(item, part, response, _first_byte(response, have, size))
            part.flush()
            os.fsync(part.fileno())

    def receive(self, item: _Item, part: IO[bytes], response: requests.Response, first: int) -> None:
        """Write the body behind what is there; `first` is the place of its first byte in the file."""
        known = item.have - first  # bytes of the body we have already, where the server ignored the range
        try:
            while item.have < item.file.size:
                piece = response.raw.read1(CHUNK, decode_content=False)
                if not piece:
                    raise self.about(item).error("no_connection", why="closed")
                skipped = min(known, len(piece))
                known -= skipped
                piece = piece[skipped:][: item.file.size - item.have]
                with self.turn:
                    if self.halted.is_set():
                        raise _Halted
                    part.write(piece)
                    item.have += len(piece)
                    self.arrived += len(piece)
                    if piece:
                        self.trouble = ""
        except _NETWORK as error:
            if self.halted.is_set():
                raise _Halted from None
            raise self.about(item).broken(error) or error from error

