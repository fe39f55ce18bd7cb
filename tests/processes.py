"""Waiting for jobs in real processes, and leaving none behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from bench.kills import ours
from lib import jobs
from lib.jobs import Job
from lib.workspace import root

T = TypeVar("T")


@pytest.fixture(autouse=True)
def nothing_left(workspace: Path) -> Iterator[None]:
    """End every process that works in the test's workspace, also one that has not yet said that it does.

    Every test has it, by tests/conftest.py: a runner stays awake for a while, and this process would take it
    for the one that the next test needs.
    """
    del workspace  # it is torn down after this one; a test may have moved it meanwhile
    yield
    home = root()
    begun = any((home / name).exists() for name in ("jobs", "runner"))
    while begun and (left := ours(home)):
        for process in left:
            with suppress(psutil.NoSuchProcess):  # it ended by itself just now
                process.kill()
        psutil.wait_procs(left, timeout=10)
    for started in jobs._started:
        started.kill()  # one of an earlier test's workspace idles still
        started.wait(10)
    jobs._started.clear()


def until(look: Callable[[], T | None], seconds: float = 15) -> T:
    """Return what `look` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)
    return found


def reaches(job: Job, state: str, seconds: float = 15) -> Job:
    """Return a job once it is in a state; fail at once where it has ended in another."""

    def look() -> Job | None:
        now = jobs.get(job.id)
        assert now.state in (state, "queued", "running"), (now.state, now.error, now.folder.log_tail())
        return now if now.state == state else None

    return until(look, seconds)


def settled(job: Job) -> None:
    """Wait until the list itself knows the end (a reader sees it in the folder a moment earlier)."""
    until(lambda: jobs.events(job.id)[-1].state in jobs.ENDED)


def gone(process: psutil.Process) -> bool:
    """Return whether a process has ended, be it that nobody has asked for its exit code yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
