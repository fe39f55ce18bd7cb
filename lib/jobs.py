"""Jobs: enter, stop, resume and wait for them; and the runner that works the list off.

The list itself is lib/joblist.py's, and each job has a folder (lib/jobfolder.py). The runner,
`python -m lib.jobs`, is a process of its own: started by whoever finds work waiting, one per workspace, gone
again after IDLE seconds without work. It starts every job as one more process and watches it.

    queued ──> running ──> done, failed or stopped
       ^          │
       └──────────┘  died without a result: started again to go on where it was, ATTEMPTS times at most
                        unless it gets further each time

Page, runner and job may each be killed at any moment. What is so is read from the job's folder: a
`result.json` says that it ended and how, so nobody needs to have been there; else a living process in
`process.json`, or a held `job.lock`, says that it runs; else it died.

Jobs of a platform that cannot be asked (`keep`) stand in the same list; their state is set by hand.

To add a kind of job: a row in KINDS and a function in lib/worker.py. A test registers a script of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import psutil
from filelock import FileLock, Timeout

from lib import estimate, joblist, params
from lib.errors import AppError, JobError, UsageError, WorkspaceError
from lib.jobfolder import BUSY, JobFolder
from lib.joblist import ENDED, STATES, Event, Job, events, set_state
from lib.workspace import new_id, room, root, sweep, told

# What callers find here of the list: they need not know where the line between the two modules runs.
__all__ = ["ENDED", "STATES", "Event", "Job", "events", "set_state"]

ROOT = Path(__file__).resolve().parent.parent
DATA = ("train.jsonl", "validation.jsonl", "manifest.json")

ATTEMPTS = 3  # a job that has died three times at the same place will do so a fourth time
IDLE = 20.0  # seconds the runner stays without work: long enough for the next click to find it awake
TICK = 0.2  # seconds between two looks: a fifth of what a person notices as waiting
STARTING = (
    10.0  # seconds a started process may take to say in process.json who it is (a cold Python, a busy disk)
)
LEAVING = 10.0  # seconds a process may live on after its result.json, before it is ended
TROUBLE = 2.0  # seconds to wait when the disk refused
KILL = 5.0  # seconds between SIGTERM and SIGKILL
LOOKED_AT = 1000  # validation rows that a few are chosen from: enough to see every file of a dataset
PLATFORM_GRACE = 3600.0  # seconds a platform may take to stop a job; until then its process watches


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job.

    Of all jobs in a `lane` one runs at a time. `grace`: seconds from the wish to stop until the
    process is told by signal. `command`: what follows the Python interpreter; the job's folder comes last.
    """

    lane: str
    grace: float
    command: tuple[str, ...] = ("-m", "lib.worker")


# A trainer stops between two steps and then saves; a step of a half-billion model on two cores takes up to 20
# seconds (55 tokens a second in fp32, rows of up to 256; measured 2026-11). The others look several times a
# second.
KINDS: dict[str, Kind] = {
    "train": Kind(lane="compute", grace=30),
    "score": Kind(lane="compute", grace=30),
    "merge": Kind(lane="compute", grace=30),
    "download": Kind(lane="network", grace=5),
    "upload": Kind(lane="network", grace=5),
    "survey": Kind(lane="look", grace=5),
    "examine": Kind(lane="look", grace=5),
    "convert": Kind(lane="disk", grace=5),
}


def submit(
    kind: str,
    name: str,
    asked: dict[str, Any],
    *,
    data: Path | None = None,
    before: Callable[[JobFolder], None] | None = None,
    backend: str = "local",
) -> Job:
    """Put a job into the list and return it; it starts by itself.

    `asked` goes into the folder's `job.json`, with the kind and the name. The files of a conversion in `data`
    go into the folder's `data/` (as hard links where the disk can), so the job holds all it needs. `before`
    is called with the folder before anything can start there. A job at another `backend` needs no device
    here, so it waits for no other job; its process is given as long as the platform takes to stop it.
    """
    if kind not in KINDS:
        raise UsageError("job.unknown_kind", kind=kind, known=", ".join(KINDS))
    job = _enter(kind, name, asked, backend, data, before)
    start_runner()
    return job


def keep(
    name: str, asked: dict[str, Any], *, backend: str, kind: str = "train", data: Path | None = None
) -> Job:
    """Put a job into the list that a platform does and whose state is set by hand."""
    return _enter(kind, name, asked, backend, data, by_hand=True)


def get(job_id: str) -> Job:
    """Return a job as it is now. Raises `JobError` where there is none with this id."""
    job = joblist.get(job_id)
    _wake([job])
    return job


def listing(kind: str = "", sought: str = "") -> list[Job]:
    """Return all jobs, or those of a kind, newest first; with `sought`, as `joblist.listing` finds them."""
    jobs = joblist.listing(kind, sought)
    _wake(jobs)
    return jobs


def stop(job_id: str) -> Job:
    """Stop a job: a waiting one at once, a running one after its step. One that has ended stays as it is.

    A process that does not stop by itself within its kind's grace is ended by signal.
    """
    with joblist.opened(write=True) as db:
        row = joblist.row_of(db, job_id)
        if row["lane"] == joblist.HAND:
            raise JobError("job.stop_there", name=row["name"])
        if row["state"] == "queued":
            joblist.change(db, row, "stopped")
    folder = joblist.folder_of(row["id"])
    with contextlib.suppress(FileNotFoundError):  # a deleted folder: the runner ends its process
        if row["state"] == "queued" and folder.path.is_dir():
            folder.halt()
        elif row["state"] == "running":
            folder.want_stop()
            start_runner()
    return get(job_id)


def wait(job_id: str, *, seen: Callable[[Job], None] | None = None) -> Job:
    """Return a job once it has ended; `seen` is called with it several times a second until then."""
    while True:
        job = get(job_id)
        if seen:
            seen(job)
        if job.state in ENDED:
            return job
        time.sleep(TICK)


def resume(job_id: str) -> Job:
    """Queue a stopped or failed job again; its process goes on from what it finds in the folder."""
    _await_the_list(job_id)
    with joblist.opened(write=True) as db:
        row = joblist.row_of(db, job_id)
        if row["lane"] == joblist.HAND or row["state"] not in ("stopped", "failed"):
            raise JobError("job.cannot_resume", name=row["name"])
        folder = joblist.folder_of(row["id"])
        folder.asked()
        for name in ("stop", "result.json"):
            (folder.path / name).unlink(missing_ok=True)
        joblist.change(db, row, "queued", note="again")
        joblist.to_the_end(db, row["id"])  # those that waited meanwhile go first, unless it is moved
        db.execute("update job set attempt = 0, deaths = 0 where id = ?", (row["id"],))
    start_runner()
    return get(job_id)


def belonging(job: Job, kind: str = "") -> list[Job]:
    """Return the jobs that were made of a training (its scoring, its merging), newest first."""
    found = []
    for one in listing(kind):
        with contextlib.suppress(JobError):  # a folder that is not whole
            if one.folder.asked().get("of") == job.id:
                found.append(one)
    return found


def weight(job: Job) -> int:
    """Return how many bytes deleting a job would free, with those that belong to it."""
    return sum(joblist.weight(one) for one in (job, *belonging(job)))


def delete(job_id: str) -> int:
    """Delete a job that is not running, its folder and what belongs to it; return how many bytes that freed.

    What was packed to be taken home stays.
    """
    _await_the_list(job_id)
    job = joblist.get(job_id)
    joblist.check_deletable(job)
    freed = 0
    for one in belonging(job):
        if one.state not in ENDED:
            stop(one.id)
            wait(one.id)
        _await_the_list(one.id)
        freed += joblist.delete(one.id)
    return freed + joblist.delete(job_id)


def finished_runs(model: dict[str, str]) -> Iterator[Job]:
    """Yield the runs of a model that ended well on this computer, newest first."""
    for job in listing("train"):
        if job.state == "done" and job.backend == "local":
            then = job.folder.asked().get("model") or {}
            if all(then.get(name) == model.get(name) for name in ("kind", "id")):
                yield job


def measured_speed(model: dict[str, str]) -> float | None:
    """Return the tokens per second of the last finished run of a model here, or None.

    In the tokens that `lib/estimate.py` counts by the text, not the model's own, so that a plan made with
    them comes out right. A resumed run is passed over: its time is that of its last part alone.
    """
    for job in finished_runs(model):
        result, epochs = job.folder.result() or {}, params.read(job.folder.asked())["epochs"]
        seconds = result.get("seconds_training")
        if seconds and not result.get("resumed_at"):
            return estimate.amount(job.folder.path / "data").tokens * epochs / float(seconds)
    return None


def validation_questions(job: Job, most: int) -> list[str]:
    """Return the first question of up to `most` validation rows, spread over the first LOOKED_AT."""
    questions: dict[str, None] = {}
    try:
        with (job.folder.path / "data" / "validation.jsonl").open("rb") as file:
            for line in islice(file, LOOKED_AT):
                turns = orjson.loads(line)["messages"]
                questions.update(
                    dict.fromkeys([turn["content"] for turn in turns if turn["role"] == "user"][:1])
                )
    except FileNotFoundError:
        pass
    step = max(1, len(questions) // most)
    return list(questions)[::step][:most]


def link(source: Path, target: Path) -> None:
    """Put a conversion's files into a new folder, without copying them where the disk can; the manifest last.

    Raises `WorkspaceError` on a full or read-only disk.
    """
    with told(target):
        target.mkdir()
        for name in DATA:
            if (source / name).is_file():
                try:
                    os.link(source / name, target / name)
                except OSError:  # another disk, or one without links
                    shutil.copyfile(source / name, target / name)


def start_runner() -> None:
    """Start the runner, detached, unless it is there. A second one leaves at once."""
    _reap()
    runner = JobFolder(root() / "runner")
    if runner.process() is None:
        with told(runner.path):
            runner.path.mkdir(exist_ok=True)
        _started.append(_spawn(["-m", "lib.jobs"], runner.path / "log.txt"))


def run(idle: float = IDLE) -> None:
    """Be the runner: work off the list until there has been nothing to do for `idle` seconds."""
    folder = JobFolder(root() / "runner")
    with told(folder.path):
        folder.path.mkdir(exist_ok=True)
    since = time.monotonic()
    while True:
        try:
            with folder.working():
                for place in (root(), root() / "exports"):
                    sweep(place)
                _Runner().work(idle)
                (folder.path / "process.json").unlink(missing_ok=True)
        except WorkspaceError:
            if time.monotonic() - since > idle:
                raise
            time.sleep(TROUBLE)  # no room to say that this one is the runner: it may pass
            continue
        except JobError as error:
            if error.key != "job.busy":
                raise
            return
        # Whoever entered a job while process.json named us started no runner. So look once more, now that
        # neither file nor lock is ours: what came before is seen here, what comes after starts its own.
        if not _waiting():
            return


class _Runner:
    """What the runner remembers between two looks; all of it can be lost without harm."""

    def __init__(self) -> None:
        self.kids: dict[str, subprocess.Popen[bytes]] = {}
        self.since: dict[tuple[str, str], float] = {}  # (what, job id) -> monotonic time it was first seen

    def work(self, idle: float) -> None:
        last = time.monotonic()
        while time.monotonic() - last < idle:
            try:
                if self.look():
                    last = time.monotonic()
            except (sqlite3.Error, WorkspaceError, OSError):
                _complain()  # a full disk, say: it may pass, and the jobs go on meanwhile
                time.sleep(TROUBLE)
            time.sleep(TICK)

    def look(self) -> bool:
        """Bring the list in line with what is so, start what can start; return whether there is work."""
        with joblist.opened() as db:
            rows = db.execute(f"select * from job where {_OURS} and state = 'running'").fetchall()
        for row in rows:
            self.guarded(self.settle, row)
        with joblist.opened() as db:
            free = db.execute(
                f"select lane from job where {_OURS} and state in ('queued', 'running')"
                " group by lane having max(state = 'running') = 0"
            ).fetchall()
        for (lane,) in free:
            row = self.claim(lane)
            if row is not None:
                self.guarded(self.start, row)
        return _waiting()

    def guarded(self, act: Callable[[sqlite3.Row], None], row: sqlite3.Row) -> None:
        """Keep one job's trouble from the others."""
        try:
            act(row)
        except (sqlite3.Error, WorkspaceError):
            raise  # the disk, not the job
        except AppError as error:
            self.end(row, "failed", error)
        except Exception as error:
            _complain()
            self.end(row, "failed", unexpected(error))

    def claim(self, lane: str) -> sqlite3.Row | None:
        with joblist.opened(write=True) as db:
            row = joblist.next_waiting(db, lane)
            if row is not None:
                db.execute("update job set attempt = attempt + 1 where id = ?", (row["id"],))
                joblist.change(db, row, "running")
                row = joblist.row_of(db, row["id"])
        return row

    def start(self, row: sqlite3.Row) -> None:
        folder = joblist.folder_of(row["id"])
        folder.asked()
        lock = FileLock(folder.path / "job.lock")
        try:
            with lock.acquire(timeout=0):
                # from here on process.json names a process of this attempt, or nobody yet
                (folder.path / "process.json").unlink(missing_ok=True)
        except Timeout:
            return  # one that had not been heard of is at work after all
        command = [*orjson.loads(row["command"]), str(folder.path)]
        self.kids[row["id"]] = _spawn(command, folder.path / "log.txt")

    def settle(self, row: sqlite3.Row) -> None:
        """Find out whether a running job still runs; if not, say how it ended or queue it again."""
        folder = joblist.folder_of(row["id"])
        kid = self.kids.get(row["id"])
        code = kid.poll() if kid else None
        if code == BUSY:
            del self.kids[row["id"]]  # another one was first: watch that one
            kid = code = None
        process = psutil.Process(kid.pid) if kid and code is None else folder.process()
        unheard = kid is None and not (folder.path / "process.json").exists()
        starting = unheard and 0 <= time.time() - row["started"] < STARTING
        # The lock tells where a clock that was set right has shifted every process's start time. It is not
        # tried before the process has named itself, so that our trying it cannot keep that process out.
        at_work = process is not None or starting or (kid is None and not unheard and _locked(folder))
        ended = joblist.ending(folder)  # asked after the process: a result is there before its process goes
        if at_work:
            if ended and self.waited("leaving", row) > LEAVING:
                self.signal(process, kill=True)
            elif not ended and not folder.path.is_dir():
                self.signal(process, kill=True)  # deleted under it: there is nowhere left to put a result
            elif not ended and folder.stop_wanted():
                self.hurry(row, process)
        elif ended:
            state, error = ended
            self.end(row, state, error, told_already=True)
        elif folder.stop_wanted():
            self.end(row, "stopped")
        elif code is not None and code >= 0 and os.name == "posix" and folder.result() is None:
            raise JobError("job.exited", code=code)  # not killed: it left by itself, so it would again
        else:
            folder.asked()
            self.again(row, _reached(folder))

    def again(self, row: sqlite3.Row, reached: float) -> None:
        """Queue a job whose process died; not when it has died ATTEMPTS times without getting any further."""
        deaths = 1 if reached > row["furthest"] else row["deaths"] + 1
        if deaths >= ATTEMPTS:
            raise JobError("job.died", attempts=deaths)
        (joblist.folder_of(row["id"]).path / "result.json").unlink(missing_ok=True)
        with joblist.opened(write=True) as db:
            values = (deaths, max(reached, row["furthest"]), row["id"])
            db.execute("update job set deaths = ?, furthest = ? where id = ?", values)
            joblist.change(db, row, "queued", note="died")
        self.forget(row)

    def hurry(self, row: sqlite3.Row, process: psutil.Process | None) -> None:
        waited, grace = self.waited("stopping", row), row["grace"]
        if waited > grace + KILL:
            self.signal(process, kill=True)
        elif waited > grace and ("signalled", row["id"]) not in self.since:
            self.waited("signalled", row)
            self.signal(process, kill=False)

    def signal(self, process: psutil.Process | None, *, kill: bool) -> None:
        """Tell a process and all it started to end."""
        if process is None:
            return
        with contextlib.suppress(psutil.Error):
            for each in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    each.send_signal(signal.SIGKILL if kill and os.name == "posix" else signal.SIGTERM)

    def waited(self, what: str, row: sqlite3.Row) -> float:
        """Return the seconds since `what` was first seen of a job; by a clock that does not jump."""
        return time.monotonic() - self.since.setdefault((what, row["id"]), time.monotonic())

    def end(self, row: sqlite3.Row, state: str, error: Any = None, *, told_already: bool = False) -> None:
        folder = joblist.folder_of(row["id"])
        if not told_already and (folder.path / "job.json").is_file():
            if state == "stopped":
                folder.halt()
            else:
                folder.fail(error)
        folder.tidy()
        told_error = error.as_json() if isinstance(error, AppError) else error
        with joblist.opened(write=True) as db:
            joblist.change(db, row, state, error=told_error)
        self.forget(row)

    def forget(self, row: sqlite3.Row) -> None:
        self.kids.pop(row["id"], None)
        self.since = {key: at for key, at in self.since.items() if key[1] != row["id"]}


def unexpected(error: BaseException) -> JobError:
    """Return the `JobError` for an exception that nobody foresaw; its traceback belongs in the log."""
    return JobError("job.unexpected", error=f"{type(error).__name__}: {error}"[:300])


def _complain() -> None:
    """Print the exception that is being handled into the log, if there is room for it."""
    with contextlib.suppress(OSError):
        traceback.print_exc()


_OURS = f"lane != '{joblist.HAND}'"  # what the runner works off
_started: list[subprocess.Popen[bytes]] = []


def _enter(
    kind: str,
    name: str,
    asked: dict[str, Any],
    backend: str,
    data: Path | None,
    before: Callable[[JobFolder], None] | None = None,
    *,
    by_hand: bool = False,
) -> Job:
    path = room("jobs") / new_id(name)
    row = KINDS[kind]
    with joblist.making(path):
        folder = JobFolder.create(path, asked | {"kind": kind, "name": name, "backend": backend})
        if data is not None:
            link(data, folder.path / "data")
        if before:
            before(folder)
        values = {"id": path.name, "kind": kind, "name": name, "backend": backend, "created": time.time()}
        here = backend == "local"
        lane = joblist.HAND if by_hand else row.lane if here else path.name  # a lane of its own
        values |= {"lane": lane, "command": orjson.dumps(row.command)}
        values |= {"grace": row.grace if here else PLATFORM_GRACE}
        with joblist.opened(write=True) as db:
            return joblist.as_job(joblist.enter(db, values))


def _await_the_list(job_id: str) -> None:
    """Wait until the list says of an end what the folder knows already, and the page has shown."""
    until = time.monotonic() + LEAVING
    while time.monotonic() < until:
        with joblist.opened() as db:
            row = joblist.row_of(db, job_id)
        if row["state"] != "running" or joblist.ending(joblist.folder_of(row["id"])) is None:
            return
        start_runner()
        time.sleep(TICK)


def _reached(folder: JobFolder) -> float:
    """Return how far a job was: its step, the bytes behind it, or how often a platform was asked."""
    status = folder.status()
    numbers = [status.get(name) for name in ("step", "done", "polled")]
    return max((number for number in numbers if isinstance(number, int | float)), default=0)


def _locked(folder: JobFolder) -> bool:
    """Return whether a process holds the folder's lock."""
    lock = FileLock(folder.path / "job.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _waiting() -> bool:
    with joblist.opened() as db:
        return bool(
            db.execute(
                f"select 1 from job where {_OURS} and state in ('queued', 'running') limit 1"
            ).fetchone()
        )


def _wake(jobs: list[Job]) -> None:
    """Start the runner where a reader sees work and nobody to do it (all were killed, or a reboot).

    An end that only the job's folder knows of is work, too: it is not in the list yet.
    """
    if any(not job.by_hand and job.ended is None for job in jobs):
        _reap()
        if not _started:  # else one we started is on its way, and readers ask several times a second
            start_runner()


def _reap() -> None:
    """Forget the runners we started that have left; asking for their exit code frees their process ids."""
    _started[:] = [process for process in _started if process.poll() is None]


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a Python process that outlives this one, finds `lib` from any folder and prints into `log`."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {
        "FIRSTTUNE_HOME": str(root()),  # as an absolute path: the new process stands elsewhere
        "PYTHONPATH": path,
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",  # the log's last words are there when it is killed
        # Idle threads sleep instead of spinning: on a busy machine torch is otherwise 6 to 24 times slower.
        # Source: measured 2026-11, PyTorch 2.13 on two shared cores.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    words = [sys.executable, *command]
    with told(log), log.open("ab") as out:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT, env=env, **apart
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m lib.jobs", description="The runner of the job list.")
    parser.add_argument("--idle", type=float, default=IDLE, help="seconds to stay without work")
    run(parser.parse_args().idle)
