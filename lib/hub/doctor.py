"""The endpoint doctor: what every endpoint does with the very file that is to be fetched, and which to use.

    visits = examine(ref, ENDPOINTS)
    for visit in visits:
        print(visit.endpoint, visit.verdict, *visit.told())
    endpoint, *others = ranked(visits)          # to use, and to go on with where it fails

Each endpoint is asked for the revision, the tree, and the first MiB of a file, as a download would ask. Its
verdict is one of these; those above the line can be used:

    fast, slow      the file comes, with more or less than SLOW
    bounces         it sends on to another endpoint; only where `error` is None can that one be reached
    ----
    gated, bad_token, forbidden, not_found, no_file, corrupt    it is the Hub's or the mirror's own answer
    portal          what answered is no Hub: a login page, an error page, JSON that no Hub writes
    storage         it answers, but the host that keeps its large files cannot be reached
    proxy, dns, tls, refused, reset, timeout, unreachable       the network between here and there
    rate_limited, server_error                                  it has trouble, and may not have it later
    offline         HF_HUB_OFFLINE forbids asking
    bad_endpoint    it is no address
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests
from huggingface_hub import constants

from lib.errors import Fact, HubError
from lib.hub.endpoint import ENDPOINTS, SITES, check_endpoint, origin, token_for
from lib.hub.failures import Asked
from lib.hub.listing import PASSING, Listing, RemoteFile, files_of, list_files, suggest
from lib.hub.redirects import opened
from lib.hub.reference import Ref
from lib.hub.transfer import first_byte

# Bytes per second. Below it a base model of 1 GB, about the smallest in use, takes an hour and more.
SLOW = 300_000
# What is read of the file, at most: enough to tell a throttled connection from a good one. A new connection
# begins slowly, so that the speed is rather told too low than too high.
SAMPLE = 1 << 20  # bytes
MEASURED = 2.0  # seconds
ENOUGH = 16 * 1024  # bytes that count as an answer, where a connection then breaks
TELLING = 256 * 1024  # bytes; the speed of less says nothing
LARGEST = 64 << 20  # bytes of JSON that are read; what a very large repository says of itself is a tenth

WORKING = ("fast", "slow", "bounces")
# Each of these means that nothing came back from beyond this network.
UNPLUGGED = ("dns", "refused", "timeout", "unreachable", "proxy", "offline")


@dataclass(frozen=True, slots=True)
class Visit:
    """What happened at one endpoint.

    `file` begins to come after `milliseconds`; `speed` is in bytes per second, None where the file is too
    small to tell. `hosts` are those on the way, the endpoint's own first. `behind`: another endpoint has a
    newer commit.
    """

    endpoint: str
    verdict: str
    commit: str = ""
    milliseconds: int | None = None
    speed: float | None = None
    hosts: tuple[str, ...] = ()
    file: str = ""
    error: HubError | None = None
    size: int = 0  # of `file`, in bytes
    modified: str = ""  # when `commit` was made, ISO 8601
    behind: bool = False

    @property
    def usable(self) -> bool:
        """Whether a download from here would get on."""
        return self.verdict in ("fast", "slow") or (self.verdict == "bounces" and self.error is None)

    @property
    def seconds(self) -> float:
        """About how long the file takes from here; infinite where it doesn't come."""
        if not self.usable:
            return math.inf
        return (self.milliseconds or 0) / 1000 + (self.size / self.speed if self.speed else 0.0)

    def told(self) -> tuple[str, dict[str, Fact]]:
        """Return the key and the facts of the sentence that says what happened."""
        key = self.verdict
        if key == "fast" and self.speed is None:
            key = "fast_small"
        elif key == "slow" and self.error:
            key = "slow_cut"
        elif key == "bounces" and self.error:
            key = "bounces_dead"
        elif key == "portal" and self.elsewhere:
            key = "portal_elsewhere"
        elif self.error and self.error.key in (
            "hub.revision_not_found",
            "hub.no_files",
            "hub.too_many_files",
        ):
            return f"error.{self.error.key}", self.error.facts  # there is nothing to add
        facts: dict[str, Fact] = {"host": self.elsewhere}
        facts |= self.error.facts if self.error else {}
        facts |= {"endpoint": self.endpoint, "commit": self.commit[:7], "file": self.file}
        facts |= {"milliseconds": self.milliseconds, "speed": self.speed, "size": self.size}
        return f"doctor.say.{key}", facts

    @property
    def elsewhere(self) -> str:
        """The last host on the way that is not the endpoint's own; "" where there is none."""
        return self.hosts[-1] if len(self.hosts) > 1 else ""


def examine(
    ref: Ref,
    endpoints: Sequence[str] = (),
    *,
    token: str | None = None,
    anywhere: bool = False,
    timeout: float = 6.0,
) -> list[Visit]:
    """Visit all endpoints at once, those of the reference's site where none are given; return in their order.

    Takes at most `timeout` seconds, whatever the servers do. Raises for nothing that an endpoint does. The
    token is sent to huggingface.co only; `anywhere`: to each of `endpoints`, but to no host they lead to.
    """
    shaped = dict(_shaped(one) for one in endpoints or SITES[ref.site])
    visiting = [
        _Visiting(Asked(ref, endpoint, timeout), token, anywhere, refused)
        for endpoint, refused in shaped.items()
    ]
    for one in visiting:
        one.thread.start()
    return _compared([one.outcome() for one in visiting])


def ranked(visits: Sequence[Visit]) -> list[str]:
    """Return the endpoints that can be used: the one to take, then those to go on with where it fails.

    A newer commit comes before an older one, an endpoint before one that only sends on to it, then what has
    the file sooner. Of two that differ by less than half, or by less than a second, the one named first.
    """

    def before(visit: Visit) -> tuple[bool, bool]:
        return visit.behind, visit.verdict == "bounces"

    waiting, order = [visit for visit in visits if visit.usable], []
    while waiting:
        best = min(before(visit) for visit in waiting)
        soon = min(visit.seconds for visit in waiting if before(visit) == best)
        enough = max(1.5 * soon, soon + 1)
        taken = next(visit for visit in waiting if before(visit) == best and visit.seconds <= enough)
        waiting.remove(taken)
        order.append(taken.endpoint)
    return order


def all_offline(visits: Sequence[Visit]) -> bool:
    """Return whether every endpoint failed in the network itself: most likely this computer has none."""
    return bool(visits) and all(visit.verdict in UNPLUGGED for visit in visits)


class _Visiting:
    """One visit, made in a thread of its own; what is known so far is its state."""

    def __init__(self, asked: Asked, token: str | None, anywhere: bool, refused: HubError | None) -> None:
        self.asked, self.given, self.anywhere, self.refused = asked, token, anywhere, refused
        self.ref, self.endpoint = asked.ref, asked.endpoint
        self.until = monotonic() + asked.timeout
        self.thread = threading.Thread(target=self.run, name="hub-doctor", daemon=True)
        self.ended: Visit | None = None
        self.crash: BaseException | None = None
        self.address = self.endpoint  # what is being asked, after redirects
        self.path = ""  # what was asked of the endpoint
        self.sent_on = False  # to another Hub, for the same path
        self.hosts: dict[str, None] = {}
        self.commit = self.modified = ""
        self.file: RemoteFile | None = None
        self.since = 0.0  # when the file's bytes began to come
        self.received = 0
        self.milliseconds: int | None = None

    def outcome(self) -> Visit:
        """Wait for the end, but not longer than it may take."""
        self.thread.join(max(0.0, self.until - monotonic()))
        if self.crash:
            raise self.crash
        return self.ended or self.concluded(self.late())

    def concluded(self, error: HubError | None) -> Visit:
        """Return the visit as far as it got."""
        size = self.file.size if self.file else 0
        broken = error and error.key in ("hub.no_connection", "hub.timeout", "hub.bounced")
        comes = error is None or (broken and self.received >= ENOUGH)
        rate = self.received / max(monotonic() - self.since, 1e-6) if self.since and size else None
        if not comes:
            assert error
            verdict = self.verdict(error)
        elif self.sent_on:
            verdict, error = "bounces", None
        else:
            verdict = "slow" if error or (rate is not None and rate < SLOW) else "fast"
        return Visit(
            endpoint=self.endpoint,
            verdict=verdict,
            commit=self.commit,
            milliseconds=self.milliseconds,
            speed=rate if comes and (verdict == "slow" or self.received >= TELLING) else None,
            hosts=tuple(self.hosts),
            file=self.file.path if self.file else "",
            error=error,
            size=size,
            modified=self.modified,
        )

    def verdict(self, error: HubError) -> str:
        """Return the verdict for an endpoint that can't be used."""
        key = error.key.removeprefix("hub.")
        if self.file and self.away and not self.at_a_hub and key in ("bounced", "server_error"):
            return "storage"
        if key == "no_connection":
            key = str(error.facts["why"])
        return _OTHER_NAMES.get(key, key)

    # the visit's own thread

    def run(self) -> None:
        """Visit; once more where the first try is cut, or meets a bad moment."""
        for pause in (0.2, None):
            try:
                self.visit()
                self.ended = self.concluded(None)
            except HubError as error:
                cut = error.facts.get("why") in ("reset", "closed")
                passing = cut or error.facts.get("status") in PASSING
                if pause and passing and not self.received and monotonic() + pause < self.until:
                    sleep(pause)
                    continue
                self.ended = self.concluded(error)
            except BaseException as error:  # raised again in the caller's thread
                self.crash = error
            return

    def visit(self) -> None:
        """Ask what a download would ask."""
        self.file, self.asked = None, replace(self.asked, file="")
        if self.refused:
            raise self.refused
        if constants.HF_HUB_OFFLINE:
            raise self.asked.error("offline")
        token = token_for(self.endpoint, self.given, anywhere=self.anywhere, site=self.ref.site)
        with requests.Session() as session:
            files = self.files(session, token)
            self.file = max(files, key=lambda file: file.size, default=None)
            if self.file is None:
                raise self.asked.error("no_files")
            self.asked = replace(self.asked, file=self.file.path)
            self.measure(session, token, self.file)

    def files(self, session: requests.Session, token: str | None) -> list[RemoteFile]:
        """Return files that would be fetched, from as many pages of the tree as it takes to find some."""
        if self.ref.site != "hub":
            listing = list_files(self.ref, self.endpoint, timeout=self.left())
            self.commit = listing.commit
            return suggest(listing)
        api = f"{self.endpoint}/api/{self.ref.kind}s/{self.ref.repo}"
        info, _ = self.json(session, token, f"{api}/revision/{quote(self.ref.revision, safe='')}")
        with self.understood():
            self.commit, self.modified = str(info["sha"]), str(info.get("lastModified") or "")
        tree = f"{api}/tree/{quote(self.commit, safe='')}"
        found, query = Listing(self.ref, self.endpoint, self.commit, ()), "recursive=true&expand=false"
        while query:
            rows, onward = self.json(session, token, f"{tree}?{query}")
            with self.understood():
                found = replace(found, files=(*found.files, *files_of(rows)))
            wanted = suggest(found)
            if wanted and f"{wanted[0].path}/".startswith(f"{self.ref.path.strip('/')}/".lstrip("/")):
                return wanted
            # only the cursor is taken: a mirror may leave another host in it, which must not see the token
            query = urlsplit(onward).query
        return suggest(found)

    def json(self, session: requests.Session, token: str | None, address: str) -> tuple[Any, str]:
        """Return what the API says, and the address of its next page, "" where there is none."""
        with self.answer(session, token, address) as answer:
            if answer.status_code >= 400:
                raise self.refusal(answer, token)
            body = bytearray()
            while piece := answer.raw.read1(1 << 16, decode_content=True):
                body += piece
                if len(body) > LARGEST:
                    raise self.asked.error("not_a_hub")
                self.left()
            with self.understood():
                return json.loads(body), answer.links.get("next", {}).get("url", "")

    def measure(self, session: requests.Session, token: str | None, file: RemoteFile) -> None:
        """Read the beginning of a file, and how long that takes."""
        began, wanted = monotonic(), min(file.size, SAMPLE)
        address = self.ref.file(self.endpoint, self.commit, file.path)
        part = {"Accept-Encoding": "identity"} | ({"Range": f"bytes=0-{wanted - 1}"} if wanted else {})
        with self.answer(session, token, address, part) as answer:
            if answer.status_code >= 400:
                raise self.refusal(answer, token)
            first_byte(answer, file, self.asked)
            self.since = monotonic()
            self.milliseconds = round((self.since - began) * 1000)
            until = min(self.until, self.since + MEASURED)
            while self.received < wanted and monotonic() < until:
                piece = answer.raw.read1(1 << 16, decode_content=False)
                if not piece:
                    raise self.asked.error("no_connection", why="closed")
                self.received += len(piece)

    @contextmanager
    def answer(
        self,
        session: requests.Session,
        token: str | None,
        address: str,
        headers: dict[str, str] | None = None,
    ) -> Iterator[requests.Response]:
        """Give the answer to one request, and note whom it passes."""
        self.sent_on = False
        self.path = unquote(urlsplit(address.removeprefix(self.endpoint)).path)
        with opened(
            session,
            self.asked,
            address,
            token=token,
            headers=headers,
            patience=self.left,
            passing=self.passes,
        ) as answer:
            yield answer

    def passes(self, address: str) -> None:
        self.address = address
        self.hosts[urlsplit(address).netloc] = None
        self.sent_on = self.sent_on or self.at_a_hub

    @property
    def away(self) -> bool:
        """Whether it is another server that is being asked now."""
        return origin(self.address) != origin(self.endpoint)

    @property
    def at_a_hub(self) -> bool:
        """Whether that server is asked for the same path: it is a Hub too, while storage has other paths."""
        return self.away and unquote(urlsplit(self.address).path).endswith(self.path)

    def refusal(self, answer: requests.Response, token: str | None) -> HubError:
        """Return the error for a status of 400 or more, by whose it is."""
        if self.away and not self.at_a_hub:
            if not self.file:
                return self.asked.error("not_a_hub")
            host = urlsplit(self.address).netloc
            return self.asked.error("server_error", status=answer.status_code, host=host)
        asked = replace(self.asked, token_sent=token is not None and not self.away)
        return asked.answered(answer.status_code, answer.headers)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Say that it is no Hub where its answer has another form."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.asked.error("not_a_hub") from error

    def left(self) -> float:
        """Return the seconds left, or raise."""
        left = self.until - monotonic()
        if left <= 0:
            raise self.late()
        return left

    def late(self) -> HubError:
        told = self.asked.broken(TimeoutError(), at=self.address)
        assert told
        return told


def _shaped(endpoint: str) -> tuple[str, HubError | None]:
    """Return an endpoint as it is asked, and why it can't be."""
    try:
        return check_endpoint(endpoint), None
    except HubError as error:
        return str(error.facts["endpoint"]), error  # without what may be a password


def _compared(visits: list[Visit]) -> list[Visit]:
    """Mark the visits whose commit is older than another one's.

    huggingface.co has the newest commit, where it answered; else the one that was made last.
    """
    known = [visit for visit in visits if visit.commit]
    first = [visit for visit in known if visit.endpoint == ENDPOINTS[0]]
    newest = max(first or known, key=lambda visit: visit.modified, default=None)
    if newest is None:
        return visits
    return [
        replace(
            visit,
            behind=bool(visit.commit)
            and visit.commit != newest.commit
            and (bool(first) or visit.modified < newest.modified),
        )
        for visit in visits
    ]


# The keys of failures.py that are another verdict's.
_OTHER_NAMES = {
    "bounced": "bounces",
    "closed": "reset",
    "not_a_hub": "portal",
    "revision_not_found": "not_found",
    "not_on_modelscope": "not_found",
    "modelscope_refused": "gated",
    "file_not_found": "no_file",
    "no_files": "no_file",
    "too_many_files": "no_file",
}
