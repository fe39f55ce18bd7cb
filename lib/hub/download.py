"""The download that does not give up: several files at once, resumed at the byte, verified, stoppable.

    FOLDER/name          a whole, verified file
    FOLDER/name.part     its beginning; the next run goes on behind its last byte
    FOLDER/.hub/         lock: one download at a time; parts.json and manifest.json (lib/hub/manifest.py)

The bytes come from `/resolve/COMMIT/name`, so that what is resumed tomorrow is what was begun today; each try
starts there again, because the signed address it redirects to expires. A file takes its name only when its
SHA-256 or git SHA-1 is the one the listing promised. So the bytes may come from any endpoint that has the
commit, and a beginning from one be continued by another (lib/hub/route.py).

Nothing is flushed to the disk on purpose: what was written outlives a kill -9 without that, and of what a
power cut takes, the hashes tell.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from filelock import FileLock, Timeout

from lib import workspace
from lib.errors import HubError, WorkspaceError
from lib.hub import manifest
from lib.hub.endpoint import endpoint_of, token_for
from lib.hub.failures import Asked
from lib.hub.hashes import following, is_right
from lib.hub.listing import Listing, RemoteFile
from lib.hub.manifest import Parts, size_of
from lib.hub.names import OWN, places
from lib.hub.progress import FileProgress, Meter, Progress, Tell
from lib.hub.route import Route
from lib.hub.transfer import Line

TICK = 0.1  # seconds between two looks at `stop`
FEW, MANY = 4, 8  # workers: for large files, whose bytes fill the link, and for small ones, which only wait
SMALL = 1 << 20  # bytes of a file, on average

Stop = Callable[[], bool]


def download(
    listing: Listing,
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    others: Sequence[str] = (),
    token: str | None = None,
    anywhere: bool = False,
    progress: Tell | None = None,
    stop: Stop | None = None,
    workers: int | None = None,
    timeout: float = 20.0,
    tries: int = 8,
    pause: float = 0.5,
) -> Path:
    """Fetch `files` of `listing` into `folder`, made if missing; return it.

    Files that are there and have the right bytes are not fetched again. A connection that is cut, or gives
    nothing for `timeout` seconds, is taken up again, with growing pauses from `pause` seconds on. Where the
    listing's endpoint fails, the `others` are asked, which have the same repository: at the same commit, from
    the same byte on. A file is given up after `tries` failures at each without progress. A server that asks
    us to wait is obeyed. The token is sent to huggingface.co only; `anywhere`: to all these endpoints, but to
    no host they redirect to. While another download works in `folder`, this one waits. `workers` is how many
    files are fetched at once, by default 4, or 8 where most are small.

    `progress` and `stop` are called from this thread, about three and ten times a second. Once `stop()` is
    true it ends within a second with `hub.stopped`; what has arrived stays for the next run.

    Raises `HubError`, or `WorkspaceError` for a disk that is full or refuses, and names that leave `folder`.
    """
    asked = Asked(listing.ref, listing.endpoint, timeout)
    if not files:
        raise asked.error("no_files")
    site = listing.ref.site
    endpoints = list(dict.fromkeys((listing.endpoint, *(endpoint_of(site, one) for one in others))))
    tokens = [token_for(one, token, anywhere=anywhere, site=site) for one in endpoints]
    with workspace.told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        workspace.inside(folder, OWN).mkdir(exist_ok=True)
        items = [_Item(file, *paths) for file, paths in places(files, folder, asked).items()]
        running = _Download(listing, items, asked, Route(endpoints, tries, pause), tokens)
        with _alone(folder, running, progress, stop):
            running.look(folder)
            running.run(workers or (MANY if running.total < SMALL * len(items) else FEW), progress, stop)
            manifest.write(folder, listing, [item.file for item in items])
            running.parts.end({item.file.path for item in items})
    return folder


@dataclass(slots=True, eq=False)
class _Item:
    file: RemoteFile
    path: Path
    part: Path
    have: int = 0  # bytes on disk
    there: bool = False  # under its name is a file of the right size

    def mark(self, listing: Listing) -> str:
        """Return what tells its beginning from that of other bytes."""
        return self.file.sha256 or self.file.git_sha1 or f"{listing.ref.repo}@{listing.commit}"


class _Download:
    """What the workers share. `turn` guards the sums."""

    def __init__(
        self,
        listing: Listing,
        items: list[_Item],
        asked: Asked,
        route: Route,
        tokens: Sequence[str | None],
    ) -> None:
        self.listing, self.items, self.asked, self.route, self.tokens = listing, items, asked, route, tokens
        self.turn = threading.Lock()
        self.ended = threading.Event()  # all is done, or something failed
        self.halted = threading.Event()
        self.failure: BaseException | None = None
        # the largest first, so that no worker is left alone with it at the end
        self.queue = deque(sorted(items, key=lambda item: -item.file.size))
        self.total = sum(item.file.size for item in items)
        self.done = 0
        self.finished = 0
        self.fetching: dict[str, _Item] = {}
        self.folders: set[Path] = set()  # those that are there
        self.arrived = 0  # bytes of this run, for the speed

    # the caller's thread

    def look(self, folder: Path) -> None:
        """See what is there already; drop what is of no use. Raises where the disk can't take the rest."""
        for left in (folder / OWN).glob(".*.part"):  # a note that a kill left half written
            left.unlink()
        self.parts = parts = Parts(folder)  # only now: another download has left it so
        for item in self.items:
            item.there = size_of(item.path) == item.file.size
            size = size_of(item.part)
            if size is not None and (
                size > item.file.size or parts.known.get(item.file.path) != item.mark(self.listing)
            ):
                item.part.unlink()  # the beginning of other bytes
            else:
                item.have = size or 0
        missing = [item for item in self.items if not item.there]
        need = sum(item.file.size - item.have for item in missing)
        free = workspace.free_bytes(folder)
        if need > free:
            raise WorkspaceError("workspace.disk_full", path=str(folder), free=free, need=need)
        parts.begin({item.file.path: item.mark(self.listing) for item in missing})
        self.done = sum(item.have for item in self.items)

    def run(self, workers: int, on_progress: Tell | None, stop: Stop | None) -> None:
        """Let the workers work and tell how far they are, until all is done or something fails."""
        lines = [Line(self.halted, self.asked.timeout) for _ in range(min(workers, len(self.items)))]
        threads = [
            threading.Thread(target=self.work, args=(line,), name=f"hub-download-{number}", daemon=True)
            for number, line in enumerate(lines)
        ]
        meter = Meter()
        ticks = 0
        try:
            for thread in threads:
                thread.start()
            while not self.ended.wait(TICK):
                if stop and stop():
                    raise self.asked.error("stopped", done=self.done, total=self.total)
                speed = meter.read(self.arrived)
                if on_progress and ticks % 3 == 0:
                    on_progress(self.progress(speed))
                ticks += 1
        finally:
            self.halted.set()
            for line in lines:
                line.halt()
            until = monotonic() + 0.5
            for thread in threads:  # one that hangs in the network is left to its timeout
                thread.join(max(0.0, until - monotonic()))
        if self.failure:
            raise self.failure
        if on_progress:
            on_progress(self.progress(phase="done"))

    def progress(self, speed: float = 0.0, phase: str = "") -> Progress:
        """Return how far it is."""
        route = self.route
        with self.turn:
            fetching = [FileProgress(name, item.have, item.file.size) for name, item in self.fetching.items()]
            return Progress(
                phase=phase or ("fetching" if fetching else "checking"),
                done=self.done,
                total=self.total,
                speed=speed,
                files_done=self.finished,
                files=len(self.items),
                file=fetching[0].path if fetching else "",
                retries=route.retries,
                trouble=route.trouble,
                pause=route.wait(route.at),
                endpoint=route.endpoints[route.at],
                fetching=tuple(fetching),
                told=route.latest(),
            )

    # the workers' threads

    def work(self, line: Line) -> None:
        """Take files from the queue until it is empty. The first failure ends the whole download."""
        try:
            with line.session:
                while self.queue:
                    try:
                        item = self.queue.popleft()
                    except IndexError:  # another worker took the last one
                        return
                    self.bring(line, item)
                    with self.turn:
                        self.finished += 1
                        if self.finished == len(self.items):
                            self.ended.set()
        except BaseException as error:  # raised again in the caller's thread
            with self.turn:
                if not self.halted.is_set():
                    self.failure = self.failure or error
            self.ended.set()

    def bring(self, line: Line, item: _Item) -> None:
        """Make sure that the file is there, whole and with the right bytes."""
        with workspace.told(item.path):
            if item.there:
                if is_right(item.file, item.path, line.go_on):
                    item.part.unlink(missing_ok=True)
                    self.holds(item, item.file.size)
                    return
                self.parts.begin({item.file.path: item.mark(self.listing)})
            if item.path.parent not in self.folders:
                item.path.parent.mkdir(parents=True, exist_ok=True)
                self.folders.add(item.path.parent)
            for _ in range(len(self.tokens) + 1):
                with following(item.file, item.part, self.halted) as right:
                    place = self.fetch(line, item)
                    good = right()
                with line.allowed():
                    if good:
                        item.part.replace(item.path)
                        return
                    item.part.unlink(missing_ok=True)
                self.holds(item, 0)
                self.route.corrupt(place, item.file.path)
            raise self.about(item, place).error("corrupt")

    def fetch(self, line: Line, item: _Item) -> int:
        """Add to the part until it has the file's size, through as many failures as that takes.

        Returns the place of the endpoint that gave the last byte.
        """
        spent = [0.0] * len(self.tokens)
        with self.turn:
            self.fetching[item.file.path] = item
        try:
            while True:
                place, before = self.route.choose(spent), item.have
                if seconds := self.route.wait(place):
                    line.go_on(seconds)
                    continue
                try:
                    self.attempt(line, item, place)
                    return place
                except HubError as error:
                    line.go_on()
                    gained = item.have - before
                    seconds = self.route.failed(place, error, item.file.path, gained, spent)
                line.go_on(seconds)
        finally:
            with self.turn:
                del self.fetching[item.file.path]

    def attempt(self, line: Line, item: _Item, place: int) -> None:
        """Ask once for what is missing, and write what comes."""

        def wrote(size: int) -> None:
            self.holds(item, item.have + size)
            with self.turn:
                self.arrived += size
            self.route.arrived()

        about, have = self.about(item, place), item.have
        with item.part.open("ab", buffering=0) as part:
            if have == item.file.size:
                return
            address = self.listing.ref.file(about.endpoint, self.listing.commit, item.file.path)
            with line.asking(about, address, self.tokens[place], item.file, have) as answer:
                line.receive(answer, part, item.file, have, about, wrote)

    def holds(self, item: _Item, have: int) -> None:
        """Note how many bytes of a file are on disk."""
        with self.turn:
            self.done += have - item.have
            item.have = have

    def about(self, item: _Item, place: int) -> Asked:
        return Asked(
            self.listing.ref,
            self.route.endpoints[place],
            self.asked.timeout,
            token_sent=self.tokens[place] is not None,
            file=item.file.path,
        )


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
