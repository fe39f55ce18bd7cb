"""Which endpoint a download asks, when it asks the next one, and when it gives up."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic

from lib.errors import HubError
from lib.hub.listing import PASSING
from lib.hub.progress import Told

ENOUGH = 16 * 1024  # bytes that make a try worth it: counting failures starts again
PLENTY = 1 << 20  # bytes after which no pause is needed: the link works, it is only cut now and then
FEW = 3  # failures without new bytes until the next endpoint is tried
LONGEST_PAUSE = 30.0
LONGEST_ASKED = 330.0  # the Hub counts requests in windows of five minutes
WHILE = 20.0  # seconds to wait on request, rather than to go on somewhere else
KEPT = 50  # things worth telling


class Route:
    """The endpoints of one download, shared by its workers.

    All ask the same one, until it fails for one of them in a way that will last, or a few times in a row
    without a new byte; then all go on with the next, after the last with the first again. What an endpoint
    has refused a file for good is not asked there again. A file fails once its tries are used up everywhere.
    """

    def __init__(self, endpoints: Sequence[str], tries: int, pause: float) -> None:
        self.endpoints, self.tries, self.pause = tuple(endpoints), tries, pause
        self.began = monotonic()
        self.at = 0  # the place of the one that is asked now
        self.told: deque[Told] = deque(maxlen=KEPT)
        self.retries = 0
        self.trouble = ""
        self._strikes = 0  # failures of all files in a row
        self._not_before = [0.0] * len(self.endpoints)  # when a server wants the next request
        self._turn = threading.Lock()

    def choose(self, spent: Sequence[float]) -> int:
        """Return the place of the endpoint to ask for a file that has failed so often at each."""
        places = [(self.at + step) % len(self.endpoints) for step in range(len(self.endpoints))]
        left = [place for place in places if spent[place] < self.tries] or places
        quick = [place for place in left if self.wait(place) <= WHILE]
        return quick[0] if quick else min(left, key=self.wait)

    def wait(self, place: int) -> float:
        """Return for how many seconds the server there wants to be left alone."""
        return max(0.0, self._not_before[place] - monotonic())

    def latest(self) -> tuple[Told, ...]:
        """Return the last things worth telling, the newest at the end."""
        with self._turn:
            return tuple(self.told)

    def arrived(self) -> None:
        """Note that new bytes have come."""
        self._strikes, self.trouble = 0, ""

    def corrupt(self, place: int, file: str) -> None:
        """Note that all of a file has come, the end of it from there, and is wrong."""
        with self._turn:
            self._count("hub.corrupt")
            self._tell("corrupt", file, "hub.corrupt", place)
            if len(self.endpoints) > 1 and place == self.at:
                self._move(file, "hub.corrupt")

    def failed(self, place: int, error: HubError, file: str, gained: int, spent: list[float]) -> float:
        """Note a failure after `gained` new bytes; return the seconds to pause before the next try.

        `spent` is how often in a row the file has failed at each endpoint, infinity for a refusal; it is
        brought up to date. Raises `error` where no other try is worth it.
        """
        with self._turn:
            if gained >= ENOUGH:
                spent[:] = [times if math.isinf(times) else 0 for times in spent]
                self._strikes = 0
            spent[place] = spent[place] + 1 if _passing(error) else math.inf
            self._strikes += place == self.at
            others = any(times < self.tries for where, times in enumerate(spent) if where != place)
            if spent[place] >= self.tries and not others:
                raise error
            asked = _asked(error)
            if asked <= LONGEST_ASKED:
                self._not_before[place] = max(self._not_before[place], monotonic() + asked)
            in_a_row = self._strikes >= FEW or spent[place] % FEW == 0
            self._count(error.key)
            if others and place == self.at and (in_a_row or _lasting(error)):
                self._move(file, error.key)
                return self._pause(spent, place, gained)
            seconds = self._pause(spent, place, gained)
            self._tell("wait" if asked else "retry", file, error.key, place, asked or seconds)
            return seconds

    def _pause(self, spent: Sequence[float], place: int, gained: int) -> float:
        following = self.choose(spent)
        elsewhere = following != place and not spent[following]
        if elsewhere or gained >= PLENTY or self.wait(following):
            return 0.0
        return min(LONGEST_PAUSE, self.pause * 2 ** (spent[following] - 1)) * random.uniform(0.8, 1.2)

    def _move(self, file: str, key: str) -> None:
        self.at = (self.at + 1) % len(self.endpoints)
        self._strikes = 0
        self._tell("switch", file, key, self.at)

    def _count(self, key: str) -> None:
        self.retries += 1
        self.trouble = key

    def _tell(self, what: str, file: str, key: str, place: int, seconds: float = 0.0) -> None:
        at = round(monotonic() - self.began, 1)
        self.told.append(Told(at, what, file, key, self.endpoints[place], round(seconds, 1)))


def _asked(error: HubError) -> float:
    """Return the seconds that the server asked for."""
    return float(error.facts["seconds"] or 0) if error.key == "hub.rate_limited" else 0.0


def _passing(error: HubError) -> bool:
    """Return whether the next try at the same endpoint may well succeed."""
    if error.key == "hub.server_error":
        return error.facts["status"] in PASSING or "host" in error.facts
    passing = ("no_connection", "timeout", "bounced", "not_a_hub", "corrupt", "rate_limited")
    return error.key.removeprefix("hub.") in passing and _asked(error) <= LONGEST_ASKED


def _lasting(error: HubError) -> bool:
    """Return whether it is likely to be the same for a while, so that another endpoint is the better try."""
    if error.key in ("hub.no_connection", "hub.bounced"):
        return error.facts.get("why") not in ("reset", "closed")
    if error.key == "hub.server_error":
        return "host" not in error.facts
    return error.key != "hub.timeout" and (error.key != "hub.rate_limited" or _asked(error) > WHILE)
