"""How far a download is, and what happened on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far one file is, in bytes."""

    path: str
    done: int
    size: int


@dataclass(frozen=True, slots=True)
class Told:
    """One thing worth telling.

    `what` is "retry" or "wait" (goes on in `seconds`; "wait" where the server asked for it), "switch" (goes
    on at `endpoint`) or "corrupt" (what came from `endpoint` was thrown away). `key` is the error behind it.
    """

    at: float  # seconds since the download began
    what: str
    file: str
    key: str
    endpoint: str
    seconds: float = 0.0


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
    endpoint: str = ""  # where the bytes come from now
    fetching: tuple[FileProgress, ...] = ()  # the files in flight
    told: tuple[Told, ...] = ()  # the last things worth telling, the newest at the end

    @property
    def left(self) -> float | None:
        """Seconds left at this speed; None while nothing arrives."""
        return (self.total - self.done) / self.speed if self.speed > 0 else None


Tell = Callable[[Progress], None]


class Meter:
    """Bytes per second, smoothed over about five seconds."""

    def __init__(self) -> None:
        self.speed, self.arrived, self.at = 0.0, 0, monotonic()

    def read(self, arrived: int) -> float:
        """Return the speed, given how many bytes have arrived in all."""
        now = monotonic()
        passed = max(now - self.at, 1e-3)
        rate = (arrived - self.arrived) / passed
        self.speed = rate if self.speed == 0 else self.speed + (rate - self.speed) * -math.expm1(-passed / 5)
        self.arrived, self.at = arrived, now
        return self.speed if self.speed >= 1 else 0.0
