"""A job's folder on disk: what was asked, how far it is, what came out.

    job.json         what was asked; written once, before the job is in the list
    status.json      the phase it is in, since when, and its numbers; replaced as a whole
    metrics.jsonl    one line per logged or evaluated step
    events.jsonl     one line per change of state, for whoever has the folder and not the list
    log.txt          all that the process printed
    estimate.json    what the card before the start said it would take (lib/preflight.py)
    result.json      written last: {"state": "done", …} or {"state": "failed", "key", "facts"}
    stop             present once somebody asked it to stop
    checkpoints/     what a training goes on from; best/ its best weights so far
    reserve          room for the last word of the process that works here, should the disk be full
    process.json     which process works here (`identity`); job.lock is held by it

The process that works (a trainer, a download, a conversion) writes; everyone else reads. Both need only
this module, so a folder can be carried to another machine and worked on there.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
from filelock import FileLock, Timeout

from lib.errors import AppError, JobError
from lib.workspace import read_json, told, write_json

BUSY = 75  # exit code of a process that found another one at work in its folder (EX_TEMPFAIL)
_RESERVE = 1 << 14  # bytes: a result with its facts, whatever the size of the disk's blocks
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux: another one after every start


class JobFolder:
    """One job's folder. Cheap to make: it reads nothing until asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._phase, self._since = "", 0.0  # what was reported last, and since when it has been so

    @classmethod
    def create(cls, path: Path, asked: dict[str, Any]) -> JobFolder:
        """Make the folder and write what was asked into `job.json`."""
        with told(path):
            path.mkdir(parents=True)
        write_json(path / "job.json", asked)
        return cls(path)

    def asked(self) -> dict[str, Any]:
        """Return what was asked. Raises `JobError` where `job.json` is missing or not whole."""
        asked = read_json(self.path / "job.json")
        if not isinstance(asked, dict):
            raise JobError("job.folder_broken", folder=str(self.path))
        return asked

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the folder while working in it; raises `JobError` when another process already does."""
        lock = FileLock(self.path / "job.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise JobError("job.busy", folder=str(self.path)) from None
        try:
            write_json(self.path / "process.json", identity(psutil.Process()))
            with told(self.path):
                (self.path / "reserve").write_bytes(b"-" * _RESERVE)
            yield
        finally:
            (self.path / "reserve").unlink(missing_ok=True)
            lock.release()

    def process(self) -> psutil.Process | None:
        """Return the process at work here, or None. A reused process id is not mistaken for ours."""
        return living(read_json(self.path / "process.json"))

    def report(self, phase: str, **numbers: Any) -> None:
        """Replace `status.json`: the phase's name and the numbers a page shows with it."""
        now = time.time()
        if phase != self._phase:
            self._phase, self._since = phase, now
        said = {"phase": phase, "since": self._since, "beat": now, "pid": os.getpid()}
        write_json(self.path / "status.json", said | numbers)

    def status(self) -> dict[str, Any]:
        """Return the last report, or `{}` before the first."""
        return read_json(self.path / "status.json") or {}

    def is_of_this_attempt(self) -> bool:
        """Return whether the last report is from the process that works here now, not from one before it."""
        known = read_json(self.path / "process.json")
        # compared by process id, not by time: a clock may have been set right in between
        return isinstance(known, dict) and self.status().get("pid", known.get("pid")) == known.get("pid")

    def metric(self, **row: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        self._append("metrics.jsonl", row)

    def event(self, **row: Any) -> None:
        """Append one line to `events.jsonl`. The list of jobs does, and it knows the events itself."""
        self._append("events.jsonl", row)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metric rows so far; a line that is still being written is left for next time."""
        try:
            lines = (self.path / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue  # a crash can leave half a line in the middle; the rest still counts
        return rows

    def finish(self, **facts: Any) -> None:
        """Say that the job is done, with what came out of it."""
        write_json(self.path / "result.json", {"state": "done", **facts})

    def fail(self, error: AppError) -> None:
        """Say that the job failed, and why."""
        (self.path / "reserve").unlink(missing_ok=True)  # it may be the disk that is full
        write_json(self.path / "result.json", {"state": "failed", **error.as_json()})

    def halt(self, **facts: Any) -> None:
        """Say that the job stopped because it was asked to."""
        write_json(self.path / "result.json", {"state": "stopped", **facts})

    def result(self) -> dict[str, Any] | None:
        """Return how it ended, or None while it has not."""
        result = read_json(self.path / "result.json")
        return result if isinstance(result, dict) else None

    def ended_at(self) -> float | None:
        """Return when the result was written, in seconds since 1970, or None while there is none."""
        try:
            return (self.path / "result.json").stat().st_mtime
        except FileNotFoundError:
            return None

    def tidy(self) -> None:
        """Remove what a killed process left half-written, and of a finished job what only served to go on.

        Only for the process that works here, or when none does.
        """
        result = self.result() or {}
        rooms = [path for path in self.path.glob(".*.part") if path.is_dir()] + [self.path / "checkpoints"]
        for path in [*self.path.glob(".*.part"), self.path / "reserve"]:
            if path not in rooms:
                path.unlink(missing_ok=True)
        if result.get("state") != "done":
            return
        if result.get("kept_step") == result.get("best_step"):
            rooms.append(self.path / "best")  # it would be there twice
        for path in rooms:
            shutil.rmtree(path, ignore_errors=True)

    def want_stop(self) -> None:
        """Ask the process at work to stop at its next step."""
        with told(self.path):
            (self.path / "stop").touch()

    def stop_wanted(self) -> bool:
        """Return whether somebody asked for a stop."""
        return (self.path / "stop").exists()

    def log_tail(self, size: int = 8192) -> str:
        """Return the end of what the process printed, at most `size` bytes, from a line's start."""
        try:
            with (self.path / "log.txt").open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - size))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return text if end <= size else text.partition("\n")[2]

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with told(self.path), (self.path / name).open("ab", buffering=0) as file:
            before, line = file.tell(), orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # only a part went in
            except OSError:
                file.truncate(before)
                raise


def identity(process: psutil.Process) -> dict[str, Any]:
    """Return what tells a process from every other, also from one that is given its id later.

    Where the system tells them, its start is counted from the computer's own, and that is named: a clock that
    is set right shifts every other time, and a computer without a clock has the same time after each start.
    """
    boot = _boot()
    since = psutil.boot_time() if boot else 0.0
    return {"pid": process.pid, "started": process.create_time() - since, "boot": boot}


def living(known: Any) -> psutil.Process | None:
    """Return the process of an identity if it lives, else None."""
    if not isinstance(known, dict) or not {"pid", "started"} <= known.keys():
        return None
    try:
        process = psutil.Process(known["pid"])
        now = identity(process)
        # Linux knows its own start to the second only, and corrects it while it runs
        same = now["boot"] == known.get("boot") and abs(now["started"] - known["started"]) < 2
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _boot() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
