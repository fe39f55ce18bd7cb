"""The download that does not give up: several files at once, resumed at the byte, verified, stoppable.

    FOLDER/name          a whole, verified file
    FOLDER/name.part     its beginning; the next run goes on behind its last byte
    FOLDER/.hub/         lock: one download at a time; parts.json: what each beginning is the beginning of

The bytes come from `/resolve/COMMIT/name`, so that what is resumed tomorrow is what was begun today; each try
starts there again, because the signed address it redirects to expires. A file takes its name only when its
SHA-256 or git SHA-1 is the one the listing promised.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions
from filelock import FileLock, Timeout

from lib import workspace
from lib.errors import HubError, WorkspaceError
from lib.hub.endpoint import headers_for, token_for
from lib.hub.failures import Asked
from lib.hub.listing import PASSING, Listing, RemoteFile
from lib.hub.names import OWN, places

CHUNK = 256 * 1024
TICK = 0.1  # seconds between two looks at `stop`
ENOUGH = 16 * 1024  # bytes that make a try worth it: counting failures starts again
LONGEST_PAUSE = 30.0
LONGEST_ASKED = 330.0  # the Hub counts requests in windows of five minutes
REDIRECTS = 5

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is.

    `phase` is "waiting" (another one works in the folder), "fetching", "checking" (the hashes) or "done".
    """

    phase: str
    done: int  # bytes on disk, of all files, those of earlier runs included
    total: int
    speed: float  # bytes per second, smoothed over about five seconds
    files_done: int
    files: int
    file: str = ""  # one of those being fetched
    retries: int = 0
    trouble: str = ""  # the key of the last failure, while nothing has arrived since
    pause: float = 0.0  # seconds until the next request, where the server asked everyone to wait

    @property
    def left(self) -> float | None:
        """Seconds left at this speed; None while nothing arrives."""
        return (self.total - self.done) / self.speed if self.speed > 0 else None


Tell = Callable[[Progress], None]


def download(
    listing: Listing,
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    token: str | None = None,
    anywhere: bool = False,
    progress: Tell | None = None,
    stop: Stop | None = None,
    workers: int = 3,
    timeout: float = 20.0,
    tries: int = 8,
    pause: float = 0.5,
) -> Path:
    """Fetch `files` of `listing` into `folder`, made if missing; return it.

    Files that are there and have the right bytes are not fetched again. A connection that is cut, or gives
    nothing for `timeout` seconds, is taken up again, with growing pauses from `pause` seconds on; a file is
    given up after `tries` failures without progress. A server that asks us to wait is obeyed. The token is
    sent to huggingface.co only; `anywhere`: to the listing's endpoint too. While another download works in
    `folder`, this one waits.

    `progress` and `stop` are called from this thread, about three and ten times a second. Once `stop()` is
    true it ends within a second with `hub.stopped`; what has arrived stays for the next run.

    Raises `HubError`, or `WorkspaceError` for a disk that is full or refuses, and names that leave `folder`.
    """
    asked = Asked(listing.ref, listing.endpoint, timeout)
    if not files:
        raise asked.error("no_files")
    with workspace.told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        workspace.inside(folder, OWN).mkdir(exist_ok=True)
        items = [_Item(file, *paths) for file, paths in places(files, folder, asked).items()]
        running = _Download(
            listing,
            items,
            token_for(listing.endpoint, token, anywhere=anywhere, site=listing.ref.site),
            asked,
            tries,
            pause,
        )
        with _alone(folder, running, progress, stop), _remembered(folder, items, listing):
            _check_space(folder, items)
            running.run(workers, progress, stop)
    return folder


@dataclass(slots=True, eq=False)
class _Item:
    file: RemoteFile
    path: Path
    part: Path
    have: int = 0  # bytes on disk, as the progress tells them


class _Halted(Exception):  # noqa: N818 -- not an error
    """Thrown in the workers to leave."""


class _WrongBytes(Exception):  # noqa: N818
    """What is on disk is not the beginning of the file."""


class _Download:
    """What the workers share. `turn` guards it, and every write: after a halt nothing is written any more."""

    def __init__(
        self, listing: Listing, items: list[_Item], token: str | None, asked: Asked, tries: int, pause: float
    ) -> None:
        self.listing, self.items, self.token, self.asked = listing, items, token, asked
        self.tries, self.pause = tries, pause
        self.turn = threading.Lock()
        self.ended = threading.Event()  # all is done, or something failed
        self.halted = threading.Event()
        self.failure: BaseException | None = None
        # the largest first, so that no worker is left alone with it at the end
        self.queue = deque(sorted(items, key=lambda item: -item.file.size))
        self.finished = 0
        self.fetching: dict[str, None] = {}
        self.answers: set[requests.Response] = set()
        self.arrived = 0  # bytes of this run, for the speed
        self.retries = 0
        self.trouble = ""
        self.not_before = 0.0  # when the server wants the next request

    # the caller's thread

    def run(self, workers: int, on_progress: Tell | None, stop: Stop | None) -> None:
        """Let the workers work and tell how far they are, until all is done or something fails."""
        threads = [
            threading.Thread(target=self.work, name=f"hub-download-{number}", daemon=True)
            for number in range(min(workers, len(self.items)))
        ]
        meter = _Meter()
        ticks = 0
        try:
            for thread in threads:
                thread.start()
            while not self.ended.wait(TICK):
                if stop and stop():
                    now = self.progress()
                    raise self.asked.error("stopped", done=now.done, total=now.total)
                speed = meter.read(self.arrived)
                if on_progress and ticks % 3 == 0:
                    on_progress(self.progress(speed))
                ticks += 1
        finally:
            self.halt(threads)
        if self.failure:
            raise self.failure
        if on_progress:
            on_progress(self.progress(phase="done"))

    def halt(self, threads: list[threading.Thread]) -> None:
        """End the workers. One that hangs in the network is left to its timeout; it writes nothing more."""
        with self.turn:
            self.halted.set()
            answers = list(self.answers)
        for answer in answers:
            with suppress(Exception):  # it may be ending by itself
                answer.raw.shutdown()
        until = monotonic() + 0.5
        for thread in threads:
            thread.join(max(0.0, until - monotonic()))

    def progress(self, speed: float = 0.0, phase: str = "") -> Progress:
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

    # the workers' threads

    def work(self) -> None:
        """Take files from the queue until it is empty. The first failure ends the whole download."""
        try:
            with requests.Session() as session:
                while True:
                    with self.turn:
                        item = self.queue.popleft() if self.queue else None
                    if item is None:
                        return
                    self.bring(session, item)
                    with self.turn:
                        self.finished += 1
                        if self.finished == len(self.items):
                            self.ended.set()
        except BaseException as error:  # raised again in the caller's thread
            with self.turn:
                if not self.halted.is_set():
                    self.failure = self.failure or error
            self.ended.set()

    def bring(self, session: requests.Session, item: _Item) -> None:
        """Make sure that the file is there, whole and with the right bytes."""
        with workspace.told(item.path):
            if self.is_right(item, item.path):
                item.have = item.file.size
                return
            item.path.parent.mkdir(parents=True, exist_ok=True)
            for last in (False, True):
                with suppress(_WrongBytes):
                    self.fetch(session, item)
                    if self.is_right(item, item.part):
                        item.part.replace(item.path)
                        return
                item.part.unlink(missing_ok=True)
                item.have = 0
                self.note("hub.corrupt")
                if last:
                    raise self.about(item).error("corrupt")

    def is_right(self, item: _Item, path: Path) -> bool:
        """Return whether `path` has the file's size and hash; where the endpoint told no hash, its size."""
        file = item.file
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        if not file.sha256 and not file.git_sha1:
            return True
        git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        digest = hashlib.sha256() if file.sha256 else git
        with path.open("rb") as bytes_:
            while piece := bytes_.read(1 << 20):
                digest.update(piece)
                self.go_on()
        return digest.hexdigest() == (file.sha256 or file.git_sha1).lower()

    def fetch(self, session: requests.Session, item: _Item) -> None:
        """Add to the part until it has the file's size, through as many failures as that takes."""
        failures = 0
        with self.turn:
            self.fetching[item.file.path] = None
        try:
            while True:
                before = item.part.stat().st_size if item.part.exists() else 0
                try:
                    return self.attempt(session, item, before)
                except HubError as error:
                    failures = 1 if item.have - before >= ENOUGH else failures + 1
                    if not _passing(error) or failures >= self.tries:
                        raise
                    failed = error
                self.note(failed.key)
                self.wait(failed, failures)
        finally:
            with self.turn:
                del self.fetching[item.file.path]

    def wait(self, failed: HubError, failures: int) -> None:
        """Wait before the next try; where the server asked for it, everyone does."""
        if failed.key == "hub.rate_limited":
            with self.turn:
                self.not_before = max(self.not_before, monotonic() + float(failed.facts["seconds"] or 0))
        else:
            self.go_on(min(LONGEST_PAUSE, self.pause * 2 ** (failures - 1)) * random.uniform(0.8, 1.2))

    def go_on(self, pause: float = 0.0) -> None:
        """Return after `pause` seconds, or leave at once when the download was halted."""
        if self.halted.wait(pause) if pause > 0 else self.halted.is_set():
            raise _Halted

    def note(self, trouble: str) -> None:
        with self.turn:
            self.retries += 1
            self.trouble = trouble

    def attempt(self, session: requests.Session, item: _Item, have: int) -> None:
        """Ask once for what is missing behind `have` bytes, and write what comes."""
        if have > item.file.size:
            raise _WrongBytes
        item.have = have
        with item.part.open("ab") as part:
            if have < item.file.size:
                with self.answer(session, item) as answer:
                    self.receive(item, part, answer)
            part.flush()
            os.fsync(part.fileno())

    @contextmanager
    def answer(self, session: requests.Session, item: _Item) -> Iterator[requests.Response]:
        """Ask for the file from `item.have` on, through redirects; give an answer that has the bytes."""
        about = self.about(item)
        endpoint = self.listing.endpoint
        address = self.listing.ref.file(endpoint, self.listing.commit, item.file.path)
        for _ in range(REDIRECTS):
            self.go_on(self.not_before - monotonic())
            at_home = urlsplit(address)[:2] == urlsplit(endpoint)[:2]
            headers = headers_for(self.token if at_home else None) | {"Accept-Encoding": "identity"}
            if item.have:
                headers["Range"] = f"bytes={item.have}-"
            with self.explained(about), self.asking(session, address, headers) as answer:
                onward = session.get_redirect_target(answer)
                if onward is None:
                    _check(answer, item, about, at_home=at_home)
                    yield answer
                    return
                address = urljoin(address, onward)
                if int(answer.headers.get("Content-Length", CHUNK)) < CHUNK:
                    answer.raw.read(CHUNK)  # so that the connection can be used again
        raise about.error("not_a_hub")

    @contextmanager
    def asking(
        self, session: requests.Session, address: str, headers: dict[str, str]
    ) -> Iterator[requests.Response]:
        """Give the answer to one request; it is known to `halt` while it is open."""
        patience = (min(10.0, self.asked.timeout), self.asked.timeout)
        answer = session.get(
            address, headers=headers, auth=_as_it_is, stream=True, allow_redirects=False, timeout=patience
        )
        with self.turn:
            self.answers.add(answer)
        try:
            self.go_on()
            yield answer
        finally:
            with self.turn:
                self.answers.discard(answer)
            answer.close()

    @contextmanager
    def explained(self, about: Asked) -> Iterator[None]:
        """Turn what goes wrong in the network into a `HubError`; after a halt, just leave."""
        try:
            yield
        except _NETWORK as error:
            self.go_on()
            told = about.broken(error)
            assert told
            raise told from error

    def receive(self, item: _Item, part: IO[bytes], answer: requests.Response) -> None:
        """Write the body behind what is there; what is there already, of an ignored Range, is passed over."""
        known = item.have - _first_byte(answer)
        while item.have < item.file.size:
            piece: bytes = answer.raw.read1(CHUNK, decode_content=False)
            if not piece:
                raise self.about(item).error("no_connection", why="closed")
            fresh = piece[known:][: item.file.size - item.have]
            known = max(0, known - len(piece))
            with self.turn:
                if self.halted.is_set():
                    raise _Halted
                part.write(fresh)
                part.flush()
                item.have += len(fresh)
                self.arrived += len(fresh)
                self.trouble = "" if fresh else self.trouble

    def about(self, item: _Item) -> Asked:
        return Asked(
            self.listing.ref,
            self.listing.endpoint,
            self.asked.timeout,
            token_sent=self.token is not None,
            file=item.file.path,
        )


class _Meter:
    """Bytes per second, smoothed over about five seconds."""

    def __init__(self) -> None:
        self.speed, self.arrived, self.at = 0.0, 0, monotonic()

    def read(self, arrived: int) -> float:
        now = monotonic()
        passed = max(now - self.at, 1e-3)
        rate = (arrived - self.arrived) / passed
        self.speed = rate if self.speed == 0 else self.speed + (rate - self.speed) * -math.expm1(-passed / 5)
        self.arrived, self.at = arrived, now
        return self.speed if self.speed >= 1 else 0.0


@contextmanager
def _alone(folder: Path, running: _Download, on_progress: Tell | None, stop: Stop | None) -> Iterator[None]:
    """Hold the folder; wait while another download does."""
    lock = FileLock(folder / OWN / "lock")
    while True:
        try:
            lock.acquire(timeout=TICK)
            break
        except Timeout:
            now = running.progress(phase="waiting")
            if stop and stop():
                raise running.asked.error("stopped", done=now.done, total=now.total) from None
            if on_progress:
                on_progress(now)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _remembered(folder: Path, items: list[_Item], listing: Listing) -> Iterator[None]:
    """Drop beginnings of other bytes than these; remember what the beginnings are of until all is done."""
    book = folder / OWN / "parts.json"
    known = workspace.read_json(book)
    known = known if isinstance(known, dict) else {}
    now = {
        item.file.path: item.file.sha256 or item.file.git_sha1 or f"{listing.ref.repo}@{listing.commit}"
        for item in items
    }
    for item in items:
        if item.part.exists() and known.get(item.file.path) != now[item.file.path]:
            item.part.unlink()
        item.have = min(item.part.stat().st_size, item.file.size) if item.part.exists() else 0
    if any(known.get(name) != mark for name, mark in now.items()):
        workspace.write_json(book, known | now)
    yield
    rest = {name: mark for name, mark in known.items() if name not in now}
    if rest:
        workspace.write_json(book, rest)
    else:
        book.unlink(missing_ok=True)


def _check_space(folder: Path, items: list[_Item]) -> None:
    """Raise where the disk can't take what is missing."""
    missing = sum(
        item.file.size - item.have
        for item in items
        if not item.path.is_file() or item.path.stat().st_size != item.file.size
    )
    free = workspace.free_bytes(folder)
    if missing > free:
        raise WorkspaceError("workspace.disk_full", path=str(folder), free=free, need=missing)


def _check(answer: requests.Response, item: _Item, about: Asked, *, at_home: bool) -> None:
    """Raise unless the answer is this file's bytes, as far as its headers tell."""
    status, headers = answer.status_code, answer.headers
    if status >= 400 and not at_home:
        # the signed address of a storage host: expired, most likely, so that the next try gets a fresh one
        raise about.error("server_error", status=status, host=urlsplit(answer.url).hostname)
    if status == 416:  # there is no such place in the file, says a server that has another one
        raise about.error("corrupt")
    if status >= 400:
        raise about.answered(status, headers)
    is_page = item.file.path.lower().endswith((".html", ".htm"))
    if status not in (200, 203, 206) or ("html" in headers.get("Content-Type", "") and not is_page):
        raise about.error("not_a_hub")
    size = headers.get("Content-Length", "")
    if status == 206 or "Content-Range" in headers:
        size = headers.get("Content-Range", "").rpartition("/")[2]
    other = size.isdigit() and int(size) != item.file.size
    packed = headers.get("Content-Encoding", "identity") != "identity"
    if other or packed or _first_byte(answer) > item.have:
        raise about.error("corrupt")


def _first_byte(answer: requests.Response) -> int:
    """Return the place in the file of the body's first byte. ModelScope sends parts with status 200 too."""
    told = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if told:
        return int(told[1])
    return 0 if answer.status_code != 206 else 1 << 62


def _passing(error: HubError) -> bool:
    """Return whether the next try may well succeed."""
    if error.key == "hub.rate_limited":
        return float(error.facts["seconds"] or 0) <= LONGEST_ASKED
    if error.key == "hub.server_error":
        return error.facts["status"] in PASSING or "host" in error.facts
    return error.key in ("hub.no_connection", "hub.timeout", "hub.bounced", "hub.not_a_hub", "hub.corrupt")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from taking a password out of ~/.netrc, which it would send over our own header."""
    return request


_NETWORK = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)
